"""Words for captions: what is suggested, and that it is only suggested."""

import csv
import shutil
from pathlib import Path

import pytest
import soundfile

from audioldm_lit.data.folder import Folder
from audioldm_lit.errors import InputError
from audioldm_lit.health.suggestions import read_words
from audioldm_lit.metrics.extractors.base import AudioBatch
from audioldm_lit.metrics.extractors.clap import CLAP

import layouts
from layouts import bursts

WORDS = ["Dog bark", "Rain", "Sea waves", "Door, wood", "Engine"]


def test_words_are_those_that_clap_hears_best_and_no_caption_by_themselves(cli, workdir, tiny_folder):
    root = workdir / "data"
    root.mkdir()
    for number in range(5):
        soundfile.write(root / f"take {number}.wav", bursts(number), 16_000)
    Path("words.txt").write_text("\n".join(WORDS))
    status, out, err = cli("prepare", root, "--suggest", "words.txt", "--backbone", tiny_folder)
    assert status == 0, err
    with open("runs/prepare/captions.csv", newline="", encoding="utf-8-sig") as file:
        rows = {row["file"]: row for row in csv.DictReader(file)}
    clap, words = CLAP(str(tiny_folder)), [word.lower() for word in WORDS]
    clips = Folder(root, duration=0.64).waveforms("val")
    for number, clip in enumerate(clips.clips):
        batch = AudioBatch(
            [clip.id] * len(WORDS), clips.waveform(number).expand(len(WORDS), -1), 16_000, list(map(str.lower, WORDS))
        )
        similarity = clap.extract(batch)["similarity"][:, 0, 0]
        assert rows[clip.id]["suggestion"] == "; ".join(words[place] for place in similarity.topk(3).indices)
    again = Folder(root, table=Path("runs/prepare/captions.csv"))
    assert {clip.caption for clip in again.clips("train")} == {clip.caption for clip in Folder(root).clips("train")}
    assert "runs/prepare/captions.csv: correct the captions there" in out
    status, _, err = cli("prepare", root, "--suggest", "words.txt", "--backbone", tiny_folder)
    assert (status, "captions.csv: is there already" in err) == (2, True)


def test_words_are_read_from_audioset_s_list(tmp_path):
    rows = [["index", "mid", "display_name"], [0, "/m/1", "Speech"], [1, "/m/2", "Hum, low"]]
    table = layouts.write_csv(tmp_path / "class_labels_indices.csv", rows)
    assert read_words(table) == ["speech", "hum, low"]
    (tmp_path / "none.txt").write_text("\n")
    with pytest.raises(InputError):
        read_words(tmp_path / "none.txt")


def test_a_model_without_ears_suggests_nothing(cli, workdir, tiny_folder):

    shutil.copytree(tiny_folder, "deaf")
    shutil.rmtree("deaf/audio_encoder")
    root = layouts.folder(workdir / "data", takes=3)["root"]
    Path("words.txt").write_text("rain")
    status, _, err = cli("prepare", root, "--suggest", "words.txt", "--backbone", "deaf", "--out", "out")
    assert (status, "this model has no CLAP audio tower" in err) == (2, True)
