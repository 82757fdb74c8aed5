"""The one door to what Lightning has and does not document, each touch with its reason; `tests/test_internals.py` tries them all.

Documented are, among others, `trainer.strategy`, `trainer.state`, `trainer.sanity_checking` and `trainer.checkpoint_callback`.
"""

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from difflib import get_close_matches
from functools import reduce
from itertools import islice
from operator import or_
from pathlib import Path
from typing import Any, get_args

from jsonargparse import Namespace
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor

from audioldm_lit.errors import InputError


def attached(module: LightningModule) -> Trainer | None:
    """The trainer that has taken up a module, if one has; the documented `module.trainer` raises where none has."""
    found: Trainer | None = vars(module).get("_trainer")
    return found


def only_tried(trainer: Trainer) -> bool:
    """Whether the run only tries the code on a few batches; Lightning sets `fast_dev_run` from outside the trainer's class."""
    return bool(vars(trainer)["fast_dev_run"])


def overfits(trainer: Trainer) -> bool:
    """Whether the run keeps to a few batches; set from outside as well, as what follows."""
    return bool(vars(trainer)["overfit_batches"])


def callbacks_of(trainer: Trainer) -> Sequence[Callback]:
    """All callbacks of a run."""
    found: Sequence[Callback] = vars(trainer)["callbacks"]
    return found


def steps_between_logs(trainer: Trainer) -> int:
    """How often values are logged, in steps."""
    return int(vars(trainer)["log_every_n_steps"])


def batches_before(trainer: Trainer) -> int:
    """Batches that were trained on before this one. Unlike `batch_idx`, the count goes on where a run is resumed."""
    return trainer.fit_loop.epoch_loop.total_batch_idx


def correct_batch_count(trainer: Trainer) -> None:
    """Count as many batches as the steps so far take now; a resumed run may have other micro-batches than it had."""
    progress = trainer.fit_loop.epoch_loop.batch_progress
    shift = trainer.global_step * trainer.accumulate_grad_batches - progress.total.ready
    for counts in (progress.total, progress.current):
        for name, count in counts.state_dict().items():
            setattr(counts, name, count + shift)


def divide_batches(trainer: Trainer, parts: int) -> None:
    """Let every batch come in `parts`: the settings that count batches are read only later, when the loaders are made."""
    trainer.accumulate_grad_batches *= parts
    for name in ("val_check_interval", "limit_train_batches"):
        if isinstance(count := getattr(trainer, name), int):  # of batches; a float is a share of all
            setattr(trainer, name, count * parts)


def autocast(trainer: Trainer) -> AbstractContextManager[None]:
    """The arithmetic of a training step, for forward passes that no hook of Lightning surrounds."""
    return trainer.precision_plugin.forward_context()


def validation_batches(trainer: Trainer) -> Iterator[Any]:
    """The batches of a check; a resumed run in which no step is left has made no loaders of its own accord."""
    trainer.fit_loop.epoch_loop.val_loop.setup_data()
    loaders: Iterable[Any] = trainer.val_dataloaders or ()
    return islice(loaders, int(trainer.num_val_batches[0]))


def validation_batch(trainer: Trainer, batch: Mapping[str, Any]) -> Mapping[str, Any]:
    """A batch as `validation_step` would get it, for a check outside of the loop."""
    return trainer.strategy.batch_to_device(trainer.precision_plugin.convert_input(batch))


def validation_autocast(trainer: Trainer) -> AbstractContextManager[None]:
    """The arithmetic of `validation_step`, for a check outside of the loop."""
    return trainer.precision_plugin.val_step_context()


class SelectiveCheckpoint(ModelCheckpoint):
    """ModelCheckpoint with a say in which checks are kept, and with its memory when a run is resumed in another folder."""

    def accepts(self, trainer: Trainer) -> bool:
        """Whether the present check may be among the best."""
        return True

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Refuse a wrong value to watch at once; write the last checkpoint at every check, not only at the best."""
        check_monitor(trainer, "checkpoint.monitor", self.monitor)
        super().on_validation_end(trainer, pl_module)
        if not self._should_skip_saving_checkpoint(trainer) and not self._should_save_on_train_epoch_end(trainer):
            self._save_last_checkpoint(trainer, self._monitor_candidates(trainer))

    def check_monitor_top_k(self, trainer: Trainer, current: Tensor | None = None) -> bool:
        """Lightning asks this of every check: it is the only place where one can be refused."""
        return self.accepts(trainer) and super().check_monitor_top_k(trainer, current)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on with the best check so far: where `dirpath` differs, Lightning would forget the score."""
        if Path(state_dict["best_model_path"]).is_file():  # a run that was killed between two files may have none
            super().load_state_dict({**state_dict, "dirpath": self.dirpath, "last_model_path": ""})


def check_monitor(trainer: Trainer, setting: str, monitor: str | None) -> None:
    """Refuse a value to watch that the check before training did not log; Lightning finds it out when the first hours are over."""
    known = sorted(map(str, trainer.callback_metrics))
    if trainer.sanity_checking and monitor not in known:
        near = get_close_matches(str(monitor), known, n=1)
        mend = f"the nearest is {near[0]}" if near else f"choose one of {', '.join(known)}"
        raise InputError(setting, f"is {monitor}, which no check logs", mend)


class PatientStop(EarlyStopping):
    """EarlyStopping which a resume does not make forget that its patience was over."""

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Refuse a wrong value to watch at once."""
        check_monitor(trainer, "early_stopping.monitor", self.monitor)
        super().on_validation_end(trainer, pl_module)

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Its state is restored by now, but Lightning's own wish to stop is not, and training would go on for another check."""
        if self.wait_count >= self.patience:
            rank_zero_info(f"no step is trained: early_stopping.patience of {self.patience} was over; raise it to go on")
            trainer.should_stop = True

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore what it counted, but not the patience: that is this run's setting."""
        super().load_state_dict({**state_dict, "patience": self.patience})


class OpenCLI(LightningCLI):
    """LightningCLI with a name of ours for a step around which it has no hook, and without one that does harm."""

    def add_core_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Take 1 for a count where a share is allowed too: Python keeps the order that whoever was first wrote such a union in."""
        super().add_core_arguments_to_parser(parser)
        for action in parser._actions:
            kinds = get_args(vars(action).get("_typehint"))
            if int in kinds and float in kinds:
                vars(action)["_typehint"] = reduce(or_, (kind for kind in kinds if kind is not int), int)

    @property
    def verb_parser(self) -> LightningArgumentParser:
        """The parser of the one verb's own settings."""
        (parser,) = self._subcommand_parsers.values()
        return parser

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Read the verb's settings, once: the parser around theirs, which alone prints them, would go through all of them again."""
        verb, *words = sys.argv[1:] if args is None else args
        if any(word.startswith("--print_config") for word in words):
            super().parse_arguments(parser, args)
        else:
            self.config = Namespace({"subcommand": verb, verb: self.verb_parser.parse_args(words)})

    def run_verb(self, verb: str) -> None:
        """Run a verb, after all objects have been made."""
        super()._run_subcommand(verb)

    def _run_subcommand(self, subcommand: str) -> None:
        self.run_verb(subcommand)

    def _parse_ckpt_path(self) -> None:
        """Let the YAML decide: by default Lightning silently puts the checkpoint's settings on top of it."""
