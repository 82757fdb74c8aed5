"""Train the nano model stage by stage: `python scripts/nano/train.py --stage all --data DIR`.

Every stage keeps a resumable state file in `--state`; the model folder is assembled from these files, so that a stage can be
trained again without the others. `--stage publish` only assembles. On a GPU `--stage all --minutes 9 --device cuda` is the whole
training in one call of ten minutes.
"""

import argparse
import os
import shutil
from pathlib import Path

import torch
from torch import nn

from audioldm_lit.backbone import Backbone
from audioldm_lit.device import device_named
from audioldm_lit.errors import InputError

from architecture import CONFIGS, train_tokenizer
from clap import retrieval, train_clap
from loop import ends_with_a_sentence, read_state, restore
from recordings import SYNONYMS, Clip, read_clips
from unet import scale_condition, train_unet, validation_loss
from vae import fold_normalisation, held_out_l1, set_scaling_factor, train_vae
from vocoder import spectral_distance, train_vocoder

MINUTES = {"vae": 66.0, "clap": 13.0, "vocoder": 74.0, "unet": 105.0}  # of one CPU core with AMX
NEEDS = {"vae": (), "clap": (), "vocoder": ("vae",), "unet": ("vae", "clap")}  # what must be trained before


def build(clips: list[Clip], state: Path, start: Path | None, device: torch.device) -> tuple[Backbone, set[str]]:
    """Build the model with the weights of every stage that has a state file, and elsewhere those of `start`, or random ones.

    Returns:
        The model, and the stages whose weights are random.
    """
    backbone, random = started(clips, start) if start else (untrained(clips), set(MINUTES))
    for stage, (key, module) in owners(backbone).items():
        file = state / f"{stage}.pt"
        if file.is_file():
            restore(module, read_state(file), key, file)
            random.discard(stage)
    backbone.to(device)
    if "vae" not in random:
        set_scaling_factor(backbone.vae, clips)
    return backbone.eval(), random


def owners(backbone: Backbone) -> dict[str, tuple[str, nn.Module]]:
    """Each stage's networks, and their name in its state file."""
    towers = nn.ModuleDict({"text": backbone.text_encoder, "audio": backbone.audio_encoder})
    return {
        "vae": ("vae", backbone.vae),
        "clap": ("towers", towers),
        "vocoder": ("vocoder", backbone.vocoder),
        "unet": ("average", backbone.unet),
    }


def untrained(clips: list[Clip]) -> Backbone:
    """The model with random weights and a tokenizer of the clips' captions."""
    texts = [clip.caption for clip in clips] + [clip.label.replace("_", " ") for clip in clips]
    texts += [text for group in SYNONYMS.values() for text in group] + ["the sound of", "a sound of"]
    backbone = Backbone.build(CONFIGS, train_tokenizer(texts))
    fold_normalisation(backbone.vae)
    scale_condition(backbone.unet)
    return backbone


def started(clips: list[Clip], start: Path) -> tuple[Backbone, set[str]]:
    """A model's weights, but for the stages whose shape has changed since; and the names of these."""
    fresh, backbone = untrained(clips), Backbone.load(start)
    changed = {
        stage
        for (stage, (_, ours)), (_, theirs) in zip(owners(fresh).items(), owners(backbone).values(), strict=True)
        if {key: value.shape for key, value in ours.state_dict().items()}
        != {key: value.shape for key, value in theirs.state_dict().items()}
    }
    for stage in sorted(changed):
        for name in ("text_encoder", "audio_encoder") if stage == "clap" else (stage,):
            setattr(backbone, name, getattr(fresh, name))
        print(f"{stage}: begins from random weights, {start} has another shape", flush=True)
    return backbone, changed


def publish(backbone: Backbone, out: Path) -> None:
    """Write the model in float16 beside `out`, then move it in file by file, so that no reader meets half a file."""
    unfinished = out.with_name(out.name + ".part")
    backbone.half().save(unfinished)
    backbone.float()
    for file in sorted(unfinished.rglob("*")):
        if file.is_file():
            target = out / file.relative_to(unfinished)
            target.parent.mkdir(parents=True, exist_ok=True)
            os.replace(file, target)
    shutil.rmtree(unfinished)


def run(stage: str, backbone: Backbone, clips: list[Clip], held_out: list[Clip], file: Path, minutes: float) -> None:
    """Train one stage and print what it reaches on held-out recordings."""
    if stage == "vae":
        steps = train_vae(backbone.vae, clips, file, minutes)
        figure = f"held-out L1 {held_out_l1(backbone.vae, held_out):.3f} nats"
    elif stage == "clap":
        steps = train_clap(backbone, clips, file, minutes)
        figure = f"held-out retrieval {retrieval(backbone, held_out):.3f}"
    elif stage == "vocoder":
        steps = train_vocoder(backbone, clips, file, minutes)
        figure = f"held-out spectral distance {spectral_distance(backbone, held_out):.3f}"
    else:
        steps = train_unet(backbone, clips, file, minutes)
        figure = f"held-out noise loss {validation_loss(backbone, held_out):.4f}"
    print(f"{stage}: {steps} steps, {figure}", flush=True)


@ends_with_a_sentence
def main() -> None:
    """Read the command line and train."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stage", choices=(*MINUTES, "publish", "all"), default="all")
    parser.add_argument("--data", type=Path, required=True, help="folder with metadata.csv and the recordings it names")
    parser.add_argument("--out", type=Path, default=Path("checkpoints/audioldm-nano"), help="model folder to write")
    parser.add_argument("--state", type=Path, default=Path("runs/nano"), help="folder of the resumable training states")
    parser.add_argument("--start", type=Path, help="model folder to train on from, instead of from random weights")
    parser.add_argument("--minutes", type=float, help="training time of the stage, or of all stages together")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1 or auto")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    device, (clips, held_out) = device_named(options.device), read_clips(options.data)
    stages = list(MINUTES) if options.stage == "all" else [stage for stage in MINUTES if stage == options.stage]
    share = (options.minutes or sum(MINUTES[stage] for stage in stages)) / max(1e-9, sum(MINUTES[stage] for stage in stages))
    for stage in stages:
        backbone, random = build(clips, options.state, options.start, device)
        for needed in random.intersection(NEEDS[stage]):
            raise InputError(options.state / f"{needed}.pt", f"is missing, and {stage} needs it", f"train --stage {needed} first")
        run(stage, backbone, clips, held_out, options.state / f"{stage}.pt", share * MINUTES[stage])
    if options.stage in ("all", "publish"):
        backbone, random = build(clips, options.state, options.start, device)
        for lacking in sorted(random):
            raise InputError(options.state / f"{lacking}.pt", "is missing", f"train --stage {lacking} first, or give --start")
        publish(backbone.cpu(), options.out)


if __name__ == "__main__":
    main()
