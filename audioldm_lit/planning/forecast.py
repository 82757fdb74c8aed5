"""From what a rehearsal took to what the run will take: arithmetic alone."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from audioldm_lit.callbacks.dials import RECORDINGS
from audioldm_lit.planning.clock import STEP, Took

EVERY_STEP = (STEP, "train_dataloader_next", "on_train_batch_start", "on_train_batch_end")
EVERY_BATCH = ("validation_step", "val_next", "on_validation_batch_start", "on_validation_batch_end")
EVERY_CHECK = (
    "on_validation_start", "on_validation_epoch_start", "on_validation_epoch_end", "on_validation_end", "on_validation_model_eval",
    "on_validation_model_train", "save_checkpoint", "on_save_checkpoint",
)  # fmt: skip
PARTS = {  # the callback that listens, and what it is called
    "Audition": "auditions",
    "Dials": "dials",
    "Averages": "averages",
    "Scores": "scores",
}
OURS = "Rehearsal"


@dataclass(frozen=True)
class Size:
    """What a run consists of.

    Attributes:
        steps: Optimizer steps.
        checks: Checks of the held-out clips, that of the base included.
        train: Training clips, without their variants.
        val: Clips of the validation split.
        held_out: Clips of the validation and the test split.
        passes: Passes through the UNet that sampling a clip takes.
    """

    steps: int
    checks: int
    train: int
    val: int
    held_out: int
    passes: int


def forecast(calls: Mapping[str, Sequence[Took]], whole: float, tried: Size, asked: Size) -> dict[str, float]:
    """Seconds of the parts of a run, from those of a smaller one.

    Every hook is called once a step, once a check, once for each batch of a check, or once; how often, its name says. Of those that
    are called once, some go through clips. The first step, which may compile, takes what it takes once.

    Args:
        calls: What the hooks took in the smaller run.
        whole: Seconds that it took in all.
        tried: What it consisted of.
        asked: What the run consists of.
    """
    slower = asked.passes / tried.passes
    parts = dict.fromkeys(["start and end", "steps", "checks", *PARTS.values()], 0.0)
    rest = whole
    for name, every in calls.items():
        owner, _, hook = name.rpartition(".")
        owner = owner.partition("]")[2].partition("{")[0]  # Lightning adds a callback's settings to its name
        rest -= sum(took.seconds for took in every)
        if owner == OURS:
            continue  # what only a rehearsal does
        ours = "steps" if hook in EVERY_STEP else "checks" if hook in EVERY_BATCH + EVERY_CHECK else "start and end"
        times = [took.seconds + (slower - 1) * took.sampling for took in every]
        parts[PARTS.get(owner, ours)] += _scaled(owner, hook, times, tried, asked)
    parts["start and end"] += max(0.0, rest)  # libraries, and what no hook surrounds
    return parts


def step_seconds(calls: Mapping[str, Sequence[Took]], steps: int) -> float:
    """Seconds of a step, the first left out."""
    some = [[took.seconds for took in every] for name, every in calls.items() if name.rpartition(".")[2] in EVERY_STEP]
    return sum(_after_first(times, steps) for times in some)


def _scaled(owner: str, hook: str, times: Sequence[float], tried: Size, asked: Size) -> float:
    """Seconds of all calls of a hook in the run."""
    spent, checks = sum(times), asked.checks / tried.checks
    if hook in EVERY_STEP:
        later = _after_first(times, tried.steps)
        return spent + (asked.steps - tried.steps) * later
    if hook in EVERY_BATCH:
        return spent * checks * asked.val / tried.val
    if hook in EVERY_CHECK:
        return spent * checks
    return spent * _clips(owner, hook, tried, asked)


def _after_first(times: Sequence[float], steps: int) -> float:
    """Mean of the steps after the first; a step may consist of several calls."""
    first = -(-len(times) // steps)
    return sum(times[first:]) / (steps - 1) if steps > 1 else sum(times)


def _clips(owner: str, hook: str, tried: Size, asked: Size) -> float:
    """How many times as many clips a hook goes through that is called once."""
    grows = {
        ("Dials", "on_fit_start"): _heard(asked) / _heard(tried),
        ("Averages", "on_fit_end"): asked.val / tried.val,
        ("Scores", "on_fit_end"): asked.held_out / tried.held_out,
    }
    return grows.get((owner, hook), 1.0)


def _heard(size: Size) -> int:
    """Recordings that the dials compare with."""
    return min(size.train, RECORDINGS) + min(size.val, RECORDINGS)
