"""The verb `convert`."""

import copy
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from rich.console import Console
from torch import Tensor

from audioldm_lit import seeding
from audioldm_lit.adapters.base import trained_parts
from audioldm_lit.adapters.files.adapter_file import trust as trust_modules
from audioldm_lit.adapters.files.exchange import DiffusersFolder, PeftFolder
from audioldm_lit.adapters.files.layout import Adapted, AdapterFile, Layout, MergedModel, Source
from audioldm_lit.adapters.resizing import Lost, overall
from audioldm_lit.assets.finding import ORIGINAL, find_model, original
from audioldm_lit.assets.licence import check_licence, pass_on, state_licence
from audioldm_lit.backbone import SOUND_SIDE, Backbone
from audioldm_lit.console.markup import escape
from audioldm_lit.errors import InputError
from audioldm_lit.networks.model_folder import part_settings
from audioldm_lit.networks.original.back import to_checkpoint
from audioldm_lit.networks.original.checkpoint import read
from audioldm_lit.networks.original.content import Weights, content_of
from audioldm_lit.networks.original.conversion import to_folder
from audioldm_lit.networks.original.parity import differences
from audioldm_lit.networks.published import Heads, heads_settings
from audioldm_lit.places import NANO
from audioldm_lit.storage.atomic_write import atomic_write, write_json

SOURCES: dict[str, Source] = {"adapter": AdapterFile(), "peft": PeftFolder(), "diffusers": DiffusersFolder()}
LAYOUTS: dict[str, Layout] = {**SOURCES, "merged": MergedModel()}
FILES = {"adapter": (".safetensors",), "original": (".ckpt", ".safetensors")}  # what is no folder, and how its name ends
Carried = tuple[dict[str, tuple[float, float]], list[str]]  # differences by part, absolute and relative, and what is to be told
TIMESTEPS = 4  # at which both sides are compared, spread over the schedule
WORST = 3  # layers of which it is printed what a lower rank loses
TOLERANCE = 1e-4  # of the largest output; a folded adapter differs by rounding, some 1e-6


def convert(
    source: Path,
    to: Literal["adapter", "peft", "diffusers", "merged", "model", "original"],
    out: Path,
    backbone: str = NANO,
    heads: Heads = "as_saved",
    commercial: bool = False,
    weights: Weights | None = None,
    tokenizer: Path | None = None,
    rank: int | None = None,
    trust: Sequence[str] = (),
    json: Path | None = None,
) -> None:
    """Carry an adapter to or from PEFT and diffusers, or fold it into its model; or a model from the original's file, or back.

    With `rank`, LoRA is made smaller on the way, and what that loses is printed.

    Both sides are loaded, each by its own project's loader, and compute on the same noise: the largest difference is printed, and
    above 1e-4 of the largest output nothing is written.

    Args:
        source: Adapter: the adapter.safetensors of a run, a folder that PEFT saved, or a folder or file that diffusers saved
            (`save_lora_adapter`); which one it is, its content says. For `model` a checkpoint of the original such as
            audioldm-s-full.ckpt, for `original` a model's folder.
        to: `adapter` for this project's file; `peft` for a folder that `peft.PeftModel.from_pretrained(unet, folder)` loads;
            `diffusers` for one that `unet.load_lora_adapter(folder, prefix=None, use_safetensors=True)` loads, LoRA and LoKr alone;
            `merged` for a whole model with the adapter folded in; `model` for a model folder in the diffusers layout; `original`
            for a checkpoint that the original's trainer loads.
        out: File for `adapter` and `original` (.ckpt or .safetensors), otherwise a folder, new or empty.
        backbone: Model that the adapter belongs to: a folder in the diffusers layout, or a hub id that was fetched before. PEFT and
            diffusers do not note which one it was.
        heads: Of the UNet's attention: `as_saved`, or `original`; those that the adapter was trained with.
        commercial: Refuse a model whose licence is not known to allow commercial use.
        weights: With `model`, which of the UNet's weights are taken: `ema` for their moving average, `raw` for the last ones. The
            average, where there is one, if not given. The others are kept in original/ for the way back.
        tokenizer: With `model`, a folder with RoBERTa's vocabulary, which no checkpoint holds; if not given, that of a hub model
            that was fetched before.
        rank: Lower the rank of LoRA, rsLoRA or DoRA to this: the nearest weights, by their singular values; of DyLoRA, which has
            trained all ranks, the first ones. Printed are the shares of the update that the weights lose, and of the change of
            the UNet's output on noise; what sound loses, only `evaluate` can say. The card's scores, of another rank, are left out.
        trust: Modules of adapter classes of your own, which are imported; an adapter file alone makes nothing run.
        json: File for what was found, for programs; with `rank`, of every layer.
    """
    if rank is not None and to in MODELS:
        raise InputError(f"--to {to}", "carries a model, which has no rank", "leave --rank out")
    if to != "model" and (weights is not None or tokenizer is not None):
        raise InputError(f"--to {to}", "takes neither --weights nor --tokenizer", "leave them out")
    if to in MODELS:
        _carry_model(source, to, out, weights, tokenizer, json)
    else:
        trust_modules(trust)
        _carry_adapter(source, to, out, backbone, heads, commercial, rank, json)


def _carry_adapter(
    source: Path, to: str, out: Path, backbone: str, heads: Heads, commercial: bool, rank: int | None, json: Path | None
) -> None:
    """Carry an adapter from one layout to another, perhaps at a lower rank."""
    kind = _kind(source)
    if kind == to and rank is None:
        raise InputError(source, f"is in the layout '{to}' already", "name another with --to, or a lower --rank")
    _check_out(out, to)
    licence = check_licence(backbone, commercial)
    model = Backbone.load(backbone, heads)
    fresh, base = copy.deepcopy(model.unet), _predict(model)
    adapted = SOURCES[kind].read(source, model)
    smaller: dict[str, Any] = {}
    if rank is not None:
        adapted, smaller = _resized(adapted, rank, base)
    decodes = bool(trained_parts(model.eval()) & {*SOUND_SIDE})
    expected = _made(model, decodes)
    with atomic_write(out.absolute()) as unfinished:
        LAYOUTS[to].write(unfinished, adapted)
        pass_on(unfinished, licence)
        model.unet = fresh
        LAYOUTS[to].load(unfinished, model)
        absolute, relative = _difference(expected, _made(model.eval(), decodes), to)
        found = {
            "source": str(source), "layout": kind, "to": to, "out": str(out), "base": adapted.base,
            "prediction": str(adapted.prediction), "max_absolute_difference": absolute, "max_relative_difference": relative,
            **smaller,
        }  # fmt: skip
        if json is not None:
            write_json(json, found)
    _print([*_lines(found, adapted), f"licence of {backbone}, and of what is derived from it: {licence}"])


def _resized(adapted: Adapted, rank: int, base: Tensor) -> tuple[Adapted, dict[str, Any]]:
    """An adapter at a lower rank, and what it loses; `base` is the base's output."""
    whole = _predict(adapted.backbone.eval())
    adapter, lost = adapted.adapter.resize(adapted.backbone, rank)
    away, change = (_predict(adapted.backbone.eval()) - whole).norm(), (whole - base).norm()
    shares = {name: one.share for name, one in lost.items()}
    found = {"rank": rank, "weights_lost": overall(lost), "output_lost": Lost(away.item(), change.item()).share}
    about = adapted.about and replace(adapted.about, scores={})
    return replace(adapted, adapter=adapter, about=about), {**found, "layers_lost": shares}


def _carry_model(source: Path, to: str, out: Path, weights: Weights | None, tokenizer: Path | None, json: Path | None) -> None:
    """Carry a whole model from the original's layout or to it."""
    _check_out(out, to)
    with atomic_write(out.absolute()) as unfinished:
        found, told = MODELS[to](source, unfinished, out.suffix, weights, tokenizer)
        for part, (_, relative) in found.items():
            _check_difference(f"--to {to}, {part}", relative)
        if json is not None:
            absolute = {part: difference for part, (difference, _) in found.items()}
            write_json(json, {"source": str(source), "to": to, "out": str(out), "max_absolute_difference": absolute})
    parts = ", ".join(f"{part} {absolute:.1e}" for part, (absolute, _) in found.items())
    _print([f"{out}: {source} -> {to}; largest difference of the outputs: {parts}", *told])


def _to_model(source: Path, out: Path, _: str, weights: Weights | None, tokenizer: Path | None) -> Carried:
    """The original's file to a model folder."""
    content, taken = to_folder(source, out, weights, tokenizer)
    unet, scale = content.settings["unet"], content.settings["vae"]["scaling_factor"]
    told = [f"weights of the UNet: {taken}; heads by level {unet['attention_head_dim']}; scaling factor {scale:.7f}"]
    return differences(source, out, content, taken), [*told, state_licence(out, source.name)]


def _to_original(source: Path, out: Path, suffix: str, *_: object) -> Carried:
    """A model folder to the original's file."""
    folder = find_model(source)
    taken, told = to_checkpoint(folder, out, suffix)
    unet = heads_settings(part_settings(folder / "unet"), "original", folder / "unet")
    if unet:
        told.append(f"the original runs it with heads {unet['attention_head_dim']}, unlike the folder's own setting")
    return differences(out, folder, content_of(read(out), out), taken, unet), told


MODELS: dict[str, Callable[..., Carried]] = {"model": _to_model, "original": _to_original}


def _print(lines: Sequence[str]) -> None:
    Console(emoji=False).print(escape("\n".join(lines)), soft_wrap=True, highlight=False)


def _lines(found: Mapping[str, Any], adapted: Adapted) -> list[str]:
    """What people read of a conversion."""
    difference = f"{found['max_absolute_difference']:.1e}, {found['max_relative_difference']:.1e} of the largest value"
    lines = [f"{found['out']}: {found['layout']} -> {found['to']}; largest difference of the outputs {difference}"]
    if "rank" in found:
        shares = sorted(found["layers_lost"].items(), key=lambda item: -item[1])[:WORST]
        worst = ", ".join(f"{name} {100 * share:.2g} %" for name, share in shares)
        weights, output = (f"{100 * found[name]:.2g} %" for name in ("weights_lost", "output_lost"))
        lines.append(
            f"rank {found['rank']} loses {weights} of the update, by its norm, and {output} of what it changes in the output"
        )
        lines.append(f"it loses most in {worst}; what the sound loses is for evaluate to say")
    predicts = adapted.prediction
    if not adapted.stated:
        lines.append(f"{found['source']} does not say on what it was trained: taken for this base, predicting {predicts}")
    elif predicts.word != "epsilon" and found["to"] in ("peft", "diffusers"):
        lines.append(f'it predicts {predicts}: give prediction_type="{predicts.word}" to the pipeline\'s scheduler')
    return lines


def _kind(source: Path) -> str:
    """Name of the layout that a path is in."""
    if not source.exists():
        raise InputError(source, "no such file or folder", "give the adapter to convert")
    if source.suffix == ORIGINAL:
        raise original(source)
    kinds = [name for name, layout in SOURCES.items() if layout.holds(source)]
    if not kinds:
        raise InputError(
            source,
            "is no adapter",
            "give adapter.safetensors, a PEFT folder (adapter_config.json) or a diffusers one (pytorch_lora_weights.safetensors)",
        )
    return kinds[0]


def _check_out(out: Path, to: str) -> None:
    """Refuse to write over anything but an empty folder."""
    files = FILES.get(to)
    if files is not None and (out.suffix not in files or out.is_dir()):
        raise InputError(out, f"--to {to} writes a file", f"give a name that ends in {' or '.join(files)}")
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise InputError(out, "is there already", "remove it, or choose another with --out")


@torch.no_grad()
def _predict(model: Backbone) -> Tensor:
    """The UNet's output (N, C, F/4, M/4) on noise, with a random text embedding at each of N timesteps."""
    keys, latents = _asked(model)
    cond = F.normalize(seeding.normal(keys, (model.text_encoder.config.projection_dim,)), dim=-1)
    timesteps = torch.linspace(0, model.scheduler.config["num_train_timesteps"] - 1, TIMESTEPS).long()
    return model(latents, timesteps, cond).double()


@torch.no_grad()
def _made(model: Backbone, decodes: bool) -> Sequence[Tensor]:
    """What a model makes of noise: the UNet's output, and where its decoder was adapted the sound (1, T)."""
    return [_predict(model), model.sound(_asked(model)[1][:1]).double()] if decodes else [_predict(model)]


def _asked(model: Backbone) -> tuple[Sequence[torch.Generator], Tensor]:
    """Generators, and noise (N, C, F/4, M/4) as long as the model's window that was drawn from them."""
    keys = [seeding.generator("convert", place) for place in range(TIMESTEPS)]
    return keys, seeding.normal(keys, model.latent_shape(round(model.window * model.sample_rate)))


def _difference(expected: Sequence[Tensor], actual: Sequence[Tensor], to: str) -> tuple[float, float]:
    """Largest absolute difference, and the largest share of the largest value expected."""
    absolute = [(one - other).abs().max().item() for one, other in zip(expected, actual, strict=True)]
    relative = [difference / max(one.abs().max().item(), 1e-12) for one, difference in zip(expected, absolute, strict=True)]
    _check_difference(f"--to {to}", max(relative))
    return max(absolute), max(relative)


def _check_difference(where: str, relative: float) -> None:
    if not relative <= TOLERANCE:  # NaN is above it too
        problem = f"the output would differ by {relative:.1e} of its largest value, more than {TOLERANCE:g}"
        raise InputError(where, problem, "keep it as it is, nothing was written")
