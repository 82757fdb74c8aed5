"""What a checkpoint holds beside Lightning's own: what was trained, and what it stands on."""

from typing import Any

from torch import Tensor

KEY = "audioldm_lit"


def averaged_weights(checkpoint: dict[str, Any]) -> dict[str, Tensor]:
    """The moving average of the trained weights by name, the trained weights themselves where there was none."""
    ema = checkpoint[KEY]["ema"]
    return ema["average"] if ema and ema["average"] else checkpoint["state_dict"]
