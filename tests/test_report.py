"""The report as a file: its answer, what it says of bad input, and that it stays small and safe."""

import json
import re
from html import unescape

import pytest
import yaml

from audioldm_lit.ablation.grid_page import write_grid_report
from audioldm_lit.errors import InputError
from audioldm_lit.evaluation.evaluation import compare_systems
from audioldm_lit.evaluation.kept import read_evaluations, write_evaluations
from audioldm_lit.evaluation.opinion import MeanRating, Opinion, Preference, Trust
from audioldm_lit.report.page import write_report
from audioldm_lit.report.shell import data

from finished import CLIPS, finished_run
from runs import REPOSITORY


@pytest.fixture
def page(tmp_path):
    def written(*folders, **options) -> str:
        write_report(tmp_path / "report.html", folders, **options)
        return (tmp_path / "report.html").read_text(encoding="utf-8")

    return written


def said(html: str) -> str:
    """The headings with the answers, as they read."""
    return " ".join(re.sub("<[^>]+>", "", one) for one in re.findall(r"<h1[^>]*>(.*?)</h1>", html, re.DOTALL))


@pytest.mark.parametrize(
    ("gain", "language", "word"),
    [(1.0, "en", "is better than"), (-1.0, "en", "is worse than"), (-0.15, "en", "cannot tell"), (1.0, "ja", "より良い")],
)
def test_it_begins_with_one_of_three_words_and_its_evidence(tmp_path, page, gain, language, word):
    html = page(finished_run(tmp_path / "run", gain=gain), language=language)
    assert word in said(html)
    assert f'<html lang="{language}">' in html
    assert "KL" in said(html)


def test_evaluations_come_back_equal(tmp_path):
    kept = read_evaluations(finished_run(tmp_path / "run", copied=True) / "scores")
    write_evaluations(tmp_path, kept)
    again = read_evaluations(tmp_path)
    assert {name: one.as_dict() for name, one in again.items()} == {name: one.as_dict() for name, one in kept.items()}
    assert compare_systems(again["base"], again["adapted"]) == compare_systems(kept["base"], kept["adapted"])


def test_commands_that_come_next_name_the_model_and_the_data_of_the_run(tmp_path, page):
    run = finished_run(tmp_path / "run")
    settings = yaml.safe_load((run / "config.yaml").read_text())
    settings["model"] |= {"backbone": "my model", "heads": "original", "adapter": {"class_path": "mine.Norms"}}
    settings["data"]["init_args"] |= {"table": "clean.jsonl", "duration": 2.56}
    (run / "config.yaml").write_text(yaml.safe_dump(settings))
    html = unescape(page(run))
    assert "audioldm_lit generate --backbone 'my model' --heads original --trust mine --adapter" in html
    root = "--data.init_args.root 'dogs '\"'\"'n'\"'\"' rain'"
    assert f"Folder --backbone 'my model' {root} --data.init_args.table clean.jsonl --data.init_args.duration 2.56" in html


def test_runs_are_compared_with_the_first_in_pairs(tmp_path, page):
    first, second = finished_run(tmp_path / "a" / "version_0", gain=0.2), finished_run(tmp_path / "b" / "version_0", gain=1.0)
    html = page(first, second)
    assert "b/version_0 is better than a/version_0" in said(html)
    assert len(re.findall(r'class="choose"', html)) == 4 * 2  # recording, base and both runs
    assert "difference of -0.8 lies between -0.8 and -0.8" in said(html)  # paired: what clips differ by cancels


def test_runs_of_unequal_passports_are_not_compared_and_the_rest_is_shown(tmp_path, page):
    first, second = finished_run(tmp_path / "a" / "version_0"), finished_run(tmp_path / "b" / "version_0", CLIPS[:6])
    html = page(first, second)
    assert "cannot tell" in said(html)
    assert "have 8 and 6 clips" in said(html)
    assert len(re.findall(r'<article class="player', html)) == 2


def test_what_is_missing_is_one_sentence_and_the_rest_is_shown(tmp_path, page):
    run = finished_run(tmp_path / "run")
    lost = {
        "result.json": "result.json: is not there; the run has not ended",
        "scores/evaluations.json": "evaluations.json: is not there; score the run again",
        "scores/recordings/manifest.json": "these sounds cannot be played",
        "metrics.csv": "so there are no curves",
        "clips.json": "kept no list of its clips",
    }
    for name in lost:
        (run / name).unlink()
    html = page(run)
    assert [sentence for sentence in lost.values() if sentence not in html] == []
    assert html.count('<article class="player') == 2


def test_a_file_that_is_half_written_is_one_sentence(tmp_path, page):
    run = finished_run(tmp_path / "run")
    for name in ("result.json", "scores/evaluations.json", "scores/adapted/manifest.json"):
        (run / name).write_text((run / name).read_text()[:100])
    wav = next((run / "scores" / "base").glob("*.wav"))
    wav.write_bytes(wav.read_bytes()[:60])
    lost = next((run / "scores" / "recordings").glob("*.wav"))
    lost.unlink()
    (run / "opinion.json").write_text('{"format": "audioldm_lit opi')
    html = page(run, listeners=run / "opinion.json")
    assert "result.json: is not whole" in html
    assert "evaluations.json: is not whole" in html
    assert "is no list of clips" in html
    assert wav.name in html
    assert f"{lost}: " in html
    assert "opinion.json: is no merged listening test" in html
    assert html.count('<article class="player') == 1  # of the other clip


def test_what_listeners_said_stands_with_the_answer(tmp_path, page):
    run, hostile = finished_run(tmp_path / "run"), "<script>alert(1)</script>"
    preference = Preference("score", hostile, "adapted", 1.5, 0.5, 2.5, "better")
    rating = MeanRating("score", "adapted", 7.5, 7.0, 8.0, 3, 3)
    trust = Trust("kl", 0.8, 0.5, 0.9, 24, "follows")
    said = {"left_out": {hostile: "miscounts"}, "not_read": [hostile], "alpha": {"score": 0.5}, "metrics": [trust]}
    said |= {"scales": {"score": (1, 10)}, "chance": {}, "means": [rating], "preferences": [preference]}
    Opinion(hostile, "", "DCASE2023", "score", raters=["花子"], **said).write(tmp_path / "opinion.json")
    html = page(run, listeners=tmp_path / "opinion.json")
    answer, rest = html.split("<nav", 1)
    assert "Listeners find adapted better than &lt;script&gt;" in answer
    assert "follows the listeners" in rest
    assert hostile not in html
    assert "listen build" in page(run)
    assert "listen build" not in html  # they were asked already


def test_what_is_no_run_is_refused(tmp_path, cli):
    for words in ((), (str(tmp_path),), (str(tmp_path / "none"),)):
        status, _, sentence = cli("report", *words)
        assert status == 2
        assert sentence.splitlines()[-1].startswith("error: ")


def test_the_verb_takes_runs_one_after_the_other(tmp_path, cli, workdir):
    runs = [finished_run(tmp_path / name / "version_0") for name in ("a", "b")]
    assert cli("report", *map(str, runs), "--out", "both.html")[0] == 0
    assert "b/version_0" in said((workdir / "both.html").read_text(encoding="utf-8"))


def test_commands_that_come_next_are_quoted(tmp_path, page):
    html = page(finished_run(tmp_path / "a 'run' <b>"))
    assert "&#39;dogs &#39;" in html
    assert "<b>" not in html


def test_a_grid_names_its_best_arm_and_draws_its_curves(tmp_path):
    (tmp_path / "results.csv").write_bytes((REPOSITORY / "docs" / "benchmark" / "results.csv").read_bytes())
    write_grid_report(tmp_path / "grid.html", tmp_path)
    html = (tmp_path / "grid.html").read_text(encoding="utf-8")
    assert "The best arm is strategy lora, shots 20" in said(html)
    assert "than full: cannot tell" in said(html)
    assert html.count('class="chart"') == 1
    with pytest.raises(InputError, match="which no trained run has"):
        write_grid_report(tmp_path / "grid.html", tmp_path, "no such")


def test_a_script_cannot_be_broken_out_of():
    hostile = "</script><!-- <script> ]]> \u2028 & '\""
    assert json.loads(data({"a": hostile})) == {"a": hostile}
    assert not set("<>&\u2028") & set(data({"a": hostile}))
