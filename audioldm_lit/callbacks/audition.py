"""Listen while it trains: the same prompts with the same noise, first from the base, then at every check."""

from collections.abc import Sequence
from pathlib import Path

import torch
from lightning import Callback, Trainer
from torch import Tensor

from audioldm_lit.audio.spectrogram import write_spectrogram
from audioldm_lit.audio.waveform import write
from audioldm_lit.console.stages import Stage
from audioldm_lit.errors import InputError
from audioldm_lit.inference.manifest import file_stem
from audioldm_lit.module import LitAudioLDM
from audioldm_lit.training.encoding import encoded
from audioldm_lit.training.lightning_internals import autocast, only_tried
from audioldm_lit.training.loggers import log_clip
from audioldm_lit.training.run_folder import rank_zero_folder


class Audition(Callback):
    """Writes `audition/<prompt>/step-000000.wav` (the model before training) and one more file at every check.

    Beside each is a picture of its log-mel spectrogram with its axes, and every logger that takes sound and pictures gets both.
    Only the weights differ between the files of a prompt. Nothing is drawn from the training's random stream, so a run with
    auditions trains exactly like one without.

    Args:
        prompts: What to listen to; by default up to `count` different captions of the held-out clips. Where the data set has no
            captions, the audio embeddings of held-out clips are the prompts, named by the clips' ids.
        count: How many captions or clips to take where no prompts are given; 0 turns auditions off.
    """

    def __init__(self, prompts: Sequence[str] | None = None, count: int = 4) -> None:
        if count < 0:
            raise InputError("audition.count", f"is {count}", "give 1 or more, or 0 to turn auditions off")
        self.prompts = prompts
        self.count = count

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LitAudioLDM) -> None:
        """Generate, on the first process; the averaged weights are in place at this hook."""
        prompts = self.prompts if self.prompts is not None else self._held_out(pl_module)
        if trainer.state.fn != "fit" or not trainer.is_global_zero or not prompts or only_tried(trainer):
            return
        if self.prompts is None and not pl_module.data.captioned:
            cond = self._sounds(pl_module, len(prompts))
        else:
            cond = pl_module.read(prompts)
        where = " of the base" if trainer.sanity_checking else ""
        with Stage(f"auditions{where}"), torch.no_grad(), autocast(trainer):
            waveforms = pl_module.generate(pl_module.entries(prompts, prompts), cond)
            log_mels = pl_module.backbone.log_mel(waveforms)[:, 0]  # (B, F, M)
        for prompt, waveform, log_mel in zip(prompts, waveforms, log_mels, strict=True):
            sound = self.folder(trainer) / file_stem(prompt) / f"step-{trainer.global_step:06d}.wav"
            picture = sound.with_suffix(".png")
            write(sound, waveform, pl_module.backbone.sample_rate)
            write_spectrogram(picture, log_mel, pl_module.backbone.log_mel, prompt)
            for logger in trainer.loggers:
                log_clip(logger, prompt, sound, picture, trainer.global_step)

    @staticmethod
    def folder(trainer: Trainer) -> Path:
        """Where the files go."""
        return rank_zero_folder(trainer) / "audition"

    def _held_out(self, module: LitAudioLDM) -> list[str]:
        """Captions of held-out clips, or their ids where there are none."""
        clips = encoded(module.data, "val").clips.clips
        names = dict.fromkeys(clip.caption if module.data.captioned else clip.id for clip in clips)
        return list(names)[: self.count]

    def _sounds(self, module: LitAudioLDM, count: int) -> Tensor:
        """Audio embeddings (B, D) of the first held-out clips."""
        clips = encoded(module.data, "val")
        return torch.stack([clips[index]["audio_embeds"] for index in range(count)]).to(module.device)
