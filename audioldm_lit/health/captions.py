"""What is wrong with a data set's captions, as far as the text alone can tell.

CLAP's text tower knows only English: a caption in another language, in a broken encoding or made from a file name trains on
noise without any warning. Every rule would rather miss a problem than report a false one.
"""

import math
import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

from py3langid.langid import MODEL_FILE, LanguageIdentifier

READ = 500  # letters that decide on the language; bounds the time of a caption
FOREIGN = 3.75  # log-odds against English over the root of the bytes; none of AudioCaps' 57,188 captions lies above
WORDS = 3  # that a single caption needs: "piano solo" and "bossa nova" are English too
FEW = 8  # distinct captions from which on they are also judged together
MOST = 0.75  # share of them that must lean to one language
TRANSLATE = "translate to English"

# fmt: off
LATIN = {  # a language close to English costs false alarms: not Afrikaans, not Scots
    "ca": "Catalan", "cs": "Czech", "da": "Danish", "de": "German", "es": "Spanish", "et": "Estonian", "fi": "Finnish",
    "fr": "French", "hr": "Croatian", "hu": "Hungarian", "id": "Indonesian", "it": "Italian", "lt": "Lithuanian",
    "lv": "Latvian", "nl": "Dutch", "no": "Norwegian", "pl": "Polish", "pt": "Portuguese", "ro": "Romanian", "sk": "Slovak",
    "sl": "Slovenian", "sv": "Swedish", "tr": "Turkish",
}
# fmt: on

_WORD = re.compile(r"[^\W\d_]+")
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff\ue000-\uf8ff\ufeff\ufffd]")
_NEXT = "[\x80-\xbf€‚ƒ„…†‡ˆ‰Š‹ŒŽ‘’“”•–—˜™š›œžŸ]"  # second and later bytes of UTF-8, read as Latin-1 or Windows-1252
_MISREAD = re.compile(f"[ÂÃ]{_NEXT}|â€|ðŸ|(?:[Ä-ß]{_NEXT}){{2}}|(?:[à-ï]{_NEXT}{{2}}){{2}}")
_EXTENSION = re.compile(r"\.(?:aac|aif|aiff|flac|m4a|mp3|mp4|ogg|opus|wav|webm|wma)$", re.IGNORECASE)
_NAME = re.compile(r"_|(?<!\d)0\d+$|^\d+-.*-.*-")  # dog_bark, rain03 and 1-100032-A-0, but neither TR-808 nor jack-in-the-box


@dataclass(frozen=True)
class CaptionProblem:
    """One thing that is wrong with one or more captions.

    Attributes:
        indices: Which captions, ascending.
        kind: `empty`, `number`, `garbled`, `file name`, `language`, `long` or `repeated`.
        detail: What is wrong, with the caption where it is one.
        mend: What to do about it.
    """

    indices: tuple[int, ...]
    kind: str
    detail: str
    mend: str


def caption_problems(
    captions: Sequence[str], sources: Sequence[str], unheard: Callable[[str], str] = lambda text: ""
) -> list[CaptionProblem]:
    """Find captions that teach a text encoder nothing, or the wrong thing.

    Args:
        captions: One per clip.
        sources: Recording session or upload of every clip; a caption that comes twice from one source is not repeated.
        unheard: The end of a text that the model does not read, see `TextWindow`.

    Returns:
        One problem per kind and distinct caption, sorted by first clip, and at most one more for the language of all together.
    """
    places: dict[str, list[int]] = defaultdict(list)
    for index, caption in enumerate(captions):
        places[caption].append(index)
    problems = []
    together = _Together()
    for caption, indices in places.items():
        found = _unreadable(caption) or _script(caption) or together.language(caption, indices)
        if found:
            kind, detail, mend = found
            problems.append(CaptionProblem(tuple(indices), kind, f"'{_short(caption)}' {detail}", mend))
        if rest := unheard(caption):
            detail = f"'{_short(caption)}' is longer than the model reads, '{_short(rest)}' is not heard"
            problems.append(CaptionProblem(tuple(indices), "long", detail, "say what sounds first and drop the rest"))
    return sorted(problems + together.problems() + _repeated(captions, sources), key=lambda problem: problem.indices)


def _unreadable(caption: str) -> tuple[str, str, str] | None:
    """Kind, detail and mend of a caption that is not words."""
    if found := _CONTROL.search(caption) or _MISREAD.search(caption):
        mend = "read its file in the encoding it was written in (mostly UTF-8), or retype it"
        return "garbled", f"holds {found[0]!a}, which is no text", mend
    if not any(map(str.isalnum, caption)):
        return "empty", "has no word", "write what is to be heard"
    if not any(map(str.isalpha, caption)):
        return "number", "is a number", "write what is to be heard"
    token = caption.strip()
    if _EXTENSION.search(token) or (len(token.split()) == 1 and _NAME.search(token)):
        return "file name", "is a file name", "write words with spaces between them"
    return None


def _script(caption: str) -> tuple[str, str, str] | None:
    """Kind, detail and mend of a caption of which more than half the letters are not Latin."""
    if caption.isascii():
        return None
    names = [unicodedata.name(letter, "UNKNOWN") for letter in caption[:READ] if letter.isalpha()]
    others = [name for name in names if "LATIN" not in name]
    if 2 * len(others) <= len(names):
        return None
    script = others[0].split()[0].title().replace("Cjk", "Chinese characters")
    return "language", f"is not English, its letters are {script}", TRANSLATE


@cache
def _identifier() -> LanguageIdentifier:
    identifier = LanguageIdentifier.from_model_file(MODEL_FILE)
    identifier.set_languages(["en", *LATIN])
    return identifier


class _Together:
    """Languages of captions in Latin script, one by one or, where they are too short for that, all of them together."""

    def __init__(self) -> None:
        self.totals = dict.fromkeys(LATIN, 0.0)
        self.size = self.count = 0
        self.leans = dict.fromkeys(LATIN, 0)
        self.leaning: dict[str, list[int]] = defaultdict(list)

    def language(self, caption: str, indices: Sequence[int]) -> tuple[str, str, str] | None:
        """Kind, detail and mend of a caption that by itself is certainly not English."""
        text = caption[:READ].lower()
        size = len(text.encode())
        told = None
        odds = dict(_identifier().rank(text))
        english = odds.pop("en")
        best = max(odds, key=odds.__getitem__)
        if (odds[best] - english) / math.sqrt(size) > FOREIGN and len(_WORD.findall(text)) >= WORDS:
            told = "language", f"is not English, it looks {LATIN[best]}", TRANSLATE
        self.count += 1
        self.size += size
        for language in LATIN:
            self.totals[language] += odds[language] - english
            self.leans[language] += odds[language] > english
            if odds[language] > english and not told:
                self.leaning[language].extend(indices)
        return told

    def problems(self) -> list[CaptionProblem]:
        """What was not told of single captions."""
        best = max(self.totals, key=self.totals.__getitem__)
        most = self.count >= FEW and self.leans[best] >= MOST * self.count
        if not most or not self.leaning[best] or self.totals[best] / math.sqrt(self.size) <= FOREIGN:
            return []
        indices = tuple(sorted(self.leaning[best]))
        return [CaptionProblem(indices, "language", f"the captions together are not English, they look {LATIN[best]}", TRANSLATE)]


def _repeated(captions: Sequence[str], sources: Sequence[str]) -> list[CaptionProblem]:
    """Captions of several sources, where most clips have one of their own; elsewhere captions are class names."""
    groups: dict[str, list[int]] = defaultdict(list)
    for index, (caption, _) in enumerate(zip(captions, sources, strict=True)):
        if any(map(str.isalpha, caption)):
            groups[" ".join(caption.casefold().split())].append(index)
    origins = {caption: len({sources[index] for index in indices}) for caption, indices in groups.items()}
    if 2 * sum(len(groups[caption]) for caption in groups if origins[caption] == 1) <= len(captions):
        return []
    return [
        CaptionProblem(
            tuple(indices),
            "repeated",
            f"'{_short(captions[indices[0]])}' is the caption of {len(indices)} clips of {origins[caption]} sources",
            "say what tells these clips apart, or drop copies",
        )
        for caption, indices in groups.items()
        if origins[caption] > 1
    ]


def _short(caption: str) -> str:
    """A caption for a one-line message: printable and at most 60 letters."""
    line = " ".join("".join(letter if letter.isprintable() else "\ufffd" for letter in caption[:200]).split())
    return line if len(line) <= 60 else f"{line[:57]}..."
