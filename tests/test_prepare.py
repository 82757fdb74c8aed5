"""The verb `prepare`: what it prints, writes and leaves alone, on folders with one fault of every kind."""

import base64
import csv
import hashlib
import io
import json
import os
import re
import shlex
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import scipy.signal
import soundfile
from PIL import Image

from audioldm_lit.data.audiocaps import AudioCaps
from audioldm_lit.data.folder import Folder
from audioldm_lit.data.phrasing import Phrasing
from audioldm_lit.errors import InputError
from audioldm_lit.health.advice import following
from audioldm_lit.places import packaged

import layouts
from layouts import bursts
from runs import REPOSITORY, arguments, run_folder

RATE = 16_000
SPLITS = ("train", "val", "test")
FOLDER = "audioldm_lit.data.folder.Folder"
EVIL = '<script>alert("1")</script> & <img src=x onerror=alert(2)>'


class Builder:
    """A folder of recordings with a metadata.csv, clip by clip."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.rows: list[list[object]] = [["file", "caption", "label", "source", "split"]]

    def add(
        self, split: str, name: str, samples: np.ndarray | bytes | None, caption: str = "", label: str = "dog", source: str = "",
        rate: int = RATE,
    ) -> None:  # fmt: skip
        path = self.root / split / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(samples, bytes):
            path.write_bytes(samples)
        elif samples is not None:
            soundfile.write(path, samples, rate)
        self.rows.append([f"{split}/{name}", caption or f"the sound of {Path(name).stem}", label, source, split])

    def done(self) -> Path:
        layouts.write_csv(self.root / "metadata.csv", self.rows)
        return self.root


def healthy(root: Path, clips: int = 4) -> Builder:
    """Two classes of sounds that differ, in every split."""
    builder = Builder(root)
    for number, split in enumerate(SPLITS):
        for clip in range(clips):
            label = ("dog", "rain")[clip % 2]
            builder.add(split, f"{label} {clip}.wav", bursts(100 * number + clip), f"sound {clip} of {label} for {split}", label)
    return builder


PLANTED = {  # what is planted: its kind and, of the clips, those that --fix leaves out
    "unreadable": {"train/empty.wav", "val/text.wav", "train/gone.wav"},
    "silent": {"train/zeros.wav", "test/offset.wav"},
    "contradiction": {"train/bark.wav", "train/drops.wav"},
    "leak": {"train/dog 0.wav", "train/rain 1.wav", "val/dog 2.wav"},
    "caption: empty": {"train/dashes.wav"},
    "exact copy": {"train/rain 3.wav"},
}  # fmt: skip
TOLD = {"near copy", "clipped", "constant offset", "mostly silent", "very short", "dull", "less than its rate says", "unlike level",
        "unlike length", "mixed formats", "caption: garbled", "caption: language", "missing audio"}  # fmt: skip


def planted(root: Path) -> Path:
    """A folder with one fault of every kind, and names that mean something in HTML."""
    builder = healthy(root)
    builder.add("train", "empty.wav", b"")
    builder.add("val", "text.wav", b"this is no recording")
    builder.add("train", "gone.wav", None)
    builder.add("train", "zeros.wav", np.zeros(RATE))
    builder.add("test", "offset.wav", np.full(RATE, 0.4))
    builder.add("train", "bark.wav", bursts(900), label="dog")
    builder.add("train", "drops.wav", bursts(900), label="rain")
    builder.add("test", "leak exact.wav", bursts(0))
    builder.add("val", "leak shifted.wav", 0.4 * np.concatenate([np.zeros(3000), bursts(1)]), label="rain")
    builder.add("test", "leak of val.wav", bursts(102))
    builder.add("train", "dashes.wav", bursts(901), "...")
    builder.add("train", "rain 3.flac", soundfile.read(root / "train" / "rain 3.wav")[0], "rain again", "rain")
    builder.add("train", "alike.wav", bursts(902))
    builder.add("train", "alike and quieter.wav", 0.3 * np.concatenate([np.zeros(2000), bursts(902)]))
    builder.add("train", "clipped.wav", (6 * bursts(903)).clip(-1, 1))
    builder.add("train", "dc.wav", bursts(904) + 0.2)
    builder.add("train", "late.wav", np.concatenate([np.zeros(9 * RATE), bursts(905)]))
    builder.add("train", "short.wav", bursts(906)[:1500])
    builder.add("val", "dull.wav", scipy.signal.resample(bursts(907)[::4], 44_100), rate=44_100)
    builder.add("val", "high rate.wav", scipy.signal.resample(bursts(908), 48_000), rate=48_000)
    builder.add("test", "quiet.wav", 0.02 * bursts(909))
    builder.add("test", "long.wav", bursts(910, 12))
    builder.add("test", "stereo.wav", np.stack([bursts(911), bursts(912)], axis=1))
    builder.add("test", "garbled.wav", bursts(913), "un cafÃ© bondÃ©")
    builder.add("test", "german.wav", bursts(914), "Ein Mann spricht, während im Hintergrund ein Hund bellt")
    builder.add("test", "<b> & ünï 犬 'q'.wav", bursts(915), EVIL, "cats & <i>dogs</i>")
    return builder.done()


def tree(root: Path) -> dict[str, tuple[str, int]]:
    """Hash and time of every file below a folder."""
    return {
        str(path.relative_to(root)): (hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_mtime_ns)
        for path in sorted(root.rglob("*")) if path.is_file()
    }  # fmt: skip


def options(root: Path, **more: object) -> list[object]:
    return ["--data", FOLDER, "--data.root", root, *(word for name, value in more.items() for word in (f"--{name}", value))]


def one_sentence(error: str) -> str:
    (line,) = [line for line in error.splitlines() if line.startswith("error: ")]
    assert line.endswith(".")
    assert "Traceback" not in error
    return line


@pytest.fixture(autouse=True)
def _wide(monkeypatch) -> None:
    """A terminal in which no cell of the table is broken into lines."""
    monkeypatch.setenv("COLUMNS", "600")


@pytest.fixture
def sick(workdir) -> Path:
    return planted(workdir / "data")


# ---------------------------------------------------------------- what is found


def test_a_healthy_folder_ends_well_and_is_left_as_it_was(cli, workdir):
    root = healthy(workdir / "data").done()
    before = tree(root)
    status, out, _ = cli("prepare", *options(root), "--data.duration", 1)
    assert status == 0
    assert "no clip and no split has anything wrong with it" in out
    assert "4 train, 4 val, 4 test clips; runs/prepare/health.html, runs/prepare/manifest.jsonl" in out
    assert tree(root) == before
    assert sorted(os.listdir(workdir / "runs" / "prepare")) == ["health.html", "manifest.jsonl"]


def test_every_planted_fault_is_found_and_ends_with_status_2(cli, workdir, sick):
    status, out, err = cli("prepare", *options(sick, json="found/findings.json"), "--data.duration", 1)
    assert status == 2
    report = json.loads((workdir / "found" / "findings.json").read_text(encoding="utf-8"))
    dropped = Counter()
    for finding in report["findings"]:
        dropped.update({(finding["kind"], name) for name in finding["drop"]})
        assert finding["where"]
        assert finding["problem"].strip()
        assert finding["mend"].strip()
    assert {kind: {name for k, name in dropped if k == kind} for kind in PLANTED} == PLANTED
    assert {kind for kind, _ in dropped} == set(PLANTED)
    assert {finding["kind"] for finding in report["findings"]} >= TOLD
    stopping = {name for one in report["findings"] if one["severity"] == "error" for name in one["clips"]}
    assert one_sentence(err) == (
        f"error: {sick}: {len(stopping)} clips stop training or spoil its scores; mend them, or leave them out with --fix."
    )
    for kind in {finding["kind"]: finding for finding in report["findings"]}:
        first = next(finding for finding in report["findings"] if finding["kind"] == kind)
        (line,) = [line for line in out.splitlines() if re.match(rf"│ {re.escape(kind)} +│", line)]
        assert first["mend"] in line
        assert f" {len({name for one in report['findings'] if one['kind'] == kind for name in one['clips']}) or ''} │" in line
    assert sorted(os.listdir(workdir / "runs" / "prepare")) == ["captions.csv", "health.html", "manifest.jsonl"]
    for finding in report["findings"]:
        assert finding["files"] == [str(sick / name) for name in dict.fromkeys(finding["clips"])]
    (line,) = [line for line in out.splitlines() if line.startswith("--fix leaves out")]
    assert line.startswith(f"--fix leaves out {len(set().union(*PLANTED.values()))} of {sum(report['clips'].values())} clips: ")
    assert all(any(f"{name} ({kind})" in line for kind in PLANTED) for _, name in dropped)
    assert f"next: python -m audioldm_lit prepare {sick} --data.init_args.duration 1.0 --fix true\n" in out
    assert "clipped.wav: " in next(line for line in out.splitlines() if line.startswith("│ clipped"))  # though a table lists it


def test_the_command_that_comes_next_repeats_every_setting_of_the_data():
    data = Folder("雨 音", caption=None, padding="repeat", phrasing=Phrasing(every="a {caption}"), duration=2.5)
    words = shlex.split(following("fit", data))[3:]
    given = {key.removeprefix("--data.init_args."): value for key, value in zip(words[1::2], words[2::2], strict=True)}
    assert words[0] == "fit"
    assert given == {"--folder": "雨 音", "caption": "null", "padding": "repeat", "phrasing": "FILE", "duration": "2.5"}


def test_captions_are_corrected_in_a_table_that_is_taken_back(cli, workdir, sick):
    cli("prepare", *options(sick))
    table = Path("runs/prepare/captions.csv")
    rows = {row[0]: row for row in table_rows(table)}
    assert rows["\ufefffile"][:4] == ["\ufefffile", "caption", "problem", "suggestion"]
    assert rows["test/german.wav"][1:3] == ["Ein Mann spricht, während im Hintergrund ein Hund bellt", "language"]
    with pytest.raises(InputError, match=r"the caption of 'train/dashes\.wav' is empty"):
        Folder(sick, table=table).present("train")
    by_id = {clip.id: replace(clip, where="") for split in SPLITS for clip in Folder(sick).clips(split)}
    for split in SPLITS:
        assert {clip.id: replace(clip, where="") for clip in Folder(sick, table=table).clips(split)} == {
            clip.id: by_id[clip.id] for clip in Folder(sick).clips(split)
        }
    corrected = table.read_text(encoding="utf-8").replace("...,empty", "a dash,empty")
    table.write_text(corrected, encoding="utf-8")
    _, out, _ = cli("prepare", *options(sick), "--data.table", table)
    assert "runs/prepare/captions.csv is left as it is" in out
    assert table.read_text(encoding="utf-8") == corrected
    assert "train/dashes.wav (caption: empty)" not in out


def test_the_findings_stand_at_the_line_of_the_table(cli, workdir, sick):
    cli("prepare", *options(sick, json="f.json"))
    rows = [row[0] for row in table_rows(sick / "metadata.csv")]
    for finding in json.loads(Path("f.json").read_text(encoding="utf-8"))["findings"]:
        if line := re.fullmatch(r".*metadata\.csv, line (\d+)", finding["where"]):
            assert rows[int(line[1]) - 1] in finding["clips"]
        else:
            assert finding["severity"] != "error"


def table_rows(table: Path) -> list[list[str]]:
    with table.open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


def test_the_counts_in_the_json_are_those_of_the_table(cli, workdir, sick):
    cli("prepare", *options(sick, json="f.json"))
    report = json.loads(Path("f.json").read_text(encoding="utf-8"))
    rows = table_rows(sick / "metadata.csv")[1:]
    assert report["clips"] == Counter(row[4] for row in rows)
    assert {(label, split): count for label, of in report["classes"].items() for split, count in of.items() if count} == Counter(
        (row[2], row[4]) for row in rows
    )
    dropped = {name for finding in report["findings"] for name in finding["drop"]}
    assert report["kept"] == len(rows) - len(dropped)
    assert report["coverage"]["train"].startswith(f"{report['clips']['train'] - 1} of {report['clips']['train']} clips")
    files = [sick / row[0] for row in rows if not any(bad in row[0] for bad in ("empty", "text", "gone"))]
    seconds = sum(info.frames / info.samplerate for info in map(soundfile.info, files))
    assert report["hours"] * 3600 == pytest.approx(seconds)


# ---------------------------------------------------------------- the manifest


def same(data, other) -> None:
    for split in SPLITS:
        assert [(clip.id, clip.path, clip.caption, clip.label, clip.source) for clip in data.clips(split)] == [
            (clip.id, clip.path, clip.caption, clip.label, clip.source) for clip in other.clips(split)
        ]


def test_the_manifest_read_again_gives_the_same_clips(cli, workdir, sick):
    cli("prepare", *options(sick))
    same(Folder(sick, table=Path("runs/prepare/manifest.jsonl")), Folder(sick))


def test_the_manifest_of_a_folder_without_a_table_gives_the_same_clips(cli, workdir):
    root = layouts.folder(workdir / "a folder")["root"]
    assert cli("prepare", *options(root, out="out"))[0] == 0
    same(Folder(root, table=Path("out/manifest.jsonl")), Folder(root))


def test_the_manifest_of_several_captions_a_file_gives_all_of_them(cli, workdir):
    root = layouts.audiocaps(workdir / "caps")["root"]
    for number, path in enumerate(sorted(path for path in root.rglob("*") if path.suffix in (".wav", ".flac"))):
        soundfile.write(path, bursts(number), RATE)
    args = ["--data", "audioldm_lit.data.audiocaps.AudioCaps", "--data.root", root, "--data.captions", "all"]
    status, _, err = cli("prepare", *args, "--out", "out", "--fix", "--json", "f.json")
    assert status == 0, err
    report = json.loads(Path("f.json").read_text())
    assert not {"exact copy", "near copy", "leak"} & {finding["kind"] for finding in report["findings"]}
    assert report["coverage"]["train"] == "10 of 12 clips, 83.3 %"
    read, data = Folder(root, table=Path("out/clean.jsonl")), AudioCaps(root, captions="all")
    for split in SPLITS:
        there = [clip for clip in data.clips(split) if clip.path.is_file()]
        assert [(clip.id, clip.path, clip.caption) for clip in read.clips(split)] == [
            (clip.id, clip.path, clip.caption) for clip in there
        ]
    assert len(read.clips("val")) == 20


def test_a_manifest_line_holds_the_measurement(cli, workdir, sick):
    cli("prepare", *options(sick))
    lines = {row["id"]: row for row in map(json.loads, Path("runs/prepare/manifest.jsonl").read_text().splitlines())}
    assert lines["train/zeros.wav"]["level_db"] is None
    assert lines["train/zeros.wav"]["silent_share"] == 1
    assert lines["test/long.wav"]["duration"] == 12
    assert lines["test/stereo.wav"]["channels"] == 2
    assert lines["train/clipped.wav"]["clipped"] is True
    assert lines["train/empty.wav"]["error"].startswith(f"{sick / 'train/empty.wav'}: is empty")
    assert lines["train/rain 3.flac"]["digest"] == lines["train/rain 3.wav"]["digest"]


# ---------------------------------------------------------------- --fix


def folder_fit(model: Path, root: Path, table: Path, steps: int = 2) -> list[object]:
    """Arguments of a short run on a folder."""
    words = arguments(model, {"root": root, "shots": None}, steps)
    return ["fit", *words[:2], "--data", FOLDER, *words[2:], "--data.init_args.table", table]


def test_what_fix_leaves_has_no_errors_and_trains(cli, workdir, sick, tiny_folder):
    before = tree(sick)
    status, out, err = cli("prepare", *options(sick), "--fix")
    assert status == 0, err
    listed, dropped = len(table_rows(sick / "metadata.csv")) - 1, set().union(*PLANTED.values())
    assert f"runs/prepare/clean.jsonl keeps {listed - len(dropped)} of {listed} clips" in out
    clean = workdir / "runs" / "prepare" / "clean.jsonl"
    kept = {json.loads(line)["id"] for line in clean.read_text(encoding="utf-8").splitlines()}
    assert kept == {row[0] for row in table_rows(sick / "metadata.csv")[1:]} - dropped

    status, _, err = cli("prepare", *options(sick, out="again", json="again.json"), "--data.table", clean)
    assert status == 0, err
    again = json.loads(Path("again.json").read_text(encoding="utf-8"))
    assert not [finding for finding in again["findings"] if finding["severity"] == "error" or finding["drop"]]
    assert again["kept"] == len(kept)

    assert cli("prepare", *options(sick), "--data.table", "runs/prepare/clean.jsonl")[0] == 0  # which it is not taken away from

    status, _, err = cli(*folder_fit(tiny_folder, sick, clean))
    assert status == 0, err
    assert (run_folder(workdir) / "adapter.safetensors").is_file()
    assert tree(sick) == before


def test_without_fix_no_clean_manifest_is_written(cli, workdir):
    root = healthy(workdir / "data").done()
    cli("prepare", *options(root))
    assert not Path("runs/prepare/clean.jsonl").exists()


def test_where_nothing_is_wrong_fix_keeps_everything(cli, workdir):
    root = healthy(workdir / "data").done()
    assert cli("prepare", *options(root), "--fix")[0] == 0
    assert Path("runs/prepare/clean.jsonl").read_bytes() == Path("runs/prepare/manifest.jsonl").read_bytes()


# ---------------------------------------------------------------- --cache


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("fix", [pytest.param(False, marks=pytest.mark.nightly), True])
def test_after_cache_a_run_encodes_nothing(cli, workdir, tiny_folder, fix):
    builder = healthy(workdir / "data")
    # A copy in another format: without --fix the run trains on both.
    builder.add("train", "dog 0.flac", soundfile.read(builder.root / "train" / "dog 0.wav")[0], "a copy", "dog")
    if fix:
        builder.add("train", "zeros.wav", np.zeros(RATE), "nothing")
    root = builder.done()
    args = options(root, backbone=tiny_folder, cache_dir=workdir / "cache" / "audioldm_lit")
    status, out, err = cli("prepare", *args, "--data.duration", 0.64, "--cache", *(["--fix"] if fix else []))
    assert status == 0, err
    before = files(workdir / "cache" / "audioldm_lit")
    assert {name.split("-")[0] for name in before} == {"latents", "text"}
    assert "encoded at 0.64 s" in out
    (said,) = [line.partition("python -m audioldm_lit ")[2] for line in out.splitlines() if " audioldm_lit fit " in line]
    words = shlex.split(said)
    assert words[words.index("--model.backbone") + 1] == str(tiny_folder)
    cheap = arguments(tiny_folder, {}, steps=2)[2:]  # without its configuration
    cheap = [word for pair in zip(cheap[::2], cheap[1::2], strict=True) if not pair[0].startswith("--data") for word in pair]
    status, _, err = cli(*words, *cheap)
    assert status == 0, err
    added = files(workdir / "cache" / "audioldm_lit") - before
    assert {name.split("/")[0] for name in added} == {"base-loss"}


def test_nothing_is_encoded_where_something_stops_training(cli, workdir, sick, tiny_folder):
    status, _, err = cli("prepare", *options(sick, backbone=tiny_folder, cache_dir="encoded"), "--cache")
    assert status == 2
    assert "leave them out with --fix" in err
    assert not Path("encoded").exists()


# ---------------------------------------------------------------- missing audio, configurations, wrong requests


def test_audio_may_be_missing_where_that_is_allowed(cli, workdir):
    builder = healthy(workdir / "data", clips=6)
    builder.add("train", "gone.wav", None)
    root = builder.done()
    assert cli("prepare", *options(root))[0] == 2
    status, _, err = cli("prepare", *options(root, json="f.json"), "--data.min_coverage", 0.8)
    assert status == 0, err
    report = json.loads(Path("f.json").read_text())
    assert report["clips"]["train"] == 6
    assert [(one["kind"], one["where"]) for one in report["findings"] if one["severity"] == "warning"] == [
        ("missing audio", "train split")
    ]
    status, _, err = cli("prepare", *options(root), "--data.min_coverage", 0.9)
    assert status == 2
    assert "6 of 7 clips, 85.7 % of the train split" in one_sentence(err)


def test_a_set_without_any_audio_is_still_a_report(cli, workdir):
    builder = Builder(workdir / "data")
    for split in SPLITS:
        builder.add(split, "gone.wav", None)
    status, _, err = cli("prepare", *options(builder.done(), json="f.json"), "--data.min_coverage", 0)
    assert status == 2
    assert "train split: has no clip" in err
    assert json.loads(Path("f.json").read_text())["clips"] == dict.fromkeys(SPLITS, 0)
    assert "<svg" in Path("runs/prepare/health.html").read_text()


def test_the_shipped_configuration_of_a_folder_works(cli, workdir):
    root = layouts.folder(workdir / "recordings")["root"]
    status, out, err = cli("prepare", "--config", REPOSITORY / "configs/data/folder.yaml", "--data.root", root)
    assert status == 0, err
    assert "12 train, 3 val, 3 test clips" in out


def test_a_single_clip_in_a_folder_named_in_unicode_is_examined(cli, workdir):
    builder = Builder(workdir / "Geräusche – 音")
    builder.add("train", "犬 🐕.wav", bursts(1), "犬が吠える", "犬")
    status, _, err = cli("prepare", *options(builder.done(), json="ü/f.json", out="ö/aus"), "--fix")
    assert status == 2
    assert "val split: has no clip; add clips" in err
    report = json.loads(Path("ü/f.json").read_text(encoding="utf-8"))
    assert "犬 🐕.wav" in Path("ü/f.json").read_text(encoding="utf-8")
    assert [finding["kind"] for finding in report["findings"]] == ["empty split", "caption: language", "empty split", "padded"]
    assert "犬が吠える" in Path("ö/aus/health.html").read_text(encoding="utf-8")
    assert Folder(builder.root, table=Path("ö/aus/clean.jsonl")).clips("train")[0].path.name == "犬 🐕.wav"


@pytest.mark.parametrize("workers", [0, -1])
def test_a_wrong_number_of_workers_is_one_sentence(cli, workdir, workers):
    root = healthy(workdir / "data").done()
    status, _, err = cli("prepare", *options(root, num_workers=workers))
    assert status == 2
    assert f"--num_workers: is {workers}" in one_sentence(err)
    assert not Path("runs").exists()


def test_a_file_in_the_place_of_the_output_is_one_sentence(cli, workdir):
    root = healthy(workdir / "data").done()
    Path("taken").write_text("a file")
    for option in ("out", "json"):
        status, _, err = cli("prepare", *options(root, **{option: "taken" if option == "out" else "taken/f.json"}))
        assert status == 2
        assert "taken" in one_sentence(err)
        assert Path("taken").read_text() == "a file"


@pytest.mark.parametrize("wrong", ["no folder", "empty folder", "empty table", "a split of its own"])
def test_a_data_set_that_lists_nothing_is_one_sentence(cli, workdir, wrong):
    root = workdir / "data"
    if wrong != "no folder":
        root.mkdir()
    if wrong == "empty table":
        (root / "metadata.csv").write_text("file,caption\n")
    if wrong == "a split of its own":
        (root / "metadata.csv").write_text("file,caption,split\na.wav,dog,training\n")
    status, _, err = cli("prepare", *options(root))
    assert status == 2
    assert str(root) in one_sentence(err)
    assert not Path("runs").exists()


def test_results_do_not_hang_on_the_number_of_workers(cli, workdir, sick):
    pages = []
    for workers in (1, 4):
        cli("prepare", *options(sick, num_workers=workers, out=f"out{workers}", json="f.json"))
        manifest = Path(f"out{workers}/manifest.jsonl").read_text(encoding="utf-8")
        pages.append((manifest, re.sub(r"similarity [\d.]+", "", Path("f.json").read_text(encoding="utf-8"))))
    assert pages[0] == pages[1]


# ---------------------------------------------------------------- the page


OWN = ("#clip-", "data:audio/mpeg;base64,", "data:image/webp;base64,")  # what a page may point to
SCRIPT = packaged("health/page.js").read_text(encoding="utf-8")


class Page(HTMLParser):
    """Elements, the attributes that load something, and the text of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: Counter[str] = Counter()
        self.loads: list[str] = []
        self.attributes: list[tuple[str, dict[str, str]]] = []
        self.open: list[str] = []
        self.text: list[str] = []
        self.whole = text
        self.feed(text)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags[tag] += 1
        self.loads += [
            f"{tag} {name}" for name, value in attrs
            if (name in ("src", "href", "srcset", "data", "action") and not value.startswith(OWN)) or name[:2] == "on"
        ]  # fmt: skip
        self.attributes += [(tag, dict(attrs))]
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def test_the_page_is_one_file_that_loads_nothing_and_runs_its_own_script_alone(cli, workdir, sick):
    cli("prepare", *options(sick))
    text = Path("runs/prepare/health.html").read_text(encoding="utf-8")
    page = Page(text)
    assert page.open == []
    assert page.loads == []
    assert not set(page.tags) & {"img", "link", "iframe", "object", "b>"}
    assert page.tags["script"] == 1
    (script,) = re.findall(r"<script>(.*)</script>", text, re.DOTALL)
    (policy,) = [
        given["content"] for tag, given in page.attributes if tag == "meta" and "content" in given and "src" in given["content"]
    ]
    assert policy.startswith("default-src 'none'; img-src data:; media-src data:; style-src 'unsafe-inline'; script-src 'sha256-")
    assert policy.endswith(f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}'")
    assert "://" not in text
    assert "url(" not in text
    assert "@import" not in text


def test_the_page_names_every_kind_of_finding_and_what_is_wrong_in_html(cli, workdir, sick):
    cli("prepare", *options(sick, json="f.json"))
    report = json.loads(Path("f.json").read_text(encoding="utf-8"))
    text = Path("runs/prepare/health.html").read_text(encoding="utf-8")
    page = Page(text)
    shown = " ".join("".join(page.text).split())
    kinds = Counter(finding["kind"] for finding in report["findings"])
    assert page.tags["details"] == len(kinds)
    for kind, count in kinds.items():
        severity = next(finding["severity"] for finding in report["findings"] if finding["kind"] == kind)
        assert f"{kind} {severity}, {count}" in shown
    for finding in report["findings"]:
        for part in ("where", "problem", "mend"):
            assert " ".join(finding[part].split()) in shown
    assert "cats & <i>dogs</i>" in shown
    assert "cats &amp; &lt;i&gt;dogs&lt;/i&gt;" in text
    for severity in ("error", "warning", "note"):
        assert f'<details class="{severity}"' in text


def test_every_clip_that_a_finding_names_can_be_heard_and_seen(cli, workdir, sick):
    cli("prepare", *options(sick, json="f.json"))
    findings = json.loads(Path("f.json").read_text(encoding="utf-8"))["findings"]
    page = Page(Path("runs/prepare/health.html").read_text(encoding="utf-8"))
    broken = {name for one in findings if one["kind"] == "unreadable" for name in one["files"]}
    named = {name for one in findings for name in one["files"]} - broken
    figures = re.findall(
        r'<figcaption>([^<]+)</figcaption>\s<svg[^>]+>\s<image href="([^"]+)".*?<audio [^>]+src="([^"]+)"', page.whole, re.DOTALL
    )
    sounds = {unescape(name): (picture, sound) for name, picture, sound in figures}
    assert named <= set(sounds)
    for name in (str(sick / "test" / "long.wav"), str(sick / "test" / "quiet.wav")):
        picture, sound = (base64.b64decode(uri.partition(",")[2]) for uri in sounds[name])
        heard, rate = soundfile.read(io.BytesIO(sound))
        recorded = soundfile.read(name)[0]
        assert len(heard) / rate == pytest.approx(min(3.0, len(recorded) / RATE), abs=0.15)
        assert np.abs(heard).max() == pytest.approx(np.abs(recorded).max(), rel=0.5)
        assert Image.open(io.BytesIO(picture)).size[1] == 64
    points = [given for tag, given in page.attributes if tag == "circle" and "r" in given and given["r"] in ("4", "6")]
    assert len(points) > 20
    assert {given["href"] for tag, given in page.attributes if tag == "a"} <= {
        f"#{given['id']}" for tag, given in page.attributes if tag == "figure" and "id" in given
    }


def test_captions_classes_and_file_names_are_escaped(cli, workdir):
    root = workdir / "a <b> & c"
    folder = root / "<i>cats</i> & dogs".replace("/", "")
    for number in range(3):
        path = folder / f"<script>alert({number})&.wav"
        layouts.tone(path, 300)
        soundfile.write(path, np.zeros(RATE), RATE)
        path.with_suffix(".txt").write_text(f"{EVIL} Ã¤ {number}")
    status, out, _ = cli("prepare", *options(root))
    assert status == 2
    page = Page(Path("runs/prepare/health.html").read_text(encoding="utf-8"))
    assert page.open == []
    assert page.loads == []
    assert not set(page.tags) & {"img", "b>", "i"}
    assert page.tags["script"] == 1
    shown = "".join(page.text)
    for number in range(3):
        assert f"{folder}/<script>alert({number})&.wav" in shown
    assert f"'{EVIL[:50]}" in shown
    assert f"{folder.name}" in shown.split("Classes")[1]
    assert re.search(r"│ <script>alert\(\d\)&\.wav: ", out)


def test_square_brackets_in_names_do_not_change_what_is_printed(cli, workdir):
    builder = Builder(workdir / "[bold]")
    builder.add("train", "[red]a[/red].wav", np.zeros(RATE), "[/] rain_drops_[blue]")
    status, out, _ = cli("prepare", *options(builder.done(), out="[out]"))
    assert status == 2
    assert "1 train, 0 val, 0 test clips; [out]/health.html, [out]/manifest.jsonl" in out


def test_more_findings_than_the_page_shows_are_counted_on_it(cli, workdir):
    builder = Builder(workdir / "data")
    for number in range(203):
        builder.add("train", f"{number}.wav", b"")
    cli("prepare", *options(builder.done(), json="f.json"))
    page = " ".join("".join(Page(Path("runs/prepare/health.html").read_text()).text).split())
    assert "unreadable error, 203" in page
    assert "and 3 more, all in the file of --json" in page
    assert sum(one["kind"] == "unreadable" for one in json.loads(Path("f.json").read_text())["findings"]) == 203


# ---------------------------------------------------------------- many clips

MEASURED = """
import sys
from audioldm_lit.cli import main
try:
    main(sys.argv[1:])
finally:
    status = dict(line.split(":", 1) for line in open("/proc/self/status"))  # ru_maxrss would count the parent's memory too
    print("peak", status["VmHWM"].split()[0], file=sys.stderr)
"""


def many(root: Path, count: int) -> dict[str, set[str]]:
    """Short bursts of noise that differ, and among them ten each of four faults; gives the clips of each."""
    rng = np.random.default_rng(0)
    shape = np.hanning(1600)
    header = None
    rows: list[list[object]] = [["file", "caption", "label", "split"]]
    names = [f"{('train', 'train', 'train', 'val', 'test')[number % 5]}/{number:05d}.wav" for number in range(count)]
    train, test = ([name for name in names if name.startswith(split)] for split in ("train", "test"))
    faults = {
        "silent": set(train[100:110]),
        "unreadable": set(train[200:210]),
        "exact copy": set(train[300:310]),
        "leak": set(train[400:410]),
    }
    copy_of = dict(zip(train[300:310], train[500:510], strict=True)) | dict(zip(test[:10], train[400:410], strict=True))
    for split in SPLITS:
        (root / split).mkdir(parents=True)
    written: dict[str, bytes] = {}
    wanted = set(copy_of.values())
    for name in names:
        samples = 3000 * shape ** rng.uniform(0.2, 3) * rng.standard_normal(1600) + 30 * rng.standard_normal(1600)
        if header is None:
            soundfile.write(root / name, np.zeros(1600, dtype="int16"), 8000)
            header = (root / name).read_bytes()[:44]
        data = (
            np.zeros(1600, "<i2").tobytes() if name in faults["silent"] else samples.clip(-32_000, 32_000).astype("<i2").tobytes()
        )
        if name in wanted:
            written[name] = data
        (root / name).write_bytes(header + (data[:1000] if name in faults["unreadable"] else data))
    for copy, original in copy_of.items():
        (root / copy).write_bytes(header + written[original])
    rows += [[name, f"noise number {number} of many", "noise", name.split("/")[0]] for number, name in enumerate(names)]
    layouts.write_csv(root / "metadata.csv", rows)
    faults["exact copy"] = {max(pair) for pair in copy_of.items() if pair[0] in faults["exact copy"]}
    return faults


@pytest.mark.nightly
@pytest.mark.parametrize("count", [1000, 20_000])
def test_many_clips_are_examined_in_bounded_memory(workdir, count):
    root = workdir / "many"
    faults = many(root, count)
    args = ["prepare", *options(root, json="f.json"), "--data.sample_rate", "8000", "--fix"]
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, *map(str, args)], capture_output=True, text=True, check=False,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    peak = int(re.search(r"^peak (\d+)$", done.stderr, re.MULTILINE)[1])
    assert peak < 1_500_000, peak  # kB
    report = json.loads(Path("f.json").read_text())
    assert report["clips"] == {"train": 3 * count // 5, "val": count // 5, "test": count // 5}
    for kind, names in faults.items():
        assert {name for one in report["findings"] if one["kind"] == kind for name in one["drop"]} == names, kind
    assert report["kept"] == count - 40
