"""JSON and YAML that may be anybody's: wherever one is read, what is wrong with it is one sentence."""

import copy
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from test_watch import check

from audioldm_lit.ablation.grid_file import load_grid
from audioldm_lit.ablation.published import published
from audioldm_lit.adapters.files.card import About
from audioldm_lit.assets.licence import licence_of
from audioldm_lit.errors import InputError
from audioldm_lit.evaluation.kept import NAME, read_evaluations
from audioldm_lit.evaluation.opinion import MeanRating, Opinion, Preference, Trust
from audioldm_lit.evaluation.protocol import load_protocol
from audioldm_lit.evaluation.run import Run
from audioldm_lit.first_look import first_look
from audioldm_lit.listening.answers import read as read_answers
from audioldm_lit.listening.blind_test import BlindTest, Question
from audioldm_lit.networks.model_folder import part_settings
from audioldm_lit.networks.published import MEASURED, measured_heads
from audioldm_lit.networks.twins import RECORD, read_record
from audioldm_lit.report.run_files import RunFiles
from audioldm_lit.report.shell import render
from audioldm_lit.report.texts import Texts
from audioldm_lit.storage.plain_files import parse_json, parse_yaml
from audioldm_lit.watching.history import append, read
from audioldm_lit.watching.page import page

DEEP = b"[" * 3000
BROKEN = {"too deep": DEEP, "half": b'{"a": [1', "no text": b"\xff\xfe\x00\xd8", "nothing": b"", "another kind": b"[1]"}
BROKEN_YAML = {"too deep": DEEP, "half": b"a: [1", "no text": b"\xff\xd8", "a day that no month has": b"a: 2025-13-45",
               "a key twice": b"a: 1\nb: {c: 1, c: 2}"}  # fmt: skip
BROKEN_YAML |= {f"a tag that lies: {value}": f"a: {value}".encode() for value in ("!!bool x", "!!int ''", "!!timestamp x")}
WRONG = (None, "x", {})


@pytest.mark.parametrize(("parse", "texts"), [(parse_json, BROKEN), (parse_yaml, BROKEN_YAML)])
def test_whatever_is_wrong_with_a_text_is_a_value_error_of_one_line(parse, texts):
    for name, text in texts.items():
        if name != "another kind":
            with pytest.raises(ValueError, match=r"\A.+\Z"):
                parse(text)


def _test(path: Path) -> BlindTest:
    path.parent.mkdir(exist_ok=True)
    BlindTest("t", "MUSHRA", ("a",), (Question("quality", "steps", 1, 10),), (), (), {}).write(path)
    return BlindTest.read(path)


JSON: dict[str, tuple[str, Callable[[Path], object]]] = {
    "listening test": ("x.json", BlindTest.read),
    "opinion": ("x.json", Opinion.read),
    "answers": ("x.json", lambda path: read_answers(path, _test(path.parent / "tests" / "t.json"))),
    "evaluations": (NAME, lambda path: read_evaluations(path.parent)),
    "settings of a part": ("config.json", lambda path: part_settings(path.parent)),
    "record of the towers": (RECORD, lambda path: read_record(path.parent)),
    "heads": (MEASURED, lambda path: measured_heads(path.parent)),
    "record of an adapter": ("x.json", lambda path: About.from_json(path.read_text("utf-8", errors="replace"), "x")),
}


@pytest.mark.parametrize("name", JSON)
def test_a_broken_json_is_refused_by_its_name(name, tmp_path):
    file, read_it = JSON[name]
    for content in BROKEN.values():
        (tmp_path / file).write_bytes(content)
        with pytest.raises(InputError) as refused:
            read_it(tmp_path / file)
        assert len(str(refused.value).splitlines()) == 1


YAML: dict[str, Callable[[Path], object]] = {
    "a configuration": lambda path: first_look("fit", ["--config", str(path)]),
    "a grid": lambda path: load_grid(path, ()),
    "a protocol": lambda path: load_protocol(str(path)),
    "published values": lambda path: published("AudioCaps", path),
}


@pytest.mark.parametrize("name", YAML)
def test_a_broken_yaml_is_refused_by_its_name(name, tmp_path):
    for content in BROKEN_YAML.values():
        (tmp_path / "x.yaml").write_bytes(content)
        with pytest.raises(InputError, match=r"x\.yaml") as refused:
            YAML[name](tmp_path / "x.yaml")
        assert len(str(refused.value).splitlines()) == 1


def test_a_broken_file_of_a_run_is_a_gap_of_its_report_and_a_reason_not_to_score_it(tmp_path):
    for name in ("config.yaml", "adapter.safetensors", "result.json", "clips.json"):
        (tmp_path / name).write_bytes(DEEP)
    gaps = [gap for gap in RunFiles.read(tmp_path).gaps if "nested too deeply" in gap.problem]
    assert {Path(gap.where).name for gap in gaps} == {"config.yaml", "result.json", "clips.json"}
    with pytest.raises(InputError, match="does not say how the run was made"):
        Run.load(tmp_path)


def test_a_licence_that_cannot_be_read_is_not_known(tmp_path):
    (tmp_path / "unet").mkdir()
    plain = licence_of(str(tmp_path))
    for content in BROKEN_YAML.values():
        (tmp_path / "README.md").write_bytes(b"---\n" + content + b"\n---\n")
        assert licence_of(str(tmp_path)) == plain


def spoilt(content: Any) -> Iterator[Any]:
    """The same with one value of another type, or without one."""
    for key in content if isinstance(content, dict) else range(len(content)):
        for wrong in WRONG:
            changed = copy.deepcopy(content)
            changed[key] = wrong
            yield changed
        changed = copy.deepcopy(content)
        del changed[key]
        yield changed
        if isinstance(content[key], dict | list):
            for inner in spoilt(content[key]):
                changed = copy.deepcopy(content)
                changed[key] = inner
                yield changed


def test_a_history_of_the_watch_with_any_value_of_another_type_is_refused_or_shown(tmp_path):
    path = tmp_path / "history.jsonl"
    append(path, check(1))
    whole = json.loads(path.read_text())
    lines = [json.dumps(one) for one in [whole, *spoilt(whole)]]
    path.write_text("\n".join(lines) + "\n")
    checks, errors = read(path)
    assert len(checks) + len(errors) == len(lines)
    assert {"2"} == {str(error.where).rpartition(" ")[2] for error in errors[:1]}
    assert page(checks, errors, Texts("en"))


def test_an_opinion_with_any_value_of_another_type_is_refused_or_shown(tmp_path):
    said = {"left_out": {"a": "b"}, "not_read": ["c"], "alpha": {"score": 0.5}}
    said |= {"metrics": [Trust("kl", 0.8, 0.5, 0.9, 24, "follows")]}
    said |= {"scales": {"score": (1, 10)}, "chance": {"score": 0.5}, "means": [MeanRating("score", "adapted", 7.5, 7.0, 8.0, 3, 3)]}
    said |= {"preferences": [Preference("score", "base", "adapted", 1.5, 0.5, 2.5, "better")]}
    path = tmp_path / "opinion.json"
    Opinion("title", "hash", "DCASE2023", "score", raters=["x"], **said).write(path)
    whole, refused = json.loads(path.read_text()), 0
    for content in spoilt(whole):
        path.write_text(json.dumps(content))
        try:
            assert render("listening/opinion.html", Texts("en"), opinion=Opinion.read(path))
        except InputError:
            refused += 1
    assert refused > 50
