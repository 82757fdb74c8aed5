"""What a run is worth: the base, the adapted model and real recordings, scored alike."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from lightning import Callback, Trainer
from rich.console import Console

from audioldm_lit import seeding
from audioldm_lit.audio.waveform import write
from audioldm_lit.backbone import Backbone
from audioldm_lit.console.stages import Stage, track
from audioldm_lit.data.clips import ClipDataset
from audioldm_lit.errors import InputError
from audioldm_lit.evaluation.evaluation import Evaluation
from audioldm_lit.evaluation.recordings import give_pair, reconstructed, recordings
from audioldm_lit.evaluation.tables import show
from audioldm_lit.inference.generation import BATCH, Generation, generate_clips
from audioldm_lit.inference.manifest import write_manifest
from audioldm_lit.metrics.extractors.base import AudioBatch
from audioldm_lit.module import LitAudioLDM
from audioldm_lit.storage.atomic_write import write_json
from audioldm_lit.training.lightning_internals import autocast
from audioldm_lit.training.run_folder import rank_zero_folder, run_folder


class Scores(Callback):
    """Writes and prints `scores.json`: of the generated clips after `test`, and after `fit` where that is asked for.

    Args:
        after_fit: Whether `fit` ends with scores of base, adapted model and real recordings, for which both models generate a clip
            for every held-out clip; needs `model.protocol`.
    """

    def __init__(self, after_fit: bool = False) -> None:
        self.after_fit = after_fit

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
        evaluations = score_systems(trainer, pl_module, folder / "scores")
        if trainer.is_global_zero:
            report(evaluations, folder)

    def on_test_end(self, trainer: Trainer, pl_module: LitAudioLDM) -> None:
        """Report what `test` found, on the first process."""
        if trainer.is_global_zero and pl_module.outcome.evaluation is not None:
            report({"generated": pl_module.outcome.evaluation}, rank_zero_folder(trainer))


def score_systems(trainer: Trainer, module: LitAudioLDM, folder: Path) -> dict[str, Evaluation]:
    """Score base and adapted model against held-out recordings; every process has its share.

    Both generate a clip for the caption of every validation and test clip, with the same noise. The held-out recordings
    themselves, through VAE and vocoder, are scored as a third system, `reconstructed`: nearer than that no adapter can come. As
    many clips of the training split are a fourth, `real`: what a perfect model would reach; it is left out where that split is
    smaller.

    Args:
        trainer: After the last step.
        module: The adapted model; its protocol is used.
        folder: Where the generated clips are kept, in `base/` and `adapted/`.
    """
    base = Backbone.load(module.backbone_name).to(module.device)
    protocol, data = module.protocol, module.data
    protocol.keep_features(module.cache_dir / "features")  # the recordings are scored against three times
    held_out = [data.waveforms(split) for split in ("val", "test")]
    trained, evaluations = data.waveforms("train"), {}
    for name, backbone in {"base": base, "adapted": module.backbone}.items():
        for clips in held_out:
            _generate(trainer, module, backbone.eval(), clips, folder / name)
        if trainer.is_global_zero:
            asked = [(clip.id, clip.caption) for clips in held_out for clip in clips.clips]
            entries = module.entries(*zip(*asked, strict=True))
            write_manifest(folder / name, {"system": name, "sampler": module.sampler.spec()}, entries)
        with Stage(f"scores of the {name} model"):
            _show(trainer, module, trained, "train")
            evaluations[name] = protocol.evaluation(module.seed)
        protocol.reset()
    evaluations |= _reconstructed(trainer, module, base, held_out) | _real(trainer, module, held_out)
    coverage = {split: str(data.coverage[split]) for split in ("val", "test")}
    decoder = base.decoder_passport(module.sampler.vocoder)
    return {name: evaluation.noting(coverage=coverage, decoder=decoder) for name, evaluation in evaluations.items()}


def report(evaluations: dict[str, Evaluation], folder: Path) -> None:
    """Write `scores.json` and print it."""
    write_json(folder / "scores.json", {name: evaluation.as_dict() for name, evaluation in evaluations.items()})
    show(evaluations, Console())


def _generate(trainer: Trainer, module: LitAudioLDM, backbone: Backbone, clips: ClipDataset, folder: Path) -> None:
    """Generate this process's share of the captions, keep the files, and give them and their recordings to the protocol."""
    adapted = backbone is module.backbone
    prediction_type = (module.noise_scheduler if adapted else backbone.scheduler).config.prediction_type
    generation = Generation(backbone, module.sampler, module.unconditional, clips.num_samples, prediction_type)
    share = range(trainer.global_rank, len(clips), trainer.world_size)
    batches = [[clips[index] for index in share[i : i + BATCH]] for i in range(0, len(share), BATCH)]
    for batch in track(batches, f"clips of the {folder.name} model, batches", len(batches)):
        ids, captions = [clip["id"] for clip in batch], [clip["caption"] for clip in batch]
        with torch.no_grad(), autocast(trainer):
            cond = backbone.encode_text(captions)
            entries, waveforms = zip(*generate_clips(generation, module.entries(ids, captions), cond), strict=True)
        for entry, waveform in zip(entries, waveforms, strict=True):
            write(folder / entry.file, waveform, clips.sample_rate)
        recorded = torch.stack([clip["waveform"] for clip in batch]).to(module.device)
        pair = (AudioBatch(ids, waveform, clips.sample_rate, captions) for waveform in (torch.stack(waveforms), recorded))
        give_pair(module.protocol, *pair, backbone, module.sampler.vocoder)


def _show(trainer: Trainer, module: LitAudioLDM, clips: ClipDataset, side: str) -> None:
    """Give this process's share of recordings to the protocol."""
    for batch in recordings(clips, trainer.global_rank, trainer.world_size, module.device):
        module.protocol.update(**{side: batch})


def _reconstructed(trainer: Trainer, module: LitAudioLDM, base: Backbone, held_out: Sequence[ClipDataset]) -> dict[str, Evaluation]:
    """Score the held-out recordings as the model's own decoder makes them."""
    with Stage("scores of reconstructed recordings"):
        for clips in held_out:
            for batch in recordings(clips, trainer.global_rank, trainer.world_size, module.device):
                module.protocol.update(preds=reconstructed(batch, base, module.sampler.vocoder), target=batch)
        evaluation = module.protocol.evaluation(module.seed)
    module.protocol.reset()
    return {"reconstructed": replace(evaluation, not_computed={})}  # from itself, and from training clips, nobody asks its distance


def _real(trainer: Trainer, module: LitAudioLDM, held_out: Sequence[ClipDataset]) -> dict[str, Evaluation]:
    """Score as many recordings of the training split as clips were generated; nothing where it has fewer."""
    count = sum(map(len, held_out))
    chosen = sorted(module.data.present("train"), key=lambda clip: seeding.number(module.seed, "real", clip.id))[:count]
    if len(chosen) < count:
        return {}
    like = held_out[0]
    with Stage("scores of real recordings"):
        _show(trainer, module, ClipDataset(chosen, like.sample_rate, like.num_samples, like.padding), "preds")
        for clips in held_out:
            _show(trainer, module, clips, "target")
        evaluation = module.protocol.evaluation(module.seed)
    module.protocol.reset()
    # Recordings are nobody's pair and no copies of the training clips that they are: nothing that anybody would miss.
    return {"real": replace(evaluation, not_computed={})}
