"""Learning from pairs: what raters preferred becomes a table, and of the table's pairs the better side becomes likelier."""

import json
import math

import pytest
import torch
import torch.nn.functional as F
from diffusers.schedulers.scheduling_ddim import DDIMScheduler

from audioldm_lit import seeding
from audioldm_lit.adapters.base import inject, trainable
from audioldm_lit.adapters.peft import PeftAdapter
from audioldm_lit.data.pairs import read_pairs, write_pairs
from audioldm_lit.errors import InputError
from audioldm_lit.listening.answers import read_all
from audioldm_lit.listening.mushra import MUSHRA
from audioldm_lit.listening.preferred import preferred
from audioldm_lit.objectives.preference import DirectPreference

import tiny
from layouts import tone, write_csv
from panels import answers, built
from runs import SHORT

SCHEDULER = DDIMScheduler.from_config(tiny.CONFIGS["scheduler"])


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """Three pairs of a low tone, the better one, and a high tone."""
    folder = tmp_path_factory.mktemp("pairs")
    sounds = [(f"tone {i}", tone(folder / f"low{i}.wav", 200, i), tone(folder / f"high{i}.wav", 3000, i)) for i in range(3)]
    write_pairs(folder / "pairs.csv", sounds)
    return folder / "pairs.csv"


@pytest.fixture
def prepared(pairs, backbone, tmp_path):
    objective = DirectPreference(pairs, beta=100.0)
    objective.prepare(backbone, round(SHORT * backbone.sample_rate), tmp_path)
    inject(PeftAdapter("LoraConfig", {"r": 2, "lora_alpha": 8}, ["all"]), backbone)
    return objective


def generators(step=0):
    return [seeding.placed(step, place) for place in range(4)]


def losses(objective, backbone, step=0):
    latents = torch.zeros(4, *objective.better.shape[1:])
    return objective(backbone, SCHEDULER, latents, torch.zeros(4, objective.prompt_embeds.shape[1]), generators(step))


def errors(objective, model, side, chosen, noise, steps):
    """Squared errors of the noise, as the formula of the schedule has them."""
    kept = SCHEDULER.alphas_cumprod[steps][:, None, None, None]
    noisy = kept.sqrt() * side[chosen] + (1 - kept).sqrt() * noise
    return (model(noisy, steps, objective.prompt_embeds[chosen]) - noise).square().mean(dim=(1, 2, 3))


def test_the_loss_is_that_of_the_paper_on_the_same_noise_for_both_sounds(prepared, backbone):
    assert losses(prepared, backbone).tolist() == pytest.approx([2 / 100 * math.log(2)] * 4)  # still the base
    for weight in trainable(backbone).values():
        weight.data += 0.05 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(1))
    drawn = generators()
    chosen = (seeding.uniform(drawn) * 3).long()
    noise = seeding.normal(drawn, prepared.better.shape[1:])
    steps = (seeding.uniform(drawn) * 1000).long()
    ours, base = (
        [errors(prepared, model, side, chosen, noise, steps) for side in (prepared.better, prepared.worse)]
        for model in (backbone, prepared.base)
    )
    expected = -F.logsigmoid(-100 * ((ours[0] - base[0]) - (ours[1] - base[1]))) * 2 / 100
    assert torch.allclose(losses(prepared, backbone), expected, rtol=1e-4, atol=1e-7)


def test_training_makes_the_better_sound_likelier_beside_the_worse_one(prepared, backbone):
    optimizer = torch.optim.Adam(trainable(backbone).values(), lr=3e-3)
    began = torch.stack([losses(prepared, backbone, 1000 + step) for step in range(5)]).mean()
    for step in range(15):
        optimizer.zero_grad()
        losses(prepared, backbone, step).mean().backward()
        optimizer.step()
    assert torch.stack([losses(prepared, backbone, 1000 + step) for step in range(5)]).mean() < 0.8 * began  # pairs and noise anew
    assert not any(weight.requires_grad for weight in prepared.base.parameters())


def test_what_raters_ordered_is_a_table_and_even_sounds_and_references_are_not_in_it(tmp_path):
    test = built(tmp_path / "clips", MUSHRA()).test
    even = test.asked[0].clip

    def opinion(trial, question, item):
        return {"reference": 100, "anchor": 20, "base": 50, "adapted": 50 if trial.clip == even else 70}[item.system]

    (tmp_path / "answers").mkdir()
    for rater in ("Anna", "Ben"):
        (tmp_path / "answers" / f"{rater}.json").write_text(json.dumps(answers(test, rater, opinion)))
    found = list(preferred(test, read_all([tmp_path / "answers"], test)[0]))
    rated = {trial.clip for trial in test.asked if trial.kind == "rated"}
    assert len(found) == len(rated - {even}) == 1
    write_pairs(tmp_path / "pairs.csv", found)
    (pair,) = read_pairs(tmp_path / "pairs.csv")
    assert [path.parent.name for path in (pair.better, pair.worse)] == ["adapted", "base"]
    assert pair.better.name == pair.worse.name


@pytest.mark.parametrize(("rows", "sentence"), [
    ([], "lists no pair"), ([["x", "a.wav", "gone.wav"]], "gone.wav is not there"), ([["x", "a.wav", "a.wav"]], "than itself"),
])  # fmt: skip
def test_a_table_that_cannot_be_learnt_from_is_refused(rows, sentence, tmp_path):
    tone(tmp_path / "a.wav", 300)
    write_csv(tmp_path / "pairs.csv", [["caption", "better", "worse"], *rows])
    with pytest.raises(InputError, match=sentence):
        read_pairs(tmp_path / "pairs.csv")
    with pytest.raises(InputError, match="no such file of pairs"):
        DirectPreference(tmp_path / "none.csv")
