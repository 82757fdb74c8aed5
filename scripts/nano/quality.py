"""Measure what the nano model can do: `python scripts/nano/quality.py --data DIR`.

Three questions, from the recording outwards: what do VAE and vocoder lose of a held-out recording, do both CLAP towers find
held-out sounds by their captions, and how far is what the model generates for a label from recordings of it, where as many other
recordings are the floor.
"""

import argparse
from collections import Counter
from collections.abc import Iterable
from itertools import zip_longest
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor
from tqdm import tqdm

from audioldm_lit.backbone import Backbone
from audioldm_lit.evaluation.score import Score, score
from audioldm_lit.inference.generation import Generation, generate_clips
from audioldm_lit.inference.manifest import Entry
from audioldm_lit.inference.sampling import Sampler
from audioldm_lit.metrics.base import ClipMetric
from audioldm_lit.metrics.extractors.aisfx import AISFX
from audioldm_lit.metrics.extractors.base import AudioBatch
from audioldm_lit.metrics.kernel import KAD
from audioldm_lit.metrics.spectral import LogSpectralDistance
from audioldm_lit.storage.atomic_write import write_json

from architecture import SAMPLE_RATE, WINDOW
from clap import retrieval
from recordings import Clip, Mixer, read_clips

HELD_OUT = 64  # windows


@torch.no_grad()
def reconstructed(backbone: Backbone, waveform: Tensor, vae: bool) -> Tensor:
    """A waveform (B, T) through the vocoder, and before it through the VAE; peak 0.5 like the recordings' windows."""
    mel = backbone.log_mel(waveform)
    if vae:
        mel = backbone.vae.decode(backbone.vae.encode(mel).latent_dist.mean).sample
    return backbone.vocoder(mel[:, 0])[:, : waveform.shape[1]]


def measured(metric: ClipMetric, made: Iterable[Tensor], real: Iterable[Tensor]) -> Score:
    """Score clips (T,) against recordings (T,); pairs have the same place."""
    batches = [
        [AudioBatch([str(number)], clip[None], SAMPLE_RATE, [""]) for number, clip in enumerate(side)] for side in (made, real)
    ]
    for preds, target in zip_longest(*batches):
        metric.update(preds=preds, target=target)
    return score(metric)


def level(clips: Iterable[Tensor]) -> list[Tensor]:
    """Clips at a peak of 0.5."""
    return [0.5 * clip / clip.abs().max().clamp(min=1e-4) for clip in clips]


def reconstruction(backbone: Backbone, clips: list[Clip]) -> dict[str, float]:
    """Log-spectral distance of held-out windows, through the vocoder alone and through VAE and vocoder."""
    mixer = Mixer(clips, seed=0)
    real = torch.stack([mixer.window(mixer.clip(), WINDOW) for _ in range(HELD_OUT)])
    paths = {"vocoder": False, "VAE + vocoder": True}
    made = {name: torch.cat([reconstructed(backbone, part, vae) for part in real.split(8)]) for name, vae in paths.items()}
    return {name: measured(LogSpectralDistance(), sounds, real).value for name, sounds in made.items()}


def per_label(backbone: Backbone, clips: list[Clip], labels: int, count: int, steps: int) -> dict[str, dict[str, float]]:
    """KAD of generated, of reconstructed and of other recordings, by label, for the labels with the most recordings."""
    extractor, sampler = AISFX(), Sampler(num_inference_steps=steps, guidance_scale=2.5, scheduler="DPMSolverMultistepScheduler")
    generation, mixer, table = Generation(backbone, sampler, backbone.encode_text([""])[0], WINDOW), Mixer(clips, seed=1), {}
    for label, _ in tqdm(Counter(clip.label for clip in clips).most_common(labels), desc="labels"):
        real = [mixer.window(mixer.clip(label), WINDOW) for _ in range(2 * count)]
        cond = backbone.encode_text([label.replace("_", " ")]).expand(count, -1)
        entries = [Entry(label, label, 0, number) for number in range(count)]
        made = torch.stack([clip for _, clip in generate_clips(generation, entries, cond, batch_size=count)])
        again = torch.cat([reconstructed(backbone, part, vae=True) for part in torch.stack(real[:count]).split(8)])
        generated = measured(KAD(extractor), level(made), level(real))
        rebuilt = measured(KAD(extractor), level(again), level(real[count:]))
        table[label] = {"generated": generated.value, "reconstructed": rebuilt.value, "floor": generated.floor.value}
    return table


def main() -> None:
    """Measure, print and, with `--json`, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with metadata.csv and the recordings it names")
    parser.add_argument("--model", type=Path, default=Path("checkpoints/audioldm-nano"))
    parser.add_argument("--labels", type=int, default=10, help="labels to generate, those with the most recordings first")
    parser.add_argument("--count", type=int, default=16, help="clips generated a label")
    parser.add_argument("--steps", type=int, default=25, help="steps of DPM-Solver++ a clip")
    parser.add_argument("--json", type=Path, help="file for the figures")
    options = parser.parse_args()
    backbone, (clips, held_out) = Backbone.load(options.model), read_clips(options.data)
    figures = {
        "log_spectral_distance": reconstruction(backbone, held_out),
        "retrieval": retrieval(backbone, held_out),
        "kad": per_label(backbone, clips + held_out, options.labels, options.count, options.steps),
    }
    console, table = Console(), Table("label", "generated", "reconstructed", "recordings", title="KAD from recordings")
    for label, row in figures["kad"].items():
        table.add_row(label, *(f"{value:.2f}" for value in row.values()))
    means = [
        sum(row[name] for row in figures["kad"].values()) / len(figures["kad"]) for name in ("generated", "reconstructed", "floor")
    ]
    table.add_row("mean", *(f"{value:.2f}" for value in means))
    console.print(table)
    for name, value in figures["log_spectral_distance"].items():
        console.print(f"log-spectral distance through {name}: {value:.3f}")
    console.print(f"retrieval of 16: {figures['retrieval']:.3f}")
    if options.json:
        write_json(options.json, figures)


if __name__ == "__main__":
    main()
