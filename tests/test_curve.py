"""Learning curves: the fit and its intervals against scipy, their coverage in simulation, what is refused, and the verb."""

import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import curve_fit, minimize_scalar
from scipy.stats import f as f_distribution

from audioldm_lit.ablation.curve_arms import arms, chosen, read_results
from audioldm_lit.ablation.power_law import EXPONENTS, FURTHEST, Curve, fit_curve
from audioldm_lit.errors import InputError

SIZES, SEEDS = (8, 16, 32, 64, 128, 256), 3
CLIPS = np.repeat(SIZES, SEEDS).astype(float)


def power(n, c=0.5):
    """Falls by 1 from the smallest size to the largest."""
    return 1 + (n**-c - 256.0**-c) / (8.0**-c - 256.0**-c)


def runs(noise=0.05, truth=power, seed=0, clips=CLIPS):
    return truth(clips) + noise * np.random.default_rng(seed).standard_normal(len(clips))


def curve(**options):
    return fit_curve(CLIPS, runs(**options), higher_is_better=False)


def least_squares_through(clips, value, values):
    """Smallest sum of squares of power laws that are `value` at a number of clips."""

    def error(log_exponent):
        shape = CLIPS ** -np.exp(log_exponent) - float(clips) ** -np.exp(log_exponent)
        return np.square(values - value - shape * (shape @ (values - value)) / (shape @ shape)).sum()

    bounds = np.log(EXPONENTS[0]), np.log(EXPONENTS[-1])
    return minimize_scalar(error, bounds=bounds, method="bounded", options={"xatol": 1e-9}).fun


def test_fit_is_that_of_nonlinear_least_squares():
    values = runs()
    a, b, c = curve_fit(lambda n, a, b, c: a + b * n**-c, CLIPS, values, p0=(1, 1, 0.5))[0]
    fitted = curve()
    assert fitted.exponent == pytest.approx(c, rel=0.02)  # the grid's step
    for clips in (8, 50, 256, 512):
        assert fitted.at(clips).value == pytest.approx(a + b * clips**-c, abs=1e-3)
    assert fitted.level.value == pytest.approx(a, abs=0.01)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("clips", [20, 256, 512])
def test_interval_ends_where_the_best_curve_through_it_fits_worse_by_the_f_quantile(clips, seed):
    values, fitted = runs(seed=seed), curve(seed=seed)
    best = minimize_scalar(lambda value: least_squares_through(clips, value, values), bracket=(0.9, 1.5)).fun
    allowed = best * (1 + f_distribution.ppf(0.95, 1, len(CLIPS) - 3) / (len(CLIPS) - 3))
    for end in (fitted.at(clips).low, fitted.at(clips).high):
        assert least_squares_through(clips, end, values) == pytest.approx(allowed, rel=1e-3)


def test_lack_of_fit_is_tested_against_the_spread_of_seeds():
    values = runs()
    pure = np.square(values.reshape(6, 3) - values.reshape(6, 3).mean(1, keepdims=True)).sum()
    fitted = curve_fit(lambda n, a, b, c: a + b * n**-c, CLIPS, values, p0=(1, 1, 0.5))[0]
    left = np.square(values - (fitted[0] + fitted[1] * CLIPS ** -fitted[2])).sum()
    assert curve().p_fit == pytest.approx(f_distribution.sf((left - pure) / 3 / (pure / 12), 3, 12), rel=1e-2)


@settings(max_examples=30)
@given(st.floats(0.01, 100), st.floats(-100, 100), st.integers(0, 9))
def test_the_metric_s_unit_and_direction_do_not_matter(scale, shift, seed):
    values = runs(seed=seed)
    plain, other = Curve(CLIPS, values, False), Curve(CLIPS, shift - scale * values, True)
    for one, mirrored in ((plain.at(400), other.at(400)), (plain.level, other.level)):
        assert (mirrored.value is None) == (one.value is None)
        assert mirrored.low == pytest.approx(shift - scale * one.high, rel=1e-6, abs=1e-6)
        assert mirrored.high == pytest.approx(shift - scale * one.low, rel=1e-6, abs=1e-6)
    target = plain.at(100).low  # in the middle between two numbers of clips, so that rounding decides nothing
    assert other.needed(shift - scale * (target + 1e-4)) == plain.needed(target + 1e-4)


@pytest.mark.parametrize("clips", [20, 100, 300])
def test_needed_turns_at_round(clips):
    fitted = curve()
    needed = fitted.needed(fitted.at(clips).value)
    assert needed.clips == pytest.approx(clips, abs=1)
    assert needed.low < clips < (needed.high or np.inf)


@pytest.mark.parametrize("target", [1.5, 1.2, 1.05])
def test_needed_begins_and_ends_where_the_interval_reaches_the_target(target):
    fitted = curve()
    needed = fitted.needed(target)
    assert fitted.at(needed.low).low <= target < fitted.at(needed.low - 1).low
    assert fitted.at(needed.high).high <= target < fitted.at(needed.high - 1).high


def test_needed_is_open_where_the_runs_do_not_say():
    fitted = curve()
    assert str(fitted.needed(fitted.at(500).value)).endswith(f"more than {FURTHEST * 256}]")
    far = fitted.needed(fitted.at(512).low - 0.001)
    assert str(far) == "more than 512"
    never = fitted.needed(fitted.level.low - 0.01)
    assert never.never
    assert str(never) == "never"
    assert fitted.needed(fitted.at(8).high).clips == 8


def test_a_curve_that_does_not_bend_is_not_said_to_level_off():
    fitted = curve(truth=lambda n: 3 - np.log(n) / 3, noise=0.02)
    assert fitted.level.low == -np.inf
    assert fitted.level.value is None
    assert not fitted.needed(-100).never


def test_no_value_where_the_interval_is_wider_than_the_gain():
    fitted = curve(noise=0.3, seed=3)
    assert fitted.at(512).value is None
    assert fitted.at(512).high - fitted.at(512).low > fitted.gain
    assert fitted.at(64).value is not None


@pytest.mark.parametrize("clips", [7, 513])
def test_it_does_not_speak_of_sizes_far_from_the_measured(clips):
    with pytest.raises(InputError, match=f"{clips} clips: the runs speak of 8 to 512 clips"):
        curve().at(clips)


@pytest.mark.parametrize(
    ("clips", "values", "why"),
    [
        (CLIPS[:9], runs()[:9], "3 different sizes"),
        (SIZES, power(np.array(SIZES)), "only 0 of 6 sizes have more than one run"),
        ([*SIZES, 8, 16, 32], runs(clips=np.array([*SIZES, 8, 16, 32.0])), "only 3 of 6 sizes"),
        (CLIPS, power(CLIPS), "runs of one size are all equal"),
        (CLIPS - 8, runs(), "a run has no clips"),
        (np.where(CLIPS == 8, np.nan, CLIPS), runs(), "a run has no clips"),
        (CLIPS, np.where(CLIPS == 8, np.nan, runs()), "no finite value"),
        (CLIPS, runs(truth=np.ones_like), "more clips change nothing that these runs can show"),
        (CLIPS, 3 - runs(), "more clips make it worse"),
        (CLIPS, runs(truth=lambda n: 1 / (1 + (n / 64) ** 3)), "no power law goes through these runs"),
    ],
)
def test_what_cannot_be_fitted_is_refused(clips, values, why):
    with pytest.raises(InputError, match=why):
        fit_curve(clips, values, higher_is_better=False)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("c", "noise", "count"),
    [
        *((c, noise, 300) for c, noise in ((0.25, 0.2), (0.5, 0.05), (1, 0.2))),
        *(pytest.param(c, noise, 600, marks=pytest.mark.nightly) for c in (0.25, 0.5, 1) for noise in (0.05, 0.2)),
    ],
)
def test_intervals_cover_the_truth_95_times_of_100(c, noise, count):
    truth = lambda n: power(n, c)  # noqa: E731
    hits, refused, generator = np.zeros(4), 0, np.random.default_rng(1)
    within = {300: 0.04, 600: 0.03}[count]  # three standard errors
    for _ in range(count):
        try:
            fitted = curve(noise=noise, truth=truth, seed=generator)
        except InputError:
            refused += 1
            continue
        hits[:3] += [fitted.at(n).low <= truth(float(n)) <= fitted.at(n).high for n in (64, 256, 512)]
        needed = fitted.needed(truth(400.0))
        hits[3] += needed.low is not None and needed.low <= 401 and (needed.high is None or needed.high >= 399)
    assert refused / count == pytest.approx(0.05, abs=within)  # the size of the test of lack of fit
    assert hits / (count - refused) == pytest.approx(0.955, abs=within)


@pytest.mark.slow
def test_noise_is_not_taken_for_a_curve():
    fitted = 0
    for seed in range(400):
        try:
            curve(truth=np.ones_like, seed=seed)
            fitted += 1
        except InputError:
            continue
    assert fitted / 400 < 0.03


@pytest.mark.slow
@pytest.mark.parametrize(
    "truth", [lambda n: np.exp(-((n / 32) ** 0.5)), lambda n: -np.log(np.minimum(n, 512)), lambda n: (n + 16) ** -0.5]
)
def test_where_no_power_law_holds_the_furthest_interval_is_wrong_by_a_tenth_of_the_gain_at_most(truth):
    def scaled(n):
        return (truth(n) - truth(256.0)) / (truth(8.0) - truth(256.0))

    misses = []
    for seed in range(200):
        try:
            found = curve(truth=scaled, seed=seed).at(512)
        except InputError:
            continue
        misses.append(max(0, found.low - scaled(512.0), scaled(512.0) - found.high))
    assert np.quantile(misses, 0.95) < 0.1


def table(**changes):
    """A grid of two strategies and an untrained base, shots as sizes; `full` does not improve."""
    rows = []
    for strategy in ("base", "None", "full"):
        values = runs() if strategy == "None" else runs(truth=np.ones_like)
        for number, (clips, value) in enumerate(zip(CLIPS, values, strict=True)):
            trained = strategy != "base"
            row = {"run": f"{strategy}-{number}", "strategy": strategy, "shots": f"{clips / 4:.0f}", "seed": str(number % 3)}
            row |= {"metric": "loss", "value": value, "higher_is_better": False, "passport": "one"}
            row |= {"training_clips": clips if trained else 0, "steps": 100 if trained else 0}
            rows.append(row | changes)
    return pd.DataFrame(rows)


@pytest.fixture
def grid(workdir):
    table().to_csv(workdir / "results.csv", index=False)
    return workdir


def test_every_arm_has_a_curve_of_its_own_or_a_reason(grid):
    adapted, full = arms(read_results(grid), "loss")
    assert adapted.levels == {"strategy": "None"}  # shots are the size; the base did not train
    assert (adapted.runs, full.runs) == (18, 18)
    assert adapted.curve.at(100) == curve().at(100)
    assert full.curve is None
    assert full.why_not.problem.startswith("more clips change nothing")


def test_strategies_at_sizes_of_their_own_are_arms_all_the_same():
    results = table().query("strategy != 'base'").drop(columns="shots")
    results.loc[results["strategy"] == "full", "training_clips"] += 1
    assert len(arms(results, "loss")) == 2


@pytest.mark.parametrize(
    ("metric", "where", "why"),
    [
        ("fad", [], "--metric: is 'fad', but the runs have loss"),
        ("loss", ["color=1"], "'color=1' names no axis; write axis=level with one of strategy, shots, seed"),
        ("loss", ["strategy=dora"], "strategy has no level 'dora' here; use one of base, None, full"),
    ],
)
def test_a_wrong_name_is_answered_with_the_right_ones(grid, metric, where, why):
    with pytest.raises(InputError, match=why):
        arms(chosen(read_results(grid), where), metric)


def test_values_of_two_passports_share_no_curve():
    results = table()
    results.loc[results["strategy"] == "full", "passport"] = "two"
    with pytest.raises(InputError, match="passports one and two"):
        arms(results, "loss")
    assert len(arms(chosen(results, ["strategy=full"]), "loss")) == 1


def test_choices_of_one_axis_add_up_and_of_several_narrow_down():
    assert set(chosen(table(), ["strategy=base", "strategy=full"])["strategy"]) == {"base", "full"}
    assert len(chosen(table(), ["strategy=base", "strategy=full", "seed=1"])) == 2 * len(SIZES)


def test_runs_whose_metric_was_not_computed_are_left_out():
    results = table().astype({"higher_is_better": object})
    lost = (results["strategy"] == "None") & (results["seed"] == "2") & (results["training_clips"] == 8)
    results.loc[lost, ["value", "higher_is_better"]] = None
    adapted, full = arms(results, "loss")
    assert (adapted.runs, full.runs) == (17, 18)
    assert adapted.curve is not None


def test_the_verb_answers_both_questions(grid, cli):
    status, out, err = cli("curve", "--grid", grid, "--clips", "[100, 1000]", "--reach", 1.1, "--json", "curve.json")
    assert (status, err) == (0, "loading libraries\n")
    words = " ".join(out.split())
    assert "beyond 512" in words
    assert str(curve().needed(1.1).clips) in words
    assert "full: no curve, more clips change nothing" in words
    adapted, full = json.loads((grid / "curve.json").read_text())
    assert adapted["at"]["100"]["value"] == pytest.approx(curve().at(100).value)
    assert adapted["at"]["1000"] is None
    assert adapted["needed"]["clips"] == curve().needed(1.1).clips
    assert full["why_not"]["problem"].startswith("more clips change nothing")


def test_json_has_null_for_an_end_that_is_not_there(workdir, cli):
    results = table().query("strategy == 'None'")
    results.assign(value=runs(truth=lambda n: 3 - np.log(n) / 3, noise=0.02)).to_csv(workdir / "results.csv", index=False)
    assert cli("curve", "--grid", workdir, "--json", "curve.json")[0] == 0
    (arm,) = json.loads((workdir / "curve.json").read_text(), parse_constant=pytest.fail)
    assert arm["level"]["low"] is None
    assert arm["level"]["high"] is not None


def test_the_verb_names_what_is_missing(workdir, cli):
    status, _, err = cli("curve", "--grid", workdir)
    assert status == 2
    assert "results.csv: is not there" in err
    table().drop(columns="steps").to_csv(workdir / "results.csv", index=False)
    status, _, err = cli("curve", "--grid", workdir, "--where", "strategy=full")
    assert status == 2
    assert "has no column steps" in err


def test_the_picture_is_drawn_in_the_suffix_s_format(grid, cli):
    assert cli("curve", "--grid", grid, "--plot", "curve.svg")[0] == 0
    drawn = Path("curve.svg").read_text()
    assert "training clips" in drawn.replace("<!-- ", "").replace(" -->", "")
    status, _, err = cli("curve", "--grid", grid, "--plot", "curve.gif")
    assert status == 2
    assert "curve.gif is no .png, .svg or .pdf" in err
    assert not Path("curve.gif").exists()


def test_the_picture_shows_the_chosen_runs_alone(grid, cli):
    picture = chosen(table(), ["strategy=full", "strategy=base"])
    picture.to_csv("results.csv", index=False)
    assert cli("curve", "--grid", ".", "--plot", "alone.svg")[0] == 0
    table().to_csv("results.csv", index=False)
    assert cli("curve", "--grid", ".", "--where", "strategy=full", "--where", "strategy=base", "--plot", "chosen.svg")[0] == 0
    alone, among = (re.findall(r'<path d="([^"]*)"', Path(name).read_text()) for name in ("alone.svg", "chosen.svg"))
    assert alone == among
