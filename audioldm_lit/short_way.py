"""The short way: a folder of recordings alone, spelt out into settings; what `assets` and `listen` are told."""

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from audioldm_lit.assets.finding import find_model
from audioldm_lit.console.command import command
from audioldm_lit.console.pages import class_settings
from audioldm_lit.console.stages import Stage, say
from audioldm_lit.console.together import is_first
from audioldm_lit.errors import InputError
from audioldm_lit.first_look import options
from audioldm_lit.networks.published import trained_steps
from audioldm_lit.places import NANO, packaged
from audioldm_lit.storage.names import expanded
from audioldm_lit.storage.plain_files import read_json

CONFIG = packaged("short_way.yaml")
FOLDER = "audioldm_lit.data.folder.Folder"
DURATION = "data.init_args.duration"
WHOLE = 0.9  # of the recordings, that a duration must hold
HALVINGS = 3  # of a model's own length, each of which is still a whole number of latents
ACTIONS = {"assets": "list, fetch, verify, bundle or import", "listen": "build or merge"}
WAYS = {  # by verb, as help pages show it: usage, option and text
    "prepare": (
        "prepare DIR",
        "DIR",
        f"A folder of recordings, instead of --data {FOLDER} --data.init_args.root DIR and a --{DURATION} that is chosen as in "
        "fit --folder DIR.",
    ),
    "fit": (
        "fit --folder DIR",
        "--folder",
        f"A folder of recordings, instead of --config audioldm_lit/short_way.yaml --data.init_args.root DIR and a --{DURATION} "
        "that holds nine of ten recordings: the model's own length, its half, quarter or eighth. What it stands for is printed; "
        "other options win over it.",
    ),
    "plan": ("plan --folder DIR", "--folder", "A folder of recordings, as in fit --folder DIR."),
    "assets": (
        "assets ACTION NAME ...",
        "ACTION NAME ...",
        "list, fetch, verify, bundle or import, and the assets or the tar, instead of --action ACTION --names NAME ...",
    ),
    "listen": (
        "listen ACTION NAME ...",
        "ACTION NAME ...",
        "build and the systems, or merge and the files of answers, instead of --action ACTION --names NAME ...",
    ),
}


def spelt_out(words: Sequence[str]) -> tuple[list[str], bool]:
    """The command line with `prepare DIR` and `fit` or `plan --folder DIR` spelt out, but for the duration; whether one was there.

    Also `assets ACTION NAME ...` and `listen ACTION NAME ...`, of which nothing is missing then.

    Args:
        words: The command line, its verb first.
    """
    verb, *rest = words
    if verb == "prepare" and rest and (not rest[0].startswith("-") or os.path.isdir(rest[0])):
        return [verb, "--data", FOLDER, "--data.init_args.root", _no_option(rest[0]), *rest[1:]], True
    if verb in ("fit", "plan"):
        for place, word in enumerate(rest):
            key, equals, value = word.partition("=")
            if key == "--folder":
                given = [value] if equals else rest[place + 1 : place + 2]
                if not given or (given[0].startswith("-") and not os.path.isdir(given[0])):
                    raise InputError("--folder", "no folder given", "use --folder DIR")
                others = rest[:place] + rest[place + (1 if equals else 2) :]
                return [verb, "--config", _from_here(CONFIG), "--data.init_args.root", _no_option(given[0]), *others], True
    return (_action(verb, ACTIONS[verb], rest) if verb in ACTIONS else list(words)), False


def _no_option(folder: str) -> str:
    """A folder's name as the parser takes it for one, also where it begins with a dash."""
    return f"./{folder}" if folder.startswith("-") else folder


def _action(verb: str, actions: str, words: Sequence[str]) -> list[str]:
    """`ACTION NAME ... --out FILE` as options."""
    names: list[str] = []
    others: list[str] = []
    for word, before in zip(words, ["", *words], strict=False):
        given = word.startswith("-") or (before.startswith("--") and "=" not in before)  # an option, or what is given to one
        (others if given else names).append(word)
    if not names and not others:
        raise InputError(verb, "does not say what to do", f"use {verb} {actions}")
    action = ["--action", names[0]] if names else []
    return [verb, *action, *(word for name in names[1:] for word in ("--names", name)), *others]


def with_duration(words: Sequence[str]) -> list[str]:
    """The command line that `spelt_out` gave, with the duration that the recordings and the model suggest, unless it names one.

    Says what the short way stands for, so that it can be changed and repeated.

    Raises:
        InputError: If the folder cannot be listed, or there is no such model.
    """
    given = {key.removeprefix("data.init_args.").removeprefix("data."): value for key, value in options(words)}
    words = list(words)
    if "duration" not in given and (root := given.get("root")):
        folder = expanded(root)
        table = expanded(listed) if (listed := given.get("table")) else None
        seconds = _lengths(folder, table)
        if seconds:
            longest = window(find_model(given.get("model.backbone") or given.get("backbone") or NANO))
            chosen = fitting(seconds, longest)
            place = words.index("--data.init_args.root") + 2
            words[place:place] = [f"--{DURATION}", f"{chosen:g}"]
            held = sum(one <= chosen + 0.01 for one in seconds)
            _say(f"{chosen:g} s a clip: {held} of {len(seconds)} recordings are no longer; of others, the loudest part is heard")
    _say(f"= {command(*words)}")
    return words


def with_length(words: Sequence[str], given: Mapping[str, Any]) -> list[str]:
    """The command line with the length that its model was trained on, where clips have none and a model is named; says so.

    Args:
        words: The command line, its verb first.
        given: Every setting it gives, by its key, see `first_look`.
    """
    seconds = length_of_model(given)
    if seconds is None:
        return list(words)
    _say(f"{seconds:g} s a clip, the length that this model was trained on; --{DURATION} sets another")
    return [*words, f"--{DURATION}", f"{seconds:g}"]


def length_of_model(given: Mapping[str, Any]) -> float | None:
    """The length that the model of some settings was trained on; None where they give one, or name no model."""
    data, model = str(given.get("data.class_path", given.get("data"))), given.get("model.backbone", given.get("backbone"))
    named = any(key in given for key in (DURATION, "data.duration", "print_config"))
    if not model or named or "duration" not in class_settings().get(data, ()):  # a class of somebody else's may have none
        return None
    return window(find_model(model))


def fitting(seconds: Sequence[float], longest: float) -> float:
    """The shortest of a model's own length, its half, quarter and eighth that holds nine of ten recordings, else its own."""
    needed = sorted(seconds)[math.ceil(WHOLE * len(seconds)) - 1] - 0.01
    return next((short for k in range(HALVINGS, 0, -1) if (short := longest / 2**k) >= needed), longest)


def window(model: Path) -> float:
    """Seconds that a model was trained on, from the settings of its parts alone."""
    try:
        unet, vae, vocoder = (read_json(model / part / "config.json") for part in ("unet", "vae", "vocoder"))
        frames = trained_steps(unet) * 2 ** (len(vae["block_out_channels"]) - 1)
        hop = math.prod(vocoder["upsample_rates"]) if "upsample_rates" in vocoder else vocoder["hop_length"]  # HiFi-GAN has no hop
        return frames * hop / vocoder["sampling_rate"]
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise InputError(model, f"does not say how long its sounds are ({error!r})", f"give --{DURATION}") from error


def _lengths(root: Path, table: Path | None) -> list[float]:
    """Seconds of every recording that says how long it is; what is wrong with the others is told where they are read."""
    with Stage("loading libraries"):
        from audioldm_lit.audio.decoding import open_audio
        from audioldm_lit.data.folder import Folder

    data, seconds = Folder(root, table=table, caption=None), []
    with Stage(f"looking at {root}"):
        for path in dict.fromkeys(clip.path for split in ("train", "val", "test") for clip in data.clips(split)):
            try:
                with open_audio(path) as recording:
                    seconds += [recording.seconds] if recording.seconds else []
            except InputError:
                continue
    return seconds


def _from_here(path: Path) -> str:
    """A path as short as it can be told from the current folder."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def _say(text: str) -> None:
    """Say it once, on the first of several processes."""
    if is_first():
        say(text)
