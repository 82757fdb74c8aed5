"""What a base's licence allows, which holds for everything that is derived from its weights."""

import re
from dataclasses import dataclass
from pathlib import Path

import yaml

from audioldm_lit.assets.asset import Asset
from audioldm_lit.assets.finding import find_model
from audioldm_lit.assets.registry import known, registry
from audioldm_lit.assets.sources import Download, HubModel
from audioldm_lit.errors import InputError
from audioldm_lit.storage.plain_files import parse_yaml

# Identifiers of licences that the hub uses and that allow commercial use.
FREE = re.compile(r"(apache|mit|bsd|isc|cc0|unlicense|cc-by(-sa)?(-\d|$)).*")


@dataclass(frozen=True)
class Licence:
    """A licence in words, and whether it allows commercial use; None where that is not known."""

    text: str
    commercial: bool | None

    def __str__(self) -> str:
        use = {True: "commercial use allowed", False: "no commercial use", None: "read it before commercial use"}
        return f"{self.text}, {use[self.commercial]}"


def licence_of(name: str) -> Licence:
    """Licence of a model: by its id, by its README's header, or by the name of its folder.

    Raises:
        InputError: If there is no such model.
    """
    folder = find_model(name)
    if (found := known(name)) is not None:
        return Licence(found.licence, found.commercial)
    return _stated(folder / "README.md") or _named(folder.absolute()) or Licence("unknown", None)


def check_licence(name: str, commercial: bool) -> Licence:
    """Licence of a model, refused where commercial use is wanted and not known to be allowed.

    Raises:
        InputError: If it is refused, or there is no such model.
    """
    licence = licence_of(name)
    if commercial and not licence.commercial:
        why = "is not known" if licence.commercial is None else "forbids commercial use"
        raise InputError(
            name,
            f"its licence ({licence.text}) {why}",
            "take another base; where you know better, state `license: ...` in a header of its README.md",
        )
    return licence


def state_licence(folder: Path, file: str) -> str:
    """State in a model folder the licence of the published file that it was made of, by the file's name; returns a sentence."""
    published = (one for one in registry().values() if isinstance(one, Download) and one.path.name == file)
    found = next(published, None)
    if found is None:
        return f"licence of {file}: unknown; state `license: ...` in a header of the folder's README.md"
    header = f"---\nlicense: {found.licence.lower().replace(' ', '-')}\n---\n\n{found.about}, converted from {file}.\n"
    (folder / "README.md").write_text(header, encoding="utf-8")
    return f"licence of {file}: {found.licence}"


def pass_on(folder: Path, licence: Licence) -> None:
    """State the licence of a base in a folder of what is derived from its weights, unless a page is there already."""
    page = folder / "README.md"
    if folder.is_dir() and not page.exists():
        header = yaml.safe_dump({"license": licence.text.lower().replace(" ", "-")}, allow_unicode=True)
        said = f"Derived from weights whose licence holds for it too: {licence}."
        page.write_text(f"---\n{header}---\n\n{said}\n", encoding="utf-8")


def _stated(readme: Path) -> Licence | None:
    """The licence in a README's header, as the hub's pages have it."""
    if not readme.is_file():
        return None
    header = re.match(r"---\n(.*?)\n---\n", readme.read_text(encoding="utf-8", errors="replace"), re.DOTALL)
    try:
        content = parse_yaml(header[1]) if header else {}
    except ValueError:
        return None
    named = content.get("license_name") or content.get("license") if isinstance(content, dict) else None
    if not isinstance(named, str):
        return None
    commercial = False if "nc" in re.split(r"[-_ ]", named.lower()) else True if FREE.fullmatch(named.lower()) else None
    return Licence(named, commercial)


def _named(folder: Path) -> Licence | None:
    """That of the registry's model whose name or id the folder, or its place in the hub cache, bears."""
    repository = next((one.name.removeprefix("models--") for one in folder.parents if one.name.startswith("models--")), "")
    found = known(repository.replace("--", "/", 1)) or _by_id(folder.name) or registry().get(folder.name)
    return Licence(found.licence, found.commercial) if found else None


def _by_id(name: str) -> Asset | None:
    models = (found for found in registry().values() if isinstance(found, HubModel))
    return next((found for found in models if found.hub.rpartition("/")[2] == name), None)
