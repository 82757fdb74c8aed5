"""In which encoding a text file is, where it is not UTF-8: told by its byte order mark, or guessed and then to be said."""

import codecs
import re
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

from charset_normalizer import from_bytes

from audioldm_lit.errors import InputError

UTF_8 = "utf-8-sig"  # with or without a byte order mark
BOMS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
GUESSED = ("cp932", "euc_jp", "gb18030", "big5", "cp949")  # of several that fit equally well the first is taken
OTHERS = ("cp1250", "cp1251", "cp1252", "cp1253", "koi8_r")  # a word in one is a word in all of them, so these are never guessed
SAMPLE = 2**18  # bytes that a guess is made from
PIECE = 2**20  # bytes read at a time
ASIAN = "[\u3040-\u9fff\uac00-\ud7a3\uff61-\uff9f]"
MIXED = re.compile(f"[A-Za-z](?={ASIAN})|{ASIAN}(?=[A-Za-z])")  # what a European word becomes that is misread


def encoding_of(path: Path) -> str:
    """Encoding of a text file, as `open` takes it: `UTF_8`, UTF-16 where a byte order mark says so, else one that was guessed.

    Raises:
        InputError: If it is none of these, or cannot be opened.
    """
    try:
        with path.open("rb") as file:
            head = file.read(SAMPLE)
            try:
                decoder = codecs.getincrementaldecoder("utf-8")()
                decoder.decode(head)
                while piece := file.read(PIECE):
                    decoder.decode(piece)
                decoder.decode(b"", final=True)
            except UnicodeDecodeError as error:
                return _other(path, head, error)
    except OSError as error:
        raise InputError(path, f"cannot be opened ({error.strerror})", "see to its permissions") from error
    return UTF_8


def _other(path: Path, head: bytes, error: UnicodeDecodeError) -> str:
    if head.startswith(BOMS):
        return "utf-16"
    guess = guessed(head[: head.rfind(b"\n") + 1] if len(head) == SAMPLE else head)  # not in the middle of a letter
    if not guess:
        raise _no_text(path, error) from error
    return guess


def guessed(content: bytes) -> str | None:
    """The encoding of an East Asian text by what is most like text; None where another kind of encoding explains it as well."""
    matches = list(from_bytes(content, cp_isolation=[*GUESSED, *OTHERS], enable_fallback=False))
    least = min((match.chaos for match in matches), default=1.0)
    best = {match.encoding: str(match) for match in matches if match.chaos == least}
    name = next((name for name in GUESSED if name in best), None)
    if name is None or (not best.keys().isdisjoint(OTHERS) and MIXED.search(best[name])):
        return None
    return name


def decode_together(contents: Mapping[Path, bytes]) -> tuple[dict[Path, str], dict[str, list[Path]]]:
    """Decode short texts, of which those that are neither UTF-8 nor UTF-16 are guessed together: a word alone may be anything.

    Returns:
        The texts, and the files of each encoding other than UTF-8.

    Raises:
        InputError: If one is in none.
    """
    texts: dict[Path, str] = {}
    others: dict[str, list[Path]] = defaultdict(list)
    left: dict[Path, UnicodeDecodeError] = {}
    for path, content in contents.items():
        try:
            if content.startswith(BOMS):
                texts[path] = content.decode("utf-16")
                others["utf-16"].append(path)
            else:
                texts[path] = content.decode(UTF_8)
        except UnicodeDecodeError as error:
            left[path] = error
    guess = guessed(b"\n".join(contents[path] for path in left)) if left else None
    for path, error in left.items():
        try:
            texts[path] = contents[path].decode(guess or UTF_8)
        except UnicodeDecodeError:
            raise _no_text(path, error) from error
        others[guess].append(path)
    return texts, dict(others)


def _no_text(path: Path, error: UnicodeDecodeError) -> InputError:
    return InputError(path, f"is not UTF-8 ({error.reason} at byte {error.start})", "save it as UTF-8")
