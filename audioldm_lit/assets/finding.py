"""Models and weights found by what users call them; what is not there is told in a sentence of its own, with what gets it."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from audioldm_lit.assets.asset import Asset, fetching, hub_cache
from audioldm_lit.assets.registry import HUB_ID, asset, known, nearest, registry
from audioldm_lit.assets.sources import Download, HubModel, newest_snapshot
from audioldm_lit.console.command import command
from audioldm_lit.errors import InputError
from audioldm_lit.places import REPOSITORY
from audioldm_lit.storage.plain_files import read_json

PIPELINE = "AudioLDMPipeline"
OTHERS = {  # pipelines that a model_index.json may name, and what they are
    "AudioLDM2Pipeline": "an AudioLDM 2, whose UNet reads words through cross-attention",
    "MusicLDMPipeline": "a MusicLDM",
    "StableDiffusionPipeline": "a Stable Diffusion, which makes pictures",
    "StableAudioPipeline": "a Stable Audio",
}
ORIGINAL = ".ckpt"  # how files of the original's models are called
LAYOUT = "give a folder in the diffusers layout (unet/, vae/, text_encoder/, ...)"
_given: ContextVar[tuple[Mapping[str, Path], set[str]]] = ContextVar("given")  # by asset, and which were asked for


def find_model(name: str | Path) -> Path:
    """Folder of a model given by path, by a path inside this repository, or by the name or hub id of one that was fetched.

    Raises:
        InputError: If there is none; says what stands there instead, or what fetches it.
    """
    for path in (Path(name), REPOSITORY / name):
        if path.is_dir():
            return _checked(_unwrapped(path))
        if path.is_file():
            raise _file(path)
    found = known(str(name))
    if isinstance(found, HubModel):
        return _checked(_fetched(found))
    raise _nowhere(str(name), found)


def find_clap(name: str) -> Path:
    """Folder of a CLAP, or of an AudioLDM that has both towers, by the same names.

    Raises:
        InputError: If there is none.
    """
    if (path := given_for(nickname(name))) is not None:
        return path
    if Path(name).is_dir():
        return _unwrapped(Path(name))
    found = known(name)
    if isinstance(found, HubModel) or HUB_ID.fullmatch(name):
        return _fetched(asset(name))  # type: ignore[arg-type]  # of an id it is one of the hub
    raise InputError(name, "no CLAP here", "give its folder or the hub id of one that was fetched")


def find_weights(name: str) -> Path:
    """File of weights of an asset: the one that `evaluate --weights` gave, or where `assets fetch` puts it.

    Raises:
        InputError: If it is not there.
    """
    found = asset(name)
    assert isinstance(found, Download)
    path = given_for(name) or found.path
    if not path.is_file():
        raise InputError(path, "no such file of weights", f"{fetching(name)}, or evaluate --weights {name}=FILE with your copy")
    return path


@contextmanager
def given(weights: Mapping[str, Path]) -> Iterator[None]:
    """Within it these files and folders stand for the assets of their names.

    Raises:
        InputError: If one is of no asset or does not exist; at the end, if nothing asked for one.
    """
    for name, path in weights.items():
        asset(name)
        if not path.exists():
            raise InputError(path, "no such file or folder", f"correct --weights {name}=FILE")
    asked: set[str] = set()
    token = _given.set((weights, asked))
    try:
        yield
    finally:
        _given.reset(token)
    if rest := sorted(weights.keys() - asked):
        raise InputError(f"--weights {rest[0]}", "nothing here asks for it", "leave it out, or choose another --protocol")


def given_for(name: str) -> Path | None:
    """The file or folder that stands for an asset at the moment; None where its own does."""
    weights, asked = _given.get(({}, set()))
    asked.add(name)
    return weights.get(name)


def nickname(name: str) -> str:
    """An asset's own name by that or its hub id; any other name as it is."""
    found = known(name)
    return found.name if found else name


def again(path: Path) -> str:
    """What to do about a model's file or folder that is damaged or missing."""
    repository = next((folder for folder in path.absolute().parents if folder.parent == hub_cache().absolute()), None)
    if repository is None:
        return "copy the whole folder again"
    return fetching(repository.name.removeprefix("models--").replace("--", "/", 1))


def _unwrapped(path: Path) -> Path:
    """The snapshot in a folder of the hub cache; any other folder as it is."""
    if not (path / "snapshots").is_dir() or not path.name.startswith("models--"):
        return path
    return newest_snapshot(path) or path


def _fetched(found: HubModel) -> Path:
    """The folder of a model of the hub."""
    snapshot = newest_snapshot(found.repository)
    if snapshot is None:
        raise InputError(found.hub, "was not fetched yet", fetching(found.name))
    if not found.files():
        raise InputError(found.hub, "was fetched in part", f"{fetching(found.name)} goes on where it stopped")
    return snapshot


def _checked(folder: Path) -> Path:
    """The folder, if an AudioLDM is in it."""
    pipeline = str(_content(folder / "model_index.json").get("_class_name", PIPELINE))
    if pipeline != PIPELINE:
        what = OTHERS.get(pipeline, f"a model of {pipeline}")
        raise InputError(folder, f"is {what}, no AudioLDM", "python -m audioldm_lit assets list names those that fit")
    if (folder / "unet").is_dir():
        return folder
    if _content(folder / "config.json").get("model_type") == "clap":
        raise InputError(folder, "is a CLAP, which hears and reads but makes no sound", LAYOUT)
    if (folder.parent / "unet").is_dir():
        raise InputError(folder, "is one part of a model", f"give {folder.parent}")
    raise InputError(folder, "no AudioLDM here", LAYOUT)


def _content(file: Path) -> dict[str, Any]:
    """What a file of settings says; nothing where there is none."""
    try:
        content = read_json(file)
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise InputError(file, f"cannot be read ({error})", again(file)) from error
    return content if isinstance(content, dict) else {}


def original(path: Path) -> InputError:
    """What to do with a checkpoint of the original that was given for a model or an adapter."""
    mend = f"{_converting(path)} makes a model's folder of it"
    return InputError(path, "is one file, as those of the original AudioLDM are", mend)


def _file(path: Path) -> InputError:
    """What a file is that was given for a model."""
    if path.suffix == ORIGINAL:
        return original(path)
    return InputError(path, "is a file, and a model is a folder", LAYOUT)


def _nowhere(name: str, found: Asset | None) -> InputError:
    """Why nothing of this name can be a model."""
    if "://" in name:
        return _address(name)
    if isinstance(found, Download) and found.path.suffix == ORIGINAL:
        if found.path.is_file():
            return original(found.path)
        return InputError(name, "was not fetched yet", f"{fetching(name)}, then {_converting(found.path)}")
    if found is not None:
        return InputError(name, f"is {found.about}, no AudioLDM", LAYOUT)
    near = nearest(name)
    if HUB_ID.fullmatch(name):
        mend = f"the nearest known is {near}: {fetching(near)}" if near else f"correct it, or {fetching(name)}"
        return InputError(name, "no AudioLDM here: no such folder, and no model of this id was fetched", mend)
    return InputError(name, "no AudioLDM here", f"the nearest known is {near}: {fetching(near)}" if near else LAYOUT)


def _address(url: str) -> InputError:
    """What to do about an address."""
    parts = urlsplit(url)
    model = "/".join(parts.path.strip("/").split("/")[:2])
    published = [one for one in registry().values() if isinstance(one, Download) and urlsplit(one.url).path == parts.path]
    mend = "download it and give its folder"
    if parts.hostname == "huggingface.co" and HUB_ID.fullmatch(model):
        mend = f"{fetching(model)}, then give {model}"
    elif published:
        mend = f"{fetching(published[0].name)}, then {_converting(published[0].path)}"
    return InputError(url, "is an address, and no connection is made to find a model", mend)


def _converting(checkpoint: Path) -> str:
    """The command that makes a model's folder of a checkpoint of the original."""
    return command("convert", "--source", checkpoint, "--to", "model", "--out", "FOLDER")
