"""Training what makes sound of latents: the VAE's decoder, the vocoder, or parts of them."""

from collections.abc import Sequence

from audioldm_lit.adapters.base import Adapter
from audioldm_lit.backbone import DECODER, Backbone
from audioldm_lit.errors import InputError

KEY = "model.adapter.init_args.parts"


class DecoderFineTune(Adapter):
    """Fine-tune the decoder, for recordings unlike those that it was made for; UNet and text stay the base's.

    Goes with an objective of sound, such as configs/objective/decoder.yaml, and beside adapters of the UNet, which are trained in
    runs of their own: latents stay what they are.

    Args:
        parts: Names of modules, all of whose weights train: `vae.decoder`, `vocoder`, or one within them, such as `vocoder.head`.
    """

    def __init__(self, parts: Sequence[str] = ("vae.decoder", "vocoder")) -> None:
        self.parts = list(parts)
        if not self.parts:
            raise InputError(KEY, "is empty", "name at least one, e.g. vocoder")
        for part in self.parts:
            if not f"{part}.".startswith(tuple(f"{name}." for name in DECODER)):
                raise InputError(KEY, f"'{part}' makes no sound of latents", f"name {' or '.join(DECODER)}, or a module within")

    def inject(self, backbone: Backbone) -> None:
        """Unfreeze the parts."""
        for part in self.parts:
            try:
                weights = list(backbone.get_submodule(part).parameters())
            except AttributeError:
                weights = []
            if not weights:
                inside = [name for name, _ in backbone.get_submodule(part.partition(".")[0]).named_children()]
                raise InputError(KEY, f"'{part}' is no module with weights", f"{part.partition('.')[0]} has {', '.join(inside)}")
            for weight in weights:
                weight.requires_grad_()
