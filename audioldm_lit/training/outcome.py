"""What a run finds on its way, handed from the part that finds it to those that use it."""

from dataclasses import dataclass, field
from statistics import fmean

from torch import Tensor

from audioldm_lit.evaluation.evaluation import Evaluation
from audioldm_lit.inference.effect import Effect
from audioldm_lit.metrics.estimate import Estimate
from audioldm_lit.training.post_hoc_average import Candidate


@dataclass(frozen=True)
class Reading:
    """The dials at one check.

    Attributes:
        learned: KAD between clips generated for held-out captions and the held-out recordings; falls towards 0.
        copied: Share of them that are near-copies of a training clip, in [0, 1].
        general: CLAP score of clips generated for general prompts, in [-1, 1].
        forgot: How far that score has fallen below the base's with the same noise; 0 or less where nothing is lost.
    """

    learned: float
    copied: float
    general: float
    forgot: float


@dataclass(frozen=True)
class BestWeights:
    """Which weights a training ends with.

    Attributes:
        checkpoint: File of the best check.
        step: Optimizer step of that check.
        loss: Held-out loss of the weights.
        average: Which average of the run they are, as it reads after the step; empty for the check's own.
    """

    checkpoint: str
    step: int
    loss: float
    average: str = ""


@dataclass
class Outcome:
    """What a run has found so far: each value is set by the part named here and read by those after it.

    Attributes:
        base_losses: The base's held-out loss by timestep, of the check before training or from `BaseLoss`; empty if not measured.
        readings: The dials by step, 0 being the base, from `Dials`; empty where they are off.
        chosen: An average that is better than the best check, and its weights, from `Averages`.
        best: From `Export`, which puts these weights into the model; None where no check was kept.
        effect: From `AdapterEffect`, on the first process.
        test_loss: Of the test clips, from `test`.
        evaluation: Scores of the test's generated clips, from `test` with a protocol.
    """

    base_losses: list[float] = field(default_factory=list)
    readings: dict[int, Reading] = field(default_factory=dict)
    chosen: tuple[Candidate, dict[str, Tensor]] | None = None
    best: BestWeights | None = None
    effect: Effect | None = None
    test_loss: Estimate | None = None
    evaluation: Evaluation | None = None

    @property
    def base_loss(self) -> float | None:
        """The base's held-out loss, where it was measured."""
        return fmean(self.base_losses) if self.base_losses else None

    @property
    def dials(self) -> tuple[Reading, Reading] | None:
        """The base's dials and those of the best check, where they were read."""
        return (self.readings[0], self.readings[self.best.step]) if self.readings and self.best else None
