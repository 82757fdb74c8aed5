"""Ranks by Fisher information: they go where a planted gradient is, hold to the budget, and travel with checkpoint and file."""

import json
from collections.abc import Iterator

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from audioldm_lit.adapters.base import trainable
from audioldm_lit.adapters.files.adapter_file import load_adapter, read_metadata
from audioldm_lit.adapters.fisher_lora import FisherLoRA, allot
from audioldm_lit.adapters.peft import PeftAdapter
from audioldm_lit.adapters.peft_internals import base_weights
from audioldm_lit.backbone import Backbone
from audioldm_lit.errors import InputError

import layouts
import tiny
from runs import REPOSITORY, arguments, run_folder

FISHER = ["--model.adapter", REPOSITORY / "configs" / "adapter" / "fisher_lora.yaml", "--model.adapter.init_args.clips", "4"]


def planted(backbone: Backbone, slopes: dict[str, float]) -> Iterator[torch.Tensor]:
    """Losses whose gradient is one number for every weight of a block, zero elsewhere."""
    weights = base_weights(backbone.unet)
    while True:
        yield sum(slope * weights[name].sum() for name in weights for block, slope in slopes.items() if name.startswith(block))


def size(backbone: Backbone) -> int:
    return sum(weight.numel() for weight in trainable(backbone).values())


def test_ranks_go_where_the_gradient_is_and_take_no_more_weights_than_lora():
    lora, backbone, adapter = tiny.backbone(), tiny.backbone(), FisherLoRA(4, 6, 2)
    PeftAdapter(options={"r": 4, "lora_alpha": 4}).inject(lora)
    adapter.inject(backbone)
    assert size(backbone) == size(lora)
    adapter.decide(backbone, planted(backbone, {"mid_block": 3.0, "up_blocks.0": 1e-3}))
    assert adapter.ranks["mid_block"] == 6
    assert all(adapter.ranks["mid_block"] >= rank for rank in adapter.ranks.values())
    assert adapter.ranks["up_blocks.0"] > 0
    assert size(backbone) <= size(lora)
    names = [name for name in trainable(backbone) if "lora_A" in name]
    assert {trainable(backbone)[name].shape[0] for name in names if "mid_block." in name} == {6}
    before, fresh = {**adapter.ranks}, tiny.backbone()
    adapter.decide(backbone, iter([]))  # what is decided stays
    assert adapter.ranks == before
    FisherLoRA(**adapter.spec()["init_args"]).inject(fresh)
    assert {name: weight.shape for name, weight in trainable(fresh).items()} == {
        name: weight.shape for name, weight in trainable(backbone).items()
    }


@given(st.lists(st.tuples(st.floats(1e-6, 1e6), st.integers(1, 50)), min_size=2, max_size=6), st.integers(1, 500), st.data())
def test_no_rank_could_be_better_placed(blocks, budget, data):
    information, weights = ({str(place): one[side] for place, one in enumerate(blocks)} for side in (0, 1))
    most = data.draw(st.integers(1, 20))
    ranks = allot(information, weights, budget, most)
    left = budget - sum(weights[block] * rank for block, rank in ranks.items())
    assert left >= 0
    for block, rank in ranks.items():
        assert 0 <= rank <= most
        assert rank == most or weights[block] > left  # nothing that fits is left over
    if len({*weights.values()}) == 1:  # then the greedy choice is the best one: no exchange gains
        gains = [information[block] / (1 + rank) for block, rank in ranks.items() if rank < most]
        costs = [information[block] / rank for block, rank in ranks.items() if rank]
        assert not gains or not costs or max(gains) <= min(costs) * (1 + 1e-12)


def test_ranks_are_taken_over_where_the_frozen_weights_are_stored_in_bfloat16():
    backbone, adapter = tiny.backbone(), FisherLoRA(4)
    adapter.inject(backbone)
    for weight in backbone.unet.parameters():
        if not weight.requires_grad and weight.dim() > 1:
            weight.data = weight.data.bfloat16()
    adapter.adopt(backbone, {"ranks": {"mid_block": 3}})
    assert {weight.dtype for weight in trainable(backbone).values()} == {torch.float32}
    assert {weight.shape[0] for name, weight in trainable(backbone).items() if "lora_A" in name} == {3}


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (lambda: FisherLoRA(0), "rank: is 0 and max_rank 32"),
        (lambda: FisherLoRA(8, 4), "rank: is 8 and max_rank 4"),
        (lambda: FisherLoRA(clips=0), "clips: is 0"),
        (lambda: FisherLoRA(ranks={"mid_block": 0}), "ranks: is {'mid_block': 0}"),
        (lambda: FisherLoRA(ranks={"middle": 2}).inject(tiny.backbone()), "ranks: names middle, where no target is"),
    ],
)
def test_ranks_that_cannot_be_are_refused(made, message):
    with pytest.raises(InputError, match=message):
        made()


@pytest.mark.slow
def test_a_run_resumes_bit_for_bit_with_its_ranks_two_processes_take_the_same_and_its_file_needs_no_data(
    workdir, tiny_folder, cli, ranks
):
    words = [*arguments(tiny_folder, {**layouts.esc50(workdir / "data", takes=1), "shots": 2}, steps=2), *FISHER]
    words += ["--trainer.val_check_interval", 1, "--checkpoint.save_top_k", -1]
    status, _, err = cli("fit", *words)
    assert status == 0, err
    assert "ranks by Fisher information: " in err
    run = run_folder(workdir)
    decided = json.loads(read_metadata(run / "adapter.safetensors")["adapter"])["init_args"]["ranks"]
    assert len({*decided.values()}) > 1
    first, last = (run / "checkpoints" / name for name in ("best-step=000001.ckpt", "last.ckpt"))
    status, _, err = cli("fit", *words, "--ckpt_path", first)
    assert status == 0, err
    whole, resumed = (torch.load(path, weights_only=True) for path in (last, run_folder(workdir) / "checkpoints" / "last.ckpt"))
    assert whole["audioldm_lit"]["adapter"]["init_args"]["ranks"] == decided
    assert whole["state_dict"].keys() == resumed["state_dict"].keys()
    assert all(torch.equal(value, resumed["state_dict"][name]) for name, value in whole["state_dict"].items())
    adapter, _ = load_adapter(run / "adapter.safetensors", Backbone.load(tiny_folder))
    assert adapter.ranks == decided
    status, out, err = cli("test", *words, "--ckpt_path", last)
    assert status == 0, err
    assert "test/loss" in out
    assert [status for status, _ in ranks.command_line(workdir, ["fit", *words])] == [0, 0]
    both = torch.load(run_folder(workdir) / "checkpoints" / "last.ckpt", weights_only=True)
    assert both["audioldm_lit"]["adapter"]["init_args"]["ranks"] == decided
    assert all(torch.allclose(value, both["state_dict"][name], atol=1e-4) for name, value in whole["state_dict"].items())
