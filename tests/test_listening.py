"""What listeners said: intervals that cover, agreement as the references have it, whose answers count."""

import json
import math

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import signal, stats
from statsmodels.formula.api import ols
from statsmodels.stats.anova import anova_lm

from audioldm_lit.audio.level import loudness
from audioldm_lit.errors import InputError
from audioldm_lit.evaluation.opinion import Opinion
from audioldm_lit.listening.abx import ABX
from audioldm_lit.listening.agreement import alpha, correlation
from audioldm_lit.listening.answers import read_all
from audioldm_lit.listening.blind_test import ANCHOR, REFERENCE, BlindTest
from audioldm_lit.listening.crossed import crossed_mean, crossed_share
from audioldm_lit.listening.dcase import DCASE2023
from audioldm_lit.listening.mushra import MUSHRA
from audioldm_lit.listening.opinions import opinion, trust
from audioldm_lit.listening.sounds import anchor, levelled

from panels import answers, built, ratings

PANELS = [  # raters, clips, standard deviations of raters, clips and the rest, share of answers that is missing
    (3, 8, (0.7, 1.0, 1.2), 0.0), (5, 8, (0.7, 1.0, 1.2), 0.0), (8, 12, (0.7, 1.0, 1.2), 0.2), (12, 20, (0.3, 1.5, 1.0), 0.0),
    (20, 10, (1.2, 0.4, 1.0), 0.0), (10, 12, (0.3, 0.3, 1.5), 0.0),
]  # fmt: skip


def expected_rating(spread: tuple[float, float, float]) -> float:
    """What raters of any number would give in the mean, in ten steps."""
    edges = np.array([-np.inf, *np.arange(1.5, 10), np.inf])
    return float(np.arange(1, 11) @ np.diff(stats.norm.cdf(edges, 6.3, math.hypot(*spread))))


def coverage(panel: tuple[int, int, tuple[float, float, float], float], draws: int) -> float:
    rng = np.random.default_rng(18)
    raters, clips, spread, missing = panel
    truth = expected_rating(spread)
    means = [crossed_mean(ratings(rng, raters, clips, spread, missing)) for _ in range(draws)]
    return float(np.mean([mean.low <= truth <= mean.high for mean in means]))


def test_the_interval_of_a_mean_rating_covers():
    assert 0.89 <= coverage(PANELS[2], 60) < 1  # two standard errors of sixty draws


@pytest.mark.nightly
@pytest.mark.parametrize("panel", PANELS)
def test_intervals_of_mean_ratings_cover_92_to_98_percent(panel):
    assert 0.92 <= coverage(panel, 2000) <= 0.98


def test_the_variance_of_a_mean_is_that_of_the_two_way_analysis():
    table = ratings(np.random.default_rng(3), 6, 9, (0.7, 1.0, 1.2))
    squares = anova_lm(ols("value ~ C(rater) + C(clip)", table).fit())["mean_sq"]
    mean = crossed_mean(table)
    assert mean.value == pytest.approx(table["value"].mean())
    assert mean.error**2 == pytest.approx((squares["C(rater)"] + squares["C(clip)"] - squares["Residual"]) / len(table))


def test_a_share_of_which_all_answers_are_alike_has_an_interval_of_some_width():
    rater, clip = np.indices((6, 10)).reshape(2, -1)
    share = crossed_share(pd.DataFrame({"rater": rater, "clip": clip, "value": 1.0}))
    low, high = stats.binomtest(6, 6).proportion_ci(method="wilson")
    assert (share.value, share.low, share.high) == pytest.approx((1.0, low, high))


def test_alpha_is_that_of_krippendorffs_own_example():
    nan = np.nan  # "Computing Krippendorff's alpha-reliability" (2011), section D: interval alpha 0.849
    data = np.array([
        [1, 2, 3, 3, 2, 1, 4, 1, 2, nan, nan, nan], [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, nan, 3],
        [nan, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, nan], [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, nan],
    ])  # fmt: skip
    rater, clip = np.nonzero(np.isfinite(data))
    table = pd.DataFrame({"rater": rater, "clip": clip, "system": "base", "value": data[rater, clip]})
    assert alpha(table) == pytest.approx(0.849, abs=0.0005)
    assert alpha(table.assign(value=1.0)) is None


def test_a_metric_is_set_beside_listeners_as_scipy_does():
    rng = np.random.default_rng(5)
    quality = rng.standard_normal((2, 9))
    heard = quality + rng.standard_normal((7, 1, 1)) + 0.8 * rng.standard_normal((7, 2, 9))  # raters differ in level
    rater, system, clip = np.indices(heard.shape).reshape(3, -1)
    table = pd.DataFrame({"rater": rater, "system": system, "clip": clip, "value": heard.ravel()})
    index = pd.MultiIndex.from_product([range(2), range(9)])
    follows = correlation(table, pd.Series((quality + 0.3 * rng.standard_normal((2, 9))).ravel(), index))
    against = correlation(table, pd.Series(-quality.ravel(), index))
    assert against.value == pytest.approx(stats.spearmanr(-quality.ravel(), heard.mean(axis=0).ravel()).statistic)
    assert [follows.verdict, against.verdict] == ["follows", "against"]
    assert follows.interval[0] < follows.value < follows.interval[1]
    assert correlation(table, pd.Series(1.0, index)) is None


def test_the_anchor_is_flat_to_3500_hz_and_silent_from_4500_hz_as_the_standard_asks():
    impulse = torch.zeros(4001)
    impulse[2000] = 1
    frequency, response = signal.freqz(anchor(impulse, 16_000).numpy(), worN=4000, fs=16_000)
    level = 20 * np.log10(np.abs(response) + 1e-9)
    assert np.abs(level[frequency < 3500]).max() < 0.1
    assert level[(frequency > 4000) & (frequency < 4500)].max() < -25
    assert level[frequency > 4500].max() < -50


def test_sounds_are_equally_loud_but_for_one_that_would_silence_all_others():
    rng = np.random.default_rng(0)
    noise = {str(level): torch.from_numpy(10 ** (level / 20) * rng.standard_normal(16_000)).float() for level in (-50, -30, -10)}
    click = torch.zeros(16_000)
    click[0] = 1
    level = levelled({**noise, "click": click}, 16_000)
    made = {name: loudness(waveform.double().numpy(), 16_000) for name, waveform in level.waveforms.items()}
    assert [made[name] for name in noise] == pytest.approx([level.lufs] * 3, abs=0.01)
    assert level.lufs - made["click"] == pytest.approx(level.quieter["click"], abs=0.01)
    assert max(float(waveform.abs().max()) for waveform in level.waveforms.values()) <= 10 ** (-1 / 20) + 1e-6


@pytest.fixture(scope="module")
def dcase(tmp_path_factory):
    return built(tmp_path_factory.mktemp("dcase"), DCASE2023(), clips=4).test


def better(trial, question, item):
    """A rater to whom the adapted system is better by three."""
    return {"base": 4, "adapted": 7}.get(item.system, 9)


def test_a_test_that_was_written_is_read_again_and_one_that_was_changed_is_refused(dcase, tmp_path):
    dcase.write(tmp_path / "test.json")
    again = BlindTest.read(tmp_path / "test.json")
    assert (again, again.sha256) == (dcase, dcase.sha256)
    text = (tmp_path / "test.json").read_text()
    (tmp_path / "test.json").write_text(text.replace('"adapted"', '"base"', 1))
    with pytest.raises(InputError, match="was changed after the test was built"):
        BlindTest.read(tmp_path / "test.json")


def test_what_is_wrong_with_a_file_of_answers_is_one_sentence_and_the_rest_is_used(dcase, tmp_path):
    whole = answers(dcase, "Anna", better)
    trial, kept = dcase.asked[0].id, json.loads(json.dumps(whole))
    lacking, beyond = json.loads(json.dumps(whole)), json.loads(json.dumps(whole))
    del lacking["ratings"][trial]
    beyond["ratings"][trial] = {name: {item: 11 for item in values} for name, values in kept["ratings"][trial].items()}
    files = {
        "1": whole, "2": {**whole, "rater": " anna ", "finished": "2026-02-01"}, "3": {**whole, "test": "another"}, "4": lacking,
        "5": beyond, "7": {"x": 1}, "8": [1], "9": answers(dcase, "Ben", better),
    }  # fmt: skip
    for name, content in files.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    (tmp_path / "6.json").write_text(json.dumps(whole)[:-40])
    found, errors = read_all([tmp_path], dcase)
    assert [one.rater for one in found] == ["Anna", "Ben"]
    said = sorted(map(str, errors))
    for sentence, part in zip(said, [
        "second file of ' anna '", "answers to another test", "lacks an answer", "cannot have given", "half a download",
        "no answers of a listening test", "no answers of a listening test",
    ], strict=True):  # fmt: skip
        assert part in sentence
        assert sentence.count("\n") == 0


def read(test, tmp_path, opinions):
    for name, one in opinions.items():
        (tmp_path / f"{name}.json").write_text(json.dumps(answers(test, name, one)))
    return read_all([tmp_path], test)[0]


def test_the_score_weighs_quality_fit_and_diversity_2_2_1(dcase, tmp_path):
    given = {"quality": 8, "fit": 6, "diversity": 5}
    rng = np.random.default_rng(0)

    def noisy(trial, question, item):
        return given[question] - (2 if item.system == "base" else 0) + int(rng.integers(-1, 2))

    said = opinion(dcase, read(dcase, tmp_path, dict.fromkeys("ABCDE", noisy)))
    means = {(one.question, one.system): one for one in said.means}
    parts = [means[name, "adapted"].value for name in given]
    assert means["score", "adapted"].value == pytest.approx((2 * parts[0] + 2 * parts[1] + parts[2]) / 5)
    assert means["quality", REFERENCE].raters == 5
    assert ("score", REFERENCE) not in means  # nobody is asked how diverse recordings are
    verdicts = {one.question: (one.first, one.second, one.verdict) for one in said.preferences}
    assert verdicts["score"] == verdicts["quality"] == ("base", "adapted", "better")
    said.write(tmp_path / "said" / "listen.json")
    again = Opinion.read(tmp_path / "said" / "listen.json")
    assert (again.means, again.preferences, again.alpha, again.raters) == (said.means, said.preferences, said.alpha, said.raters)


def test_who_does_not_hear_the_hidden_reference_or_count_beeps_is_left_out(tmp_path):
    test = built(tmp_path / "clips", MUSHRA()).test
    ideal = {REFERENCE: 100, ANCHOR: 20, "adapted": 70, "base": 50}
    said = answers(test, "inattentive", lambda trial, question, item: ideal.get(item.system, 1))
    for trial in test.asked:
        if trial.kind == "check":
            said["ratings"][trial.id] = {"beeps": {trial.items[0].id: 9}}
    (tmp_path / "answers").mkdir()
    (tmp_path / "answers" / "inattentive.json").write_text(json.dumps(said))
    found = read(test, tmp_path / "answers", {
        "good": lambda trial, question, item: ideal[item.system],
        "deaf": lambda trial, question, item: 50,
        "generous": lambda trial, question, item: 95,
    })  # fmt: skip
    whole = opinion(test, found)
    assert whole.raters == ["good"]
    assert {rater: why.split(":")[0] for rater, why in whole.left_out.items()} == {
        "deaf": "hidden_reference", "generous": "anchor", "inattentive": "attention",
    }  # fmt: skip
    metric = pd.Series({(system, trial.clip): ideal[system] for trial in test.asked for system in test.systems})
    assert trust(test, found, {"constant": metric * 0})[1] == {"constant": "too few sounds, or all are alike"}


def test_a_choice_between_two_is_a_share_and_x_is_asked_of_both_together(tmp_path):
    test = built(tmp_path / "clips", ABX(), clips=4).test
    (tmp_path / "answers").mkdir()
    prefers = {"adapted": 1, "base": 0}

    def sure(trial, question, item):
        return prefers[item.system] if question == "preferred" else 1

    said = opinion(test, read(test, tmp_path / "answers", dict.fromkeys("ABCDEFG", sure)))
    means = {(one.question, one.system): one for one in said.means}
    assert means["told_apart", "base | adapted"].value == 1
    assert 0.4 < means["preferred", "adapted"].low < 1 == means["preferred", "adapted"].value
    assert [(one.question, one.difference) for one in said.preferences] == [("preferred", 1.0)]
