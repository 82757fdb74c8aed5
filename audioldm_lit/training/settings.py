"""Settings that nothing can be trained with, refused before a model is loaded or a clip is read."""

import math
import os
from pathlib import Path

import torch
from lightning import Callback, Trainer
from lightning.pytorch.accelerators import CPUAccelerator
from lightning.pytorch.callbacks import BatchSizeFinder, LearningRateFinder, StochasticWeightAveraging
from lightning.pytorch.cli import LRSchedulerCallable, OptimizerCallable

from audioldm_lit.errors import InputError
from audioldm_lit.training.lightning_internals import callbacks_of, only_tried, overfits
from audioldm_lit.training.optimization import made

INSTEAD: dict[type[Callback], str] = {  # callbacks of Lightning that do harm here
    StochasticWeightAveraging: "averages of every length are kept anyway, see `averages` and model.ema_decay",
    LearningRateFinder: "compare rates with `ablate`, over model.optimizer.init_args.lr",
    BatchSizeFinder: "take audioldm_lit.callbacks.micro_batch.MicroBatch",
}
MOST_TIMESTEPS = 1000  # at which a held-out clip is judged: as many as AudioLDM's schedule has
SHARE = 0.5  # of this machine's memory that the latents of a batch, their noise and gradients may take
COPIES = (
    8  # of a batch's latents that a step holds at least: mean, deviation, latents, noise, their sum, prediction, error, gradient
)
BYTES = 4  # a number


def check_model(
    optimizer: OptimizerCallable, lr_scheduler: LRSchedulerCallable | None, warmup_steps: int, val_timesteps: int
) -> None:
    """Refuse numbers that `LitAudioLDM` cannot train with, among them what the optimizer itself refuses."""
    if not 1 <= val_timesteps <= MOST_TIMESTEPS:
        raise InputError("model.val_timesteps", f"is {val_timesteps}", f"give 1 to {MOST_TIMESTEPS}, such as 4")
    if warmup_steps < 0:
        raise InputError("model.warmup_steps", f"is {warmup_steps}", "give 0 or more steps")
    try:
        tried = optimizer([torch.nn.Parameter(torch.zeros(1))])
        rates = [group["lr"] for group in tried.param_groups]
    except (TypeError, ValueError) as error:
        raise InputError("model.optimizer", f"is refused ({error})", "correct its settings") from error
    if not all(math.isfinite(rate) for rate in rates):
        raise InputError("model.optimizer", f"has the learning rate {rates[0]}", "give a number above 0, such as 1e-3")
    if lr_scheduler is not None:
        made(lr_scheduler, tried)


def check_trainer(trainer: Trainer) -> None:
    """Refuse a run without a check, which would keep nothing, more processes than cores, and a folder that cannot be made."""
    cores = os.cpu_count() or 1
    if isinstance(trainer.accelerator, CPUAccelerator) and trainer.num_devices > cores:
        problem = f"is {trainer.num_devices}, and without a GPU each is a process; this machine has {cores} cores"
        raise InputError("trainer.devices", problem, f"give at most {cores}")
    every, last = trainer.val_check_interval, trainer.max_steps * trainer.accumulate_grad_batches
    if isinstance(every, int) and trainer.check_val_every_n_epoch is None and 0 < last < every:
        problem = f"is {every:,} and training ends after {last:,} batches: no check, so nothing would be kept"
        raise InputError("trainer.val_check_interval", problem, f"give at most {last}")
    if trainer.limit_val_batches == 0:
        raise InputError("trainer.limit_val_batches", "is 0: no check, so nothing would be kept", "leave it out, or give 1 or more")
    check_stream(trainer)
    if trainer.log_dir:
        check_writable(Path(trainer.log_dir))


def check_stream(trainer: Trainer) -> None:
    """Refuse what counts in epochs, of which the one endless stream of clips has none, and what sets a rate that none is."""
    if only_tried(trainer):
        return
    if trainer.max_epochs not in (None, -1):
        problem = f"is {trainer.max_epochs}, but training is one stream of clips that is counted in steps"
        raise InputError("trainer.max_epochs", problem, "give trainer.max_steps; a pass over N clips has N / batch_size of them")
    if trainer.limit_train_batches != 1 and not overfits(trainer):
        problem = f"is {trainer.limit_train_batches}, after which the stream would begin again"
        raise InputError("trainer.limit_train_batches", problem, "give trainer.max_steps, or fewer clips with num_train_clips")
    for callback in callbacks_of(trainer):
        for kind, mend in INSTEAD.items():
            if isinstance(callback, kind):
                raise InputError(
                    "trainer.callbacks", f"has a {kind.__name__}, which counts in epochs or tries steps of its own", mend
                )


def check_writable(folder: Path) -> None:
    """Refuse a folder that cannot be made or written to."""
    there = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    if not there.is_dir():
        raise InputError(there, "is no folder", "choose another with trainer.logger.init_args.save_dir")
    if not os.access(there, os.W_OK | os.X_OK):
        raise InputError(there, "cannot be written to", "correct its permissions, or choose another folder")


def check_batch(batch_size: int, latent_shape: tuple[int, ...]) -> None:
    """Refuse a batch whose latents alone would not fit into this machine's memory."""
    needed = COPIES * BYTES * batch_size * math.prod(latent_shape)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if needed > SHARE * memory:
        problem = f"is {batch_size:,}, whose latents alone take {needed / 1e9:,.0f} GB"
        raise InputError("data.init_args.batch_size", problem, "give fewer clips, such as 8")
