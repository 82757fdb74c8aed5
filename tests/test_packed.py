"""Sounds that are no files of their own: the same clips, bytes and keys as in a folder."""

import builtins
import io
import pickle
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import soundfile

from audioldm_lit.audio.member import Member
from audioldm_lit.data.base import AudioDataModule
from audioldm_lit.data.clips import Clip
from audioldm_lit.data.folder import Folder
from audioldm_lit.data.hugging_face import HuggingFace
from audioldm_lit.data.webdataset import WebDataset
from audioldm_lit.data.zipped import Zipped
from audioldm_lit.errors import InputError
from audioldm_lit.health.checkup import examine

import layouts

SPLITS = ("train", "val", "test")
SECONDS = 0.64


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Sounds of two classes, some with captions beside them, in WAV, FLAC and MP3."""
    root, rng = tmp_path_factory.mktemp("packed") / "folder", np.random.default_rng(0)
    for label in ("dog", "rain"):
        for take, suffix in enumerate(("wav", "flac", "mp3", "wav", "wav", "ogg")):
            (root / label).mkdir(parents=True, exist_ok=True)
            sound = 0.3 * rng.standard_normal(9000) * np.exp(-np.arange(9000) / (2000 + 1000 * take))
            soundfile.write(root / label / f"{take}.{suffix}", sound, 16_000)
    (root / "dog" / "1.txt").write_text("a dog barks twice\na hound gives voice\n")
    return root


@pytest.fixture(scope="module", params=["tar", "zip"])
def packed(request, folder) -> AudioDataModule:
    if request.param == "tar":
        layouts.tar_of(folder, folder.parent / "tars")
        return WebDataset(folder.parent / "tars" / "all.tar", duration=SECONDS, shots=2)
    layouts.zip_of(folder, folder.parent / "zips")
    return Zipped(folder.parent / "zips", duration=SECONDS, shots=2)


def test_an_archive_is_the_folder_that_it_was_made_of(folder, packed):
    plain = Folder(folder, duration=SECONDS, shots=2)
    for split in SPLITS:
        ours, theirs = packed.waveforms(split), plain.waveforms(split)
        assert [(one.id, one.caption, one.others, one.label) for one in ours.clips] == [
            (one.id, one.caption, one.others, one.label) for one in theirs.clips
        ]
        assert [ours.content_key(i) for i in range(len(ours))] == [theirs.content_key(i) for i in range(len(theirs))]
        assert all(ours.waveform(i).equal(theirs.waveform(i)) for i in range(len(ours)))
    assert pickle.loads(pickle.dumps(ours)).waveform(0).equal(theirs.waveform(0))  # reader processes get it so


def test_a_health_check_reads_an_archive(packed, folder, tmp_path):
    found, expected = examine(packed, tmp_path, threads=1), examine(Folder(folder, duration=SECONDS), tmp_path, threads=1)
    assert [item.measurement for item in found.items] == [item.measurement for item in expected.items]
    assert [(one.kind, one.clips) for one in found.findings] == [(one.kind, one.clips) for one in expected.findings]


def test_shards_named_after_splits_are_the_splits(tmp_path, folder):
    for shard, take in (("train-000", 0), ("train-001", 3), ("test-000", 4)):
        with tarfile.open(tmp_path / f"{shard}.tar", "w") as tar:
            for label in ("dog", "rain"):
                (path,) = (folder / label).glob(f"{take}.*")
                tar.add(path, f"{label}{take}{path.suffix}")
                for suffix, text in ((".cls", label), (".json", f'{{"text": "the sound of a {label}"}}')):
                    (tmp_path / "beside").write_text(text)
                    tar.add(tmp_path / "beside", f"{label}{take}{suffix}")
    data = WebDataset(tmp_path)
    clips = {split: data.present(split) for split in SPLITS}
    assert [(clip.caption, clip.label) for clip in clips["test"]] == [
        ("the sound of a dog", "dog"),
        ("the sound of a rain", "rain"),
    ]
    assert [len(clips[split]) for split in ("train", "val")] == [2, 2]


def test_rows_of_a_data_set_are_clips(folder, tmp_path):
    layouts.rows_of(folder, tmp_path / "saved")
    data = HuggingFace(tmp_path / "saved", label="kind", duration=SECONDS)
    plain = Folder(folder, duration=SECONDS)
    keys = {split: data.waveforms(split) for split in SPLITS}
    ours = {one.content_key(i): one.captions(i) for one in keys.values() for i in range(len(one))}
    theirs = [plain.waveforms(split) for split in SPLITS]
    assert ours.keys() == {one.content_key(i) for one in theirs for i in range(len(one))}
    assert set(map(tuple, ours.values())) == {("dog",), ("rain",)}
    assert pickle.loads(pickle.dumps(keys["train"])).waveform(0).equal(keys["train"].waveform(0))
    with pytest.raises(InputError, match=r"data\.init_args\.audio: is 'sound'; name one of audio, kind"):
        HuggingFace(tmp_path / "saved", audio="sound", label="kind").clips("train")
    with pytest.raises(InputError, match="which holds no sound"):
        HuggingFace(tmp_path / "saved", audio="kind", label="kind").clips("train")
    with pytest.raises(InputError, match="cannot be read as a data set"):
        HuggingFace(tmp_path / "nowhere", label="kind").clips("train")


def test_bytes_may_come_from_anywhere(folder):
    path = folder / "dog" / "0.wav"
    clip = Clip("one", Member("bucket/one", path.read_bytes), "a dog")
    assert clip.path.name == "one"
    assert pickle.loads(pickle.dumps(clip)).path.open().read() == path.read_bytes()
    broken = Clip("two", Member("bucket/two", b"no sound".upper), "a dog")
    data = Folder(folder, duration=SECONDS)
    with pytest.raises(InputError, match="bucket/two: "):
        data.dataset([broken], "test").waveform(0)


def tar(**headers: str) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as archive:
        member = tarfile.TarInfo("a.wav")
        member.pax_headers = headers
        archive.addfile(member)
    return file.getvalue()


def damaged(way: int, old: bytes = b"", new: bytes = b"") -> bytes:
    """A zip of a sound and its caption; something in it, or the middle of the packed caption, is another."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("\u00e9.wav", b"")
        archive.writestr("\u00e9.txt", b"a dog barks at a dog", compress_type=way)
    content = bytearray(file.getvalue())
    if old:
        return bytes(content).replace(old, new)
    middle = content.index(b".txt") + 14
    content[middle : middle + 4] = b"\xff" * 4
    return bytes(content)


@pytest.mark.parametrize(
    ("kind", "name", "content", "reason"),
    [
        (WebDataset, "a.tar", tar(**{"GNU.sparse.size": "x"}), "cannot be read as a tar"),
        (WebDataset, "a.tar", tar(**{"GNU.sparse.size": "9"}), r"a\.wav: is stored with gaps"),
        (WebDataset, "a.tar", tar(size="-512"), "stored with gaps|cannot be read as a tar"),
        (Zipped, "a.zip", damaged(zipfile.ZIP_DEFLATED), "cannot be unpacked"),
        (Zipped, "a.zip", damaged(zipfile.ZIP_LZMA), "cannot be unpacked"),
        (Zipped, "a.zip", damaged(0, b"\xc3\xa9", b"\xff\xff"), "is no whole zip"),
        (Zipped, "a.zip", damaged(0, b"\xc3\xa9.wav", b"\0\xc3\xa9.wa"), "holds a file without a name"),
        (WebDataset, "a.txt", b"", "holds no .tar; correct data.init_args.root"),
        (WebDataset, "a.tar", b"no tar at all", "cannot be read as a tar that is not compressed"),
        (Zipped, "a.zip", b"no zip at all", "is no whole zip"),
        (Zipped, "a.zip", b"PK\x05\x06" + bytes(18), "holds no recording"),
    ],
)
def test_what_is_wrong_with_an_archive_is_a_sentence(tmp_path, kind, name, content, reason):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=reason):
        kind(tmp_path).present("train")


def test_a_missing_library_is_a_sentence(tmp_path, monkeypatch):
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name == "datasets":
            raise ModuleNotFoundError("No module named 'datasets'", name="datasets")
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(InputError, match="needs datasets, which is not installed; pip install datasets"):
        HuggingFace(tmp_path, label="kind").clips("train")
