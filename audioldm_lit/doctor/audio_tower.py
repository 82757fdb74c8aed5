"""The audio tower that published models lack, taken out of the CLAP that they were trained with."""

from pathlib import Path
from pickle import UnpicklingError

from safetensors import SafetensorError
from transformers import ClapAudioModelWithProjection, ClapFeatureExtractor, ClapTextModelWithProjection

from audioldm_lit.assets.finding import again, find_clap
from audioldm_lit.backbone import Backbone
from audioldm_lit.errors import InputError
from audioldm_lit.networks.strict_loading import load_pretrained
from audioldm_lit.networks.twins import check_cosine, cosine_of_twins, holds_clap, write_record
from audioldm_lit.networks.weight_files import loading
from audioldm_lit.storage.atomic_write import atomic_write

UNREADABLE = (OSError, RuntimeError, ValueError, SafetensorError, UnpicklingError)


def add_audio_tower(model: Path, clap: str) -> float:
    """Put a CLAP's audio tower and front end into a model's folder, with a record that its text tower is the model's.

    Args:
        model: The model's folder.
        clap: Folder of a whole CLAP, or the id of one of the hub that was fetched before.

    Returns:
        The lowest cosine of both text towers over a fixed set of prompts.

    Raises:
        InputError: If the model has an audio tower, the CLAP cannot be read or takes sound in another way, or its text tower is not
            the model's; then nothing is written.
    """
    folder, places = find_clap(clap), {part: (model / part).absolute() for part in ("audio_encoder", "feature_extractor")}
    for place in places.values():
        if place.exists():
            raise InputError(place, "is there already", "move it away first")
    if not (folder / "config.json").is_file() or not holds_clap(folder):
        raise InputError(folder, "is no CLAP with both towers", "python -m audioldm_lit assets list names some")
    try:
        audio = load_pretrained(ClapAudioModelWithProjection, folder, **loading(folder))
        twin = load_pretrained(ClapTextModelWithProjection, folder, **loading(folder))
        front_end = ClapFeatureExtractor.from_pretrained(folder, local_files_only=True)
    except UNREADABLE as error:
        raise InputError(folder, f"no CLAP can be loaded ({str(error).splitlines()[0]})", again(folder)) from error
    if audio.config.enable_fusion:
        raise InputError(folder, "is a CLAP that fuses windows, AudioLDM's does not", "take one of the kind 'unfused'")
    backbone = Backbone.load(model)
    cosine = cosine_of_twins(backbone.text_encoder, twin, backbone.tokenizer)
    check_cosine(folder, cosine)
    with atomic_write(places["feature_extractor"]) as unfinished:
        front_end.save_pretrained(unfinished)
    with atomic_write(places["audio_encoder"]) as unfinished:  # the last: by it the model is known to hear
        audio.save_pretrained(unfinished)
        write_record(unfinished, backbone.text_encoder, audio, cosine)
    return cosine
