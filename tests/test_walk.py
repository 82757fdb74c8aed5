"""The walk of the README: a folder of recordings as it comes, in four commands to an adapter, its sounds and its scores."""

import hashlib
import json
import re
import shlex
from pathlib import Path

import pytest
import soundfile

from encoded import encode
from layouts import bursts
from runs import REPOSITORY

FORMATS = {  # file suffix: container and sample format, the last two FFmpeg's
    "wav": ("WAV", "PCM_16"), "WAV": ("WAV", "FLOAT"), "flac": ("FLAC", "PCM_24"), "ogg": ("OGG", "VORBIS"),
    "opus": ("OGG", "OPUS"), "mp3": ("MP3", "MPEG_LAYER_III"), "aiff": ("AIFF", "PCM_16"),
    "au": ("AU", "PCM_16"), "caf": ("CAF", "PCM_16"), "w64": ("W64", "PCM_16"),
    "m4a": ("ipod", "aac"), "wma": ("asf", "wmav2"),
}  # fmt: skip
CLASSES = {"雨音": 12, "足音": 12, "ドアの音": 12, "風 (強い)": 10}
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
    """46 short recordings in twelve formats, named in Japanese."""
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
    lines = [shlex.split(line.split("#")[0]) for line in re.findall(r"python -m audioldm_lit (.+)", text)]
    return [words for words in lines if words[0] in CHEAP][:4]


def hashes(root: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in root.rglob("*") if path.is_file()}


@pytest.mark.slow
def test_four_commands_of_the_readme_lead_from_a_folder_to_scored_clips(cli, workdir, tiny_folder, aisfx_at_hand):
    root = recordings(workdir / "録音 集")
    before = hashes(root)
    assert len(before) == 46
    commands = walk()
    assert [words[0] for words in commands] == ["prepare", "fit", "generate", "evaluate"]
    for verb, *words in commands:
        backbone = {"fit": ["--model.backbone", tiny_folder], "evaluate": []}.get(verb, ["--backbone", tiny_folder])
        status, out, err = cli(verb, *[root if word == "DIR" else word for word in words], *CHEAP[verb], *backbone)
        assert status == 0, err
    run = workdir / "runs" / "recordings" / "version_0"
    assert "adapted against base" in out
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
