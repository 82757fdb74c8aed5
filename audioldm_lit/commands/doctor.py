"""The verb `doctor`."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console

from audioldm_lit.assets.finding import find_model
from audioldm_lit.assets.licence import licence_of
from audioldm_lit.backbone import Backbone
from audioldm_lit.console.markup import escape
from audioldm_lit.console.stages import say
from audioldm_lit.device import device_named
from audioldm_lit.doctor.audio_tower import add_audio_tower as added
from audioldm_lit.doctor.examination import heads, twins, uses
from audioldm_lit.doctor.heads import measure_heads
from audioldm_lit.doctor.machine import machine
from audioldm_lit.doctor.parts import look_at
from audioldm_lit.doctor.report import show, show_parts
from audioldm_lit.errors import InputError
from audioldm_lit.networks.published import MEASURED
from audioldm_lit.places import NANO
from audioldm_lit.storage.atomic_write import write_json


def doctor(
    model: str = NANO,
    data: Path | None = None,
    add_audio_tower: str | None = None,
    device: str = "auto",
    json: Path | None = None,
) -> None:
    """Say what a model's folder holds and can do, and what this machine has for it.

    Nothing is fetched. Ends with exit status 2 where the model cannot be loaded.

    Args:
        model: Model folder in the diffusers layout, or a hub id that was fetched before.
        data: Folder of recordings, on 32 of which the loss is measured with the heads of attention that the folder says and with
            those of the original code; the result stays in the model's folder as `doctor.json`, and other verbs speak of it.
        add_audio_tower: A whole CLAP, a folder or a hub id that was fetched before, whose audio tower is put into the model's
            folder; refused where its text tower is not the model's, at a cosine below 0.99 on any of twenty prompts.
        device: `cpu`, `cuda`, `cuda:1`, `mps` or `auto`.
        json: File for what was found, for programs.
    """
    folder, target, console = find_model(model), device_named(device), Console(emoji=False)
    if add_audio_tower is not None:
        cosine = added(folder, add_audio_tower)
        _print(console, f"{folder / 'audio_encoder'} added; both text towers have a cosine of {cosine:.4f} or more")
    parts = look_at(folder)
    where = "" if str(folder) == model else f", {folder}"
    _print(console, f"{model}{where}, {sum(part.megabytes for part in parts):,.0f} MB; licence {licence_of(model)}")
    show_parts(parts, console)
    backbone, problem = _loaded(model)
    licence = licence_of(model)
    found: dict[str, Any] = {"model": model, "folder": str(folder), "licence": licence.text, "commercial": licence.commercial}
    found |= {"parts": [asdict(part) for part in parts]}
    found |= {"seconds": None, "sample_rate": None, "heads": None, "twins": None}
    if backbone is not None:
        if data is not None:
            _measure(backbone.to(target), data, model, folder)
        found |= {"seconds": backbone.window, "sample_rate": backbone.sample_rate}
        found |= {"heads": heads(backbone.unet.config, folder), "twins": twins(folder, parts)}
    can = uses(model, parts, problem)
    found |= {"uses": [asdict(use) for use in can], "machine": machine()}
    show(found, can, console)
    if json is not None:
        write_json(json, found)
    if problem is not None:
        raise problem


def _print(console: Console, text: str) -> None:
    console.print(escape(text), soft_wrap=True, highlight=False)


def _loaded(model: str) -> tuple[Backbone | None, InputError | None]:
    """The model, or why it cannot be loaded."""
    try:
        return Backbone.load(model), None
    except InputError as error:
        return None, InputError(error.where, error.problem, error.mend)  # anew, or its traceback would keep what was read


def _measure(backbone: Backbone, data: Path, model: str, folder: Path) -> None:
    """Measure the heads, and leave the result in the model's folder."""
    if not heads(backbone.unet.config, folder)["differ"]:
        say(f"{model} has the heads of the original code, nothing is measured")
        return
    measured = measure_heads(backbone, data, model)
    write_json(folder / MEASURED, {"heads": measured})
