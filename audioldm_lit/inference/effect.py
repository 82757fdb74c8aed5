"""What an adapter does to a model, so that one that does nothing, or ruins the model, shows before anyone listens.

Where the bounds of the verdict come from: LoRA and full fine-tuning of the toy model on eight shots of ESC-10, then with the change
of the weights multiplied; held-out loss (20 clips) and deviation of generated latents (10 prompts) are given over the base's.

| adapter | distance | held-out loss | deviation |
|---|---|---|---|
| LoRA, 2 steps | 0.0009 | 1.00 | 1.00 |
| (the base in bfloat16) | 0.007 | | |
| LoRA, 50 and 200 steps | 0.022, 0.027 | 0.98, 0.97 | 0.98, 0.99 |
| full, 200 steps | 0.029 | 0.97 | 0.97 |
| LoRA, 200 steps, x 2, 3, 5 | 0.049, 0.070, 0.12 | 0.98, 1.03, 1.23 | 1.01, 1.04, 1.19 |
| full, 200 steps, x 6 | 0.14 | 1.40 | 1.21 |
| LoRA, 200 steps, x 7 | 0.19 | 1.64 | 1.77 |
| from scratch, 400 steps | 0.20 | 1.63 | 3.12 |
| full, 200 steps, x 10 | 0.25 | 2.44 | 2.49 |
| LoRA, 200 steps, x 10, 30 | 0.35, 1.36 | 3.06, 34.8 | 5.09, 56 |

Below 0.005 an adapter changes predictions less than rounding them to bfloat16 does; above 0.15 latents leave the data.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any, Literal

import torch
from rich import box
from rich.console import Console
from rich.table import Table
from torch import Tensor

from audioldm_lit import seeding
from audioldm_lit.adapters.base import Adapter, trainable
from audioldm_lit.backbone import Backbone
from audioldm_lit.console.markup import escape
from audioldm_lit.console.stages import Stage
from audioldm_lit.diffusion import Prediction, levels, prediction_of, timesteps_of

NO_EFFECT, SATURATED = 0.005, 0.15
TIMESTEPS = (900, 700, 500, 300, 100)
ORDER = ("conv_in", "time_embedding", "class_embedding", "down_blocks", "mid_block", "up_blocks", "conv_norm_out", "conv_out")
BAR = 24  # characters
MEANINGS = {
    "no effect": "[red]no effect[/]: on these prompts the model predicts what its base does; train longer or at a higher rate",
    "moderate": "[green]moderate[/]: changed, and still like data",
    "saturated": "[red]saturated[/]: likely no longer like data; take less strength, fewer steps or a lower rate",
}


@dataclass(frozen=True)
class Added:
    """Weights that stand beside the base's, such as a bottleneck's or a new word's.

    Attributes:
        weights: How many numbers.
        norm: Their Frobenius norm.
    """

    weights: int
    norm: float


@dataclass(frozen=True)
class Effect:
    """What an adapter does to a model.

    Attributes:
        blocks: ||dW|| / ||W|| (Frobenius) for each block of the UNet; 0 where nothing changes.
        added: By block, what the adapter adds and what cannot be folded into the weights of the base's UNet.
        distances: By timestep, ||pred_adapted - pred_base|| / ||pred_base|| of the noise predicted in the same latents.
    """

    blocks: dict[str, float]
    added: dict[str, Added]
    distances: dict[int, float]

    @property
    def distance(self) -> float:
        """Mean of the distances."""
        return sum(self.distances.values()) / len(self.distances)

    @property
    def verdict(self) -> Literal["no effect", "moderate", "saturated"]:
        """What the distance means; a distance that is not a number counts as saturated."""
        if self.distance < NO_EFFECT:
            return "no effect"
        return "moderate" if self.distance < SATURATED else "saturated"

    def as_dict(self) -> dict[str, Any]:
        """Everything as plain values."""
        return {"verdict": self.verdict, "distance": self.distance, **asdict(self)}


@torch.no_grad()
def measure_effect(
    base: Backbone,
    adapter: Adapter,
    adapted: Backbone,
    prediction: Prediction,
    prompts: Sequence[str],
    seed: int = 0,
    embeds: Tensor | None = None,
) -> Effect:
    """Compare an adapted model with its base; the adapter is folded into it.

    Args:
        base: The model as it was, in float32 and eval mode.
        adapter: The adapter.
        adapted: The same model with the adapter injected and not folded, in float32; give a copy where it is still needed so.
        prediction: What the adapted UNet predicts.
        prompts: Texts on which the predictions are compared; each model reads them in its own way.
        seed: Seed of the noise.
        embeds: What the base reads in the prompts (B, D), where that is known.
    """
    before = [(name, weight.numel(), _square(weight)) for name, weight in trainable(adapted).items()]
    adapter.merge(adapted)
    adapted.unet.eval()
    embeds = base.encode_text(prompts) if embeds is None else embeds.to(base.device)
    conds = embeds, adapter.prompt_embeds(adapted, prompts, embeds)
    generators = [seeding.generator("effect", seed, row) for row in range(len(prompts))]
    latents = seeding.normal(generators, base.latent_shape(round(base.window * base.sample_rate))).to(base.device)
    for model in (base, adapted):
        model.rest()  # two UNets are enough
    with Stage("effect of the adapter"):
        distances = _distances(base, adapted, conds, latents, prediction)
    return Effect(_blocks(base, adapted), _added(base, before, adapted), distances)


def _blocks(base: Backbone, merged: Backbone) -> dict[str, float]:
    """||dW|| / ||W|| of each block. A weight of the base that has another name now was wrapped, and is as it was."""
    after = merged.unet.state_dict()
    size: dict[str, float] = defaultdict(float)
    change: dict[str, float] = defaultdict(float)
    for name, weight in base.unet.state_dict().items():
        size[_block(name)] += _square(weight)
        change[_block(name)] += _square(after.get(name, weight).cpu().double() - weight.cpu().double())
    return {block: (change[block] / size[block]) ** 0.5 for block in sorted(size, key=_place)}


def _added(base: Backbone, trained: Sequence[tuple[str, int, float]], merged: Backbone) -> dict[str, Added]:
    """What trains outside the UNet, or is still there after folding, by block; `trained` gives names, sizes and sums of squares."""
    known = {f"unet.{name}" for name in base.unet.state_dict()}
    kept = {f"unet.{name}" for name in merged.unet.state_dict()}
    found: dict[str, list[tuple[int, float]]] = defaultdict(list)
    for name, count, square in trained:
        if name not in known and (name in kept or not name.startswith("unet.")):
            found[_block(name.removeprefix("unet."))].append((count, square))
    return {
        block: Added(sum(count for count, _ in found[block]), sum(square for _, square in found[block]) ** 0.5)
        for block in sorted(found, key=_place)
    }


def _distances(
    base: Backbone, merged: Backbone, conds: tuple[Tensor, Tensor], latents: Tensor, prediction: Prediction
) -> dict[int, float]:
    """Both predictions along the base's own sampling in five steps, whose latents thus cost no pass of their own."""
    predictions = prediction_of(base.scheduler), prediction
    schedulers = [one.scheduler(base.scheduler) for one in predictions]
    distances = {}
    for step, following in pairwise((*TIMESTEPS, 0)):
        timesteps = torch.full((len(latents),), step, device=latents.device)
        alpha_bar = levels(base.scheduler, timesteps)
        before, after = (
            one.noise(model(latents, timesteps_of(scheduler, alpha_bar), cond), latents, alpha_bar)
            for one, scheduler, model, cond in zip(predictions, schedulers, (base, merged), conds, strict=True)
        )
        distances[step] = (_square(after - before) / _square(before)) ** 0.5
        now, then = base.scheduler.alphas_cumprod[[step, following]].tolist()
        clean = (latents - (1 - now) ** 0.5 * before) / now**0.5
        # x_s = sqrt(alpha_bar_s) x_0 + sqrt(1 - alpha_bar_s) epsilon; Eq. 12 of Song et al. 2020 (arXiv 2010.02502), sigma 0
        latents = then**0.5 * clean + (1 - then) ** 0.5 * before
    return distances


def _square(values: Tensor) -> float:
    """Sum of squares, in float64, which not every device has."""
    return values.detach().cpu().double().square().sum().item()


def _block(name: str) -> str:
    """Top-level module of a weight, such as `conv_in` or `down_blocks.0`."""
    head, *rest = name.split(".")
    return f"{head}.{rest[0]}" if rest and rest[0].isdigit() else head


def _place(block: str) -> tuple[int, str]:
    """Sorts blocks as they are passed, then other parts."""
    head = block.split(".")[0]
    return (ORDER.index(head) if head in ORDER else len(ORDER)), block


def show(effect: Effect, console: Console, title: str = "Effect of the adapter") -> None:
    """Print the change of each block, what is added and the verdict."""
    table = Table(title=escape(title), title_justify="left", box=box.SIMPLE_HEAD)
    table.add_column("block", no_wrap=True)
    table.add_column("||dW|| / ||W||", justify="right", no_wrap=True)
    table.add_column(no_wrap=True)
    most = max(effect.blocks.values())
    for block, change in effect.blocks.items():
        table.add_row(escape(block), _percent(change), "█" * round(BAR * change / most) if 0 < change <= most else "")
    for block, added in effect.added.items():
        table.add_row(escape(block), "added", f"{added.weights:,} weights of norm {added.norm:.3g}")
    console.print(table)
    distances = ", ".join(f"{_percent(distance)} at t = {step}" for step, distance in effect.distances.items())
    console.print(f"predictions moved by {_percent(effect.distance)} ({distances})", soft_wrap=True, highlight=False)
    console.print(f"effect: {MEANINGS[effect.verdict]}", soft_wrap=True, highlight=False)


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"
