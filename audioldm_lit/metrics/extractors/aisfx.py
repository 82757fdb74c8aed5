"""AISFX: a network trained on professional sound-effects libraries, small enough to be fetched with pip.

Weights by Alison B. Ma and Alexander Lerch, CC BY 4.0, from "Representation Learning for the Automatic Indexing of Sound Effects
Libraries" (ISMIR 2022, arXiv 2208.09096), from the wheel `aisfx`, whose code is not used. Letters in shapes: N blocks of sound,
R blocks a clip, F frames, M mel bins.
"""

import hashlib
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
import torchaudio
from torch import Tensor, nn

from audioldm_lit.assets.finding import given_for
from audioldm_lit.assets.registry import wheel
from audioldm_lit.errors import InputError
from audioldm_lit.metrics.extractors.base import Extractor
from audioldm_lit.networks.strict_loading import load_strictly
from audioldm_lit.storage.cache_folder import cache_folder

WHEEL = wheel("aisfx")
CHECKPOINT_SHA256 = "499ea75909c932a2f94c35fa722fa4fabc5bcb7e84917209cc5f7402627b7eb5"
SAMPLE_RATE = 44_100
N_FFT, HOP_LENGTH, N_MELS = 2048, 1024, 96
LOUDEST = 9.457798957824707  # highest log-mel value of the training set, scaled to 1
BLOCK = N_FFT + 99 * HOP_LENGTH  # samples under 100 frames: 2.35 s
BLOCK_HOP = 50 * HOP_LENGTH
# The head of the Pro Sound Effects library. Of the three whose classes are UCS categories, its tell most about the classes of
# ESC-10: 1.52 nats of mutual information, against 1.36 (Soundly) and 1.34 (UCS Mixed).
HEAD = "prosfx"
AT_ONCE = 4  # blocks: more take memory and, their activations being larger than a processor's cache, no less time


class AISFX(Extractor):
    """Embeddings and class logits of a CNN trained on nine sound-effects libraries.

    Features: `blocks` (B, R, 512), one row for every block of 2.35 s at a hop of 1.16 s, the tail dropped; `embedding` (B, 1, 512),
    their mean; `logits` (B, 1, 78), before the softmax, over the categories of the Universal Category System (UCS) found in the
    library Pro Sound Effects, the mean over blocks. The file does not name the categories.

    It hears bandwidth: a clip and its copy at 16 kHz lie apart, so sets to compare should have passed through one sample rate.

    Args:
        weights: The file checkpoint.pth of the wheel `aisfx`; where not given, it is fetched (23 MB, once) into
            `$XDG_CACHE_HOME/audioldm_lit/aisfx`, by default under `~/.cache`.

    Raises:
        InputError: If the weights cannot be fetched, are missing or are not the published ones.
    """

    network: "Network"
    features = ("blocks", "embedding", "logits")
    name = "aisfx"
    sample_rate = SAMPLE_RATE
    min_samples = BLOCK

    def __init__(self, weights: Path | None = None) -> None:
        mend = f"give the one of {WHEEL.requirement} as `weights`, or none to fetch it"
        weights = weights or given_for("aisfx")
        if weights is None:
            folder = cache_folder() / "aisfx"
            WHEEL.fetch(folder, lay_out)
            weights, mend = folder / "checkpoint.pth", f"remove the folder {folder} to fetch it again"
        self.sha256 = verify(weights, mend)
        # The file is a pair: the weights, and of each head its number (a NumPy scalar, hence the list of what is safe) and classes.
        scalar: tuple[Any, str] = (np.int64(0).__reduce__()[0], "numpy.core.multiarray.scalar")
        with torch.serialization.safe_globals([scalar, np.dtype, type(np.dtype("int64"))]):
            state, heads = torch.load(weights, map_location="cpu", weights_only=True)
        network = Network([num_classes for _, num_classes in heads.values()])
        load_strictly(network.state_dict(), state)
        # Channels last is a third faster on CPUs.
        self.network = network.requires_grad_(False).eval().to(memory_format=torch.channels_last)
        self.head = int(heads[HEAD][0])

    def embed(self, waveform: Tensor, captions: Sequence[str] | None) -> dict[str, Tensor]:
        """Waveform (B, T) at 44.1 kHz, T at least 103,424 -> `blocks`, `embedding` and `logits`."""
        head = self.network.fc[self.head]
        blocks, embeddings, logits = [], [], []
        for clip in waveform.unfold(1, BLOCK, BLOCK_HOP):  # (R, BLOCK); one by one, so nothing hangs on which clips share a batch
            rows = torch.cat([self.network(some) for some in clip.split(AT_ONCE)])  # (R, 512)
            blocks.append(rows)
            embeddings.append(rows.mean(0, keepdim=True))
            logits.append(head(rows).mean(0, keepdim=True))
        return {"blocks": torch.stack(blocks), "embedding": torch.stack(embeddings), "logits": torch.stack(logits)}

    def passport(self) -> dict[str, Any]:
        """Everything its features depend on, as plain values."""
        front_end = f"hann-{N_FFT}-{HOP_LENGTH}-htk{N_MELS}-log10-block{BLOCK}-{BLOCK_HOP}"
        return super().passport() | {"front_end": front_end, "head": HEAD}


class Network(nn.Module):
    """Front end, embedding and heads, with the names in the file of weights.

    Args:
        num_classes: Of each head.
    """

    def __init__(self, num_classes: Sequence[int]) -> None:
        super().__init__()
        self.front_end = FrontEnd()
        self.embedding_net = EmbeddingNet()
        layers = ((nn.Linear(512, 256), nn.ReLU(), nn.Linear(256, 128), nn.ReLU(), nn.Linear(128, k)) for k in num_classes)
        self.fc = nn.ModuleList(nn.Sequential(*head) for head in layers)

    def forward(self, waveform: Tensor) -> Tensor:
        """Blocks of sound (N, T) -> embeddings (N, 512)."""
        return self.embedding_net(self.front_end(waveform))


class FrontEnd(nn.Module):
    """Log-mel spectrogram as the weights were trained with: log10(1 + 10,000 x) of an HTK mel power, 1 at the loudest.

    The Hann window is symmetric and not scaled; frames are not centred; each mel filter's weights sum to 1. These are the settings
    of Essentia in the authors' package except for two that move embeddings by a thousandth: there, frames are centred and the
    filters are triangles in mel, not in Hz.
    """

    def __init__(self) -> None:
        super().__init__()
        bank = torchaudio.functional.melscale_fbanks(
            N_FFT // 2 + 1, 0.0, SAMPLE_RATE / 2, N_MELS, SAMPLE_RATE, norm=None, mel_scale="htk"
        )  # (bins, M)
        self.window: Tensor
        self.bank: Tensor
        self.register_buffer("window", torch.hann_window(N_FFT, periodic=False), persistent=False)
        self.register_buffer("bank", bank / bank.sum(0), persistent=False)

    def forward(self, waveform: Tensor) -> Tensor:
        """Waveform (N, T) in [-1, 1] -> log-mel (N, 1, F, M) with F = 1 + (T - 2048) // 1024."""
        spectrum = torch.stft(waveform, N_FFT, HOP_LENGTH, window=self.window, center=False, return_complex=True)  # (N, bins, F)
        mel = torch.view_as_real(spectrum).square().sum(-1).transpose(1, 2) @ self.bank  # (N, F, M)
        return (1 + 1e4 * mel).log10()[:, None] / LOUDEST


class EmbeddingNet(nn.Module):
    """Four double convolutions of growing width; the mean over mel, then the maximum over time."""

    def __init__(self) -> None:
        super().__init__()
        self.conv_block1 = ConvBlock(1, 64)
        self.conv_block2 = ConvBlock(64, 128)
        self.conv_block3 = ConvBlock(128, 256)
        self.conv_block4 = ConvBlock(256, 512)

    def forward(self, log_mel: Tensor) -> Tensor:
        """Log-mel (N, 1, F, M) -> embeddings (N, 512)."""
        x = log_mel
        for block in (self.conv_block1, self.conv_block2, self.conv_block3):
            x = F.max_pool2d(block(x), 2)
        return self.conv_block4(x).mean(3).amax(2)


class ConvBlock(nn.Module):
    """Twice: 3 x 3 convolution, batch norm, ReLU."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.bn2 = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """(N, in_channels, F, M) -> (N, out_channels, F, M)."""
        x = self.bn1(self.conv1(x)).relu_()
        return self.bn2(self.conv2(x)).relu_()


def lay_out(archive: zipfile.ZipFile, folder: Path) -> None:
    """Take the weights and their licence from the wheel."""
    (folder / "checkpoint.pth").write_bytes(archive.read("aisfx/models/checkpoint.pth"))
    (folder / "LICENSE").write_bytes(archive.read("aisfx-0.1.2.dist-info/licenses/LICENSE"))


def verify(weights: Path, mend: str) -> str:
    """SHA-256 of the file of weights; `mend` says what helps where it is not the published one.

    Raises:
        InputError: If the file is missing or another one.
    """
    try:
        with weights.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(weights, f"cannot be read ({error.strerror})", mend) from error
    if found != CHECKPOINT_SHA256:
        raise InputError(weights, f"its SHA-256 is {found}, not {CHECKPOINT_SHA256}", mend)
    return found
