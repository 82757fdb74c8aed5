"""Conditioning: what the files draw, that draws belong to samples, and training on a folder without captions."""

import json
from pathlib import Path
from statistics import NormalDist

import pytest
import soundfile
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from audioldm_lit import seeding
from audioldm_lit.conditioning import Conditioning
from audioldm_lit.data.base import AudioDataModule
from audioldm_lit.data.folder import Folder
from audioldm_lit.diffusion import NoisePrediction
from audioldm_lit.training.held_out_loss import held_out_losses

import layouts
import tiny
from runs import EMBEDDED, REPOSITORY, SHORT, arguments, run_folder, weights

CONFIGS = {path.stem: path for path in sorted((REPOSITORY / "configs" / "conditioning").glob("*.yaml"))}
FOLDER = REPOSITORY / "configs" / "data" / "folder.yaml"
COUNT = 20_000
NOTHING, TEXT, AUDIO = 0.0, 1.0, 2.0
PROBABILITIES = st.floats(0, 1)


def conditioning(name: str) -> Conditioning:
    return Conditioning(**yaml.safe_load(CONFIGS[name].read_text())["init_args"])


def draw(drawn: Conditioning, generators: list[torch.Generator]) -> torch.Tensor:
    """What each sample is conditioned on, (B,) of NOTHING, TEXT and AUDIO."""
    text, audio = (torch.full((len(generators), 1), value) for value in (TEXT, AUDIO))
    return drawn.draw(text, audio, torch.full((1,), NOTHING), generators)[:, 0]


def stream(places: range, seed: int = 0) -> list[torch.Generator]:
    return [seeding.generator(seed, "train", place) for place in places]


# ---------------------------------------------------------------- the files


def reference(batches: int, batch_size: int) -> torch.Tensor:
    """The published training code's draws, (B,): one choice and one dropout a batch, another dropout a sample."""
    generator = torch.Generator().manual_seed(0)
    choice = torch.where(torch.randn(batches, 1, generator=generator) < 0.5, TEXT, AUDIO).expand(batches, batch_size)
    dropped = torch.rand(batches, 1, generator=generator) < 0.1
    dropped = dropped | (torch.rand(batches, batch_size, generator=generator) < 0.1)
    return torch.where(dropped, NOTHING, choice).flatten()


def shares(drawn: torch.Tensor) -> list[float]:
    return [(drawn == value).double().mean().item() for value in (NOTHING, TEXT, AUDIO)]


def test_the_reference_file_has_the_shares_of_the_published_code():
    ours, theirs = shares(draw(conditioning("reference"), stream(range(COUNT)))), shares(reference(400_000, 2))
    assert ours == pytest.approx(theirs, abs=0.015)  # four standard deviations of 20,000 draws
    assert conditioning("reference").audio_probability == pytest.approx(1 - NormalDist().cdf(0.5), abs=1e-4)
    assert conditioning("reference").dropout == pytest.approx(1 - 0.9**2)


@pytest.mark.parametrize(("name", "audio"), [("text", 0.0), ("audio", 1.0), ("mixed", 0.5)])
def test_a_file_draws_what_its_name_says(name, audio):
    drawn = shares(draw(conditioning(name), stream(range(COUNT))))
    assert drawn == pytest.approx([0.1, 0.9 * (1 - audio), 0.9 * audio], abs=0.015)
    assert conditioning(name).needs_audio == (audio > 0)
    assert conditioning(name).needs_captions == (audio < 1)


# ---------------------------------------------------------------- draws


@settings(max_examples=30)
@given(PROBABILITIES, PROBABILITIES, st.integers(0, 1000), st.integers(1, 30), st.data())
def test_a_draw_belongs_to_its_place_whatever_the_batch(audio_probability, dropout, first, count, data):
    drawn = Conditioning(audio_probability, dropout)
    whole = draw(drawn, stream(range(first, first + count)))
    cut = data.draw(st.integers(0, count))
    parts = [draw(drawn, stream(part)) for part in (range(first, first + cut), range(first + cut, first + count)) if part]
    assert torch.equal(torch.cat(parts), whole)
    ranks = [draw(drawn, stream(range(first + rank, first + count, 3))) for rank in range(min(3, count))]
    assert all(torch.equal(whole[rank::3], one) for rank, one in enumerate(ranks))


@settings(max_examples=30)
@given(PROBABILITIES, PROBABILITIES, st.integers(0, 10**6))
def test_no_setting_changes_what_is_drawn_after_it(audio_probability, dropout, seed):
    after = []
    for drawn in (Conditioning(audio_probability, dropout), conditioning("text")):
        generators = stream(range(4), seed)
        draw(drawn, generators)
        after.append(seeding.normal(generators, (3,)))
    assert torch.equal(*after)


@settings(max_examples=30)
@given(PROBABILITIES, PROBABILITIES, st.integers(0, 10**6))
def test_a_higher_probability_moves_samples_to_sound_and_none_back(one, other, seed):
    low, high = (draw(Conditioning(value, 0.0), stream(range(20), seed)) for value in sorted((one, other)))
    assert (low <= high).all()


def test_neighbours_and_dropout_are_independent_of_the_choice():
    kept = draw(Conditioning(0.5, 0.0), stream(range(COUNT))) == AUDIO
    dropped = draw(Conditioning(0.5, 0.5), stream(range(COUNT))) == NOTHING
    for one, two in ((kept[1:], kept[:-1]), (kept, dropped), (dropped[1:], dropped[:-1])):
        correlation = torch.corrcoef(torch.stack([one, two]).double())[0, 1].item()
        assert abs(correlation) < 4 / COUNT**0.5


def test_samples_of_one_batch_choose_each_for_itself():
    batches = draw(conditioning("mixed"), stream(range(8000))).reshape(1000, 8)
    both = ((batches == TEXT).any(dim=1) & (batches == AUDIO).any(dim=1)).double().mean().item()
    assert both == pytest.approx(1 - 2 * 0.55**8 + 0.1**8, abs=0.02)


# ---------------------------------------------------------------- runs


def result(root: Path) -> dict:
    return json.loads((run_folder(root) / "result.json").read_text())


@pytest.mark.nightly
def test_all_files_are_held_to_the_same_question_and_train_differently(workdir, tiny_folder, cli, caplog):
    data = {**layouts.esc50(workdir / "data", takes=1), "shots": 2}
    before, trained = set(), set()
    for name, path in CONFIGS.items():
        status, _, err = cli("fit", *arguments(tiny_folder, data), "--model.conditioning", path)
        assert status == 0, err
        before.add(result(workdir)["held_out_loss_before"])
        found = weights(run_folder(workdir) / "adapter.safetensors").items()
        trained.add(tuple(sorted((weight, value) for weight, value in found if not weight.startswith("memory."))))
        assert ("trained on sound alone, validated on captions" in caplog.text) == (name == "audio")
        caplog.clear()
    assert len(before) == 1
    assert len(trained) == len(CONFIGS)


# ---------------------------------------------------------------- folders without captions


@pytest.fixture
def uncaptioned(workdir) -> dict:
    """Recordings with names that say nothing, and a text that is no caption of one; shown as init_args."""
    for take in range(8):
        layouts.tone(workdir / "data" / f"rec_{take:04d}.wav", 200 + 50 * take, seed=take)
    (workdir / "data" / "rec_0000.txt").write_bytes(b"\xff\xfe not a caption")
    return {"root": workdir / "data", "caption": None}


def options(tiny_folder: Path, data: dict, **settings: object) -> list[str]:
    words = [*arguments(tiny_folder, data, config=FOLDER), "--model.conditioning", str(CONFIGS["audio"])]
    return words + [str(word) for name, value in settings.items() for word in (f"--{name.replace('__', '.')}", value)]


def validation(init_args: dict) -> AudioDataModule:
    data = Folder(**init_args, duration=SHORT)
    data.setup("validate")
    return data


def test_a_folder_without_captions_trains_and_is_validated_tested_and_heard_on_its_sound(
    workdir, tiny_folder, cli, uncaptioned, caplog
):
    status, _, err = cli("fit", *options(tiny_folder, uncaptioned, dials__count=3, audition__count=2))
    assert status == 0, err
    assert "the dials are off: they read what captions sound like" in caplog.text
    clips = validation(uncaptioned).datasets["val"]
    backbone, losses = tiny.backbone(), []
    for index in range(len(clips)):
        waveform = clips.waveform(index)[None]
        mean, cond = backbone.encode_posterior(waveform)[0], backbone.encode_audio(waveform)
        losses.append(held_out_losses(backbone, backbone.scheduler, NoisePrediction(), mean, cond, [clips.id(index)], 1))
    assert result(workdir)["held_out_loss_before"] == pytest.approx(torch.cat(losses).double().mean().item(), rel=1e-3)
    assert result(workdir)["held_out_loss_after"] != result(workdir)["held_out_loss_before"]
    heard = sorted(path.name for path in (run_folder(workdir) / "audition").iterdir())
    held_out = sorted(clip.id for clip in clips.clips)
    assert len(heard) == min(2, len(held_out))
    assert all(one.startswith(clip.removesuffix(".wav")) for one, clip in zip(heard, held_out, strict=False))
    waveforms = {(run_folder(workdir) / "audition" / one / "step-000000.wav").read_bytes() for one in heard}
    assert len(waveforms) == len(heard)
    checkpoint = run_folder(workdir) / "checkpoints" / "last.ckpt"
    status, out, err = cli("test", *options(tiny_folder, uncaptioned), "--ckpt_path", checkpoint)
    assert status == 0, err
    assert "test/loss" in out


@pytest.mark.slow
def test_its_auditions_may_have_prompts(workdir, tiny_folder, cli, uncaptioned):
    assert cli("fit", *options(tiny_folder, uncaptioned, audition__count=1, audition__prompts='["a bell"]'))[0] == 0
    assert [path.name[:6] for path in (run_folder(workdir) / "audition").iterdir()] == ["a_bell"]


@pytest.mark.parametrize(
    ("verb", "changes", "message"),
    [
        ("fit", {"model__conditioning": CONFIGS["text"]}, "caption: is null, but model.conditioning trains on captions"),
        ("fit", {"model__conditioning": CONFIGS["mixed"]}, "caption: is null, but model.conditioning trains on captions"),
        ("test", {"model__conditioning": CONFIGS["reference"]}, "caption: is null, but model.conditioning trains on captions"),
        ("test", {"model__protocol": EMBEDDED}, "caption: is null, so there are no prompts"),
        ("predict", {}, "caption: is null, so there are no prompts"),
        ("fit", {"model__protocol": EMBEDDED, "scores__after_fit": "true"}, "scores.after_fit: needs captions"),
        (
            "fit",
            {"data__init_args__phrasing": REPOSITORY / "configs" / "phrasing" / "templates.yaml"},
            "data.init_args.phrasing: needs captions",
        ),
    ],
)
def test_what_needs_captions_is_refused_before_anything_is_encoded(
    workdir, tiny_folder, cli, uncaptioned, aisfx_at_hand, verb, changes, message
):
    status, _, err = cli(verb, *options(tiny_folder, uncaptioned, **changes))
    assert status == 2
    assert message in err.splitlines()[-1]
    assert not [*workdir.rglob("latents-*"), *workdir.rglob("runs/*/*")]


def test_prepare_asks_no_captions_of_it(workdir, cli, uncaptioned):
    for take in range(8):  # tones are copies of each other to it
        soundfile.write(workdir / "data" / f"rec_{take:04d}.wav", layouts.bursts(take), 16_000)
    words = ["prepare", "--data", "audioldm_lit.data.folder.Folder", "--data.root", workdir / "data", "--json", "findings.json"]
    status, _, err = cli(*words, "--data.caption", "null")
    assert status == 0, err
    assert "caption: " not in (workdir / "findings.json").read_text()


def test_a_table_without_a_caption_column_lists_it(tmp_path):
    rows = [["file", "label", "split"]]
    for number, split in enumerate(["train", "val", "test"]):
        layouts.tone(tmp_path / f"{number}.wav", 440)
        rows.append([f"{number}.wav", "bell", split])
    layouts.write_csv(tmp_path / "metadata.csv", rows)
    data = Folder(tmp_path, caption=None, duration=SHORT)
    data.setup("fit")
    assert {split: [(clip.caption, clip.label) for clip in one.clips] for split, one in data.datasets.items()} == {
        "train": [("", "bell")],
        "val": [("", "bell")],
    }
