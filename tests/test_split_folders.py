"""Folders that are named after splits are the splits, however they are spelt; a class that is called test stays a class."""

from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audioldm_lit.data.folder import Folder
from audioldm_lit.data.splits import places
from audioldm_lit.errors import InputError

SPLITS = ("train", "val", "test")
SPELT = {
    "train": ("train", "training", "学習", "訓練", "训练", "entraînement"),
    "val": ("val", "valid", "validation", "検証", "验证"),
    "test": ("test", "testing", "tst", "テスト", "ﾃｽﾄ", "测试"),
}
AROUND = ("{}", "{}_set", "01_{}", "{}-audio", "{} data", "{}用", "{}データ", "{}2")


def files(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def placed(*names: str) -> list[tuple[str, str | None]]:
    return [(place.label, place.split) for place in places(Path("root"), names).values()]


@pytest.mark.parametrize("names", [("train", "val", "test"), ("Train", "Valid", "Test"), ("training", "validation", "testing"),
                                   ("学習", "検証", "評価"), ("TRAIN", "dev", "eval"), ("dev", "val", "test")])  # fmt: skip
@pytest.mark.parametrize("classes", [("dog", "rain"), ("",)])
def test_clips_stay_in_the_split_that_their_folder_names(tmp_path, names, classes):
    for folder, count in zip(names, (6, 2, 4), strict=True):
        files(tmp_path, *(Path(folder, classes[take % len(classes)], f"clip {take}.wav").as_posix() for take in range(count)))
    data = Folder(tmp_path)
    clips = {split: data.clips(split) for split in SPLITS}
    assert [len(clips[split]) for split in SPLITS] == [6, 2, 4]
    assert {clip.path.relative_to(tmp_path).parts[0] for clip in clips["test"]} == {names[2]}
    assert {clip.label for clip in clips["test"]} == set(classes)
    assert {clip.caption for clip in clips["train"]} == ({"dog", "rain"} if len(classes) > 1 else {"clip"})
    assert not data.remarks


@given(st.fixed_dictionaries({split: st.sampled_from(SPELT[split]) for split in SPLITS}), st.sampled_from(AROUND), st.data())
def test_every_spelling_is_read(names, around, data):
    cased = {split: data.draw(st.sampled_from([str.lower, str.upper, str.title]))(around.format(names[split])) for split in SPLITS}
    below = data.draw(st.sampled_from(["{}/dog/x.wav", "dog/{}/x.wav", "audio/{}/dog/x.wav", "{}/wav/dog/x.wav"]))
    assert placed(*(below.format(cased[split]) for split in SPLITS)) == [("dog", split) for split in SPLITS]


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (("dev/dog/1.wav", "eval/dog/2.wav"), [("dog", "train"), ("dog", "test")]),
        (("train/1.wav", "eval/2.wav", "test/3.wav"), [("", "train"), ("", "val"), ("", "test")]),
        (("FSD.dev_audio/1.wav", "FSD.eval_audio/2.wav"), [("", "train"), ("", "test")]),
        (("train-clean-100/1.wav", "train-clean-360/2.wav", "test-clean/3.wav"), [("", "train"), ("", "train"), ("", "test")]),
        (("my sounds/train/dog/1.wav", "my sounds/test/rain/2.wav"), [("dog", "train"), ("rain", "test")]),
        (("e\u0301t\u00e9/1.wav", "\u00e9te\u0301/2.wav", "dog/3.wav"), [("\u00e9t\u00e9", None)] * 2 + [("dog", None)]),
        (("audio/dog/1.wav", "audio/rain/2.wav"), [("dog", None), ("rain", None)]),
        (("test/1.wav", "dog/2.wav"), [("test", None), ("dog", None)]),
        (("train/1.wav", "plane/2.wav", "3.wav"), [("train", None), ("plane", None), ("", None)]),
        (("train/1.wav", "test tone/2.wav", "plane/3.wav"), [("train", None), ("test tone", None), ("plane", None)]),
        (("dog/test/1.wav", "dog/bark/2.wav"), [("dog", None), ("dog", None)]),
    ],
)
def test_splits_and_classes_are_told_apart(names, said):
    assert placed(*names) == said


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (("train/1.wav", "test/2.wav", "dog/3.wav"), "test, train are splits, but dog/3.wav lies in none of them; move it"),
        (("train/1.wav", "test/2.wav", "3.wav"), "test, train are splits, but 3.wav lies in none"),
        (("dog/train/1.wav", "dog/test/2.wav", "rain/3.wav"), "test, train are splits, but rain/3.wav lies in none"),
        (("train/1.wav", "dev/2.wav", "val/3.wav"), "the folders dev, train, val name a split twice; merge"),
        (("val/1.wav", "test/2.wav"), "the folders test, val are splits, but none is for training; add"),
    ],
)
def test_a_mix_is_refused(names, message):
    with pytest.raises(InputError, match=message):
        placed(*names)


def test_beside_splits_there_may_be_folders_of_other_things_but_no_empty_split(tmp_path):
    files(tmp_path, *(f"{split}/{take}.wav" for split in SPLITS for take in range(2)), "scripts/make.py", "docs/notes.txt")
    data = Folder(tmp_path)
    assert len(data.clips("test")) == 2
    assert any("of docs/notes.txt" in str(remark) for remark in data.remarks)
    (tmp_path / "validation").mkdir()
    with pytest.raises(InputError, match="validation: this split has no audio file; add clips or remove"):
        Folder(tmp_path).clips("train")


def test_without_a_validation_folder_training_gives_a_fifth_and_that_is_said(tmp_path):
    files(tmp_path, *(f"train/dog/{take}.wav" for take in range(10)), *(f"test/dog/{take}.wav" for take in range(4)))
    data = Folder(tmp_path)
    assert [Counter(clip.id.split("/")[0] for clip in data.clips(split)) for split in SPLITS] == [
        {"train": 8}, {"train": 2}, {"test": 4}
    ]  # fmt: skip
    (remark,) = data.remarks
    assert "2 of the 10 clips that train" in str(remark)


def test_a_class_that_is_called_as_a_split_is_said(tmp_path):
    data = Folder(files(tmp_path, *(f"{label}/{take}.wav" for label in ("train", "plane") for take in range(3))))
    assert {clip.label for clip in data.clips("test")} == {"train", "plane"}
    (remark,) = data.remarks
    assert str(remark).startswith(f"{tmp_path}/train: is taken for a class")
