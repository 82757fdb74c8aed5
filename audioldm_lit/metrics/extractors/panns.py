"""PANNs' Cnn14: 2048 numbers and 527 AudioSet logits a clip, the features of AudioLDM's Fréchet distance, KL and Inception score.

The network is that of Kong et al. 2020 (arXiv 1912.10211, section IV-A), inference only; its published files load as they are, with
the STFT kernels and the mel matrix they were trained with. Letters in shapes: B clips, T samples, K frequency bins, F frames, C
channels.
"""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from audioldm_lit.metrics.extractors.base import Extractor
from audioldm_lit.metrics.extractors.weights import load_weights

SampleRate = Literal[16000, 32000]

FRONT_ENDS = {16_000: (512, 160), 32_000: (1024, 320)}  # FFT and window length, hop
WIDTHS = (1, 64, 128, 256, 512, 1024, 2048)


class Block(nn.Module):
    """Two convolutions, each normalised and rectified."""

    def __init__(self, width: int, next_width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, next_width, 3, padding=1, bias=False)
        self.conv2 = nn.Conv2d(next_width, next_width, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(next_width)
        self.bn2 = nn.BatchNorm2d(next_width)

    def forward(self, maps: Tensor) -> Tensor:
        """(B, C, F, M) -> (B, C', F, M)."""
        return self.bn2(self.conv2(self.bn1(self.conv1(maps)).relu())).relu()


class Cnn14Net(nn.Module):
    """The network, with the names of layers of the published files."""

    def __init__(self, sample_rate: SampleRate = 16000) -> None:
        super().__init__()
        self.n_fft, hop_length = FRONT_ENDS[sample_rate]
        bins = self.n_fft // 2 + 1
        kernels = {name: nn.Conv1d(1, bins, self.n_fft, hop_length, bias=False) for name in ("conv_real", "conv_imag")}
        self.spectrogram_extractor = nn.ModuleDict({"stft": nn.ModuleDict(kernels)})
        self.logmel_extractor = nn.ParameterDict({"melW": torch.rand(bins, 64)})
        self.bn0 = nn.BatchNorm2d(64)
        for i, widths in enumerate(pairwise(WIDTHS), start=1):
            self.add_module(f"conv_block{i}", Block(*widths))
        self.fc1 = nn.Linear(2048, 2048)
        self.fc_audioset = nn.Linear(2048, 527)

    def log_mel(self, waveform: Tensor) -> Tensor:
        """Waveform (B, T) -> mel power in dB, at least -100, (B, F, 64); centred frames, reflected at the ends."""
        padded = F.pad(waveform[:, None], (self.n_fft // 2, self.n_fft // 2), mode="reflect")
        real, imag = (kernel(padded) for kernel in self.spectrogram_extractor["stft"].children())  # (B, K, F)
        power = real.square() + imag.square()
        return 10 * (power.transpose(1, 2) @ self.logmel_extractor["melW"]).clamp(min=1e-10).log10()

    def forward(self, waveform: Tensor) -> tuple[Tensor, Tensor]:
        """Waveform (B, T) -> rectified first dense layer (B, 2048), and logits of the classes (B, 527)."""
        maps = self.bn0(self.log_mel(waveform).transpose(1, 2)[..., None]).transpose(1, 3)  # each band by itself; (B, 1, F, 64)
        for i in range(1, len(WIDTHS)):
            maps = getattr(self, f"conv_block{i}")(maps if i == 1 else F.avg_pool2d(maps, 2))
        frames = maps.mean(dim=3)  # (B, 2048, F / 32)
        embedding = self.fc1(frames.amax(dim=2) + frames.mean(dim=2)).relu()
        return embedding, self.fc_audioset(embedding)


class Cnn14(Extractor):
    """Cnn14's features, one row a clip whatever its length.

    Args:
        sample_rate: Which of the two networks, in Hz; papers on AudioLDM report the one of 16 kHz.
        weights: `Cnn14_16k_mAP=0.438.pth` or `Cnn14_mAP=0.431.pth`; by default where `assets fetch panns-cnn14-16k` puts it.
    """

    features = ("embedding", "logits")
    min_samples = 32_000  # audioldm_eval's rule at either rate; zeros are not neutral, so the rule is part of the number

    def __init__(self, sample_rate: SampleRate = 16000, weights: Path | None = None) -> None:
        self.name = f"panns-cnn14-{sample_rate // 1000}k"
        self.sample_rate = sample_rate
        self.network = Cnn14Net(sample_rate)
        self.sha256 = load_weights(self.network, weights, self.name)

    def embed(self, waveform: Tensor, captions: Sequence[str] | None) -> dict[str, Tensor]:
        """Waveform (B, T) -> `embedding`: (B, 1, 2048), non-negative, and `logits` before the sigmoid: (B, 1, 527)."""
        # Clip by clip: the last bits of a matrix product hang on its number of rows, and a clip's features must not on its batch.
        embeddings, logits = zip(*[self.network(clip) for clip in waveform.split(1)], strict=True)
        return {"embedding": torch.stack(embeddings), "logits": torch.stack(logits)}
