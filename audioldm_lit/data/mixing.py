"""Two clips in one, as Tango mixes them (Ghosal et al. 2023, arXiv 2304.13731): both are heard, both are named. T samples."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from audioldm_lit.audio.waveform import PEAK
from audioldm_lit.errors import InputError

KEY = "data.init_args.augmentation.init_args.mix.init_args"


class Mix:
    """Mixes a clip with another, so that both are heard, and joins the captions.

    Between-class learning (Tokozume et al. 2018, arXiv 1711.10282) as Tango uses it, though there both clips are always
    equally loud. The mixture has the training clips' peak; where both clips have one caption, the mixture has it too.

    Args:
        probability: How often a variant is a mixture, in [0, 1].
        min_level_db: Least level of the clip above its partner in the mixture, in dB as heard (A-weighted).
        max_level_db: Greatest such level in dB. Both captions are named without their levels, so neither clip should be faint.
        join: The mixture's caption; its fields are {first} and {second}.
    """

    def __init__(
        self,
        probability: float = 0.5,
        min_level_db: float = -6.0,
        max_level_db: float = 6.0,
        join: str = "{first} and {second}",
    ) -> None:
        if not 0 <= probability <= 1:
            raise InputError(f"{KEY}.probability", f"is {probability}", "give a number from 0 to 1")
        if not -math.inf < min_level_db <= max_level_db < math.inf:
            raise InputError(
                f"{KEY}.min_level_db", f"is {min_level_db} and max_level_db {max_level_db}", "give dB, the lower first"
            )
        try:
            both = all(mark in join.format(first="\0", second="\1") for mark in "\0\1")
        except (AttributeError, LookupError, ValueError):
            both = False
        if not both:
            raise InputError(f"{KEY}.join", f"is '{join}'", "give it the fields {first} and {second}")
        self.probability = probability
        self.min_level_db = min_level_db
        self.max_level_db = max_level_db
        self.join = join

    def __call__(
        self, first: tuple[Tensor, str], second: tuple[Tensor, str], sample_rate: int, generator: torch.Generator
    ) -> tuple[Tensor, str]:
        """Mix two clips (T,) with their captions, or return the first, as the generator decides."""
        level = self.level(generator)
        if level is None:
            return first
        mixed = mixture(first[0], second[0], 1 / (1 + 10 ** (-level / 20)), sample_rate)
        mixed = PEAK * mixed / mixed.abs().max().clamp(min=1e-8)
        return mixed, self.caption(first[1], second[1])

    def level(self, generator: torch.Generator) -> float | None:
        """Level of the clip above its partner in dB; none where the variant is no mixture."""
        chance, place = torch.rand(2, generator=generator, dtype=torch.float64).tolist()
        return None if chance >= self.probability else self.min_level_db + place * (self.max_level_db - self.min_level_db)

    def caption(self, first: str, second: str) -> str:
        """Join two captions, or keep the one that both share; an abbreviation at the start of the second stays in capitals."""
        if first == second:
            return first
        second = second if second[1:2].isupper() else second[:1].lower() + second[1:]
        return self.join.format(first=first.rstrip(". "), second=second)


def mixture(first: Tensor, second: Tensor, r: float, sample_rate: int) -> Tensor:
    """Mix two clips (T,) so that the first's share as heard is `r` in (0, 1); uncorrelated clips of one level keep it.

    Tokozume et al. 2018, section 3: levelled, then weighted r to (1 - r), over the root of the weights' power. Tango has r = 1/2.
    """
    difference = pressure_level(first, sample_rate) - pressure_level(second, sample_rate)
    p = 1 / (1 + 10 ** (difference / 20) * (1 - r) / r)
    return (p * first + (1 - p) * second) / math.sqrt(p**2 + (1 - p) ** 2)


def pressure_level(waveform: Tensor, sample_rate: int) -> float:
    """Level of a clip (T,) in its loudest 128 ms, in A-weighted dB up to a constant.

    As in both papers' code: half-overlapping Hann windows (2,048 samples at 16 kHz), power floored at -80 dB.
    """
    n_fft = 2 * round(0.064 * sample_rate)
    waveform = F.pad(waveform.double(), (0, max(0, n_fft - len(waveform))))
    window = torch.hann_window(n_fft, dtype=torch.float64)
    spectrum = torch.stft(waveform, n_fft, n_fft // 2, window=window, center=False, return_complex=True)  # (n_fft / 2 + 1, frames)
    weights = a_weighting(torch.linspace(0, sample_rate / 2, n_fft // 2 + 1, dtype=torch.float64))
    power = (spectrum.abs() * weights[:, None]).square().sum(dim=0).max().item()
    return 10 * math.log10(max(power, 1e-8))


def a_weighting(frequencies: Tensor) -> Tensor:
    """Amplitude of the A-weighting filter at frequencies in Hz, 1 at 1 kHz (IEC 61672-1)."""
    f2 = frequencies.square()
    roots = ((f2 + 107.7**2) * (f2 + 737.9**2)).sqrt()
    return 10**0.1 * 12194**2 * f2.square() / ((f2 + 20.6**2) * roots * (f2 + 12194**2))  # 10^0.1 is 2.00 dB
