"""Several adapters at once, each with a strength and an interval of noise levels."""

import copy
import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from audioldm_lit.adapters.base import Adapter, trained_parts
from audioldm_lit.adapters.files.adapter_file import load_adapter, ours_of, read_parts
from audioldm_lit.backbone import SOUND_SIDE, Backbone
from audioldm_lit.diffusion import Prediction, prediction_of
from audioldm_lit.errors import InputError
from audioldm_lit.inference.sampling import ALL


@dataclass(frozen=True)
class AdapterSetting:
    """An adapter, how much of it, and when.

    Args:
        file: The adapter.safetensors of a run.
        strength: Factor of what the adapter adds to the base: 0 is the base, 1 the adapter as it was trained; more exaggerates,
            and a negative factor does the opposite.
        timesteps: Where it acts, from the first up to but not including the second, within 0 (no noise) to 1000 (only noise).
    """

    file: Path
    strength: float = 1.0
    timesteps: tuple[int, int] = ALL

    def check(self) -> None:
        """Refuse what no adapter can do; not in `__post_init__`, where the command line would take it for another type.

        Raises:
            InputError: If there is no such file, or strength or timesteps are out of range.
        """
        if self.file.is_dir():
            raise InputError(self.file, "is a folder", ours_of(self.file))
        if not self.file.is_file():
            raise InputError(self.file, "no such file", "give --adapter files, or objects of file, strength and timesteps")
        low, high = self.timesteps
        if not ALL[0] <= low < high <= ALL[1]:
            raise InputError(self.file, f"timesteps are [{low}, {high}]", "give two numbers from 0 to 1000, the lower one first")
        if not math.isfinite(self.strength):
            raise InputError(self.file, f"strength is {self.strength}", "give a number, such as 0.5")

    @property
    def plain(self) -> bool:
        """Whether the adapter acts as it was trained."""
        return self.strength == 1 and self.timesteps == ALL

    def acts_at(self, timestep: float) -> bool:
        """Whether the adapter acts at a timestep."""
        return self.timesteps[0] <= timestep < self.timesteps[1]


@dataclass(frozen=True, eq=False)
class AdaptedCopy:
    """An adapter on a copy of its base.

    Attributes:
        setting: How much of it, and when.
        adapter: The adapter.
        backbone: The copy, with the adapter injected.
        prediction: What the copy's UNet predicts.
        parts: Parts of the backbone that it trained.
    """

    setting: AdapterSetting
    adapter: Adapter
    backbone: Backbone
    prediction: Prediction
    parts: frozenset[str]

    @classmethod
    def load(cls, setting: AdapterSetting, base: Backbone) -> "AdaptedCopy":
        """Load an adapter's file; the base is left alone."""
        setting.check()
        backbone = copy_backbone(base, read_parts(setting.file))
        adapter, prediction = load_adapter(setting.file, backbone)
        parts = trained_parts(backbone)
        if parts & {*SOUND_SIDE} and setting.timesteps != ALL:
            raise InputError(setting.file, "adapts the decoder, which has no timesteps", "leave its timesteps out")
        return cls(setting, adapter, backbone, prediction, parts)

    @property
    def reads(self) -> bool:
        """Whether the adapter reads text in its own way."""
        return type(self.adapter).prompt_embeds is not Adapter.prompt_embeds


class Blend(Backbone):
    """A base with any number of adapters, which samples like any other model.

    What can be folded into the weights is blended there, W = W_0 + sum_i s_i (W_i - W_0) over the adapters that act at a timestep,
    and is folded again only where that set changes along the sampling. What cannot, because it adds layers or reads text in its own
    way, is blended in the predictions, at the cost of a pass each:

        pred = pred_folded + sum_j s_j (pred_j - pred_base)

    Predicted noise is a score up to a factor of the timestep alone, so this is the score of a product of experts,
    p_folded(x) prod_j (p_j(x) / p_base(x))^s_j: the conjunction of Liu et al. 2022 (arXiv 2206.01714), with adapters as concepts.
    As in that paper, the product is taken at every noise level, which only approximates a product of clean distributions.

    What adapters do to VAE and vocoder is blended in the weights alone, once for all timesteps.

    A lone adapter of strength 1 predicts exactly what it was trained to and costs nothing extra. Of what is folded, a copy of the
    weights waits in main memory, for the base and for each adapter; the device holds a single UNet for all of it, one more for each
    adapter of the other kind and, where both kinds are there, one for the base.

    Args:
        base: The base; the weights of its UNet change while the blend samples.
        copies: The adapters, not yet folded; those of strength 0 are left out.

    Raises:
        InputError: If an adapter predicts something else than the base, or adds layers to the decoder, which it can only alone
            and at strength 1.
    """

    def __init__(self, base: Backbone, copies: Sequence[AdaptedCopy]) -> None:
        acting = [adapted for adapted in copies if adapted.setting.strength != 0]
        copies = [adapted for adapted in acting if not adapted.parts <= {*SOUND_SIDE}]
        lone = copies[0] if len(copies) == 1 and copies[0].setting.plain else None
        if not lone:
            _check_predictions(copies, prediction_of(base.scheduler))
        for adapted in acting:
            adapted.adapter.merge(adapted.backbone)
        vae, vocoder = (_blended(part, base, acting) for part in SOUND_SIDE)
        super().__init__(
            lone.backbone.unet if lone else base.unet,  # beside a lone adapter, the base's own UNet would never be asked
            vae, base.text_encoder, base.tokenizer, vocoder, base.scheduler, base.audio_encoder, base.feature_extractor,
        )  # fmt: skip
        self.prediction = lone.prediction if lone else prediction_of(base.scheduler)
        folded = [
            adapted for adapted in copies if adapted is not lone and not adapted.reads and _same_weights(adapted.backbone, base)
        ]
        self.added = [adapted for adapted in copies if adapted not in folded]
        self.passes = nn.ModuleList(adapted.backbone.eval() for adapted in self.added)  # so that they move with the blend
        self.base = copy_backbone(base) if folded and self.added else None
        before = base.unet.state_dict()
        self.folded = [(adapted.setting, _changed(adapted.backbone.unet.state_dict(), before)) for adapted in folded]
        self.original = {name: before[name].cpu().clone() for _, weights in self.folded for name in weights}
        self.in_place = (False,) * len(folded)  # which of them are in the UNet's weights now

    @torch.no_grad()
    def encode_text(self, prompts: Sequence[str]) -> Tensor:
        """Prompts -> embeddings (B, K D): the base's and, beside it, those of every adapter that reads text in its own way."""
        embeds = super().encode_text(prompts)
        own = [adapted.adapter.prompt_embeds(adapted.backbone, prompts, embeds) for adapted in self.added if adapted.reads]
        return torch.cat([embeds, *own], dim=-1)

    @torch.no_grad()
    def encode_negative(self, prompt: str) -> Tensor:
        """The same (K D,) of what guidance steers away from."""
        embeds = super().encode_text([prompt])
        own = [adapted.adapter.negative_embeds(adapted.backbone, [prompt], embeds) for adapted in self.added if adapted.reads]
        return torch.cat([embeds, *own], dim=-1)[0]

    def forward(self, noisy_latents: Tensor, timesteps: Tensor, cond: Tensor) -> Tensor:
        """Predict as `Backbone` does, from embeddings (B, K D) that `encode_text` made."""
        acting = {self._acting(step) for step in timesteps.tolist()}
        if len(acting) > 1:  # not in sampling, where all rows are at one timestep
            rows = zip(noisy_latents.split(1), timesteps.split(1), cond.split(1), strict=True)
            return torch.cat([self(*row) for row in rows])
        ((folded, added),) = acting
        cond, *texts = cond.chunk(1 + sum(adapted.reads for adapted in self.added), dim=-1)
        conds = [texts.pop(0) if adapted.reads else cond for adapted in self.added]
        extra = [(adapted, own) for adapted, own, acts in zip(self.added, conds, added, strict=True) if acts]
        if len(extra) == 1 and extra[0][0].setting.strength == 1 and not any(folded):
            return extra[0][0].backbone(noisy_latents, timesteps, extra[0][1])
        self._fold(folded)
        pred = super().forward(noisy_latents, timesteps, cond)
        if not extra:
            return pred
        base = pred.float() if self.base is None or not any(folded) else self.base(noisy_latents, timesteps, cond).float()
        changes = [
            adapted.setting.strength * (adapted.backbone(noisy_latents, timesteps, own).float() - base) for adapted, own in extra
        ]
        return pred.float() + sum(changes)

    def _acting(self, timestep: float) -> tuple[tuple[bool, ...], tuple[bool, ...]]:
        """Which of the adapters act at a timestep, of those that are folded and of the others."""
        folded = tuple(setting.acts_at(timestep) for setting, _ in self.folded)
        return folded, tuple(adapted.setting.acts_at(timestep) for adapted in self.added)

    def _fold(self, acting: tuple[bool, ...]) -> None:
        """Put W_0 + sum_i s_i (W_i - W_0) into the UNet."""
        if acting == self.in_place:
            return
        own = self.unet.state_dict()
        for name, weight in self.original.items():
            base = weight.double()
            blended = base.clone()
            for (setting, weights), acts in zip(self.folded, acting, strict=True):
                if acts and name in weights:
                    blended += setting.strength * (weights[name].double() - base)  # in float64, exact at strength 1
            own[name].copy_(blended)
        self.in_place = acting


def copy_backbone(backbone: Backbone, changed: Collection[str] = ()) -> Backbone:
    """A copy for an adapter to work on; VAE, vocoder and audio tower are shared unless they are `changed`, or train already."""
    shared = {*SOUND_SIDE, "griffin_lim", "audio_encoder", "log_mel"} - {*changed}
    # Asked for by its name, a part that rests would come back.
    parts = (module for name, module in backbone.named_children() if name in shared)
    return copy.deepcopy(backbone, {id(part): part for part in parts if not any(w.requires_grad for w in part.parameters())})


def _blended(part: str, base: Backbone, copies: Sequence[AdaptedCopy]) -> Any:
    """VAE or vocoder with every adapter's share, W_0 + sum_i s_i (W_i - W_0); where there is one of strength 1, exactly its own."""
    own = base.get_submodule(part)
    shares = [(adapted.setting, adapted.backbone.get_submodule(part)) for adapted in copies if part in adapted.parts]
    if not shares:
        return own
    if len(shares) == 1 and shares[0][0].strength == 1:
        return shares[0][1]
    blended, before = copy.deepcopy(own), {name: weight.cpu() for name, weight in own.state_dict().items()}
    change = {name: torch.zeros_like(weight, dtype=torch.float64) for name, weight in before.items()}
    for setting, network in shares:
        after = {name: weight.cpu() for name, weight in network.state_dict().items()}
        if {name: weight.shape for name, weight in after.items()} != {name: weight.shape for name, weight in before.items()}:
            problem = f"adds layers to the {part}, which cannot be blended"
            raise InputError(setting.file, problem, "use it alone among those of the decoder, at strength 1")
        for name in change:
            change[name] += setting.strength * (after[name].double() - before[name].double())
    for name, weight in blended.state_dict().items():
        weight.copy_(before[name].double() + change[name])
    return blended


def _check_predictions(copies: Sequence[AdaptedCopy], prediction: Prediction) -> None:
    for adapted in copies:
        if adapted.prediction != prediction:
            raise InputError(
                adapted.setting.file,
                f"predicts {adapted.prediction}, the base {prediction}, which cannot be blended",
                "use it alone, at strength 1 and all timesteps",
            )


def _same_weights(backbone: Backbone, base: Backbone) -> bool:
    """Whether a UNet has the base's weights by name and shape, so that all of the adapter is in their values."""
    after, before = backbone.unet.state_dict(), base.unet.state_dict()
    return {name: weight.shape for name, weight in after.items()} == {name: weight.shape for name, weight in before.items()}


def _changed(after: Mapping[str, Tensor], before: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights that are not the base's, in main memory."""
    return {name: weight.cpu() for name, weight in after.items() if not torch.equal(weight, before[name])}
