"""Long recordings: their stretches and windows, and how much of all sound is used."""

from pathlib import Path

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from audioldm_lit.audio.events import events, frame_powers, windows
from audioldm_lit.audio.loudest import read_loudest
from audioldm_lit.data.folder import Folder
from audioldm_lit.errors import InputError
from audioldm_lit.health.checkup import examine
from audioldm_lit.health.measure import measure
from audioldm_lit.health.report import write_manifest

RATE = 16_000
SPLITS = ("train", "val", "test")


def recording(path: Path, seconds: float, bursts: list[tuple[float, float]], seed: int = 0, level: float = 0.1) -> Path:
    """Noise of -60 dB with bursts of noise, from start to end in seconds, in two channels of opposite polarity."""
    rng = np.random.default_rng(seed)
    samples = 0.001 * rng.standard_normal(round(seconds * RATE))
    for start, end in bursts:
        place = slice(round(start * RATE), round(end * RATE))
        samples[place] += level * rng.standard_normal(len(samples[place]))
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.stack([samples, -samples], axis=1), RATE)
    return path


def found(path: Path, duration: float = 2.0) -> list[tuple[float, float]]:
    return events(*frame_powers(path), duration)


def test_each_stretch_that_sounds_is_an_event(tmp_path):
    bursts = [(1.0, 1.5), (4.0, 4.06), (8.0, 9.0), (9.3, 9.6), (14.7, 15.0)]
    spans = found(recording(tmp_path / "a.wav", 15, bursts))
    expected = [(0.9, 1.6), (3.9, 4.16), (7.9, 9.7), (14.6, 15.0)]  # 0.3 s of silence part nothing
    assert np.array(spans) == pytest.approx(np.array(expected), abs=0.021)


@pytest.mark.parametrize("level", [0.02, 0.1, 0.3])
def test_quiet_and_dense_recordings_have_their_events_too(tmp_path, level):
    sparse = found(recording(tmp_path / "a.wav", 60, [(30, 30.5)], level=level))
    dense = found(recording(tmp_path / "b.wav", 12, [(0, 3.9), (4.7, 7.9), (8.7, 12)], level=level), duration=4.0)
    assert len(sparse) == 1
    assert len(dense) == 3


def test_what_sounds_throughout_is_cut_into_windows(tmp_path):
    spans = found(recording(tmp_path / "rain.wav", 9.3, [(0, 9.3)]))
    assert spans == windows(0, 9.3, 2.0)
    assert len(spans) == 5
    assert found(recording(tmp_path / "none.wav", 9.3, [], level=0)) == spans  # noise alone is what there is


def test_silence_has_no_event(tmp_path):
    soundfile.write(tmp_path / "a.wav", np.full(5 * RATE, 0.2), RATE)
    assert found(tmp_path / "a.wav") == []


@settings(max_examples=200, deadline=None)
@given(st.floats(0, 100), st.floats(0.02, 500), st.floats(0.3, 20))
def test_windows_leave_out_less_than_half_of_one_and_overlap_by_no_more(start, length, duration):
    spans = windows(start, start + length, duration)
    assert spans[0][0] == pytest.approx(start)
    assert all(start <= one < other <= start + length + 1e-6 for one, other in spans)
    assert all(other - one == pytest.approx(min(duration, length), abs=1e-6) for one, other in spans)
    assert start + length - spans[-1][1] <= duration / 2 + 1e-6
    steps = np.diff([one for one, _ in spans])
    assert np.all(steps >= duration / 2 - 1e-6)
    assert steps[:-1] == pytest.approx(np.full(len(steps) - 1, duration)) if len(steps) > 1 else True


# ---------------------------------------------------------------- a folder of long recordings


@pytest.fixture(scope="module")
def field(tmp_path_factory) -> Path:
    """Five recordings of half a minute, one of a second, and one that is broken."""
    root = tmp_path_factory.mktemp("field") / "field"
    for number in range(5):
        recording(
            root / f"take {number}.flac", 30, [(5 * k + number / 3 + 0.2, 5 * k + number / 3 + 1.0) for k in range(6)], number
        )
    recording(root / "short.wav", 1, [(0.2, 0.6)], 9)
    (root / "broken.wav").write_bytes(b"hello")
    return root


def listed(data: Folder) -> dict[str, list]:
    return {split: data.clips(split) for split in SPLITS}


@pytest.mark.parametrize(("segment", "count"), [("none", 1), ("events", 6), ("windows", 15)])
def test_no_recording_straddles_two_splits(field, segment, count):
    clips = listed(data := Folder(field, segment=segment, duration=2.0))
    of_source = {split: {clip.source for clip in clips[split]} for split in SPLITS}
    assert not of_source["train"] & (of_source["val"] | of_source["test"])
    assert not of_source["val"] & of_source["test"]
    everything = [clip for split in SPLITS for clip in clips[split]]
    assert len({clip.id for clip in everything}) == len(everything) == 5 * count + 2
    assert {clip.source for clip in everything} == {*(f"take {number}" for number in range(5)), "short", "broken"}
    assert {split: {clip.source for clip in one} for split, one in listed(Folder(field, duration=2.0)).items()} == of_source
    (remark,) = [one for one in data.remarks if one.kind == "used"]
    uses = {
        "none": "uses 11 s of 2.5 min in 7 recordings, of 5 clips that are longer than 2 s, the loudest 2 s",
        "events": "uses 31 s of 2.5 min in 7 recordings, cut into 32 events",
        "windows": "uses 2.5 min of 2.5 min in 7 recordings, cut into 77 windows",
    }
    assert remark.problem == uses[segment]


def test_what_prepare_lists_of_the_parts_is_read_again(field, tmp_path):
    data = Folder(field, segment="events", duration=2.0)
    checkup = examine(data, tmp_path, 1)
    assert {item.clip.id for item in checkup.items if item.error} == {"broken.wav"}
    parts = [item for item in checkup.items if item.clip.span]
    assert len(parts) == 30
    assert all(0.98 <= item.measurement.duration <= 1.02 for item in parts)
    write_manifest(tmp_path / "clean.jsonl", checkup.kept, field)
    again = Folder(field, table=tmp_path / "clean.jsonl", segment="windows", duration=2.0)
    for split in SPLITS:
        kept = {item.clip.id: item.clip.part for item in checkup.kept if item.split == split}
        assert {clip.id: clip.part for clip in again.clips(split)} == kept


def test_a_table_may_name_parts(field, tmp_path):
    table = tmp_path / "parts.csv"
    rows = ["take 0.flac,a bark,0.5,1.5,train", "take 0.flac,a bark,2,3.25,train", "take 1.flac,a howl,,,val"]
    table.write_text("\n".join(["file,caption,start,end,split", *rows, ""]))
    clips = listed(Folder(field, table=table))
    assert [clip.span for clip in clips["train"]] == [(0.5, 1.5), (2.0, 3.25)]
    assert [clip.id for clip in clips["train"]] == ["take 0.flac#00000.500", "take 0.flac#00002.000"]
    assert [clip.span for clip in clips["val"]] == [None]
    for wrong in ("1.5,0.5", "-1,2", "a,b", "nan,inf", "1.5,", ",2"):
        table.write_text(f"file,caption,start,end\ntake 0.flac,a bark,{wrong}\n")
        with pytest.raises(InputError, match=r"parts\.csv, line 2: start and end are .*; write both in seconds, the start before"):
            Folder(field, table=table).clips("train")
    table.write_text("file,caption,start,end\ntake 0.flac,a bark,40,41\n")
    with pytest.raises(InputError, match=r"take 0\.flac: holds no samples from 40 s on"):
        measure(*Folder(field, table=table).clips("train")[0].part)


@pytest.mark.parametrize("suffix", ["wav", "flac", "ogg", "mp3"])
def test_parts_in_any_order_are_what_they_are_in_the_whole(tmp_path, suffix):
    samples = np.random.default_rng(0).uniform(-0.5, 0.5, 8 * RATE)
    soundfile.write(path := tmp_path / f"a.{suffix}", samples, RATE)
    whole = read_loudest(path, RATE, 10**9)[0]
    for start, end in [(1.0, 2.0), (2.5, 3.0), (2.75, 5.0), (0.25, 0.5), (7.0, 9.0)]:
        part = read_loudest(path, RATE, 10**9, (start, end))[0]
        assert part.equal(whole[round(start * RATE) : round(end * RATE)])


def test_what_is_no_sound_is_told(field, tmp_path):
    for name in ("cover.jpg", "session.rpp", "notes.txt"):
        (tmp_path / name).write_bytes(b"x")
    recording(tmp_path / "a.wav", 1, [(0.2, 0.6)])
    data = Folder(tmp_path)
    data.clips("train")
    (remark,) = [str(one) for one in data.remarks if one.kind == "no sound"]
    assert "leaves out cover.jpg and session.rpp, which hold no sound" in remark
