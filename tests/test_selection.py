"""Which clips train: splits by source where no list says so, and few-shot choices, for any classes and sources."""

import unicodedata
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audioldm_lit.data.clips import Clip
from audioldm_lit.data.selection import few_shot, split_by_source
from audioldm_lit.errors import InputError

CLASSES_AND_SOURCES = st.lists(st.tuples(st.sampled_from("ABC"), st.integers(0, 4)), min_size=1, max_size=40)


def clips_of(pairs: list[tuple[str, int]]) -> list[Clip]:
    return [Clip(f"{label}{number}", Path("x"), "x", label, f"{label}/{source}") for number, (label, source) in enumerate(pairs)]


@settings(max_examples=40)
@given(st.dictionaries(st.text(max_size=3), st.integers(1, 8), min_size=1, max_size=5), st.integers(0, 9), st.randoms())
def test_few_shot_is_exact_nested_and_blind_to_order(classes, seed, chance):
    clips = [Clip(f"{label}/{i}", Path("x"), "x", label) for label, size in classes.items() for i in range(size)]
    shuffled = chance.sample(clips, len(clips))
    previous: set[str] = set()
    for shots in range(1, min(classes.values()) + 1):
        chosen = {clip.id for clip in few_shot(clips, seed, shots)}
        assert len(chosen) == shots * len(classes)
        assert previous < chosen
        assert chosen == {clip.id for clip in few_shot(shuffled, seed, shots)}
        previous = chosen


def test_a_copy_of_a_folder_on_another_system_is_split_and_chosen_alike():
    copies = []
    for form in ("NFC", "NFD"):
        names = [unicodedata.normalize(form, f"がらす/ガラス{number}") for number in range(40)]
        clips = [Clip(name, Path("x"), "x", "glass", name) for name in names]
        copies.append(([split_by_source(clips)[name] for name in names], [clip in few_shot(clips, 0, 9) for clip in clips]))
    assert copies[0] == copies[1]


@settings(max_examples=150)
@given(st.lists(st.tuples(st.sampled_from("ABC"), st.integers(0, 12)), min_size=1, max_size=40, unique=True), st.randoms())
def test_every_class_with_sources_of_its_own_is_in_every_split_it_has_sources_for(pairs, chance):
    clips = [Clip(f"{label}{source}", Path("x"), "x", label, f"{label}/{source}") for label, source in pairs]
    splits = split_by_source(clips)
    assert splits == split_by_source(chance.sample(clips, len(clips)))

    for label in {clip.label for clip in clips}:
        count = Counter(splits[clip.id] for clip in clips if clip.label == label)
        total = count.total()
        held_out = max(1, round(total / 5))
        assert count["val"] == (held_out if total >= 2 else 0)
        assert count["test"] == (held_out if total >= 3 else 0)
        assert count["train"] >= 1


@settings(max_examples=150)
@given(st.lists(st.tuples(st.sampled_from("ABC"), st.integers(0, 9)), min_size=1, max_size=40))
def test_a_source_that_classes_share_is_in_one_split_and_every_class_trains(pairs):
    clips = [Clip(str(i), Path("x"), "x", label, str(source)) for i, (label, source) in enumerate(pairs)]
    try:
        splits = split_by_source(clips)
    except InputError as error:
        assert "held out with other classes" in str(error)  # noqa: PT017
        return
    assert all(len({splits[clip.id] for clip in clips if clip.source == source}) == 1 for source in {clip.source for clip in clips})
    assert {clip.label for clip in clips if splits[clip.id] == "train"} == {clip.label for clip in clips}


def test_a_class_whose_sources_are_all_held_out_with_others_is_refused():
    others = [Clip(f"{label}{take}", Path("x"), "x", label) for label in "AB" for take in range(2)]
    held_out = [name for name, split in split_by_source(others).items() if split == "val"]
    shared = [Clip(f"C{take}", Path("x"), "x", "C", source) for take, source in enumerate(held_out)]
    with pytest.raises(InputError, match="class 'C': all its sources are held out with other classes"):
        split_by_source([*others, *shared])


@settings(max_examples=100)
@given(CLASSES_AND_SOURCES, st.integers(0, 9), st.data())
def test_no_source_comes_twice_before_every_source_of_its_class_came_once(pairs, seed, data):
    clips = clips_of(pairs)
    smallest = min(Counter(label for label, _ in pairs).values())
    shots = data.draw(st.integers(1, smallest))
    chosen = few_shot(clips, seed, shots)
    for label in {clip.label for clip in clips}:
        taken = Counter(clip.source for clip in chosen if clip.label == label)
        there = Counter(clip.source for clip in clips if clip.label == label)
        most = max(taken.values())
        assert all(taken[source] >= min(most - 1, there[source]) for source in there)


@settings(max_examples=100)
@given(CLASSES_AND_SOURCES, st.integers(0, 9), st.randoms())
def test_a_number_of_clips_in_all_is_exact_nested_spread_over_classes_and_blind_to_order(pairs, seed, chance):
    clips = clips_of(pairs)
    sizes = Counter(clip.label for clip in clips)
    previous: set[str] = set()
    for count in range(1, len(clips) + 1):
        chosen = few_shot(clips, seed, num_train_clips=count)
        names = {clip.id for clip in chosen}
        assert len(chosen) == count
        assert previous < names
        assert names == {clip.id for clip in few_shot(chance.sample(clips, len(clips)), seed, num_train_clips=count)}
        taken = Counter(clip.label for clip in chosen)
        assert all(taken[label] >= min(max(taken.values()) - 1, sizes[label]) for label in sizes)
        previous = names


def test_shots_and_a_number_in_all_hold_together():
    clips = clips_of([(label, source) for label in "ABC" for source in range(9)])
    chosen = few_shot(clips, 0, shots=3, num_train_clips=7)
    assert sorted(Counter(clip.label for clip in chosen).values()) == [2, 2, 3]
    assert {clip.id for clip in chosen} < {clip.id for clip in few_shot(clips, 0, shots=3)}
    with pytest.raises(InputError, match=r"data\.init_args\.num_train_clips: is 10, but there are 9 training clips"):
        few_shot(clips, 0, shots=3, num_train_clips=10)
