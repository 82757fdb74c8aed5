"""Write the help page of every verb from its parser: `python scripts/help_pages.py`, whenever a setting or its text changes.

A page is what the parser says, without its list of usage and the classes that happen to be loaded. Of the texts of Lightning's own
settings the first sentence is kept. One more page names the settings of every class of ours that a setting may name.
"""

import inspect
import io
import os
import pkgutil
import re
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout, suppress
from importlib import import_module
from textwrap import fill
from typing import Any, get_args, get_type_hints
from unittest.mock import patch

from jsonargparse import ArgumentParser
from lightning import Trainer

import audioldm_lit
from audioldm_lit.cli import COMMANDS, LIGHTNING_VERBS, run
from audioldm_lit.console.pages import FOLDER
from audioldm_lit.data.base import AudioDataModule
from audioldm_lit.device import fast_precision
from audioldm_lit.module import LitAudioLDM
from audioldm_lit.places import REPOSITORY
from audioldm_lit.short_way import WAYS

VERBS = LIGHTNING_VERBS | COMMANDS
WIDTH = 100
FILES = "Settings may also stand in YAML files, --config FILE, of which the later ones win."
CLASSES = "A class is named by its path and set by --KEY.init_args.NAME VALUE; --KEY.help CLASS lists what it takes."
LIGHTNING = re.compile(r"(trainer|checkpoint|early_stopping|seed_everything|ckpt_path|weights_only)\b")
PRECISION = "bf16-mixed where the hardware computes in it, else 32-true"


def render(verb: str) -> str:
    """The page of a verb."""
    _, about, options = said(verb).split("\n\n", 2)
    about = f"{VERBS[verb].capitalize()}." if verb in LIGHTNING_VERBS else about
    start = [f"usage: python -m audioldm_lit {verb} [options]", about, CLASSES if verb == "ablate" else f"{FILES} {CLASSES}"]
    lines = [*_short_way(verb), *_options(options)]
    return "\n\n".join(fill(part, WIDTH) for part in start) + "\n\n" + "".join(f"{line}\n" for line in lines)


def _short_way(verb: str) -> Iterator[str]:
    """The short way, which is spelt out before the parser sees it."""
    if verb in WAYS:
        usage, option, text = WAYS[verb]
        yield f"the short way: python -m audioldm_lit {usage} [options]"
        yield f"  {option}"
        yield fill(text, WIDTH, initial_indent=" " * 6, subsequent_indent=" " * 6)
        yield ""


def said(verb: str) -> str:
    """What the parser prints in a terminal so wide that no text is broken."""
    with patch.dict(os.environ, COLUMNS="100000"), redirect_stdout(io.StringIO()) as printed, suppress(SystemExit):
        run(verb, [verb, "--help"])
    return printed.getvalue()


def _options(text: str) -> Iterator[str]:
    """Titles and options; an option's text stands on its own line or, behind two spaces and more, on the option's."""
    for line in re.sub(r"\n {24}", "  ", text).splitlines():
        option = re.match(r"  (?:-\w [^,]*, )?--([\w.]+).*?  +(.*)", line)
        if option and not option[1].endswith(".help"):
            yield f"  --{option[1]}"
            yield fill(_text(*option.groups()), WIDTH, initial_indent=" " * 6, subsequent_indent=" " * 6)
        elif not option and not line.startswith("  -h,"):
            yield "" if not line else fill(line, WIDTH)


def _text(key: str, text: str) -> str:
    """A setting's text, the same on every machine."""
    text = re.sub(r", known subclasses: .*\)$", ")", text).replace(f"{REPOSITORY}/", "")
    text = re.sub(r"<class '(\w+)'>", r"\1", text)
    text = re.sub(r"Union\[([\w, ]+)\]", _sorted, text)  # `typing` keeps the order of whoever named such a type first
    if key == "trainer.precision":
        text = text.replace(f"default: {fast_precision()})", f"default: {PRECISION})")
    if LIGHTNING.match(key):
        text = re.sub(r"^(.+?\.)(?=$| [A-Z(.])(?: .*?)??( \((required, )?type: .*)?$", r"\1\2", text)
    return text


def render_classes() -> str:
    """A line for every class that a setting may name: its path and its settings."""
    lines = []
    for cls in _nameable():
        with suppress(ValueError):  # of a class that no file can describe
            keys = ArgumentParser(exit_on_error=False).add_class_arguments(cls, as_group=False, fail_untyped=False)
            lines.append(" ".join([f"{cls.__module__}.{cls.__qualname__}", *sorted({key.partition(".")[0] for key in keys})]))
    return "".join(f"{line}\n" for line in sorted(lines))


def _nameable() -> set[type]:
    """Classes of the package that stand for a type that the verbs ask for, or that such a class asks for in turn."""
    modules = [import_module(module.name) for module in pkgutil.walk_packages(audioldm_lit.__path__, "audioldm_lit.")]
    sources = {module.__name__: inspect.getsource(module) for module in modules}
    classes = {cls for module in modules for cls in vars(module).values() if isinstance(cls, type)}
    ours = {cls for cls in classes if f"class {cls.__name__}" in sources.get(cls.__module__, "")}  # jsonargparse adds some
    verbs = [getattr(import_module(f"audioldm_lit.commands.{verb}"), verb) for verb in COMMANDS]
    asking: list[Callable[..., Any]] = [Trainer, LitAudioLDM, AudioDataModule, *verbs]
    found: set[type] = set()
    while asking:
        types = {type_ for asker in asking for type_ in _types(asker) if type_.__module__ != "builtins"}
        asking = [cls for cls in ours - found if types.intersection(cls.__mro__)]
        found.update(asking)
    return {cls for cls in found if not inspect.isabstract(cls)}


def _types(asker: Callable[..., Any]) -> Iterator[type]:
    """Every class in a signature, however deep."""
    hints = list(get_type_hints(asker.__init__ if isinstance(asker, type) else asker).values())
    while hints:
        hint = hints.pop()
        hints += hint if isinstance(hint, list) else get_args(hint)
        if isinstance(hint, type):
            yield hint


def _sorted(union: re.Match[str]) -> str:
    return f"Union[{', '.join(sorted(union[1].split(', '), key=lambda name: (name == 'null', name)))}]"


if __name__ == "__main__":
    for verb in VERBS:
        (FOLDER / f"{verb}.txt").write_text(render(verb), encoding="utf-8")
    (FOLDER / "classes.txt").write_text(render_classes(), encoding="utf-8")
