"""LoRA at a lower rank: the nearest by numpy's singular values, what is lost is said, and DyLoRA keeps its first ranks."""

import json

import numpy as np
import pytest
import torch

from audioldm_lit.adapters.base import Adapter, trainable
from audioldm_lit.adapters.dylora import DyLoRA
from audioldm_lit.adapters.files.adapter_file import load_adapter, read_about, save_adapter
from audioldm_lit.adapters.files.card import About
from audioldm_lit.adapters.full import FullFineTune
from audioldm_lit.adapters.peft import PeftAdapter
from audioldm_lit.adapters.peft_internals import low_rank_factors
from audioldm_lit.adapters.resizing import overall
from audioldm_lit.backbone import Backbone
from audioldm_lit.diffusion import NoisePrediction
from audioldm_lit.errors import InputError

import layouts
import tiny
from runs import REPOSITORY, arguments, run_folder

SOME = ["text_path", "conv_in", r"mid_block\..*"]  # linear and convolution layers, one of them of fewer inputs than ranks
LORA = {"r": 6, "lora_alpha": 9, "rank_pattern": {"conv_in": 2}}


def trained(adapter: Adapter) -> Backbone:
    """A tiny model with an adapter that does something."""
    backbone = tiny.backbone()
    torch.manual_seed(0)
    adapter.inject(backbone)
    generator = torch.Generator().manual_seed(1)
    for weight in trainable(backbone).values():
        weight.data += 0.05 * torch.randn(weight.shape, generator=generator)
    return backbone.eval()


def updates(backbone: Backbone) -> dict[str, np.ndarray]:
    return {name: (up @ down).numpy() for name, (down, up) in low_rank_factors(backbone.unet).items()}


@torch.no_grad()
def predict(backbone: Backbone) -> torch.Tensor:
    generator = torch.Generator().manual_seed(2)
    latents, cond = torch.randn(2, 8, 8, 8, generator=generator), torch.randn(2, 32, generator=generator)
    return backbone(latents, torch.tensor([10, 700]), cond)


@pytest.mark.parametrize("rank", [pytest.param(1, marks=pytest.mark.nightly), 4, pytest.param(6, marks=pytest.mark.nightly)])
def test_a_lower_rank_is_the_nearest_by_singular_values_and_what_is_lost_is_said(rank):
    adapter = PeftAdapter(options={**LORA, "use_rslora": True}, targets=SOME)
    backbone = trained(adapter)
    before, base = updates(backbone), {name: weight.clone() for name, weight in tiny.backbone().unet.state_dict().items()}
    _, lost = adapter.resize(backbone, rank)
    after, left, squares = updates(backbone), [], []
    assert before.keys() == after.keys() == lost.keys()
    for name, update in before.items():
        u, s, vt = np.linalg.svd(update)
        kept = min(rank, len(s))
        assert after[name] == pytest.approx((u[:, :kept] * s[:kept]) @ vt[:kept], abs=1e-6)
        assert lost[name].share == pytest.approx(np.sqrt((s[kept:] ** 2).sum() / (s**2).sum()), abs=1e-6)
        left.append((s[kept:] ** 2).sum())
        squares.append((s**2).sum())
    assert overall(lost) == pytest.approx(np.sqrt(sum(left) / sum(squares)), abs=1e-6)
    assert not any(weight.requires_grad for name, weight in backbone.unet.named_parameters() if "base_layer" in name)
    plain = {name.replace(".base_layer", ""): weight for name, weight in backbone.unet.state_dict().items() if "lora" not in name}
    assert all(torch.equal(weight, base[name]) for name, weight in plain.items())


@pytest.mark.parametrize("options", [LORA, {**LORA, "use_dora": True}])
def test_the_full_rank_is_the_same_adapter(options):
    adapter = PeftAdapter(options=options, targets=SOME)
    backbone = trained(adapter)
    before = predict(backbone)
    adapter.resize(backbone, 6)
    assert torch.allclose(predict(backbone), before, atol=1e-5 * before.abs().max().item())


@pytest.mark.parametrize("rank", [1, 3, 8])
def test_dylora_cut_to_a_rank_is_what_it_is_in_training_at_that_rank(rank):
    adapter = DyLoRA(8, SOME)
    backbone = trained(adapter).train()
    adapter.gate.drawn.fill_(rank)
    at_rank = predict(backbone)
    whole = predict(backbone.eval())
    assert torch.allclose(at_rank, whole, atol=1e-6) == (rank == 8)
    adapter.resize(backbone, rank)
    assert torch.allclose(predict(backbone.eval()), at_rank, atol=1e-5 * at_rank.abs().max().item())


def test_dylora_draws_every_rank_alike_and_a_resumed_run_draws_the_same():
    adapter, drawn = DyLoRA(4, ["conv_in"]), []
    backbone = trained(adapter)
    for step in range(400):
        adapter.after_step(backbone, step)
        drawn.append(int(adapter.gate.drawn))
    assert np.bincount(drawn, minlength=5)[1:] == pytest.approx([100] * 4, abs=35)  # four standard deviations
    again = DyLoRA(4, ["conv_in"])
    trained(again)
    again.restore(json.loads(json.dumps(adapter.state())))
    assert int(again.gate.drawn) == drawn[-1]


@pytest.mark.parametrize(
    ("adapter", "rank", "message"),
    [
        (PeftAdapter(options=LORA, targets=SOME), 0, "--rank: is 0, and the adapter was trained at rank 6"),
        (PeftAdapter(options=LORA, targets=SOME), 7, "--rank: is 7, and the adapter was trained at rank 6"),
        (PeftAdapter("LoHaConfig", {"r": 4}, SOME), 2, "--rank: PeftAdapter is no LoRA"),
        (FullFineTune(), 2, "--rank: FullFineTune is no LoRA"),
    ],
)
def test_a_rank_that_cannot_be_is_refused(adapter, rank, message):
    with pytest.raises(InputError, match=message):
        adapter.resize(trained(adapter), rank)


def test_convert_lowers_the_rank_says_what_is_lost_and_leaves_scores_of_the_old_rank_out(workdir, tiny_folder, cli):
    adapter = PeftAdapter(options=LORA, targets=SOME)
    backbone = trained(adapter)
    about = About.of_run("base", ["rain"], 4, "ab" * 32, 10, 0, scores={"held-out loss": (0.4, 0.3)})
    base = tiny.backbone().fingerprint("unet")
    save_adapter(workdir / "a.safetensors", adapter, dict(trainable(backbone)), base, NoisePrediction(), about)
    words = ["convert", "--source", "a.safetensors", "--to", "adapter", "--backbone", tiny_folder, "--rank"]
    status, out, err = cli(*words, 2, "--out", "b.safetensors", "--json", "b.json")
    assert status == 0, err
    found = json.loads((workdir / "b.json").read_text())
    assert 0 < found["weights_lost"] < 1
    assert 0 < found["output_lost"] < 1
    assert found["layers_lost"].keys() == updates(backbone).keys()
    assert f"rank 2 loses {100 * found['weights_lost']:.2g} %" in out
    loaded, _ = load_adapter(workdir / "b.safetensors", fresh := tiny.backbone())
    assert loaded.spec()["init_args"]["options"]["r"] == 2
    adapter.resize(backbone, 2)
    assert torch.equal(predict(fresh.eval()), predict(backbone))
    assert read_about(workdir / "b.safetensors").scores == {}
    status, _, err = cli(*words, 9, "--out", "c.safetensors")
    assert status == 2
    assert "give a number from 1 to 6" in err
    assert not (workdir / "c.safetensors").exists()


@pytest.mark.slow
def test_a_run_of_dylora_resumes_bit_for_bit_and_its_file_is_cut_to_its_first_ranks(workdir, tiny_folder, cli):
    words = [*arguments(tiny_folder, {**layouts.esc50(workdir / "data", takes=1), "shots": 2}, steps=2)]
    words += ["--model.adapter", REPOSITORY / "configs" / "adapter" / "dylora.yaml", "--model.adapter.init_args.rank", 4]
    words += ["--trainer.val_check_interval", 1, "--checkpoint.save_top_k", -1]
    status, _, err = cli("fit", *words)
    assert status == 0, err
    run = run_folder(workdir)
    status, _, err = cli("fit", *words, "--ckpt_path", run / "checkpoints" / "best-step=000001.ckpt")
    assert status == 0, err
    whole, resumed = (torch.load(one / "checkpoints" / "last.ckpt", weights_only=True) for one in (run, run_folder(workdir)))
    assert whole["audioldm_lit"]["adapter_state"] == resumed["audioldm_lit"]["adapter_state"]
    assert all(torch.equal(value, resumed["state_dict"][name]) for name, value in whole["state_dict"].items())
    file, smaller = run / "adapter.safetensors", workdir / "smaller.safetensors"
    status, _, err = cli("convert", "--source", file, "--to", "adapter", "--backbone", tiny_folder, "--rank", 1, "--out", smaller)
    assert status == 0, err
    before, after = tiny.backbone(), tiny.backbone()
    load_adapter(file, before)
    load_adapter(smaller, after)
    for name, (down, up) in low_rank_factors(before.unet).items():
        less_down, less_up = low_rank_factors(after.unet)[name]
        assert torch.allclose(less_up @ less_down, 4 * up[:, :1] @ down[:1], atol=1e-6)
