"""A batch cut to what fits in memory trains the same weights as the whole one."""

import json
from functools import partial
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from lightning import Callback, Trainer
from torch.optim import SGD

from audioldm_lit.adapters.peft import PeftAdapter
from audioldm_lit.callbacks.micro_batch import MicroBatch, fits, micro_batches
from audioldm_lit.cli import main
from audioldm_lit.data.esc50 import ESC50
from audioldm_lit.errors import InputError
from audioldm_lit.module import LitAudioLDM
from audioldm_lit.objectives.denoising import Epsilon
from audioldm_lit.objectives.timesteps import LowDiscrepancy

import layouts
from runs import SHORT, arguments, run_folder


class Hungry(Epsilon):
    """Runs out of memory on more than `limit` clips, as the machine does or as `error` says."""

    def __init__(self, limit: int, error: Exception | None = None) -> None:
        super().__init__()
        self.limit = limit
        self.error = error

    def forward(self, backbone, scheduler, latents, cond, generators):
        if len(latents) > self.limit:
            if self.error:
                raise self.error
            torch.empty(2**45)  # 128 TB: the allocator's own refusal
        return super().forward(backbone, scheduler, latents, cond, generators)


class Checks(Callback):
    """Remembers the steps at which the held-out loss is taken."""

    def __init__(self) -> None:
        self.steps: list[int] = []

    def on_validation_end(self, trainer, pl_module):
        if not trainer.sanity_checking:
            self.steps.append(trainer.global_step)


@pytest.fixture(scope="module")
def fit(tmp_path_factory, tiny_folder):
    """Train for some steps and give the module, the trainer and the steps of its checks; clips are encoded once.

    By plain gradients: Adam would turn the rounding of a gradient near zero into a whole step.
    """
    folder = tmp_path_factory.mktemp("micro")
    data = layouts.esc50(folder / "esc50", takes=2)

    def run(objective=None, *callbacks, steps=4, every=2, batch_size=4, accumulate=1, resume=None, options=None):
        torch.manual_seed(0)
        adapter = PeftAdapter(options={"r": 4, "lora_dropout": 0.1} if options is None else options, targets=["attention"])
        plain = partial(SGD, lr=0.1, momentum=0.9)
        told = {"objective": objective, "optimizer": plain, "val_timesteps": 1, "cache_dir": folder / "cache"}
        model = LitAudioLDM(adapter, backbone=str(tiny_folder), **told)
        checks = Checks()
        trainer = Trainer(
            max_steps=steps, val_check_interval=every, check_val_every_n_epoch=None, accelerator="cpu", logger=False,
            enable_progress_bar=False, enable_model_summary=False, enable_checkpointing=False, gradient_clip_val=1.0,
            accumulate_grad_batches=accumulate, callbacks=[checks, *callbacks],
        )  # fmt: skip
        clips = ESC50(**data, duration=SHORT, shots=2, batch_size=batch_size)
        trainer.fit(model, datamodule=clips, ckpt_path=resume, weights_only=False)
        return model, trainer, checks.steps

    return run


def apart(one: LitAudioLDM, other: LitAudioLDM) -> float:
    """Largest difference of weights or of their averages, relative to how far training moved any weight."""
    moved = max(weight.abs().max().item() for name, weight in one.weights.items() if "lora_B" in name)
    pairs = [(one.weights, other.weights), (one.ema.average, other.ema.average)]
    return max((first[name] - second[name]).abs().max().item() for first, second in pairs for name in first) / moved


NO_DROPOUT = {"r": 4}  # its mask belongs to the moment it is drawn, not to the clip


@pytest.fixture(scope="module")
def whole(fit):
    """A run of four steps, with the trainer and the steps of its checks."""
    return fit(options=NO_DROPOUT)


@pytest.fixture(scope="module")
def one_step(fit):
    """A run of one."""
    return fit(steps=1, every=1)


def test_parts_train_the_weights_of_the_whole(fit, whole):
    parts, trainer, checks_of_parts = fit(Hungry(2), MicroBatch(), options=NO_DROPOUT)
    assert (trainer.accumulate_grad_batches, trainer.datamodule.batch_size) == (2, 2)
    assert trainer.global_step == 4
    assert checks_of_parts == whole[2] == [2, 4]
    assert apart(whole[0], parts) < 1e-3


def test_timesteps_that_need_a_place_have_one_in_trials_too(fit):
    assert fit(Epsilon(timesteps=LowDiscrepancy()), MicroBatch(), steps=1, every=1)[1].global_step == 1


def test_accumulation_that_was_asked_for_is_multiplied(fit):
    whole, _, _ = fit(batch_size=12, steps=2, every=1, options=NO_DROPOUT)
    asked = {"batch_size": 6, "accumulate": 2, "every": 2, "steps": 2, "options": NO_DROPOUT}
    parts, trainer, checks = fit(Hungry(2), MicroBatch(), **asked)
    assert (trainer.accumulate_grad_batches, trainer.datamodule.batch_size) == (12, 1)  # 6 clips, 3, then 1
    assert checks == [1, 2]
    assert apart(whole, parts) < 1e-3


def test_nothing_changes_where_the_batch_fits(fit):
    without, _, _ = fit()
    tried, trainer, checks = fit(Hungry(4), MicroBatch())
    assert (trainer.accumulate_grad_batches, trainer.datamodule.batch_size) == (1, 4)
    assert checks == [2, 4]
    assert apart(without, tried) == 0


def test_too_little_memory_for_one_clip_is_one_sentence(fit):
    with pytest.raises(InputError, match=r"duration: is 0\.64 s, and not one such clip fits"):
        fit(Hungry(0), MicroBatch())


def test_other_errors_are_not_taken_for_little_memory(fit):
    with pytest.raises(RuntimeError, match="shapes"):
        fit(Hungry(2, RuntimeError("shapes do not match")), MicroBatch())


def test_a_trial_leaves_no_gradient_and_draws_nothing(one_step):
    model, trainer, _ = one_step
    before, state = {name: weight.clone() for name, weight in model.weights.items()}, torch.get_rng_state()
    assert fits(trainer, model, 3)
    assert all(torch.equal(before[name], weight) and weight.grad is None for name, weight in model.weights.items())
    assert torch.equal(state, torch.get_rng_state())


def test_every_machine_s_way_to_say_that_memory_is_out_is_understood(one_step):
    model, trainer, _ = one_step
    for error in (None, torch.OutOfMemoryError("CUDA out of memory."), RuntimeError("MPS backend out of memory")):
        model.objective = Hungry(2, error)
        assert fits(trainer, model, 2)
        assert not fits(trainer, model, 3)
    model.objective = Epsilon()


@given(st.integers(1, 512))
def test_micro_batches_divide_the_batch_and_end_at_one(whole):
    sizes = micro_batches(whole)
    assert sizes[0] == whole
    assert sizes[-1] == 1
    assert all(whole % size == 0 for size in sizes)
    assert all(2 * small <= large for large, small in pairwise(sizes))
    if whole & (whole - 1) == 0:
        assert sizes == [whole >> turn for turn in range(whole.bit_length())]


@pytest.mark.slow
@pytest.mark.parametrize(("first", "then"), [(4, 1), pytest.param(1, 4, marks=pytest.mark.nightly)])
def test_a_run_resumes_where_other_micro_batches_fit(fit, whole, workdir, first, then):
    _, trainer, _ = fit(Hungry(first), MicroBatch(), steps=2, options=NO_DROPOUT)
    trainer.save_checkpoint(workdir / "half.ckpt")
    resumed, trainer, checks = fit(Hungry(then), MicroBatch(), resume=workdir / "half.ckpt", options=NO_DROPOUT)
    assert trainer.global_step == 4
    assert checks == [4]
    assert apart(whole[0], resumed) < 1e-3


HUNGRY_RANK = """
import torch
from audioldm_lit.objectives.denoising import Epsilon

class Hungry(Epsilon):
    def forward(self, backbone, scheduler, latents, cond, generators):
        if torch.distributed.is_initialized() and torch.distributed.get_rank() == 1 and len(latents) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return super().forward(backbone, scheduler, latents, cond, generators)
"""


@pytest.mark.slow
def test_two_processes_take_the_smaller_of_their_micro_batches(workdir, tiny_folder, ranks):
    (workdir / "hungry.py").write_text(HUNGRY_RANK)
    data = {**layouts.esc50(workdir / "esc50", takes=2), "shots": 2, "batch_size": 4}
    options = arguments(tiny_folder, data, steps=2)
    main(["fit", *options])
    alone = json.loads((run_folder(workdir) / "result.json").read_text())
    options += ["--trainer.callbacks+", "audioldm_lit.callbacks.micro_batch.MicroBatch", "--model.objective", "hungry.Hungry"]
    (status, said), (other_status, _) = ranks.command_line(workdir, ["fit", *options])
    assert status == other_status == 0, said
    assert "2 micro-batches of 1 make one step" in said
    together = json.loads((run_folder(workdir) / "result.json").read_text())
    assert together["steps"] == alone["steps"] == 2
    assert together["held_out_loss_after"] == pytest.approx(alone["held_out_loss_after"], abs=1e-4)
