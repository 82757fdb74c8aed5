"""The scripts that train the toy model, a step a stage: they go on where they stopped, and say in a sentence what is wrong."""

import csv
import sys
from pathlib import Path

import pytest
import torch

from audioldm_lit.backbone import Backbone
from audioldm_lit.places import REPOSITORY
from audioldm_lit.vocoders.inverse_stft import InverseSTFTVocoder

import layouts

sys.path.insert(0, str(REPOSITORY / "scripts" / "nano"))
import domain_vocoder
import train

import clap
import recordings as foley
import unet


@pytest.fixture
def recordings(workdir, monkeypatch) -> Path:
    """Twelve families of one label with takes in two files, and small banks of windows."""
    monkeypatch.setattr(foley, "HELD_OUT", 4)
    for module, setting, value in ((clap, "WINDOWS", 8), (clap, "WINDOWS_A_LABEL", 1), (clap, "BATCH", 2), (unet, "WINDOWS", 16)):
        monkeypatch.setattr(module, setting, value)
    rows = []
    for number in range(24):
        family, label = f"session {number // 2}", ("bell", "rain")[number % 4 // 2]
        layouts.tone(Path("recordings") / f"{number}.wav", 300 + 40 * number, number, 0.4)
        rows.append({"file": f"{number}.wav", "caption": f"a {label}", "label": label, "family": family, "group": family})
    with (Path("recordings") / "metadata.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return Path("recordings")


def command(monkeypatch, main, *words: object) -> None:
    monkeypatch.setattr(sys, "argv", ["script", *map(str, words)])
    main()


@pytest.mark.nightly
def test_a_stage_goes_on_from_its_state_and_refuses_another_architectures(recordings, monkeypatch, capsys):
    words = ("--data", recordings, "--state", "state", "--minutes", "1e-6")  # a step
    with pytest.raises(SystemExit, match="2"):
        command(monkeypatch, train.main, *words, "--stage", "vocoder")
    assert "vae.pt: is missing, and vocoder needs it; train --stage vae first." in capsys.readouterr().err
    command(monkeypatch, train.main, *words, "--stage", "vae")
    first = capsys.readouterr().out
    assert first.startswith("vae: 1 steps, held-out L1")
    command(monkeypatch, train.main, *words, "--stage", "vae")
    assert capsys.readouterr().out == first  # its time is used up
    torch.save({**torch.load("state/vae.pt"), "vae": {}}, "state/vae.pt")
    with pytest.raises(SystemExit, match="2"):
        command(monkeypatch, train.main, *words, "--stage", "vae")
    assert capsys.readouterr().err.startswith("error: state/vae.pt: holds vae of another architecture; delete it")


@pytest.mark.nightly
def test_all_stages_together_make_a_model(recordings, monkeypatch, capsys):
    command(monkeypatch, train.main, "--data", recordings, "--state", "state", "--out", "model", "--minutes", "1e-6")
    said = capsys.readouterr().out.splitlines()
    assert [line.split(" steps")[0] for line in said] == [f"{stage}: 1" for stage in train.MINUTES]
    assert isinstance(Backbone.load("model").vocoder, InverseSTFTVocoder)


@pytest.mark.parametrize(
    ("mend", "said"),
    [
        (lambda folder: (folder / "metadata.csv").unlink(), "metadata.csv: is missing"),
        (lambda folder: (folder / "metadata.csv").write_text("file,caption\n"), "has no file and no caption and no label"),
        (lambda folder: (folder / "3.wav").unlink(), "3.wav: "),
    ],
)
def test_recordings_that_lack_something_are_named(recordings, monkeypatch, capsys, mend, said):
    mend(recordings)
    with pytest.raises(SystemExit, match="2"):
        command(monkeypatch, train.main, "--data", recordings, "--minutes", "1e-6")
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line


def test_any_model_gets_a_vocoder_of_its_owners_recordings(recordings, tiny_folder, monkeypatch):
    words = ("--model", tiny_folder, "--recordings", recordings, "--out", "own", "--minutes", "1e-6")
    command(monkeypatch, domain_vocoder.main, *words)
    before, after = Backbone.load(tiny_folder), Backbone.load("own")
    assert isinstance(after.vocoder, InverseSTFTVocoder)
    assert before.fingerprint("unet") == after.fingerprint("unet")
