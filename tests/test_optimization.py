"""Learning rates after warm-up, and what counts in epochs."""

import pytest
import torch
from lightning import Trainer
from lightning.pytorch.callbacks import LearningRateFinder, StochasticWeightAveraging
from torch.optim import SGD
from torch.optim.lr_scheduler import CosineAnnealingLR, ExponentialLR, ReduceLROnPlateau

from audioldm_lit.errors import InputError
from audioldm_lit.training.cosine import CosineToEnd
from audioldm_lit.training.optimization import rates
from audioldm_lit.training.settings import check_stream

from runs import REPOSITORY


def optimizer() -> SGD:
    one, other = torch.nn.Parameter(torch.zeros(1)), torch.nn.Parameter(torch.zeros(1))
    return SGD([{"params": [one]}, {"params": [other], "lr": 2.0}], lr=1.0)


def walk(made, moved, steps: int) -> list[list[float]]:
    found = []
    for _ in range(steps):
        found.append([group["lr"] for group in made.param_groups])
        made.step()
        moved.step()
    return found


@pytest.mark.parametrize(
    ("after", "share"),
    [
        (None, lambda step: 1.0),
        (CosineToEnd, lambda step: (1 + torch.cos(torch.tensor(torch.pi * step / 6)).item()) / 2),
        (lambda one: CosineToEnd(one, 0.2), lambda step: 0.2 + 0.8 * (1 + torch.cos(torch.tensor(torch.pi * step / 6)).item()) / 2),
        (lambda one: CosineAnnealingLR(one, 6), lambda step: (1 + torch.cos(torch.tensor(torch.pi * step / 6)).item()) / 2),
        (lambda one: ExponentialLR(one, 0.5), lambda step: 0.5**step),
    ],
)
def test_a_scheduler_begins_where_warm_up_ends_and_is_gone_on_with(after, share):
    made = optimizer()
    moved = rates(made, 4, 10, after)
    expected = [0.25, 0.5, 0.75, 1.0, *(share(step) for step in range(6))]
    found = walk(made, moved, 7)
    state = made.state_dict(), moved.state_dict()
    assert found + walk(made, moved, 3) == [pytest.approx([rate, 2 * rate], abs=1e-6) for rate in expected]
    made = optimizer()
    moved = rates(made, 4, 10, after)
    made.load_state_dict(state[0])
    moved.load_state_dict(state[1])
    assert walk(made, moved, 3) == [pytest.approx([rate, 2 * rate], abs=1e-6) for rate in expected[7:]]


@pytest.mark.parametrize(
    ("after", "problem"),
    [(ReduceLROnPlateau, "follows a value"), (lambda one: CosineToEnd(one, 2.0), "final_share is 2"), (CosineAnnealingLR, "T_max")],
)
def test_a_scheduler_that_cannot_serve_is_refused(after, problem):
    with pytest.raises(InputError, match=rf"^model.lr_scheduler: .*{problem}"):
        rates(optimizer(), 4, 10, after)


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"max_epochs": 3}, "trainer.max_epochs: is 3"),
        ({"max_steps": 5, "limit_train_batches": 2}, "trainer.limit_train_batches: is 2"),
        ({"max_steps": 5, "callbacks": [StochasticWeightAveraging(1e-2)]}, "has a StochasticWeightAveraging"),
        ({"max_steps": 5, "callbacks": [LearningRateFinder()]}, "has a LearningRateFinder"),
    ],
)
def test_what_counts_in_epochs_is_refused(settings, problem):
    quiet = {"accelerator": "cpu", "logger": False, "enable_progress_bar": False, "enable_checkpointing": False}
    with pytest.raises(InputError, match=problem):
        check_stream(Trainer(**settings, **quiet))
    for allowed in ({"max_steps": 5}, {"max_steps": 5, "overfit_batches": 2}, {"fast_dev_run": True}):
        check_stream(Trainer(**allowed, **quiet))


def test_one_batch_is_not_taken_for_all_of_them(cli):
    status, out, err = cli(
        "fit", *("--config", REPOSITORY / "configs" / "demo.yaml"), "--trainer.limit_val_batches", 1, "--print_config"
    )
    assert status == 0, err
    assert "limit_val_batches: 1\n" in out
