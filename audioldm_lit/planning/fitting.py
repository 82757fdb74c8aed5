"""Whether a training step fits in memory, and what would make it fit."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import torch
from lightning import Trainer

from audioldm_lit.callbacks.micro_batch import MicroBatch, micro_batches, try_step
from audioldm_lit.console.stages import Stage
from audioldm_lit.device import fast_precision
from audioldm_lit.errors import InputError
from audioldm_lit.module import LitAudioLDM
from audioldm_lit.planning.memory import forget_peak, peak, there_is

Precision = Callable[[], AbstractContextManager[object] | None]
Needs = Callable[[int], float]  # bytes of a step on so many clips
GROWTH = 0.05  # of what one clip needs
MICRO_BATCH = f"--trainer.callbacks+={MicroBatch.__module__}.{MicroBatch.__name__}"


def check_memory(trainer: Trainer, module: LitAudioLDM) -> None:
    """Refuse a batch whose step needs more memory than there is, told from steps on a few clips.

    Raises:
        InputError: Names the settings that would make it fit.
    """
    data, device = module.data, trainer.strategy.root_device
    whole, there = data.batch_size // trainer.world_size, there_is(device)
    if whole <= 2 or any(isinstance(callback, MicroBatch) for callback in trainer.callbacks):  # type: ignore[attr-defined]
        return
    with Stage("memory of a step"):
        needs = _measured(trainer, module, whole)
    if needs(whole) <= there:
        return
    found = [f"{flag} ({needed / 1e9:.2g} GB)" for flag, needed in _ways(trainer, module, needs) if needed <= there]
    problem = f"is {data.batch_size:,}, and a step on {whole:,} clips needs {needs(whole) / 1e9:,.3g} GB of {there / 1e9:.3g}"
    mend = f"give {' or '.join(found)}" if found else "shorten data.init_args.duration, or take a smaller model"
    raise InputError("data.init_args.batch_size", problem, mend)


def _ways(trainer: Trainer, module: LitAudioLDM, needs: Needs) -> Iterator[tuple[str, float]]:
    """Settings that need less memory, and how much each."""
    device = trainer.strategy.root_device
    whole = module.data.batch_size // trainer.world_size
    if fast_precision() == "bf16-mixed" and trainer.precision == "32-true":
        half = _measured(trainer, module, whole, lambda: torch.autocast(device.type, torch.bfloat16))
        yield "--trainer.precision bf16-mixed", half(whole)
    if not module.gradient_checkpointing:
        module.backbone.unet.enable_gradient_checkpointing()
        yield "--model.gradient_checkpointing true", _measured(trainer, module, whole)(whole)
    size = next((size for size in micro_batches(whole) if needs(size) <= there_is(device)), 1)
    yield f"--data.init_args.batch_size {size * trainer.world_size}", needs(size)
    if device.type != "cpu":  # whose system ends a process instead of refusing memory
        yield f"{MICRO_BATCH} in parts of {size}", needs(size)


def _measured(trainer: Trainer, module: LitAudioLDM, whole: int, precision: Precision = lambda: None) -> Needs:
    """What a step needs on any number of clips, from steps on one clip, two, four, until the growth tells."""
    one, size, more = _peak(trainer, module, 1, precision()), 1, 0
    while more < GROWTH * one and 2 * size <= whole:
        size *= 2
        more = _peak(trainer, module, size, precision()) - one
    return lambda count: one + max(0, more) * (count - 1) / max(1, size - 1)


def _peak(trainer: Trainer, module: LitAudioLDM, size: int, precision: AbstractContextManager[object] | None) -> int:
    device = trainer.strategy.root_device
    forget_peak(device)
    try_step(trainer, module, size, precision)
    module.zero_grad()
    return peak(device)
