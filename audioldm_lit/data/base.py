"""The data seam: a data set lists its clips, `AudioDataModule` does everything else.

The data side yields waveforms and captions and knows nothing of the model; the model may swap a split's data set for an encoded
one before the loaders are made.
"""

import math
import os
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import get_args

from lightning import LightningDataModule
from lightning.pytorch.utilities import rank_zero_info
from torch.utils.data import DistributedSampler, Sampler

from audioldm_lit.audio.member import is_there
from audioldm_lit.audio.waveform import Padding
from audioldm_lit.data.augmentation import Augmentation
from audioldm_lit.data.augmented import AugmentedDataset
from audioldm_lit.data.clips import Clip, ClipDataset, FoundClips, ItemDataset, Part, Split
from audioldm_lit.data.files import check_links, leads_out, links_out
from audioldm_lit.data.listing import check_apart, check_clips, check_ids_and_captions
from audioldm_lit.data.loader import Batches, batches
from audioldm_lit.data.phrasing import Phrasing
from audioldm_lit.data.remark import Remark
from audioldm_lit.data.selection import few_shot
from audioldm_lit.data.stream import TrainingStream
from audioldm_lit.errors import InputError
from audioldm_lit.seams import check_call
from audioldm_lit.storage.names import expanded, why_no_file

STAGES: dict[str, tuple[Split, ...]] = {"fit": ("train", "val"), "validate": ("val",), "test": ("test",), "predict": ("test",)}


class AudioDataModule(LightningDataModule, ABC):
    """Base of every data set: few-shot selection, reading, batches.

    Args:
        root: Folder of the data set.
        duration: Length of every waveform in seconds; longer clips are cut to their loudest window, shorter ones padded. On the
            command line, the length that the model was trained on where it is left out and a model is named.
        sample_rate: Hz; must be the model's.
        padding: `zeros` after the clip, as AudioLDM does, or `repeat` the clip.
        shots: Training clips per class; all where not given. The choice is nested, 5 shots contain the 2 shots of the same seed,
            and takes another source before it takes a second clip of one.
        num_train_clips: Training clips in all, taken from the classes in turn; all where not given.
        min_coverage: Share in [0, 1] of a split's listed clips whose audio must be there; how many are left out is said.
        augmentation: Variants of the training clips beside the originals, encoded once each; training takes one at a time.
        phrasing: Templates and paraphrases of captions; training takes one text at a time.
        seed: Seed of the few-shot choice, of the order of training clips, of their variants and of their texts; which clips are
            held out does not depend on it.
        batch_size: Clips per batch on all processes together.
        num_workers: Reader processes per loader; cached training needs none.
        follow_links: Whether links in the folder may lead out of it; else they are refused, as what they lead to may be private.
    """

    def __init__(
        self,
        root: Path,
        duration: float = 5.12,
        sample_rate: int = 16_000,
        padding: Padding = "zeros",
        shots: int | None = None,
        num_train_clips: int | None = None,
        min_coverage: float = 1.0,
        augmentation: Augmentation | None = None,
        phrasing: Phrasing | None = None,
        seed: int = 0,
        batch_size: int = 8,
        num_workers: int = 0,
        follow_links: bool = False,
    ) -> None:
        super().__init__()
        check_call(self.clips, "data", "split")
        if not 0 < duration < math.inf:
            raise InputError("data.init_args.duration", f"is {duration}", "give a length in seconds above 0")
        if shots is not None and shots < 1:
            raise InputError("data.init_args.shots", f"is {shots}", "give at least 1 clip per class, or null for all")
        if num_train_clips is not None and num_train_clips < 1:
            raise InputError("data.init_args.num_train_clips", f"is {num_train_clips}", "give at least 1 clip, or null for all")
        if not 0 <= min_coverage <= 1:
            raise InputError("data.init_args.min_coverage", f"is {min_coverage}", "give a share from 0 to 1")
        if batch_size < 1:
            raise InputError("data.init_args.batch_size", f"is {batch_size}", "give at least 1 clip")
        if num_workers < 0:
            raise InputError("data.init_args.num_workers", f"is {num_workers}", "give 0 or more")
        self.root = expanded(root)
        self.duration = duration
        self.sample_rate = sample_rate
        self.padding = padding
        self.shots = shots
        self.num_train_clips = num_train_clips
        self.min_coverage = min_coverage
        self.augmentation = augmentation
        self.phrasing = phrasing
        self.seed = seed
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.follow_links = follow_links
        self.captioned = True
        """Whether clips have captions; those of a data set without can be conditioned on their sound alone."""
        self.datasets: dict[Split, ItemDataset] = {}
        self.coverage: dict[Split, FoundClips] = {}
        self.parts: dict[Split, dict[Part, Clip]] = {}  # what was listed so far
        self.remarks: list[Remark] = []
        """What there is to say about how the data set was read, once its clips were listed."""
        self._said = 0

    @abstractmethod
    def clips(self, split: Split) -> list[Clip]:
        """List every clip of a split, before few-shot selection; raise `InputError` where the data set on disk is wrong."""

    @property
    def num_samples(self) -> int:
        """Length of every waveform in samples."""
        return round(self.duration * self.sample_rate)

    def num_training_batches(self) -> int:
        """Batches of the whole run, of one pass where there is no trainer; raises `InputError` if it does not say how many."""
        if self.trainer is None:
            return -(-self._num_originals() // self.batch_size)
        trainer = self.trainer
        if trainer.max_steps < 1:
            raise InputError("trainer.max_steps", f"is {trainer.max_steps}, and training is counted in steps", "give at least 1")
        return trainer.max_steps * trainer.accumulate_grad_batches

    def _ranks(self) -> tuple[int, int]:
        """The number of this process, and how many there are: one where no trainer has taken up this data."""
        return (self.trainer.global_rank, self.trainer.world_size) if self.trainer else (0, 1)

    def _num_originals(self) -> int:
        """Training clips without their variants."""
        return len(self._set_up("train")) // (1 + self.augmentation.variants if self.augmentation else 1)

    def _set_up(self, split: Split) -> ItemDataset:
        """The data set of a split."""
        if split not in self.datasets:
            raise InputError(f"the {split} loader", "has no clips yet", "call setup('fit'), or setup('test') for the test clips")
        return self.datasets[split]

    def setup(self, stage: str) -> None:
        """Make the data sets of the stage; what is missing is refused before anything is computed."""
        self.datasets = {}  # an earlier stage's are encoded by now
        for split in STAGES[stage]:
            clips = self.waveforms(split)
            self.datasets[split] = self.training_set(clips) if split == "train" else clips
            if self.coverage[split].share < 1:
                rank_zero_info(f"{split}: the audio of {self.coverage[split]}")
        for remark in self.remarks[self._said :]:
            rank_zero_info(remark)
        self._said = len(self.remarks)

    def waveforms(self, split: Split) -> ClipDataset:
        """The clips of a split, the few shots of `train`, as waveforms, sorted by id."""
        return self.dataset(self.present(split), split)

    def dataset(self, clips: Sequence[Clip], split: Split) -> ClipDataset:
        """Clips of a split, the few shots of `train`, as waveforms, sorted by id; without variants, the captions in one wording."""
        if self.phrasing:
            if not self.captioned:
                raise InputError("data.init_args.phrasing", "needs captions, but data.init_args.caption is null", "leave one out")
            word = self.phrasing.caption
            clips = [replace(clip, caption=word(clip.caption), others=tuple(map(word, clip.others))) for clip in clips]
        # Batches must not depend on the order in which a file system lists files, nor a mixture's partner.
        clips = sorted(clips, key=lambda clip: clip.id)
        if split == "train":
            clips = few_shot(clips, self.seed, self.shots, self.num_train_clips)
        return ClipDataset(clips, self.sample_rate, self.num_samples, self.padding)

    def training_set(self, clips: ClipDataset) -> ClipDataset:
        """Training clips with the variants that `augmentation` makes of them and the texts that `phrasing` gives."""
        self._check_paraphrases()
        clips = ClipDataset(clips.clips, clips.sample_rate, clips.num_samples, clips.padding, self.phrasing or Phrasing())
        return AugmentedDataset(clips, self.augmentation, self.seed) if self.augmentation else clips

    def _check_paraphrases(self) -> None:
        """Refuse paraphrases of a text that is not a caption, such as a misspelt one: they would never be drawn."""
        if not self.phrasing:
            return
        unknown = set(self.phrasing.paraphrases)
        for split in get_args(Split):
            if unknown:  # a list is not read again without need
                unknown -= {caption for clip in self.clips(split) for caption in (clip.caption, *clip.others)}
        if unknown:
            raise InputError(
                "data.init_args.phrasing.init_args.paraphrases",
                f"'{min(unknown)}' is no clip's caption, as {len(unknown)} of the {len(self.phrasing.paraphrases)} listed",
                "correct or remove them",
            )

    def present(self, split: Split) -> list[Clip]:
        """The clips of a split whose audio is there; `coverage` then says how many of how many these are.

        Raises:
            InputError: If there is none, fewer than `min_coverage` asks for, or an entry of the list is wrong.
        """
        listed = self.clips(split)
        if not listed:
            raise self.empty(split)
        check_clips(listed, self, split)
        check_ids_and_captions(listed, split, self.captioned)
        self.parts[split] = {clip.part: clip for clip in listed}
        check_apart(self.parts)
        clips = self.covered(split, listed)
        if not clips or (len(clips) < len(listed) and self.min_coverage == 1):
            there = {clip.id for clip in clips}
            raise self.missing(next(clip for clip in listed if clip.id not in there))
        return clips

    def missing(self, clip: Clip) -> InputError:
        """The error for a clip whose audio is not there."""
        return clip.error(why_no_file(clip.path), "correct the path or remove the entry")

    def covered(self, split: Split, listed: Sequence[Clip]) -> list[Clip]:
        """Those of a split's listed clips whose audio is there, noting the `coverage`.

        Raises:
            InputError: If more are missing than `min_coverage` allows, or one lies behind a link that leads out of the folder.
        """
        clips = [clip for clip in listed if is_there(clip.path)]
        if not self.follow_links:
            for path, real in links_out(self.root, [clip.path for clip in clips]):
                raise next(clip for clip in clips if clip.path == path).error(*leads_out(self.root, real))
        self.coverage[split] = coverage = FoundClips(*(len({clip.path for clip in part}) for part in (clips, listed)))
        if clips and coverage.share < self.min_coverage < 1:
            there = {clip.path for clip in clips}
            lost = next(clip.path.name for clip in listed if clip.path not in there)
            raise InputError(
                self.root,
                f"has the audio of {coverage} of the {split} split, {lost} and others are missing",
                f"fetch more or lower data.init_args.min_coverage, which is {self.min_coverage:g}",
            )
        return clips

    def listing(self, path: Path) -> Path:
        """A file that says what the clips are, as it is; refused where a link leads out of the folder, see `check_links`."""
        if not self.follow_links and os.path.isfile(path):
            check_links(self.root, [path])
        return path

    def empty(self, split: Split) -> InputError:
        """The error for a split without clips."""
        return InputError(self.root, f"the {split} split is empty", "add clips to it or change what data.init_args chooses")

    def ids_by_class(self, split: Split) -> dict[str, list[str]]:
        """Ids of the split's clips by class; empty where there is only one class."""
        by_label: dict[str, list[str]] = defaultdict(list)
        for clip in sorted(self.present(split), key=lambda clip: clip.id):
            by_label[clip.label].append(clip.id)
        return dict(by_label) if len(by_label) > 1 else {}

    def train_dataloader(self) -> Batches:
        """Endless shuffled training batches, `trainer.max_steps` of them; one pass where there is no trainer."""
        clips, trainer = self._num_originals(), self.trainer
        first = trainer.global_step * trainer.accumulate_grad_batches if trainer else 0
        draws = self.seed, len(self.datasets["train"]) // clips, self.datasets["train"].choices
        stream = TrainingStream(clips, self.batch_size, self.num_training_batches(), first, *self._ranks(), *draws)
        return self._loader("train", stream)

    def val_dataloader(self) -> Batches:
        """Validation clips in order."""
        return self._in_order("val")

    def test_dataloader(self) -> Batches:
        """Test clips in order."""
        return self._in_order("test")

    def predict_dataloader(self) -> Batches:
        """Test clips in order: their captions are the prompts."""
        return self._in_order("test")

    def _in_order(self, split: Split) -> Batches:
        """Each rank sees every n-th clip; the few that pad the last round come twice and are dropped by id when gathered."""
        rank, world = self._ranks()
        return self._loader(split, DistributedSampler(self._set_up(split), world, rank, shuffle=False))

    def _loader(self, split: Split, sampler: Sampler[int]) -> Batches:
        _, ranks = self._ranks()
        if self.batch_size % ranks:
            raise InputError("data.init_args.batch_size", f"is {self.batch_size}", f"give a multiple of the {ranks} processes")
        return batches(self.datasets[split], sampler, self.batch_size // ranks, self.num_workers)


def caption_from(template: str, label: str) -> str:
    """Fill a caption template such as "the sound of {label}"."""
    try:
        return template.format(label=label)
    except (AttributeError, LookupError, ValueError) as error:
        raise InputError("data.init_args.caption", f"is '{template}'", "write no field but {label}") from error
