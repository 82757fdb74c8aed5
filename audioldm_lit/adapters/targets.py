"""Names for groups of layers in AudioLDM's UNet.

Text enters AudioLDM only through `class_embedding` and each block's `time_emb_proj`; there is no text cross-attention. Targets
copied from an image model (`to_q`, `to_v` ...) therefore never touch the text path.
"""

import re
from collections.abc import Sequence

from torch import nn

from audioldm_lit.errors import InputError

PRESETS = {
    "attention": r".*\.to_(q|k|v|out\.0)",
    "text_path": r"class_embedding|.*\.time_emb_proj",
    "feed_forward": r".*\.ff\.net\.(0\.proj|2)",
    "conv": r"conv_in|conv_out|.*\.(conv|conv1|conv2|conv_shortcut|proj_in|proj_out)",
}
PRESETS["all"] = "|".join(PRESETS.values())
PRESETS["norm"] = r"conv_norm_out|.*\.norm[123]?"  # few methods train normalisation, so `all` leaves it out
KEY = "model.adapter.init_args.targets"


def resolve(targets: Sequence[str], unet: nn.Module) -> list[str]:
    """Full names of the layers that presets or regular expressions name.

    A target means linear and convolution layers, and normalisation layers only where it matches none of these, so that
    `mid_block.*` also works with methods that cannot adapt norms.

    Args:
        targets: Preset names, or regular expressions that must match a whole module name.
        unet: The network to search.

    Raises:
        InputError: If a target matches nothing.
    """
    layers = [name for name, module in unet.named_modules() if isinstance(module, nn.Linear | nn.Conv2d)]
    norms = [name for name, module in unet.named_modules() if isinstance(module, nn.GroupNorm | nn.LayerNorm)]
    chosen: set[str] = set()
    for target in targets:
        try:
            pattern = re.compile(PRESETS.get(target, target))
        except re.error as error:
            raise InputError(KEY, f"'{target}' is no regular expression ({error})", "correct it") from error
        matched = list(filter(pattern.fullmatch, layers)) or list(filter(pattern.fullmatch, norms))
        if not matched:
            raise InputError(
                KEY,
                f"'{target}' matches no linear, convolution or normalisation layer of the UNet",
                f"use one of {', '.join(PRESETS)}, or a regular expression over names such as '{layers[len(layers) // 2]}'",
            )
        chosen.update(matched)
    return [name for name in layers + norms if name in chosen]
