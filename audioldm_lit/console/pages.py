"""Help pages, written beforehand: a parser needs the libraries of all that it can set, which take many seconds to load.

`scripts/help_pages.py` writes them and a test proves them equal to what the parsers say.
"""

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path

FOLDER = Path(__file__).parent / "help"


def page(verb: str) -> str:
    """What `VERB --help` prints."""
    return (FOLDER / f"{verb}.txt").read_text(encoding="utf-8")


@cache
def settings(verb: str) -> frozenset[str]:
    """Keys of a verb's settings, as its page lists them."""
    return frozenset(re.findall(r"^  --([\w.]+)", page(verb), re.MULTILINE))


@cache
def class_settings() -> Mapping[str, frozenset[str]]:
    """Keys of the settings of every class of this package that a setting may name, by its path."""
    lines = [line.split() for line in page("classes").splitlines()]
    return {path: frozenset(keys) for path, *keys in lines}
