"""Prompts from a text file, one a line."""

from collections.abc import Sequence
from pathlib import Path

from audioldm_lit.errors import InputError
from audioldm_lit.places import packaged

GENERAL = packaged("inference/prompts/general.txt")


def read_prompts(source: Path | Sequence[str], option: str) -> list[str]:
    """Prompts of a UTF-8 text file, one a line, or of a list: in order, stripped, without empty ones.

    Args:
        source: The file or the list.
        option: Where it was given, for the error.

    Raises:
        InputError: If there is no such file, it is no text, or no prompt is left.
    """
    lines: Sequence[str]
    if isinstance(source, Path):
        if not source.is_file():
            raise InputError(source, "no such file", f"give {option} a text file with one prompt a line")
        try:
            lines = source.read_text(encoding="utf-8-sig").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(source, f"cannot be read ({error})", "save it as UTF-8 text with one prompt a line") from error
    else:
        lines = source
    prompts = [line.strip() for line in lines if line.strip()]
    if not prompts:
        raise InputError(option, f"is {source}, which holds no prompt", "give at least one")
    return prompts
