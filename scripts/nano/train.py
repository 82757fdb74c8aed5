"""Train the nano model stage by stage: `python scripts/nano/train.py --stage all --data DIR`.

Every stage keeps a resumable state file in `--state`; the model folder is assembled from these files, so that a stage can be
trained again without the others. `--stage publish` only assembles.
"""

import argparse
import os
import shutil
from pathlib import Path

import torch
from torch import nn

from audioldm_lit.backbone import Backbone

from architecture import CONFIGS, train_tokenizer
from clap import retrieval, train_clap
from recordings import SYNONYMS, Clip, read_clips
from unet import scale_condition, train_unet, validation_loss
from vae import fold_normalisation, held_out_l1, set_scaling_factor, train_vae
from vocoder import spectral_distance, train_vocoder

MINUTES = {"vae": 11.0, "clap": 12.5, "vocoder": 25.0, "unet": 45.0}


def build(clips: list[Clip], state: Path, start: Path | None) -> Backbone:
    """Build the model with the weights of every stage that has a state file, and elsewhere those of `start`, or random ones."""
    backbone = started(clips, start) if start else untrained(clips)
    towers = nn.ModuleDict({"text": backbone.text_encoder, "audio": backbone.audio_encoder})
    for stage, key, module in (
        ("vae", "vae", backbone.vae),
        ("clap", "towers", towers),
        ("vocoder", "vocoder", backbone.vocoder),
        ("unet", "average", backbone.unet),
    ):
        if (state / f"{stage}.pt").is_file():
            module.load_state_dict(torch.load(state / f"{stage}.pt", weights_only=True)[key])
    if (state / "vae.pt").is_file():
        set_scaling_factor(backbone.vae, clips)
    return backbone.eval()


def untrained(clips: list[Clip]) -> Backbone:
    """The model with random weights and a tokenizer of the clips' captions."""
    texts = [clip.caption for clip in clips] + [clip.label.replace("_", " ") for clip in clips]
    texts += [text for group in SYNONYMS.values() for text in group] + ["the sound of", "a sound of"]
    backbone = Backbone.build(CONFIGS, train_tokenizer(texts))
    fold_normalisation(backbone.vae)
    scale_condition(backbone.unet)
    return backbone


def started(clips: list[Clip], start: Path) -> Backbone:
    """A model's weights, but for the parts whose shape has changed since."""
    backbone, fresh = Backbone.load(start), untrained(clips)
    for name in ("vae", "text_encoder", "audio_encoder", "vocoder", "unet"):
        ours, theirs = (
            {key: value.shape for key, value in getattr(model, name).state_dict().items()} for model in (fresh, backbone)
        )
        if ours != theirs:
            setattr(backbone, name, getattr(fresh, name))
            print(f"{name}: begins from random weights, {start} has another shape", flush=True)
    return backbone


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


def run(stage: str, clips: list[Clip], held_out: list[Clip], state: Path, start: Path | None, minutes: float) -> None:
    """Train one stage and print what it reaches on held-out recordings."""
    backbone, file = build(clips, state, start), state / f"{stage}.pt"
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


def main() -> None:
    """Read the command line and train."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stage", choices=(*MINUTES, "publish", "all"), default="all")
    parser.add_argument("--data", type=Path, required=True, help="folder with metadata.csv and the recordings it names")
    parser.add_argument("--out", type=Path, default=Path("checkpoints/audioldm-nano"), help="model folder to write")
    parser.add_argument("--state", type=Path, default=Path("runs/nano"), help="folder of the resumable training states")
    parser.add_argument("--start", type=Path, help="model folder to train on from, instead of from random weights")
    parser.add_argument("--minutes", type=float, help="training time of the stage, default by stage")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    clips, held_out = read_clips(options.data)
    for stage in MINUTES if options.stage == "all" else (options.stage,):
        if stage != "publish":
            run(stage, clips, held_out, options.state, options.start, options.minutes or MINUTES[stage])
    if options.stage in ("all", "publish"):
        publish(build(clips, options.state, options.start), options.out)


if __name__ == "__main__":
    main()
