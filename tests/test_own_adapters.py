"""What each of the project's own adapters claims beyond the conformance suite."""

import re
from pathlib import Path

import pytest
import torch
import yaml
from diffusers import UNet2DConditionModel
from diffusers.models.resnet import ResnetBlock2D
from hypothesis import given
from hypothesis import strategies as st

from audioldm_lit import seeding
from audioldm_lit.adapters.base import trainable
from audioldm_lit.adapters.bottleneck import BottleneckAdapter
from audioldm_lit.adapters.files.adapter_file import load_adapter, save_adapter
from audioldm_lit.adapters.full import FullFineTune, Scratch
from audioldm_lit.adapters.partial import PartialFineTune
from audioldm_lit.adapters.peft import PeftAdapter
from audioldm_lit.adapters.text_head import TextHead
from audioldm_lit.adapters.textual_inversion import TextualInversion
from audioldm_lit.backbone import Backbone
from audioldm_lit.diffusion import NoisePrediction
from audioldm_lit.errors import InputError
from audioldm_lit.objectives.denoising import Epsilon
from audioldm_lit.places import NANO

import tiny

CONFIGS = Path(__file__).parent.parent / "configs" / "adapter"
SMALL = {  # the UNet of the published audioldm-s-full-v2
    **tiny.CONFIGS["unet"], "sample_size": 128, "layers_per_block": 2, "norm_num_groups": 32, "attention_head_dim": 8,
    "block_out_channels": [128, 256, 384, 640], "cross_attention_dim": [128, 256, 384, 640],
    "down_block_types": ["DownBlock2D"] + 3 * ["CrossAttnDownBlock2D"], "projection_class_embeddings_input_dim": 512,
    "up_block_types": 3 * ["CrossAttnUpBlock2D"] + ["UpBlock2D"],
}  # fmt: skip
LATENTS = torch.randn(2, 8, 16, 16, generator=torch.Generator().manual_seed(1))
TIMESTEPS = torch.tensor([10, 700])
PLAIN = tiny.tokenizer()


def predict(backbone: Backbone, captions=("rain", "dog")) -> torch.Tensor:
    with torch.no_grad():
        return backbone(LATENTS, TIMESTEPS, backbone.encode_text(captions))


def disturb(backbone: Backbone) -> None:
    generator = torch.Generator().manual_seed(2)
    for weight in trainable(backbone).values():
        weight.data += 0.1 * torch.randn(weight.shape, generator=generator)


@pytest.mark.parametrize(
    "adapter",
    [FullFineTune(), FullFineTune(0.1), PartialFineTune([r".*\.bias"]), BottleneckAdapter(), TextHead(), TextualInversion()],
    ids=lambda adapter: type(adapter).__name__,
)
def test_output_starts_at_the_base_to_the_last_bit(adapter, backbone):
    base = predict(backbone)
    adapter.inject(backbone)
    assert torch.equal(predict(backbone), base)


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: FullFineTune(-1.0), "l2_sp: is -1.0"),
        (lambda: FullFineTune(float("nan")), "l2_sp: is nan"),
        (lambda: PartialFineTune([]), "weights: is empty"),
        (lambda: PartialFineTune(["("]), r"'\(' is no regular expression"),
        (lambda: BottleneckAdapter(0), "reduction: is 0"),
        (lambda: TextualInversion("mine"), "token: is 'mine'"),
        (lambda: TextualInversion(initial=" "), "initial: is empty"),
        (lambda: TextualInversion(num_vectors=0), "num_vectors: is 0"),
    ],
)
def test_wrong_settings_are_named(make, named):
    with pytest.raises(InputError, match=named):
        make()


# ---------------------------------------------------------------------- L2-SP


def test_penalty_is_half_alpha_times_the_squared_distance(backbone):
    adapter = FullFineTune(l2_sp=0.3)
    adapter.inject(backbone)
    assert adapter.penalty(backbone).item() == 0
    start = {name: weight.detach().double().clone() for name, weight in trainable(backbone).items()}
    disturb(backbone)
    squares = [(weight.double() - start[name]).square().sum() for name, weight in trainable(backbone).items()]
    penalty = adapter.penalty(backbone)
    assert penalty.item() == pytest.approx(0.15 * sum(squares).item(), rel=1e-5)
    penalty.backward()
    for name, weight in trainable(backbone).items():
        assert torch.allclose(weight.grad, 0.3 * (weight - start[name].float()), rtol=1e-5, atol=1e-8)


def test_no_pull_costs_no_memory(backbone):
    adapter = FullFineTune()
    adapter.inject(backbone)
    disturb(backbone)
    assert adapter.penalty(backbone) == 0
    assert not adapter.start


def test_pull_goes_to_the_base_when_a_run_is_resumed(backbone):
    adapter, resumed = FullFineTune(0.3), FullFineTune(0.3)
    adapter.inject(backbone)
    disturb(backbone)
    other = tiny.backbone()
    resumed.inject(other)
    weights = trainable(backbone)
    for name, weight in trainable(other).items():
        weight.data.copy_(weights[name])
    assert resumed.penalty(other).item() == adapter.penalty(backbone).item()


# ---------------------------------------------------------------------- partial


@pytest.mark.parametrize("config", ["partial", "text_path", "bitfit"])
def test_shipped_choices_exist_in_every_published_shape(config):
    init_args = yaml.safe_load((CONFIGS / f"{config}.yaml").read_text())["init_args"]
    small = tiny.backbone()
    with torch.device("meta"):  # the shape without the 185 million weights
        small.unet = UNet2DConditionModel.from_config(SMALL).requires_grad_(False)
    for backbone in (tiny.backbone(), Backbone.load(NANO), small):
        PartialFineTune(**init_args).inject(backbone)
        names = {name.removeprefix("unet.") for name in trainable(backbone)}
        weights = dict(backbone.unet.named_parameters())
        expected = {
            "partial": {name for name in weights if not name.startswith(("conv_in", "time_emb", "class_emb", "down_blocks"))},
            "text_path": {name for name in weights if "class_embedding" in name or "time_emb_proj" in name},
            "bitfit": {name for name in weights if name.endswith("bias")},
        }
        assert names == expected[config]


@pytest.mark.nightly
@pytest.mark.parametrize(("width", "heads", "millions"), [(128, 8, 185.0), (192, 8, 416.0), (256, 8, 739.1)], ids="SML")
def test_a_unet_of_every_published_size_takes_a_step_and_what_it_learned_is_loaded_again(width, heads, millions, tmp_path):
    def base() -> Backbone:
        backbone, widths = tiny.backbone(), [width * factor for factor in (1, 2, 3, 5)]
        with torch.random.fork_rng():
            torch.manual_seed(0)
            size = {"block_out_channels": widths, "cross_attention_dim": widths, "attention_head_dim": heads}
            backbone.unet = UNet2DConditionModel.from_config({**SMALL, **size})
        return backbone.requires_grad_(False).eval()

    backbone, adapter, cond = base(), PeftAdapter(), torch.nn.functional.normalize(torch.ones(2, 512), dim=1)
    assert round(sum(weight.numel() for weight in backbone.unet.parameters()) / 1e6, 1) == millions
    with torch.no_grad():
        before = backbone(LATENTS, TIMESTEPS, cond)
    fingerprint = backbone.fingerprint("unet")
    adapter.inject(backbone)
    optimizer = torch.optim.AdamW(trainable(backbone).values(), lr=1e-2)
    generators = [seeding.generator("sizes", row) for row in range(2)]
    Epsilon()(backbone, backbone.scheduler, LATENTS, cond, generators).mean().backward()
    optimizer.step()
    with torch.no_grad():
        after = backbone(LATENTS, TIMESTEPS, cond)
    assert (after - before).norm() > 1e-3 * before.norm()
    save_adapter(tmp_path / "adapter.safetensors", adapter, trainable(backbone), fingerprint, NoisePrediction())
    load_adapter(tmp_path / "adapter.safetensors", again := base())
    with torch.no_grad():
        assert torch.equal(again.eval()(LATENTS, TIMESTEPS, cond), after)


def test_a_pattern_must_match_a_whole_name(backbone):
    with pytest.raises(InputError, match=re.escape("'mid_block' matches no weight")):
        PartialFineTune(["conv_in.*", "mid_block"]).inject(backbone)


# ---------------------------------------------------------------------- bottleneck


def test_every_residual_block_gets_a_bottleneck_and_keeps_its_names(backbone):
    base = backbone.unet.state_dict().keys()
    blocks = [module for module in backbone.unet.modules() if isinstance(module, ResnetBlock2D)]
    BottleneckAdapter(reduction=8).inject(backbone)
    added = backbone.unet.state_dict().keys() - base
    assert base <= backbone.unet.state_dict().keys()
    assert added == {name.removeprefix("unet.") for name in trainable(backbone)}
    assert len(added) == 4 * len(blocks)
    for block in blocks:
        assert block.bottleneck.down.weight.shape == (block.out_channels // 8, block.out_channels, 1, 1)


def test_a_bottleneck_is_narrow_but_never_empty(backbone):
    BottleneckAdapter(reduction=1000).inject(backbone)
    assert all(weight.numel() > 0 for weight in trainable(backbone).values())


def test_a_block_adds_what_its_bottleneck_says(backbone):
    block = next(module for module in backbone.unet.modules() if isinstance(module, ResnetBlock2D))
    hidden, temb = torch.randn(2, block.in_channels, 4, 4), torch.randn(2, block.time_emb_proj.in_features)
    base = block(hidden, temb)
    BottleneckAdapter().inject(backbone)
    disturb(backbone)
    down, up = block.bottleneck.down, block.bottleneck.up
    inner = torch.einsum("oi,bihw->bohw", down.weight[:, :, 0, 0], base) + down.bias[:, None, None]
    inner = inner * torch.sigmoid(inner)
    expected = base + torch.einsum("oi,bihw->bohw", up.weight[:, :, 0, 0], inner) + up.bias[:, None, None]
    assert torch.allclose(block(hidden, temb), expected, atol=1e-5)


# ---------------------------------------------------------------------- text head


def test_text_head_folds_into_the_base_s_own_weights(backbone):
    base = backbone.unet.state_dict()
    shapes = {name: weight.shape for name, weight in base.items()}
    untouched = {name: weight.clone() for name, weight in base.items() if "class_embedding" not in name}
    adapter = TextHead()
    adapter.inject(backbone)
    disturb(backbone)
    before = predict(backbone)
    adapter.merge(backbone)
    merged = backbone.unet.state_dict()
    assert {name: weight.shape for name, weight in merged.items()} == shapes
    assert all(torch.equal(merged[name], weight) for name, weight in untouched.items())
    assert torch.allclose(predict(backbone), before, atol=1e-5)


def test_text_head_changes_what_every_caption_does(backbone):
    base = predict(backbone)
    TextHead().inject(backbone)
    disturb(backbone)
    assert ((predict(backbone) - base).abs().amax(dim=(1, 2, 3)) > 1e-4).all()


# ---------------------------------------------------------------------- textual inversion


@pytest.fixture(params=[1, 3], ids=["1 vector", "3 vectors"])
def inversion(request) -> TextualInversion:
    return TextualInversion(num_vectors=request.param)


def taught(num_vectors: int):
    """The tiny model's tokenizer after injection."""
    backbone = tiny.backbone()
    TextualInversion(num_vectors=num_vectors).inject(backbone)
    return backbone.tokenizer


WORDS = st.text(max_size=20).filter(lambda text: not text.rstrip(" ")[-1:].isspace())  # kinds of space are another matter
TAUGHT = {num_vectors: taught(num_vectors) for num_vectors in (1, 3)}


@pytest.mark.parametrize("num_vectors", TAUGHT)
@given(text=st.text(max_size=40).filter(lambda text: "<mine" not in text))
def test_other_text_is_tokenised_as_before(num_vectors, text):
    assert TAUGHT[num_vectors](text).input_ids == PLAIN(text).input_ids


@pytest.mark.parametrize("num_vectors", TAUGHT)
@given(before=WORDS, after=st.text(max_size=20))
def test_the_word_is_its_tokens_anywhere_in_a_sentence(num_vectors, before, after):
    ids = TAUGHT[num_vectors](f"{before}<mine>{after}").input_ids
    new = list(range(len(PLAIN), len(PLAIN) + num_vectors))
    start = ids.index(new[0])
    assert ids[start : start + num_vectors] == new
    assert ids[:start] == PLAIN(before.rstrip(" ")).input_ids[:-1]  # without </s>
    assert ids[start + num_vectors :] == PLAIN(after).input_ids[1:]  # without <s>


def test_the_word_is_one_token_in_a_tokenizer_that_adds_spaces():
    backbone = Backbone.load(NANO)
    plain = backbone.tokenizer("the sound of rain").input_ids
    TextualInversion().inject(backbone)
    assert backbone.tokenizer("the sound of <mine> rain").input_ids == [*plain[:-2], len(backbone.tokenizer) - 1, *plain[-2:]]


def test_new_rows_start_at_the_mean_of_the_initial_word(backbone, inversion):
    table = backbone.text_encoder.text_model.embeddings.word_embeddings.weight
    expected = torch.stack([table[index] for index in PLAIN(" sound", add_special_tokens=False).input_ids]).mean(dim=0)
    inversion.inject(backbone)
    (rows,) = trainable(backbone).values()
    assert rows.shape == (inversion.num_vectors, 32)
    assert torch.allclose(rows, expected.expand_as(rows), atol=1e-6)


def test_only_captions_with_the_word_are_embedded_anew(backbone, inversion):
    inversion.inject(backbone)
    cached = torch.nn.functional.normalize(torch.randn(3, 32), dim=-1)
    captions = ["a dog", "rain on <mine>", "<mine>"]
    embeds = inversion.prompt_embeds(backbone, captions, cached)
    assert torch.equal(embeds[0], cached[0])
    assert torch.equal(embeds[1:], backbone.embed_text(captions[1:]))
    embeds.square()[:, 0].sum().backward()
    (rows,) = trainable(backbone).values()
    assert (rows.grad.abs().amax(dim=1) > 0).all()


def test_training_without_the_word_is_refused_with_the_mend(backbone, inversion):
    inversion.inject(backbone)
    embeds = backbone.encode_text(["a dog", "rain"])
    with pytest.raises(InputError, match=re.escape('data.init_args.caption: "<mine> {label}"')):
        inversion.prompt_embeds(backbone, ["a dog", "rain"], embeds)
    with torch.no_grad():
        assert inversion.prompt_embeds(backbone, ["a dog", "rain"], embeds) is embeds


def test_a_word_that_the_tokenizer_has_is_refused(backbone):
    with pytest.raises(InputError, match="already has <mask>"):
        TextualInversion("<mask>").inject(backbone)
    TextualInversion("<mine>").inject(backbone)
    with pytest.raises(InputError, match="already has <mine>"):
        TextualInversion("<mine>").inject(backbone)


def test_two_words_live_side_by_side(backbone):
    TextualInversion("<mine>").inject(backbone)
    embeds = backbone.encode_text(["<mine>", "rain"])
    TextualInversion("<yours>", initial="rain", num_vectors=2).inject(backbone)
    assert torch.equal(backbone.encode_text(["<mine>", "rain"]), embeds)
    disturb(backbone)
    mine, yours = backbone.encode_text(["<mine>"]), backbone.encode_text(["<yours>"])
    assert not torch.allclose(mine, yours)


def test_a_file_gives_the_word_back(backbone, inversion, tmp_path):
    inversion.inject(backbone)
    disturb(backbone)
    save_adapter(tmp_path / "a.safetensors", inversion, trainable(backbone), backbone.fingerprint("unet"), NoisePrediction())
    fresh = tiny.backbone()
    adapter, _ = load_adapter(tmp_path / "a.safetensors", fresh)
    prompts = ["<mine>", "rain, <mine> and a dog", "rain"]
    assert torch.equal(fresh.encode_text(prompts), backbone.encode_text(prompts))
    adapter.merge(fresh)
    assert torch.equal(fresh.encode_text(prompts), backbone.encode_text(prompts))


def test_a_merged_word_is_saved_with_the_model(backbone, tmp_path):
    adapter = TextualInversion()
    adapter.inject(backbone)
    disturb(backbone)
    prompts = ["rain, <mine> and a dog", "rain"]
    embeds = backbone.encode_text(prompts)
    adapter.merge(backbone)
    backbone.save(tmp_path)
    assert torch.equal(Backbone.load(tmp_path).encode_text(prompts), embeds)


# ---------------------------------------------------------------------- scratch


def test_scratch_depends_on_its_seed_alone(backbone):
    Scratch(seed=1).inject(backbone)
    torch.manual_seed(5)
    same, other = tiny.backbone(seed=3), tiny.backbone()
    Scratch(seed=1).inject(same)
    Scratch(seed=2).inject(other)
    assert same.fingerprint("unet") == backbone.fingerprint("unet") != other.fingerprint("unet")
