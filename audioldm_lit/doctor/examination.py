"""What a model's folder can do, as plain values for people and programs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from audioldm_lit.assets.asset import fetching
from audioldm_lit.assets.registry import asset
from audioldm_lit.console.command import command
from audioldm_lit.doctor.parts import HEARS, Part
from audioldm_lit.errors import InputError
from audioldm_lit.networks.published import heads_settings, is_published, measured_heads, original_heads, saved_heads
from audioldm_lit.networks.twins import holds_clap, read_record

SCORING = {  # assets that protocols need
    "embedded": ("aisfx",),
    "audioldm-2023": ("panns-cnn14-16k", "vggish"),
    "retention": ("clap-htsat-unfused",),
}


@dataclass(frozen=True)
class Use:
    """Something to be done with a model here and now, without any connection.

    Attributes:
        what: Verbs.
        missing: What it lacks; empty where it is ready.
        mend: How to get it.
    """

    what: str
    missing: str = ""
    mend: str = ""


def uses(model: str, parts: Sequence[Part], problem: InputError | None) -> list[Use]:
    """What can be done with a model, and what is missing for the rest.

    Args:
        model: What a user calls it.
        parts: Its parts.
        problem: Why it cannot be loaded, if it cannot.
    """
    fault, mend = ("", "") if problem is None else (f"{problem.where}: {problem.problem}", problem.mend)
    deaf = " and ".join(part.name for part in parts if part.name in HEARS and not part.here)
    adding = command("doctor", "--model", model, "--add_audio_tower", "CLAP") if deaf else ""
    own = [Use("generate, fit, test, convert", fault, mend), Use("fit on sound, prepare --suggest", fault or deaf, mend or adding)]
    return [*own, *(_scoring(protocol, names) for protocol, names in SCORING.items())]


def _scoring(protocol: str, names: Sequence[str]) -> Use:
    """Scores by a protocol, which need weights of their own."""
    absent = [name for name in names if not asset(name).files()]
    return Use(f"evaluate --protocol {protocol}", ", ".join(absent), "; ".join(map(fetching, absent)))


def heads(unet: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """Heads of attention, as saved and as the original code has them, with what was measured of them before.

    Args:
        unet: Settings of the UNet, as saved.
        folder: Of the model.
    """
    found: dict[str, Any] = {"as_saved": saved_heads(unet), "published_levels": is_published(unet)}
    try:
        found |= {"original": original_heads(unet, folder), "differ": bool(heads_settings(unet, "original", folder))}
    except InputError:  # no original code has such levels
        found |= {"original": None, "differ": False}
    return {**found, "measured": measured_heads(folder) or None}


def twins(folder: Path, parts: Sequence[Part]) -> dict[str, Any]:
    """What is known of whether the model's two CLAP towers belong together, once it is loaded and so was not refused.

    Returns:
        `known`, null where there is no audio tower, and the lowest `cosine` of the text towers where it was noted.
    """
    if not all(part.here for part in parts if part.name in HEARS):
        return {"known": None, "cosine": None}
    noted = read_record(folder / "audio_encoder")
    return {"known": bool(noted) or holds_clap(folder / "audio_encoder"), "cosine": noted.get("cosine")}
