"""What pages say: one catalogue of texts a language, `texts/en.yaml` and so on; a further language is a further file.

A text is found by its dotted key. Names in braces are filled in: `{base}`. The part `terms` is the glossary: each word with its
one-line explanation.
"""

from collections.abc import Iterator, Mapping
from functools import cache
from string import Formatter
from typing import Any

import yaml
from markupsafe import Markup, escape

from audioldm_lit.errors import InputError
from audioldm_lit.places import packaged

FOLDER = "report/texts"


class Texts:
    """The texts of one page in one language; whatever is filled in is escaped, unless it is markup of ours.

    Args:
        language: Such as `en`; the name of a file in `report/texts`.

    Attributes:
        language: As given, for the page's `lang`.
        used: Terms that the page has used so far: its glossary.

    Raises:
        InputError: If there is no catalogue of this language.
    """

    def __init__(self, language: str = "en") -> None:
        if language not in languages():
            raise InputError("--language", f"is '{language}'", f"give one of {', '.join(languages())}")
        self.language = language
        self.used: dict[str, tuple[str, str]] = {}  # word and explanation
        self._texts = catalogue(language)

    def __call__(self, key: str, **values: object) -> Markup:
        """The text of a key, with these values in its places; names of terms fill themselves in: `{kad}`."""
        text = self._texts[key]
        named = {name: self.term(name) for name in places(text) if name not in values}
        return Markup(escape(text)).format(**named, **values)

    def plain(self, key: str, **values: object) -> str:
        """The text of a key where no markup may be, as in a picture."""
        return self._texts[key].format(**values)

    def term(self, name: str, shown: object = None) -> Markup:
        """A word of the glossary, explained where the pointer rests on it; `shown` stands in its place, such as a sign."""
        word, about = self.used[name] = self._texts[f"terms.{name}.word"], self._texts[f"terms.{name}.about"]
        link = Markup('<a class="term" href="#term-{}" title="{}">{}</a>')
        return link.format(name, about, word if shown is None else shown)

    def knows(self, key: str) -> bool:
        """Whether there is such a text."""
        return key in self._texts

    def part(self, key: str) -> dict[str, str]:
        """All texts below a key, by the rest of their keys: what a script says by itself."""
        return {name.removeprefix(f"{key}."): text for name, text in self._texts.items() if name.startswith(f"{key}.")}


def languages() -> list[str]:
    """Languages that there is a catalogue of."""
    return sorted(path.stem for path in packaged(FOLDER).glob("*.yaml"))


@cache
def catalogue(language: str) -> Mapping[str, str]:
    """Every text of a language by its dotted key."""
    return dict(_flat(yaml.safe_load((packaged(FOLDER) / f"{language}.yaml").read_text(encoding="utf-8"))))


def places(text: str) -> set[str]:
    """Names in braces."""
    return {name for _, name, _, _ in Formatter().parse(text) if name}


def _flat(content: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, str]]:
    for key, value in content.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{above}{key}.")
        else:
            yield f"{above}{key}", value
