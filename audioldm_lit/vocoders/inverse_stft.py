"""A vocoder that stays at the frame rate and ends in an inverse Fourier transform, after Vocos.

Siuzdak 2023, arXiv 2306.00814: ConvNeXt blocks (Liu et al. 2022, arXiv 2201.03545) predict magnitude and phase of every frame;
no layer works at the sample rate. So it costs a fraction of HiFi-GAN and learns from few recordings in minutes. Letters in
shapes: B batch, F frames, M mel bins, H hidden width, N samples a frame, T samples.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import PretrainedConfig, PreTrainedModel

MEAN, STD = -5.0, 3.5  # nats: log-mels of recordings, roughly, brought to unit scale
MAX_LOG_MAGNITUDE = 7.0  # ln of a full-scale sine's magnitude under a Hann window of 1,024 samples is 5.5


class InverseSTFTVocoderConfig(PretrainedConfig):
    """Shape of an `InverseSTFTVocoder`, under the names that `SpeechT5HifiGanConfig` has for what both have.

    Args:
        sampling_rate: Hz.
        model_in_dim: Mel bins M.
        hop_length: Samples between frames.
        frame_length: Samples N of a frame, those of the front end.
        hidden_size: Width H.
        num_layers: ConvNeXt blocks.
        kernel_size: Frames that a block sees.
    """

    model_type = "inverse_stft_vocoder"

    def __init__(
        self,
        sampling_rate: int = 16_000,
        model_in_dim: int = 64,
        hop_length: int = 160,
        frame_length: int = 1024,
        hidden_size: int = 256,
        num_layers: int = 8,
        kernel_size: int = 7,
        **kwargs: Any,
    ) -> None:
        self.sampling_rate = sampling_rate
        self.model_in_dim = model_in_dim
        self.hop_length = hop_length
        self.frame_length = frame_length
        self.hidden_size = hidden_size
        self.num_layers = num_layers
        self.kernel_size = kernel_size
        super().__init__(**kwargs)

    @property
    def upsample_rates(self) -> list[int]:
        """Samples a frame as HiFi-GAN's configuration lists them, stage by stage."""
        return [self.hop_length]


class ConvNeXtBlock(nn.Module):
    """Depthwise convolution over frames, then a two-layer network a frame, added to the input; (B, F, H) -> (B, F, H)."""

    def __init__(self, hidden_size: int, kernel_size: int, scale: float) -> None:
        super().__init__()
        self.depthwise = nn.Conv1d(hidden_size, hidden_size, kernel_size, padding=kernel_size // 2, groups=hidden_size)
        self.norm = nn.LayerNorm(hidden_size)
        self.widen = nn.Linear(hidden_size, 3 * hidden_size)
        self.narrow = nn.Linear(3 * hidden_size, hidden_size)
        self.scale = nn.Parameter(torch.full((hidden_size,), scale))

    def forward(self, hidden: Tensor) -> Tensor:
        """Add the block's change to `hidden`."""
        change = self.norm(self.depthwise(hidden.transpose(1, 2)).transpose(1, 2))
        return hidden + self.scale * self.narrow(F.gelu(self.widen(change)))


class InverseSTFTVocoder(PreTrainedModel):
    """Log-mel -> waveform."""

    config_class = InverseSTFTVocoderConfig
    main_input_name = "log_mel"

    def __init__(self, config: InverseSTFTVocoderConfig) -> None:
        super().__init__(config)
        width, kernel = config.hidden_size, config.kernel_size
        self.embed = nn.Conv1d(config.model_in_dim, width, kernel, padding=kernel // 2)
        self.norm_in = nn.LayerNorm(width)
        self.blocks = nn.ModuleList(ConvNeXtBlock(width, kernel, 1 / config.num_layers) for _ in range(config.num_layers))
        self.norm_out = nn.LayerNorm(width)
        self.head = nn.Linear(width, config.frame_length + 2)
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        """Truncated normal weights, as ConvNeXt has them."""
        if isinstance(module, nn.Conv1d | nn.Linear):
            nn.init.trunc_normal_(module.weight, std=0.02)
            if module.bias is not None:
                nn.init.zeros_(module.bias)

    def forward(self, log_mel: Tensor) -> Tensor:
        """Log-mels (B, F, M), or (F, M) -> waveforms (B, T), or (T,), with T = F * hop_length."""
        mel = log_mel[None] if log_mel.dim() == 2 else log_mel
        hidden = self.embed(((mel - MEAN) / STD).transpose(1, 2)).transpose(1, 2)  # (B, F, H)
        hidden = self.norm_in(hidden)
        for block in self.blocks:
            hidden = block(hidden)
        log_magnitude, phase = self.head(self.norm_out(hidden)).float().chunk(2, dim=-1)  # (B, F, N / 2 + 1) each
        spectrum = torch.polar(log_magnitude.clamp(max=MAX_LOG_MAGNITUDE).exp(), phase)
        waveform = self.overlap_add(torch.fft.irfft(spectrum, n=self.config.frame_length))
        return waveform[0] if log_mel.dim() == 2 else waveform

    def overlap_add(self, frames: Tensor) -> Tensor:
        """Frames (B, F, N) -> waveforms (B, T): windowed, added at the hop, divided by the windows' summed squares."""
        length, hop = self.config.frame_length, self.config.hop_length
        window = torch.hann_window(length, device=frames.device)
        total = (frames.shape[1] - 1) * hop + length

        def add(parts: Tensor) -> Tensor:  # (B, N, F) -> (B, total)
            return F.fold(parts, output_size=(1, total), kernel_size=(1, length), stride=(1, hop))[:, 0, 0]

        summed = add((frames * window).transpose(1, 2))
        weight = add(window.square()[None, :, None].expand(1, -1, frames.shape[1]))
        edge = (length - hop) // 2  # what the front end pads on either side
        return (summed / weight.clamp(min=1e-8))[:, edge : edge + frames.shape[1] * hop]
