"""The catalogues of texts that pages speak from."""

import pytest
from markupsafe import Markup

from audioldm_lit.errors import InputError
from audioldm_lit.report.texts import Texts, catalogue, languages, places


@pytest.mark.parametrize("language", languages())
def test_a_catalogue_has_the_texts_and_places_of_the_english_one(language):
    english, other = catalogue("en"), catalogue(language)
    assert set(other) == set(english)
    assert {key: places(text) for key, text in other.items()} == {key: places(text) for key, text in english.items()}
    assert all(text.strip() for text in other.values())


def test_what_is_filled_in_is_escaped_and_what_was_said_is_in_the_glossary(monkeypatch):
    texts = Texts()
    monkeypatch.setattr(texts, "_texts", {**catalogue("en"), "greet": "{name} <b> {base}"})
    said = texts("greet", name="<script>'\"")
    assert said.startswith("&lt;script&gt;&#39;&#34; &lt;b&gt; <a class=")
    assert texts("greet", name=Markup("<i>")).startswith("<i> &lt;b&gt;")
    assert list(texts.used) == ["base"]


def test_a_language_without_a_catalogue_is_refused():
    with pytest.raises(InputError, match="give one of en, ja"):
        Texts("../en")
