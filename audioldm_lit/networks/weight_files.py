"""Which of the files in a model's folder hold its weights, under the names that diffusers and transformers give them."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from audioldm_lit.assets.finding import again
from audioldm_lit.errors import InputError

# diffusion_pytorch_model.safetensors, pytorch_model.fp16.bin, model-00001-of-00002.safetensors (an index lists the shards).
NAME = re.compile(
    r"(?:diffusion_pytorch_model|pytorch_model|model)(?:\.(?P<variant>\w+))?(?:-\d+-of-\d+)?\.(?P<kind>safetensors|bin)"
)


def loading(folder: Path) -> dict[str, Any]:
    """What `from_pretrained` must be told to find the weights of one network, the most precise and safest there are.

    Full precision goes before a variant such as `fp16`, and safetensors before pickles, of which both libraries read tensors alone.

    Raises:
        InputError: If the folder holds no weights.
    """
    kinds = set(_kinds(folder))
    if not kinds:
        raise InputError(folder, "holds no weights (.safetensors or .bin)", again(folder))
    variant, kind = min(kinds, key=lambda found: (found[0], found[1] == "bin"))
    return {"use_safetensors": kind == "safetensors", **({"variant": variant} if variant else {})}


def _kinds(folder: Path) -> Iterator[tuple[str, str]]:
    """Variant, empty for full precision, and kind of every file of weights."""
    for file in folder.iterdir():
        found = NAME.fullmatch(file.name)
        if found:
            yield found["variant"] or "", found["kind"]
