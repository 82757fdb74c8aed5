"""The cache of latents and embeddings: what it holds, what its keys depend on, what an interruption or damage does to it."""

import copy
import json
import re
import tempfile
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from audioldm_lit.data.clips import Clip, ClipDataset
from audioldm_lit.data.esc50 import ESC50
from audioldm_lit.errors import InputError
from audioldm_lit.metrics.extractors.base import AudioBatch
from audioldm_lit.metrics.extractors.cached import Cached
from audioldm_lit.metrics.extractors.fingerprint import Fingerprint
from audioldm_lit.storage.atomic_write import MACHINE
from audioldm_lit.storage.prefetch import prefetch
from audioldm_lit.storage.shards import Shards
from audioldm_lit.training.cache import Cache, EncodedDataset

import layouts
import tiny


@pytest.fixture
def clips(tmp_path):
    data = ESC50(**layouts.esc50(tmp_path / "esc50"), duration=0.64)
    data.setup("validate")
    return data.datasets["val"]


def filled(cache, clips):
    cache.fill(clips)
    return cache.read(clips)


def test_cached_latents_equal_fresh_ones(clips, tmp_path, backbone):
    encoded = filled(Cache(tmp_path / "cache", backbone, audio_embeds=True), clips)
    assert "waveform" not in encoded[0]
    for index in (0, len(clips) - 1):
        waveform = clips[index]["waveform"][None]
        mean, std = backbone.encode_posterior(waveform)
        item = encoded[index]
        assert torch.allclose(item["mean"], mean[0], atol=1e-3 * mean.abs().max().item())
        assert torch.allclose(item["std"], std[0], atol=1e-3 * std.abs().max().item())
        assert torch.allclose(item["audio_embeds"], backbone.encode_audio(waveform)[0], atol=1e-5)
        assert torch.allclose(item["prompt_embeds"], backbone.encode_text([item["caption"]])[0], atol=1e-5)


def test_cache_depends_on_content_and_encoder_alone(clips, tmp_path, backbone):
    folder = tmp_path / "cache"
    cache = Cache(folder, backbone, audio_embeds=False)
    cache.fill(clips)
    keys = cache.keys(clips)
    assert all(key in Cache(folder, backbone, audio_embeds=False).latents for key in keys)
    assert not any(key in Cache(folder, tiny.backbone(seed=1), audio_embeds=False).latents for key in keys)
    other = tiny.backbone()
    next(other.audio_encoder.parameters()).data += 1
    assert Cache(folder, other, audio_embeds=False).latents.folder == cache.latents.folder
    assert len({Cache(folder, one, audio_embeds=True).latents.folder for one in (backbone, other)}) == 2
    longer = copy.copy(clips)
    longer.num_samples *= 2
    assert not set(keys) & set(cache.keys(longer))
    clips.clips[0].path.write_bytes(clips.clips[1].path.read_bytes())
    changed = Cache(folder, backbone, audio_embeds=False).keys(clips)
    assert changed[0] == keys[1]
    assert changed[1:] == keys[1:]


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0)])
def test_processes_that_start_one_after_the_other_leave_no_clip_out(clips, tmp_path, backbone, order):
    caches = {rank: Cache(tmp_path / "cache", backbone, audio_embeds=False) for rank in order}
    for rank, cache in caches.items():
        cache.fill(clips, rank, num_ranks=3)
    for cache in caches.values():
        assert [item["id"] for item in cache.read(clips)] == [clip.id for clip in clips.clips]


def test_cached_clips_are_not_read_again(clips, tmp_path, backbone, monkeypatch):
    cache = Cache(tmp_path / "cache", backbone, audio_embeds=False)
    cache.fill(clips)
    monkeypatch.setattr(type(backbone), "encode_posterior", None)
    monkeypatch.setattr(type(backbone), "encode_text", None)
    assert len(filled(Cache(tmp_path / "cache", backbone, audio_embeds=False), clips)) == len(clips)


def test_a_split_is_one_file_and_a_larger_choice_adds_only_what_is_new(clips, tmp_path, backbone):
    cache = Cache(tmp_path / "cache", backbone, audio_embeds=False)
    few = copy.copy(clips)
    few.clips = clips.clips[:4]
    for part, files, rows in ((few, 1, 4), (clips, 2, len(clips)), (few, 2, len(clips))):
        filled(cache, part)
        shards = list(cache.latents.folder.iterdir())
        assert len(shards) == files
        assert sum(len(load_file(shard)["mean"]) for shard in shards) == rows


def test_what_was_encoded_before_an_error_is_kept(clips, tmp_path, backbone):
    clips.clips[-1].path.write_bytes(b"broken")
    cache = Cache(tmp_path / "cache", backbone, audio_embeds=False)
    with pytest.raises(InputError, match=rf"esc50\.csv, line .*{clips.clips[-1].id}: cannot be read"):
        cache.fill(clips)
    assert all(key in Cache(tmp_path / "cache", backbone, audio_embeds=False).latents for key in cache.keys(clips)[:-1])


@pytest.mark.parametrize("part", ["vae.quant_conv", "text_encoder.text_projection.linear2"])
def test_a_row_in_which_something_is_no_number_is_refused(clips, tmp_path, backbone, part):
    backbone.get_submodule(part).bias.data[0] = torch.inf
    where = clips.clips[0].where if part.startswith("vae") else f"caption '{sorted(clip.caption for clip in clips.clips)[0]}'"
    with pytest.raises(InputError, match=f"{re.escape(where)}: encodes to values that are not finite"):
        Cache(tmp_path / "cache", backbone, audio_embeds=False).fill(clips)


def test_a_damaged_shard_is_one_sentence(clips, tmp_path, backbone):
    cache = Cache(tmp_path / "cache", backbone, audio_embeds=False)
    cache.fill(clips)
    shard = next(cache.latents.folder.iterdir())
    shard.write_bytes(shard.read_bytes()[:200])
    with pytest.raises(InputError, match=r"this part of the cache is damaged .*; remove it"):
        Cache(tmp_path / "cache", backbone, audio_embeds=False)


def changed(values: dict, keys: list[str], hashes: list[str], damage: str) -> None:
    """Do something to the first row, as damage or somebody else would."""
    if damage == "a bit":
        values["mean"][0].view(torch.uint8)[0, 0, 0] ^= 1
    elif damage == "a name":
        values["mean"], values["std"] = values["std"], values["mean"]
    elif damage == "a shape":
        values["mean"] = values["mean"].transpose(-1, -2).contiguous()
    elif damage == "fewer rows":
        values["mean"] = values["mean"][1:].contiguous()
    elif damage == "every hash":
        hashes[:] = ["0"] * len(hashes)
    else:
        keys[:2] = keys[1::-1]  # another clip's latents


@pytest.mark.parametrize("damage", ["a bit", "a name", "a shape", "fewer rows", "every hash", "a key"])
def test_rows_that_are_not_as_they_were_written_are_encoded_again_and_said(clips, tmp_path, backbone, capsys, damage):
    cache = Cache(tmp_path / "cache", backbone, audio_embeds=False)
    cache.fill(clips)
    assert "damaged" not in capsys.readouterr().err
    keys = cache.keys(clips)
    whole = {key: {name: value.clone() for name, value in cache.latents[key].items()} for key in keys}
    shard = next(cache.latents.folder.iterdir())
    with safe_open(shard, "pt") as file:
        metadata = file.metadata()
    values = {name: value.clone() for name, value in load_file(shard).items()}
    listed, hashes = (json.loads(metadata[name]) for name in ("keys", "sha256"))
    changed(values, listed, hashes, damage)
    save_file(values, shard, {"keys": json.dumps(listed), "sha256": json.dumps(hashes)})
    again = Cache(tmp_path / "cache", backbone, audio_embeds=False)
    with pytest.raises(InputError, match=rf"{shard.name}: holds a row that is damaged; start again"):
        _ = again.latents[listed[0]]
    with pytest.raises(KeyError):
        _ = again.latents["another"]
    again.fill(clips)
    assert re.search(r"latents-\w+: \d+ of its rows are damaged and are made again\n", capsys.readouterr().err)
    for store in (again.latents, Cache(tmp_path / "cache", backbone, audio_embeds=False).latents):
        assert store.missing(keys) == []
        assert all(torch.equal(store[key][name], value) for key in keys for name, value in whole[key].items())
    assert not capsys.readouterr().err


def test_features_that_are_not_as_they_were_written_are_made_again_and_said(tmp_path, capsys):
    extractor = Fingerprint()
    batch = AudioBatch(["a", "b"], torch.randn(2, 16000, generator=torch.Generator().manual_seed(0)), 16000, None)
    cached = Cached(extractor, tmp_path)
    fresh = cached.extract(batch)
    first, second = sorted(cached.folder.iterdir())
    first.write_bytes(second.read_bytes())  # another clip's
    assert all(torch.equal(value, fresh[name]) for name, value in cached.extract(batch).items())
    assert "1 of its files are damaged and are made again\n" in capsys.readouterr().err
    assert all(torch.equal(value, fresh[name]) for name, value in cached.extract(batch).items())
    assert not capsys.readouterr().err


def test_what_another_run_wrote_meanwhile_is_not_stored_again_nor_encoded_after_the_next_shard(
    clips, tmp_path, backbone, monkeypatch
):
    first, second = (Cache(tmp_path / "cache", backbone, audio_embeds=False) for _ in range(2))  # both saw an empty cache
    monkeypatch.setattr("audioldm_lit.training.cache.ROWS", 2)
    first.fill(clips)
    monkeypatch.setattr("audioldm_lit.training.cache.ROWS", 3)  # else it would write the very same files
    encoded, encode = [], backbone.encode_posterior
    monkeypatch.setattr(backbone, "encode_posterior", lambda waveform: encoded.append(waveform) or encode(waveform))
    second.fill(clips)
    shards = [len(load_file(shard)["mean"]) for shard in first.latents.folder.iterdir()]
    assert sorted(shards) == [1] * (len(clips) % 2) + [2] * (len(clips) // 2)
    assert len(encoded) == 3


@pytest.mark.parametrize("metadata", [None, {"keys": '["a"]'}, {"keys": '["a", "b"]', "sha256": '["0"]'}])
def test_a_foreign_file_in_the_cache_is_one_sentence(tmp_path, metadata):
    save_file({"a": torch.zeros(2)}, tmp_path / "mine.safetensors", metadata)
    with pytest.raises(InputError, match=r"mine\.safetensors: is no part of the cache; remove it"):
        Shards(tmp_path)


def test_what_a_killed_process_was_writing_is_cleared(tmp_path):
    (tmp_path / f"x.safetensors.{MACHINE}-4194305.part").touch()  # more than a process's number can be
    Shards(tmp_path)
    assert not list(tmp_path.iterdir())


def test_reading_ahead_ends_at_an_error_and_reaches_no_further_than_a_few():
    asked = []

    def read(item: int) -> int:
        asked.append(item)
        if item == 3:
            raise InputError("x", "is broken", "mend it")
        return item

    with pytest.raises(InputError, match="is broken"):
        list(prefetch(read, range(1000)))
    assert max(asked) <= 3 + 8


def test_contents_tell_each_clip_and_its_captions_whatever_the_order_and_no_variants(tmp_path):
    clips = [Clip("bell", tmp_path / "bell.wav", "a bell", others=("ding",)), Clip("dog", tmp_path / "dog.wav", "a dog")]

    def encoded(clips: list[Clip], *keys: str) -> EncodedDataset:
        return EncodedDataset(ClipDataset(clips, 16_000, 10_240, "repeat"), keys, Shards(tmp_path), {}, waveforms=False)

    varied = encoded(clips, "1", "2", "1 varied", "2 varied")
    assert varied.contents() == {
        "bell": {"caption": "a bell", "audio_sha256": "1", "others": ("ding",)},
        "dog": {"caption": "a dog", "audio_sha256": "2"},
    }
    assert varied.fingerprint() == encoded(clips[::-1], "2", "1").fingerprint()
    assert varied.fingerprint() != encoded(clips, "1", "3").fingerprint()


@settings(max_examples=30)
@given(st.lists(st.lists(st.integers(0, 30), min_size=1, max_size=8, unique=True), max_size=6))
def test_a_shard_store_gives_back_what_was_written(batches):
    with tempfile.TemporaryDirectory() as folder:
        store = Shards(Path(folder))
        for batch in batches:
            store.write({f"{one:02x}": {"a": torch.full((2, 3), one), "b": torch.tensor(-one)} for one in batch})
        written = {one for batch in batches for one in batch}
        for read in (store, Shards(Path(folder))):
            for one in range(31):
                assert (f"{one:02x}" in read) == (one in written)
                if one in written:
                    row = read[f"{one:02x}"]
                    assert (row["a"] == one).all()
                    assert row["a"].shape == (2, 3)
                    assert row["b"] == -one
