"""What the documentation says is there, is there: links, verbs, options, files, classes and pages."""

import inspect
import pkgutil
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from audioldm_lit.cli import COMMANDS, LIGHTNING_VERBS

from runs import REPOSITORY

PACKAGE = REPOSITORY / "audioldm_lit"
ROOT_PAGES = [REPOSITORY / name for name in ("README.md", "README.ja.md", "CONTRIBUTING.md", "CHANGELOG.md")]
PAGES = [*ROOT_PAGES, *sorted((REPOSITORY / "docs").rglob("*.md")), *sorted((REPOSITORY / "checkpoints").rglob("*.md"))]
CONFIGS = [*sorted((REPOSITORY / "configs").rglob("*.yaml")), *sorted(PACKAGE.rglob("*.yaml"))]
WRITTEN = [*PAGES, *CONFIGS, *sorted(PACKAGE.rglob("*.py")), *sorted((REPOSITORY / "scripts").rglob("*.py"))]  # comments too
PLACEHOLDER = re.compile(r"[A-Z]+(?![a-z])")  # NAME, DIR, X


def found(pattern: str, pages: list[Path]) -> Iterator[tuple[str, Any]]:
    """The page and the groups of every match."""
    for page in pages:
        for match in re.findall(pattern, page.read_text(encoding="utf-8")):
            yield str(page.relative_to(REPOSITORY)), match


def commands() -> Iterator[tuple[str, list[str]]]:
    """The page, and the words after `python -m audioldm_lit`, wherever that is written."""
    for page in [*PAGES, *CONFIGS]:
        text = re.sub(r"\\\n[\s#]*", " ", page.read_text(encoding="utf-8"))
        for line in re.findall(r"python -m audioldm_lit ([^\n`]+)", text):
            yield page.name, line.split("#")[0].split()


def test_every_relative_link_resolves():
    links = [(page, link) for page, link in found(r"\]\(([^)\s#]+)", PAGES) if "://" not in link]
    assert len(links) > 30
    assert [one for one in links if not (REPOSITORY / one[0]).parent.joinpath(one[1]).exists()] == []


def test_every_path_of_this_repository_exists():
    paths = [one for one in found(r"(?<![\w/.])((?:audioldm_lit|configs|docs|scripts|tests|checkpoints)/[\w./*-]*\w)", WRITTEN)]
    checked = [one for one in paths if not PLACEHOLDER.search(one[1].removesuffix("README.md"))]
    assert len(checked) > 50
    published = ("checkpoints/audioldm-s-", "checkpoints/audioldm-l-", "checkpoints/*.ckpt")  # fetched, or a run's
    assert [one for one in checked if not one[1].startswith(published) and not any(REPOSITORY.glob(one[1]))] == []


def test_every_command_names_a_verb_and_its_options():
    wrong, seen = [], set()
    for page, (verb, *words) in commands():
        if verb in ("VERB", "..."):
            continue
        seen.add(verb)
        given = [word.strip("[]") for word in words if word.strip("[").startswith("--")]
        options = {re.split(r"[.+=]", word.removeprefix("--"))[0] for word in given}
        if verb in COMMANDS:
            function = getattr(import_module(f"audioldm_lit.commands.{verb}"), verb)
            options -= {*inspect.signature(function).parameters, "config", "help"}
        elif verb in LIGHTNING_VERBS:
            options -= {"config", "data", "folder", "model", "trainer", "ckpt_path"}
        if options or verb not in LIGHTNING_VERBS | COMMANDS:
            wrong.append((page, verb, options))
    assert wrong == []
    assert {"prepare", "fit", "generate", "evaluate", "ablate", "curve", "convert"} <= seen


@pytest.mark.parametrize("files", [PAGES, CONFIGS], ids=["pages", "configs"])
def test_every_dotted_path_imports(files):
    names = {name for _, name in found(r"(?<![\w/.])(audioldm_lit(?:\.\w+)+)\b(?!/)", files)}
    assert names
    for name in names:
        pkgutil.resolve_name(name)


def test_every_import_in_a_python_example_works():
    imports = list(found(r"(?m)^from (audioldm_lit[\w.]* import [\w, ]+)$", PAGES))
    assert imports
    for _, line in imports:
        module, _, names = line.partition(" import ")
        for name in names.split(", "):
            pkgutil.resolve_name(f"{module}:{name}")


def test_every_trick_has_a_row_with_its_source_cost_and_effect():
    page = (REPOSITORY / "docs" / "tricks.md").read_text()
    rows = re.findall(r"(?m)^\| `\w+` \| `(configs/\w+/\w+\.yaml)`((?: \| [^|\s][^|]*){3,4}) \|$", page)
    kinds = ("adapter", "conditioning", "lr_scheduler", "objective")
    files = [path.relative_to(REPOSITORY) for kind in kinds for path in REPOSITORY.glob(f"configs/{kind}/*.yaml")]
    assert sorted(name for name, _ in rows) == sorted(map(str, files))


@pytest.mark.parametrize(("name", "lines"), [("README.md", 200), ("CONTRIBUTING.md", 120)])
def test_what_is_read_first_stays_short(name, lines):
    assert len((REPOSITORY / name).read_text().splitlines()) <= lines


def test_both_readmes_start_with_the_same_two_commands():
    pair = r"```bash\n(pip install [^\n#]+?)\s*\n(python -m audioldm_lit fit [^\n#]+?)\s*(?:#[^\n]*)?\n```"
    english, japanese = ([match for _, match in found(pair, [page])] for page in ROOT_PAGES[:2])
    assert english == japanese != []
