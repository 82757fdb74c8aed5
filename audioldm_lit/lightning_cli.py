"""LightningCLI as this project uses it: a fixed model class, a data set by class path, and one checkpoint policy."""

import logging
import shutil
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch.callbacks import LearningRateMonitor, ProgressBar
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from audioldm_lit.callbacks.adapter_effect import AdapterEffect
from audioldm_lit.callbacks.audition import Audition
from audioldm_lit.callbacks.averages import Averages
from audioldm_lit.callbacks.base_loss import BaseLoss
from audioldm_lit.callbacks.best_check import BestCheck
from audioldm_lit.callbacks.cold_weights import ColdWeights
from audioldm_lit.callbacks.dials import Dials
from audioldm_lit.callbacks.export import Export
from audioldm_lit.callbacks.predictions import Predictions
from audioldm_lit.callbacks.progress import RunProgress
from audioldm_lit.callbacks.report_page import ReportPage
from audioldm_lit.callbacks.resting_parts import RestingParts
from audioldm_lit.callbacks.result import Result
from audioldm_lit.callbacks.scores import Scores
from audioldm_lit.console.air_gap import allow
from audioldm_lit.console.stages import say
from audioldm_lit.console.strict_parser import Strict, class_paths
from audioldm_lit.data.base import AudioDataModule
from audioldm_lit.device import fast_precision
from audioldm_lit.errors import InputError
from audioldm_lit.module import LitAudioLDM
from audioldm_lit.training.checkpoint_file import PlainCheckpoints
from audioldm_lit.training.lightning_internals import OpenCLI, PatientStop, only_tried
from audioldm_lit.training.loggers import log_config, resume_logging
from audioldm_lit.training.resume import check_resumable, checkpoint_to_read
from audioldm_lit.training.run_folder import rank_zero_folder
from audioldm_lit.training.settings import check_trainer

TRAINER_DEFAULTS: dict[str, Any] = {
    "max_steps": 400,
    "gradient_clip_val": 1.0,
    "val_check_interval": 100,
    "check_val_every_n_epoch": None,  # training is one endless stream: checks are counted in steps
    "num_sanity_val_steps": -1,  # the whole held-out set once before training: the base's value
    "log_every_n_steps": 10,
    "enable_model_summary": False,
}
CHECKPOINT_DEFAULTS = {
    "checkpoint.monitor": "val/loss",
    "checkpoint.filename": "best-{step:06d}",
    "checkpoint.save_last": True,
    "early_stopping.monitor": "val/loss",
    "early_stopping.patience": 5,  # checks without a lower held-out loss
}

LOCAL = (".CSVLogger", ".TensorBoardLogger")  # which write files
EXPECTED = (  # warnings about what is done here on purpose
    ".*does not have many workers.*",  # cached items are read in microseconds, worker processes would only slow the loader down
    ".*module\\(s\\) in eval mode at the start of training.*",  # VAE, CLAP and vocoder stay in eval
    ".*smaller than the logging interval.*",  # a run of a few steps
    ".*your dataloader is not resumable.*",  # the stream of clips continues by itself, see TrainingStream
    ".*intended to run from within Python.*",  # a grid's settings are tried on the parser
    ".*treespec, LeafSpec.*",  # a deprecation inside Lightning
)


class SaveConfig(SaveConfigCallback):
    """Saves the resolved configuration once the first check can be made.

    Attributes:
        begun: Whether the first check was right and training began; what a run leaves is kept from then on.
    """

    begun = False

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Do nothing yet."""

    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        """Save, and show it to the loggers."""
        super().setup(trainer, pl_module, "fit")

    def on_train_start(self, trainer: Any, pl_module: Any) -> None:
        """Note it."""
        self.begun = True

    def on_test_start(self, trainer: Any, pl_module: Any) -> None:
        """Save, unless there was a `fit` before."""
        super().setup(trainer, pl_module, "test")

    def on_validation_start(self, trainer: Any, pl_module: Any) -> None:
        """Show it to the loggers without saving it, unless a `fit` came before."""
        if trainer.is_global_zero and not self.already_saved:
            self.save_config(trainer, pl_module, trainer.state.fn)
            self.already_saved = True

    on_predict_start = on_validation_start

    def save_config(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Show it to every logger; called on the first process alone."""
        config = self.parser.dump(self.config, skip_unset=False)
        for logger in trainer.loggers:
            log_config(logger, config)


class Parser(Strict, LightningArgumentParser):  # type: ignore[misc]  # `instantiate` takes whatever the parser does
    """A parser of Lightning's verbs."""

    def dump(self, cfg: Any, skip_none: bool = True, **kwargs: Any) -> str:
        """Settings as text, unchecked: they were checked when they were read. Lightning knows `skip_unset` by its old name."""
        return str(super().dump(cfg, **{"skip_unset": skip_none, **kwargs, "skip_validation": True}))


class AudioLDMCLI(OpenCLI):
    """Parser and trainer of one of Lightning's verbs.

    Args:
        verb: Which one; the others' parsers, all alike, are not built.
        **kwargs: See `LightningCLI`.
    """

    def __init__(self, verb: str, **kwargs: Any) -> None:
        self.verb = verb
        super().__init__(**kwargs)

    def subcommands(self) -> dict[str, set[str]]:  # type: ignore[override]  # static there, where every object has the same
        """The one verb, with the arguments of the trainer's method that are no settings: checkpoints are always plain data."""
        return {self.verb: LightningCLI.subcommands()[self.verb] | {"weights_only"}}

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Callbacks that every run has, configurable under their own keys; the end of a run goes in the order of these lines."""
        parser.add_lightning_class_args(BestCheck, "checkpoint")
        parser.add_lightning_class_args(PatientStop, "early_stopping")
        parser.add_lightning_class_args(Audition, "audition")
        parser.add_lightning_class_args(Dials, "dials")
        parser.add_lightning_class_args(Averages, "averages")
        parser.add_lightning_class_args(Export, "export")
        parser.add_lightning_class_args(AdapterEffect, "effect")
        parser.add_lightning_class_args(Result, "result")
        parser.add_lightning_class_args(Scores, "scores")
        parser.add_lightning_class_args(ReportPage, "report")
        trainer = {**TRAINER_DEFAULTS, "precision": fast_precision()}
        parser.set_defaults({**CHECKPOINT_DEFAULTS, **{f"trainer.{key}": value for key, value in trainer.items()}})
        parser.set_defaults(
            {
                "trainer.logger": {
                    "class_path": f"{CSVLogger.__module__}.CSVLogger",
                    "init_args": {"save_dir": "runs", "name": "adapt"},
                }
            }
        )

    def before_instantiate_classes(self) -> None:
        """Let connections pass where a logger is named that is neither a file's nor ours: to connect is what it is for."""
        named = [path for _, path in class_paths(self.config[self.subcommand].trainer.logger)]
        if not all(path.startswith("audioldm_lit.") or path.endswith(LOCAL) for path in named):
            allow()

    def instantiate_trainer(self, **kwargs: Any) -> Any:
        """Show progress in the project's own way, unless it is turned off or a bar of the user's own does it, and log the rate."""
        settings = self.config_init[self.subcommand].trainer
        callbacks = settings.callbacks or []
        callbacks = callbacks if isinstance(callbacks, list) else [callbacks]
        if settings.enable_progress_bar is not False and not any(isinstance(callback, ProgressBar) for callback in callbacks):
            callbacks = [RunProgress(), *callbacks]
        if settings.logger and not any(isinstance(callback, LearningRateMonitor) for callback in callbacks):
            callbacks = [LearningRateMonitor("step"), *callbacks]
        plugins = settings.plugins or []
        plugins = plugins if isinstance(plugins, list) else [plugins]
        try:
            return super().instantiate_trainer(callbacks=callbacks, plugins=[*plugins, PlainCheckpoints()], **kwargs)
        except (MisconfigurationException, ValueError, TypeError, RuntimeError) as error:  # how Lightning refuses a setting
            raise InputError("trainer", f"is refused ({' '.join(str(error).split())})", "correct this setting") from error

    def run_verb(self, verb: str) -> None:
        """Run, and remove the run folder of an input that turns out to be wrong before training begins."""
        logger = self.trainer.logger
        if logger and not logger.log_dir and not only_tried(self.trainer):
            raise InputError(
                "trainer.logger",
                f"is {type(logger).__name__}, under which runs have no folder of their own",
                "use one of configs/logger/, or a list of loggers with a CSVLogger first",
            )
        if verb == "fit":
            check_trainer(self.trainer)
        if "parts" not in vars(self.datamodule):
            problem = f"{type(self.datamodule).__name__} is not set up"
            raise InputError("data", problem, "call super().__init__(root, **kwargs) in its __init__")
        folder = rank_zero_folder(self.trainer)
        if not only_tried(self.trainer) and folder.resolve().is_relative_to(self.datamodule.root.resolve()):
            mend = "start it from another folder, or set trainer.logger.init_args.save_dir"
            raise InputError(folder, "lies inside the data set, which the sounds of a run would become a part of", mend)
        own = not folder.exists()  # a logger may be given the folder of an earlier run
        try:
            self._find_checkpoint(verb)
            super().run_verb(verb)
        except InputError:
            callbacks = self.trainer.callbacks  # type: ignore[attr-defined]  # set from outside its class
            begun = any(callback.begun for callback in callbacks if isinstance(callback, SaveConfig))
            if self.trainer.is_global_zero:  # it made the folder and alone takes it away: two would trip over each other
                _clear(folder, verb == "fit" and own and not begun)
            raise

    def _find_checkpoint(self, verb: str) -> None:
        """Put the checkpoint that is meant in place of what `--ckpt_path` says, or refuse it."""
        settings = self.config_init[verb]
        if settings.ckpt_path is not None:
            path = checkpoint_to_read(str(settings.ckpt_path), self.trainer)
            if verb == "fit":
                check_resumable(path, self.trainer.max_steps, "scores.json" if settings.scores.after_fit else "result.json")
            settings.ckpt_path = str(path)
            for logger in self.trainer.loggers if verb == "fit" else ():
                resume_logging(logger, path.parent.parent)


def run(
    args: Sequence[str] | None, model_class: type[LitAudioLDM] | None = None, cli_class: Callable[..., AudioLDMCLI] = AudioLDMCLI
) -> None:
    """Run one of Lightning's verbs; without `args`, the one on the command line."""
    for message in EXPECTED:
        warnings.filterwarnings("ignore", message=message)
    logging.getLogger("lightning.pytorch.utilities.rank_zero").addFilter(_Tips())
    logger = logging.getLogger("lightning.pytorch")
    logger.handlers = [_Above() for _ in logger.handlers]  # it has none where the program has set up logging itself
    words = list(sys.argv[1:] if args is None else args)
    cli_class(
        words[0],
        model_class=model_class or LitAudioLDM,
        datamodule_class=AudioDataModule,
        subclass_mode_data=True,
        auto_configure_optimizers=False,
        seed_everything_default=0,
        save_config_callback=SaveConfig,
        trainer_defaults={"callbacks": [Predictions(), BaseLoss(), ColdWeights(), RestingParts()]},
        args=None if args is None else words,
        parser_class=Parser,
        parser_kwargs={"prog": "python -m audioldm_lit", "allow_abbrev": False},
    )


def _clear(folder: Path, whole: bool) -> None:
    """Remove a run's folder, with what is in it or only if nothing is, and the folders around it that are empty then."""
    if whole and folder.exists():
        shutil.rmtree(folder, ignore_errors=True)
        folder = folder.parent
    # Not the current folder, which without a logger is the run's.
    while folder.is_dir() and folder.absolute() != Path.cwd() and not any(folder.iterdir()):
        folder.rmdir()
        folder = folder.parent


class _Above(logging.Handler):
    """Prints what Lightning says above the bars, not into them."""

    def emit(self, record: logging.LogRecord) -> None:
        say(self.format(record))


class _Tips(logging.Filter):
    """Drops Lightning's advertisements from the log."""

    def filter(self, record: logging.LogRecord) -> bool:
        return "Tip:" not in record.getMessage()
