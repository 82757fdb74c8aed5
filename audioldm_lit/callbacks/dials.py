"""Three dials at every check: what the model has learned, what it copies, what it has forgotten."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from lightning import Callback, Trainer
from lightning.pytorch.utilities import rank_zero_info

from audioldm_lit import seeding
from audioldm_lit.assets.finding import find_model
from audioldm_lit.console.stages import Stage
from audioldm_lit.data.clips import ClipDataset
from audioldm_lit.errors import InputError
from audioldm_lit.inference.prompt_file import GENERAL, read_prompts
from audioldm_lit.metrics.base import ClipMetric
from audioldm_lit.metrics.copies import Memorisation
from audioldm_lit.metrics.extractors.base import AudioBatch, Extractor
from audioldm_lit.metrics.extractors.clap import CLAP
from audioldm_lit.metrics.extractors.fingerprint import Fingerprint
from audioldm_lit.metrics.kernel import KAD
from audioldm_lit.metrics.text import CLAPScore
from audioldm_lit.module import LitAudioLDM
from audioldm_lit.training.lightning_internals import autocast, only_tried
from audioldm_lit.training.outcome import Reading

RECORDINGS = 500  # of a split that are compared with: the dials are for few shots


class Dials(Callback):
    """Reads the dials at every check, first of the base, always with the same prompts and noise; logged as `val/learned` and so on.

    The values come from few clips: read their course, not their digits. `scores.after_fit` and `test` give values with intervals.

    Args:
        count: Clips generated for held-out captions, and as many for general prompts; 0 turns the dials off.
        prompts: File of general prompts, one a line; by default those that come with the package.
        extractor: The CLAP that `learned` and `forgot` are computed on; by default the model's own. Without one, as with a model
            folder that has no audio tower, the dials are off.
    """

    def __init__(self, count: int = 8, prompts: Path = GENERAL, extractor: Extractor | None = None) -> None:
        if count < 0 or count in (1, 2):
            raise InputError("dials.count", f"is {count}", "give at least 3 clips, or 0 to turn the dials off")
        self.count = count
        self.prompts = prompts
        texts = list(dict.fromkeys(read_prompts(prompts, "dials.prompts")))[:count]
        self.general = dict(zip(texts, texts, strict=True))  # by id
        self.extractor = extractor
        self.readings: dict[int, Reading] = {}  # by step; 0 is the base
        self.active = False

    def on_fit_start(self, trainer: Trainer, pl_module: LitAudioLDM) -> None:
        """Choose the prompts and read the recordings, every process its share."""
        self.active = self.count > 0 and not only_tried(trainer)
        if self.active and self.extractor is None and pl_module.backbone.audio_encoder is None:
            rank_zero_info("the dials are off: this model's folder has no CLAP audio tower; name a CLAP as dials.extractor")
            self.active = False
        if self.active and not pl_module.data.captioned:
            rank_zero_info("the dials are off: they read what captions sound like, and data.init_args.caption is null")
            self.active = False
        pl_module.outcome.readings = self.readings if self.active else {}
        if not self.active:
            return
        self.ear, self.fingerprint = self.extractor or CLAP(str(find_model(pl_module.backbone_name))), Fingerprint()
        held_out, train = (pl_module.data.waveforms(split) for split in ("val", "train"))
        with Stage("recordings for the dials"):
            self.recordings = {"target": self._read(pl_module, held_out), "train": self._read(pl_module, train)}
        captions = {clip.id: clip.caption for clip in held_out.clips}
        chosen = sorted(captions, key=lambda name: seeding.number("dials", name))[: self.count]
        self.domain = {name: captions[name] for name in chosen}

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LitAudioLDM) -> None:
        """Generate, every process its share, and log; the averaged weights are in place at this hook."""
        if not self.active:
            return
        with Stage("dials of the base" if trainer.sanity_checking else "dials"):
            domain, general = (self._generate(trainer, pl_module, prompts) for prompts in (self.domain, self.general))
            score = _value(CLAPScore(self.ear), preds=general)
            reading = Reading(
                learned=_value(KAD(self.ear), preds=domain, target=self.recordings["target"]),
                copied=_value(Memorisation(self.fingerprint), preds=domain, **self.recordings),
                general=score,
                forgot=self.readings[0].general - score if self.readings else 0.0,
            )
        self.readings[trainer.global_step] = reading
        pl_module.log_dict({f"val/{name}": value for name, value in asdict(reading).items()}, sync_dist=False)

    def _read(self, module: LitAudioLDM, clips: ClipDataset) -> AudioBatch:
        """This process's share of recordings as one batch, whose features live as long as it does."""
        share = range(module.trainer.global_rank, min(len(clips), RECORDINGS), module.trainer.world_size)
        waveform = torch.stack([clips.waveform(index) for index in share]) if share else torch.empty(0, clips.num_samples)
        captions = [clips.caption(index) for index in share]
        return AudioBatch([clips.id(index) for index in share], waveform.to(module.device), clips.sample_rate, captions)

    def _generate(self, trainer: Trainer, module: LitAudioLDM, prompts: Mapping[str, str]) -> AudioBatch:
        """This process's share of clips for prompts by id."""
        ids = list(prompts)[trainer.global_rank :: trainer.world_size]
        captions = [prompts[name] for name in ids]
        with torch.no_grad(), autocast(trainer):
            waveform = torch.empty(0, 1)
            if ids:
                waveform = module.generate(module.entries(ids, captions), module.read(captions))
        return AudioBatch(ids, waveform, module.backbone.sample_rate, captions)

    def state_dict(self) -> dict[str, Any]:
        """What was read so far; a resumed run compares with the same base."""
        return {"readings": {step: asdict(reading) for step, reading in self.readings.items()}}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore it."""
        self.readings = {step: Reading(**reading) for step, reading in state_dict["readings"].items()}


def _value(metric: ClipMetric, **sides: AudioBatch) -> float:
    """A metric of the clips of all processes."""
    given: dict[str, Any] = {side: batch for side, batch in sides.items() if len(batch.ids) and side in metric.sides}
    metric.update(**given)
    return metric.compute().item()
