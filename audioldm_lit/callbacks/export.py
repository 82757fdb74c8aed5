"""The adapter of a run, as one file with its card."""

from collections import Counter
from pathlib import Path

import torch
from lightning import Callback, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor

from audioldm_lit.adapters.base import saved
from audioldm_lit.adapters.files.adapter_file import load_weights, save_adapter
from audioldm_lit.adapters.files.card import About, Share, write_card
from audioldm_lit.assets.licence import check_licence
from audioldm_lit.backbone import SOUND_SIDE
from audioldm_lit.console.stages import say
from audioldm_lit.module import LitAudioLDM
from audioldm_lit.storage.atomic_write import write_json
from audioldm_lit.training.checkpoint import averaged_weights
from audioldm_lit.training.encoding import encoded
from audioldm_lit.training.held_out_loss import error_of
from audioldm_lit.training.loggers import log_file
from audioldm_lit.training.outcome import BestWeights
from audioldm_lit.training.run_folder import rank_zero_folder

ADAPTER = "adapter.safetensors"


class Export(Callback):
    """Writes `adapter.safetensors` with its card `adapter.md`, and `clips.json`.

    The adapter is that of the best check, or an average that is better. The last file proves what was trained and validated on by
    every clip's id, caption and hash.

    Args:
        licence: Licence of the base's weights, for the card; by default the one that its README or `assets list` states.
        commercial: Whether to refuse a base whose licence is not known to allow commercial use.
        share: What the adapter and its card say of the clips: `captions`, up to 50 of them; `counts`, how many clips and captions,
            and one hash of them all; or `none`. `clips.json` stays in the run's folder and says all.
    """

    def __init__(self, licence: str | None = None, commercial: bool = False, share: Share = "counts") -> None:
        self.licence = licence
        self.commercial = commercial
        self.share = share

    def setup(self, trainer: Trainer, pl_module: LitAudioLDM, stage: str) -> None:
        """Look up the licence and say it, before anything is trained."""
        if stage == "fit":
            found = check_licence(pl_module.backbone_name, self.commercial)
            self.licence = self.licence or found.text
            if trainer.is_global_zero:
                say(f"licence of {pl_module.backbone_name}, and of what is derived from it: {found}")

    def on_fit_end(self, trainer: Trainer, pl_module: LitAudioLDM) -> None:
        """Put the best weights into the model, on every process, and write them, on the first; nothing where no check was kept."""
        policy = trainer.checkpoint_callback
        pl_module.outcome.best = None
        if not isinstance(policy, ModelCheckpoint) or not policy.best_model_path:
            return
        assert policy.best_model_score is not None
        path = policy.best_model_path
        pl_module.to(trainer.strategy.root_device)  # Lightning has moved it to the CPU by now
        best, weights = best_weights(path, float(policy.best_model_score), pl_module)
        load_weights(pl_module.backbone, weights, path, pl_module.anew)
        pl_module.outcome.best = best
        if trainer.is_global_zero:
            folder = rank_zero_folder(trainer)
            write_clips(folder / "clips.json", pl_module)
            about, base, objective = self._about(pl_module, best), pl_module.base_fingerprint, pl_module.objective
            trained = pl_module.adapter, saved(pl_module.weights, pl_module.backbone, pl_module.anew)
            sampling = objective.sampled_by.spec() if objective.sampled_by else None
            decoder = pl_module.base_decoder if {*SOUND_SIDE} & {*about.weights} else None
            rounded = pl_module.base_rounded
            save_adapter(folder / ADAPTER, *trained, base, objective.prediction, about, rounded, sampling, decoder)
            write_card(folder / "adapter.md", pl_module.adapter, base, objective.prediction, about)
            for logger in trainer.loggers:
                log_file(logger, folder / ADAPTER, "adapter")

    def _about(self, module: LitAudioLDM, chosen: BestWeights) -> About:
        outcome, train = module.outcome, encoded(module.data, "train")
        captions = [clip.caption for clip in train.clips.clips]
        of = error_of(module.objective)
        scores = {"held-out loss" if of == "noise" else f"held-out error of {of}": (outcome.base_loss, chosen.loss)}
        if outcome.dials:
            base, best = outcome.dials
            scores |= {name: (getattr(base, name), getattr(best, name)) for name in ("learned", "copied", "forgot")}
        run = len(captions), train.fingerprint(), chosen.step, module.seed
        said = self.licence or "unknown", scores, module.heads, self.share
        weights: Counter[str] = Counter()
        for name, weight in module.weights.items():
            weights[name.partition(".")[0]] += weight.numel()
        return About.of_run(module.backbone_name, captions, *run, *said, dict(weights))


def best_weights(path: str, loss: float, module: LitAudioLDM) -> tuple[BestWeights, dict[str, Tensor]]:
    """The weights of the best check, which is at `path`, or the average that was chosen instead."""
    checkpoint = torch.load(path, weights_only=True, map_location="cpu")
    step = checkpoint["global_step"]
    if module.outcome.chosen is None:
        return BestWeights(path, step, loss), averaged_weights(checkpoint)
    candidate, weights = module.outcome.chosen
    return BestWeights(path, step, candidate.loss, f", average of sigma_rel {candidate.sigma_rel:g}"), weights


def write_clips(path: Path, module: LitAudioLDM) -> None:
    """Write what was trained and validated on."""
    splits = {"train": encoded(module.data, "train"), "val": encoded(module.data, "val")}
    clips = {split: {"sha256": dataset.fingerprint(), "clips": dataset.contents()} for split, dataset in splits.items()}
    write_json(path, clips)
