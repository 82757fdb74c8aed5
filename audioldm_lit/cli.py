"""The command line: `python -m audioldm_lit VERB`.

Lightning's verbs go through LightningCLI, the others are typed functions in `commands/`; one library parses both. What is
heavy is loaded last: help comes from a page, and a mistyped key or a wrong path is found before.
"""

import errno
import gc
import json
import os
import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from importlib import import_module
from inspect import signature
from io import TextIOWrapper
from pathlib import Path
from types import ModuleType
from typing import Any

from audioldm_lit import __version__
from audioldm_lit.console.air_gap import closed
from audioldm_lit.console.pages import page
from audioldm_lit.console.parser import refusal
from audioldm_lit.console.stages import Stage, stages_ended
from audioldm_lit.console.together import is_lost, must_speak
from audioldm_lit.errors import InputError
from audioldm_lit.first_look import first_look
from audioldm_lit.short_way import spelt_out, with_duration, with_length

LIGHTNING_VERBS = {
    "fit": "adapt a model to recordings",
    "plan": "what fit would take with the same settings: memory, minutes, the adapter's size; what fits where it does not",
    "validate": "held-out loss of a checkpoint",
    "test": "loss and metrics of a checkpoint on the test clips",
    "predict": "generate a clip for every test caption",
}
HOMES = {**dict.fromkeys(LIGHTNING_VERBS, "audioldm_lit.lightning_cli"), "plan": "audioldm_lit.planning.verb"}
COMMANDS = {
    "prepare": "find what is wrong with a data set before training; fill the cache",
    "generate": "prompts to WAV files, with the base model or an adapter",
    "evaluate": "scores of any system's clips against recordings, with intervals",
    "report": "a page that says whether it helped, lets you listen, and says what to do next",
    "listen": "a blind listening test as one page, and what its raters said",
    "watch": "do new recordings still sound like the training set, is a newer run better",
    "ablate": "a grid of trainings, here or on Slurm, resumable, one table of results",
    "curve": "how many clips are needed, from a grid over their number",
    "doctor": "what a model's folder holds and lacks, and what this machine has for it",
    "assets": "weights and data sets: list, fetch, verify, bundle for another machine, import",
    "convert": "an adapter to or from PEFT and diffusers, or folded into its model; the original's file to a model",
}

TEXTS = str | list[str] | None  # what takes a text or several
FORBIDDEN = (errno.EACCES, errno.EPERM, errno.EROFS)


def main(args: Sequence[str] | None = None, model_class: type | None = None) -> None:
    """Run one verb.

    Args:
        args: Command line without the program's name; `sys.argv` where not given.
        model_class: Subclass of `LitAudioLDM` to train instead of it, for methods that need another training loop.

    Exit status is 0 when done, 2 when the input or the request is wrong (one sentence on stderr), 1 for a bug of ours.
    """
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # names in letters that a console has not are no reason to stop
    parent = os.getppid()
    words = list(sys.argv[1:] if args is None else args)
    verb = words[0] if words else "--help"
    if verb in ("-h", "--help"):
        sys.stdout.write(_help())
        return
    if verb == "--version":
        sys.stdout.write(f"{__version__}\n")
        return
    try:
        if verb not in LIGHTNING_VERBS | COMMANDS:
            raise InputError(f"'{verb}'", "is no verb", f"use one of {', '.join([*LIGHTNING_VERBS, *COMMANDS])}")
        ours = verb in COMMANDS or model_class is None  # a model of somebody else's has settings that no page lists
        if ours and not {"-h", "--help"}.isdisjoint(words):
            sys.stdout.write(page(verb))
            return
        words, short = spelt_out(words)
        given = first_look(verb, words[1:]) if ours else {}
        fetches = verb == "assets" and "fetch" in words
        with stages_ended(), nullcontext() if fetches else closed():
            run(verb, with_duration(words) if short else with_length(words, given), model_class)
    except (InputError, ValueError, RuntimeError, OSError) as error:
        wrong_input = _input_error(error)
        if wrong_input is None and not is_lost(error):
            raise
        if must_speak(parent):
            sys.stderr.write(f"error: {wrong_input or 'another process of this run has ended; what it said is why.'}\n")
        raise SystemExit(2 if wrong_input else 1) from None


def run(verb: str, args: Sequence[str] | None = None, model_class: type | None = None) -> None:
    """Load what a verb needs and run it, see `main`."""
    with Stage("loading libraries"):
        module = _load(HOMES.get(verb, f"audioldm_lit.commands.{verb}"))
    if verb in LIGHTNING_VERBS:
        module.run(args, model_class)
    else:
        _command(getattr(module, verb), list(sys.argv[1:] if args is None else args)[1:])


def _load(name: str) -> ModuleType:
    """Import a module and what it needs: hundreds of thousands of objects that stay, so that to look for garbage is lost time."""
    if name in sys.modules:
        return sys.modules[name]
    gc.disable()
    try:
        return import_module(name)
    finally:
        gc.freeze()
        gc.enable()


def _input_error(error: BaseException) -> InputError | None:
    """The input error that an exception is or stems from; the parser wraps what is raised while it makes an optional object."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, InputError):
        cause = cause.__cause__
    if isinstance(error, OSError) and error.errno in FORBIDDEN and error.filename:
        return InputError(
            error.filename, f"is not open to this user ({error.strerror})", "correct its permissions, or name another"
        )
    if cause is None and str(error).startswith("Does not validate"):  # a class of another library, made with its settings
        return refusal(str(error), "a setting is refused")
    return cause


def _help() -> str:
    lines = [f"audioldm_lit {__version__}: adapt a pre-trained AudioLDM to a small set of sounds", ""]
    lines += ["usage: python -m audioldm_lit VERB [options]    (VERB --help lists a verb's options)", ""]
    lines += [f"  {verb:10} {does}" for verb, does in (LIGHTNING_VERBS | COMMANDS).items()]
    lines += ["", "first run:       python -m audioldm_lit fit --config configs/demo.yaml"]
    lines += ["your recordings: python -m audioldm_lit prepare DIR, then fit --folder DIR", ""]
    return "\n".join(lines)


def _command(function: Callable[..., None], args: list[str]) -> Any:
    from audioldm_lit.console.strict_parser import StrictParser

    about = (function.__doc__ or "").split("Args:")[0]
    parser = StrictParser(prog=f"python -m audioldm_lit {function.__name__}", description=about, allow_abbrev=False)
    if "config" not in signature(function).parameters:
        parser.add_argument("--config", action="config", help="File with any of these settings.")
    names = parser.add_function_arguments(function, as_group=False, sub_configs=True)
    settings = parser.instantiate(parser.parse_args(_spelt_out(function, args)))
    return function(**{name: settings[name] for name in names})


def _spelt_out(function: Callable[..., None], args: list[str]) -> list[str]:
    """Arguments as the parser wants them: `--strict` as `--strict=true`, and each of several `--set a=1 --set b=2` to be kept.

    Words that belong to no option go to the first parameter where that takes several paths: `report RUN RUN`. A prompt is a text
    unless it is a list in JSON: the parser would read `- a dog`, `[music]` or `#1` as YAML.
    """
    parameters = signature(function).parameters
    kinds = {f"--{name}": parameter.annotation for name, parameter in parameters.items()}
    first = next(iter(kinds))
    words: list[str] = []
    for before, word, following in zip(["", *args], args, [*args[1:], ""], strict=False):
        belongs = word.startswith("-") or (before.startswith("--") and "=" not in before)
        if kinds.get(before) == TEXTS and not word.startswith("--"):
            words[-1] += f"={_texts(word)}"
        elif kinds.get(word) is bool and following not in ("true", "false"):
            words.append(f"{word}=true")
        elif kinds[first] == Sequence[Path] and not belongs:
            words += [f"{first}+", word]
        else:
            key, equals, value = word.partition("=")
            if equals and kinds.get(key) == TEXTS:
                word = f"{key}={_texts(value)}"
            listed = (value if equals else following).startswith("[")
            several = kinds.get(key) in (Sequence[str], Sequence[int], Sequence[Path]) and not listed
            words.append(f"{key}+{equals}{value}" if several else word)
    return words


def _texts(value: str) -> str:
    """A list of texts in JSON as it is, and any other text as one of a single text."""
    try:
        several = isinstance(json.loads(value), list)
    except ValueError:
        several = False
    return value if several else json.dumps([value])
