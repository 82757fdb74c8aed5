"""What a run is worth: scores of the base, the adapted model and real recordings in one table."""

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from lightning import Callback, Trainer
from rich.console import Console
from rich.progress import track

from audioldm_lit import noise
from audioldm_lit.adapters.file import load_weights
from audioldm_lit.audio import write
from audioldm_lit.backbone import Backbone
from audioldm_lit.callbacks.result import final_weights
from audioldm_lit.data.base import ClipDataset
from audioldm_lit.errors import InputError
from audioldm_lit.manifest import Entry
from audioldm_lit.metrics.evaluation import Evaluation
from audioldm_lit.metrics.extractors.base import AudioBatch
from audioldm_lit.metrics.tables import show
from audioldm_lit.module import LitAudioLDM

BATCH = 8  # clips generated at once


class Scores(Callback):
    """Writes `scores.json` and prints it: after `test` its scores; after `fit`, if asked, base, adapted model and real recordings.

    After `fit` both models generate a clip for every held-out clip's caption (validation and test) with the same noise and are
    scored against those recordings. As many training clips are scored as a third system, `real`: what a perfect model would
    reach. The generated clips are kept in `scores/`.

    Args:
        after_fit: Whether to do that; needs `model.protocol`.
    """

    def __init__(self, after_fit: bool = False) -> None:
        self.after_fit = after_fit

    def setup(self, trainer: Trainer, pl_module: LitAudioLDM, stage: str) -> None:
        """Refuse before anything is computed."""
        if self.after_fit and pl_module.protocol is None:
            raise InputError("scores.after_fit needs metrics; set model.protocol, for example to configs/protocol/embedded.yaml.")

    def on_test_end(self, trainer: Trainer, pl_module: LitAudioLDM) -> None:
        """Write what `test` found."""
        folder = Path(trainer.log_dir or trainer.default_root_dir)
        if pl_module.evaluation is not None:
            _report(trainer, {"generated": pl_module.evaluation}, folder)

    def on_fit_end(self, trainer: Trainer, pl_module: LitAudioLDM) -> None:
        """Generate and score; every process has its share."""
        best = getattr(trainer.checkpoint_callback, "best_model_path", "")
        folder = Path(trainer.log_dir or trainer.default_root_dir)  # a collective call: every process makes it
        if not self.after_fit or not best or trainer.fast_dev_run:
            return
        load_weights(pl_module.backbone, final_weights(torch.load(best, weights_only=True, map_location="cpu")), best)
        base = Backbone.load(pl_module.backbone_name).to(pl_module.device)
        protocol, data = pl_module.protocol, pl_module.data
        protocol.keep_features(pl_module.cache_dir / "features")  # the recordings are scored against three times
        held_out = [data.waveforms(split) for split in ("val", "test")]
        evaluations = {}
        for name, backbone in {"base": base, "adapted": pl_module.backbone}.items():
            for clips in held_out:
                _generate(trainer, pl_module, backbone.eval(), clips, folder / "scores" / name)
                _record(trainer, pl_module, clips, "target")
            evaluations[name] = protocol.evaluation(pl_module.seed)
            protocol.reset()
        evaluations |= _real(trainer, pl_module, held_out)
        _report(trainer, evaluations, folder)


def _generate(trainer: Trainer, module: LitAudioLDM, backbone: Backbone, clips: ClipDataset, folder: Path) -> None:
    """Generate this process's share of the captions, keep the files and give them to the protocol."""
    adapted = backbone is module.backbone
    prediction_type = (module.noise_scheduler if adapted else backbone.scheduler).config.prediction_type
    share = clips.clips[trainer.global_rank :: trainer.world_size]
    batches = [share[i : i + BATCH] for i in range(0, len(share), BATCH)]
    for batch in track(batches, f"generating {folder.name}", transient=True, disable=not trainer.is_global_zero):
        ids, captions = [clip.id for clip in batch], [clip.caption for clip in batch]
        keys = [(module.seed, one, 0) for one in ids]
        with torch.no_grad(), trainer.precision_plugin.forward_context():
            cond = backbone.encode_text(captions)
            waveforms = module.sampler(backbone, cond, module.unconditional, keys, clips.num_samples, prediction_type)
        for one, caption, waveform in zip(ids, captions, waveforms, strict=True):
            write(folder / Entry(one, caption, module.seed, 0).file, waveform, clips.sample_rate)
        module.protocol.update(preds=AudioBatch(ids, waveforms, clips.sample_rate, captions))


def _record(trainer: Trainer, module: LitAudioLDM, clips: ClipDataset, side: str) -> None:
    """Give this process's share of recordings to the protocol."""
    for index in range(trainer.global_rank, len(clips), trainer.world_size):
        item = clips[index]
        waveform = item["waveform"][None].to(module.device)
        module.protocol.update(**{side: AudioBatch([item["id"]], waveform, clips.sample_rate, [item["caption"]])})


def _real(trainer: Trainer, module: LitAudioLDM, held_out: Sequence[ClipDataset]) -> dict[str, Evaluation]:
    """Score as many recordings of the training split as clips were generated; nothing where it has fewer."""
    count = sum(map(len, held_out))
    recordings = sorted(module.data.clips("train"), key=lambda clip: noise.number(module.seed, "real", clip.id))[:count]
    if len(recordings) < count:
        return {}
    like = held_out[0]
    _record(trainer, module, ClipDataset(recordings, like.sample_rate, like.num_samples, like.padding), "preds")
    for clips in held_out:
        _record(trainer, module, clips, "target")
    evaluation = module.protocol.evaluation(module.seed)
    module.protocol.reset()
    return {"real": evaluation}


def _report(trainer: Trainer, evaluations: dict[str, Evaluation], folder: Path) -> None:
    """Write and print on the first process."""
    if not trainer.is_global_zero:
        return
    folder.mkdir(parents=True, exist_ok=True)
    content = {name: one.as_dict() for name, one in evaluations.items()}
    (folder / "scores.json").write_text(json.dumps(content, indent=2) + "\n")
    show(evaluations, Console())
