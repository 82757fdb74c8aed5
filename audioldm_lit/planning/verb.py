"""The verb `plan`: the settings of `fit`, a rehearsal instead of the run."""

import io
import sys
import time
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import asdict
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import psutil
from lightning.pytorch.cli import LightningArgumentParser
from lightning.pytorch.loggers import CSVLogger
from rich.console import Console

from audioldm_lit import lightning_cli
from audioldm_lit.callbacks.base_loss import BaseLoss
from audioldm_lit.callbacks.export import ADAPTER
from audioldm_lit.callbacks.micro_batch import out_of_memory
from audioldm_lit.errors import InputError
from audioldm_lit.lightning_cli import AudioLDMCLI
from audioldm_lit.module import LitAudioLDM
from audioldm_lit.planning.clock import Clock
from audioldm_lit.planning.forecast import Size, forecast, step_seconds
from audioldm_lit.planning.memory import free, there_is
from audioldm_lit.planning.rehearsal import FEW, Rehearsal
from audioldm_lit.planning.report import Plan, show
from audioldm_lit.storage.atomic_write import write_json
from audioldm_lit.training.run_folder import rank_zero_folder

STEPS = 10  # that are timed


def run(args: Sequence[str] | None, model_class: type[LitAudioLDM] | None = None) -> None:
    """Plan what `fit` would do with the same words; without `args`, those of the command line."""
    words = list(sys.argv[1:] if args is None else args)
    with TemporaryDirectory() as folder:
        lightning_cli.run(["fit", *words[1:]], model_class, lambda verb, **kwargs: PlanCLI(verb, Path(folder), **kwargs))


class PlanCLI(AudioLDMCLI):
    """Runs `fit` in small, in a folder that does not stay, and says what the whole would take.

    Args:
        verb: `fit`.
        folder: Where the rehearsal writes.
        **kwargs: See `AudioLDMCLI`.
    """

    def __init__(self, verb: str, folder: Path, **kwargs: Any) -> None:
        self.folder = folder
        self.clock = Clock()
        self.began = self.clock.now() - (time.time() - psutil.Process().create_time())
        super().__init__(verb, **kwargs)

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Also a file for programs."""
        super().add_arguments_to_parser(parser)
        parser.add_argument("--json", type=Path | None, default=None, help="File for the plan, for programs.")

    def instantiate_trainer(self, **kwargs: Any) -> Any:
        """A trainer of ten steps and one check, with a clock."""
        asked = self.config_init[self.subcommand].trainer
        parts = asked.accumulate_grad_batches
        self.steps, every = asked.max_steps, asked.val_check_interval
        every = every if isinstance(every, int) else round(every * self.steps * parts)
        self.checks = self.steps * parts // max(1, every)
        steps = min(STEPS, self.steps) if self.checks else self.steps  # a run without a check is refused, in its own numbers
        few = {"max_steps": steps, "val_check_interval": steps * parts if self.checks else every}
        return super().instantiate_trainer(logger=CSVLogger(self.folder, "rehearsal"), profiler=self.clock, **few, **kwargs)

    def run_verb(self, verb: str) -> None:
        """Rehearse, and print the plan."""
        settings = self.config_init[verb]
        if settings.ckpt_path is not None:
            raise InputError("--ckpt_path", "is given, and a plan is of a whole run", "leave it out")
        rehearsal = Rehearsal(self.model, self.datamodule, self.clock)
        # The base's loss on these few clips is of no use to a later run, and must be measured to know how long that takes.
        others = [one for one in self.trainer.callbacks if not isinstance(one, BaseLoss)]  # type: ignore[attr-defined]
        self.trainer.callbacks[:] = [rehearsal, *others]  # type: ignore[attr-defined]  # set from outside its class
        try:
            with redirect_stdout(io.StringIO()):  # results of a rehearsal are none
                super().run_verb(verb)
        except RuntimeError as error:
            if not out_of_memory(error):
                raise
            mend = "give fewer clips with dials.count, audition.count or data.init_args.batch_size"
            raise InputError("trainer.accelerator", "has too little memory for a rehearsal of this run", mend) from error
        plan = self._plan(rehearsal)
        if self.trainer.is_global_zero:
            show(plan, Console(emoji=False))
            if settings.json is not None:
                write_json(settings.json, asdict(plan))

    def _plan(self, rehearsal: Rehearsal) -> Plan:
        trainer, module, data = self.trainer, self.model, self.datamodule
        first = 1 if trainer.num_sanity_val_steps else 0  # the check of the base
        limit = trainer.limit_val_batches
        counts = {"test": 0, **rehearsal.counts}
        held = counts["val"] if isinstance(limit, float) else min(counts["val"], limit * data.batch_size)
        asked = Size(self.steps, first + self.checks, counts["train"], held, counts["val"] + counts["test"], rehearsal.passes[1])
        few = {split: min(FEW, count) for split, count in counts.items()}
        tried = Size(trainer.global_step, first + 1, few["train"], few["val"], few["val"] + few["test"], rehearsal.passes[0])
        seconds = forecast(self.clock.calls, self.clock.now() - self.began, tried, asked)
        optimizer, device = trainer.optimizers[0], trainer.strategy.root_device
        return Plan(
            adapter=type(module.adapter).__name__,
            trained_weights=sum(weight.numel() for weight in module.weights.values()),
            objective=type(module.objective).__name__,
            optimizer=type(optimizer).__name__,
            learning_rate=optimizer.defaults["lr"],
            precision=str(trainer.precision),
            gradient_checkpointing=module.gradient_checkpointing,
            device=str(device),
            steps=self.steps,
            batch_size=data.batch_size * trainer.accumulate_grad_batches,
            checks=self.checks,
            clips={split: count for split, count in counts.items() if count},
            duration=data.duration,
            not_encoded=rehearsal.missing,
            peak_gb=rehearsal.most / 1e9,
            memory_gb=there_is(device) / 1e9,
            free_gb=free(device) / 1e9,
            step_seconds=step_seconds(self.clock.calls, trainer.global_step),
            seconds={"reading and encoding": rehearsal.seconds, **seconds},
            adapter_mb=(rank_zero_folder(trainer) / ADAPTER).stat().st_size / 1e6,
        )
