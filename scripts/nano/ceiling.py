"""Measure what a model's decoder loses: `python scripts/nano/ceiling.py --model DIR --recordings DIR --reference DIR`.

Recordings go through the vocoder alone, through VAE and vocoder, and both ways with Griffin-Lim in the vocoder's place. No
adapter can bring generated sound nearer to recordings than their own reconstruction is.
"""

import argparse
from pathlib import Path

import torch
from quality import level, measured
from rich.console import Console
from rich.table import Table
from torch import Tensor
from tqdm import tqdm

from audioldm_lit.audio.waveform import fit, read
from audioldm_lit.backbone import Backbone
from audioldm_lit.metrics.extractors.aisfx import AISFX
from audioldm_lit.metrics.kernel import KAD
from audioldm_lit.metrics.spectral import LogSpectralDistance
from audioldm_lit.storage.atomic_write import write_json
from audioldm_lit.vocoders.griffin_lim import GriffinLim

SECONDS = 2.56
SUFFIXES = {".wav", ".flac", ".ogg"}


def read_folder(folder: Path, pattern: str, sample_rate: int) -> Tensor:
    """The loudest 2.56 s of every matching recording under a folder (N, T), peak 0.5."""
    files = sorted(file for file in folder.rglob(pattern) if file.suffix.lower() in SUFFIXES)
    return torch.stack([fit(read(file, sample_rate), round(SECONDS * sample_rate)) for file in tqdm(files, desc="reading")])


@torch.no_grad()
def reconstructions(backbone: Backbone, waveform: Tensor) -> dict[str, Tensor]:
    """Every way through the decoder, by name; (N, T) each."""
    ways = {"vocoder": backbone.vocoder, "Griffin-Lim": GriffinLim(backbone.log_mel)}
    made: dict[str, list[Tensor]] = {}
    for part in tqdm(waveform.split(8), desc="decoding"):
        mel = backbone.log_mel(part)
        rebuilt = backbone.vae.decode(backbone.vae.encode(mel).latent_dist.mean).sample
        for name, vocoder in ways.items():
            made.setdefault(name, []).append(vocoder(mel[:, 0])[:, : part.shape[1]])
            made.setdefault(f"VAE + {name}", []).append(vocoder(rebuilt[:, 0])[:, : part.shape[1]])
    return {name: torch.cat(parts) for name, parts in made.items()}


def main() -> None:
    """Measure, print and, with `--json`, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=Path("checkpoints/audioldm-nano"))
    parser.add_argument("--recordings", type=Path, required=True, help="folder of recordings that the model was not trained on")
    parser.add_argument("--pattern", default="*", help="names of the recordings: '1-*' is fold 1 of ESC-10")
    parser.add_argument("--json", type=Path, help="file for the figures")
    options = parser.parse_args()
    backbone, extractor = Backbone.load(options.model), AISFX()
    real = read_folder(options.recordings, options.pattern, backbone.sample_rate)
    table, figures = Table("way", "KAD [95 %]", "log-spectral distance", title=f"{len(real)} recordings of {SECONDS} s"), {}
    for name, made in reconstructions(backbone, real).items():
        kad = measured(KAD(extractor), level(made), level(real))
        distance = measured(LogSpectralDistance(), made, real)
        figures[name] = {"kad": kad.value, "interval": kad.interval, "log_spectral_distance": distance.value}
        shown = "" if kad.interval is None else f" [{kad.interval[0]:.2f}, {kad.interval[1]:.2f}]"
        table.add_row(name, f"{kad.value:.2f}{shown}", f"{distance.value:.3f}")
    Console().print(table)
    if options.json:
        write_json(options.json, figures)


if __name__ == "__main__":
    main()
