"""Formats that libsndfile does not read: sample for sample what FFmpeg decodes, in place, and whole."""

import shutil
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import soundfile

from audioldm_lit.audio.decoding import open_audio, read_channels
from audioldm_lit.audio.loudest import read_loudest
from audioldm_lit.data.files import recordings
from audioldm_lit.errors import InputError

from encoded import RATE, by_frames, encode, sweep

LOSSLESS = {  # name: codec, box where the name does not say it
    "alac.m4a": ("alac", None), "pcm.mov": ("pcm_s16le", None), "s24.mov": ("pcm_s24le", None),
    "float.mov": ("pcm_f32le", None), "double.mka": ("pcm_f64le", None), "u8.avi": ("pcm_u8", None),
    "s16.avi": ("pcm_s16le", None), "a.wv": ("wavpack", None), "a.tta": ("tta", None), "a.mka": ("flac", None),
    "flac.mp4": ("flac", None),
}  # fmt: skip
LOSSY = {  # the encoder's delay is taken away where the box says how long it is
    "aac.m4a": ("aac", None), "aac.mp4": ("aac", None), "aac.mov": ("aac", None), "a.m4b": ("aac", "ipod"),
    "aac.mkv": ("aac", None), "opus.webm": ("libopus", None), "opus.mkv": ("libopus", None), "opus.mp4": ("libopus", None),
    "mp3.mp4": ("libmp3lame", None),
}  # fmt: skip
DELAYED = {  # no box says it
    "a.aac": ("aac", "adts"), "a.flv": ("aac", None), "aac.ts": ("aac", "mpegts"), "mp3.avi": ("libmp3lame", None),
    "mp3.mkv": ("libmp3lame", None), "a.wma": ("wmav2", "asf"), "old.wma": ("wmav1", "asf"), "a.ac3": ("ac3", None),
    "a.eac3": ("eac3", None), "ac3.mov": ("ac3", None), "ac3.wav": ("ac3", None), "a.mpg": ("mp2", None),
    "mp2.ts": ("mp2", "mpegts"), "a.rm": ("ac3", None), "a.3gp": ("libopencore_amrnb", None),
    "a.amr": ("libopencore_amrnb", None), "aac.3gp": ("aac", None), "ima.mov": ("adpcm_ima_qt", None),
    "yamaha.wav": ("adpcm_yamaha", None), "wma.wav": ("wmav2", None), "g722.wav": ("g722", None), "a.nut": ("mp2", None),
    "a.adx": ("adpcm_adx", None), "a.sbc": ("sbc", None), "alac.caf": ("alac", None),
}  # fmt: skip
RATES = {"libopus": 48_000, "libopencore_amrnb": 8000, "g722": 16_000}


def written(folder: Path, name: str) -> tuple[Path, np.ndarray]:
    codec, box = (LOSSLESS | LOSSY | DELAYED)[name]
    rate = RATES.get(codec, RATE)
    samples = sweep(1 if codec in ("libopencore_amrnb", "g722") else 2, 1.0, rate)
    return encode(folder / name, codec, samples, rate, box), samples


@pytest.mark.parametrize("name", [*LOSSLESS, *LOSSY, *DELAYED])
def test_what_libsndfile_does_not_read_is_what_ffmpeg_decodes(tmp_path, name):
    path, samples = written(tmp_path, name)
    with pytest.raises(soundfile.LibsndfileError):
        soundfile.info(path)
    channels, rate = read_channels(path)
    expected = by_frames(path)
    assert np.array_equal(channels.numpy(), expected)
    assert rate == RATES.get((LOSSLESS | LOSSY | DELAYED)[name][0], RATE)
    assert abs(channels.shape[1] - samples.shape[1]) < 0.06 * rate  # frames of the encoder
    with open_audio(path) as recording:
        assert np.array_equal(np.concatenate(list(recording.pieces(num_frames=777))).T, expected)
    with open_audio(path) as recording:
        part = np.concatenate(list(recording.pieces(span=(0.25, 0.5))))
    assert np.array_equal(part.T, expected[:, round(0.25 * rate) : round(0.5 * rate)])


@pytest.mark.parametrize(("name", "subtype"), [("a.wav", "GSM610"), ("a.wav", "G721_32"), ("a.au", "G721_32"), ("a.au", "G723_24")])
def test_telephones_codecs_that_cannot_tell_their_place_are_read_in_pieces(tmp_path, name, subtype):
    soundfile.write(path := tmp_path / name, sweep(1, 2.0, 8000)[0], 8000, subtype=subtype)
    whole = read_channels(path)[0].numpy()
    assert whole.shape[1] == pytest.approx(16_000, abs=400)
    assert np.corrcoef(whole[0, :15_000], sweep(1, 2.0, 8000)[0, :15_000])[0, 1] > 0.7
    assert np.array_equal(whole[0], soundfile.read(path, dtype="float32")[0])
    assert np.array_equal(read_channels(path, (0.5, 1.5))[0].numpy(), whole[:, 4000:12_000])
    with open_audio(path) as recording:
        assert np.array_equal(np.concatenate(list(recording.pieces(num_frames=777))).T, whole)


def test_a_small_file_that_unfolds_to_much_is_refused_whole_and_cut_within_bounds(tmp_path):
    silence = np.zeros(2**20, dtype=np.int16)
    with soundfile.SoundFile(path := tmp_path / "long.flac", "w", 16_000, 1) as file:
        for number in range(33):
            file.write(silence if number != 20 else (20_000 * sweep(1, 2.0, 16_000)[0]).astype(np.int16))
    assert path.stat().st_size < 2**18
    with pytest.raises(InputError, match=r"long\.flac: lasts 0\.6 h in 1 channels, too long for a clip; cut it into pieces"):
        read_channels(path)
    tracemalloc.start()
    try:
        loudest = read_loudest(path, 16_000, 16_000)[0]
        assert tracemalloc.get_traced_memory()[1] < 2**27  # whole, it would be twice that
    finally:
        tracemalloc.stop()
    assert loudest.abs().max() > 0.1


def test_a_file_of_almost_nothing_that_unfolds_to_gigabytes_is_refused_as_it_is_opened(tmp_path, monkeypatch):
    monkeypatch.setattr("audioldm_lit.audio.recording.UNFOLDED", 2**20)
    soundfile.write(path := tmp_path / "bomb.flac", np.zeros(2**21, dtype=np.int16), 8000)
    with pytest.raises(InputError, match=r"bomb\.flac: unfolds [\d,]+ bytes to 0\.1 h in 1 channels, as no recording does"):
        open_audio(path)


@pytest.mark.parametrize("name", LOSSLESS)
def test_a_lossless_format_gives_back_what_was_written(tmp_path, name):
    path, samples = written(tmp_path, name)
    steps = 2**-7 if name == "u8.avi" else 2**-15
    assert read_channels(path)[0].numpy() == pytest.approx(samples, abs=steps)


@pytest.mark.parametrize("name", LOSSY)
def test_an_encoders_delay_is_taken_away(tmp_path, name):
    path, samples = written(tmp_path, name)
    found = read_channels(path)[0].numpy()[0]
    middle = samples[0, 10_000:30_000]
    place = np.correlate(found[8000:32_000], middle, "valid").argmax() + 8000
    assert abs(place - 10_000) <= 2


# ---------------------------------------------------------------- what boxes hold beside the sound


@pytest.mark.parametrize("name", ["film.mp4", "film.mkv", "film.mov", "film.avi"])
def test_the_sound_of_a_film_is_read(tmp_path, name):
    path = encode(tmp_path / name, "aac" if name != "film.avi" else "libmp3lame", sweep(seconds=1), video=True)
    assert np.array_equal(read_channels(path)[0].numpy(), by_frames(path))


def test_a_cover_is_no_film(tmp_path):
    path = encode(tmp_path / "song.m4a", "alac", sweep(), box="mp4", cover=True)
    assert read_channels(path)[0].numpy() == pytest.approx(sweep(), abs=2**-15)


def test_of_several_tracks_the_first_or_the_default_is_read(tmp_path):
    path = encode(tmp_path / "tracks.mkv", "flac", sweep(), tracks=3)
    assert np.array_equal(read_channels(path)[0].numpy(), by_frames(path, 0))


def test_a_film_without_sound_is_said_to_be_one(tmp_path):
    path = encode(tmp_path / "mute.mp4", "aac", sweep(), video=True, tracks=0)
    with pytest.raises(InputError, match=r"mute\.mp4: is a video without sound; remove it\.$"):
        read_channels(path)


def test_a_rate_that_changes_on_the_way_is_brought_to_the_first(tmp_path):
    tone = 0.3 * np.sin(2 * np.pi * 440 * np.arange(2 * RATE) / RATE)[None]
    first = encode(tmp_path / "a.aac", "aac", tone[:, :RATE], box="adts")
    second = encode(tmp_path / "b.aac", "aac", tone[:, ::2][:, : RATE // 2], RATE // 2, box="adts")
    (tmp_path / "c.aac").write_bytes(first.read_bytes() + second.read_bytes() + first.read_bytes())
    channels, rate = read_channels(tmp_path / "c.aac")
    assert rate == RATE
    assert channels.shape[1] == pytest.approx(3 * RATE, abs=12_000)
    for start in (RATE // 4, 5 * RATE // 4, 9 * RATE // 4):
        spectrum = np.abs(np.fft.rfft(channels[0, start : start + RATE // 2].numpy() * np.hanning(RATE // 2)))
        assert 2 * spectrum.argmax() == pytest.approx(440, abs=4)


# ---------------------------------------------------------------- damaged, cut off, not what it seems


@pytest.mark.parametrize("name", ["aac.m4a", "a.aac", "opus.webm", "a.wma", "a.wv", "a.tta", "mp3.avi", "a.flv", "a.amr"])
def test_half_a_file_is_refused(tmp_path, name):
    path, _ = written(tmp_path, name)
    path.write_bytes(path.read_bytes()[: round(0.55 * path.stat().st_size)])
    with pytest.raises(InputError, match=r"(is cut off|is damaged|has no index).*; copy it again|cannot be read"):
        read_channels(path)


def test_a_play_list_reaches_no_other_file(tmp_path):
    soundfile.write(tmp_path / "secret.wav", sweep().T, RATE)
    lists = {
        "list.m3u8": "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nsecret.wav\n#EXT-X-ENDLIST\n",
        "list.wav": "ffconcat version 1.0\nfile secret.wav\n",
        "film.mp4": f"ffconcat version 1.0\nfile '{tmp_path}/secret.wav'\n",
        "call.sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio 5004 RTP/AVP 0\n",
    }
    for name, content in lists.items():
        (tmp_path / name).write_text(content)
        with pytest.raises(InputError, match="cannot be read as audio"):
            read_channels(tmp_path / name)


def test_files_without_a_suffix_are_known_by_what_they_hold(tmp_path):
    sounds = ["aac.m4a", "a.wma", "opus.webm", "a.wv", "a.tta", "a.amr", "a.ac3", "a.flv", "u8.avi", "a.aac", "aac.ts", "a.mpg"]
    for number, name in enumerate(sounds):
        shutil.move(written(tmp_path / "made", name)[0], tmp_path / f"sound{number:02}.take")
    for number, suffix in enumerate(("wav", "flac", "ogg", "mp3", "aiff", "au", "caf", "w64")):
        soundfile.write(tmp_path / f"x.{suffix}", sweep().T, RATE)
        (tmp_path / f"x.{suffix}").rename(tmp_path / f"x{number}")
    shutil.rmtree(tmp_path / "made")
    found = set(recordings(tmp_path))
    for name, content in {
        "notes": b"a text", "wide": "a text".encode("utf-16"), "photo.heic": b"\0\0\0\x18ftypheic" + bytes(90),
        "take.xyz": bytes(900), "photo": b"\xff\xd8\xff\xe0\0\x10JFIF", "zip": b"PK\x03\x04", "empty": b"", "cover.jpg": b"ID3",
    }.items():  # fmt: skip
        (tmp_path / name).write_bytes(content)
    assert len(found) == len(sounds) + 8
    assert set(recordings(tmp_path)) == found
