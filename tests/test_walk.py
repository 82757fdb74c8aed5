"""The walks of the README and of the docs: from a folder of recordings as it comes to scores, to answers and to a decision."""

import hashlib
import json
import re
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import soundfile

from audioldm_lit.evaluation.opinion import Opinion
from audioldm_lit.listening.blind_test import BlindTest

from encoded import encode
from layouts import bursts, tone
from panels import answers
from runs import REPOSITORY

FORMATS = {  # file suffix: container and sample format, the last two FFmpeg's
    "wav": ("WAV", "PCM_16"), "WAV": ("WAV", "FLOAT"), "flac": ("FLAC", "PCM_24"), "ogg": ("OGG", "VORBIS"),
    "opus": ("OGG", "OPUS"), "mp3": ("MP3", "MPEG_LAYER_III"), "aiff": ("AIFF", "PCM_16"),
    "au": ("AU", "PCM_16"), "caf": ("CAF", "PCM_16"), "w64": ("W64", "PCM_16"),
    "m4a": ("ipod", "aac"), "wma": ("asf", "wmav2"),
}  # fmt: skip
CLASSES = {"雨音": 8, "足音": 8, "ドアの音": 8, "風 (強い)": 6}
CHEAP = {
    "prepare": [],
    "fit": [
        *("--trainer.max_steps", 1, "--trainer.val_check_interval", 1, "--model.sampler.num_inference_steps", 2),
        *("--audition.count", 1, "--dials.count", 0, "--averages.profiles", "[]"),
        *("--trainer.accelerator", "cpu", "--trainer.precision", "32-true"),
    ],
    "evaluate": ["--device", "cpu", "--json", "scores.json"],
    "generate": ["--sampler.num_inference_steps", 2, "--device", "cpu"],
}  # fmt: skip


def recordings(root: Path) -> Path:
    """30 short recordings in twelve formats, named in Japanese."""
    number = 0
    for name, count in CLASSES.items():
        (root / name).mkdir(parents=True)
        for take in range(count):
            suffix = list(FORMATS)[number % len(FORMATS)]
            container, subtype = FORMATS[suffix]
            path = root / name / f"{name}　テイク{take}.{suffix}"
            if suffix in ("m4a", "wma"):
                encode(path, subtype, bursts(number, 0.6)[None], 16_000, container)
            else:
                soundfile.write(path, bursts(number, 0.6), 16_000, subtype, format=container)
            number += 1
    return root


def walk() -> list[list[str]]:
    """The commands of the README from a folder to scores."""
    text = (REPOSITORY / "README.md").read_text(encoding="utf-8").split("## Your own 40 recordings")[1].split("\n## ")[0]
    return [words for words in commands(text) if words[0] in CHEAP][:4]


def commands(text: str) -> list[list[str]]:
    return [shlex.split(line.split("#")[0]) for line in re.findall(r"python -m audioldm_lit (.+)", text)]


def hashes(root: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in root.rglob("*") if path.is_file()}


@pytest.mark.slow
def test_the_commands_of_the_readme_and_of_the_docs_lead_from_a_folder_to_a_decision(cli, workdir, tiny_folder, aisfx_at_hand):
    root = recordings(workdir / "録音 集")
    before = hashes(root)
    assert len(before) == 30
    printed = {}
    for verb, *words in walk():
        backbone = {"fit": ["--model.backbone", tiny_folder], "evaluate": []}.get(verb, ["--backbone", tiny_folder])
        status, out, err = cli(verb, *[root if word == "DIR" else word for word in words], *CHEAP[verb], *backbone)
        assert status == 0, err
        printed[verb] = out
    run = workdir / "runs" / "recordings" / "version_0"
    assert list(printed) == ["prepare", "fit", "generate", "evaluate"]
    assert printed["fit"].splitlines()[-1] == "Report: runs/recordings/version_0/report.html"
    assert (run / "report.html").read_text(encoding="utf-8").count('<article class="player') >= 2 * len(CLASSES)
    assert "adapted against base" in printed["evaluate"]
    assert len(list((workdir / "generated").glob("*.wav"))) == 1
    assert hashes(root) == before

    # What `fit` scored at its end is what `evaluate --run` finds again from the files that are left.
    scores, after = json.loads(Path("scores.json").read_text()), json.loads((run / "scores.json").read_text())
    for again, name in ((scores, "base"), (scores["compare"], "adapted"), (scores["real"], "real")):
        assert {key: value["value"] for key, value in again["metrics"].items()} == pytest.approx(
            {key: value["value"] for key, value in after[name]["metrics"].items()}, rel=1e-9
        )
    held_out = sum(max(1, round(count / 5)) for count in CLASSES.values()) * 2
    assert scores["passport"]["n_generated"] == held_out == len(list((run / "evaluation" / "adapted").glob("*.wav")))
    decide(cli, run, words=commands((REPOSITORY / "docs" / "walk.md").read_text(encoding="utf-8")))


def decide(cli: Callable[..., tuple[int, str, str]], run: Path, words: list[list[str]]) -> None:
    """Go on from a trained run as the docs say, where people are asked and the model is watched; a copy of it is the newer run."""
    fit, build, merge, report, watch, again, contest = words
    assert fit == again == ["fit", *walk()[1][1:]]
    for language, heard in (
        ("en", "Listeners find adapted better than base"),
        ("ja", "聞き手は adapted を base より良いと評価しました"),
    ):
        status, _, err = cli(*build, "--clips", 3, "--language", language)
        assert status == 0, err
        test = BlindTest.read(Path("test.json"))
        Path("answers").mkdir(exist_ok=True)
        for number in range(3):
            said = answers(test, f"rater {number}", lambda trial, question, item: {"base": 3, "adapted": 6}.get(item.system, 9))
            Path(f"answers/{number}.json").write_text(json.dumps(said))
        for verb in ([*merge, "--device", "cpu"], report):
            status, _, err = cli(*verb, "--language", language)
            assert status == 0, err
        assert heard in Path("opinion.html").read_text(encoding="utf-8")
        assert heard in Path("report.html").read_text(encoding="utf-8")
    assert len(Opinion.read(Path("opinion.json")).metrics) > 0

    tone(Path("NEW/クジラ/1.wav"), 100, sample_rate=4000)
    for take in range(6):
        tone(Path(f"NEW/雨音/{take}.wav"), 200, seed=900 + take)
    shutil.copytree(run, run.with_name("version_1"))
    assert cli(*watch, "--device", "cpu")[0] == 3
    status, _, err = cli(*contest, "--device", "cpu", "--json", "check.json", "--language", "ja")
    assert status == 3, err
    found = json.loads(Path("check.json").read_text())
    assert found["drift"]["new_classes"] == {"クジラ": 1}
    assert ("クジラ/1", "bandwidth") in [(one["clip"], one["what"]) for one in found["drift"]["unlike"]]
    assert (found["contest"]["verdict"], found["contest"]["difference"], found["promoted"]) == ("cannot tell", 0.0, False)
    assert cli(*watch, "--challenger", run)[0] == 2
    assert len(Path("runs/watch/history.jsonl").read_text().splitlines()) == 2
