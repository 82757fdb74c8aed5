"""From files to scores: every clip is read once and given to every metric of a protocol."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from audioldm_lit.console.stages import Stage
from audioldm_lit.data.clips import Clip
from audioldm_lit.errors import InputError
from audioldm_lit.evaluation.evaluation import Evaluation
from audioldm_lit.evaluation.listing import left_out, list_clips
from audioldm_lit.evaluation.protocol import Protocol
from audioldm_lit.evaluation.reading import Reader, all_told
from audioldm_lit.metrics.extractors.base import AudioBatch

NOT_GIVEN = {  # why a metric has no score, by the side that it lacks
    "train": InputError("--training", "is not given, the recordings the system was trained on", "give it for this metric"),
    "reconstructed": InputError("--decoder", "is not given, the model whose VAE and vocoder were used", "give it for this metric"),
}


def score_files(
    protocol: Protocol,
    generated: Path,
    reference: Path,
    training: Path | None = None,
    strict: bool = False,
    seed: int = 0,
    reconstruct: Callable[[AudioBatch], AudioBatch] | None = None,
) -> Evaluation:
    """Score clips against recordings, see `list_clips`.

    Args:
        protocol: Metrics; clips it was given before are forgotten.
        generated: Clips to score.
        reference: Recordings to score them against.
        training: Recordings the system was trained on.
        strict: Refuse what would need a rule, see `Reader`, and metrics that cannot be computed.
        seed: Of the intervals' resampling.
        reconstruct: Takes recordings through the decoder of the system's model.

    Returns:
        Scores whose passport also says how many files needed which rule.

    Raises:
        InputError: If a file cannot be read, nothing can be scored, or `strict` finds something.
    """
    protocol.reset()
    clips, recordings = list_clips(generated), list_clips(reference)
    trained = list_clips(training) if training is not None else []
    reader = Reader(protocol.sample_rate, protocol.shortest, strict)
    for source, listed in ((generated, clips), (reference, recordings), (training, trained)):
        for rule, path in left_out(source, listed) if source is not None else ():
            reader.note(rule, path)
    with (
        all_told([*clips, *recordings, *trained]),
        Stage(f"reading {generated.name} and recordings", len(clips) + len(recordings) + len(trained)) as stage,
    ):
        _give(protocol, reader, stage, clips, recordings, trained, reconstruct)
    with Stage(f"scores of {generated.name}"):
        evaluation = protocol.evaluation(seed, _classes(clips, recordings))
    absent = [side for side, given in {"train": training, "reconstructed": reconstruct}.items() if given is None]
    unasked = {name: NOT_GIVEN[side] for side in absent for name in evaluation.not_computed if side in protocol.metrics[name].sides}
    reasons = {**evaluation.not_computed, **unasked}
    for name, error in reasons.items():
        if (strict and name not in unasked) or not evaluation.scores:
            raise InputError(generated, f"{name} cannot be computed ({error.where}: {error.problem})", error.mend)
    return replace(evaluation, not_computed=reasons).noting(rules=reader.counts())


def _give(
    protocol: Protocol,
    reader: Reader,
    stage: Stage,
    clips: Sequence[Clip],
    recordings: Sequence[Clip],
    trained: Sequence[Clip],
    reconstruct: Callable[[AudioBatch], AudioBatch] | None,
) -> None:
    """Read every clip once and give it to the protocol, a generated one together with its recording: metrics of pairs need both."""

    def recorded(clip: Clip) -> dict[str, AudioBatch]:
        batch = reader.batch(clip)
        return {"target": batch, **({"reconstructed": reconstruct(batch)} if reconstruct else {})}

    unpaired = {clip.id: clip for clip in recordings}
    for clip in clips:
        pair = unpaired.pop(clip.id, None)
        protocol.update(preds=reader.batch(clip), **(recorded(pair) if pair else {}))
        stage.advance(2 if pair else 1)
    for clip in unpaired.values():
        protocol.update(**recorded(clip))
        stage.advance()
    for clip in trained:
        protocol.update(train=reader.batch(clip))
        stage.advance()


def _classes(generated: Sequence[Clip], reference: Sequence[Clip]) -> dict[str, list[str]]:
    """Ids of both sides' clips by class, where both have several; a generated clip may take its class from its recording."""
    labels = {clip.id: clip.label for clip in reference}
    classes: dict[str, set[str]] = defaultdict(set)
    for clip in reference:
        classes[clip.label].add(clip.id)
    made = {clip.id: clip.label or labels.get(clip.id, "") for clip in generated}
    shared = set(made.values()) & set(classes) - {""}
    for name, label in made.items():
        classes[label].add(name)
    return {label: sorted(classes[label]) for label in sorted(shared)} if len(shared) > 1 else {}
