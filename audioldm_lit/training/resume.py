"""Which checkpoint a run goes on from, and whether it can."""

from pathlib import Path

from lightning import Trainer

from audioldm_lit.console.stages import say
from audioldm_lit.errors import InputError
from audioldm_lit.storage.atomic_write import clear_unfinished
from audioldm_lit.storage.plain_files import read_yaml
from audioldm_lit.training.checkpoint_file import PLACE, read_checkpoint
from audioldm_lit.training.run_folder import rank_zero_folder

WORDS = ("last", "best")  # that stand for a checkpoint of the newest run of the same name


def checkpoint_to_read(asked: str, trainer: Trainer) -> Path:
    """The checkpoint that `--ckpt_path` means.

    Args:
        asked: A path, or `last` or `best` for that of the newest run of the logger's name.
        trainer: Of the new run.

    Raises:
        InputError: If there is none, or it cannot be read.
    """
    path = _newest(asked, rank_zero_folder(trainer).parent) if asked in WORDS else Path(asked)
    if trainer.is_global_zero:
        for folder in (path.parent, path.parent.parent):  # what a kill left while a checkpoint, or the end, was written
            clear_unfinished(folder)
    if "://" in asked:
        read_checkpoint(asked, in_memory=False)  # refuses it
    path = _whole(path)
    if asked in WORDS and trainer.is_global_zero:
        say(f"--ckpt_path {asked}: {path}")
    return path


def _whole(path: Path) -> Path:
    """A checkpoint that can be read: this one, or in place of a damaged `last.ckpt` what it had come from, which is said."""
    try:
        read_checkpoint(path, in_memory=False)
        return path
    except InputError as fault:
        if path.name != "last.ckpt" or not path.is_file():
            raise
        kept = sorted(path.parent.glob("best-*.ckpt"))
        before = kept[-1] if kept else _begun_from(path)
        if before is None:
            raise
        say(f"{fault.where}: {fault.problem}; going on from {f'{before.name} beside it' if kept else before}")
        return _whole(before)


def _begun_from(last: Path) -> Path | None:
    """The `last.ckpt` that the run of another went on from, where it was told to take the last one."""
    config = last.parent.parent / "config.yaml"
    try:
        told = read_yaml(config)
    except (OSError, ValueError):  # a run that cannot tell, whose damaged checkpoint is refused then
        return None
    if not isinstance(told, dict) or told.get("ckpt_path") != "last":
        return None
    found = [other for other in last.parent.parent.parent.glob("*/checkpoints/last.ckpt") if _turn(other) < _turn(last)]
    return max(found, key=_turn, default=None)


def check_resumable(path: Path, max_steps: int, end: str = "result.json") -> None:
    """Refuse a checkpoint from which `fit` cannot go on, or has nothing left to do.

    Args:
        path: The checkpoint.
        max_steps: Of the new run; -1 for no bound.
        end: Name of the file that a run writes last. One that was killed after its last step and before has its end left to do.

    Raises:
        InputError: If it is refused.
    """
    checkpoint = read_checkpoint(path, in_memory=False)
    lacking = [entry for entry in PLACE if entry not in checkpoint]
    if lacking:
        raise InputError(path, f"has no {lacking[0]}, so training cannot go on from it", "give one that `fit` wrote, unchanged")
    step = checkpoint["global_step"]
    if not isinstance(step, int):
        raise InputError(path, f"is at step {step!r}, which is no number", "give one that `fit` wrote, unchanged")
    ended = (path.parent.parent / end).is_file()
    if 0 <= max_steps < step or (step == max_steps and ended):
        problem = f"is at step {step:,} and trainer.max_steps is {max_steps:,}: nothing is left to train"
        raise InputError(path, problem, "raise trainer.max_steps")


def _turn(checkpoint: Path) -> tuple[int, float]:
    """Order of runs: by the logger's numbers, for a clock may have been set back; those of other names come before, by time."""
    number = checkpoint.parent.parent.name.removeprefix("version_")
    return (int(number) if number.isdecimal() else -1, checkpoint.stat().st_mtime)


def _newest(word: str, runs: Path) -> Path:
    """The last or the best checkpoint of the newest run that has one."""
    found = sorted(runs.glob("*/checkpoints/last.ckpt"), key=_turn)
    if not found:
        raise InputError(f"--ckpt_path {word}", f"finds no checkpoint below {runs}", "leave it out to begin, or name a file")
    return found[-1] if word == "last" else _best(found[-1])


def _best(last: Path) -> Path:
    """The best check by the account of a run's last one: beside it, or where the run was resumed, perhaps before."""
    kept = sorted(last.parent.glob("best-*.ckpt"))
    if len(kept) == 1:
        return kept[0]
    states = read_checkpoint(last, in_memory=False).get("callbacks", {}).values()
    told = [Path(state["best_model_path"]) for state in states if state.get("best_model_path")]
    found = [path for path in (last.with_name(path.name) if kept else path for path in told) if path.is_file()]
    if found:
        return found[0]
    if kept:
        raise InputError("--ckpt_path best", f"finds {len(kept)} in {last.parent}, and not which of them is best", "name a file")
    raise InputError("--ckpt_path best", f"finds none in {last.parent}", "take last, or name a file")
