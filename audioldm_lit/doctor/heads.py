"""Which heads of attention a published UNet was trained with, settled by measurement on recordings."""

import random
from pathlib import Path
from typing import Any, get_args

import torch
from diffusers.models import UNet2DConditionModel
from torch import Tensor

from audioldm_lit.backbone import Backbone
from audioldm_lit.console.stages import track
from audioldm_lit.data.clips import Clip, ClipDataset, Split
from audioldm_lit.data.folder import Folder
from audioldm_lit.diffusion import prediction_of
from audioldm_lit.errors import InputError
from audioldm_lit.metrics.estimate import MIN_CLIPS, Estimate
from audioldm_lit.networks.published import Heads, heads_settings, saved_heads
from audioldm_lit.training.held_out_loss import held_out_losses

CLIPS = 32  # at most; both settings are paired by clip and noise, so few are enough
TIMESTEPS = 4  # of each clip


def measure_heads(backbone: Backbone, recordings: Path, name: str) -> dict[str, Any]:
    """The mean loss of the noise in recordings with each setting, paired by clip and noise.

    Args:
        backbone: The model with its heads as saved.
        recordings: Folder of recordings, with captions as `fit` finds them.
        name: What messages call the model.

    Returns:
        `as_saved` and `original`, each with its `heads` and its `loss`; `difference` of original less as saved with its 95 %
        `interval`; `better`, null where zero lies within; the number of `clips`, and the fingerprint of the `unet`.

    Raises:
        InputError: If there are too few recordings, or one cannot be read.
    """
    saved: UNet2DConditionModel = backbone.unet
    changed = {**saved.config, **heads_settings(saved.config, "original", name)}
    unets: dict[Heads, UNet2DConditionModel] = {"as_saved": saved, "original": _made(changed, saved)}
    losses: dict[Heads, list[Tensor]] = {setting: [] for setting in unets}
    predicts = prediction_of(backbone.scheduler)
    clips = _clips(Folder(recordings, duration=backbone.window, sample_rate=backbone.sample_rate))
    for clip in track(map(clips.__getitem__, range(len(clips))), f"measuring heads on {len(clips)} clips", len(clips)):
        latents, cond = backbone.encode_latents(clip["waveform"][None].to(backbone.device)), backbone.encode_text([clip["caption"]])
        for setting, backbone.unet in unets.items():
            (loss,) = held_out_losses(backbone, backbone.scheduler, predicts, latents, cond, [clip["id"]], TIMESTEPS)
            losses[setting].append(loss.double().mean().cpu())
    backbone.unet = saved
    apart = Estimate.of_mean(torch.stack(losses["original"]) - torch.stack(losses["as_saved"]))
    interval = apart.interval()
    assert interval is not None  # there are enough clips
    better = "original" if interval[1] < 0 else "as_saved" if interval[0] > 0 else None
    both: dict[str, Any] = {}
    for setting, unet in unets.items():
        both[setting] = {"heads": saved_heads(unet.config), "loss": torch.stack(losses[setting]).mean().item()}
    figures = {"difference": apart.value, "interval": list(interval), "better": better, "clips": len(clips)}
    return {**both, **figures, "unet": backbone.fingerprint("unet")}


def _made(settings: dict[str, Any], network: UNet2DConditionModel) -> UNet2DConditionModel:
    """The same weights, not copied, under other settings."""
    with torch.device("meta"):
        made = UNet2DConditionModel.from_config(settings)
    made.load_state_dict(network.state_dict(), assign=True)
    return made.requires_grad_(False).eval()


def _clips(data: Folder) -> ClipDataset:
    """Some of a folder's recordings, the same every time, whatever split they would be in."""
    every: list[Clip] = sorted((clip for split in get_args(Split) for clip in data.clips(split)), key=lambda clip: clip.id)
    if len(every) < MIN_CLIPS:
        raise InputError(data.root, f"has {len(every)} recordings", f"give at least {MIN_CLIPS}, better {CLIPS}")
    chosen = random.Random(0).sample(every, min(CLIPS, len(every)))
    return ClipDataset(sorted(chosen, key=every.index), data.sample_rate, data.num_samples, data.padding)
