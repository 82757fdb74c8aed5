import pytest
import torch
from diffusers import DDIMScheduler

from audioldm_lit import noise
from audioldm_lit.held_out import grid, held_out_losses
from audioldm_lit.objectives.denoising import Epsilon, Velocity


class Oracle:
    """A backbone that knows latents and noise, errs by what it is told, and remembers what it was asked."""

    def __init__(self, latents, scheduler, error=0.0):
        self.latents, self.scheduler, self.error = latents, scheduler, error

    def __call__(self, noisy_latents, timesteps, cond):
        self.asked, self.timesteps = noisy_latents, timesteps
        alpha = self.scheduler.alphas_cumprod[timesteps][:, None, None, None]
        drawn = (noisy_latents - alpha.sqrt() * self.latents) / (1 - alpha).sqrt()
        if self.scheduler.config.prediction_type == "v_prediction":
            return alpha.sqrt() * drawn - (1 - alpha).sqrt() * self.latents + self.error
        return drawn + self.error


def generators(count=3):
    return [noise.generator("objective", i) for i in range(count)]


@pytest.fixture(params=["epsilon", "v_prediction"])
def scheduler(request, backbone) -> DDIMScheduler:
    return DDIMScheduler.from_config(backbone.scheduler.config, prediction_type=request.param)


@pytest.fixture
def latents() -> torch.Tensor:
    return torch.randn(3, 8, 4, 4, generator=torch.Generator().manual_seed(0))


def test_schedule_is_audioldms(scheduler):
    betas = torch.linspace(0.0015**0.5, 0.0195**0.5, 1000, dtype=torch.float64) ** 2
    assert torch.allclose(scheduler.alphas_cumprod.double(), (1 - betas).cumprod(0), atol=1e-6)
    assert scheduler.alphas_cumprod[-1].item() == pytest.approx(1.42e-4, rel=0.01)


def test_right_answer_costs_nothing_and_wrong_one_its_square(scheduler, latents):
    objective = {"epsilon": Epsilon, "v_prediction": Velocity}[scheduler.config.prediction_type]()
    assert objective(Oracle(latents, scheduler), scheduler, latents, None, generators()).abs().max() < 1e-8
    loss = objective(Oracle(latents, scheduler, 0.5), scheduler, latents, None, generators())
    assert torch.allclose(loss, torch.full((3,), 0.25), atol=1e-4)


def test_held_out_loss_is_that_of_the_noise_whatever_is_predicted(scheduler, latents):
    model = Oracle(latents, scheduler, 0.5)
    losses = held_out_losses(model, scheduler, latents, None, ["a", "b", "c"], 4)
    assert losses.shape == (3, 4)
    right = held_out_losses(Oracle(latents, scheduler), scheduler, latents, None, ["a", "b", "c"], 4)
    assert torch.allclose(right, torch.zeros(3, 4))
    # an error e of the velocity is an error sqrt(alpha_bar) e of the noise
    alpha = scheduler.alphas_cumprod[model.timesteps]
    last = 0.25 * (alpha if scheduler.config.prediction_type == "v_prediction" else torch.ones(3))
    assert torch.allclose(losses[:, -1], last, atol=1e-4)


def test_held_out_noise_belongs_to_the_clip(backbone, latents):
    model = Oracle(latents, backbone.scheduler)
    asked = []
    for order in ([0, 1, 2], [2, 0, 1]):
        model.latents = latents[order]
        held_out_losses(model, backbone.scheduler, latents[order], None, ["abc"[i] for i in order], 1)
        asked.append(model.asked[[order.index(i) for i in range(3)]])
    assert torch.equal(*asked)


def test_held_out_timesteps_stand_in_the_middle_of_every_part(backbone):
    assert grid(backbone.scheduler, 4) == [125, 375, 625, 875]
