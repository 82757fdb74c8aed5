"""Building a blind test: a page that knows no system, and a file that does."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from audioldm_lit.console.stages import Stage
from audioldm_lit.data.clips import Clip
from audioldm_lit.listening.blind_test import ANCHOR, REFERENCE, BlindTest, Sound, Trial
from audioldm_lit.listening.material import Material
from audioldm_lit.listening.scheme import ATTENTION, BEEPS, CHECKS, Scheme, sound
from audioldm_lit.listening.sounds import anchor, beeps, comparable, levelled
from audioldm_lit.storage.spec import class_path


@dataclass(frozen=True, eq=False)
class Built:
    """A test and what is heard in it.

    Attributes:
        test: The test.
        waveforms: (T,) by the ids of its sounds.
        sample_rate: Hz.
    """

    test: BlindTest
    waveforms: Mapping[str, Tensor]
    sample_rate: int


def build(material: Material, scheme: Scheme, title: str) -> Built:
    """Make the trials of a scheme and the sounds that they need.

    Args:
        material: What is compared.
        scheme: How.
        title: What raters read above it.

    Raises:
        InputError: If the scheme cannot compare this, or a clip cannot be read.
    """
    scheme.check(material)
    trials = scheme.trials(material)
    wanted = set(_heard(trials))
    clips = {name: clip for name, clip in _clips(material).items() if name in wanted}
    anchored = {sound(material, ANCHOR, name): sound(material, REFERENCE, name) for name in _names(material)}
    recorded = set(anchored.values())
    with Stage(f"sounds of the test, {len(wanted)}"):
        waveforms, rate = comparable(clips, recorded)
        waveforms |= {name: anchor(waveforms[of], rate) for name, of in anchored.items() if name in wanted}
        waveforms |= {sound(material, "check", str(2 + number)): beeps(2 + number, rate) for number in range(CHECKS)}
        level = levelled(waveforms, rate)
    sounds = {name: _sound(material, trials, name, clips.get(name), level.waveforms[name]) for name in sorted(wanted)}
    asked = {name for trial in trials for name in trial.questions}
    test = BlindTest(
        title=title,
        scheme=class_path(scheme),
        systems=tuple(material.systems),
        questions=tuple(question for question in (*scheme.questions, BEEPS) if question.name in asked),
        rules=(*scheme.rules, ATTENTION),
        trials=tuple(trials),
        sounds=sounds,
        recordings={name: Sound(REFERENCE, name, "", *_place(clip)) for name, clip in sorted(material.recordings.items())},
        notes={
            "sample_rate": rate,
            "lufs": round(level.lufs, 2),
            "quieter_db": {name: round(value, 1) for name, value in level.quieter.items()},
        },
    )
    return Built(test, level.waveforms, rate)


def _heard(trials: Sequence[Trial]) -> Iterator[str]:
    """Ids of the sounds of trials."""
    for trial in trials:
        yield from (name for item in trial.items for name in item.sounds)
        if trial.reference is not None:
            yield trial.reference


def _names(material: Material) -> set[str]:
    """Ids of clips that may be heard and have a recording."""
    return {*material.chosen, material.practice} if material.recordings else set()


def _clips(material: Material) -> dict[str, Clip]:
    """Every clip that may be heard, by the id of its sound."""
    found = {
        sound(material, system, name, number): clip
        for system, clips in material.systems.items()
        for name, candidates in clips.items()
        for number, clip in enumerate(candidates)
    }
    return found | {sound(material, REFERENCE, name): material.clip(REFERENCE, name) for name in _names(material)}


def _sound(material: Material, trials: Sequence[Trial], name: str, clip: Clip | None, waveform: Tensor) -> Sound:
    """What a sound is, for the test's file."""
    system = next((item.system for trial in trials for item in trial.items if name in item.sounds), REFERENCE)
    of = next((trial.clip for trial in trials for item in trial.items if name in item.sounds and len(item.sounds) == 1), "")
    digest = hashlib.sha256(waveform.contiguous().numpy().tobytes()).hexdigest()
    return Sound(system, of, digest, *(_place(clip) if clip is not None else ()))


def _place(clip: Clip) -> tuple[str, tuple[float, float] | None]:
    return str(Path(clip.path).absolute()), clip.span
