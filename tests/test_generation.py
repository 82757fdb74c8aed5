"""`generate` on many prompts: ended and gone on with, and shared out among processes."""

import json
import os
from pathlib import Path

import pytest
import torch

from audioldm_lit.audio.level import loudness
from audioldm_lit.audio.waveform import read, write
from audioldm_lit.cli import main
from audioldm_lit.inference.manifest import Entry

import tiny
from runs import REPOSITORY

PROMPTS = [f"sound {number}" for number in range(5)]


@pytest.fixture
def words(workdir, tiny_folder) -> list[str]:
    """Five clips of 0.32 s in batches of two."""
    Path("prompts.txt").write_text("\n".join(PROMPTS))
    options = {"prompts": "prompts.txt", "backbone": tiny_folder, "duration": 0.32, "batch_size": 2, "device": "cpu"}
    return [f"--{key}={value}" for key, value in options.items()] + ["--sampler.num_inference_steps=2"]


def clips(folder: str) -> dict[str, bytes]:
    """Every clip of a finished manifest; no other file is there."""
    content = json.loads(Path(folder, "manifest.json").read_text())
    assert "unfinished" not in content
    names = [clip["file"] for clip in content["clips"]]
    assert sorted(os.listdir(folder)) == sorted([*names, "manifest.json"])
    return {name: Path(folder, name).read_bytes() for name in names}


def run(cli, *words: str) -> str:
    status, out, err = cli("generate", *words)
    assert status == 0, err
    return out


def test_the_same_command_goes_on_where_it_was_ended(cli, words):
    run(cli, *words, "--out=whole")
    blocked = Path("ended", Entry(PROMPTS[3], "", 0, 0).file)
    blocked.mkdir(parents=True)
    assert cli("generate", *words, "--out=ended")[0] == 2  # three clips are there
    blocked.rmdir()
    (lines,) = Path("ended").glob("*.jsonl")
    assert len(lines.read_text().splitlines()) == 3
    with lines.open("a") as file:
        file.write('{"file": "cut ')
    status, _, err = cli("evaluate", "--generated", "ended", "--reference", "whole")
    assert (status, "run the same `generate` again" in err) == (2, True)
    written = {path: path.stat().st_mtime_ns for path in Path("ended").glob("*.wav")}
    assert "5 clips of 0.32 s, 3 of them from before," in run(cli, *words, "--out=ended")
    assert {path: path.stat().st_mtime_ns for path in written} == written
    assert clips("ended") == clips("whole")


def test_a_folder_takes_more_prompts_and_no_other_settings(cli, words):
    run(cli, *words, "--out=a")
    before = clips("a")
    (Path("a") / Entry(PROMPTS[0], "", 0, 0).file).unlink()
    run(cli, *words, "--out=a", "--prompt=another")
    assert before.items() <= clips("a").items()
    assert len(clips("a")) == 6
    status, _, err = cli("generate", *words, "--out=a", "--sampler.eta=0.5")
    assert status == 2
    assert "a: holds clips made with sampler.eta 0.0, now it is 0.5; give another --out" in err
    assert len(clips("a")) == 6


def generate(rank: int, folder: Path, words: list[str]) -> None:
    os.chdir(folder)
    main(["generate", *words])


def test_two_processes_make_what_one_makes_bit_for_bit(cli, words, workdir, ranks):
    run(cli, *words, "--out=one")
    ranks(generate, workdir, [*words, "--out=two"])
    assert clips("two") == clips("one")


def test_the_best_candidate_is_the_one_that_clap_hears_the_prompt_in(cli, words, tiny_folder):
    few = [*words[1:], "--prompt", json.dumps(PROMPTS[:2]), "--num_candidates=3"]
    run(cli, *few, "--out=all")
    every = clips("all")
    model = tiny.backbone()
    for name, judging in {"own": [], "named": [f"--judge={tiny_folder}"]}.items():
        run(cli, *few, "--keep=best", f"--out={name}", *judging)
        content = json.loads(Path(name, "manifest.json").read_text())
        assert clips(name).items() <= every.items()
        assert content["judge"] == str(tiny_folder)
        assert content["keep"] == "best of 3"
        for prompt, row in zip(PROMPTS[:2], content["clips"], strict=True):
            heard = [read(Path("all", Entry(prompt, prompt, 0, number).file), 16_000) for number in range(3)]
            cosines = (model.encode_audio(torch.stack(heard)) @ model.encode_text([prompt])[0]).tolist()
            assert row["clap_score"] == pytest.approx(max(cosines), abs=1e-3)  # of the samples before they became 16 bits
            assert cosines[row["candidate"]] == max(cosines)
    run(cli, *few, "--keep=best", "--out=own")
    assert len(clips("own")) == 2


def test_without_an_audio_tower_no_best_is_kept(cli, words, workdir):
    model = tiny.backbone()
    model.audio_encoder = model.feature_extractor = None
    model.save(workdir / "deaf")
    status, _, err = cli("generate", *words, "--backbone=deaf", "--num_candidates=2", "--keep=best", "--out=a")
    assert status == 2
    assert "error: --keep best: deaf has no CLAP audio tower to judge with; give --judge the folder of a CLAP, or" in err
    assert not Path("a").exists()


def test_an_edited_recording_keeps_its_length_unless_another_is_asked_for(cli, words):
    write(Path("sound.wav"), torch.randn(16_000, generator=torch.Generator().manual_seed(0)) * 0.1, 16_000)
    run(cli, *words[:2], *words[3:], "--audio=sound.wav", "--span=[0.3, 0.5]", "--out=edited")
    run(cli, *words, "--audio=sound.wav", "--strength=0.3", "--out=short")
    edited, short = (json.loads(Path(folder, "manifest.json").read_text()) for folder in ("edited", "short"))
    assert (edited["num_samples"], edited["audio"]["strength"], edited["audio"]["span"]) == (16_000, 1.0, [0.3, 0.5])
    assert (short["num_samples"], short["audio"]["strength"], short["audio"]["span"]) == (5_120, 0.3, None)


def test_levels_are_as_asked_and_what_would_clip_is_told(cli, words):
    few = [word for word in words if "duration" not in word and "prompts" not in word] + [
        "--prompt=rain",
        "--sampler.vocoder=griffin_lim",
    ]
    run(cli, *few, "--duration=1.5", "--lufs=-30", "--out=even")
    (file,) = clips("even")
    assert loudness(read(Path("even", file), 16_000).double().numpy(), 16_000) == pytest.approx(-30, abs=0.05)
    status, _, err = cli("generate", *few, "--lufs=0", "--out=loud")
    assert (status, "1 clips would have clipped and were made softer, by up to" in err) == (0, True)
    (row,) = json.loads(Path("loud/manifest.json").read_text())["clips"]
    assert row["softer_db"] > 0
    assert float(read(Path("loud", row["file"]), 16_000).abs().max()) == pytest.approx(1, abs=1e-4)


def test_a_preset_is_a_file_of_which_settings_may_be_changed(cli, words):
    run(cli, *words[:5], "--sampler", str(REPOSITORY / "configs/sampler/draft.yaml"), "--sampler.num_inference_steps=2", "--out=a")
    settings = json.loads(Path("a/manifest.json").read_text())["sampler"]
    assert (settings["num_inference_steps"], settings["cache_interval"], settings["guidance_interval"]) == (2, 2, [0, 700])


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--strength=0.5"], "--strength: says how a recording is edited, and none is given; give --audio FILE"),
        (["--audio=sound.wav", "--strength=1"], "--strength: of 1 keeps nothing of the recording"),
        (["--audio=sound.wav", "--strength=1.5"], "--strength: is 1.5"),
        (["--audio=sound.wav", "--strength=0.0005"], "--strength: of 0.0005 leaves none of the sampler's steps"),
        (["--audio=silence.wav"], "silence.wav: holds no sound"),
        (["--audio=nowhere.wav"], "nowhere.wav: no such file"),
        (["--peak=-1", "--lufs=-20"], "--peak and --lufs: are both given"),
        (["--keep=best"], "--keep best: has one candidate"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(cli, words, options, named):
    write(Path("sound.wav"), torch.ones(8_000).cumsum(0) / 8_000, 16_000)
    write(Path("silence.wav"), torch.zeros(8_000), 16_000)
    status, _, err = cli("generate", *words, "--out=a", *options)
    assert (status, named in err.splitlines()[-1]) == (2, True), err
    assert not Path("a").exists()
