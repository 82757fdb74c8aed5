"""The page of a blind test: sounds and questions by ids that say nothing."""

import base64
from typing import Any

from audioldm_lit.console.stages import track
from audioldm_lit.listening.blind_test import BlindTest, Question, Trial
from audioldm_lit.listening.building import Built
from audioldm_lit.report.shell import render
from audioldm_lit.report.sound import opus
from audioldm_lit.report.texts import Texts

SECONDS = 25  # that a rater takes for a sound


def page(built: Built, language: str) -> str:
    """The page as HTML.

    Args:
        built: The test and its sounds.
        language: Of its texts.

    Raises:
        InputError: If there is no such language.
    """
    texts = Texts(language)
    test = built.test
    names = track(sorted(test.sounds), "encoding sounds", len(test.sounds))
    sounds = {name: base64.b64encode(opus(built.waveforms[name], built.sample_rate)).decode() for name in names}
    minutes = round(sum(SECONDS * max(1, len(trial.items)) for trial in test.asked) / 60)
    return render(
        "listening/page.html",
        texts,
        styles=("listening/page.css",),
        scripts=("report/player.js", "listening/state.js", "listening/page.js"),
        test=test,
        sounds=sounds,
        minutes=max(1, minutes),
        says=texts.part("listen.script"),
        shown=_shown(test, texts),
    )


def _shown(test: BlindTest, texts: Texts) -> dict[str, Any]:
    """What the script needs to know, and nothing that tells a system."""
    return {
        "test": test.sha256,
        "questions": {question.name: _question(question, texts) for question in test.questions},
        "trials": [_trial(trial) for trial in test.trials],
    }


def _question(question: Question, texts: Texts) -> dict[str, Any]:
    return {"way": question.way, "low": question.low, "high": question.high, **texts.part(f"listen.question.{question.name}")}


def _trial(trial: Trial) -> dict[str, Any]:
    return {
        "id": trial.id,
        "kind": trial.kind,
        "caption": trial.caption,
        "questions": trial.questions,
        "items": [{"id": item.id, "sounds": item.sounds} for item in trial.items],
        "reference": trial.reference,
    }
