"""AISFX and CLAP, the extractors whose networks are at hand everywhere: independent references, properties, refusals."""

import hashlib
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import ClapConfig, ClapFeatureExtractor, ClapModel, ClapProcessor

from audioldm_lit.audio.waveform import resample
from audioldm_lit.errors import InputError
from audioldm_lit.metrics.extractors import aisfx as aisfx_module
from audioldm_lit.metrics.extractors.aisfx import AISFX, BLOCK, BLOCK_HOP, FrontEnd
from audioldm_lit.metrics.extractors.base import AudioBatch, Extractor
from audioldm_lit.metrics.extractors.clap import CLAP
from audioldm_lit.storage.fetch import Wheel

import tiny

RATE = 44_100


@pytest.fixture(scope="session")
def checkpoint(aisfx) -> Path:
    return aisfx_module.cache_folder() / "aisfx" / "checkpoint.pth"


def save_clap(folder: Path, fusion: bool = False, rate: int = 16_000) -> ClapModel:
    """A tiny CLAP with random weights in a folder of its own."""
    audio = {**tiny.CONFIGS["audio_encoder"], "enable_fusion": fusion, "fusion_type": "aff_2d" if fusion else None}
    front_end = {**tiny.CONFIGS["feature_extractor"], "truncation": "fusion" if fusion else "rand_trunc", "sampling_rate": rate}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = ClapModel(ClapConfig(text_config=tiny.CONFIGS["text_encoder"], audio_config=audio, projection_dim=32)).eval()
    model.save_pretrained(folder)
    ClapProcessor(ClapFeatureExtractor(**front_end), tiny.tokenizer()).save_pretrained(folder)
    return model


@pytest.fixture(scope="session")
def clap_folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("clap")
    save_clap(folder)
    return folder


@pytest.fixture(params=["aisfx", "clap"])
def extractor(request) -> Extractor:
    if request.param == "aisfx":
        return request.getfixturevalue("aisfx")
    return CLAP(str(request.getfixturevalue("clap_folder")))


def noise(*shape: int, seed: int = 0, level: float = 0.1) -> Tensor:
    return level * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def tone(frequency: float, num_samples: int, phase: float = 0.0, rate: int = RATE) -> Tensor:
    return 0.3 * torch.sin(2 * torch.pi * frequency * torch.arange(num_samples, dtype=torch.float64) / rate + phase).float()


def batch(waveform: Tensor, rate: int, captions: list[str] | None = None) -> AudioBatch:
    return AudioBatch([str(i) for i in range(len(waveform))], waveform, rate, captions)


# ---------------------------------------------------------------- both


CAPTIONS = ["a dog", "rain on the roof of a house", "犬", "x", "door slam"]


def test_a_clip_has_the_same_features_in_every_batch(extractor):
    """Bit by bit: a result must not hang on the batch size."""
    clips = noise(5, int(6.1 * extractor.sample_rate))
    together = extractor(batch(clips, extractor.sample_rate, CAPTIONS))
    for i in range(5):
        alone = extractor(batch(clips[i : i + 1], extractor.sample_rate, CAPTIONS[i : i + 1]))
        assert all(torch.equal(alone[name][0], rows[i]) for name, rows in together.items())


def test_autocast_changes_nothing(extractor):
    clips = noise(2, 3 * extractor.sample_rate)
    plain = extractor(batch(clips, extractor.sample_rate, CAPTIONS[:2]))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = extractor(batch(clips, extractor.sample_rate, CAPTIONS[:2]))
    assert all(torch.equal(mixed[name], rows) for name, rows in plain.items())


def test_features_are_named_rows_of_float32(extractor):
    features = extractor(batch(noise(2, 3 * extractor.sample_rate), extractor.sample_rate, CAPTIONS[:2]))
    for rows in features.values():
        assert rows.ndim == 3
        assert len(rows) == 2
        assert rows.dtype == torch.float32
        assert rows.isfinite().all()
        assert not rows.requires_grad


def test_a_clip_of_another_rate_is_resampled(extractor):
    clips = noise(2, 3 * 8000)
    features = extractor(batch(clips, 8000))
    ours = extractor(batch(resample(clips, 8000, extractor.sample_rate), extractor.sample_rate))
    assert all(torch.equal(features[name], ours[name]) for name in ours)


def test_silence_and_one_sample_have_features(extractor):
    for clip in (torch.zeros(1, 3 * extractor.sample_rate), torch.ones(1, 1), torch.zeros(1, 0)):
        assert all(rows.isfinite().all() for rows in extractor(batch(clip, extractor.sample_rate)).values())


def test_the_network_is_frozen_and_in_no_state_dict(extractor):
    class Module(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.extractor = extractor

    assert not Module().state_dict()
    assert not list(Module().parameters())
    assert not extractor.network.training
    assert not any(weight.requires_grad for weight in extractor.network.parameters())
    assert {weight.dtype for weight in extractor.network.parameters()} == {torch.float32}


def test_extraction_leaves_the_random_state_alone(extractor):
    before = torch.get_rng_state()
    extractor(batch(noise(1, 12 * extractor.sample_rate), extractor.sample_rate))
    assert torch.equal(torch.get_rng_state(), before)


# ---------------------------------------------------------------- AISFX: front end


def reference_log_mel(waveform: np.ndarray) -> np.ndarray:
    """The authors' settings in numpy, float64, one frame after the other: (T,) -> (F, 96)."""
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(2048) / 2047)
    edges = 700 * (10 ** (np.linspace(0, 2595 * np.log10(1 + 22_050 / 700), 98) / 2595) - 1)
    bins = np.arange(1025) * RATE / 2048
    rows = []
    for start in range(0, len(waveform) - 2048 + 1, 1024):
        power = np.abs(np.fft.rfft(window * waveform[start : start + 2048])) ** 2
        row = []
        for low, middle, high in zip(edges, edges[1:], edges[2:], strict=False):
            weights = np.maximum(0, np.minimum((bins - low) / (middle - low), (high - bins) / (high - middle)))
            row.append(np.log10(1 + 10_000 * (weights @ power) / weights.sum()) / 9.457798957824707)
        rows.append(row)
    return np.array(rows)


@pytest.mark.parametrize("kind", ["noise", "quiet noise", "tone", "click", "silence"])
def test_the_front_end_equals_the_formula_in_numpy(kind):
    click = torch.zeros(30_000)
    click[5000] = 0.5
    waveforms = {"noise": noise(30_000), "quiet noise": noise(30_000, level=1e-5), "tone": tone(1000, 30_000), "click": click}
    waveform = waveforms.get(kind, torch.zeros(30_000))
    ours = FrontEnd()(waveform[None])
    assert ours.shape == (1, 1, 28, 96)
    assert ours[0, 0].numpy() == pytest.approx(reference_log_mel(waveform.double().numpy()), abs=2e-5)


def test_the_front_end_has_the_scale_the_weights_were_trained_with():
    """The loudest value of the training set, at full scale, became 1; a window scaled to sum 2 would give less than half of it."""
    loud = FrontEnd()(tone(150, BLOCK)[None] / 0.3)
    assert 0.9 < loud.max() < 1.05


# ---------------------------------------------------------------- AISFX: features


@pytest.mark.parametrize(
    ("num_samples", "rows"), [(1, 1), (BLOCK, 1), (BLOCK + BLOCK_HOP - 1, 1), (BLOCK + BLOCK_HOP, 2), (10 * RATE, 7)]
)
def test_a_clip_has_a_row_for_every_whole_block(aisfx, num_samples, rows):
    features = aisfx(batch(noise(2, num_samples), RATE))
    assert {name: tuple(value.shape) for name, value in features.items()} == {
        "blocks": (2, rows, 512), "embedding": (2, 1, 512), "logits": (2, 1, 78),
    }  # fmt: skip


def test_every_block_hears_its_own_samples_alone(aisfx):
    clip = noise(1, 12 * RATE) * torch.linspace(0, 1, 12 * RATE)
    blocks = aisfx(batch(clip, RATE))["blocks"][0]
    assert len(blocks) == 9
    for row, block in enumerate(blocks):
        heard = clip[:, row * BLOCK_HOP : row * BLOCK_HOP + BLOCK]
        assert aisfx(batch(heard, RATE))["blocks"][0, 0].numpy() == pytest.approx(block.numpy(), abs=1e-5)


def test_embedding_and_logits_are_means_over_blocks(aisfx):
    features = aisfx(batch(noise(2, 6 * RATE), RATE))
    rows = features["blocks"].double()
    assert features["embedding"][:, 0].numpy() == pytest.approx(rows.mean(1).numpy(), abs=1e-5)
    state = {name.removeprefix("fc.0."): value.double() for name, value in aisfx.network.state_dict().items() if "fc.0." in name}
    hidden = rows
    for layer in "02":
        hidden = (hidden @ state[f"{layer}.weight"].T + state[f"{layer}.bias"]).clamp(min=0)
    logits = hidden @ state["4.weight"].T + state["4.bias"]
    assert features["logits"][:, 0].numpy() == pytest.approx(logits.mean(1).numpy(), abs=1e-4)


def test_a_short_clip_is_padded_with_zeros_at_its_end(aisfx):
    clip = noise(1, 20_000)
    padded = torch.cat([clip, torch.zeros(1, BLOCK - 20_000)], dim=1)
    assert torch.equal(aisfx(batch(clip, RATE))["blocks"], aisfx(batch(padded, RATE))["blocks"])


def test_a_tone_has_the_features_that_the_authors_network_gives(aisfx):
    """Figures of the authors' own network code on the reference spectrogram above."""
    features = aisfx(batch(tone(440, BLOCK)[None], RATE))
    embedding, logits = features["embedding"][0, 0], features["logits"][0, 0]
    assert embedding[:4].tolist() == pytest.approx([2.83044, 0.32619, 0.30570, 0.17937], abs=1e-4)
    assert embedding.norm().item() == pytest.approx(26.8701, abs=1e-3)
    assert logits[:4].tolist() == pytest.approx([0.6860, 0.2760, 4.2604, -7.2471], abs=1e-3)
    assert (logits.argmax(), logits.max()) == (50, pytest.approx(10.6361, abs=1e-3))


def test_like_sounds_are_near_and_unlike_sounds_far(aisfx):
    sounds = [noise(BLOCK), noise(BLOCK, seed=1), tone(440, BLOCK), tone(440, BLOCK, phase=1.0)]
    rows = F.normalize(aisfx(batch(torch.stack(sounds), RATE))["embedding"][:, 0], dim=1)
    cosine = rows @ rows.T
    assert cosine[0, 1] > 0.98
    assert cosine[2, 3] > 0.99
    assert cosine[:2, 2:].max() < 0.6


# ---------------------------------------------------------------- AISFX: weights


def test_the_weights_are_named_in_the_passport(aisfx, checkpoint):
    passport = aisfx.passport()
    assert passport["extractor"] == "aisfx"
    assert passport["weights_sha256"] == hashlib.sha256(checkpoint.read_bytes()).hexdigest()
    assert "Creative Commons" in (checkpoint.parent / "LICENSE").read_text()
    assert sorted(os.listdir(checkpoint.parent)) == ["LICENSE", "checkpoint.pth"]


def test_weights_of_ones_own_are_not_fetched(aisfx, checkpoint, workdir):
    again = AISFX(checkpoint)
    assert torch.equal(again(batch(noise(1, BLOCK), RATE))["blocks"], aisfx(batch(noise(1, BLOCK), RATE))["blocks"])
    assert not os.listdir(workdir)


@pytest.mark.parametrize("kind", ["cut", "altered", "missing", "folder"])
def test_broken_weights_are_one_sentence(checkpoint, tmp_path, kind):
    path = tmp_path / "checkpoint.pth"
    if kind == "folder":
        path.mkdir()
    elif kind != "missing":
        content = bytearray(checkpoint.read_bytes())
        content[1_000_000] ^= 1
        path.write_bytes(content[:2_000_000] if kind == "cut" else content)
    sentence = r"checkpoint\.pth: (its SHA-256 is|cannot be read) .*; give the one of aisfx==0\.1\.2 .* to fetch it\.$"
    with pytest.raises(InputError, match=sentence):
        AISFX(path)


def test_a_cache_that_was_altered_names_the_folder_to_remove(workdir):
    folder = workdir / "cache" / "audioldm_lit" / "aisfx"
    folder.mkdir(parents=True)
    (folder / "checkpoint.pth").write_bytes(b"half a file")
    with pytest.raises(InputError, match=rf"its SHA-256 is \w+, .*; remove the folder {folder} to fetch it again\.$"):
        AISFX()


def parcel(path: Path, **changes: str) -> Wheel:
    """A wheel-like archive with more in it than is wanted."""
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("aisfx/__init__.py", "aisfx/models/checkpoint.pth", "aisfx-0.1.2.dist-info/licenses/LICENSE"):
            archive.writestr(name, name)
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    return Wheel(**{**vars(aisfx_module.WHEEL), "sha256": sha256, **changes})


def test_only_weights_and_licence_are_taken_out_of_the_wheel(tmp_path):
    parcel(tmp_path / "a.whl").unpack(tmp_path / "a.whl", tmp_path / "cache" / "aisfx", aisfx_module.lay_out)
    assert sorted(os.listdir(tmp_path / "cache" / "aisfx")) == ["LICENSE", "checkpoint.pth"]
    assert os.listdir(tmp_path / "cache") == ["aisfx"]


def test_another_wheel_is_refused_in_one_sentence(tmp_path):
    parcel(tmp_path / "a.whl")
    with pytest.raises(InputError, match=r"^a\.whl: its SHA-256 is \w+, not bfe21995\w+; use an index .* as `weights`\.$"):
        aisfx_module.WHEEL.unpack(tmp_path / "a.whl", tmp_path / "cache" / "aisfx", aisfx_module.lay_out)
    assert not (tmp_path / "cache").exists()


def test_without_a_network_one_sentence_names_the_way_out(workdir, monkeypatch, capsys):
    failed = subprocess.CompletedProcess([], 1, stderr="ERROR: No matching distribution found\n")
    monkeypatch.setattr(subprocess, "run", lambda *args, **kwargs: failed)
    with pytest.raises(InputError, match=r"^aisfx==0\.1\.2: pip cannot fetch it \(No matching .* as `weights`\.$"):
        AISFX()
    said = capsys.readouterr().err
    assert said.splitlines()[1:] == ["downloading 23 MB"]
    assert all(part in said for part in ("aisfx==0.1.2", "23 MB", "CC BY 4.0", str(workdir / "cache" / "audioldm_lit" / "aisfx")))
    assert not (workdir / "cache").exists()


def test_processes_that_unpack_at_once_are_all_content(tmp_path):
    wheel = parcel(tmp_path / "a.whl")
    program = (
        "import sys, zipfile; from pathlib import Path; from audioldm_lit.storage.fetch import Wheel\n"
        "path, folder = map(Path, sys.argv[1:3])\n"
        "lay_out = lambda archive, into: [(into / str(i)).write_bytes(bytes(10_000)) for i in range(300)]\n"
        f"Wheel(**{vars(wheel)!r}).unpack(path, folder, lay_out)"
    )
    command = [sys.executable, "-c", program, str(tmp_path / "a.whl"), str(tmp_path / "cache" / "aisfx")]
    running = [subprocess.Popen(command, stderr=subprocess.PIPE, text=True) for _ in range(4)]
    assert [(process.communicate()[1], process.returncode) for process in running] == [("", 0)] * 4
    assert os.listdir(tmp_path / "cache") == ["aisfx"]
    assert len(os.listdir(tmp_path / "cache" / "aisfx")) == 300


# ---------------------------------------------------------------- CLAP


def expected(model: ClapModel, folder: Path, clip: Tensor, caption: str) -> tuple[Tensor, Tensor]:
    """Embeddings by the model's own processor and forward pass."""
    processor = ClapProcessor.from_pretrained(folder, local_files_only=True)
    rate = processor.feature_extractor.sampling_rate
    inputs = processor(text=[caption], audio=[clip.numpy()], sampling_rate=rate, return_tensors="pt")
    with torch.no_grad():
        output = model(**inputs)
    return output.audio_embeds[0], output.text_embeds[0]


@pytest.mark.parametrize("seconds", [0.01, 1.0, 5.0])
def test_a_clip_of_one_window_has_the_models_own_embeddings(clap_folder, tmp_path, seconds):
    model, clip = save_clap(tmp_path), noise(1, int(16_000 * seconds))
    features = CLAP(str(clap_folder))(batch(clip, 16_000, ["door slam"]))
    audio, text = expected(model, clap_folder, clip[0], "door slam")
    assert features["embedding"][0, 0].numpy() == pytest.approx(audio.numpy(), abs=1e-6)
    assert features["text"][0, 0].numpy() == pytest.approx(text.numpy(), abs=1e-6)
    assert features["similarity"].item() == pytest.approx(float(audio @ text), abs=1e-6)


@pytest.mark.parametrize(
    ("seconds", "starts"), [(5.0, [0]), (5.4, [0]), (5.6, [0, 0.6]), (10.0, [0, 5]), (10.4, [0, 5]), (13.0, [0, 5, 8])]
)
def test_a_long_clip_is_the_mean_of_its_windows(clap_folder, seconds, starts):
    clap, clip = CLAP(str(clap_folder)), noise(1, int(16_000 * seconds))
    windows = torch.cat([clip[:, round(16_000 * start) :][:, :80_000] for start in starts])
    mean = clap(batch(windows, 16_000))["embedding"].double().mean(0)[0]
    embedding = clap(batch(clip, 16_000))["embedding"][0, 0]
    assert embedding.numpy() == pytest.approx((mean / mean.norm()).numpy(), abs=1e-6)
    assert embedding.norm().item() == pytest.approx(1, abs=1e-6)


def test_a_model_with_fusion_crops_nothing_at_random(tmp_path):
    model = save_clap(tmp_path, fusion=True)
    clap, clip = CLAP(str(tmp_path)), noise(1, 13 * 16_000)
    rows = {tuple(clap(batch(clip, 16_000))["embedding"].flatten().tolist()) for _ in range(3)}
    assert len(rows) == 1
    one_window = clip[:, :80_000]
    log_mel = clap.front_end([one_window[0].numpy()], sampling_rate=16_000, return_tensors="pt").input_features
    with torch.no_grad():
        audio = model.get_audio_features(log_mel, is_longer=torch.tensor([[False]])).pooler_output
    assert clap(batch(one_window, 16_000))["embedding"][0].numpy() == pytest.approx(audio.numpy(), abs=1e-6)


def test_the_towers_of_an_audioldm_are_its_clap(tiny_folder, backbone):
    clap, clips = CLAP(str(tiny_folder)), noise(2, 3 * 16_000)
    features = clap(batch(clips, 16_000, ["a dog", "rain on a roof"]))
    assert features["embedding"][:, 0].numpy() == pytest.approx(backbone.encode_audio(clips).numpy(), abs=1e-6)
    assert features["text"][:, 0].numpy() == pytest.approx(backbone.encode_text(["a dog", "rain on a roof"]).numpy(), abs=1e-6)


def test_the_passport_names_model_rate_weights_and_rule(clap_folder, tmp_path):
    passport = CLAP(str(clap_folder)).passport()
    assert passport["extractor"] == f"clap:{clap_folder}"
    assert passport["sample_rate"] == 16_000
    assert passport["windows"].startswith("5 s without overlap")
    save_clap(tmp_path / "other", rate=24_000)
    other = CLAP(str(tmp_path / "other")).passport()
    assert other["sample_rate"] == 24_000
    assert other["weights_sha256"] == passport["weights_sha256"]
    model = save_clap(tmp_path / "trained")
    with torch.no_grad():
        model.audio_projection.linear1.bias += 1
    model.save_pretrained(tmp_path / "trained")
    assert CLAP(str(tmp_path / "trained")).passport()["weights_sha256"] != passport["weights_sha256"]


def incomplete(folder: Path, change: Callable[[dict[str, Tensor]], dict[str, Tensor]]) -> None:
    model = save_clap(folder)
    model.save_pretrained(folder, state_dict=change(model.state_dict()))


BROKEN = {
    "nothing there": lambda folder: None,
    "an empty folder": lambda folder: folder.mkdir(),
    "no processor": lambda folder: tiny.backbone().audio_encoder.save_pretrained(folder),
    "weights missing": lambda folder: incomplete(folder, lambda state: {k: v for k, v in state.items() if "projection" not in k}),
    "weights cut": lambda folder: (save_clap(folder), os.truncate(folder / "model.safetensors", 5000)),
    "an AudioLDM without text": lambda folder: tiny.backbone().audio_encoder.save_pretrained(folder / "audio_encoder"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_clap_is_one_sentence(tmp_path, kind):
    BROKEN[kind](tmp_path / "clap")
    with pytest.raises(
        InputError, match=r"clap: no CLAP (can be loaded \(.*\); copy the whole folder again|here; give its folder .*)\.$"
    ) as caught:
        CLAP(str(tmp_path / "clap"))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("laion/clap-htsat-unfused", "was not fetched yet; python -m audioldm_lit assets fetch clap-htsat-unfused."),
        ("nobody/no-such-clap", "was not fetched yet; python -m audioldm_lit assets fetch nobody/no-such-clap."),
        ("nowhere", "no CLAP here; give its folder or the hub id of one that was fetched."),
    ],
)
def test_a_clap_that_is_not_here_is_one_sentence_that_speaks_of_no_connection(workdir, name, sentence):
    with pytest.raises(InputError) as caught:
        CLAP(name)
    assert str(caught.value) == f"{name}: {sentence}"
