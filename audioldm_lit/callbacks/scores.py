"""What a run is worth: the base, the adapted model and real recordings, scored alike."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from lightning import Callback, Trainer
from lightning.pytorch.loggers import Logger
from rich.console import Console

from audioldm_lit.backbone import Backbone
from audioldm_lit.diffusion import prediction_of
from audioldm_lit.errors import InputError
from audioldm_lit.evaluation.evaluation import Evaluation
from audioldm_lit.evaluation.systems import System, Trial, score_systems
from audioldm_lit.evaluation.tables import show
from audioldm_lit.module import LitAudioLDM
from audioldm_lit.storage.atomic_write import write_json
from audioldm_lit.training.lightning_internals import autocast
from audioldm_lit.training.loggers import log_file
from audioldm_lit.training.run_folder import rank_zero_folder, run_folder


class Scores(Callback):
    """Writes and prints `scores.json`: of the generated clips after `test`, and after `fit` where that is asked for.

    Args:
        after_fit: Whether `fit` ends with scores of base, adapted model and real recordings, for which both models generate a clip
            for every held-out clip; needs `model.protocol`.
        num_candidates: Clips that either model generates for each held-out clip after `fit`. Values are means over them; intervals
            are over the held-out clips, of which more cannot be had this way.
    """

    def __init__(self, after_fit: bool = False, num_candidates: int = 1) -> None:
        if num_candidates < 1:
            raise InputError("scores.num_candidates", f"is {num_candidates}", "give at least 1")
        self.after_fit = after_fit
        self.num_candidates = num_candidates

    def setup(self, trainer: Trainer, pl_module: LitAudioLDM, stage: str) -> None:
        """Refuse what has no scores before anything is computed."""
        if self.after_fit and pl_module.protocol is None:
            raise InputError("scores.after_fit", "needs metrics", "set model.protocol, for example to embedded")
        if self.after_fit and not pl_module.data.captioned:
            raise InputError(
                "scores.after_fit", "needs captions to generate from, and data.init_args.caption is null", "set it to false"
            )

    def on_fit_end(self, trainer: Trainer, pl_module: LitAudioLDM) -> None:
        """Score the best weights, on all processes; nothing where no check was kept."""
        if not self.after_fit or pl_module.outcome.best is None:
            return
        folder = run_folder(trainer)
        evaluations = score_systems(_trial(trainer, pl_module, self.num_candidates), _systems(pl_module), folder / "scores")
        if trainer.is_global_zero:
            report(evaluations, folder, trainer.loggers)

    def on_test_end(self, trainer: Trainer, pl_module: LitAudioLDM) -> None:
        """Report what `test` found, on the first process."""
        if trainer.is_global_zero and pl_module.outcome.evaluation is not None:
            report({"generated": pl_module.outcome.evaluation}, rank_zero_folder(trainer), trainer.loggers)


def report(evaluations: dict[str, Evaluation], folder: Path, loggers: Sequence[Logger]) -> None:
    """Write `scores.json`, keep it where runs are watched, and print it."""
    write_json(folder / "scores.json", {name: evaluation.as_dict() for name, evaluation in evaluations.items()})
    for logger in loggers:
        log_file(logger, folder / "scores.json", "scores")
    show(evaluations, Console(emoji=False))


def _trial(trainer: Trainer, module: LitAudioLDM, num_candidates: int) -> Trial:
    """What base and adapted model are asked after training."""
    assert module.protocol is not None
    module.protocol.keep_features(module.cache_dir / "features")  # the recordings are scored against three times
    asked = module.data, module.protocol, module.sampler, module.unconditional, module.seed
    return Trial(*asked, trainer.global_rank, trainer.world_size, num_candidates, partial(autocast, trainer))


def _systems(module: LitAudioLDM) -> dict[str, System]:
    base = Backbone.load(module.backbone_name, module.heads).to(module.device)
    return {
        "base": System(base, prediction_of(base.scheduler)),
        "adapted": System(module.backbone.eval(), module.objective.prediction),
    }
