"""A checkpoint of the original to a model folder, one part after the other so that never more than one is in memory."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

from torch import nn
from transformers import ClapFeatureExtractor

from audioldm_lit.errors import InputError
from audioldm_lit.networks.model_folder import write_index
from audioldm_lit.networks.original.checkpoint import read, write
from audioldm_lit.networks.original.clap import FRONT_END
from audioldm_lit.networks.original.content import PARTS, Content, Weights, content_of
from audioldm_lit.networks.original.part import Part
from audioldm_lit.networks.original.schedule import scheduler_of
from audioldm_lit.networks.original.tokenizer import find_tokenizer

REST = Path("original") / "rest.safetensors"  # what a model folder has no other place for


def to_folder(source: Path, out: Path, weights: Weights | None, tokenizer: Path | None) -> tuple[Content, Weights]:
    """Write a model folder of a checkpoint.

    Args:
        source: The checkpoint.
        out: Folder to make.
        weights: `ema` for the UNet's moving average, `raw` for its last weights; None for the first that is there.
        tokenizer: Folder of RoBERTa's tokenizer; None for one that was fetched before.

    Returns:
        What the checkpoint holds, and which weights were taken.

    Raises:
        InputError: If the checkpoint is none of AudioLDM, or there is no tokenizer; nothing is written then.
    """
    tensors = read(source)
    content = content_of(tensors, source)
    scheduler = scheduler_of(tensors, source)
    if weights == "ema" and not content.average:
        raise InputError(source, "holds no moving average of the UNet's weights", "give --weights raw")
    words = find_tokenizer(tokenizer, content.settings["text_encoder"]["vocab_size"])
    del tensors
    taken: Weights = weights or ("ema" if content.average else "raw")
    swapped = content.average if taken == "ema" else {}
    others = swapped.keys() or content.average.values()  # the weights of the UNet that its part does not hold
    parts: dict[str, object] = {part.folder: _write_part(part, content, source, out, swapped) for part in PARTS}
    parts |= {"tokenizer": words, "scheduler": scheduler}
    words.save_pretrained(out / "tokenizer")
    scheduler.save_pretrained(out / "scheduler")
    ClapFeatureExtractor(**FRONT_END).save_pretrained(out / "feature_extractor")
    write_index(parts, out)
    (out / REST).parent.mkdir()
    tensors = read(source)
    head = {"clap": content.clap, "weights": taken, "unet": digest(out)}
    write(out / REST, {name: tensors[name] for name in [*content.rest, *others]}, ".safetensors", head)
    return content, taken


def digest(folder: Path) -> str:
    """SHA-256 of a model folder's file of UNet weights; empty where there is no such file."""
    (unet,) = (part for part in PARTS if part.folder == "unet")
    file = folder / unet.folder / unet.file
    if not file.is_file():
        return ""
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _write_part(part: Part, content: Content, source: Path, out: Path, swapped: Mapping[str, str]) -> nn.Module:
    """Settings and weights of one part; returns its network without weights."""
    folder, network = out / part.folder, content.blanks[part.folder]
    folder.mkdir(parents=True)
    part.save_settings(network, folder)
    tensors = read(source)  # anew, so that what was mapped for the part before is free
    places = content.places[part.folder].items()
    weights = {name: place.taken(tensors[swapped.get(place.name, place.name)]) for name, place in places}
    write(folder / part.file, weights | part.born_with(part.kept(network)), ".safetensors")
    return network
