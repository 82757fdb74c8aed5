"""The end of a run: the adapter as one file, and a table that says whether it helped."""

import hashlib
import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from lightning import Callback, Trainer
from rich.console import Console

from audioldm_lit.adapters.files.adapter_file import load_weights, save_adapter
from audioldm_lit.adapters.files.card import About, write_card
from audioldm_lit.backbone import Backbone
from audioldm_lit.callbacks.audition import Audition, rank_zero_folder
from audioldm_lit.callbacks.best_check import BestCheck
from audioldm_lit.callbacks.dials import Dials
from audioldm_lit.callbacks.result_table import show
from audioldm_lit.callbacks.scores import report, score_systems
from audioldm_lit.errors import InputError
from audioldm_lit.inference.blending import AdaptedCopy, AdapterSetting
from audioldm_lit.inference.effect import Effect, measure_effect
from audioldm_lit.inference.effect import show as show_effect
from audioldm_lit.module import LitAudioLDM
from audioldm_lit.storage.atomic_write import atomic_write

HEARD = 4  # prompts on which the effect of the adapter is measured


class Result(Callback):
    """Writes `adapter.safetensors` with its card `adapter.md`, `result.json`, `scores.json` and `clips.json`.

    The adapter is that of the best check. The last file proves what was trained and validated on by every clip's id, caption and
    hash.

    Args:
        licence: Licence of the base's weights, for the card: `CC BY-NC-SA 4.0` for the published AudioLDM.
        scores: Whether `fit` ends with scores of base, adapted model and real recordings, for which both models generate a clip for
            every held-out clip; needs `model.protocol`. `test` writes its scores in any case, and `test.json` with the loss
            beside them.
    """

    def __init__(self, scores: bool = False, licence: str = "unknown") -> None:
        self.scores = scores
        self.licence = licence
        self.began = time.monotonic()

    def setup(self, trainer: Trainer, pl_module: LitAudioLDM, stage: str) -> None:
        """Start the clock, encoding included."""
        if self.scores and pl_module.protocol is None:
            raise InputError("result.scores needs metrics; set model.protocol, for example to embedded.")
        if self.scores and not pl_module.data.captioned:
            raise InputError("result.scores needs captions to generate from, and data.init_args.caption is null; set it to false.")
        self.began = time.monotonic()

    def on_fit_end(self, trainer: Trainer, pl_module: LitAudioLDM) -> None:
        """Export and report, on the first process, then score, on all."""
        best = getattr(trainer.checkpoint_callback, "best_model_path", "")
        folder = Path(trainer.log_dir or trainer.default_root_dir)  # a collective call: every process makes it
        if not best and isinstance(trainer.checkpoint_callback, BestCheck) and not trainer.fast_dev_run:
            raise _none_good_enough(trainer.checkpoint_callback, folder)
        if not best:
            return
        pl_module.to(trainer.strategy.root_device)  # Lightning has moved it to the CPU by now
        checkpoint = torch.load(best, weights_only=True, map_location="cpu")
        average = checkpoint["audioldm_lit"]["ema"]
        weights = average["average"] if average else checkpoint["state_dict"]
        loss, how = float(trainer.checkpoint_callback.best_model_score), ""
        if pl_module.chosen is not None:
            chosen, weights = pl_module.chosen
            loss, how = chosen.loss, f", average of sigma_rel {chosen.sigma_rel:g}"
        load_weights(pl_module.backbone, weights, best)
        if trainer.is_global_zero:
            self._export(trainer, pl_module, {"best_step": checkpoint["global_step"], "held_out_loss_after": loss, "average": how})
        if self.scores:
            evaluations = score_systems(trainer, pl_module, folder / "scores")
            if trainer.is_global_zero:
                report(evaluations, folder)

    def on_test_end(self, trainer: Trainer, pl_module: LitAudioLDM) -> None:
        """Write what `test` found."""
        folder = Path(trainer.log_dir or trainer.default_root_dir)
        if not trainer.is_global_zero:
            return
        figures = {"loss": _held_out_loss(pl_module), "metrics": {}, "not_computed": {}, "passport": {}}
        if pl_module.evaluation is not None:
            figures |= pl_module.evaluation.as_dict()
            report({"generated": pl_module.evaluation}, folder)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "test.json").write_text(json.dumps(figures, indent=2) + "\n")

    def _export(self, trainer: Trainer, module: LitAudioLDM, best: dict[str, Any]) -> None:
        folder, auditions = rank_zero_folder(trainer), Audition.folder(trainer)
        encoded = {split: module.data.datasets[split] for split in ("train", "val")}
        clips = {split: {"sha256": dataset.fingerprint(), "clips": dataset.contents()} for split, dataset in encoded.items()}
        result = {
            "held_out_loss_before": module.base_loss,
            **best,
            "held_out_clips": len(encoded["val"]),
            "training_clips": len(encoded["train"].clips.clips),
            "training_clips_sha256": clips["train"]["sha256"],
            "coverage": {split: str(coverage) for split, coverage in module.data.coverage.items()},
            "steps": trainer.global_step,
            "trained_weights": sum(weight.numel() for weight in module.weights.values()),
            "seconds": round(time.monotonic() - self.began, 1),
            "peak_device_memory_gb": _device_memory(module.device),
            "adapter": str(folder / "adapter.safetensors"),
            "auditions": str(auditions) if auditions.is_dir() else None,
            "checkpoint": trainer.checkpoint_callback.best_model_path,
        }
        readings = next(callback for callback in trainer.callbacks if isinstance(callback, Dials)).readings
        if readings:
            result["dials"] = {"base": asdict(readings[0]), "best": asdict(readings[best["best_step"]])}
        (folder / "clips.json").write_text(json.dumps(clips, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        about = self._about(module, result)
        made = module.adapter, module.base_fingerprint, module.objective.prediction_type
        save_adapter(folder / "adapter.safetensors", made[0], dict(module.weights), *made[1:], about)
        write_card(folder / "adapter.md", *made, about)
        effect = self._effect(module, folder / "adapter.safetensors")
        result["effect"] = effect.as_dict()
        with atomic_write(folder / "result.json") as unfinished:  # a grid takes it for the end of a run
            unfinished.write_text(json.dumps(result, indent=2) + "\n")
        show_effect(effect, Console())
        show(result, Console())

    def _effect(self, module: LitAudioLDM, file: Path) -> Effect:
        """What the adapter does to the model on a few of its prompts, taken from its file: the run may hold bfloat16."""
        captions = [clip.caption for clip in module.data.datasets["train"].clips.clips]
        prompts = list(dict.fromkeys(captions))[:HEARD]
        base = Backbone.load(module.backbone_name).to(module.device)
        adapted = AdaptedCopy.load(AdapterSetting(file), base)
        return measure_effect(base, adapted.adapter, adapted.backbone, adapted.prediction_type, prompts, module.seed)

    def _about(self, module: LitAudioLDM, result: dict[str, Any]) -> About:
        train = module.data.datasets["train"]
        captions = [clip.caption for clip in train.clips.clips]
        scores = {"held-out loss": (result["held_out_loss_before"], result["held_out_loss_after"])}
        for name in ("learned", "copied", "forgot") if "dials" in result else ():
            scores[name] = result["dials"]["base"][name], result["dials"]["best"][name]
        run = len(captions), train.fingerprint(), result["best_step"], module.seed
        return About.of_run(module.backbone_name, captions, *run, self.licence, scores)


def _held_out_loss(module: LitAudioLDM) -> dict[str, Any]:
    """Loss of the test clips with its interval, and the hash of what it may be compared under."""
    loss, clips = module.test_loss, module.data.datasets["test"]
    under = json.dumps([module.base_fingerprint, module.val_timesteps, clips.fingerprint()], sort_keys=True)
    return {
        "value": loss.value,
        "interval": loss.interval(module.seed),
        "n_clips": len(clips),
        "higher_is_better": False,
        "passport": hashlib.sha256(under.encode()).hexdigest(),
    }


def _device_memory(device: torch.device) -> float | None:
    """The most that tensors took of a GPU, in GB; None elsewhere."""
    return round(torch.cuda.max_memory_allocated(device) / 1e9, 3) if device.type == "cuda" else None


def _none_good_enough(policy: BestCheck, folder: Path) -> InputError:
    return InputError(
        f"no check stayed within checkpoint.max_copied={policy.max_copied:g} and checkpoint.max_forgot={policy.max_forgot:g}; "
        f"train fewer steps or at a lower rate, or allow more. {folder / 'metrics.csv'} has the dials of every check."
    )
