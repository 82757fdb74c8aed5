"""In which encoding a text file is, where it is not UTF-8: told by its byte order mark, or guessed and then to be said."""

import codecs
import re
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

from charset_normalizer import CharsetMatch, from_bytes

from audioldm_lit.errors import InputError

UTF_8 = "utf-8-sig"  # with or without a byte order mark
BOMS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
JAPANESE = ("cp932", "euc_jp")
CHINESE_KOREAN = {"gb2312": "gb18030", "big5": "big5", "euc_kr": "cp949"}  # the common letters, and how files with them are read
LATIN = ("cp1250", "cp1252")  # a word in one is a word in all of these and the next, so they are never guessed
ALPHABETS = ("cp1251", "cp1253", "koi8_r")
CYRILLIC_GREEK = re.compile("[\0-\x7f\u0386-\u03ce\u0401\u0410-\u044f\u0451]+")
SAMPLE = 2**18  # bytes that a guess is made from
PIECE = 2**20  # bytes read at a time
KANA = re.compile("[\u3041-\u30ff]")
HALF_WIDTH = re.compile("[\uff61-\uff9f]")  # what Chinese and Korean become that are misread as Japanese
ASIAN = "[\u3040-\u9fff\uac00-\ud7a3\uff61-\uff9f]"
MIXED = re.compile(f"[A-Za-z](?={ASIAN})|{ASIAN}(?=[A-Za-z])")  # what a European word becomes


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
    """The encoding of an East Asian text, by what charset-normalizer finds most like text; None where others explain it as well."""
    tried = [*JAPANESE, *CHINESE_KOREAN, *LATIN, *ALPHABETS]
    found = {match.encoding: match for match in from_bytes(content, cp_isolation=tried, enable_fallback=False)}
    name = _japanese(found) or _chinese_or_korean(found)
    if name is None:
        return None
    text, rivals = str(found[name]), {rival: str(match) for rival, match in found.items() if match.chaos <= found[name].chaos}
    if MIXED.search(text) and not rivals.keys().isdisjoint(LATIN):
        return None
    if not KANA.search(text) and any(CYRILLIC_GREEK.fullmatch(rivals.get(rival, "")) for rival in ALPHABETS):
        return None
    return CHINESE_KOREAN.get(name, name)


def _japanese(found: Mapping[str, CharsetMatch]) -> str | None:
    """Kana tell Japanese from everything else; a text of other letters alone is in CP932 if none of them has half the width."""
    for name in JAPANESE:
        text = HALF_WIDTH.sub("", str(found.get(name, "")))
        if 5 * len(KANA.findall(text)) >= sum(not letter.isascii() for letter in text) > 0:
            return name
    return "cp932" if "cp932" in found and not HALF_WIDTH.search(str(found["cp932"])) else None


def _chinese_or_korean(found: Mapping[str, CharsetMatch]) -> str | None:
    least = min((match.chaos for match in found.values()), default=0)
    best = [name for name in (*CHINESE_KOREAN, "euc_jp") if name in found and found[name].chaos == least]
    return best[0] if len(best) == 1 else None


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
    guess = (guessed(b"\n".join(contents[path] for path in left)) if left else None) or UTF_8
    for path, reason in left.items():
        try:
            texts[path] = contents[path].decode(guess)
        except UnicodeDecodeError:
            raise _no_text(path, reason) from reason
        others[guess].append(path)
    return texts, dict(others)


def _no_text(path: Path, error: UnicodeDecodeError) -> InputError:
    return InputError(path, f"is not UTF-8 ({error.reason} at byte {error.start})", "save it as UTF-8")
