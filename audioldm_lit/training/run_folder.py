"""Where the files of a run go."""

from pathlib import Path

from lightning import Trainer


def run_folder(trainer: Trainer) -> Path:
    """The run's folder. A collective call: every process makes it, or those that do wait forever."""
    return Path(trainer.log_dir or trainer.default_root_dir)


def rank_zero_folder(trainer: Trainer) -> Path:
    """The run's folder, for code that only the first process runs."""
    return Path(getattr(trainer.logger, "log_dir", None) or trainer.default_root_dir)
