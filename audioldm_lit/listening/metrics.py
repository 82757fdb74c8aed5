"""What automatic metrics say of every sound of a test, to be set beside its listeners."""

import math
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from audioldm_lit import seeding
from audioldm_lit.console.stages import Stage
from audioldm_lit.data.clips import Clip
from audioldm_lit.errors import InputError
from audioldm_lit.evaluation.protocol import Protocol
from audioldm_lit.evaluation.reading import Reader
from audioldm_lit.listening.blind_test import BlindTest, Sound, Trial
from audioldm_lit.metrics.base import ClipMetric


def by_sound(test: BlindTest, protocol: Protocol) -> tuple[dict[str, pd.Series], dict[str, str]]:
    """Every metric's value of every sound, larger for better, and why a metric has none.

    A metric of a whole set has a value of each clip too: its pseudo-value (Tukey 1958), the value plus the clip's influence on it.
    The originals are scored, never the copies that were heard.

    Args:
        test: The test.
        protocol: Metrics.

    Returns:
        By metric a series over (system, clip); and a reason by metric.

    Raises:
        InputError: If a clip of the test is not there any more.
    """
    values: dict[str, dict[tuple[str, str], float]] = {name: {} for name in protocol.metrics}
    reasons: dict[str, str] = {}
    for system in test.systems:
        protocol.reset()
        _give(test, system, protocol)
        with Stage(f"metrics of every sound of {system}"):
            for name, metric in protocol.metrics.items():
                try:
                    values[name] |= {(system, clip): value for clip, value in _of_clips(metric).items()}
                except InputError as error:
                    reasons[name] = error.problem
    protocol.reset()
    whole = {name: found for name, found in values.items() if name not in reasons}
    return {name: pd.Series(found, index=pd.MultiIndex.from_tuples(found)) for name, found in whole.items()}, reasons


def _give(test: BlindTest, system: str, protocol: Protocol) -> None:
    reader = Reader(protocol.sample_rate, protocol.shortest, strict=False)
    for trial in test.trials:
        if trial.kind == "rated" and (heard := _single(test, trial, system)) is not None:
            protocol.update(preds=reader.batch(_clip(heard, trial.clip, trial.caption)))
    for name, recording in test.recordings.items():
        protocol.update(target=reader.batch(_clip(recording, name, "")))


def _single(test: BlindTest, trial: Trial, system: str) -> Sound | None:
    """The sound that a trial has of a system; none where it is of a set."""
    ids = [item.sounds for item in trial.items if item.system == system]
    return test.sounds[ids[0][0]] if ids and len(ids[0]) == 1 else None


def _clip(sound: Sound, name: str, caption: str) -> Clip:
    assert sound.file is not None
    return Clip(name, Path(sound.file), caption, span=sound.span)


def _of_clips(metric: ClipMetric) -> Mapping[str, float]:
    """Pseudo-values by clip; logarithms where the metric's influence is of the logarithm.

    Raises:
        InputError: If the metric cannot be computed, or clips have no share in it.
    """
    if metric.higher_is_better is None:
        raise InputError(type(metric).__name__, "neither more nor less of it is better", "leave it out")
    sides = metric.gathered()
    estimate = metric.measure(*sides)
    if not estimate.influence or not len(estimate.influence[0]):
        raise InputError(type(metric).__name__, "single clips have no share in it", "leave it out")
    value = math.log(estimate.value) if estimate.log else estimate.value
    sign = 1.0 if metric.higher_is_better else -1.0
    known = {seeding.number(name): name for name in metric.names.values()}
    shares = zip(sides[0].ids.tolist(), estimate.influence[0].tolist(), strict=True)
    return {known[number]: sign * (value + share) for number, share in shares}
