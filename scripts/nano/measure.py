"""Measure whether prompts sound different: `python scripts/nano/measure.py --model checkpoints/audioldm-nano`.

Rain should be flat and steady, a bark tonal and sudden; spectral flatness and crest of the envelope tell them apart.
"""

import argparse
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from audioldm_lit.backbone import Backbone
from audioldm_lit.inference.generation import Generation, generate_clips
from audioldm_lit.inference.manifest import Entry
from audioldm_lit.inference.sampling import Sampler

PROMPTS = ("rain falling", "a dog barking", "footsteps", "a cymbal")


def flatness(waveform: Tensor) -> float:
    """Geometric over arithmetic mean of the power spectrum (T,), in [0, 1]: 0 a tone, near 0.56 white noise."""
    frames = waveform.unfold(0, 1024, 512) * torch.hann_window(1024)
    power = torch.fft.rfft(frames).abs().square()[:, 1:-1] + 1e-10  # (frames, bins)
    ratio = power.log().mean(dim=1).exp() / power.mean(dim=1)
    weight = power.sum(dim=1)  # silence between events says nothing about the sound
    return float((ratio * weight).sum() / weight.sum())


def onsets(waveform: Tensor) -> int:
    """Number of times the 20 ms level rises by 6 dB over the mean of the 100 ms before, at least 100 ms apart."""
    level = waveform.unfold(0, 320, 320).square().mean(dim=1).add(1e-8).log10() * 10  # dB
    count, last = 0, -5
    for frame in range(5, len(level)):
        if level[frame] - level[frame - 5 : frame].mean() > 6 and frame - last >= 5:
            count, last = count + 1, frame
    return count


def crest(waveform: Tensor) -> float:
    """Loudest 20 ms over the root mean square of the clip, in dB."""
    power = waveform.unfold(0, 320, 320).square().mean(dim=1)
    return float(10 * torch.log10(power.max() / power.mean().clamp(min=1e-12)))


def main() -> None:
    """Generate a few clips a prompt and print the measures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=Path("checkpoints/audioldm-nano"))
    parser.add_argument("--seeds", type=int, default=8, help="clips a prompt")
    options = parser.parse_args()
    backbone, sampler = Backbone.load(options.model), Sampler(num_inference_steps=50, guidance_scale=2.5)
    generation = Generation(backbone, sampler, backbone.encode_text([""])[0], round(backbone.window * backbone.sample_rate))
    table = Table("prompt", "flatness", "onsets", "crest, dB", "level, dB", title=f"mean and spread of {options.seeds} clips")
    for prompt in PROMPTS:
        cond = backbone.encode_text([prompt]).expand(options.seeds, -1)
        entries = [Entry(prompt, prompt, seed, 0) for seed in range(options.seeds)]
        clips = [clip for _, clip in generate_clips(generation, entries, cond)]
        levels = [float(10 * clip.square().mean().clamp(min=1e-12).log10()) for clip in clips]
        columns = ([flatness(clip) for clip in clips], [onsets(clip) for clip in clips], [crest(clip) for clip in clips], levels)
        figures = [torch.tensor(column, dtype=torch.float64) for column in columns]
        table.add_row(prompt, *(f"{figure.mean():.3f} ± {figure.std():.3f}" for figure in figures))
    Console().print(table)


if __name__ == "__main__":
    main()
