"""Text from outside on a terminal: every letter as it is, neither mark-up nor an order."""

import re
from pathlib import Path

from rich import markup

BARE = re.compile(r"(\\+)\[(?![a-z#/@][^[]*?\])")


def escape(text: object) -> str:
    """Text from outside, such as a path or a caption, as rich prints it letter by letter."""
    # Of backslashes before a bracket that opens no tag rich takes one away, of those before a tag half, and its own `escape` knows
    # neither where there are several: so those at the end are doubled, and an empty tag follows.
    kept = BARE.sub(r"\1\\[", legible(str(text)))
    body = kept.rstrip("\\")
    end = "\\" * 2 * (len(kept) - len(body))
    return markup.escape(body) + (f"{end}[none][/none]" if end else "")  # noqa: TID251


def linked(path: Path) -> str:
    """A file's path as rich prints it, which a terminal opens by a click."""
    return f"[link={path.resolve().as_uri()}]{escape(path)}[/link]"


def legible(text: str) -> str:
    """Text in which marks that a terminal takes for orders, such as ESC, stand as Python writes them; lines and tabs stay."""
    return "".join(ascii(letter)[1:-1] if _is_order(letter) else letter for letter in text)


def _is_order(letter: str) -> bool:
    return (letter < " " and letter not in "\n\t") or "\x7f" <= letter < "\xa0"
