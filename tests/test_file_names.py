"""Names of generated files: whatever the prompt, one that every system takes and every reader knows again."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audioldm_lit.inference.manifest import Entry

PROMPTS = st.text(st.characters(exclude_categories=["Cs"]))


def name(prompt: str, seed: int = 0) -> str:
    return Entry(prompt, prompt, seed, 0).file


@given(PROMPTS, st.integers(0, 2**64 - 1))
def test_every_system_takes_the_name(prompt, seed):
    file = name(prompt, seed)
    assert len(file.encode()) <= 255 - len(".abcd-1234567.part")  # beside which it is written
    assert unicodedata.is_normalized("NFC", file)
    assert file[0] not in "-. "
    assert not set(file) & set('<>:"/\\|?*')
    assert not any(unicodedata.category(letter)[0] in "CZ" for letter in file)


@given(st.lists(PROMPTS, min_size=2, max_size=2, unique=True))
def test_different_prompts_have_different_names_whatever_the_case(prompts):
    assert len({name(prompt).casefold() for prompt in prompts}) == 2


@pytest.mark.parametrize(
    ("prompt", "start"),
    [("Rain on a roof.", "rain_on_a_roof-"), ("犬の鳴き声", "犬の鳴き声-"), ("Кот мурлычет", "кот_мурлычет-"),
     ("कुत्ता भौंकता है", "कुत्ता_भौंकता_है-"), ("cafe\u0301", "café-"), ("--force", "force-"), ("CON", "con-"),
     ("雨" * 300, "雨" * 60 + "-")],
)  # fmt: skip
def test_letters_of_every_script_are_kept(prompt, start):
    assert name(prompt).startswith(start)
