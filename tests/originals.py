"""Look-alikes of the original's published checkpoints: all of its names, at the smallest width, with random weights."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn
from transformers import RobertaConfig

from audioldm_lit.networks.original.reference.clap import AudioTower, TextTower
from audioldm_lit.networks.original.reference.unet import UNet
from audioldm_lit.networks.original.reference.vae import VAE
from audioldm_lit.networks.original.reference.vocoder import HiFiGAN

OLD, NEW = "cond_stage_model.model.", "cond_stage_models.0.model."


@dataclass(frozen=True)
class Sizes:
    """What the networks of a checkpoint are made with."""

    widths: tuple[int, ...] = (32, 64)
    attends: tuple[bool, ...] = (False, True)
    head: int = 32
    layers: int = 1
    embedding: int = 32
    vae: tuple[int, ...] = (32, 32, 64)
    vocoder: tuple[int, tuple[int, ...]] = (32, (3,))
    text: Mapping[str, int] = field(
        default_factory=lambda: {
            "vocab_size": 261, "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 1, "intermediate_size": 96,
            "max_position_embeddings": 130,
        }
    )  # fmt: skip
    audio: tuple[int, tuple[int, ...], tuple[int, ...]] = (8, (2, 1, 2, 1), (1, 2, 2, 4))


TINY = {
    "s": Sizes(),
    "m": Sizes(widths=(96, 192), audio=(16, (2, 1, 3, 1), (2, 2, 4, 4))),
    "l": Sizes(widths=(256, 256), head=64),
}
BASE = {
    "vocab_size": 50265, "hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12, "intermediate_size": 3072,
    "max_position_embeddings": 514,
}  # fmt: skip
HTSAT_TINY = (96, (2, 2, 6, 2), (4, 8, 16, 32))
HTSAT_BASE = (128, (2, 2, 12, 2), (4, 8, 16, 32))


def published(width: int, head: int, audio: tuple[int, tuple[int, ...], tuple[int, ...]]) -> Sizes:
    """Sizes of a published checkpoint by the UNet's first width."""
    return Sizes(
        widths=tuple(width * factor for factor in (1, 2, 3, 5)), attends=(False, True, True, True), head=head, layers=2,
        embedding=512, vae=(128, 256, 512), vocoder=(1024, (3, 7, 11)), text=BASE, audio=audio,
    )  # fmt: skip


PUBLISHED = {"s": published(128, 32, HTSAT_TINY), "m": published(192, 32, HTSAT_BASE), "l": published(256, 64, HTSAT_TINY)}


def networks(sizes: Sizes, clap: str = OLD) -> dict[str, nn.Module]:
    """Every network by what its names begin with."""
    roberta = RobertaConfig(**sizes.text, type_vocab_size=1, layer_norm_eps=1e-5)
    width, kernels = sizes.vocoder
    return {
        "model.diffusion_model.": UNet(8, sizes.widths, sizes.layers, sizes.attends, sizes.embedding, sizes.head),
        "first_stage_model.": VAE(1, sizes.vae, sizes.layers, 8),
        "first_stage_model.vocoder.": HiFiGAN(64, width, (5, 4, 2, 2, 2), (16, 16, 8, 4, 4), kernels, (1, 3, 5)),
        f"{clap}text_": TextTower(roberta, sizes.embedding),
        f"{clap}audio_": AudioTower(64, *sizes.audio, 8, sizes.embedding),
    }


def tensors(sizes: Sizes, clap: str = OLD, average: bool = True, seed: int = 0) -> dict[str, Tensor]:
    """All tensors of a checkpoint by name."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        found = {}
        for prefix, network in networks(sizes, clap).items():
            start = prefix.removesuffix("text_").removesuffix("audio_")
            found |= {f"{start}{name}": _disturbed(name, tensor) for name, tensor in network.state_dict().items()}
        for name in [name for name in found if average and name.startswith("model.")]:
            found[f"model_ema.{name[6:].replace('.', '')}"] = found[name] + 0.02 * torch.randn(found[name].shape)
        return found | _rest(clap, average)


def write(path: Path, weights: Mapping[str, Tensor]) -> Path:
    """A file as Lightning leaves it."""
    torch.save({"epoch": 3, "global_step": 7, "pytorch-lightning_version": "1.7.7", "state_dict": dict(weights)}, path)
    return path


def _disturbed(name: str, tensor: Tensor) -> Tensor:
    """Nowhere the ones and zeros that fresh networks have, which would hide that two were mixed up."""
    if not tensor.is_floating_point():
        return tensor
    return tensor.abs() + torch.rand(tensor.shape) if name.endswith("running_var") else tensor + 0.05 * torch.randn(tensor.shape)


def _rest(clap: str, average: bool) -> dict[str, Tensor]:
    """What only the trainer reads; the values are no matter, they must come back as they are."""
    betas = torch.linspace(0.0015**0.5, 0.0195**0.5, 1000, dtype=torch.float64) ** 2
    rest = {
        "betas": betas.float(),
        "alphas_cumprod": (1 - betas).cumprod(0).float(),
        "sqrt_recipm1_alphas_cumprod": torch.randn(1000),
        "posterior_mean_coef1": torch.randn(1000),
        "logvar": torch.zeros(1000),
        "scale_factor": torch.tensor(0.9227914214134216),
        "first_stage_model.loss.logvar": torch.zeros(()),
        f"{clap}logit_scale_a": torch.tensor(2.6),
        f"{clap}text_transform.sequential.0.weight": torch.randn(4, 4),
        f"{clap}text_branch.embeddings.position_ids": torch.arange(130)[None],
        f"{clap}audio_branch.tscam_conv.weight": torch.randn(5, 8, 2, 3),
        f"{clap}audio_branch.spectrogram_extractor.stft.conv_real.weight": torch.randn(3, 1, 4),
        f"{clap}audio_branch.layers.0.blocks.1.attn_mask": torch.randn(64, 64, 64),
    }
    if average:
        rest |= {"model_ema.decay": torch.tensor(0.9999), "model_ema.num_updates": torch.tensor(70, dtype=torch.int32)}
    if clap == NEW:
        rest["clap.model.logit_scale_t"] = torch.tensor(1.5)
    return rest
