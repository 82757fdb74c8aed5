"""What is imported is declared, what is declared is imported, and its licence is known."""

import ast
import re
import sys
import tomllib
from importlib.metadata import distribution, packages_distributions
from runpy import run_path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from runs import REPOSITORY

LICENCES = run_path(str(REPOSITORY / "scripts" / "licences.py"))
DECLARED = LICENCES["declared"]()
ASKED_FOR = {"tensorboard"}  # by Lightning's logger, which we import


def imported() -> set[str]:
    """Distributions of all that the package imports, wherever in a file."""
    names = set()
    for file in (REPOSITORY / "audioldm_lit").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                names |= {alias.name.partition(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                names.add(node.module.partition(".")[0])
    known = packages_distributions()
    foreign = names - set(sys.stdlib_module_names) - {"audioldm_lit"}
    return {LICENCES["normal"](known[name][0]) if name in known else name for name in foreign}


def test_what_is_imported_is_declared_and_nothing_else_is():
    assert imported() | ASKED_FOR == set(DECLARED)


def test_the_lock_holds_everything_that_is_declared_in_a_version_that_is_allowed():
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    asked = [Requirement(text) for some in (project["dependencies"], *project["optional-dependencies"].values()) for text in some]
    lock = (REPOSITORY / "requirements" / "lock.txt").read_text(encoding="utf-8")
    locked = dict(re.findall(r"^([a-z0-9._-]+)==(\S+) \\\n    --hash=sha256:", lock, re.MULTILINE))
    others = [one for one in asked if one.name != "audioldm_lit"]
    missing = [str(one) for one in others if locked.get(canonicalize_name(one.name), "") not in one.specifier]
    assert not missing


def test_the_licences_of_what_is_declared_stand_in_the_docs_and_ask_for_nothing_in_return():
    """Copyleft of a library that is imported would reach this one."""
    text = (REPOSITORY / "docs" / "licences.md").read_text(encoding="utf-8")
    assert set(re.findall(r"^\| ([a-z0-9-]+) \| [^|]+ \|$", text, re.MULTILINE)) - {"package"} == set(DECLARED)
    licences = {name: LICENCES["licence"](distribution(name)) for name in DECLARED}
    assert not {name: said for name, said in licences.items() if re.search("GPL|not stated", said)}
