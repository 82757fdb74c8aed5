"""Trains a batch that does not fit in memory in parts: the same steps, only slower."""

from contextlib import AbstractContextManager

import torch
from lightning import Callback, Trainer
from lightning.pytorch.utilities import rank_zero_info
from lightning.pytorch.utilities.memory import garbage_collection_cuda, is_oom_error
from torch.utils.data import default_collate

from audioldm_lit import seeding
from audioldm_lit.console.stages import Stage
from audioldm_lit.errors import InputError
from audioldm_lit.module import LitAudioLDM
from audioldm_lit.training.lightning_internals import autocast, correct_batch_count, divide_batches


class MicroBatch(Callback):
    """Tries one step before training and, where memory runs out, cuts the batch into micro-batches until one fits.

    Each optimizer step still sees `data.batch_size` clips, with the noise they would have had in one piece: the gradients of the
    micro-batches are accumulated, and `trainer.val_check_interval` keeps its meaning in steps. All processes take the smallest
    micro-batch that any of them needs. Where the whole batch fits, this costs the time of one step.
    """

    def on_fit_start(self, trainer: Trainer, pl_module: LitAudioLDM) -> None:
        """Try, and set everything that counts batches; Lightning makes the loaders after this hook."""
        data = pl_module.data
        whole = data.batch_size // trainer.world_size
        sizes = micro_batches(whole)
        with Stage("trying a step"):
            size = next((candidate for candidate in sizes if fits(trainer, pl_module, candidate)), 0)
        size = int(trainer.strategy.reduce(torch.tensor(size, device=trainer.strategy.root_device), reduce_op="min"))
        if not size:
            raise InputError(
                "data.init_args.duration",
                f"is {data.duration:g} s, and not one such clip fits in memory to train on",
                "shorten it or set model.gradient_checkpointing to true",
            )
        if size >= whole:
            return
        parts = whole // size
        data.batch_size //= parts
        divide_batches(trainer, parts)
        rank_zero_info(f"{whole} clips at once do not fit in memory: {parts} micro-batches of {size} make one step")

    def on_train_start(self, trainer: Trainer, pl_module: LitAudioLDM) -> None:
        """Correct Lightning's count of batches where a run resumes with other micro-batches than it had."""
        correct_batch_count(trainer)


def micro_batches(whole: int) -> list[int]:
    """Sizes to try for a batch of `whole` clips: divisors, so that the parts are equal, each at most half of the one before."""
    sizes = [max(whole, 1)]
    while sizes[-1] > 1:
        sizes.append(next(size for size in range(sizes[-1] // 2, 0, -1) if whole % size == 0))
    return sizes


def fits(trainer: Trainer, module: LitAudioLDM, size: int) -> bool:
    """Whether a training step on `size` clips fits in memory."""
    try:
        try_step(trainer, module, size)
        enough = True
    except RuntimeError as error:
        if not out_of_memory(error):
            raise
        enough = False
    # Only here, after the error and the frames it holds on to are gone, can their memory be had back.
    module.zero_grad()
    garbage_collection_cuda()
    return enough


def try_step(trainer: Trainer, module: LitAudioLDM, size: int, precision: AbstractContextManager[object] | None = None) -> None:
    """Forward and backward of one micro-batch, in the run's precision or another, leaving weights and random streams alone."""
    # What a step finds in memory beside the weights: gradients so far, two moments of Adam and the moving average.
    held = [torch.empty_like(weight) for weight in module.weights.values() for _ in range(4)]
    clips, device = module.data.datasets["train"], trainer.strategy.root_device
    batch = trainer.strategy.batch_to_device(default_collate([clips[index % len(clips)] for index in range(size)]))
    generators = [seeding.placed(module.seed, index) for index in range(size)]
    buffers = {name: buffer.clone() for name, buffer in module.objective.named_buffers()}
    module.backbone.train()
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        with precision or autocast(trainer):
            cond = module.prompt_embeds(batch)
            heard = module.objective.heard(batch)
            losses = module.objective(module.backbone, module.noise_scheduler, batch["mean"], cond, generators, **heard)
            loss = losses.mean() + module.adapter.penalty(module.backbone)
        loss.backward()
    for name, buffer in module.objective.named_buffers():
        buffer.copy_(buffers[name])
    del held


def out_of_memory(error: RuntimeError) -> bool:
    """Whether an error says that the memory of a GPU, a Mac or the machine ran out."""
    return isinstance(error, torch.OutOfMemoryError) or is_oom_error(error) or "MPS backend out of memory" in str(error)
