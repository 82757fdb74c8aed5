"""Whether CLAP's two towers belong together: sound and text meet in one space only where they were trained together.

A text tower is known again by what it says: the one that was trained with the audio tower, its twin, must say of a fixed set of
prompts what the model's own does.
"""

from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from transformers import ClapTextModelWithProjection, RobertaTokenizer

from audioldm_lit.errors import InputError
from audioldm_lit.networks.fingerprinting import fingerprint
from audioldm_lit.networks.strict_loading import load_pretrained
from audioldm_lit.networks.weight_files import loading
from audioldm_lit.storage.atomic_write import write_json
from audioldm_lit.storage.plain_files import read_json

LOWEST = 0.99  # cosine of twins; rounding to half precision leaves 0.9999
RECORD = "twins.json"  # in the audio tower's folder: which two belong together, and by what cosine
MEND = "take the CLAP that the model was trained with, by python -m audioldm_lit doctor --model MODEL --add_audio_tower CLAP"
PROMPTS = (
    "a dog barking", "rain on a roof", "footsteps on gravel", "a door slams shut", "an acoustic guitar plays a slow melody",
    "a man speaks while birds sing in the background", "thunder far away", "a car passes by at high speed",
    "water drips into a sink", "a crowd cheers in a stadium", "typing on a keyboard", "an ambulance siren comes nearer",
    "wind in the leaves", "a cat meows", "glass breaks on a stone floor", "a church bell rings twice",
    "a helicopter hovers overhead", "a baby laughs", "music", "",
)  # fmt: skip


def cosine_of_twins(model: ClapTextModelWithProjection, twin: ClapTextModelWithProjection, tokenizer: RobertaTokenizer) -> float:
    """The lowest cosine of what two text towers say of the same prompt; -1 where they cannot read the same words."""
    ours, theirs = model.config, twin.config
    if (ours.vocab_size, ours.projection_dim) != (theirs.vocab_size, theirs.projection_dim):
        return -1.0
    return float((_said(model, tokenizer) * _said(twin, tokenizer)).sum(dim=1).min())


@torch.no_grad()
def _said(tower: ClapTextModelWithProjection, tokenizer: RobertaTokenizer) -> Tensor:
    """Embeddings (N, D) of the prompts, of norm 1."""
    tokens = tokenizer(list(PROMPTS), padding=True, return_tensors="pt").to(tower.device)
    return F.normalize(tower.eval()(tokens.input_ids, attention_mask=tokens.attention_mask).text_embeds.double(), dim=1)


def check_cosine(folder: Path, cosine: float) -> None:
    """Refuse an audio tower in `folder` whose twin says something else than the model's text tower."""
    if not cosine >= LOWEST:  # NaN is not
        raise InputError(folder, f"belongs to another text encoder, their cosine is {cosine:.3f}, below {LOWEST:g}", MEND)


def check_towers(
    folder: Path, text_encoder: ClapTextModelWithProjection, audio_encoder: nn.Module, tokenizer: RobertaTokenizer
) -> None:
    """Refuse a model's audio tower where it can be known that its text tower is not the twin.

    That is known where `folder` holds a whole CLAP, or a record of the two towers; of an audio tower alone nothing is.
    """
    noted = read_record(folder)
    if noted and (noted["text_encoder"], noted["audio_encoder"]) != (_known(text_encoder), _known(audio_encoder)):
        raise InputError(folder, f"{RECORD} says that it belongs to other weights than are here", MEND)
    if not noted and holds_clap(folder):
        twin = load_pretrained(ClapTextModelWithProjection, folder, **loading(folder))
        check_cosine(folder, cosine_of_twins(text_encoder, twin, tokenizer))


def holds_clap(folder: Path) -> bool:
    """Whether a folder is that of a whole CLAP and not of one tower."""
    return dict(read_json(folder / "config.json")).get("model_type") == "clap"


def write_record(folder: Path, text_encoder: nn.Module, audio_encoder: nn.Module, cosine: float) -> None:
    """Note in an audio tower's folder that it belongs to a text tower."""
    towers = {"text_encoder": _known(text_encoder), "audio_encoder": _known(audio_encoder)}
    write_json(folder / RECORD, {**towers, "cosine": cosine})


def read_record(folder: Path) -> dict[str, Any]:
    """What `write_record` noted in a folder; empty where nothing was."""
    file = folder / RECORD
    if not file.is_file():
        return {}
    try:
        noted = read_json(file)
        return {name: noted[name] for name in ("text_encoder", "audio_encoder", "cosine")}
    except (OSError, LookupError, TypeError, ValueError) as error:
        raise InputError(file, f"cannot be read ({error!r})", "remove it, and add the audio tower again") from error


def _known(tower: nn.Module) -> str:
    return fingerprint(tower)[:16]
