"""The watch: what is new in new recordings, a history that loses nothing, and the walk from training to the decision."""

import json
import shutil

import pytest

from audioldm_lit.evaluation.opinion import Opinion
from audioldm_lit.listening.blind_test import BlindTest
from audioldm_lit.report.texts import Texts
from audioldm_lit.watching.contest import Contest
from audioldm_lit.watching.drift import Distance, Drift, Unlike
from audioldm_lit.watching.history import Check, append, read
from audioldm_lit.watching.page import page

from browser import needs_chromium, opened
from layouts import esc50, tone
from panels import answers
from runs import arguments, run_folder

EVIL = "<script>alert(1)</script>\u2028\U0001f415"
PROTOCOL = """
class_path: audioldm_lit.evaluation.protocol.Protocol
init_args:
  name: cheap
  metrics:
    kad:
      class_path: audioldm_lit.metrics.kernel.KAD
      init_args: {extractor: audioldm_lit.metrics.extractors.fingerprint.Fingerprint}
"""


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


@pytest.mark.slow
def test_the_walk_from_training_to_answers_and_the_decision(cli, workdir, tiny_folder):
    (workdir / "cheap.yaml").write_text(PROTOCOL)
    words = arguments(tiny_folder, esc50(workdir / "data"), steps=1)
    status, _, err = cli("fit", *words, "--model.protocol", "cheap.yaml", "--scores.after_fit", "true")
    assert status == 0, err
    run = run_folder(workdir)
    for language in ("en", "ja"):
        status, _, err = cli("listen", "build", "--run", run, "--clips", 3, "--language", language, "--out", "test.html")
        assert status == 0, err
    test = BlindTest.read(workdir / "test.json")
    (workdir / "answers").mkdir()
    for number in range(3):
        said = answers(test, f"rater {number}", lambda trial, question, item: {"base": 3, "adapted": 6}.get(item.system, 9))
        (workdir / "answers" / f"{number}.json").write_text(json.dumps(said))
    status, out, err = cli("listen", "merge", "answers", "--test", "test.json", "--protocol", "cheap.yaml", "--language", "ja")
    assert status == 0, err
    assert "adapted against base: is better" in out
    assert [one.metric for one in Opinion.read(workdir / "opinion.json").metrics] == ["kad"]
    assert "聞き手は adapted を base より良いと評価しました" in (workdir / "opinion.html").read_text(encoding="utf-8")

    tone(workdir / "new" / "whale" / "1.wav", 100, sample_rate=4000)
    for take in range(6):
        tone(workdir / "new" / "dog" / f"{take}.wav", 200, seed=900 + take)
    shutil.copytree(run, run.with_name("version_9"))
    asked = ("--run", run, "--data", "new", "--protocol", "cheap.yaml", "--device", "cpu")
    status, out, err = cli("watch", *asked, "--challenger", run.with_name("version_9"), "--json", "check.json")
    assert status == 3, err
    found = json.loads((workdir / "check.json").read_text())
    assert found["drift"]["new_classes"] == {"whale": 1}
    assert ("whale/1", "bandwidth") in [(one["clip"], one["what"]) for one in found["drift"]["unlike"]]
    assert (found["contest"]["verdict"], found["contest"]["difference"], found["promoted"]) == ("cannot tell", 0.0, False)
    assert cli("watch", *asked, "--challenger", run)[0] == 2
    assert len((workdir / "runs" / "watch" / "history.jsonl").read_text().splitlines()) == 1
