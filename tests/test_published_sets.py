"""AudioCaps, AudioSet, UrbanSound8K and DCASE task 7: what their lists say, how their files are named, and what is missing."""

import csv
import shutil
import string
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from audioldm_lit.data.audiocaps import AudioCaps
from audioldm_lit.data.audioset import AudioSet
from audioldm_lit.data.base import AudioDataModule
from audioldm_lit.data.dcase_foley import DCASEFoley
from audioldm_lit.data.esc50 import ESC50
from audioldm_lit.data.folder import Folder
from audioldm_lit.data.urbansound8k import UrbanSound8K
from audioldm_lit.errors import InputError

import layouts

SPLITS = ("train", "val", "test")


def refused(data: AudioDataModule, split: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        data.present(split)
    assert "\n" not in str(caught.value)


def change(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


# ---------------------------------------------------------------- AudioCaps


def test_audiocaps_files_are_found_under_every_name_in_use(tmp_path):
    layouts.audiocaps(tmp_path)
    names = {clip.path.name for clip in AudioCaps(tmp_path).present("train")}
    assert {"Ytr-_0000000.wav", "tr-_0000001_10.flac", "tr-_0000002.wav", "3.wav"} < names


def test_audiocaps_says_how_much_of_it_is_there(tmp_path):
    layouts.audiocaps(tmp_path)
    data = AudioCaps(tmp_path)
    assert len(data.present("train")) == 10
    assert str(data.coverage["train"]) == "10 of 12 clips, 83.3 %"
    refused(
        AudioCaps(tmp_path, min_coverage=0.9), "train",
        r"has the audio of 10 of 12 clips, 83\.3 % of the train split, Ytr-_0000010\.wav and others are missing; "
        r"fetch more or lower data\.init_args\.min_coverage, which is 0\.9",
    )  # fmt: skip
    refused(AudioCaps(tmp_path, min_coverage=1), "train", r"train\.csv, line 12: .*Ytr-_0000010\.wav: no such audio file")


def test_without_any_audio_no_coverage_is_low_enough(tmp_path):
    layouts.audiocaps(tmp_path)
    for path in [*tmp_path.rglob("*.wav"), *tmp_path.rglob("*.flac")]:
        path.unlink()
    refused(AudioCaps(tmp_path, min_coverage=0), "test", r"test\.csv, line \d+: .*Yte-_0000000\.wav: no such audio file")


def test_one_of_five_captions_is_the_same_on_every_machine_and_another_by_seed(tmp_path):
    layouts.audiocaps(tmp_path)
    chosen = [[clip.caption for clip in AudioCaps(tmp_path, caption_seed=seed).present("test")] for seed in (0, 0, 1, 2, 3)]
    assert chosen[0] == chosen[1]
    assert len({tuple(captions) for captions in chosen}) > 1


def test_all_captions_are_items_of_their_own_with_one_recording(tmp_path):
    layouts.audiocaps(tmp_path)
    data = AudioCaps(tmp_path, captions="all")
    clips = data.present("test")
    assert len(clips) == 20
    assert len({clip.id for clip in clips}) == len({clip.caption for clip in clips}) == 20
    assert set(Counter(clip.path for clip in clips).values()) == {5}
    assert str(data.coverage["test"]) == "4 of 4 clips, 100.0 %"


def test_broken_audiocaps_lists_are_one_sentence(tmp_path):
    layouts.audiocaps(tmp_path)
    change(tmp_path / "test.csv", ",30,", ",30.5,")
    refused(AudioCaps(tmp_path), "test", r"test\.csv, line 17: names no video or no start in whole seconds")
    change(tmp_path / "val.csv", "youtube_id", "video")
    refused(AudioCaps(tmp_path), "val", r"val\.csv, line 1: lacks the columns youtube_id")
    layouts.tone(tmp_path / "again" / "Ytr-_0000000.flac", 440)
    refused(AudioCaps(tmp_path), "train", "has the name of .*; keep one of the two")


NAMES = ("{id}", "Y{id}", "{id}_{s}", "Y{id}_{s}", "{id}_{s}_{e}", "Y{id}_{s}.000_{e}.000", "{id}_{s}000_{e}000", "{id}_{s:06}",
         "Y{id}_{s:06}_{e:06}", "{id}_{s}.0", "{id}-{s}-{e}", "{id}_{s}s_{e}s", "A dog, barking [{id}]")  # fmt: skip
IDS = st.from_regex(r"[\w-]{11}", fullmatch=True, alphabet=string.ascii_letters + string.digits + "-_")


@settings(max_examples=30)
@given(st.lists(st.tuples(IDS, st.integers(1, 600), st.sampled_from(NAMES)), min_size=1, max_size=5, unique_by=lambda one: one[0]))
def test_every_clip_finds_its_own_file_however_it_is_named(tmp_path_factory, clips):
    root = tmp_path_factory.mktemp("caps")
    rows: list[list[object]] = [["audiocap_id", "youtube_id", "start_time", "caption"]]
    written = {}
    for number, (video, start, name) in enumerate(clips):
        rows.append([10**6 + number, video, start, "x"])
        written[f"{video}_{start}"] = path = root / f"{name.format(id=video, s=start, e=start + 10)}.wav"
        path.touch()
    (root / f"{clips[0][0]}x_{clips[0][1]}.wav").touch()  # of another video
    for video, start, name in clips:
        if "{s" in name:
            (root / f"{video}_{start + 1}_{start + 11}.wav").touch()  # of the same at another time
    layouts.write_csv(root / "train.csv", rows)
    assert {clip.id: clip.path for clip in AudioCaps(root).clips("train")} == written


def test_two_files_of_one_clip_are_refused(tmp_path):
    layouts.audiocaps(tmp_path)
    layouts.tone(tmp_path / "more" / "tr-_0000000_0_10.wav", 440)
    refused(AudioCaps(tmp_path), "train", r"0\.wav: is the clip of tr-_0000000 at 0 s, as .*wav is; keep one of the two")


def test_where_no_name_fits_what_was_tried_and_a_file_are_named(tmp_path):
    layouts.audiocaps(tmp_path)
    for number, path in enumerate([*tmp_path.rglob("*.wav"), *tmp_path.rglob("*.flac")]):
        path.rename(tmp_path / f"sound {number:02}{path.suffix}")
    refused(
        AudioCaps(tmp_path), "train",
        r"train\.csv, line 2: .*: no such audio file, nor any named tr-_0000000, with or without Y and the start as 0, 0\.000, "
        r"000000 or 0 and an end; there is .*sound \d\d\.\w+; rename the recordings after the videos",
    )  # fmt: skip


# ---------------------------------------------------------------- AudioSet


def test_audioset_captions_are_its_display_names_and_the_class_is_the_rarest(tmp_path):
    layouts.audioset(tmp_path)
    clips = {clip.id: clip for split in ("train", "val") for clip in AudioSet(tmp_path).present(split)}
    dog, both = clips["-ba_0000000_0"], clips["-ba_0000002_60"]
    assert (dog.caption, dog.label) == ("Speech, Dog.", "Dog")
    assert (both.caption, both.label) == ("Speech, Male speech, man speaking.", "Male speech, man speaking")
    assert both.path.name == "Y-ba_0000002.wav"
    assert clips["-ba_0000001_30"].path.name == "-ba_0000001_30.flac"


def test_a_choice_of_test_clips_contains_the_smaller_ones(tmp_path):
    layouts.audioset(tmp_path)
    previous: set[str] = set()
    for count in (1, 4, 9):
        chosen = {clip.id for clip in AudioSet(tmp_path, num_test_clips=count).clips("test")}
        assert len(chosen) == count
        assert previous < chosen
        previous = chosen
    assert previous == {clip.id for clip in AudioSet(tmp_path, num_test_clips=None).clips("test")}


def test_broken_audioset_lists_are_one_sentence(tmp_path):
    layouts.audioset(tmp_path)
    table = tmp_path / "eval_segments.csv"
    change(table, "/m/0bt9lr", "/m/none")
    refused(AudioSet(tmp_path), "test", r"eval_segments\.csv, line 4: class '/m/none' is not in class_labels_indices\.csv")
    change(table, "/m/09x0r,/m/none", "")
    refused(AudioSet(tmp_path), "test", r"line 4: names no video or no class")
    change(table, '""', "/m/09x0r")
    change(table, "30.000", "soon")
    refused(AudioSet(tmp_path), "test", r"line 5: start or end is no number of seconds")
    refused(AudioSet(tmp_path, train="unbalanced"), "train", r"unbalanced_train_segments\.csv: no such file")
    with pytest.raises(InputError, match=r"data\.init_args\.num_test_clips: is 0"):
        AudioSet(tmp_path, num_test_clips=0)


# ---------------------------------------------------------------- other layouts of ESC-50 and UrbanSound8K


def moved(root: Path, home: str, table: str, audio: str) -> None:
    """Move ESC-50 as published to another layout below the root."""
    layouts.esc50(root / "published", takes=1)
    for old, new in (("meta/esc50.csv", table), ("audio", audio)):
        (root / home / new).parent.mkdir(parents=True, exist_ok=True)
        (root / "published" / old).rename(root / home / new)
    shutil.rmtree(root / "published")


@pytest.mark.parametrize(
    ("home", "table", "audio"),
    [("ESC-50-master", "meta/esc50.csv", "audio"), (".", "esc50.csv", "audio"), (".", "ESC50.csv", "wavs"),
     (".", "meta/esc50.csv", "audio/audio"), ("a/b", "esc50.csv", "audio/audio/16000"), (".", "meta/esc50.csv", "ESC-50")],
)  # fmt: skip
def test_esc50_is_found_in_every_layout(tmp_path, home, table, audio):
    moved(tmp_path, home, table, audio)
    clips = [clip for split in SPLITS for clip in ESC50(tmp_path).present(split)]
    assert len(clips) == 15
    assert {clip.path for clip in clips} == {tmp_path / home / audio / clip.id for clip in clips}


def test_esc50_in_another_format_is_found_by_its_names(tmp_path):
    layouts.esc50(tmp_path, takes=1)
    for path in (tmp_path / "audio").iterdir():
        path.rename(path.with_suffix(".flac"))
    assert {clip.path.suffix for clip in ESC50(tmp_path).present("train")} == {".flac"}


@pytest.mark.parametrize("flat", [True, False])
def test_urbansound8k_is_found_with_its_folds_beside_the_table_or_without_folds(tmp_path, flat):
    layouts.urbansound8k(tmp_path, takes=1)
    (tmp_path / "metadata" / "UrbanSound8K.csv").rename(tmp_path / "UrbanSound8K.csv")
    for path in sorted((tmp_path / "audio").rglob("*.wav")):
        target = tmp_path / "sounds" / ("" if flat else path.parent.name) / path.name
        target.parent.mkdir(parents=True, exist_ok=True)
        path.rename(target)
    data = UrbanSound8K(tmp_path)
    assert len(data.present("test")) == 3
    assert flat or {clip.path.parent.name for clip in data.present("test")} == {"fold1"}


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (lambda root: None, r"esc/meta/esc50\.csv, or below .*esc any other esc50\.csv: no such file; set "),
        (lambda root: layouts.esc50(root.parent), r"esc: is a part of .*, which has meta/esc50\.csv; set data\.init_args\.root to"),
        (lambda root: (root / "data").mkdir() or (root / "data" / "train-00000-of-00001.parquet").touch(),
         r"train-00000-of-00001\.parquet: is a table that holds the sounds themselves, which is not read; write its sounds"),
        (lambda root: (root / "data-00000-of-00001.arrow").touch(), r"\.arrow: is a table that holds the sounds"),
        (lambda root: (root / "ESC-50-master.zip").touch(), r"ESC-50-master\.zip: is an archive, which is not read; unpack it"),
        (lambda root: [layouts.esc50(root / name, takes=1) for name in "ab"], r"esc: holds .*a/meta/.* and .*b/meta/.*; set"),
    ],
)  # fmt: skip
def test_where_esc50_was_looked_for_is_said(tmp_path, write, message):
    root = tmp_path / "esc"
    root.mkdir()
    write(root)
    refused(ESC50(root), "train", message)


@pytest.mark.parametrize("name", ["data/train-00000-of-00001.parquet", "sounds.zip"])
def test_a_folder_of_packed_recordings_is_named_as_that(tmp_path, name):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).touch()
    refused(Folder(tmp_path), "train", rf"{name}: is (a table that holds the sounds|an archive)")


# ---------------------------------------------------------------- UrbanSound8K


def test_the_ten_official_folds_are_kept_and_rotate(tmp_path):
    layouts.urbansound8k(tmp_path, takes=1)
    for fold in range(1, 11):
        folds = {split: {clip.path.parent.name for clip in UrbanSound8K(tmp_path, fold=fold).clips(split)} for split in SPLITS}
        assert folds["test"] == {f"fold{fold}"}
        assert folds["val"] == {f"fold{fold % 10 + 1}"}
        assert len(folds["train"]) == 8


def test_salience_chooses_foreground_or_background(tmp_path):
    layouts.urbansound8k(tmp_path)
    for salience, count in (("all", 12), ("foreground", 6), ("background", 6)):
        assert len(UrbanSound8K(tmp_path, salience=salience).clips("test")) == count


def test_broken_urbansound8k_lists_are_one_sentence(tmp_path):
    layouts.urbansound8k(tmp_path, takes=1)
    table = tmp_path / "metadata" / "UrbanSound8K.csv"
    for column, value, message in ((4, "3", "salience is '3'; write 1"), (5, "11", "fold is '11'; write a whole number")):
        rows = list(csv.reader(table.open()))
        good, rows[1][column] = rows[1][column], value
        layouts.write_csv(table, rows)
        refused(UrbanSound8K(tmp_path), "test", rf"UrbanSound8K\.csv, line 2: {message}")
        rows[1][column] = good
        layouts.write_csv(table, rows)
    with pytest.raises(InputError, match=r"data\.init_args\.fold: is 11; give one of UrbanSound8K's folds, 1 to 10"):
        UrbanSound8K(tmp_path, fold=11)


# ---------------------------------------------------------------- DCASE 2023 task 7


def test_clips_cut_from_one_recording_stay_together(tmp_path):
    layouts.dcasefoley(tmp_path)
    splits = {split: {clip.source for clip in DCASEFoley(tmp_path).clips(split)} for split in SPLITS}
    assert not splits["train"] & splits["val"]
    assert "FSD50k/dev dog_bark 0" in splits["train"] | splits["val"]
    assert {clip.path.parts[-3] for clip in DCASEFoley(tmp_path).clips("test")} == {"eval"}


def test_the_development_set_alone_is_split_in_three_and_its_class_folders_may_be_written_otherwise(tmp_path):
    for label in ("DogBark", "Sneeze_Cough"):
        for take in range(5):
            layouts.tone(tmp_path / label / f"{take}.wav", 440, seed=take)
    counts = {split: Counter(clip.label for clip in DCASEFoley(tmp_path).clips(split)) for split in SPLITS}
    assert [counts[split] for split in SPLITS] == [{"dog_bark": n, "sneeze_cough": n} for n in (3, 1, 1)]


def test_prompts_name_classes_and_other_folders_are_refused(tmp_path):
    layouts.dcasefoley(tmp_path)
    clips = DCASEFoley(tmp_path, prompts={"dog_bark": "a dog bark"}).clips("test")
    assert {clip.caption for clip in clips if clip.label in ("dog_bark", "sneeze_cough")} == {"a dog bark", "sneeze cough"}
    with pytest.raises(InputError, match=r"data\.init_args\.prompts: names the class 'cat'"):
        DCASEFoley(tmp_path, prompts={"cat": "a cat"})
    (tmp_path / "dev" / "cat").mkdir()
    refused(DCASEFoley(tmp_path), "train", "cat: is none of the classes dog_bark")
