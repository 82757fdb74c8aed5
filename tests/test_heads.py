"""The heads of a published UNet's attention: as its folder says, or as the original code has them."""

import shlex

import pytest
import torch

from audioldm_lit.adapters.base import trainable
from audioldm_lit.adapters.files.adapter_file import load_adapter, save_adapter
from audioldm_lit.adapters.files.layout import AdapterFile, MergedModel
from audioldm_lit.adapters.peft import PeftAdapter
from audioldm_lit.backbone import Backbone
from audioldm_lit.diffusion import NoisePrediction
from audioldm_lit.errors import InputError
from audioldm_lit.networks.published import heads_settings, original_heads

import layouts
import tiny
from runs import arguments, run_folder

S, M, L = ([width * factor for factor in (1, 2, 3, 5)] for width in (128, 192, 256))
DOWN = ["DownBlock2D", *["CrossAttnDownBlock2D"] * 3]


def unet(widths, **settings):
    return {"block_out_channels": widths, "down_block_types": DOWN, **settings}


@pytest.mark.parametrize(("widths", "heads"), [(S, [4, 8, 12, 20]), (M, [6, 12, 18, 30]), (L, [4, 8, 12, 20])])
def test_the_original_heads_of_the_published_models(widths, heads):
    assert original_heads(unet(widths), "unet") == heads
    assert heads_settings(unet(widths), "original", "unet") == {"attention_head_dim": heads}  # 8 where nothing is said
    assert heads_settings(unet(widths, attention_head_dim=8), "as_saved", "unet") == {}


def test_a_folder_that_says_them_already_is_left_as_it_is():
    for said in ([4, 8, 12, 20], [99, 8, 12, 20]):  # there is no attention at the first level
        assert heads_settings(unet(S, attention_head_dim=said), "original", "unet") == {}


def test_widths_that_no_original_model_has_are_refused():
    with pytest.raises(InputError, match=r"levels of \[32, 40\] channels.*as_saved"):
        original_heads({"block_out_channels": [32, 40]}, "unet")


def test_the_weights_stay_and_what_is_computed_and_its_fingerprint_change(tiny_folder):
    saved, original = Backbone.load(tiny_folder), Backbone.load(tiny_folder, "original")
    ours, theirs = saved.unet.state_dict(), original.unet.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert {module.heads for module in original.unet.modules() if hasattr(module, "heads")} == {2}  # 64 channels
    x, cond = torch.ones(1, 8, 16, 16), torch.ones(1, 32)
    x += torch.linspace(0, 3, x.numel()).view_as(x).sin()
    outputs = [model(x, torch.tensor([500]), cond) for model in (saved, original)]
    assert not torch.allclose(*outputs, atol=1e-4)
    assert saved.fingerprint("unet") != original.fingerprint("unet")


def test_an_adapter_stays_with_its_heads_and_a_folded_one_takes_them_along(tiny_folder, tmp_path):
    original = Backbone.load(tiny_folder, "original")
    base, adapter, file = original.fingerprint("unet"), PeftAdapter(), tmp_path / "adapter.safetensors"
    adapter.inject(original)
    save_adapter(file, adapter, dict(trainable(original)), base, NoisePrediction())
    with pytest.raises(InputError, match="with the same heads"):
        load_adapter(file, tiny.backbone())
    MergedModel().write(tmp_path / "merged", AdapterFile().read(file, Backbone.load(tiny_folder, "original")))
    assert Backbone.load(tmp_path / "merged").fingerprint("unet") == base


def test_a_run_keeps_its_heads_to_its_end_and_its_card_says_so(cli, tiny_folder, workdir):
    data = layouts.esc50(workdir / "esc50", takes=1)
    status, _, err = cli("fit", *arguments(tiny_folder, {**data, "shots": 1, "batch_size": 1}, 1), "--model.heads", "original")
    assert status == 0, err
    adapter = run_folder(workdir) / "adapter.safetensors"
    command = shlex.split(adapter.with_suffix(".md").read_text().partition("```bash\n")[2].partition("\n```")[0])[3:]
    command = [{tiny_folder.name: tiny_folder, adapter.name: adapter}.get(word, word) for word in command]
    few = ("--sampler.num_inference_steps", 1, "--duration", 0.16)
    status, _, err = cli(*command, *few)
    assert status == 0, err
    status, _, err = cli(*(word for word in command if word not in ("--heads", "original")), *few)
    assert status == 2
    assert "with the same heads" in err
