"""A first look at a command line: mistyped keys and wrong paths are refused before anything heavy is loaded.

The parser has the last word: what this look cannot judge, such as the settings of a class of somebody else's, it lets pass.
"""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from itertools import pairwise
from pathlib import Path
from typing import Any

from audioldm_lit.assets.finding import find_model
from audioldm_lit.console.class_paths import check_class_path
from audioldm_lit.console.pages import class_settings, settings
from audioldm_lit.errors import InputError
from audioldm_lit.storage.plain_files import read_yaml

CLIPS = "what holds or lists the clips"
READ = {  # settings that name a file or folder to read, and what to give there
    "adapter": "the adapter.safetensors of a run",
    "audio": "a recording to edit",
    "ckpt_path": "a checkpoint that `fit` wrote",
    "challenger": "the folder of a run, runs/NAME/version_N",
    "compare": CLIPS,
    "config": "a grid such as configs/ablation/nano_esc10.yaml",  # of `ablate`; those of other verbs are taken apart
    "generated": CLIPS,
    "grid": "the results folder of a grid",
    "prompts": "a text file with one prompt a line",
    "reference": CLIPS,
    "run": "the folder of a run, runs/NAME/version_N",
    "source": "the adapter or model to convert",
    "test": "the .json that `listen build` wrote beside its page",
    "training": CLIPS,
}
MODELS = ("backbone", "model.backbone")
ROOTS = ("data.root", "data.init_args.root")
DATA = ("data", "data.class_path", *ROOTS)
PARTS = {"class_path", "init_args", "dict_kwargs", "help"}  # what a class's setting consists of beside the class's own
CLASSES = re.compile(  # settings that take a class
    r"(.*\.class_path|cluster|data|sampler|model\.(adapter|objective|optimizer|protocol|sampler)|"
    r"trainer\.(callbacks|logger|plugins|profiler|strategy)(\.\d+)?)"
)
DOTTED = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)+")
NO_PATHS = ("best", "last", "null")  # what `ckpt_path` takes beside a path, and nothing at all


def first_look(verb: str, words: Sequence[str]) -> dict[str, Any]:
    """Check the keys of a command line and of the YAML files that it names, and whether what it says to read is there.

    Args:
        verb: What to do.
        words: The command line after it.

    Returns:
        Every setting that is given, by its dotted key.

    Raises:
        InputError: Names a key and the nearest right one, or what is not there.
    """
    given: dict[str, Any] = {}
    classes: dict[str, Any] = {}  # by the setting that names them
    for key, value in options(words):
        _check_key(verb, key, "--")
        found, where = {key: value}, "--"
        if key == "config" and verb != "ablate":
            found, where = dict(_flat(_content(value or ""))), f"{value}, "
        classes |= {name.removesuffix(".class_path"): value for name, value in found.items()}
        for name in found:
            _check_key(verb, name, where)
            _check_class_key(classes, name, where)
            _check_class(name, found[name], where)
        if "data" in found or "data.class_path" in found:  # another data set, with a root of its own
            given = {name: value for name, value in given.items() if name not in DATA}
        if not found.keys().isdisjoint(ROOTS):  # two spellings of one setting, of which the last counts
            given = {name: value for name, value in given.items() if name not in ROOTS}
        given |= found
    if "print_config" in given:
        return given  # the settings are shown, and nothing is read
    data = str(given.get("data.class_path", given.get("data")))
    for key, value in given.items():
        if isinstance(value, str) and value not in NO_PATHS:
            _check_place(key, value, data)
    return given


def options(words: Sequence[str]) -> Iterator[tuple[str, str | None]]:
    """Key and value of every option; None where no value follows."""
    for word, following in pairwise([*words, "--"]):
        if word.startswith("--") or word == "-c":
            key, equals, given = word.partition("=")
            value: str | None = given if equals else None if following.startswith("--") else following
            yield "config" if key == "-c" else key.removeprefix("--").removesuffix("+"), value


def _content(value: str) -> Mapping[str, Any]:
    """What a `--config` says; nothing where it is not a file's name but settings themselves, which the parser takes as well."""
    if not os.path.isfile(value):
        if ":" in value:
            return {}
        raise InputError(value, "no such file", "give --config a YAML file with settings")
    try:
        content = read_yaml(Path(value))
    except (OSError, ValueError) as error:
        raise InputError(value, f"cannot be read as YAML ({error})", "correct it") from error
    return content if isinstance(content, Mapping) else {}


def _flat(content: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    """Settings by dotted key; those of the items of a list by their number."""
    for key, value in content.items():
        name = f"{above}{key}".removesuffix("+")
        if isinstance(value, Mapping):
            yield from _flat(value, f"{name}.")
        elif isinstance(value, list) and any(isinstance(item, Mapping) for item in value):
            yield from _flat({str(place): item for place, item in enumerate(value)}, f"{name}.")
        else:
            yield name, value


def _check_key(verb: str, key: str, where: str) -> None:
    """Refuse a key that is neither a setting of the verb nor lies within one, as those of a class do that a setting names."""
    known = settings(verb)
    above = [key[:place] for place, letter in enumerate(key) if letter == "."]
    if key in known or any(one in known and not any(other.startswith(f"{one}.") for other in known) for one in above):
        return
    near = get_close_matches(key.removesuffix(".help"), known, n=1)
    raise InputError(f"{where}{key}", f"is no setting of {verb}", f"the nearest is {near[0]}" if near else f"see {verb} --help")


def _check_class_key(classes: Mapping[str, Any], key: str, where: str) -> None:
    """Refuse a key that the class named by the setting above it has not, where that is a class of this package."""
    for place in (place for place, letter in enumerate(key) if letter == "."):
        owner = str(classes.get(key[:place]))
        before = f"{key[: place + 1]}init_args." if key.startswith("init_args.", place + 1) else key[: place + 1]
        name = key.removeprefix(before).partition(".")[0]
        known = class_settings().get(owner)
        if known is not None and name not in known | PARTS:
            near = get_close_matches(name, known, n=1)
            mend = f"the nearest is {before}{near[0]}" if near else f"--{key[:place]}.help {owner} lists what is"
            raise InputError(f"{where}{key}", f"is no setting of {owner}", mend)


def _check_class(key: str, value: Any, where: str) -> None:
    """Refuse what cannot be a class, where a setting takes one."""
    for path in value if isinstance(value, list) else [value]:
        if isinstance(path, str) and CLASSES.fullmatch(key) and DOTTED.fullmatch(path) and not os.path.isfile(path):
            check_class_path(path, f"{where}{key}")


def _check_place(key: str, value: str, data: str) -> None:
    """Refuse what is not there to be read."""
    if key in MODELS:
        find_model(value)
    elif key in ROOTS and data.startswith("audioldm_lit.") and not os.path.isdir(os.path.expanduser(value)):
        raise InputError(value, "no such folder", f"correct {key}")
    elif key == "ckpt_path" and "://" in value:
        raise InputError(f"--ckpt_path {value}", "is an address, and checkpoints are read from this machine alone", "give a file")
    elif key in READ and not value.startswith(("[", "{")) and "://" not in value and not os.path.exists(value):
        raise InputError(value, "no such file or folder", f"give --{key} {READ[key]}")
