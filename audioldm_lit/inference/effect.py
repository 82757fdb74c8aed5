"""What an adapter does to a model, so that one that does nothing, or ruins the model, shows before anyone listens.

Where the bounds of the verdict come from: LoRA and full fine-tuning of the toy model on 200 clips of ESC-10 in 100 steps, then with
the change of the weights multiplied; held-out loss (40 clips) over the base's.

| adapter | distance | held-out loss |
|---|---|---|
| (the base's weights rounded to bfloat16) | 0.003 | 1.00 |
| LoRA | 0.026 | 0.95 |
| LoRA, x 2, 3, 5, 7, 10 | 0.043, 0.061, 0.10, 0.14, 0.22 | 0.97, 1.01, 1.20, 1.50, 2.23 |
| full | 0.031 | 0.95 |
| full, x 2, 3, 5, 7, 10 | 0.054, 0.079, 0.13, 0.19, 0.26 | 0.98, 1.05, 1.31, 1.69, 2.43 |
| from scratch, 200 steps | 0.22 | 2.07 |

Below 0.005 an adapter changes predictions hardly more than rounding the weights to bfloat16 does. Above 0.15 an error is half
as large again as its base's; a model from scratch, whose sound is noise still (KAD 34, the base's 5.6), stands at 0.22.

A decoder is judged by the sound that it makes of latents that the base generates (two prompts); held-out error of reconstructions
(24 clips of three classes) over the base's:

| adapter | nats | held-out error |
|---|---|---|
| (the base's decoder rounded to bfloat16) | 0.009 | |
| VAE decoder and vocoder, 160 steps at 1e-4, x 1, 3, 10 | 0.53, 1.2, 2.1 | 0.98, 1.13, 5.3 |

Below 0.01 nats it is no more than that rounding; above 1.4 the error is about half as large again.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any, Literal

import torch
from rich import box
from rich.console import Console
from rich.table import Table
from torch import Tensor

from audioldm_lit import seeding
from audioldm_lit.adapters.base import Adapter, trainable, trained_parts
from audioldm_lit.backbone import SOUND_SIDE, Backbone
from audioldm_lit.console.markup import escape
from audioldm_lit.console.stages import Stage
from audioldm_lit.diffusion import Prediction, levels, prediction_of, timesteps_of

NO_EFFECT, SATURATED = 0.005, 0.15
UNHEARD, ANOTHER_SOUND = 0.01, 1.4  # nats
TIMESTEPS = (900, 700, 500, 300, 100)
ORDER = ("conv_in", "time_embedding", "class_embedding", "down_blocks", "mid_block", "up_blocks", "conv_norm_out", "conv_out")
BAR = 24  # characters
MEANINGS = {
    "no effect": "[red]no effect[/]: on these prompts the model does what its base does; train longer or at a higher rate",
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
        blocks: ||dW|| / ||W|| (Frobenius) for each block of the UNet, and of a decoder that trains; 0 where nothing changes.
        added: By block, what the adapter adds and what cannot be folded into the weights of the base's UNet.
        distances: By timestep, ||pred_adapted - pred_base|| / ||pred_base|| of the noise predicted in the same latents.
        sound: Mean absolute difference in nats between log-mels of what both decoders make of the same latents; None where the
            decoder does not train.
    """

    blocks: dict[str, float]
    added: dict[str, Added]
    distances: dict[int, float]
    sound: float | None = None

    @property
    def distance(self) -> float:
        """Mean of the distances."""
        return sum(self.distances.values()) / len(self.distances)

    @property
    def verdict(self) -> Literal["no effect", "moderate", "saturated"]:
        """What the distances mean, that of the predictions and that of the sound; one that is no number counts as saturated."""
        sound = 0.0 if self.sound is None else self.sound
        if self.distance < NO_EFFECT and sound < UNHEARD:
            return "no effect"
        return "moderate" if self.distance < SATURATED and sound < ANOTHER_SOUND else "saturated"

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
    decoder = [part for part in SOUND_SIDE if part in trained_parts(adapted)]
    adapter.merge(adapted)
    adapted.unet.eval()
    embeds = base.encode_text(prompts) if embeds is None else embeds.to(base.device)
    conds = embeds, adapter.prompt_embeds(adapted, prompts, embeds)
    generators = [seeding.generator("effect", seed, row) for row in range(len(prompts))]
    latents = seeding.normal(generators, base.latent_shape(round(base.window * base.sample_rate))).to(base.device)
    base.rest()  # two UNets are enough
    adapted.rest(but=decoder)  # a decoder that was folded is in no folder
    with Stage("effect of the adapter"):
        distances, latents = _distances(base, adapted, conds, latents, prediction)
        sound = _sound(base, adapted, latents) if decoder else None
    parts = ["unet", *decoder]
    return Effect(_blocks(base, adapted, parts), _added(base, before, adapted, parts), distances, sound)


def _blocks(base: Backbone, merged: Backbone, parts: Sequence[str]) -> dict[str, float]:
    """||dW|| / ||W|| of each block. A weight of the base that has another name now was wrapped, and is as it was."""
    after = dict(_weights(merged, parts))
    size: dict[str, float] = defaultdict(float)
    change: dict[str, float] = defaultdict(float)
    for name, weight in _weights(base, parts):
        size[_block(name)] += _square(weight)
        change[_block(name)] += _square(after.get(name, weight).cpu().double() - weight.cpu().double())
    return {block: (change[block] / size[block]) ** 0.5 for block in sorted(size, key=_place)}


def _added(base: Backbone, trained: Sequence[tuple[str, int, float]], merged: Backbone, parts: Sequence[str]) -> dict[str, Added]:
    """What trains outside these parts, or is still there after folding, by block; `trained` gives names, sizes, sums of squares."""
    known, kept = (dict(_weights(model, parts)).keys() for model in (base, merged))
    inside = tuple(f"{part}." for part in parts)
    found: dict[str, list[tuple[int, float]]] = defaultdict(list)
    for name, count, square in trained:
        if name not in known and (name in kept or not name.startswith(inside)):
            found[_block(name)].append((count, square))
    return {
        block: Added(sum(count for count, _ in found[block]), sum(square for _, square in found[block]) ** 0.5)
        for block in sorted(found, key=_place)
    }


def _weights(backbone: Backbone, parts: Sequence[str]) -> Iterator[tuple[str, Tensor]]:
    """Weights of these parts by their name in the backbone, but for the VAE's encoder; what rests comes back."""
    for part in parts:
        for name, weight in backbone.get_submodule(part).state_dict().items():
            if not (part == "vae" and name.startswith(("encoder.", "quant_conv."))):
                yield f"{part}.{name}", weight


def _sound(base: Backbone, merged: Backbone, latents: Tensor) -> float:
    """Mean absolute difference of log-mels, in nats."""
    before, after = (base.log_mel(torch.cat([model.sound(clip) for clip in latents.split(1)])) for model in (base, merged))
    return (after - before).abs().mean().item()


def _distances(
    base: Backbone, merged: Backbone, conds: tuple[Tensor, Tensor], latents: Tensor, prediction: Prediction
) -> tuple[dict[int, float], Tensor]:
    """Both predictions along the base's own sampling in five steps, whose latents thus cost no pass of their own; and its end."""
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
    return distances, clean


def _square(values: Tensor) -> float:
    """Sum of squares, in float64, which not every device has."""
    return values.detach().cpu().double().square().sum().item()


def _block(name: str) -> str:
    """Module of a weight: of the UNet its top-level one, such as `conv_in` or `down_blocks.0`, else `vae.decoder` or the part."""
    head, *rest = name.removeprefix("unet.").split(".")
    return f"{head}.{rest[0]}" if rest and (rest[0].isdigit() or head == "vae") else head


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
    if effect.sound is not None:
        console.print(f"sound of the same latents moved by {effect.sound:.3g} nats", soft_wrap=True, highlight=False)
    console.print(f"predictions moved by {_percent(effect.distance)} ({distances})", soft_wrap=True, highlight=False)
    console.print(f"effect: {MEANINGS[effect.verdict]}", soft_wrap=True, highlight=False)


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"
