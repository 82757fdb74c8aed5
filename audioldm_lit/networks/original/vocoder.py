"""The vocoder, HiFi-GAN: `first_stage_model.vocoder.*` and `vocoder/`."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from transformers import SpeechT5HifiGan

from audioldm_lit import seeding
from audioldm_lit.errors import InputError
from audioldm_lit.networks.original.part import Place, Settings, Shapes, TransformersPart, numbers
from audioldm_lit.networks.original.reference import vocoder

RATES = {(16, 16, 8, 4, 4): (5, 4, 2, 2, 2)}  # by the kernel sizes that go with them; no tensor tells the rates
SAMPLE_RATE = 16_000
DILATIONS = (1, 3, 5)


class Vocoder(TransformersPart):
    """Upsamplings with residual blocks after each."""

    folder = "vocoder"
    prefix = "first_stage_model.vocoder."
    network = SpeechT5HifiGan

    def settings(self, shapes: Shapes) -> Settings:
        """Kernel sizes, and the rates that go with them."""
        ups = numbers(shapes, "ups.")
        kernels = tuple(shapes[f"ups.{number}.weight"][2] for number in range(max(ups, 1)))
        if kernels not in RATES:
            problem = f"has upsampling kernels of {list(kernels)}, of which the rates are not known"
            raise InputError("the vocoder", problem, "give a checkpoint of an AudioLDM at 16 kHz")
        each = numbers(shapes, "resblocks.") // ups
        return {
            "model_in_dim": shapes["conv_pre.weight"][1],
            "sampling_rate": SAMPLE_RATE,
            "upsample_initial_channel": shapes["conv_pre.weight"][0],
            "upsample_rates": list(RATES[kernels]),
            "upsample_kernel_sizes": list(kernels),
            "resblock_kernel_sizes": [shapes[f"resblocks.{number}.convs1.0.weight"][2] for number in range(each)],
            "resblock_dilation_sizes": [list(DILATIONS)] * each,
            "normalize_before": False,
        }

    def modules(self, settings: Settings) -> Iterator[tuple[str, Place]]:
        """All but the upsamplings have the same names."""
        for name in ("conv_pre", "resblocks", "conv_post"):
            yield name, Place(name)
        yield "upsampler", Place("ups")

    def born_with(self, settings: Settings) -> dict[str, Tensor]:
        """Mean and scale of log-mels, which it does not use."""
        return {"mean": torch.zeros(settings["model_in_dim"]), "scale": torch.ones(settings["model_in_dim"])}

    def reference(self, settings: Settings) -> nn.Module:
        """The original's."""
        return vocoder.HiFiGAN(
            settings["model_in_dim"], settings["upsample_initial_channel"], settings["upsample_rates"],
            settings["upsample_kernel_sizes"], settings["resblock_kernel_sizes"], settings["resblock_dilation_sizes"][0],
        )  # fmt: skip

    def compared(self, ours: Any, reference: Any) -> Iterator[tuple[Tensor, Tensor]]:
        """On 0.16 s of noise."""
        log_mel = seeding.normal([seeding.generator("original")], (16, ours.config.model_in_dim))
        yield ours(log_mel), reference(log_mel)
