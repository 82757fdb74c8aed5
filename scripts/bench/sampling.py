"""Seconds against KAD of ways to sample: `OMP_NUM_THREADS=2 python scripts/bench/sampling.py --data DIR --json sampling.json`.

For every combination of scheduler and steps, interval of guidance and interval of deep features, the toy model generates the same
captions from the same noise, `--each` clips for every recording. KAD is taken against the recordings and against what the model's
own decoder makes of them, which no clip can come nearer than. A row is starred where no other is both faster and nearer to the
reconstructions. Seconds are of the processor: other programs do not count. `--presets` runs the presets and a few between them;
`--only paper good` these presets, and says how the others differ from the first, paired over clips.

`--full-size` times instead a clip of 10.24 s on AudioLDM-S with random weights, ours and diffusers' pipeline at the settings of the
paper, and ours at the presets, the long ones told from a few steps. `--clips 4` only shows that it works.
"""

import argparse
import itertools
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from time import process_time
from typing import Any

import diffusers
import torch
import yaml
from rich.console import Console
from rich.table import Table
from tqdm import tqdm
from train_step import machine

from audioldm_lit import seeding
from audioldm_lit.backbone import Backbone
from audioldm_lit.data.clips import ClipDataset
from audioldm_lit.data.folder import Folder
from audioldm_lit.evaluation.recordings import reconstructed, recordings
from audioldm_lit.evaluation.score import Score, compare, score
from audioldm_lit.inference.generation import NOISE, Generation, generate_clips
from audioldm_lit.inference.manifest import Entry
from audioldm_lit.inference.sampling import Sampler
from audioldm_lit.metrics.extractors.aisfx import AISFX
from audioldm_lit.metrics.extractors.base import AudioBatch
from audioldm_lit.metrics.kernel import KAD
from audioldm_lit.places import NANO, REPOSITORY
from audioldm_lit.storage.atomic_write import write_json

from shapes import model

STEPS = {"DDIMScheduler": (10, 25, 50, 200), "DPMSolverMultistepScheduler": (6, 10, 15, 25)}
BETWEEN = (  # the presets
    Sampler("DPMSolverMultistepScheduler", 6),
    Sampler("DPMSolverMultistepScheduler", 10),
    Sampler("DPMSolverMultistepScheduler", 10, guidance_interval=(0, 700)),
    Sampler("DPMSolverMultistepScheduler", 15, cache_interval=3),
    Sampler("DDIMScheduler", 50),
)
GUIDED = (None, (0, 700), (100, 700))  # timesteps
CACHED = (1, 2, 3)
PAPER = {"num_inference_steps": 200, "guidance_scale": 2.5, "eta": 1.0}
FEW, WHOLE = (2, 4), 10  # steps at full size from which those of a clip are told; so many are run
PRESETS = {path.stem: path for path in sorted((REPOSITORY / "configs" / "sampler").glob("*.yaml"))}
ROW = dict[str, Any]


def clips_of(root: Path, count: int, seconds: float, rate: int) -> ClipDataset:
    """Some clips of a folder with captions, always the same."""
    data = Folder(root)
    clips = sorted(
        (clip for split in ("train", "val", "test") for clip in data.clips(split)),
        key=lambda clip: seeding.number("bench", clip.id),
    )
    return ClipDataset(clips[:count], rate, round(seconds * rate), "repeat")


def levelled(batch: AudioBatch) -> AudioBatch:
    """Every clip at a peak of 0.5, so that no side gains by its level."""
    peaks = batch.waveform.abs().amax(dim=1, keepdim=True).clamp(min=1e-4)
    return AudioBatch(batch.ids, 0.5 * batch.waveform / peaks, batch.sample_rate, batch.captions)


def distance(made: Sequence[AudioBatch], real: Sequence[AudioBatch], extractor: AISFX) -> Score:
    """KAD of clips."""
    metric = KAD(extractor)
    for preds in made:
        metric.update(preds=preds)
    for target in real:
        metric.update(target=target)
    return score(metric)


def ways(options: argparse.Namespace) -> Iterator[Sampler]:
    """Every combination, or the presets and a few between them, the slowest last; or those presets that are named."""
    if options.only:
        yield from (presets()[name] for name in options.only)
        return
    if options.presets:
        yield from sorted([*presets().values(), *BETWEEN], key=lambda sampler: sampler.num_inference_steps)
        return
    pairs = [(scheduler, steps) for scheduler, many in STEPS.items() for steps in many if steps <= options.most]
    for (scheduler, steps), guided, cached in itertools.product(pairs, GUIDED, CACHED):
        yield Sampler(scheduler, steps, guidance_interval=guided, cache_interval=cached)


def presets() -> dict[str, Sampler]:
    """Those of configs/sampler/."""
    return {name: Sampler(**yaml.safe_load(path.read_text())["init_args"]) for name, path in PRESETS.items()}


def generated(backbone: Backbone, clips: ClipDataset, each: int, sampler: Sampler) -> tuple[list[AudioBatch], float]:
    """Clips for every caption, and seconds of the processor a clip."""
    numbers: Counter[str] = Counter()  # a caption that comes twice gets other noise
    entries = []
    for prompt in [clips.text(index) for index in range(len(clips))] * each:
        entries.append(Entry(f"{prompt} {numbers[prompt]}", prompt, 0, numbers[prompt]))
        numbers[prompt] += 1
    cond = backbone.encode_text([entry.prompt for entry in entries])
    generation = Generation(backbone, sampler, backbone.encode_text([""])[0], clips.num_samples)
    began = process_time()
    made = list(generate_clips(generation, entries, cond))
    seconds = (process_time() - began) / len(entries)
    return [levelled(AudioBatch([entry.id], sound[None], clips.sample_rate, [entry.prompt])) for entry, sound in made], seconds


def passes(sampler: Sampler, backbone: Backbone) -> int:
    """Passes of a clip through the UNet, of which a guided step takes two."""
    return sum(2 if sampler.guides_at(float(step)) else 1 for step in sampler.steps(backbone, NOISE))


def pareto(options: argparse.Namespace) -> list[ROW]:
    """A row for each way to sample."""
    backbone, extractor = Backbone.load(NANO), AISFX()
    clips = clips_of(options.data, options.clips, options.seconds or backbone.window, backbone.sample_rate)
    real = list(recordings(clips, 0, 1, backbone.device))
    again = [levelled(reconstructed(batch, backbone, "own")) for batch in real]
    rows: list[ROW] = []
    first: dict[str, Score] = {}
    for sampler in tqdm(list(ways(options)), desc="ways to sample"):
        made, seconds = generated(backbone, clips, options.each, sampler)
        scores = {"recordings": distance(made, real, extractor), "reconstructions": distance(made, again, extractor)}
        names = ("scheduler", "num_inference_steps", "guidance_interval", "cache_interval", "eta")
        row: ROW = {name: sampler.spec()[name] for name in names}
        row |= {"clips": len(made), "passes": passes(sampler, backbone), "seconds": seconds}
        row |= {f"kad from {side}": found.value for side, found in scores.items()}
        row |= {f"interval from {side}": found.interval for side, found in scores.items()}
        if first and options.only:
            row |= {f"less the first, from {side}": vars(compare(first[side], scores[side])) for side in scores}
        first = first or scores
        rows.append(row)
        if options.json:  # what is known, should it be ended
            write_json(options.json, {**machine(), "rows": rows})
    for row in rows:
        better = [other for other in rows if other["seconds"] < row["seconds"]]
        row["pareto"] = all(other["kad from reconstructions"] >= row["kad from reconstructions"] for other in better)
    floor = distance(again, real, extractor).value
    return [*rows, {"scheduler": "reconstructions themselves", "kad from recordings": floor}]


@torch.no_grad()
def full_size(options: argparse.Namespace) -> list[ROW]:
    """Seconds of the processor for a clip of 10.24 s, of as many candidates as are asked for."""
    backbone, seconds, count = model("s", unet_alone=False), 10.24, options.candidates
    prompt = "rain on a roof"
    cond, empty = backbone.encode_text([prompt]).expand(count, -1), backbone.encode_text([""])[0]
    entries = [Entry(prompt, prompt, 0, number) for number in range(count)]
    parts = {part: getattr(backbone, part) for part in ("vae", "text_encoder", "tokenizer", "unet", "vocoder", "scheduler")}
    pipeline = diffusers.AudioLDMPipeline(**parts)
    pipeline.set_progress_bar_config(disable=True)

    def ours(sampler: Sampler, steps: int) -> None:
        short = Sampler(**{**sampler.spec(), "num_inference_steps": steps})
        list(generate_clips(Generation(backbone, short, empty, round(seconds * 16_000)), entries, cond))

    def theirs(steps: int) -> None:
        settings = {**PAPER, "num_inference_steps": steps}
        pipeline(prompt, audio_length_in_s=seconds, num_waveforms_per_prompt=count, **settings)

    rows = [told("AudioLDMPipeline, at the paper's settings", theirs, PAPER["num_inference_steps"])]
    rows.append(told("ours, at the paper's settings", partial(ours, Sampler(**PAPER)), PAPER["num_inference_steps"]))
    for name, sampler in presets().items():
        if sampler.spec() != Sampler(**PAPER).spec():
            rows.append(told(f"ours, {name}", partial(ours, sampler), sampler.num_inference_steps))
    return [{**row, "times as fast": rows[0]["seconds"] / row["seconds"]} for row in rows]


def told(name: str, sample: Callable[[int], None], steps: int) -> ROW:
    """Seconds of some steps, told from those of a few where they are many: but for what is cached, one takes as long as another."""
    times = {}
    for few in (steps,) if steps <= WHOLE else FEW:
        began = process_time()
        sample(few)
        times[few] = process_time() - began
    if steps in times:
        return {"scheduler": name, "steps": steps, "a step": None, "seconds": times[steps]}
    a_step = (times[FEW[1]] - times[FEW[0]]) / (FEW[1] - FEW[0])
    return {"scheduler": name, "steps": steps, "a step": a_step, "seconds": times[FEW[0]] + (steps - FEW[0]) * a_step}


def show(rows: Sequence[ROW]) -> None:
    """Print the rows, fastest first."""
    keys = [key for key in rows[0] if not key.startswith("interval from") and key != "pareto"]
    table = Table(*keys)
    for row in sorted(rows, key=lambda row: row.get("seconds", 0.0)):
        values = [row.get(key, "") for key in keys]
        cells = [f"{value:.3g}" if isinstance(value, float) else "" if value is None else str(value) for value in values]
        table.add_row(f"* {cells[0]}" if row.get("pareto") else cells[0], *cells[1:])
    Console().print(table)
    for row in rows:
        for key in (key for key in row if key.startswith("less the first")):
            print(f"{row['scheduler']}, {key}: {row[key]['verdict']}, {row[key]['difference']:.2f}, 95 % {row[key]['interval']}")


def main() -> None:
    """Measure, print and, with `--json`, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help="folder of recordings with captions")
    parser.add_argument("--clips", type=int, default=200)
    parser.add_argument("--each", type=int, default=1, help="clips for each recording's caption")
    parser.add_argument("--seconds", type=float, help="length of the clips; by default the model's")
    parser.add_argument("--presets", action="store_true", help="the presets and a few between them, not every combination")
    parser.add_argument("--only", nargs="+", choices=list(PRESETS), help="presets to compare with the first of them")
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
