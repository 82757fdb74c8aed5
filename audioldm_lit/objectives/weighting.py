"""How much the loss at each timestep counts, as a function of the signal-to-noise ratio SNR = alpha_bar_t / (1 - alpha_bar_t)."""

from abc import ABC, abstractmethod

from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from torch import Tensor

from audioldm_lit.diffusion import Prediction, levels
from audioldm_lit.errors import InputError


class Weighting(ABC):
    """Weights of the squared error by timestep.

    Subclasses say what the squared error of the predicted noise is worth; for a model that predicts something else it is converted
    here, so that a weighting means the same whatever is predicted.
    """

    @abstractmethod
    def of_noise(self, snr: Tensor) -> Tensor:
        """Weight of the squared error of the noise.

        Args:
            snr: Signal-to-noise ratios above 0, of any shape.

        Returns:
            Weights of the same shape, not negative.
        """

    def __call__(self, scheduler: DDIMScheduler, timesteps: Tensor, prediction: Prediction) -> Tensor:
        """Weight of every sample's squared error.

        Args:
            scheduler: Noise schedule.
            timesteps: Timesteps (B,).
            prediction: What the error is of.

        Returns:
            Weights (B,), on the timesteps' device.
        """
        alpha_bar = levels(scheduler, timesteps)
        return self.of_noise(alpha_bar / (1 - alpha_bar)) * prediction.noise_error(alpha_bar) ** 2


class MinSNR(Weighting):
    """Counts timesteps with little noise less: Min-SNR-gamma, Hang et al. 2023 (arXiv 2303.09556, section 3.4).

    The squared error of the clean latents is weighted by min(SNR, gamma). That of the noise is 1/SNR times as large, so its weight
    is min(SNR, gamma) / SNR; that of the velocity is weighted by min(SNR, gamma) / (SNR + 1).

    Args:
        gamma: Signal-to-noise ratio above which timesteps count less; the paper's is 5.
    """

    def __init__(self, gamma: float = 5.0) -> None:
        if gamma <= 0:
            raise InputError("MinSNR.gamma", f"is {gamma}", "give a number above 0, such as 5")
        self.gamma = gamma

    def of_noise(self, snr: Tensor) -> Tensor:
        """Weight min(SNR, gamma) / SNR."""
        return (self.gamma / snr).clamp(max=1)  # the same, and finite where there is no signal at all


class P2(Weighting):
    """Counts timesteps with little noise less, without a kink: P2 weighting, Choi et al. 2022 (arXiv 2204.00227).

    The squared error of the noise is weighted by 1 / (k + SNR)^gamma, that of the velocity by SNR / ((SNR + 1) (k + SNR)^gamma).

    Args:
        gamma: Steepness; 0 weights all timesteps alike, the paper's are 0.5 and 1.
        k: Bounds the weights of the noisiest timesteps; the paper's is 1.
    """

    def __init__(self, gamma: float = 1.0, k: float = 1.0) -> None:
        if gamma < 0 or k <= 0:
            raise InputError("P2.gamma and P2.k", f"are {gamma} and {k}", "give 0 or more and a number above 0, such as 1 and 1")
        self.gamma = gamma
        self.k = k

    def of_noise(self, snr: Tensor) -> Tensor:
        """Weight 1 / (k + SNR)^gamma."""
        return (self.k + snr) ** -self.gamma


class Debiased(Weighting):
    """Counts timesteps by how much they tell of the clean latents: Yu et al. 2023 (arXiv 2310.08442).

    The squared error of the noise is weighted by 1 / sqrt(SNR), that of the velocity by sqrt(SNR) / (SNR + 1). On AudioLDM's
    schedule the weights of the noise go from 0.04 to 84. A schedule whose last timestep has no signal at all has no such weights.
    """

    def of_noise(self, snr: Tensor) -> Tensor:
        """Weight 1 / sqrt(SNR)."""
        return snr.rsqrt()
