"""A protocol: which metrics on which features, and how clips are brought to them. Values of two protocols cannot be compared."""

import hashlib
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, cast, get_args

import torch
from torch import Tensor, nn

from audioldm_lit import __version__, seeding
from audioldm_lit.audio.waveform import resample
from audioldm_lit.errors import InputError
from audioldm_lit.evaluation.evaluation import Evaluation
from audioldm_lit.evaluation.passport import stamp
from audioldm_lit.evaluation.score import Score, score
from audioldm_lit.metrics.base import ClipMetric
from audioldm_lit.metrics.extractors.base import AudioBatch, Extractor
from audioldm_lit.metrics.extractors.cached import Cached
from audioldm_lit.places import packaged
from audioldm_lit.storage.gather import gather
from audioldm_lit.storage.spec import class_path, init_args

ProtocolName = Literal["audioldm-2023", "embedded", "retention"]  # the files of protocols/


class Protocol(nn.Module):
    """Named metrics and one rule for every clip, generated or recorded.

    Args:
        name: As printed beside results.
        metrics: Metrics by name; those with equal extractors share one.
        version: Raised when the settings change.
        sample_rate: Hz that every clip is brought to first, so that no side gains by its bandwidth.
        peak: Peak that every clip is scaled to, so that no side gains by its level; null leaves levels alone. Silence stays.
    """

    def __init__(
        self, name: str, metrics: dict[str, ClipMetric], version: int = 1, sample_rate: int = 16_000, peak: float | None = 0.5
    ) -> None:
        super().__init__()
        if not metrics:
            raise InputError(f"protocol '{name}'", "has no metric", "name at least one")
        if sample_rate < 1:
            raise InputError(f"protocol '{name}'", f"sample_rate is {sample_rate}", "give a rate in Hz")
        if peak is not None and not 0 < peak <= 1:
            raise InputError(f"protocol '{name}'", f"peak is {peak}", "give a number above 0 and up to 1, or null")
        for metric_name, metric in metrics.items():
            if metric.extractor is None and type(metric).update is ClipMetric.update:
                raise InputError(f"protocol '{name}'", f"{metric_name} has no extractor", "give it one")
        self.name = name
        self.version = version
        self.sample_rate = sample_rate
        self.peak = peak
        self.metrics = cast(dict[str, ClipMetric], nn.ModuleDict(metrics))  # which forgets the class of what it holds
        self.device: torch.device | None = None  # where features are extracted; where the clips are, if not said
        self._share_extractors()
        self.reset()

    @property
    def extractors(self) -> list[Extractor]:
        """Every extractor once."""
        return list(dict.fromkeys(metric.extractor for metric in self.metrics.values() if metric.extractor is not None))

    @property
    def shortest(self) -> float:
        """Seconds of the longest window of any extractor; shorter clips are padded."""
        return max((extractor.min_samples / extractor.sample_rate for extractor in self.extractors), default=0.0)

    def asks_for(self, side: str) -> bool:
        """Whether any metric needs this side's clips."""
        return any(side in metric.sides for metric in self.metrics.values())

    def _share_extractors(self) -> None:
        known: dict[str, Extractor] = {}
        for metric in self.metrics.values():
            if metric.extractor is not None:
                metric.extractor = known.setdefault(json.dumps(metric.extractor.passport(), sort_keys=True), metric.extractor)

    def keep_features(self, folder: Path) -> None:
        """Keep features on disk from now on, one file a clip."""
        kept = {
            extractor: extractor if isinstance(extractor, Cached) else Cached(extractor, folder) for extractor in self.extractors
        }
        for metric in self.metrics.values():
            metric.extractor = metric.extractor and kept[metric.extractor]

    def prepare(self, waveform: Tensor, sample_rate: int) -> Tensor:
        """Bring waveforms (B, T) to the protocol's rate and level."""
        waveform = resample(waveform.float(), sample_rate, self.sample_rate)
        if self.peak is None:
            return waveform
        peaks = waveform.abs().amax(dim=1, keepdim=True)
        return torch.where(peaks > 0, waveform * (self.peak / peaks.clamp(min=1e-12)), waveform)

    def update(self, **sides: AudioBatch | None) -> None:
        """Give a batch of each side (`preds`, `target`, `train`) to the metrics that ask for it."""
        ready = {side: self._ready(batch) for side, batch in sides.items() if batch is not None}
        for side, batch in ready.items():
            for name, waveform in zip(batch.ids, batch.waveform.cpu(), strict=True):
                self.seen[side][name] = hashlib.sha256(waveform.contiguous().numpy().tobytes()).hexdigest()
        for metric in self.metrics.values():
            asked: dict[str, Any] = {side: batch for side, batch in ready.items() if side in metric.sides}
            if asked and metric.extractor is None:  # it may want to see a clip and its recording at once
                asked |= {side: ready[side] for side in ("preds", "target") if side in ready}
                # What it changes in place, the next one must not hear.
                asked = {side: replace(batch, waveform=batch.waveform.clone()) for side, batch in asked.items()}
            if asked:
                metric.update(**asked)

    def _ready(self, batch: AudioBatch) -> AudioBatch:
        device = self.device or batch.waveform.device
        waveform = self.prepare(batch.waveform.cpu(), batch.sample_rate).to(device)  # the same samples on every machine
        return AudioBatch(batch.ids, waveform, self.sample_rate, batch.captions)

    def evaluation(self, seed: int = 0, classes: Mapping[str, Sequence[str]] | None = None) -> Evaluation:
        """Score every metric, in all and by class of clip names; all processes must call it and all get the same."""
        scores, reasons = {}, {}
        for name, metric in self.metrics.items():
            try:
                scores[name] = score(metric, seed, classes)
            except InputError as error:  # the same on every process: all have the same rows by now
                reasons[name] = error.with_traceback(None)  # which holds the rows
        seen = gather(self.seen)
        names = {seeding.number(name): name for part in seen for clips in part.values() for name in clips}
        for result in scores.values():
            for part in (result, *(apart for apart in result.classes.values() if isinstance(apart, Score))):
                part.estimate.details.update(_named(part.estimate.details, names))
        sides = {side: _fingerprint([part.get(side, {}) for part in reversed(seen)]) for side in sorted(set().union(*seen))}
        shared = {**self.passport(), "seed": seed, "n_generated": sides["preds"]["n_clips"]}
        return Evaluation(scores, stamp(shared, sides), reasons)

    def reset(self) -> None:
        """Forget all clips."""
        self.seen: dict[str, dict[str, str]] = defaultdict(dict)  # of each side, each clip's hash by its id
        for metric in self.metrics.values():
            metric.reset()

    def passport(self) -> dict[str, Any]:
        """Everything a value depends on besides the clips."""
        return {
            "protocol": {
                "name": self.name,
                "version": self.version,
                "sample_rate": self.sample_rate,
                "channels": "mean",
                "resampler": "torchaudio sinc_interp_hann, width 6",
                "peak": self.peak,
                "metrics": {name: _settings(metric) for name, metric in self.metrics.items()},
            },
            "extractors": {extractor.name: extractor.passport() for extractor in self.extractors},
            "code_version": __version__,
        }


def load_protocol(name: str) -> Protocol:
    """Make the protocol of a YAML file, or one that comes with the package, by its name.

    Raises:
        InputError: If there is none, or it is wrong.
    """
    from jsonargparse import ArgumentError

    from audioldm_lit.console.strict_parser import StrictParser

    known = get_args(ProtocolName)
    path = packaged(f"evaluation/protocols/{name}.yaml") if name in known else Path(name)
    if not path.is_file():
        raise InputError(name, "is no protocol", f"give a YAML file or one of {', '.join(known)}")
    parser = StrictParser(exit_on_error=False)
    parser.add_subclass_arguments(Protocol, "protocol", required=True)
    made: dict[str, Extractor] = {}

    def once(extractor: type[Extractor], **settings: Any) -> Extractor:
        """A network is read and verified for the first metric that has it, not for each."""
        key = f"{extractor.__module__}.{extractor.__qualname__} {settings}"
        if key not in made:
            made[key] = extractor(**settings)
        return made[key]

    try:
        settings = parser.parse_args(["--protocol", str(path)])
        return parser.instantiate(settings, instantiators=[(once, Extractor, True)]).protocol
    except ArgumentError as error:
        lines = str(error).split("Given value")[0].splitlines()
        reason = [line.strip(" -") for line in lines if line.strip() and "NoneType" not in line][-1]  # the deepest
        example = packaged("evaluation/protocols/embedded.yaml")
        raise InputError(path, f"is no protocol ({reason})", f"mend it after {example}") from error


def _fingerprint(parts: Sequence[Mapping[str, str]]) -> dict[str, Any]:
    """Number of clips, and hashes of their ids and of their samples, from what every process saw."""
    clips = sorted({name: digest for part in parts for name, digest in part.items()}.items())
    ids = "\n".join(name for name, _ in clips)
    return {
        "n_clips": len(clips),
        "ids_sha256": hashlib.sha256(ids.encode()).hexdigest(),
        "audio_sha256": hashlib.sha256("".join(digest for _, digest in clips).encode()).hexdigest(),
    }


def _named(details: Mapping[str, Any], names: Mapping[int, str]) -> dict[str, Any]:
    """Details whose pairs of clips, the closest first, carry names instead of numbers."""
    pairs = sorted(details.get("nearest", ()), key=lambda pair: -pair[2])
    return {"nearest": [(names[clip], names[other], value) for clip, other, value in pairs]} if pairs else {}


def _settings(metric: ClipMetric) -> dict[str, Any]:
    """A metric's class and settings as plain values."""
    extractor = metric.extractor.name if metric.extractor is not None else None
    return {"class": class_path(metric), **init_args(metric), "extractor": extractor}
