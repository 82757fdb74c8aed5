"""Consistency distillation against diffusers' own steps."""

import pytest
import torch
from diffusers import LCMScheduler
from diffusers.schedulers.scheduling_ddim import DDIMScheduler

from audioldm_lit import seeding
from audioldm_lit.adapters.base import trainable
from audioldm_lit.adapters.peft import PeftAdapter
from audioldm_lit.errors import InputError
from audioldm_lit.objectives.consistency import ConsistencyDistillation, consistent

import tiny

SCHEDULER = DDIMScheduler.from_config(tiny.CONFIGS["scheduler"])
COND = torch.eye(3, 32)


def draw(seed: int) -> torch.Tensor:
    return torch.randn(3, 8, 16, 16, generator=torch.Generator().manual_seed(seed))


def generators() -> list[torch.Generator]:
    return [seeding.generator("consistency", place) for place in range(3)]


class Student:
    """Remembers what it was asked."""

    def __init__(self) -> None:
        self.asked = []

    def __call__(self, noisy, timesteps, cond):
        self.asked.append((noisy, timesteps))
        return 0.5 * noisy


def teacher(noisy, timesteps, cond):
    return 0.3 * noisy + cond.sum(dim=1)[:, None, None, None]  # a condition of COND adds 1


def test_the_function_is_the_one_that_diffusers_samples():
    theirs = LCMScheduler.from_config(SCHEDULER.config)
    theirs.set_timesteps(4)
    for step in theirs.timesteps:
        noisy, noise = draw(1), draw(2)
        denoised = theirs.step(noise, step, noisy, generator=torch.Generator().manual_seed(0)).denoised
        assert torch.allclose(consistent(noisy, noise, SCHEDULER, step.expand(3)), denoised, rtol=1e-4, atol=1e-3)
    assert torch.allclose(consistent(draw(1), draw(2), SCHEDULER, torch.zeros(3).long()), draw(1))


@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_the_student_is_asked_twice_one_guided_step_of_ddim_apart(guidance):
    objective, student = ConsistencyDistillation(guidance_scale=guidance), Student()
    objective.teacher, objective.unconditional = teacher, torch.zeros(32)
    losses = objective(student, SCHEDULER, draw(3), COND, generators())
    (stepped, sooner), (noisy, later) = student.asked
    SCHEDULER.set_timesteps(50)
    for row in range(3):
        step = int(later[row])
        assert step % 20 == 19
        assert int(sooner[row]) == max(step - 20, 0)
        expected = SCHEDULER.step(0.3 * noisy[row] + guidance, step, noisy[row]).prev_sample
        assert torch.allclose(stepped[row], expected, atol=1e-5)
    apart = consistent(noisy, 0.5 * noisy, SCHEDULER, later) - consistent(stepped, 0.5 * stepped, SCHEDULER, sooner)
    exact = (apart.double().square().mean(dim=(1, 2, 3)) + 0.00054**2).sqrt() - 0.00054
    assert torch.allclose(losses.double(), exact, rtol=1e-4)


def test_the_average_of_the_student_is_the_target_and_is_gone_on_from(backbone, tmp_path):
    PeftAdapter(options={"r": 2}).inject(backbone)
    objective, again, plain = (ConsistencyDistillation(ema_decay=decay) for decay in (0.5, 0.5, None))
    for one in (objective, again, plain):
        one.prepare(backbone, 10_240, tmp_path)
    start = {name: weight.detach().clone() for name, weight in trainable(backbone).items()}
    for weight in trainable(backbone).values():
        weight.data += 0.1
    objective.after_step(backbone, 1)
    assert all(torch.allclose(average, start[name] + 0.05, atol=1e-6) for name, average in objective.target.items())
    again.restore(objective.state())
    args = backbone, SCHEDULER, draw(1), backbone.encode_text(["a", "b", "c"])
    losses = [one(*args, generators()) for one in (objective, again, plain)]
    assert torch.equal(*losses[:2])
    assert not torch.isclose(*losses[1:]).any()


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"guidance_scale": 0.5}, "guidance_scale: is 0.5"),
        ({"solver_steps": 1}, "solver_steps: is 1"),
        ({"ema_decay": 1.0}, "ema_decay"),
    ],
)
def test_wrong_settings_are_named(settings, named):
    with pytest.raises(InputError, match=named):
        ConsistencyDistillation(**settings)
