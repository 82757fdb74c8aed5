"""Text from outside on a terminal: every letter as it is, neither mark-up nor an order."""

from rich import markup


def escape(text: object) -> str:
    """Text from outside, such as a path or a caption, as rich prints it letter by letter."""
    return markup.escape(legible(str(text)))  # noqa: TID251


def legible(text: str) -> str:
    """Text in which marks that a terminal takes for orders, such as ESC, stand as Python writes them; lines and tabs stay."""
    return "".join(ascii(letter)[1:-1] if _is_order(letter) else letter for letter in text)


def _is_order(letter: str) -> bool:
    return (letter < " " and letter not in "\n\t") or "\x7f" <= letter < "\xa0"
