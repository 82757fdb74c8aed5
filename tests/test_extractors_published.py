"""VGGish and PANNs' Cnn14 against torchvggish and panns_inference, on shared random weights; and what is not a file of weights."""

import functools
import hashlib
import importlib
import importlib.util
import pickle
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType

import numpy as np
import pytest
import torch
import torchvggish
from torch import Tensor, nn

from audioldm_lit.errors import InputError
from audioldm_lit.metrics.extractors import vggish
from audioldm_lit.metrics.extractors.base import AudioBatch, Extractor
from audioldm_lit.metrics.extractors.panns import Cnn14
from audioldm_lit.metrics.extractors.vggish import VGGish
from audioldm_lit.metrics.extractors.weights import load_weights

NAME = "panns-cnn14-16k"
VGGISH_PATCH, VGGISH_STEP = 15_600, 15_360


def panns_models() -> ModuleType:
    """`panns_inference.models` under another package's name: the package itself downloads a file when it is imported."""
    package = ModuleType("panns_reference")
    package.__path__ = importlib.util.find_spec("panns_inference").submodule_search_locations
    sys.modules[package.__name__] = package
    return importlib.import_module("panns_reference.models")


def randomize(network: nn.Module) -> nn.Module:
    """Weights that keep a signal's size from layer to layer, and statistics of normalisation that are not 0 and 1."""
    generator = torch.Generator().manual_seed(0)
    tensors = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    for name, tensor in tensors.items():
        if name.startswith(("spectrogram", "logmel")) or not tensor.is_floating_point():
            continue
        if tensor.ndim > 1:
            tensor.data.normal_(0, (2 / tensor[0].numel()) ** 0.5, generator=generator)
        elif name.endswith("running_var") or (".bn" in name and name.endswith("weight")):
            tensor.data.uniform_(0.5, 1.5, generator=generator)
        else:
            tensor.data.normal_(0, 0.1, generator=generator)
    return network.eval()


def load(content: object, make: Callable[..., Extractor], *args: int) -> Extractor:
    with TemporaryDirectory() as folder:  # 300 MB, not to be kept
        torch.save(content, Path(folder) / "weights.pth")
        return make(*args, weights=Path(folder) / "weights.pth")


@functools.lru_cache(maxsize=2)  # each takes 0.6 GB
def pair(name: str) -> tuple[nn.Module, Extractor]:
    """A package's network with random weights, and our extractor that read them from a file."""
    if name == "vggish":
        reference = randomize(torchvggish.torchvggish._vgg())
        extractor = load(reference.state_dict(), VGGish)
        reference.embeddings[-1] = nn.Identity()  # the ReLU that no program for FAD applies
        return reference, extractor
    rate, n_fft, hop_length, f_max = {"cnn14-16k": (16_000, 512, 160, 8000), "cnn14-32k": (32_000, 1024, 320, 14_000)}[name]
    reference = randomize(panns_models().Cnn14(rate, n_fft, hop_length, 64, 50, f_max, 527))
    reference.bn0.running_mean -= 20  # dB, about the level of the clips here
    reference.bn0.running_var += 100
    return reference, load({"iteration": 1, "model": reference.state_dict()}, Cnn14, rate)


@pytest.fixture(params=["vggish", pytest.param("cnn14-16k", marks=pytest.mark.nightly)])  # 80 million weights, of the same class
def extractor(request) -> Extractor:
    return pair(request.param)[1]


def clips(num_samples: int) -> Tensor:
    """(4, T): noise, faint noise, a tone that stops half way, silence with a click."""
    generator = torch.Generator().manual_seed(num_samples)
    waveform = torch.zeros(4, num_samples)
    waveform[:2] = torch.randn(2, num_samples, generator=generator) * torch.tensor([[0.2], [1e-3]])
    waveform[2, : num_samples // 2] = 0.5 * torch.sin(0.1 * torch.arange(num_samples // 2))
    waveform[3, num_samples // 3] = 0.9
    return waveform


def features(extractor: Extractor, waveform: Tensor) -> dict[str, Tensor]:
    return extractor(AudioBatch([str(i) for i in range(len(waveform))], waveform, extractor.sample_rate))


def relative_error(ours: Tensor, reference: Tensor) -> float:
    assert ours.shape == reference.shape
    return ((ours - reference).norm(dim=-1) / reference.norm(dim=-1)).max().item()


# ---------------------------------------------------------------- against the packages


@pytest.mark.parametrize(
    ("name", "num_samples"),
    [
        ("cnn14-16k", 57_123),
        pytest.param("cnn14-16k", 32_000, marks=pytest.mark.nightly),
        pytest.param("cnn14-32k", 57_123, marks=pytest.mark.nightly),
    ],
)
def test_cnn14_equals_panns_inference(name, num_samples):
    reference, extractor = pair(name)  # our mel matrix and kernels start random: equality says that they came with the file
    waveform = clips(num_samples)
    ours = features(extractor, waveform)
    with torch.no_grad():
        log_mel = reference.logmel_extractor(reference.spectrogram_extractor(waveform))[:, 0]
        output = [reference(clip[None]) for clip in waveform]
        theirs = torch.stack([one["embedding"] for one in output])
        logits = reference.fc_audioset(theirs)
        our_log_mel = extractor.network.log_mel(waveform)
    assert our_log_mel.numpy() == pytest.approx(log_mel.numpy(), rel=1e-6, abs=1e-4)
    assert ours["embedding"].shape == (4, 1, 2048)
    assert ours["logits"].shape == (4, 1, 527)
    assert relative_error(ours["embedding"], theirs) < 1e-6
    assert relative_error(ours["logits"], logits) < 1e-6
    assert relative_error(ours["logits"].sigmoid(), torch.stack([one["clipwise_output"] for one in output])) < 1e-6


@pytest.mark.parametrize(
    ("num_samples", "rows"), [(15_600, 1), (30_959, 1), (30_960, 2), pytest.param(163_840, 10, marks=pytest.mark.nightly)]
)
def test_vggish_equals_torchvggish(num_samples, rows):
    reference, extractor = pair("vggish")
    waveform = clips(num_samples)
    ours = features(extractor, waveform)["embedding"]
    patches = torch.stack([torchvggish.waveform_to_examples(clip.numpy(), 16_000).detach()[:, 0] for clip in waveform])
    our_patches = torch.stack([vggish.log_mel(clip.unfold(0, VGGISH_PATCH, VGGISH_STEP)) for clip in waveform])
    assert our_patches.numpy() == pytest.approx(patches.numpy(), rel=1e-6)
    with torch.no_grad():
        theirs = torch.stack([reference(clip[:, None]) for clip in patches])
    assert ours.shape == (4, rows, 128)
    assert relative_error(ours, theirs) < 1e-6


def test_random_weights_let_features_tell_clips_apart(extractor):
    for rows in features(extractor, clips(48_000)).values():
        rows = rows[:, 0]
        assert rows.isfinite().all()
        assert 0.2 < (rows > 0).float().mean() < 0.8
        assert (torch.cdist(rows, rows) + torch.eye(4) * 1e9).min() > 0.01 * rows.norm(dim=1).max()


# ---------------------------------------------------------------- what every extractor promises


def test_a_short_clip_is_padded_with_zeros_at_its_end(extractor):
    waveform = clips(extractor.min_samples)
    short = waveform[:, : extractor.min_samples - 1]
    padded = torch.cat([short, torch.zeros(4, 1)], dim=1)
    ours, theirs, whole = (features(extractor, one) for one in (short, padded, waveform))
    for name in ours:
        assert ours[name].shape[1] == 1
        assert torch.equal(ours[name], theirs[name])
        assert not torch.equal(ours[name], whole[name])


def test_the_shortest_clip_is_a_patch_or_audioldm_eval_s():
    assert VGGish.min_samples == 95 * 160 + 400
    assert Cnn14.min_samples == 32_000


def test_features_do_not_depend_on_the_batch_bit_for_bit(extractor):
    waveform = clips(32_001)
    together = features(extractor, waveform)
    for name, rows in together.items():
        alone = torch.cat([features(extractor, clip[None])[name] for clip in waveform])
        assert torch.equal(rows, alone)
        assert torch.equal(rows[[2, 0, 3]], features(extractor, waveform[[2, 0, 3]])[name])


def test_a_long_clip_gives_the_rows_of_its_pieces():
    extractor = pair("vggish")[1]
    num_patches = vggish.CHUNK + 1
    waveform = clips((num_patches - 1) * VGGISH_STEP + VGGISH_PATCH + 100)[:1]
    rows = features(extractor, waveform)["embedding"][0]
    assert len(rows) == num_patches
    assert torch.equal(rows[:-1], features(extractor, waveform[:, : vggish.CHUNK * VGGISH_STEP + 240])["embedding"][0])
    assert torch.equal(rows[-1:], features(extractor, waveform[:, vggish.CHUNK * VGGISH_STEP :])["embedding"][0])


def test_autocast_does_not_change_features(extractor):
    waveform = clips(32_000)
    plain = features(extractor, waveform)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = features(extractor, waveform)
    for name, rows in plain.items():
        assert mixed[name].dtype == torch.float32
        assert torch.equal(mixed[name], rows)


def test_the_module_that_holds_an_extractor_neither_saves_nor_trains_it(extractor):
    holder = nn.Module()
    holder.extractor = extractor
    holder.train().half()
    assert not holder.state_dict()
    assert not list(holder.parameters())
    assert not any(module.training for module in extractor.network.modules())
    assert not any(parameter.requires_grad for parameter in extractor.network.parameters())
    assert features(extractor, clips(32_000))["embedding"].dtype == torch.float32


@pytest.mark.parametrize(
    ("make", "args", "name", "file"),
    [
        (VGGish, (), "vggish", "vggish-10086976.pth"),
        (Cnn14, (16_000,), "panns-cnn14-16k", "Cnn14_16k_mAP=0.438.pth"),
        (Cnn14, (32_000,), "panns-cnn14-32k", "Cnn14_mAP=0.431.pth"),
    ],
)
def test_without_its_file_an_extractor_says_which_one_and_what_fetches_it(workdir, make, args, name, file):
    with pytest.raises(InputError) as caught:
        make(*args)
    assert str(workdir / "cache" / "audioldm_lit" / "weights" / file) in str(caught.value)
    assert f"python -m audioldm_lit assets fetch {name}, or evaluate --weights {name}=FILE" in str(caught.value)


# ---------------------------------------------------------------- files of weights


def test_passport_names_the_network_and_the_hash_of_its_file():
    passports = [pair(name)[1].passport() for name in ("vggish", "cnn14-16k")]
    assert [passport["extractor"] for passport in passports] == ["vggish", "panns-cnn14-16k"]
    assert all(len(passport["weights_sha256"]) == 64 for passport in passports)


@pytest.mark.parametrize("zipped", [True, False], ids=["today's format", "the format of 2019"])
@pytest.mark.parametrize("entry", [True, False], ids=["in an entry", "bare"])
def test_weights_arrive_unchanged_frozen_and_hashed(tmp_path, zipped, entry):
    source, network = nn.Linear(3, 4), nn.Linear(3, 4)
    state = source.state_dict()
    torch.save({"model": state, "iteration": 1} if entry else state, tmp_path / "w.pth", _use_new_zipfile_serialization=zipped)
    sha256 = load_weights(network, tmp_path / "w.pth", NAME)
    assert sha256 == hashlib.sha256((tmp_path / "w.pth").read_bytes()).hexdigest()
    assert torch.equal(network.weight, source.weight)
    assert not network.training
    assert not network.weight.requires_grad


def test_a_training_sampler_beside_the_weights_does_not_stop_them(tmp_path, monkeypatch):
    """As in the published 16 kHz file: int64 arrays of NumPy 1."""
    monkeypatch.setattr(np.empty(0).__reduce__()[0], "__module__", "numpy.core.multiarray")
    sampler = {"indexes_per_class": [np.arange(5), np.arange(3)], "queue": [3], "pointers_of_classes": [0, 0]}
    path = tmp_path / "w.pth"
    torch.save(
        {"iteration": 1, "model": nn.Linear(3, 4).state_dict(), "sampler": sampler}, path, _use_new_zipfile_serialization=False
    )
    assert b"numpy.core.multiarray" in path.read_bytes()
    assert load_weights(nn.Linear(3, 4), path, NAME)


class Intruder:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def test_code_in_a_file_is_not_run(tmp_path):
    torch.save({"model": nn.Linear(3, 4).state_dict(), "more": Intruder(tmp_path / "been here")}, tmp_path / "w.pth")
    with pytest.raises(InputError, match=r"w\.pth"):
        load_weights(nn.Linear(3, 4), tmp_path / "w.pth", NAME)
    assert not (tmp_path / "been here").exists()


CONTENTS = {
    "a number": 3,
    "a list": [torch.zeros(4)],
    "no state": {"model": 3},
    "other names": {"model": nn.Bilinear(2, 3, 4).state_dict()},
    "another shape": nn.Linear(4, 4).state_dict(),
    "one name more": {**nn.Linear(3, 4).state_dict(), "scale": torch.ones(1)},
    "one name less": {"weight": torch.zeros(4, 3)},
}
FILES = {
    "no bytes": b"",
    "a web page": b"<!DOCTYPE html><html>404</html>",
    "a text": b"Gone\n",
    "a sound": b"RIFF\x24\0\0\0WAVEfmt ",
    "a zip": b"PK\3\4" + bytes(100),
    "another pickle": pickle.dumps({"model": np.float64(1)}, protocol=2),
}


@pytest.mark.parametrize("kind", ["missing", "folder", "half", "half of 2019", *CONTENTS, *FILES])
def test_what_is_not_the_network_s_file_is_one_sentence_naming_it(tmp_path, kind):
    path = tmp_path / "w.pth"
    if kind == "folder":
        path.mkdir()
    elif kind.startswith("half"):
        torch.save(nn.Linear(3, 4).state_dict(), path, _use_new_zipfile_serialization=kind == "half")
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    elif kind in CONTENTS:
        torch.save(CONTENTS[kind], path)
    elif kind in FILES:
        path.write_bytes(FILES[kind])
    with pytest.raises(InputError) as caught:
        load_weights(nn.Linear(3, 4), path, NAME)
    sentence = str(caught.value)
    assert sentence.startswith(f"{path}: ")
    assert f"assets fetch {NAME}" in sentence
    assert sentence.endswith(".")
    assert "\n" not in sentence
