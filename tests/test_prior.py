"""Prior preservation: what the base generates, when, and what training makes of it."""

from pathlib import Path

import pytest
import torch

from audioldm_lit import seeding
from audioldm_lit.adapters.full import FullFineTune, Scratch
from audioldm_lit.adapters.peft import PeftAdapter
from audioldm_lit.backbone import Backbone
from audioldm_lit.diffusion import NoisePrediction, VelocityPrediction
from audioldm_lit.errors import InputError
from audioldm_lit.inference.generation import BATCH
from audioldm_lit.inference.prompt_file import GENERAL, read_prompts
from audioldm_lit.inference.sampling import Sampler
from audioldm_lit.objectives.base import Objective
from audioldm_lit.objectives.denoising import Epsilon, Velocity
from audioldm_lit.objectives.prior import PriorPreservation

import tiny

NUM_SAMPLES = 10_240
PROMPTS = ["rain", "dog"]
SETTINGS = {"prompts": PROMPTS, "clips": 5, "sampler": Sampler(num_inference_steps=2)}


class Calls:
    """Counts what the UNet is asked."""

    def __init__(self, backbone: Backbone, limit: int = 10**6) -> None:
        self.conds: list[torch.Tensor] = []
        self.limit = limit
        backbone.register_forward_pre_hook(self.hear)

    def hear(self, module, args):
        if len(self.conds) == self.limit:
            raise KeyboardInterrupt
        self.conds.append(args[2])

    def __len__(self):
        return len(self.conds)


class Listening(Objective):
    """An objective that remembers what it was given; every loss is 1."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[tuple[torch.Tensor, torch.Tensor]] = []

    def forward(self, backbone, scheduler, latents, cond, generators):
        self.asked.append((latents, cond))
        return torch.ones(len(latents))


def prepared(backbone: Backbone, folder: Path, **settings) -> PriorPreservation:
    num_samples = settings.pop("num_samples", NUM_SAMPLES)
    objective = PriorPreservation(**{**SETTINGS, **settings})
    objective.prepare(backbone, num_samples, folder)
    return objective


def generators(name="prior", count=3):
    return [seeding.generator(name, i) for i in range(count)]


def batch(backbone):
    latents = torch.randn(3, *backbone.latent_shape(NUM_SAMPLES), generator=torch.Generator().manual_seed(0))
    return backbone, backbone.scheduler, latents, backbone.encode_text(["door"] * 3)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (folder / "prior-2").iterdir()}


def test_clips_are_the_bases_own_of_the_prompts_in_turn(backbone, tmp_path):
    objective = prepared(backbone, tmp_path)
    cond, unconditional = backbone.encode_text([*PROMPTS, *PROMPTS, "rain"]), backbone.encode_text([""])[0]
    each = [seeding.generator("prior", 0, place) for place in range(5)]
    start = seeding.normal(each, backbone.latent_shape(NUM_SAMPLES))
    expected = Sampler(num_inference_steps=2).latents(backbone, cond, unconditional, start, each, NoisePrediction())
    assert torch.allclose(objective.latents, expected, atol=1e-4)
    assert torch.allclose(objective.prompt_embeds, cond, atol=1e-5)


def test_prompts_come_from_a_file_or_are_the_general_ones(tmp_path):
    (tmp_path / "mine.txt").write_text("\nrain\n\n  dog \n", encoding="utf-8-sig")
    assert PriorPreservation(prompts=tmp_path / "mine.txt", clips=3).texts == ["rain", "dog", "rain"]
    general = GENERAL.read_text().splitlines()
    assert PriorPreservation(clips=len(general)).texts == general


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"\n \n", r"^--prompts: is .*mine\.txt, which holds no prompt; give at least one\.$"),
        ("Regen auf dem Dach, Tür".encode("latin-1"), r"^.*mine\.txt: cannot be read \(.*\); save it as UTF-8 text .*\.$"),
    ],
)
def test_a_file_without_prompts_is_refused(tmp_path, content, sentence):
    (tmp_path / "mine.txt").write_bytes(content)
    with pytest.raises(InputError, match=sentence):
        read_prompts(tmp_path / "mine.txt", "--prompts")


def test_clips_are_generated_once(backbone, tmp_path):
    first = prepared(backbone, tmp_path)
    files, calls = contents(tmp_path), Calls(backbone)
    second = prepared(backbone, tmp_path)
    assert len(calls) == 0
    assert contents(tmp_path) == files
    assert torch.equal(first.latents, second.latents)
    assert torch.equal(first.prompt_embeds, second.prompt_embeds)


def test_more_clips_add_to_those_there_are(backbone, tmp_path):
    few, calls = prepared(backbone, tmp_path), Calls(backbone)
    more = prepared(backbone, tmp_path, clips=7)
    assert [len(cond) for cond in calls.conds] == [4, 4]  # two clips, each with and without its prompt
    assert torch.equal(more.latents[:5], few.latents)


def test_an_interruption_keeps_what_was_generated(backbone, tmp_path):
    Calls(backbone, limit=3)  # a batch takes two calls
    with pytest.raises(KeyboardInterrupt):
        prepared(backbone, tmp_path, clips=BATCH + 1)
    fresh = tiny.backbone()
    calls = Calls(fresh)
    prepared(fresh, tmp_path, clips=BATCH + 1)
    assert [len(cond) for cond in calls.conds] == [2, 2]


@pytest.mark.parametrize(
    "adapter",
    [PeftAdapter(options={"r": 2}), PeftAdapter(options={"use_dora": True}), FullFineTune()],
    ids=["lora", "dora", "full"],
)
def test_clips_are_shared_by_adapters_and_seeds(backbone, tmp_path, adapter):
    prepared(backbone, tmp_path)
    torch.manual_seed(1)
    adapter.inject(backbone)
    calls = Calls(backbone)
    prepared(backbone, tmp_path)
    assert len(calls) == 0


@pytest.mark.parametrize(
    "settings",
    [
        {"seed": 1},
        {"prompts": ["cat", "door"]},
        {"sampler": Sampler(num_inference_steps=2, guidance_scale=3.0)},
        {"num_samples": 2 * NUM_SAMPLES},
    ],
    ids=lambda settings: next(iter(settings)),
)
def test_other_settings_generate_other_clips(backbone, tmp_path, settings):
    prepared(backbone, tmp_path)
    calls = Calls(backbone)
    prepared(backbone, tmp_path, **settings)
    assert [len(cond) for cond in calls.conds] == [10, 10]  # five clips, each with and without its prompt


@pytest.mark.parametrize("trains", [False, True], ids=["frozen", "trained"])
@pytest.mark.parametrize("part", ["unet", "text_encoder"])
def test_another_base_generates_other_clips(backbone, tmp_path, part, trains):
    prepared(backbone, tmp_path)
    weight = next(backbone.get_submodule(part).parameters())
    weight.data.view(-1)[0] += 1e-3
    weight.requires_grad_(trains)
    calls = Calls(backbone)
    prepared(backbone, tmp_path)
    assert len(calls) == 2


def test_a_unet_from_scratch_has_a_prior_of_its_own(backbone, tmp_path):
    prepared(backbone, tmp_path)
    Scratch(seed=1).inject(backbone)
    calls = Calls(backbone)
    prepared(backbone, tmp_path)
    assert len(calls) == 2


def test_weight_zero_is_the_objective_inside(backbone, tmp_path):
    losses = prepared(backbone, tmp_path, weight=0.0)(*batch(backbone), generators())
    assert torch.equal(losses, Epsilon()(*batch(backbone), generators()))


def test_loss_is_the_recordings_plus_weight_times_the_priors(backbone, tmp_path):
    plain, once, thrice = (prepared(backbone, tmp_path, weight=w)(*batch(backbone), generators()) for w in (0.0, 1.0, 3.0))
    assert (once > plain).all()
    assert torch.allclose(thrice - plain, 3 * (once - plain), rtol=1e-4)


def test_generated_clips_are_trained_on_with_their_own_prompts(backbone, tmp_path):
    inner = Listening()
    objective = prepared(backbone, tmp_path, objective=inner)
    drawn = set()
    for step in range(20):
        inner.asked.clear()
        losses = objective(*batch(backbone), generators(f"step {step}"))
        assert torch.equal(losses, torch.full((3,), 2.0))
        (latents, cond), prior = inner.asked
        assert torch.equal(latents, batch(backbone)[2])
        assert torch.equal(cond, batch(backbone)[3])
        for one, embed in zip(*prior, strict=True):
            (place,) = (place for place in range(5) if torch.equal(objective.latents[place], one))
            assert torch.equal(embed, objective.prompt_embeds[place])
            drawn.add(place)
    assert drawn == set(range(5))


def test_base_generates_by_what_it_predicts_itself(backbone, tmp_path):
    plain, velocity = prepared(backbone, tmp_path / "a"), prepared(backbone, tmp_path / "b", objective=Velocity())
    assert velocity.prediction == VelocityPrediction()
    assert torch.equal(plain.latents, velocity.latents)


def test_two_priors_add_up(backbone, tmp_path):
    inner = PriorPreservation(**{**SETTINGS, "prompts": ["cat"]})
    outer = prepared(backbone, tmp_path, objective=inner, weight=0.0)
    assert torch.equal(outer(*batch(backbone), generators()), inner(*batch(backbone), generators()))


def test_values_that_are_not_finite_are_refused_and_not_kept(backbone, tmp_path):
    backbone.unet.conv_out.bias.data.fill_(float("nan"))
    with pytest.raises(InputError, match=r"sampler.*not finite"):
        prepared(backbone, tmp_path)
    assert not (tmp_path / "prior-2").exists()


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"clips": 0}, "clips: is 0"),
        ({"weight": -1.0}, "weight: is -1"),
        ({"prompts": []}, "holds no prompt"),
        ({"prompts": [" "]}, "holds no prompt"),
        ({"prompts": Path("missing.txt")}, r"missing\.txt: no such file"),
    ],
)
def test_wrong_settings_are_named(settings, named):
    with pytest.raises(InputError, match=named):
        PriorPreservation(**settings)
