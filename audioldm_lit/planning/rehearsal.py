"""A run in small: a few clips, few passes a clip; everything else is the run's own."""

import copy
from collections.abc import Sequence
from typing import Any

import torch
from lightning import Callback, Trainer
from torch import Tensor

from audioldm_lit.backbone import SOUND_SIDE, Backbone
from audioldm_lit.callbacks.best_check import BestCheck
from audioldm_lit.conditioning import Retrieval
from audioldm_lit.console.stages import Stage
from audioldm_lit.data.base import AudioDataModule
from audioldm_lit.data.clips import Clip, ClipDataset, Split
from audioldm_lit.diffusion import Prediction
from audioldm_lit.inference.sampling import Sampler
from audioldm_lit.module import LitAudioLDM
from audioldm_lit.planning.clock import Clock
from audioldm_lit.planning.fitting import check_memory
from audioldm_lit.planning.memory import forget_peak, peak
from audioldm_lit.training.cache import Cache
from audioldm_lit.training.checks import check_geometry

FEW = 8  # clips of each split
SPLITS: tuple[Split, ...] = ("train", "val")


class Rehearsal(Callback):
    """Makes a run small, counts and encodes a few clips of the data, and refuses a step that would not fit in memory.

    Args:
        module: The run's model, whose sampler is shortened.
        data: The run's data, of which every split is cut.
        clock: Measures what hooks take.

    Attributes:
        counts: Clips of each split that was read, before it was cut.
        missing: Items that are not encoded yet, before anything is.
        seconds: What reading and encoding would take.
        most: The most memory that was used, in bytes.
        passes: Passes through the UNet that a clip takes in this run, and would take.
    """

    def __init__(self, module: LitAudioLDM, data: AudioDataModule, clock: Clock) -> None:
        self.clock = clock
        self.counts: dict[str, int] = {}
        self.missing = 0
        self.seconds = 0.0
        self.most = 0
        predicts = module.objective.prediction
        short = shortened(module.sampler, clock)
        self.passes = passes(short, module.backbone, predicts), passes(module.sampler, module.backbone, predicts)
        module.sampler = short
        if isinstance(module.conditioning, Retrieval):
            module.conditioning.neighbours = min(module.conditioning.neighbours, FEW)
        self.whole = data.dataset
        data.dataset = self._few  # type: ignore[method-assign]  # every way to a split's clips leads through it

    def _few(self, clips: Sequence[Clip], split: Split) -> ClipDataset:
        """The first clips of a split."""
        found = self.whole(clips, split)
        self.counts[split] = len(found)
        return ClipDataset(found.clips[:FEW], found.sample_rate, found.num_samples, found.padding)

    def setup(self, trainer: Trainer, pl_module: LitAudioLDM, stage: str) -> None:
        """Read the data as the run would, and encode what this one needs."""
        check_geometry(pl_module.backbone, pl_module.data)
        pl_module.backbone.to(trainer.strategy.root_device)
        if isinstance(trainer.checkpoint_callback, BestCheck):  # eight clips are no reason to end without an adapter
            trainer.checkpoint_callback.max_copied, trainer.checkpoint_callback.max_forgot = 1.0, 2.0
        cache = Cache(pl_module.cache_dir, pl_module.backbone, pl_module.conditioning.needs_audio, pl_module.vae_fingerprint)
        texts, data = 0, pl_module.data
        began = self.clock.now()
        for split in SPLITS:
            clips = self.whole(data.present(split), split)
            missing = cache.missing(data.training_set(clips) if split == "train" else clips)
            self.missing += missing[0]
            texts += missing[1]
        self.seconds = self.clock.now() - began
        if self.missing or texts:
            with Stage("timing the encoders"):
                a_clip, a_text = self._encoding(pl_module, clips)
            self.seconds += self.missing * a_clip + texts * a_text
        for dataset in data.datasets.values():
            assert isinstance(dataset, ClipDataset)  # not encoded before the model's own set-up
            cache.fill(dataset)

    def _encoding(self, module: LitAudioLDM, clips: ClipDataset) -> tuple[float, float]:
        """Seconds to encode a clip and a text, the first of each left out."""
        times: list[tuple[float, float]] = []
        for index in (0, len(clips) - 1):
            began = self.clock.now()
            waveform: Tensor = clips.waveform(index)[None].to(module.device)
            module.backbone.encode_posterior(waveform)
            if module.conditioning.needs_audio:
                module.backbone.encode_audio(waveform)
            between = self.clock.now()
            module.backbone.encode_text([clips.caption(index)])
            times.append((between - began, self.clock.now() - between))
        return times[-1]

    def on_fit_start(self, trainer: Trainer, pl_module: LitAudioLDM) -> None:
        """Refuse what would not fit, before it is tried."""
        device = trainer.strategy.root_device
        self.most = peak(device)
        pl_module.backbone.rest(but=SOUND_SIDE if pl_module.objective.needs_waveform else ())  # as in training
        check_memory(trainer, pl_module)
        forget_peak(device)

    def teardown(self, trainer: Trainer, pl_module: LitAudioLDM, stage: str) -> None:
        """Note the peak."""
        self.most = max(self.most, peak(trainer.strategy.root_device))


def shortened(sampler: Sampler, clock: Clock) -> Sampler:
    """A sampler of as few steps as have all that the others repeat, which tells the clock what it takes."""
    short = copy.copy(sampler)
    short.num_inference_steps = min(sampler.num_inference_steps, max(2, sampler.cache_interval))
    latents = short.latents

    def timed(*args: Any, **kwargs: Any) -> Tensor:
        with clock.sampling():
            found = latents(*args, **kwargs)
            if found.device.type == "cuda":
                torch.cuda.synchronize(found.device)
            return found

    short.latents = timed  # type: ignore[method-assign]  # a subclass would have to be of the user's own class
    return short


def passes(sampler: Sampler, backbone: Backbone, prediction: Prediction) -> int:
    """Passes of a clip through the UNet, two for every guided step."""
    return sum(2 if sampler.guides_at(float(step)) else 1 for step in sampler.steps(backbone, prediction))
