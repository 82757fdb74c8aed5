"""VGGish: 128 numbers for every 0.96 s of a clip, the features of the Fréchet audio distance.

The network is Google's (Hershey et al. 2017, arXiv 1609.09430) in the PyTorch port torchvggish 0.1, whose file of weights loads
as it is. The features are those that audioldm_eval, fadtk and kadtk chose: the last layer before its ReLU,
neither whitened nor quantised, for patches that do not overlap. Letters in shapes: B clips, R patches a clip, N patches, F frames.
"""

import math
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor, nn

from audioldm_lit.metrics.extractors.base import Extractor
from audioldm_lit.metrics.extractors.weights import load_weights

SAMPLE_RATE = 16_000
WINDOW = 400  # samples, 25 ms
HOP = 160  # samples, 10 ms
N_FFT = 512
NUM_MELS = 64
FRAMES = 96  # a patch
STEP = FRAMES * HOP  # samples from patch to patch
PATCH = STEP - HOP + WINDOW  # samples that a patch's frames cover: 15,600, 0.975 s
CHUNK = 32  # patches at a time, to bound memory


def mel_matrix() -> Tensor:
    """(257, 64) float64, magnitude bins to bands: triangles of height 1, straight in HTK mel, ln(1 + Hz / 700), 125 to 7500 Hz."""
    low, high = math.log1p(125 / 700), math.log1p(7500 / 700)
    mel = torch.linspace(0, SAMPLE_RATE / 2, N_FFT // 2 + 1, dtype=torch.float64).div(700).log1p()
    place = (mel - low) / (high - low) * (NUM_MELS + 1)  # the bands' centres are at 1 to 64
    return (1 - (place[:, None] - torch.arange(1, NUM_MELS + 1)).abs()).clamp(min=0)


def log_mel(waveform: Tensor) -> Tensor:
    """Waveform (N, T) at 16 kHz -> natural log of mel magnitude plus 0.01, (N, F, 64), F = 1 + (T - 400) // 160: no centring."""
    # In double precision, like the original: near the offset of 0.01 the logarithm would magnify a float32 FFT's rounding.
    frames = waveform.double().unfold(1, WINDOW, HOP)  # (N, F, 400)
    magnitude = torch.fft.rfft(frames * torch.hann_window(WINDOW, dtype=torch.float64, device=waveform.device), N_FFT).abs()
    return (magnitude @ mel_matrix().to(waveform.device) + 0.01).log().float()


class VGGishNet(nn.Module):
    """The network, with the names of layers of torchvggish's file."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for widths in [(1, 64), (64, 128), (128, 256, 256), (256, 512, 512)]:
            for width, next_width in pairwise(widths):
                layers += [nn.Conv2d(width, next_width, 3, padding=1), nn.ReLU()]
            layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers)
        self.embeddings = nn.Sequential(
            nn.Linear(6 * 4 * 512, 4096), nn.ReLU(), nn.Linear(4096, 4096), nn.ReLU(), nn.Linear(4096, 128)
        )

    def forward(self, patches: Tensor) -> Tensor:
        """Log-mel patches (N, 96, 64) -> (N, 128)."""
        maps = self.features(patches[:, None])  # (N, 512, 6, 4)
        return self.embeddings(maps.permute(0, 2, 3, 1).flatten(1))  # channels last, as TensorFlow flattens


class VGGish(Extractor):
    """VGGish's rows, one for each whole patch of 96 frames; what is left at a clip's end is dropped.

    Args:
        weights: `vggish-10086976.pth` of torchvggish; by default where `assets fetch vggish` puts it.
    """

    name = "vggish"
    sample_rate = SAMPLE_RATE
    min_samples = PATCH

    def __init__(self, weights: Path | None = None) -> None:
        self.network = VGGishNet()
        self.sha256 = load_weights(self.network, weights, "vggish")

    def embed(self, waveform: Tensor, captions: Sequence[str] | None) -> dict[str, Tensor]:
        """Waveform (B, T) -> `embedding`: (B, R, 128) with R = 1 + (T - 15,600) // 15,360."""
        patches = waveform.unfold(1, PATCH, STEP)  # (B, R, 15,600)
        # Clip by clip: the last bits of a matrix product hang on its number of rows, and a clip's features must not on its batch.
        rows = [torch.cat([self.network(log_mel(chunk)) for chunk in clip.split(CHUNK)]) for clip in patches]
        return {"embedding": torch.stack(rows)}
