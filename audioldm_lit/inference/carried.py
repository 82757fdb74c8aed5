"""The sampler that adapters were made for."""

from collections.abc import Sequence
from pathlib import Path

from audioldm_lit.adapters.files.adapter_file import read_sampling
from audioldm_lit.console.stages import say_once
from audioldm_lit.errors import InputError
from audioldm_lit.inference.sampling import Sampler


def carried_sampler(files: Sequence[Path]) -> Sampler | None:
    """The one sampler that adapter files ask for; None where none asks for any.

    Raises:
        InputError: If two ask for different ones, or what a file asks for cannot be made.
    """
    asked = {file: sampling for file in files if (sampling := read_sampling(file))}
    if not asked:
        return None
    (first, sampling), *others = asked.items()
    for file, other in others:
        if other != sampling:
            raise InputError(file, f"asks for another sampler than {first}", "choose one with --sampler")
    try:
        sampler = Sampler(**sampling)
    except (TypeError, InputError) as error:
        raise InputError(first, f"asks for a sampler that cannot be made ({error})", "choose one with --sampler") from error
    say_once(f"{first} asks for {sampler.scheduler}, {sampler.num_inference_steps} steps, guidance {sampler.guidance_scale:g}")
    return sampler
