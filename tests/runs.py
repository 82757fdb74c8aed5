"""Short training runs on the tiny model, as command-line arguments."""

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

REPOSITORY = Path(__file__).resolve().parent.parent
ESC50 = REPOSITORY / "configs" / "experiment" / "esc50_lora_8shot.yaml"
EMBEDDED = "embedded"
HEARD = ["--trainer.val_check_interval", "1", "--audition.count", "1"]  # a check and an audition after every step
SHORT = 0.64  # seconds: 16 latent steps, the tiny model's window


def arguments(model: Path, data: dict[str, Any], steps: int = 2, config: Path = ESC50) -> list[str]:
    """Options that turn a shipped experiment into a run of seconds, with one check, at its end, without auditions and report.

    The usual one, and a data set by itself, adapt some layers: to wrap each of the tiny model's takes a third of such a run.
    """
    overrides = {
        "--config": config,
        "--model.backbone": model,
        "--trainer.max_steps": steps,
        "--trainer.val_check_interval": steps,
        "--trainer.log_every_n_steps": 1,
        "--trainer.enable_progress_bar": "false",
        "--trainer.accelerator": "cpu",
        "--trainer.precision": "32-true",
        "--model.val_timesteps": 1,
        "--model.sampler.num_inference_steps": 2,
        "--model.protocol": "null",
        "--scores.after_fit": "false",
        "--audition.count": 0,
        "--dials.count": 0,
        "--averages.profiles": "[]",
        "--report.language": "null",
        "--data.init_args.duration": SHORT,
    }
    if config == ESC50 or config.parent.name == "data":
        overrides["--model.adapter"] = "audioldm_lit.adapters.peft.PeftAdapter"
        overrides["--model.adapter.init_args.targets"] = "[attention, conv_out]"
    overrides |= {
        f"--data.init_args.{name}": value if isinstance(value, str | Path) else json.dumps(value) for name, value in data.items()
    }
    return [str(word) for pair in overrides.items() for word in pair]


def weights(adapter: Path) -> dict[str, bytes]:
    """The bytes of an adapter's weights; its file has the texts beside them in any order."""
    return {name: tensor.contiguous().view(torch.uint8).numpy().tobytes() for name, tensor in load_file(adapter).items()}


def run_folder(root: Path) -> Path:
    """The newest run below `root`/runs."""
    return max(root.glob("runs/*/version_*"), key=lambda folder: int(folder.name.split("_")[1]))
