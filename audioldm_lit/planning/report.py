"""A plan as people read it."""

from collections.abc import Mapping
from dataclasses import dataclass

from rich.console import Console

from audioldm_lit.console.markup import escape
from audioldm_lit.console.stages import duration


@dataclass(frozen=True)
class Plan:
    """What a run is made of and would take.

    Attributes:
        adapter: Class of the adapter.
        trained_weights: How many numbers train.
        objective: Class of the objective.
        optimizer: Class of the optimizer.
        learning_rate: After warm-up.
        precision: Of the trainer.
        gradient_checkpointing: Whether activations are computed again.
        device: What it computes on.
        steps: Optimizer steps, if no check ends it sooner.
        batch_size: Clips of a step.
        checks: Checks, that of the base not counted.
        clips: Clips by split.
        duration: Seconds of a clip.
        not_encoded: Items that the cache does not hold yet.
        peak_gb: The most memory that it takes, 10^9 bytes.
        memory_gb: What memory there is.
        free_gb: What others leave of it now.
        step_seconds: Seconds of a step.
        seconds: Seconds of the parts of the run.
        adapter_mb: Size of the adapter's file, 10^6 bytes.
    """

    adapter: str
    trained_weights: int
    objective: str
    optimizer: str
    learning_rate: float
    precision: str
    gradient_checkpointing: bool
    device: str
    steps: int
    batch_size: int
    checks: int
    clips: Mapping[str, int]
    duration: float
    not_encoded: int
    peak_gb: float
    memory_gb: float
    free_gb: float
    step_seconds: float
    seconds: Mapping[str, float]
    adapter_mb: float


def show(plan: Plan, console: Console) -> None:
    """Print it."""
    again = ", gradient checkpointing" if plan.gradient_checkpointing else ""
    recipe = [
        f"{plan.adapter}, {plan.trained_weights:,} weights train",
        plan.objective,
        f"{plan.steps:,} steps of {plan.batch_size:,} clips, {plan.optimizer} at {plan.learning_rate:g}",
        f"{plan.precision} on {plan.device}{again}",
        f"{plan.checks:,} checks",
    ]
    clips = ", ".join(f"{count:,} {split}" for split, count in plan.clips.items())
    missing = f"{plan.not_encoded:,} not encoded yet" if plan.not_encoded else "all encoded"
    short = "" if plan.peak_gb <= plan.free_gb else "; others use the rest now: end them first"
    parts = ", ".join(f"{name} {duration(seconds)}" for name, seconds in plan.seconds.items() if seconds >= 1)
    lines = [
        f"recipe    {'; '.join(recipe)}",
        f"data      {clips} clips of {plan.duration:g} s; {missing}",
        f"memory    {plan.peak_gb:.2f} GB at most, of {plan.memory_gb:.1f}, {plan.free_gb:.1f} of them free{short}",
        f"step      {plan.step_seconds:.3g} s",
        f"time      about {duration(sum(plan.seconds.values()))}, less where early stopping ends it: {parts}",
        f"adapter   {plan.adapter_mb:.1f} MB",
    ]
    console.print(escape("\n".join(lines)), soft_wrap=True, highlight=False)
