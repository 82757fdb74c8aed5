"""Griffin-Lim: log-mel -> waveform by a formula, with nothing trained.

The mel filters are inverted by least squares, the phase is found by alternating projections (Griffin and Lim 1984; fast version
Perraudin et al. 2013), both by torchaudio. A yardstick for trained vocoders, and the better choice for sounds that lie outside
their training. Letters in shapes: B batch, F frames, M mel bins, T samples.
"""

import torch
import torch.nn.functional as F
import torchaudio
from torch import Tensor, nn

from audioldm_lit.audio.log_mel import LogMel

ITERATIONS = 64


class GriffinLim(nn.Module):
    """Called like any vocoder: log-mels (B, F, M) -> waveforms (B, T) with T = F * hop_length.

    The first phase is drawn with seed 0, so that the same log-mel always gives the same waveform.

    Args:
        front_end: The log-mel to invert.
    """

    def __init__(self, front_end: LogMel) -> None:
        super().__init__()
        mel = front_end.mel
        bank = mel.mel_scale
        self.hop_length = front_end.hop_length
        self.inverse_mel = torchaudio.transforms.InverseMelScale(
            n_stft=mel.n_fft // 2 + 1, n_mels=bank.n_mels, sample_rate=bank.sample_rate, f_min=bank.f_min, f_max=bank.f_max,
            norm=bank.norm, mel_scale=bank.mel_scale,
        )  # fmt: skip
        self.find_phase = torchaudio.transforms.GriffinLim(
            n_fft=mel.n_fft, n_iter=ITERATIONS, win_length=mel.win_length, hop_length=mel.hop_length, power=1.0
        )

    @torch.no_grad()
    def forward(self, log_mel: Tensor) -> Tensor:
        """Log-mels (B, F, M) -> waveforms (B, T)."""
        with torch.autocast(log_mel.device.type, enabled=False), torch.random.fork_rng([]):
            torch.manual_seed(0)
            magnitude = self.inverse_mel(log_mel.float().exp().transpose(1, 2)).clamp(min=0)  # (B, bins, F)
            # Frame i of this transform is centred at i hops, of the front end half a hop later.
            before = self.hop_length // 2
            return F.pad(self.find_phase(magnitude), (before, self.hop_length - before))
