import pytest
import torch
from diffusers import DDIMScheduler

from audioldm_lit import noise
from audioldm_lit.objectives.denoising import Epsilon, Velocity


class Answer:
    """A backbone that answers what it is told and remembers what it was asked."""

    def __init__(self, answer):
        self.answer = answer

    def __call__(self, noisy_latents, timesteps, cond):
        self.asked = noisy_latents
        return self.answer


@pytest.fixture
def scheduler(backbone) -> DDIMScheduler:
    return backbone.scheduler


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(0)
    latents, drawn = torch.randn(2, 3, 8, 4, 4, generator=generator).unbind(0)
    return latents, drawn, torch.tensor([0, 500, 999])


def test_schedule_is_audioldms(scheduler):
    betas = torch.linspace(0.0015**0.5, 0.0195**0.5, 1000, dtype=torch.float64) ** 2
    assert torch.allclose(scheduler.alphas_cumprod.double(), (1 - betas).cumprod(0), atol=1e-6)
    assert scheduler.alphas_cumprod[-1].item() == pytest.approx(1.42e-4, rel=0.01)


def test_latents_are_diffused_by_the_equation(scheduler, batch):
    latents, drawn, timesteps = batch
    model = Answer(drawn)
    Epsilon()(model, scheduler, latents, None, drawn, timesteps)
    alpha = scheduler.alphas_cumprod[timesteps][:, None, None, None]
    assert torch.allclose(model.asked, alpha.sqrt() * latents + (1 - alpha).sqrt() * drawn, atol=1e-6)


def test_right_answer_costs_nothing_and_wrong_one_its_square(scheduler, batch):
    latents, drawn, timesteps = batch
    alpha = scheduler.alphas_cumprod[timesteps][:, None, None, None]
    velocity = alpha.sqrt() * drawn - (1 - alpha).sqrt() * latents
    for objective, answer in ((Epsilon(), drawn), (Velocity(), velocity)):
        assert objective(Answer(answer), scheduler, latents, None, drawn, timesteps).abs().max() < 1e-10
        loss = objective(Answer(answer + 0.5), scheduler, latents, None, drawn, timesteps)
        assert torch.allclose(loss, torch.full((3,), 0.25), atol=1e-5)


def test_timesteps_cover_the_schedule_evenly():
    drawn = Epsilon().draw_timesteps([noise.generator("t", i) for i in range(4000)], 1000)
    assert drawn.min() >= 0
    assert drawn.max() < 1000
    counts = torch.histc(drawn.float(), 10, 0, 1000)
    assert (counts - 400).abs().max() < 100  # five standard deviations of a binomial count
