"""Licences of what an installation brings along, as tables in Markdown: `python scripts/licences.py`.

With `--direct`, only of what pyproject.toml asks for: the table in docs/licences.md, which a test holds against it.
"""

import re
import sys
import tomllib
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement

OURS = "audioldm_lit"
EXTRAS = ("search", "datasets")  # that users install


def declared() -> list[str]:
    """Names of the packages that pyproject.toml asks for, those of users' extras last."""
    project = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = project["dependencies"] + [line for extra in EXTRAS for line in project["optional-dependencies"][extra]]
    return [normal(Requirement(line).name) for line in lines]


def normal(name: str) -> str:
    """A package's name as all of its spellings are compared."""
    return re.sub(r"[-_.]+", "-", name).lower()


def needed(name: str, found: dict[str, Distribution]) -> dict[str, Distribution]:
    """A package's own dependencies and theirs, those for other systems and of extras left out."""
    for line in distribution(name).requires or ():
        requirement = Requirement(line)
        key = normal(requirement.name)
        if key in found or (requirement.marker and not requirement.marker.evaluate({"extra": ""})):
            continue
        try:
            found[key] = distribution(requirement.name)
        except PackageNotFoundError:
            continue
        needed(requirement.name, found)
    return found


def licence(package: Distribution) -> str:
    """What a package says of its licence: the expression, else its classifiers, else the first line of a text."""
    about = package.metadata
    classes = [value.split(" :: ")[-1] for value in about.get_all("Classifier") or () if value.startswith("License ::")]
    texts = [value.strip().splitlines()[0] for value in about.get_all("License") or () if value.strip()]
    return about.get("License-Expression") or ", ".join(classes) or (texts[0][:60] if texts else "not stated")


if __name__ == "__main__":
    if sys.argv[1:] == ["--direct"]:
        print("| package | licence |\n|---|---|")
        for name in declared():
            print(f"| {name} | {licence(distribution(name))} |")
    else:
        print("| package | version | licence |\n|---|---|---|")
        for name, package in sorted(needed(OURS, {}).items()):
            print(f"| {name} | {package.version} | {licence(package)} |")
