"""Licences of everything that an installation brings along: `python scripts/licences.py`, a table in Markdown."""

import re
from importlib.metadata import Distribution, PackageNotFoundError, distribution

from packaging.requirements import Requirement

OURS = "audioldm_lit"


def needed(name: str, found: dict[str, Distribution]) -> dict[str, Distribution]:
    """A package's own dependencies and theirs, those for other systems and of extras left out."""
    for line in distribution(name).requires or ():
        requirement = Requirement(line)
        key = re.sub(r"[-_.]+", "-", requirement.name).lower()
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
    packages = needed(OURS, {})
    print("| package | version | licence |\n|---|---|---|")
    for name, package in sorted(packages.items()):
        print(f"| {name} | {package.version} | {licence(package)} |")
