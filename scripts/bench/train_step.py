"""Time a training step against what others do: `OMP_NUM_THREADS=2 python scripts/bench/train_step.py --json step.json`.

AudioLDM-S (Liu et al. 2023, arXiv 2301.12503) with random weights, on clips of 10.24 s. `reference` is the step of the original
training: float32, every weight of the UNet, each clip encoded by VAE and CLAP on the way, AdamW and the average of all weights in
loops. `peft` is LoRA as diffusers and peft give it, in float32 on cached latents. `ours` and `ours compiled` are this project's.

Each runs in a process of its own, all but the reference in turns. The last three train from one initialisation on the same latents
and noise, so their losses must agree. Run it on an idle machine; with `--shape nano` it only shows that it works.
"""

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from statistics import fmean, median
from time import perf_counter

import torch
import torch.nn.functional as F
from peft import LoraConfig
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from torch import Tensor
from torch.optim import AdamW

from audioldm_lit import seeding
from audioldm_lit.adapters.base import trainable
from audioldm_lit.adapters.peft import PeftAdapter
from audioldm_lit.adapters.targets import resolve
from audioldm_lit.backbone import Backbone
from audioldm_lit.device import fast_precision
from audioldm_lit.objectives.denoising import Epsilon
from audioldm_lit.storage.atomic_write import write_json
from audioldm_lit.training.ema import EMA

from shapes import model

Step = Callable[[int], Tensor]  # number of the step -> its loss
CLIPS = 8  # that training goes through in turn
RATE = 1e-4
LAST = 10  # steps whose losses are compared
TOLERANCE = 0.01


class Draws:
    """What the steps of every variant are given: clips, and random streams that belong to the step."""

    def __init__(self, backbone: Backbone, seconds: float, batch: int) -> None:
        self.batch = batch
        samples, width = round(seconds * backbone.sample_rate), backbone.unet.config.projection_class_embeddings_input_dim
        clips = [seeding.generator("clip", number) for number in range(CLIPS)]
        self.latents = seeding.normal(clips, backbone.latent_shape(samples)).to(backbone.device)
        self.cond = F.normalize(seeding.normal(clips, [width])).to(backbone.device)
        self.waveforms = 0.1 * seeding.normal(clips, [samples]).to(backbone.device)

    def clips(self, step: int) -> list[int]:
        """Numbers of the clips of a step."""
        return [(step * self.batch + place) % CLIPS for place in range(self.batch)]

    def generators(self, step: int) -> list[torch.Generator]:
        """One stream a clip."""
        return [seeding.generator("step", step, place) for place in range(self.batch)]

    def loss(self, backbone: Backbone, step: int, latents: Tensor | None = None, cond: Tensor | None = None) -> Tensor:
        """Loss of a step, on cached latents and embeddings where none are given."""
        clips = self.clips(step)
        latents, cond = (self.latents[clips], self.cond[clips]) if latents is None else (latents, cond)
        return Epsilon()(backbone, backbone.scheduler, latents, cond, self.generators(step)).mean()


def reference(backbone: Backbone, draws: Draws) -> Step:
    """All weights in float32, clips encoded in the step, every weight averaged in a loop."""
    weights = list(backbone.unet.requires_grad_(True).parameters())
    average = [weight.detach().clone() for weight in weights]
    optimizer = AdamW(weights, lr=RATE, foreach=False)

    def step(number: int) -> Tensor:
        waveforms = draws.waveforms[draws.clips(number)]
        mean, std = backbone.encode_posterior(waveforms)
        latents = mean + std * torch.randn_like(mean)
        loss = draws.loss(backbone, number, latents, backbone.encode_audio(waveforms))
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        with torch.no_grad():
            for mean_weight, weight in zip(average, weights, strict=True):
                mean_weight.lerp_(weight, 1e-4)
        return loss

    return step


def peft(backbone: Backbone, draws: Draws, half: bool = False) -> Step:
    """LoRA added by diffusers, trained with torch's defaults, in float32 or under bfloat16's autocast."""
    torch.manual_seed(1)
    backbone.unet.add_adapter(LoraConfig(target_modules=resolve(["all"], backbone.unet)))
    optimizer = AdamW(trainable(backbone).values(), lr=RATE)

    def step(number: int) -> Tensor:
        with torch.autocast(backbone.device.type, torch.bfloat16, enabled=half):
            loss = draws.loss(backbone, number)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return loss

    return step


def ours(backbone: Backbone, draws: Draws, compiled: bool = False, fused: bool = True) -> Step:
    """The frozen base in bfloat16 and channels_last where the hardware computes in it, AdamW, an average of what trains."""
    torch.manual_seed(1)
    PeftAdapter().inject(backbone)
    weights, ema, half = trainable(backbone), EMA(0.999), fast_precision() == "bf16-mixed"
    if half:
        for weight in backbone.unet.to(memory_format=torch.channels_last).parameters():
            if not weight.requires_grad and weight.dim() > 1:
                weight.data = weight.data.bfloat16()
    if compiled:
        backbone.unet.compile()
    optimizer = AdamW(weights.values(), lr=RATE, fused=fused)
    ema.start(weights)

    def step(number: int) -> Tensor:
        with torch.autocast(backbone.device.type, torch.bfloat16, enabled=half, cache_enabled=False):
            loss = draws.loss(backbone, number)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights.values(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        ema.update(weights)
        return loss

    return step


VARIANTS = {
    "reference": reference,
    "peft": peft,
    "ours": ours,
    "ours compiled": partial(ours, compiled=True),
}
MORE = {"peft bfloat16": partial(peft, half=True), "ours unfused": partial(ours, fused=False)}  # that `gpu.py` runs beside these


def run(options: argparse.Namespace) -> None:
    """Train one variant in this process; print seconds and loss of every step, then the peak of memory, a line each."""
    torch.set_num_threads(options.threads)
    backbone = model(options.shape, unet_alone=options.variant.startswith("peft"))
    step = (VARIANTS | MORE)[options.variant](backbone, Draws(backbone, options.seconds, options.batch))
    for number in range(options.reference_steps if options.variant == "reference" else options.steps):
        began = perf_counter()
        loss = step(number).item()  # waits for the device
        print(json.dumps({"seconds": perf_counter() - began, "loss": loss}), flush=True)
    unit = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss
    used = {"memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9}
    if backbone.device.type == "cuda":
        used = {"memory": torch.cuda.max_memory_allocated() / 1e9}
    print(json.dumps(used))


def lines(variant: str) -> Iterator[dict[str, float]]:
    """What `run` prints, in a process of its own with this one's options."""
    command = [sys.executable, __file__, *sys.argv[1:], "--variant", variant]
    environment = {**os.environ, "PYTHONWARNINGS": "ignore"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        yield from map(json.loads, process.stdout)
    if process.returncode:
        raise SystemExit(f"{variant} failed, see above.")


@dataclass(frozen=True)
class Measured:
    """Of a variant: seconds a step, peak of memory in GB, mean loss of the last steps, seconds that its first step took longer."""

    seconds: float
    memory: float
    loss: float
    first: float


def measured(options: argparse.Namespace, variants: Sequence[str]) -> dict[str, Measured]:
    """Run variants, all but the reference in turns."""
    turns = ["reference", *(name for _ in range(options.repeats) for name in variants if name != "reference")]
    runs: dict[str, list[list[dict[str, float]]]] = {name: [] for name in variants}
    with Progress(console=Console(stderr=True), transient=True) as progress:
        total = options.reference_steps + (len(turns) - 1) * options.steps
        task = progress.add_task("", total=total)
        for name in turns:
            progress.update(task, description=name)
            rows = []
            for row in lines(name):
                rows.append(row)
                progress.update(task, advance="loss" in row)
            runs[name].append(rows)
    found = {}
    for name, some in runs.items():
        seconds = median(row["seconds"] for rows in some for row in rows[options.warmup : -1])
        loss = fmean(row["loss"] for row in some[0][:-1][-LAST:])
        found[name] = Measured(seconds, max(rows[-1]["memory"] for rows in some), loss, some[0][0]["seconds"] - seconds)
    return found


def measure(options: argparse.Namespace) -> dict[str, object]:
    """Run every variant, and put figures beside each other."""
    found = measured(options, list(VARIANTS))
    figures: dict[str, object] = {"shape": options.shape, "seconds of sound": options.seconds, "clips a step": options.batch}
    figures |= {f"{name}, seconds a step": one.seconds for name, one in found.items()}
    for slow, fast in (("reference", "ours"), ("reference", "ours compiled"), ("peft", "ours"), ("peft", "ours compiled")):
        figures[f"{slow} / {fast}, time"] = found[slow].seconds / found[fast].seconds
        figures[f"{slow} / {fast}, memory"] = found[slow].memory / found[fast].memory
    figures["compiling, seconds"] = found["ours compiled"].first
    figures |= {f"{name}, peak memory in GB": one.memory for name, one in found.items()}
    figures |= {"steps": options.steps, "steps of the reference": options.reference_steps}
    same = {name: one for name, one in found.items() if name != "reference"}
    figures |= {f"{name}, loss of the last {LAST} steps": one.loss for name, one in same.items()}
    apart = max(abs(one.loss / found["peft"].loss - 1) for one in same.values())
    return {**figures, "losses apart": apart, "losses are equal": apart < TOLERANCE}


def machine() -> dict[str, object]:
    """Where and with what this was measured."""
    cpu = Path("/proc/cpuinfo")
    found = cpu.read_text(encoding="utf-8").splitlines() if cpu.is_file() else []
    names = [line.partition(":")[2].strip() for line in found if line.startswith("model name")]
    where = torch.cuda.get_device_name() if torch.cuda.is_available() else names[0] if names else platform.machine()
    versions = {"python": platform.python_version()} | {
        library: version(library) for library in ("torch", "diffusers", "peft", "transformers")
    }
    return {"machine": where, "cores": os.cpu_count(), "precision of ours": fast_precision(), **versions}


def options_of(about: str) -> argparse.Namespace:
    """What the command line says."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--shape", choices=("s", "nano"), default="s")
    parser.add_argument("--seconds", type=float, default=10.24, help="length of the clips")
    parser.add_argument("--batch", type=int, default=2, help="clips a step")
    parser.add_argument("--steps", type=int, default=50, help="of LoRA, every turn; their last losses are compared")
    parser.add_argument("--reference-steps", type=int, default=8)
    parser.add_argument("--warmup", type=int, default=3, help="first steps whose time does not count")
    parser.add_argument("--repeats", type=int, default=2, help="turns of each variant but the reference")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    parser.add_argument("--variant", choices=VARIANTS | MORE, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    """Measure and print, and write the figures where asked."""
    options = options_of(__doc__.splitlines()[0])
    if options.variant:
        run(options)
        return
    figures = {**machine(), "threads": options.threads, **measure(options)}
    table = Table("figure", "value", title="Training step")
    for label, value in figures.items():
        table.add_row(label, f"{value:,.3g}" if isinstance(value, float) else str(value))
    Console().print(table)
    if options.json:
        write_json(options.json, figures)


if __name__ == "__main__":
    main()
