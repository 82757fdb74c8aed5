"""Preference: of two sounds of one caption, the one that people liked better is to become the likelier one."""

from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers.schedulers.scheduling_ddim import DDIMScheduler
from torch import Tensor

from audioldm_lit import seeding
from audioldm_lit.audio.waveform import fit, read
from audioldm_lit.backbone import Backbone
from audioldm_lit.console.stages import Stage
from audioldm_lit.data.pairs import read_pairs
from audioldm_lit.errors import InputError
from audioldm_lit.objectives.base import Objective
from audioldm_lit.objectives.frozen import FrozenUNet


class DirectPreference(Objective):
    """Diffusion-DPO: Wallace et al. 2023 (arXiv 2311.12908, Eq. 14).

    For every training clip a pair is drawn and takes its place: both sounds get the same noise at the same timestep. The loss is
    -log sigmoid(-beta (d_better - d_worse)), where d is the squared error of the noise less that of a frozen copy of the base. It
    is divided by beta / 2, so that its gradient is at first that of the difference of the two errors. A step takes twice the time
    of one on recordings, two forward passes more, and a second UNet's memory. Recordings are not trained on: their held-out loss
    may rise.

    Args:
        pairs: Table with the columns `caption`, `better` and `worse`, two files, as `listen merge` writes it.
        beta: Steepness, above 0, over mean squared errors: the larger, the nearer the model stays to its base.
    """

    def __init__(self, pairs: Path, beta: float = 1000.0) -> None:
        super().__init__()
        if not beta > 0:
            raise InputError("model.objective.init_args.beta", f"is {beta}", "give a number above 0, such as 1000")
        self.pairs = Path(pairs)
        self.beta = beta
        self.listed = read_pairs(self.pairs)

    def prepare(self, backbone: Backbone, num_samples: int, folder: Path) -> None:
        """Copy the base, and encode the pairs."""
        self.base = FrozenUNet(backbone)
        with Stage(f"encoding {len(self.listed)} pairs", 2 * len(self.listed)) as stage:

            def encoded(path: Path) -> Tensor:
                waveform = fit(read(path, backbone.sample_rate), num_samples, "repeat")  # silence too: it may be what was disliked
                stage.advance(1)
                return backbone.encode_latents(waveform[None].to(backbone.device))[0].cpu()

            # Plain tensors on the CPU, neither weights nor buffers: no checkpoint holds them, no process sends them to another.
            self.better = torch.stack([encoded(pair.better) for pair in self.listed])  # (pairs, C, F/4, M/4)
            self.worse = torch.stack([encoded(pair.worse) for pair in self.listed])
        self.prompt_embeds = backbone.encode_text([pair.caption for pair in self.listed]).cpu()  # (pairs, D)

    def forward(
        self,
        backbone: Backbone,
        scheduler: DDIMScheduler,
        latents: Tensor,
        cond: Tensor,
        generators: Sequence[torch.Generator],
    ) -> Tensor:
        """Loss (B,) of a pair drawn for every sample; see `Objective.forward`."""
        chosen = (seeding.uniform(generators) * len(self.better)).long()
        noise = seeding.normal(generators, latents.shape[1:]).to(latents.device)
        timesteps = (seeding.uniform(generators) * scheduler.config["num_train_timesteps"]).long().to(latents.device)
        text = self.prompt_embeds[chosen].to(cond.device)
        clean = (side[chosen].to(latents.device) for side in (self.better, self.worse))
        noisy = (scheduler.add_noise(sounds, noise, timesteps) for sounds in clean)
        better, worse = (self.base.exceeded_by(backbone, sounds, noise, timesteps, text) for sounds in noisy)
        return -2 / self.beta * F.logsigmoid(-self.beta * (better - worse))
