"""Several adapters at once: equal to sums written by hand."""

import json
from pathlib import Path

import pytest
import torch

from audioldm_lit.adapters.base import Adapter, trainable
from audioldm_lit.adapters.bottleneck import BottleneckAdapter
from audioldm_lit.adapters.file import save_adapter
from audioldm_lit.adapters.full import FullFineTune
from audioldm_lit.adapters.peft import PeftAdapter
from audioldm_lit.backbone import Backbone
from audioldm_lit.blending import Blend, Part, Share
from audioldm_lit.errors import InputError
from audioldm_lit.sampling import Sampler

import tiny

LATENTS = torch.randn(2, 8, 16, 16, generator=torch.Generator().manual_seed(1))
PROMPTS = ["rain", "a dog"]


def write(folder: Path, adapter: Adapter, seed: int, predicts: str = "epsilon") -> tuple[Path, Backbone]:
    """An adapter with random weights in a file, and the model adapted with it."""
    model = tiny.backbone()
    base = model.fingerprint("unet")
    adapter.inject(model)
    generator = torch.Generator().manual_seed(seed)
    for weight in trainable(model).values():
        weight.data += 0.02 * torch.randn(weight.shape, generator=generator)
    path = folder / f"{seed}.safetensors"
    save_adapter(path, adapter, dict(trainable(model)), base, predicts)
    return path, model


@pytest.fixture
def files(tmp_path) -> dict[str, tuple[Path, Backbone]]:
    return {
        "lora": write(tmp_path, PeftAdapter(options={"r": 4}), 1),
        "full": write(tmp_path, FullFineTune(), 2),
        "bottleneck": write(tmp_path, BottleneckAdapter(), 3),
    }


def blend(*shares: Share) -> Blend:
    base = tiny.backbone()
    return Blend(base, [Part.load(share, base) for share in shares])


@torch.no_grad()
def predict(model: Backbone, step: int = 500) -> torch.Tensor:
    return model(LATENTS, torch.full((2,), step), model.encode_text(PROMPTS))


def folded(model: Backbone, adapter: Adapter) -> dict[str, torch.Tensor]:
    adapter.merge(model)
    return {name: weight.detach().double() for name, weight in model.unet.state_dict().items()}


@pytest.mark.parametrize("name", ["lora", "full", "bottleneck"])
def test_strength_one_is_the_adapter_and_zero_the_base(files, name):
    path, adapted = files[name]
    assert torch.allclose(predict(blend(Share(path))), predict(adapted), atol=1e-5)
    assert torch.equal(predict(blend(Share(path, 0.0))), predict(tiny.backbone()))


def test_weights_are_blended_by_their_changes(files):
    (lora, one), (full, other) = files["lora"], files["full"]
    by_hand = tiny.backbone()
    base = {name: weight.double() for name, weight in by_hand.unet.state_dict().items()}
    a, b = folded(one, PeftAdapter()), folded(other, FullFineTune())
    by_hand.unet.load_state_dict({name: (w + 0.5 * (a[name] - w) - 0.25 * (b[name] - w)).float() for name, w in base.items()})
    assert torch.allclose(predict(blend(Share(lora, 0.5), Share(full, -0.25))), predict(by_hand), atol=1e-5)


def test_what_cannot_be_folded_is_blended_in_the_prediction(files):
    (bottleneck, adapted), (lora, other) = files["bottleneck"], files["lora"]
    base = predict(tiny.backbone())
    expected = predict(other) + 0.5 * (predict(adapted) - base)
    assert torch.allclose(predict(blend(Share(bottleneck, 0.5), Share(lora))), expected, atol=1e-5)


def test_an_adapter_acts_from_its_first_timestep_to_below_its_last(files):
    path, adapted = files["lora"]
    model, base = blend(Share(path, timesteps=(200, 600))), tiny.backbone()
    for step in (599, 200, 600, 199, 300):  # back and forth: the weights are put back exactly
        expected = adapted if 200 <= step < 600 else base
        assert torch.allclose(predict(model, step), predict(expected, step), atol=1e-5)
    assert torch.equal(predict(model, 700), predict(base, 700))


def test_rows_at_different_timesteps_are_as_if_alone(files):
    path, adapted = files["lora"]
    model = blend(Share(path, timesteps=(0, 500)))
    with torch.no_grad():
        both = model(LATENTS, torch.tensor([100, 900]), model.encode_text(PROMPTS))
    assert torch.allclose(both[0], predict(adapted, 100)[0], atol=1e-5)
    assert torch.allclose(both[1], predict(tiny.backbone(), 900)[1], atol=1e-5)


def test_a_blend_samples_like_any_model(files):
    path, adapted = files["lora"]
    sampler, keys = Sampler(num_inference_steps=2), [(0, one, 0) for one in PROMPTS]
    heard = []
    for model in (blend(Share(path)), adapted):
        cond, nothing = model.encode_text(PROMPTS), model.encode_text([""])[0]
        heard.append(sampler(model, cond, nothing, keys, 8000))
    assert torch.allclose(*heard, atol=1e-4)


def test_adapters_that_predict_something_else_are_refused_in_a_blend(tmp_path, files):
    path, adapted = write(tmp_path, FullFineTune(), 4, "v_prediction")
    assert torch.allclose(predict(blend(Share(path))), predict(adapted), atol=1e-6)
    with pytest.raises(InputError, match=r"4\.safetensors: predicts v_prediction"):
        blend(Share(path, 0.5))


@pytest.mark.parametrize(
    ("settings", "named"),
    [({"timesteps": (5, 5)}, "timesteps"), ({"timesteps": (0, 1001)}, "timesteps"), ({"strength": float("nan")}, "strength")],
)
def test_wrong_shares_are_named(files, settings, named):
    with pytest.raises(InputError, match=named):
        Share(files["lora"][0], **settings).check()


def test_generate_takes_a_list_with_strengths(workdir, tiny_folder, files, cli):
    shares = [str(files["lora"][0]), {"file": str(files["full"][0]), "strength": 0.5, "timesteps": [200, 1000]}]
    options = ["--backbone", tiny_folder, "--sampler.num_inference_steps", 2, "--duration", 0.5, "--prompt", "rain"]
    status, out, err = cli("generate", *options, "--adapter", json.dumps(shares))
    assert status == 0, err
    assert out.count("effect: ") == 2
    manifest = json.loads((workdir / "generated" / "manifest.json").read_text())
    assert [one["strength"] for one in manifest["adapters"]] == [1.0, 0.5]
    status, _, err = cli("generate", *options, "--adapter", json.dumps([{"file": str(files["lora"][0]), "timesteps": [0, 1]}]))
    assert status == 2
    assert "none of the sampler's timesteps" in err
    status, _, err = cli("generate", *options, "--adapter", "nowhere.safetensors")
    assert status == 2
    assert "nowhere.safetensors: no such file" in err
