"""The watch: who is promoted, a history that loses nothing, and its page."""

import json

import pytest

from audioldm_lit.report.texts import Texts
from audioldm_lit.watching.contest import Contest
from audioldm_lit.watching.drift import Distance, Drift, Unlike
from audioldm_lit.watching.history import Check, append, read
from audioldm_lit.watching.page import page

from browser import needs_chromium, opened

EVIL = "<script>alert(1)</script>\u2028\U0001f415"


def check(day: int, verdict: str = "better", worse: tuple[str, ...] = ()) -> Check:
    unlike = (Unlike(EVIL, "bandwidth", 3500.0, 7000.0, 8000.0), Unlike("b", "level", -70.0, -30.0, -10.0))
    drift = Drift(9, Distance("kad", 1.0 + day, (0.5, 2.0), 0.1, "drifted"), "", {EVIL: 2}, unlike, (f"{EVIL}: is empty.",))
    contest = Contest("kad", 3.0, 1.0, -2.0, (-3.0, -1.0), verdict, [], list(worse), 12, "hash")
    return Check(f"2026-01-{day:02d}T00:00:00+00:00", EVIL, EVIL, drift, EVIL, contest)


def plain(one: Check) -> object:
    return json.loads(json.dumps(one.as_dict()))


def test_only_a_challenger_that_is_better_and_in_nothing_worse_is_promoted():
    assert [check(1).promoted, check(1, "cannot tell").promoted, check(1, "worse").promoted, check(1, worse=("kl",)).promoted] == [
        True, False, False, False,
    ]  # fmt: skip


def test_a_history_loses_nothing_to_a_line_that_a_crash_cut_off(tmp_path):
    path = tmp_path / "watch" / "history.jsonl"
    append(path, check(1))
    with path.open("a") as file:
        file.write('{"time": "2026')
    append(path, check(2, worse=("kl",)))
    checks, errors = read(path)
    assert [plain(one) for one in checks] == [plain(check(1)), plain(check(2, worse=("kl",)))]
    assert [str(error).startswith(f"{path}, line 2: is no check") for error in errors] == [True]


@needs_chromium
@pytest.mark.slow
@pytest.mark.parametrize("language", ["en", "ja"])
def test_the_page_of_a_history_runs_nothing_that_stands_in_it(language, tmp_path, browser):
    (tmp_path / "watch.html").write_text(page([check(1), check(2), check(3, "worse")], [], Texts(language)), encoding="utf-8")
    with opened(browser, tmp_path / "watch.html") as found:
        assert found.violations() == []
        assert found.page.locator("table.checks tbody tr").count() == 3
        assert found.page.locator("svg circle").count() == 3
        assert found.complaints == []
