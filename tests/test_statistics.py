"""What is said of arms, against independent computations."""

import itertools

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from audioldm_lit.ablation.columns import NAMES
from audioldm_lit.ablation.sheets import arms, latex, markdown, sheets
from audioldm_lit.ablation.statistics import comparisons, importance, summary
from audioldm_lit.errors import InputError


def results(effect, noise=0.1, seeds=4, passport="one", metric="kad"):
    """Runs of a full grid over strategy and shots, whose mean is `effect(strategy, shots)`."""
    rng, rows = np.random.default_rng(0), []
    for strategy, shots, seed in itertools.product(("base", "scratch", "lora"), ("2", "10"), range(seeds)):
        if strategy == "base" and shots != "2":
            continue
        value = effect(strategy, int(shots)) + noise * rng.standard_normal()
        costs = {"steps": 0 if strategy == "base" else 100, "seconds": 60.0, "trained_weights": 10, "training_clips": int(shots)}
        figures = {"metric": metric, "value": value, "higher_is_better": False, "passport": passport}
        rows.append(
            {"run": f"{strategy}{shots}{seed}", "strategy": strategy, "shots": shots, "seed": str(seed), **figures, **costs}
        )
    return pd.DataFrame(rows, columns=["run", "strategy", "shots", "seed", *NAMES[1:]])


def grid(strategy, shots):
    return {"base": 20, "scratch": 40 - shots, "lora": 19}[strategy]


def values(table, strategy, shots):
    return table[(table["strategy"] == strategy) & (table["shots"] == shots)]["value"].to_numpy()


def test_an_arm_is_the_mean_of_its_seeds_with_student_s_interval():
    table = results(grid)
    row = summary(table).set_index(["strategy", "shots"]).loc[("lora", "10")]
    sample = values(table, "lora", "10")
    low, high = stats.t.interval(0.95, len(sample) - 1, loc=sample.mean(), scale=stats.sem(sample))
    assert (row["mean"], row["low"], row["high"]) == pytest.approx((sample.mean(), low, high))
    assert row["seeds"] == 4


def test_arms_are_compared_on_the_seeds_that_both_have():
    table = results(grid)
    table = table[~((table["strategy"] == "lora") & (table["shots"] == "10") & (table["seed"] == "3"))]
    found = comparisons(table, "kad", "strategy").set_index(["shots", "first", "second"]).loc[("10", "scratch", "lora")]
    scratch, lora = values(table, "scratch", "10")[:3], values(table, "lora", "10")
    expected = stats.ttest_rel(lora, scratch)
    assert found["seeds"] == 3
    assert found["p"] == pytest.approx(expected.pvalue)
    assert found["difference"] == pytest.approx((lora - scratch).mean())
    assert (found["low"], found["high"]) == pytest.approx(expected.confidence_interval())
    assert found["verdict"] == "better"


def test_an_untrained_arm_is_compared_everywhere():
    found = comparisons(results(grid), "kad", "strategy")
    pairs = set(zip(found["shots"], found["first"], found["second"], strict=True))
    assert pairs == {(shots, *pair) for shots in ("2", "10") for pair in itertools.combinations(("base", "scratch", "lora"), 2)}


def test_an_untrained_arm_is_that_of_the_same_model():
    small = results(grid).assign(model="s")
    large = results(lambda *where: grid(*where) - 10).assign(model="l")
    found = comparisons(pd.concat([small, large]), "kad", "strategy").set_index(["model", "shots", "first", "second"])
    for model in ("s", "l"):
        assert found.loc[(model, "10", "base", "lora"), "difference"] == pytest.approx(-1, abs=0.3)


def test_an_untrained_arm_that_is_still_to_come_is_replaced_by_no_other():
    both = pd.concat([results(grid).assign(model="s"), results(grid).assign(model="l")])
    pending = both[(both["strategy"] != "base") | (both["model"] == "s")]
    planned = both.loc[both["steps"] == 0, ["strategy", "shots", "model"]].to_dict("records")
    found = comparisons(pending, "kad", "strategy", planned)
    assert "base" in set(found[found["model"] == "s"]["first"])
    assert set(found[found["model"] == "l"]["first"]) == {"scratch"}


def test_a_difference_that_rounding_alone_spreads_is_no_finding():
    found = comparisons(results(lambda strategy, _: 0.1 if strategy == "lora" else 0.3, noise=0), "kad", "strategy")
    assert found["p"].isna().all()
    assert set(found["verdict"]) == {"cannot tell"}


def test_where_neither_way_is_better_none_is_said():
    table = results(grid)
    table["higher_is_better"] = None
    assert set(comparisons(table, "kad", "strategy")["verdict"]) <= {"higher", "lower", "cannot tell"}


def test_values_that_were_not_computed_are_named_and_not_counted():
    table = results(grid)
    lost = (table["strategy"] == "lora") & (table["shots"] == "10") & (table["seed"] == "0")
    table.loc[lost, "value"] = None
    table["caution"] = lost.map({True: "too few clips", False: None})
    sheet = arms(table)
    assert any("kad was not computed in 1 runs: too few clips" in note for note in sheet.notes)
    assert summary(table).set_index(["strategy", "shots"]).loc[("lora", "10"), "seeds"] == 3


def test_runs_of_different_code_are_named():
    table = results(grid)
    table["commit"] = ["aaa"] * 5 + ["bbb"] * (len(table) - 5)
    assert arms(table).notes == ["runs of different code: 5 of aaa, 15 of bbb"]


@pytest.mark.parametrize("query", ["seed == '0'", "not (strategy == 'lora' and shots == '10')"], ids=["one seed", "a missing cell"])
def test_without_enough_runs_the_means_are_shown_and_the_rest_says_why(query):
    pages = sheets(results(grid).query(query), "kad", narrow=True)
    assert pages[0].rows
    assert "combinations of levels have no run, or none has a second" in pages[2].notes[0]
    assert not pages[2].rows


def test_holm_s_correction_keeps_chance_from_looking_like_an_effect():
    found = comparisons(results(lambda *_: 20, noise=1.0), "kad", "strategy")
    ordered = found["p"].sort_values()
    expected = np.minimum(1, np.maximum.accumulate(ordered.to_numpy() * np.arange(len(ordered), 0, -1)))
    assert found["p_holm"].loc[ordered.index].to_numpy() == pytest.approx(expected)
    assert set(found["verdict"]) == {"cannot tell"}


def test_importance_is_the_share_of_the_sum_of_squares():
    table = results(lambda strategy, shots: 3.0 * (strategy == "lora"), noise=0.5)
    found = importance(table, "kad")
    trained = table[table["steps"] > 0]
    mean = trained["value"].mean()
    between = sum(len(part) * (part["value"].mean() - mean) ** 2 for _, part in trained.groupby("strategy"))
    assert found["share"].sum() == pytest.approx(1)
    assert found.loc["strategy", "share"] == pytest.approx(between / ((trained["value"] - mean) ** 2).sum())
    assert found["share"].idxmax() == "strategy"
    assert found.loc["strategy", "p"] < 0.01 < found.loc["shots", "p"]


def test_importance_needs_something_that_varies():
    with pytest.raises(InputError, match="needs trained runs at two levels"):
        importance(results(grid).query("strategy == 'base'"), "kad")


def test_importance_of_what_does_not_vary_is_not_computed():
    with pytest.raises(InputError, match="all runs have the same value, 0"):
        importance(results(lambda *_: 0, noise=0), "kad")


def test_values_of_two_passports_never_share_a_column():
    table = pd.concat([results(grid), results(grid, passport="another").assign(shots="20")])
    sheet = arms(table)
    assert [column for column in sheet.columns if column.startswith("kad")] == ["kad (1) ↓", "kad (2) ↓"]
    assert all(bool(row[2]) != bool(row[3]) for row in sheet.rows)
    with pytest.raises(InputError, match="2 passports"):
        comparisons(table, "kad", "strategy")


def test_markdown_and_latex_hold_every_figure():
    pages = sheets(results(grid), "kad", narrow=False)
    assert [page.title for page in pages][1:] == [
        "kad: strategy, paired by seed",
        "kad: share of the variance of trained runs (ANOVA)",
    ]
    for page in pages:
        cells = [cell for row in page.rows for cell in row]
        text, source = markdown(page), latex(page)
        assert all(cell.replace("\n", " ") in text for cell in cells)
        parts = [
            part.replace("%", r"\%").replace("×", r"$\times$").replace("<", "$<$") for cell in cells for part in cell.split("\n")
        ]
        assert all(part in source for part in parts)
        widths = {line.count("&") for line in source.splitlines() if line.endswith((r"\\", r"\\{}"))}
        assert len(widths) == 1
