"""Champion against challenger: both are asked for the same sounds, which neither has heard, and scored under one passport."""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from audioldm_lit.adapters.files.adapter_file import trust
from audioldm_lit.backbone import Backbone
from audioldm_lit.data.base import AudioDataModule
from audioldm_lit.data.clips import Clip, Split
from audioldm_lit.errors import InputError
from audioldm_lit.evaluation.evaluation import compare_systems
from audioldm_lit.evaluation.protocol import Protocol
from audioldm_lit.evaluation.run import Run
from audioldm_lit.evaluation.score import Finding
from audioldm_lit.evaluation.systems import HELD_OUT, System, Trial, score_systems
from audioldm_lit.inference.blending import AdaptedCopy, AdapterSetting
from audioldm_lit.storage.plain_files import read_json

CHAMPION, CHALLENGER = "champion", "challenger"


@dataclass(frozen=True)
class Contest:
    """How a challenger did against the champion.

    Attributes:
        metric: The protocol's first, which decides.
        champion: Its value.
        challenger: Its value.
        difference: Challenger minus champion.
        interval: 95 % of the difference; None at too few clips.
        verdict: Of the challenger: `better`, `worse` or `cannot tell`.
        better: Other metrics in which it is better.
        worse: Other metrics in which it is worse.
        clips: Held-out recordings that both were scored on.
        passport: Hash of what both were scored under.
    """

    metric: str
    champion: float
    challenger: float
    difference: float
    interval: tuple[float, float] | None
    verdict: Finding
    better: list[str]
    worse: list[str]
    clips: int
    passport: str

    @property
    def promoted(self) -> bool:
        """Whether the challenger takes the champion's place: better in what decides, and in nothing worse."""
        return self.verdict == "better" and not self.worse


class Unheard(AudioDataModule):
    """A data set without the held-out clips that another run was trained on.

    Args:
        data: The data set.
        heard: Hashes of clips that the other run was trained on.
    """

    def __init__(self, data: AudioDataModule, heard: Collection[str]) -> None:
        super().__init__(
            data.root, data.duration, data.sample_rate, data.padding, data.shots, data.num_train_clips, data.min_coverage,
            phrasing=data.phrasing, seed=data.seed, batch_size=data.batch_size, follow_links=data.follow_links,
        )  # fmt: skip
        self.data = data
        self.captioned = data.captioned
        self.left: dict[Split, set[str]] = {}
        for split in HELD_OUT:
            clips = data.waveforms(split) if split == "val" or data.clips(split) else None
            keys = {clips.id(place): clips.content_key(place) for place in range(len(clips))} if clips is not None else {}
            self.left[split] = {name for name, key in keys.items() if key not in heard}
        if not self.left["val"]:
            raise InputError(
                data.root, "has no validation recording left that the champion was not trained on",
                "split both runs' recordings alike, by a table with a split column",
            )  # fmt: skip

    def clips(self, split: Split) -> list[Clip]:
        """The data set's, without what was heard."""
        return [clip for clip in self.data.clips(split) if split == "train" or clip.id in self.left[split]]


def contest(champion: Run, challenger: Run, folder: Path, protocol: Protocol, out: Path) -> Contest:
    """Let both generate for the challenger's held-out captions, with the same noise, and compare.

    Args:
        champion: The run in use.
        challenger: The newer one; its held-out recordings that the champion was not trained on are the measure.
        folder: The champion's.
        protocol: Metrics.
        out: Where the generated clips are kept.

    Raises:
        InputError: If the two are not of one base, or no recording is left.
    """
    bases = [(run.backbone, run.heads) for run in (champion, challenger)]
    if bases[0] != bases[1]:
        raise InputError(
            "champion and challenger", f"are of two bases, {bases[0][0]} and {bases[1][0]}", "compare them with evaluate"
        )
    if champion.data.duration != challenger.data.duration:
        lengths = f"{champion.data.duration:g} and {challenger.data.duration:g} s"
        raise InputError("champion and challenger", f"make clips of {lengths}", "train both at one duration")
    data = Unheard(challenger.data, _trained_on(folder))
    base = Backbone.load(challenger.backbone, challenger.heads).to(protocol.device)
    trial = Trial(
        data, protocol, challenger.sampler, base.encode_text([""])[0], challenger.seed, num_candidates=challenger.num_candidates
    )
    systems = {CHAMPION: _system(champion, base), CHALLENGER: _system(challenger, base)}
    scored = score_systems(trial, systems, out)
    first, second = scored[CHAMPION], scored[CHALLENGER]
    found = compare_systems(first, second)
    name = next(iter(protocol.metrics))
    if name not in found:
        apart = InputError("their decoders", "differ", "")
        reason = first.not_computed.get(name) or second.not_computed.get(name) or apart
        raise InputError("champion and challenger", f"have no {name} ({reason.where} {reason.problem})", "hold out more recordings")
    verdicts = {other: comparison.verdict for other, comparison in found.items() if other != name}
    decided = found[name]
    return Contest(
        metric=name,
        champion=first.scores[name].value,
        challenger=second.scores[name].value,
        difference=decided.difference,
        interval=decided.interval,
        verdict=decided.verdict,
        better=[other for other, verdict in verdicts.items() if verdict == "better"],
        worse=[other for other, verdict in verdicts.items() if verdict == "worse"],
        clips=second.scores[name].sides[0].num_clips,
        passport=str(second.passport["sha256"]),
    )


def _system(run: Run, base: Backbone) -> System:
    if run.adapter_class is not None:  # the run's own configuration names it, not the adapter's file alone
        trust([run.adapter_class.rpartition(".")[0]])
    adapted = AdaptedCopy.load(AdapterSetting(run.adapter), base)
    return System(adapted.backbone, adapted.prediction)


def _trained_on(folder: Path) -> set[str]:
    """Hashes of the clips that a run was trained on."""
    path = folder / "clips.json"
    try:
        content = read_json(path)
        return {clip["audio_sha256"] for clip in content["train"]["clips"].values()}
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise InputError(path, f"does not say what the run was trained on ({error!r})", "restore it") from error
