"""Seconds against KAD of ways to sample: `OMP_NUM_THREADS=2 python scripts/bench/sampling.py --data DIR --json sampling.json`.

For every combination of scheduler and steps, interval of guidance and interval of deep features, the toy model generates a clip for
each of the same captions from the same noise. KAD is taken against the recordings and against what the model's own decoder makes of
them, which no clip can come nearer than. A row is starred where no other is both faster and nearer to the reconstructions.

`--full-size` times instead a clip of 10.24 s on AudioLDM-S with random weights, ours and diffusers' pipeline at the settings of the
paper, and ours at the presets. Run either on an idle machine; `--clips 4` only shows that it works.
"""

import argparse
import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from time import perf_counter
from typing import Any

import diffusers
import torch
import yaml
from rich.console import Console
from rich.table import Table
from tqdm import tqdm
from train_step import machine, model

from audioldm_lit import seeding
from audioldm_lit.backbone import Backbone
from audioldm_lit.data.clips import ClipDataset
from audioldm_lit.data.folder import Folder
from audioldm_lit.evaluation.recordings import reconstructed, recordings
from audioldm_lit.evaluation.score import Score, score
from audioldm_lit.inference.generation import Generation, generate_clips
from audioldm_lit.inference.manifest import Entry
from audioldm_lit.inference.sampling import Sampler
from audioldm_lit.metrics.extractors.aisfx import AISFX
from audioldm_lit.metrics.extractors.base import AudioBatch
from audioldm_lit.metrics.kernel import KAD
from audioldm_lit.places import NANO, REPOSITORY
from audioldm_lit.storage.atomic_write import write_json

STEPS = {"DDIMScheduler": (10, 25, 50, 200), "DPMSolverMultistepScheduler": (6, 10, 15, 25)}
GUIDED = (None, (0, 700), (100, 700))  # timesteps
CACHED = (1, 2, 3)
PAPER = {"num_inference_steps": 200, "guidance_scale": 2.5, "eta": 1.0}
PRESETS = {path.stem: path for path in sorted((REPOSITORY / "configs" / "sampler").glob("*.yaml"))}
ROW = dict[str, Any]


def clips_of(root: Path, count: int, backbone: Backbone) -> ClipDataset:
    """Some clips of a folder with captions, always the same, at the model's length."""
    data = Folder(root)
    clips = sorted(
        (clip for split in ("train", "val", "test") for clip in data.clips(split)),
        key=lambda clip: seeding.number("bench", clip.id),
    )
    return ClipDataset(clips[:count], backbone.sample_rate, round(backbone.window * backbone.sample_rate), "repeat")


def levelled(batch: AudioBatch) -> AudioBatch:
    """Every clip at a peak of 0.5, so that no side gains by its level."""
    peaks = batch.waveform.abs().amax(dim=1, keepdim=True).clamp(min=1e-4)
    return AudioBatch(batch.ids, 0.5 * batch.waveform / peaks, batch.sample_rate, batch.captions)


def distance(made: Sequence[AudioBatch], real: Sequence[AudioBatch], extractor: AISFX) -> Score:
    """KAD of clips."""
    metric = KAD(extractor)
    for preds, target in zip(made, real, strict=True):
        metric.update(preds=preds, target=target)
    return score(metric)


def ways(options: argparse.Namespace) -> Iterator[Sampler]:
    """Every combination."""
    pairs = [(scheduler, steps) for scheduler, many in STEPS.items() for steps in many if steps <= options.most]
    for (scheduler, steps), guided, cached in itertools.product(pairs, GUIDED, CACHED):
        yield Sampler(scheduler, steps, guidance_interval=guided, cache_interval=cached)


def generated(backbone: Backbone, clips: ClipDataset, sampler: Sampler) -> tuple[list[AudioBatch], float]:
    """A clip for every caption, and seconds a clip."""
    entries = [Entry(clips.id(index), clips.text(index), 0, 0) for index in range(len(clips))]
    cond = backbone.encode_text([entry.prompt for entry in entries])
    generation = Generation(backbone, sampler, backbone.encode_text([""])[0], clips.num_samples)
    began = perf_counter()
    made = list(generate_clips(generation, entries, cond))
    seconds = (perf_counter() - began) / len(entries)
    return [levelled(AudioBatch([entry.id], sound[None], clips.sample_rate, [entry.prompt])) for entry, sound in made], seconds


def pareto(options: argparse.Namespace) -> list[ROW]:
    """A row for each way to sample."""
    backbone, extractor = Backbone.load(NANO), AISFX()
    clips = clips_of(options.data, options.clips, backbone)
    real = list(recordings(clips, 0, 1, backbone.device))
    again = [levelled(reconstructed(batch, backbone, "own")) for batch in real]
    rows: list[ROW] = []
    for sampler in tqdm(list(ways(options)), desc="ways to sample"):
        made, seconds = generated(backbone, clips, sampler)
        scores = {"recordings": distance(made, real, extractor), "reconstructions": distance(made, again, extractor)}
        names = ("scheduler", "num_inference_steps", "guidance_interval", "cache_interval")
        row: ROW = {**{name: sampler.spec()[name] for name in names}, "seconds": seconds}
        row |= {f"kad from {side}": found.value for side, found in scores.items()}
        row |= {f"interval from {side}": found.interval for side, found in scores.items()}
        rows.append(row)
    for row in rows:
        better = [other for other in rows if other["seconds"] < row["seconds"]]
        row["pareto"] = all(other["kad from reconstructions"] >= row["kad from reconstructions"] for other in better)
    floor = distance(again, real, extractor).value
    return [*rows, {"scheduler": "reconstructions themselves", "kad from recordings": floor}]


@torch.no_grad()
def full_size(options: argparse.Namespace) -> list[ROW]:
    """Seconds of a clip of 10.24 s, of as many candidates as are asked for."""
    backbone, seconds, count = model("s", unet_alone=False), 10.24, options.candidates
    cond, empty = backbone.encode_text(["rain on a roof"]), backbone.encode_text([""])[0]
    entries = [Entry("rain on a roof", "rain on a roof", 0, number) for number in range(count)]
    presets = {name: Sampler(**yaml.safe_load(path.read_text())["init_args"]) for name, path in PRESETS.items()}
    rows = []
    for name, sampler in {"ours, at the paper's settings": Sampler(**PAPER), **presets}.items():
        began = perf_counter()
        list(generate_clips(Generation(backbone, sampler, empty, round(seconds * 16_000)), entries, cond.expand(count, -1)))
        rows.append({"scheduler": name, "seconds": perf_counter() - began})
    parts = {part: getattr(backbone, part) for part in ("vae", "text_encoder", "tokenizer", "unet", "vocoder", "scheduler")}
    pipeline = diffusers.AudioLDMPipeline(**parts)
    pipeline.set_progress_bar_config(disable=True)
    began = perf_counter()
    pipeline("rain on a roof", audio_length_in_s=seconds, num_waveforms_per_prompt=count, **PAPER)
    return [*rows, {"scheduler": "AudioLDMPipeline, at the paper's settings", "seconds": perf_counter() - began}]


def show(rows: Sequence[ROW]) -> None:
    """Print the rows, fastest first."""
    keys = [key for key in rows[0] if not key.startswith("interval from") and key != "pareto"]
    table = Table(*keys)
    for row in sorted(rows, key=lambda row: row.get("seconds", 0.0)):
        values = [row.get(key, "") for key in keys]
        cells = [f"{value:.3g}" if isinstance(value, float) else "" if value is None else str(value) for value in values]
        table.add_row(f"* {cells[0]}" if row.get("pareto") else cells[0], *cells[1:])
    Console().print(table)


def main() -> None:
    """Measure, print and, with `--json`, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder of recordings with captions")
    parser.add_argument("--clips", type=int, default=200)
    parser.add_argument("--most", type=int, default=200, help="steps; what takes more is left out")
    parser.add_argument("--full-size", action="store_true", help="time AudioLDM-S instead, with random weights")
    parser.add_argument("--candidates", type=int, default=3, help="clips of each prompt, at full size")
    parser.add_argument("--json", type=Path, help="file for the figures")
    options = parser.parse_args()
    if not options.full_size and options.data is None:
        parser.error("give --data, or --full-size")
    rows = full_size(options) if options.full_size else pareto(options)
    show(rows)
    if options.json:
        write_json(options.json, {**machine(), "rows": rows})


if __name__ == "__main__":
    main()
