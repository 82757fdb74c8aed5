"""`prepare DIR` and `fit --folder DIR`: what they stand for."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audioldm_lit.assets.finding import find_model
from audioldm_lit.errors import InputError
from audioldm_lit.first_look import first_look
from audioldm_lit.places import NANO
from audioldm_lit.short_way import fitting, spelt_out, window, with_duration, with_length

import layouts

S, M, L = ([first * factor for factor in (1, 2, 3, 5)] for first in (128, 192, 256))


@given(st.lists(st.floats(0.01, 100), min_size=1, max_size=60), st.sampled_from([0.64, 5.12, 10.24]))
def test_the_duration_is_the_shortest_that_holds_nine_of_ten(seconds, longest):
    chosen = fitting(seconds, longest)
    allowed = [longest / 8, longest / 4, longest / 2, longest]
    holding = [short for short in allowed if sum(one <= short + 0.01 for one in seconds) >= 0.9 * len(seconds)]
    assert chosen == min(holding, default=longest)


@pytest.mark.parametrize("name", [NANO, "tiny"])
def test_a_model_s_length_is_read_without_loading_it(name, tiny_folder):
    from audioldm_lit.backbone import Backbone

    folder = tiny_folder if name == "tiny" else find_model(name)
    assert window(folder) == pytest.approx(Backbone.load(folder).window, rel=1e-12)


def test_published_models_were_trained_on_10_24_s_whatever_their_converter_wrote(tmp_path):
    parts = {
        "vae": {"block_out_channels": [128, 256, 512]},
        "vocoder": {"upsample_rates": [5, 4, 2, 2, 2], "sampling_rate": 16_000},
    }
    for levels, said, seconds in [(S, 128, 10.24), (M, 128, 10.24), (L, 128, 10.24), (S, 64, 2.56), ([32, 64, 128], 128, 5.12)]:
        for part, config in {**parts, "unet": {"sample_size": said, "block_out_channels": levels}}.items():
            (tmp_path / part).mkdir(exist_ok=True)
            (tmp_path / part / "config.json").write_text(json.dumps(config))
        assert window(tmp_path) == seconds


def test_clips_are_as_long_as_the_model_was_trained_on_where_nothing_else_is_said(tiny_folder, tmp_path, capsys):
    file = tmp_path / "data.yaml"
    file.write_text("data: {class_path: audioldm_lit.data.esc50.ESC50, init_args: {root: .}}")
    words = ["fit", "--config", str(file), "--model.backbone", str(tiny_folder)]
    assert with_length(words, first_look("fit", words[1:])) == [*words, "--data.init_args.duration", "0.64"]
    assert "0.64 s a clip, the length that this model was trained on" in capsys.readouterr().err
    for more in (["--data.init_args.duration", "0.32"], ["--data.duration=0.32"], ["--data", "mine.Sounds"], ["--print_config"]):
        assert with_length([*words, *more], first_look("fit", [*words, *more][1:])) == [*words, *more]
    assert with_length(words[:-2], first_look("fit", words[1:-2])) == words[:-2]


def test_the_short_way_is_spelt_out_where_it_stands_and_nothing_else_is_touched():
    folder = ["--data", "audioldm_lit.data.folder.Folder", "--data.init_args.root"]
    assert spelt_out(["prepare", "音", "--fix"]) == (["prepare", *folder, "音", "--fix"], True)
    words, short = spelt_out(["fit", "--model.seed", "3", "--folder", "a b", "--trainer.max_steps=2"])
    assert short
    assert Path(words[2]).name == "short_way.yaml"
    assert words[3:] == ["--data.init_args.root", "a b", "--model.seed", "3", "--trainer.max_steps=2"]
    assert spelt_out(["fit", "--folder=a b"])[0][3:] == ["--data.init_args.root", "a b"]
    for words in (
        ["prepare", "--data", "mine.Sounds"],
        ["prepare"],
        ["fit", "--config", "x.yaml"],
        ["generate", "--out", "--folder"],
    ):
        assert spelt_out(words) == (words, False)
    with pytest.raises(InputError, match="use --folder DIR"):
        spelt_out(["fit", "--folder", "--trainer.max_steps", "3"])


def test_a_folder_may_be_called_like_an_option(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("-20 dB").mkdir()
    for words in (["prepare", "-20 dB"], ["fit", "--folder", "-20 dB"], ["plan", "--folder=-20 dB"]):
        assert spelt_out(words)[0][-1] == "./-20 dB"


def test_the_duration_is_chosen_from_the_recordings_unless_it_is_given(tmp_path, tiny_folder, capsys):
    for number in range(10):
        layouts.tone(tmp_path / "rain 音" / f"{number}.wav", 300, seed=number, duration=1.0 if number == 9 else 0.25)
    words = spelt_out(["fit", "--folder", str(tmp_path / "rain 音"), "--model.backbone", str(tiny_folder)])[0]
    assert with_duration(words)[5:7] == ["--data.init_args.duration", "0.32"]
    said = capsys.readouterr().err
    assert "0.32 s a clip: 9 of 10 recordings are no longer" in said
    assert f"= python -m audioldm_lit fit --config {words[2]} --data.init_args.root '{tmp_path}/rain 音' --data" in said
    given = [*words, "--data.init_args.duration", "0.64"]
    assert with_duration(given) == given
