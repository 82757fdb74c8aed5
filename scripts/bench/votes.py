"""Whether votes teach: `python scripts/bench/votes.py`, on the toy model.

A listener who likes bright sounds hears two sounds of each of some captions, which the base made from other noise, and prefers the
one of the higher spectral centroid. LoRA learns from these pairs by `DirectPreference`. Then base and adapted model make a sound of
each of as many other captions from the same noise, and the same listener chooses. Printed are the share of captions in which it
prefers the adapted model (95 % interval of Wilson) and by how much the centroid moved (Student's t over captions).
"""

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path
from time import process_time

import torch
from rich.console import Console
from scipy import stats
from torch import Tensor
from tqdm import tqdm

from audioldm_lit import seeding
from audioldm_lit.adapters.base import inject, trainable
from audioldm_lit.adapters.peft import PeftAdapter
from audioldm_lit.audio.waveform import write
from audioldm_lit.backbone import Backbone
from audioldm_lit.data.pairs import write_pairs
from audioldm_lit.inference.generation import Generation, generate_clips
from audioldm_lit.inference.manifest import Entry
from audioldm_lit.inference.prompt_file import GENERAL, read_prompts
from audioldm_lit.inference.sampling import Sampler
from audioldm_lit.objectives.preference import DirectPreference
from audioldm_lit.places import NANO

SAMPLER = Sampler("DPMSolverMultistepScheduler", 10)
BATCH = 8


def centroid(waveform: Tensor, sample_rate: int) -> float:
    """Spectral centroid in Hz: the mean frequency, weighed by the power spectrum."""
    power = torch.fft.rfft(waveform.double()).abs().square()
    frequencies = torch.fft.rfftfreq(len(waveform), 1 / sample_rate, dtype=torch.float64)
    return float((power * frequencies).sum() / power.sum())


def sounds(backbone: Backbone, prompts: Sequence[str], candidate: int) -> list[Tensor]:
    """A sound of every prompt; the noise belongs to prompt and candidate."""
    num_samples = round(backbone.window * backbone.sample_rate)
    entries = [Entry(f"{prompt} {candidate}", prompt, 0, candidate) for prompt in prompts]
    generation = Generation(backbone, SAMPLER, backbone.encode_text([""])[0], num_samples)
    made = generate_clips(generation, entries, backbone.encode_text(list(prompts)))
    return [sound for _, sound in tqdm(made, total=len(entries), desc=f"sounds, candidate {candidate}")]


def vote(backbone: Backbone, prompts: Sequence[str], folder: Path) -> Path:
    """Two sounds of every prompt in the order that the listener puts them in, as a table."""
    pairs = []
    for number, (prompt, *both) in enumerate(zip(prompts, sounds(backbone, prompts, 0), sounds(backbone, prompts, 1), strict=True)):
        both.sort(key=lambda sound: centroid(sound, backbone.sample_rate), reverse=True)
        files = [folder / f"{number}-{side}.wav" for side in ("better", "worse")]
        for file, sound in zip(files, both, strict=True):
            write(file, sound, backbone.sample_rate)
        pairs.append((prompt, *files))
    write_pairs(folder / "pairs.csv", pairs)
    return folder / "pairs.csv"


def learn(backbone: Backbone, objective: DirectPreference, steps: int, rate: float) -> None:
    """Train LoRA on the pairs."""
    optimizer = torch.optim.AdamW(trainable(backbone).values(), lr=rate)
    latents = torch.zeros(BATCH, *objective.better.shape[1:])
    for step in tqdm(range(steps), desc="steps"):
        generators = [seeding.placed(0, step * BATCH + place) for place in range(BATCH)]
        optimizer.zero_grad()
        objective(backbone, backbone.scheduler, latents, objective.prompt_embeds[:BATCH], generators).mean().backward()
        optimizer.step()


def main() -> None:
    """Vote, learn, vote again."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--captions", type=int, default=26, help="to learn from, and again as many to judge by")
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--beta", type=float, default=1000.0)
    options = parser.parse_args()
    prompts = read_prompts(GENERAL, "prompts")[: 2 * options.captions]
    heard, held_out = prompts[::2], prompts[1::2]
    backbone = Backbone.load(NANO)
    before = sounds(backbone, held_out, 2)
    with tempfile.TemporaryDirectory() as folder:
        objective = DirectPreference(vote(backbone, heard, Path(folder)), options.beta)
        objective.prepare(backbone, round(backbone.window * backbone.sample_rate), Path(folder))
    inject(PeftAdapter("LoraConfig", {"r": 8, "lora_alpha": 8}), backbone)
    learn(backbone, objective, options.steps, options.lr)
    after = sounds(backbone, held_out, 2)
    rate = backbone.sample_rate
    moved = torch.tensor([centroid(new, rate) - centroid(old, rate) for old, new in zip(before, after, strict=True)]).double()
    won = int((moved > 0).sum())
    share = stats.binomtest(won, len(moved)).proportion_ci(method="wilson")
    mean = stats.ttest_1samp(moved, 0).confidence_interval()
    say = Console(highlight=False, markup=False, width=200).print
    say(f"{len(heard)} pairs, {options.steps} steps, beta {options.beta:g}, rate {options.lr:g}; {process_time():.0f} s of CPU")
    say(f"adapted preferred in {won} of {len(moved)} captions, {won / len(moved):.2f} [{share.low:.2f}, {share.high:.2f}]")
    say(f"centroid moved by {moved.mean():.0f} Hz [{mean.low:.0f}, {mean.high:.0f}], from {mean_of(before, rate):.0f} Hz")


def mean_of(waveforms: Sequence[Tensor], sample_rate: int) -> float:
    """Mean centroid in Hz."""
    return sum(centroid(waveform, sample_rate) for waveform in waveforms) / len(waveforms)


if __name__ == "__main__":
    main()
