"""Log-spectral distance of a clip from its original: for vocoders and autoencoders, whose output must match sample by sample."""

import torch
import torch.nn.functional as F
from torch import Tensor

from audioldm_lit.errors import InputError
from audioldm_lit.metrics.base import ClipMetric, Rows, unpaired
from audioldm_lit.metrics.estimate import Estimate
from audioldm_lit.metrics.extractors.base import AudioBatch

FLOOR = 1e-12
WINDOW = 2048 / 44_100  # seconds
HOP = 0.01  # seconds


class LogSpectralDistance(ClipMetric):
    """Mean over frames and clips of the root mean square difference of log10 power spectra; 0 is best.

    Definition and settings of Liu et al. (2022, arXiv 2203.14941): windows of 2048 samples at 44.1 kHz, shorter in proportion at
    other rates, every 10 ms. Clips are paired by id and compared over their common length; level counts.
    """

    higher_is_better = False
    sides = ("preds",)

    def update(
        self,
        preds: AudioBatch | Tensor | None = None,
        target: AudioBatch | Tensor | None = None,
        train: AudioBatch | Tensor | None = None,
        reconstructed: AudioBatch | Tensor | None = None,
        sample_rate: int | None = None,
    ) -> None:
        """Compare pairs of one rate; a generated clip without its recording is refused at the end."""
        preds, target = self.batch("preds", preds, sample_rate), self.batch("target", target, sample_rate)
        if preds is None:
            return
        if target is None or list(preds.ids) != list(target.ids):
            self.add("preds", preds.ids, preds.waveform.new_full((len(preds.ids),), torch.nan))
            return
        if preds.sample_rate != target.sample_rate:
            raise InputError(
                preds.ids[0], f"is at {preds.sample_rate} Hz, its recording at {target.sample_rate} Hz", "resample one"
            )
        length = min(preds.waveform.shape[1], target.waveform.shape[1])
        spectra = [_power(batch.waveform[:, :length], batch.sample_rate) for batch in (preds, target)]
        # The paper adds the floor to the ratio too, which makes silence differ from itself; on both spectra it does not.
        ratio = torch.log10((spectra[1] + FLOOR) / (spectra[0] + FLOOR))  # (B, bins, F)
        self.add("preds", preds.ids, ratio.square().mean(dim=1).sqrt().mean(dim=1))

    def measure(self, preds: Rows) -> Estimate:
        """Mean over pairs."""
        alone = int(preds.values.isnan().sum())
        if alone:
            raise unpaired(alone, preds.num_clips)
        return Estimate.of_mean(preds.mean()[:, 0])


def _power(waveform: Tensor, sample_rate: int) -> Tensor:
    """(B, T) -> power spectra (B, bins, F) in float64."""
    n_fft = int(WINDOW * sample_rate)
    window = torch.hann_window(n_fft, dtype=torch.float64, device=waveform.device)
    waveform = F.pad(waveform.double(), (0, max(0, n_fft - waveform.shape[1])))
    spectrum = torch.stft(waveform, n_fft, round(HOP * sample_rate), window=window, return_complex=True)
    return spectrum.abs().square()
