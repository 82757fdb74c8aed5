"""What libraries have and do not document is touched behind one door each, and is there in the versions that are installed."""

import ast
import importlib
import pkgutil
import sys
from operator import attrgetter
from pathlib import Path

import peft
import pytest
from lightning import Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.cli import LightningCLI, SaveConfigCallback
from torch import nn

import audioldm_lit
from audioldm_lit.adapters.files.diffusers_internals import LORA_FILE, LORA_METADATA_KEY
from audioldm_lit.adapters.peft_internals import AVERAGES, Ranks, config_class, forget_adapters, injected_config, low_rank_weights

PACKAGE = Path(audioldm_lit.__file__).parent
DOORS = "_internals"
DOCUMENTED = {"_init_weights"}  # which transformers asks of every model of one's own


def private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def on_itself(node: ast.Attribute) -> bool:
    return isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")


def test_nothing_private_of_others_is_asked_for_elsewhere():
    trees = {path: ast.parse(path.read_text(encoding="utf-8")) for path in PACKAGE.rglob("*.py")}
    nodes = [(path, node) for path, tree in trees.items() for node in ast.walk(tree)]
    own = {node.name for _, node in nodes if isinstance(node, ast.FunctionDef)}
    own |= {node.attr for _, node in nodes if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)}
    asked = [(path, node) for path, node in nodes if isinstance(node, ast.Attribute) and private(node.attr)]
    foreign = {(path, node.attr) for path, node in asked if not (on_itself(node) and node.attr in own)}
    assert not {(path.name, name) for path, name in foreign if not path.stem.endswith(DOORS)}


def test_nothing_private_of_others_is_overridden_elsewhere():
    names = [
        module.name for module in pkgutil.walk_packages([str(PACKAGE)], "audioldm_lit.") if not module.name.endswith("__main__")
    ]
    modules = [importlib.import_module(name) for name in names if not name.endswith(DOORS)]
    classes = {value for module in modules for value in vars(module).values() if isinstance(value, type)}
    ours = [cls for cls in classes if cls.__module__.startswith("audioldm_lit.") and not cls.__module__.endswith(DOORS)]
    overridden = {
        (cls.__name__, name)
        for cls in ours
        for base in cls.__mro__
        if base.__module__.partition(".")[0] not in {"audioldm_lit", *sys.stdlib_module_names}
        for name in set(vars(cls)) & set(vars(base))
        if private(name) and callable(vars(base)[name])
    }
    assert not {(cls, name) for cls, name in overridden if name not in DOCUMENTED}


@pytest.mark.parametrize(
    "name",
    [
        "fit_loop.epoch_loop.total_batch_idx",
        "fit_loop.epoch_loop.batch_progress.total.ready",
        "fit_loop.epoch_loop.batch_progress.current.state_dict",
        "fast_dev_run",
        "overfit_batches",
        "callbacks",
        "log_every_n_steps",
        "accumulate_grad_batches",
        "val_check_interval",
        "limit_train_batches",
        "precision_plugin.forward_context",
        "precision_plugin.convert_input",
        "precision_plugin.val_step_context",
    ],
)
def test_lightning_s_trainer_has(name):
    attrgetter(name)(Trainer(accelerator="cpu", logger=False, enable_checkpointing=False))


def test_lightning_s_classes_have():
    assert {"best_model_path", "last_model_path", "dirpath"} <= ModelCheckpoint().state_dict().keys()
    asked = "_should_skip_saving_checkpoint", "_should_save_on_train_epoch_end", "_save_last_checkpoint", "_monitor_candidates"
    assert all(callable(getattr(ModelCheckpoint, name)) for name in ("check_monitor_top_k", *asked))
    assert all(callable(step) for step in (LightningCLI._parse_ckpt_path, LightningCLI._run_subcommand))
    assert SaveConfigCallback(None, None).already_saved is False


def test_peft_leaves_its_configuration_and_its_names_on_a_network():
    config = peft.AdaLoraConfig(target_modules=["0"], total_step=10, init_r=4, target_r=2)
    assert config_class("ADALORA") is peft.AdaLoraConfig
    assert config_class("nothing") is None
    network = peft.inject_adapter_in_model(config, nn.Sequential(nn.Linear(8, 8)))
    assert injected_config(network) is config
    assert {name.split(".")[1] for name in low_rank_weights(network)} == {"lora_A", "lora_B", "lora_E"}
    ranks = Ranks(network, config)
    assert ranks.averages == {name: {} for name in AVERAGES}
    ranks.averages = {name: {"weight": name} for name in AVERAGES}
    assert (ranks.ipt, ranks.exp_avg_ipt, ranks.exp_avg_unc) == tuple({"weight": name} for name in AVERAGES)
    assert callable(ranks.update_and_allocate)
    forget_adapters(network)
    assert injected_config(network) is None


def test_diffusers_names_the_file_and_the_metadata_of_a_lora():
    assert LORA_FILE.endswith(".safetensors")
    assert LORA_METADATA_KEY
