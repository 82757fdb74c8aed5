"""Systems to listen to, and raters whose opinions are known."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from audioldm_lit.evaluation.listing import list_clips
from audioldm_lit.listening.answers import FORMAT
from audioldm_lit.listening.blind_test import BlindTest, Item, Trial
from audioldm_lit.listening.building import Built, build
from audioldm_lit.listening.material import read_material
from audioldm_lit.listening.scheme import Scheme

from layouts import tone, write_csv

CAPTIONS = ("</script><script>alert(1)</script>", '"><img src=x onerror=alert(2)>', "\u202eqoD \U0001f415 犬", "rain & {name} ${x}")


def systems(root: Path, *names: str, clips: int = 4) -> dict[str, Path]:
    """A folder of clips for each system, made for the same hostile captions; their levels differ by 20 dB."""
    for place, name in enumerate(names):
        rows: list[list[object]] = [["file", "id", "caption", "label"]]
        for clip in range(clips):
            tone(root / name / f"{clip}.wav", 300 + 200 * place, seed=10 * place + clip, duration=0.5)
            rows.append([f"{clip}.wav", f"clip {clip}", CAPTIONS[clip % len(CAPTIONS)], "animals" if clip < 2 else "weather"])
        write_csv(root / name / "metadata.csv", rows)
    return {name: root / name for name in names}


def built(root: Path, scheme: Scheme, clips: int = 2) -> Built:
    """A test of two systems, with recordings."""
    folders = systems(root, "base", "adapted", "recorded")
    recordings = list_clips(folders.pop("recorded"))
    return build(read_material(folders, recordings, clips, seed=0), scheme, "<b>Test</b> 試験")


def answers(test: BlindTest, rater: str, opinion: Callable[[Trial, str, Item], float]) -> dict[str, Any]:
    """What the page lets a rater download; on checks of attention everybody is attentive."""
    ratings: dict[str, Any] = {}
    for trial in test.asked:
        for name in trial.questions:
            items = trial.items[:1] if test.question[name].way == "match" else trial.items
            given = {item.id: opinion(trial, name, item) if trial.kind == "rated" else item.expected[0].low for item in items}
            ratings.setdefault(trial.id, {})[name] = given
    return {"format": FORMAT, "test": test.sha256, "rater": rater, "finished": "2026-01-01", "ratings": ratings}


def ratings(
    rng: np.random.Generator, raters: int, clips: int, spread: tuple[float, float, float], missing: float = 0.0
) -> pd.DataFrame:
    """Ratings in ten steps about 6.3, that differ by rater, clip and the rest by these standard deviations."""
    by_rater, by_clip, rest = spread
    exact = 6.3 + by_rater * rng.standard_normal((raters, 1)) + by_clip * rng.standard_normal(clips)
    values = np.clip(np.round(exact + rest * rng.standard_normal((raters, clips))), 1, 10)
    rater, clip = np.indices(values.shape)
    there = rng.random(values.shape) >= missing
    return pd.DataFrame({"rater": rater[there], "clip": clip[there], "value": values[there]})
