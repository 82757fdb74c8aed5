"""A base, what was adapted from it, and real recordings, scored alike against a data set's held-out recordings."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from audioldm_lit import seeding
from audioldm_lit.audio.waveform import write
from audioldm_lit.backbone import Backbone
from audioldm_lit.console.stages import Stage, track
from audioldm_lit.data.base import AudioDataModule
from audioldm_lit.data.clips import Clip, ClipDataset, Split
from audioldm_lit.diffusion import Prediction
from audioldm_lit.evaluation.candidates import mean_of_candidates
from audioldm_lit.evaluation.evaluation import Evaluation
from audioldm_lit.evaluation.kept import write_evaluations
from audioldm_lit.evaluation.protocol import Protocol
from audioldm_lit.evaluation.recordings import give_pair, reconstructed, recordings
from audioldm_lit.inference.generation import BATCH, Generation, generate_clips
from audioldm_lit.inference.manifest import Entry, file_stem, write_manifest
from audioldm_lit.inference.sampling import Sampler
from audioldm_lit.metrics.extractors.base import AudioBatch
from audioldm_lit.storage.atomic_write import write_json

HELD_OUT: tuple[Split, ...] = ("val", "test")


@dataclass(frozen=True, eq=False)
class System:
    """A model that is asked for clips.

    Attributes:
        backbone: The model.
        prediction: What its UNet predicts.
    """

    backbone: Backbone
    prediction: Prediction


@dataclass(frozen=True, eq=False)
class Trial:
    """What systems are asked, and how they are scored: each process has its share.

    Attributes:
        data: Its validation and test clips are the held-out ones.
        protocol: Metrics.
        sampler: How clips are generated.
        unconditional: Embedding (D,) of the empty prompt.
        seed: Of the generated clips and of the intervals' resampling.
        rank: Number of this process.
        ranks: Number of processes.
        num_candidates: Clips that each system generates for each caption; values are means over them.
        precision: Makes the context in which models compute.
    """

    data: AudioDataModule
    protocol: Protocol
    sampler: Sampler
    unconditional: Tensor
    seed: int
    rank: int = 0
    ranks: int = 1
    num_candidates: int = 1
    precision: Callable[[], AbstractContextManager[object]] = nullcontext


def score_systems(trial: Trial, systems: Mapping[str, System], folder: Path) -> dict[str, Evaluation]:
    """Score models against held-out recordings; every process calls it and has its share.

    Each generates clips for the caption of every validation and test clip, with the same noise. The held-out recordings
    themselves, through the first system's VAE and vocoder, are scored as a further system, `reconstructed`: nearer than that no
    adapter of the UNet can come. Of a system with another decoder they are scored too, as `reconstructed_` and its name. As many
    clips of the training split are another, `real`: what a perfect model would reach; it is left out where that split is smaller.

    Args:
        trial: What they are asked.
        systems: Models by name, the base first.
        folder: Where all is kept that can be heard and compared later: generated clips in a sub-folder for each system, the
            held-out recordings as they were scored in `recordings` and as decoders make them in `reconstructed` and the like,
            training clips that have a suspected copy in `training`, and every clip's influence in `evaluations.json`.
    """
    data = trial.data
    held_out = [data.waveforms(split) for split in HELD_OUT if split == "val" or data.clips(split)]
    trained, evaluations = data.waveforms("train"), {}
    for name, system in systems.items():
        candidates = range(trial.num_candidates)
        each = [_of_candidate(trial, system, held_out, trained, folder / name, candidate) for candidate in candidates]
        evaluations[name] = mean_of_candidates(each, trial.seed)
        if trial.rank == 0:
            asked = [(clip, candidate) for clips in held_out for clip in clips.clips for candidate in candidates]
            entries = [_entry(trial, clip.id, clip.caption, candidate) for clip, candidate in asked]
            write_manifest(folder / name, {"system": name, "sampler": trial.sampler.spec()}, entries)
    decoders = {name: system.backbone.decoder_passport(trial.sampler.vocoder) for name, system in systems.items()}
    base = next(iter(systems))
    apart = [name for name in systems if name == base or decoders[name] != decoders[base]]  # whose reconstructions are their own
    for name in apart:
        called = "reconstructed" if name == base else f"reconstructed_{name}"
        evaluations[called] = _reconstructed(trial, systems[name].backbone, held_out, folder, called)
        decoders[called] = decoders[name]
    evaluations |= _real(trial, held_out)
    coverage = {split: str(data.coverage[split]) for split in HELD_OUT if split in data.coverage}
    evaluations = {
        name: evaluation.noting(coverage=coverage, decoder=decoders.get(name, decoders[base]))
        for name, evaluation in evaluations.items()
    }
    if trial.rank == 0:
        _keep_copied(evaluations, trained, folder / "training")
        write_evaluations(folder, evaluations)
    return evaluations


def _of_candidate(
    trial: Trial, system: System, held_out: Sequence[ClipDataset], trained: ClipDataset, folder: Path, candidate: int
) -> Evaluation:
    """Scores of one clip a caption, one after the other: a protocol knows a clip by its recording's id."""
    for clips in held_out:
        _generate(trial, system, clips, folder, candidate)
    which = f", candidate {candidate + 1} of {trial.num_candidates}" if trial.num_candidates > 1 else ""
    with Stage(f"scores of the {folder.name} model{which}"):
        _show(trial, trained, "train")
        evaluation = trial.protocol.evaluation(trial.seed)
    trial.protocol.reset()
    return evaluation


def _entry(trial: Trial, name: str, caption: str, candidate: int) -> Entry:
    return Entry(name, caption, trial.seed, candidate)


def _generate(trial: Trial, system: System, clips: ClipDataset, folder: Path, candidate: int) -> None:
    """Generate this process's share of the captions, keep the files, and give them and their recordings to the protocol."""
    backbone = system.backbone
    generation = Generation(backbone, trial.sampler, trial.unconditional, clips.num_samples, system.prediction)
    share = range(trial.rank, len(clips), trial.ranks)
    batches = [[clips[index] for index in share[i : i + BATCH]] for i in range(0, len(share), BATCH)]
    for batch in track(batches, f"clips of the {folder.name} model, batches", len(batches)):
        ids, captions = [clip["id"] for clip in batch], [clip["caption"] for clip in batch]
        asked = [_entry(trial, *pair, candidate) for pair in zip(ids, captions, strict=True)]
        with torch.no_grad(), trial.precision():
            entries, waveforms = zip(*generate_clips(generation, asked, backbone.encode_text(captions)), strict=True)
        for entry, waveform in zip(entries, waveforms, strict=True):
            write(folder / entry.file, waveform, clips.sample_rate)
        recorded = torch.stack([clip["waveform"] for clip in batch]).to(backbone.device)
        sides = torch.stack(waveforms), recorded
        preds, target = (AudioBatch(ids, waveform, clips.sample_rate, captions) for waveform in sides)
        give_pair(trial.protocol, preds, target, backbone, trial.sampler.vocoder)


def _show(trial: Trial, clips: ClipDataset, side: str) -> None:
    """Give this process's share of recordings to the protocol."""
    for batch in recordings(clips, trial.rank, trial.ranks, trial.unconditional.device):
        trial.protocol.update(**{side: batch})


def _reconstructed(trial: Trial, model: Backbone, held_out: Sequence[ClipDataset], folder: Path, called: str) -> Evaluation:
    """Score the held-out recordings as a model's own decoder makes them, and keep both."""
    with Stage("scores of reconstructed recordings"):
        for clips in held_out:
            for batch in recordings(clips, trial.rank, trial.ranks, model.device):
                again = reconstructed(batch, model, trial.sampler.vocoder)
                trial.protocol.update(preds=again, target=batch)
                for name, kept in {"recordings": batch, called: again}.items():
                    write(folder / name / _file(kept.ids[0]), kept.waveform[0], kept.sample_rate)
        evaluation = trial.protocol.evaluation(trial.seed)
    trial.protocol.reset()
    if trial.rank == 0:
        listed = [clip for clips in held_out for clip in clips.clips]
        for name in ("recordings", called):
            _list_recordings(folder / name, listed)
    return replace(evaluation, not_computed={})  # from itself, and from training clips, nobody asks its distance


def _real(trial: Trial, held_out: Sequence[ClipDataset]) -> dict[str, Evaluation]:
    """Score as many recordings of the training split as clips were generated; nothing where it has fewer."""
    count = sum(map(len, held_out))
    chosen = sorted(trial.data.present("train"), key=lambda clip: seeding.number(trial.seed, "real", clip.id))[:count]
    if len(chosen) < count:
        return {}
    like = held_out[0]
    with Stage("scores of real recordings"):
        _show(trial, ClipDataset(chosen, like.sample_rate, like.num_samples, like.padding), "preds")
        for clips in held_out:
            _show(trial, clips, "target")
        evaluation = trial.protocol.evaluation(trial.seed)
    trial.protocol.reset()
    # Recordings are nobody's pair and no copies of the training clips that they are: nothing that anybody would miss.
    return {"real": replace(evaluation, not_computed={})}


def _keep_copied(evaluations: Mapping[str, Evaluation], trained: ClipDataset, folder: Path) -> None:
    """Keep the training clips that a generated clip seems to be a copy of."""
    places = {clip.id: place for place, clip in enumerate(trained.clips)}
    suspected = {training for evaluation in evaluations.values() for _, training, *_ in evaluation.suspected_copies}
    for name in sorted(suspected):
        write(folder / _file(name), trained.waveform(places[name]), trained.sample_rate)
    if suspected:
        _list_recordings(folder, [clip for clip in trained.clips if clip.id in suspected])


def _list_recordings(folder: Path, clips: Sequence[Clip]) -> None:
    rows = [{"file": _file(clip.id), "id": clip.id, "prompt": clip.caption, "label": clip.label} for clip in clips]
    write_json(folder / "manifest.json", {"system": folder.name, "clips": rows})


def _file(name: str) -> str:
    """File of a recording, by the id of its clip."""
    return f"{file_stem(name)}.wav"
