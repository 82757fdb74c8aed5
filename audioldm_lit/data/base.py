"""The data seam: a data set says which clips it has, `AudioDataModule` does everything else.

The data side yields waveforms and captions and knows nothing of the model; the model may swap a split's data set for an encoded
one before the loaders are made.
"""

import hashlib
import math
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from lightning import LightningDataModule
from torch.utils.data import DataLoader, Dataset, DistributedSampler

from audioldm_lit import noise
from audioldm_lit.audio import Padding, fit, read
from audioldm_lit.data.stream import TrainingStream
from audioldm_lit.errors import InputError

Split = Literal["train", "val", "test"]


@dataclass(frozen=True)
class Clip:
    """One recording and what is known of it.

    Attributes:
        id: Unique in the data set; scores and seeds are tied to it.
        path: Audio file.
        caption: Text the model is conditioned on.
        label: Class, for few-shot selection; one empty label where there are no classes.
        source: Recording session or upload; clips of one source never straddle two splits. Its own id where unknown.
    """

    id: str
    path: Path
    caption: str
    label: str = ""
    source: str = ""

    def __post_init__(self) -> None:
        """A clip of unknown source is its own."""
        object.__setattr__(self, "source", self.source or self.id)


class ClipDataset(Dataset):
    """Clips as waveforms of one length.

    Args:
        clips: The clips, in order.
        sample_rate: Hz.
        num_samples: Length of every waveform.
        padding: What fills clips that are too short.
    """

    def __init__(self, clips: Sequence[Clip], sample_rate: int, num_samples: int, padding: Padding) -> None:
        self.clips = list(clips)
        self.sample_rate = sample_rate
        self.num_samples = num_samples
        self.padding = padding

    def __len__(self) -> int:
        """Number of clips."""
        return len(self.clips)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Item with `id`, `caption` and `waveform` (T,)."""
        clip = self.clips[index]
        waveform = fit(read(clip.path, self.sample_rate), self.num_samples, self.padding)
        return {"id": clip.id, "caption": clip.caption, "waveform": waveform}

    def content_key(self, index: int) -> str:
        """SHA-256 of everything the waveform depends on: the file's bytes and how they are fitted."""
        digest = hashlib.sha256(f"{self.sample_rate} {self.num_samples} {self.padding}".encode())
        digest.update(self.clips[index].path.read_bytes())
        return digest.hexdigest()


class AudioDataModule(LightningDataModule, ABC):
    """Base of every data set: few-shot selection, reading, batches.

    Args:
        root: Folder of the data set.
        duration: Length of every waveform in seconds; longer clips are cut to their loudest window, shorter ones padded.
        sample_rate: Hz; must be the model's.
        padding: `zeros` after the clip, as AudioLDM does, or `repeat` the clip.
        shots: Training clips per class; all where not given. The choice is nested: 5 shots contain the 2 shots of the same seed.
        seed: Seed of the few-shot choice and of the order of training clips; which clips are held out does not depend on it.
        batch_size: Clips per batch on all processes together.
        num_workers: Reader processes per loader; cached training needs none.
    """

    def __init__(
        self,
        root: Path,
        duration: float = 5.12,
        sample_rate: int = 16_000,
        padding: Padding = "zeros",
        shots: int | None = None,
        seed: int = 0,
        batch_size: int = 8,
        num_workers: int = 0,
    ) -> None:
        super().__init__()
        if not 0 < duration < math.inf:
            raise InputError(f"data.init_args.duration is {duration}; give a length in seconds above 0.")
        if shots is not None and shots < 1:
            raise InputError(f"data.init_args.shots is {shots}; give at least 1 clip per class, or null for all.")
        if batch_size < 1:
            raise InputError(f"data.init_args.batch_size is {batch_size}; give at least 1 clip.")
        if num_workers < 0:
            raise InputError(f"data.init_args.num_workers is {num_workers}; give 0 or more.")
        self.root = Path(root).expanduser()
        self.duration = duration
        self.sample_rate = sample_rate
        self.padding = padding
        self.shots = shots
        self.seed = seed
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.datasets: dict[str, Dataset] = {}

    @abstractmethod
    def clips(self, split: Split) -> list[Clip]:
        """List every clip of a split, before few-shot selection; raise `InputError` where the data set on disk is wrong."""

    @property
    def num_samples(self) -> int:
        """Length of every waveform in samples."""
        return round(self.duration * self.sample_rate)

    def num_training_batches(self) -> int:
        """Batches of the whole run; raises `InputError` if the trainer does not say how many."""
        if self.trainer.max_steps < 1:
            raise InputError(f"trainer.max_steps is {self.trainer.max_steps}; training is counted in steps, give a number above 0.")
        return self.trainer.max_steps * self.trainer.accumulate_grad_batches

    def setup(self, stage: str) -> None:
        """Make the data sets of the stage and refuse what is missing before anything is computed."""
        self.datasets = {}  # an earlier stage's are encoded by now
        for split in {"fit": ("train", "val"), "validate": ("val",), "test": ("test",), "predict": ("test",)}[stage]:
            self.datasets[split] = self.waveforms(split)

    def waveforms(self, split: Split) -> ClipDataset:
        """The clips of a split, the few shots of `train`, as waveforms, sorted by id."""
        clips = list(self.clips(split))
        _check(clips, split, self.root)
        if split == "train" and self.shots is not None:
            clips = few_shot(clips, self.shots, self.seed)
        clips.sort(key=lambda clip: clip.id)  # batches must not depend on the order in which a file system lists files
        return ClipDataset(clips, self.sample_rate, self.num_samples, self.padding)

    def ids_by_class(self, split: Split) -> dict[str, list[str]]:
        """Ids of the split's clips by class; nothing where all are of one."""
        by_label: dict[str, list[str]] = defaultdict(list)
        for clip in sorted(self.clips(split), key=lambda clip: clip.id):
            by_label[clip.label].append(clip.id)
        return dict(by_label) if len(by_label) > 1 else {}

    def train_dataloader(self) -> DataLoader:
        """Endless shuffled training batches, `trainer.max_steps` of them."""
        trainer = self.trainer
        clips, first = len(self.datasets["train"]), trainer.global_step * trainer.accumulate_grad_batches
        ranks = trainer.global_rank, trainer.world_size
        stream = TrainingStream(clips, self.batch_size, self.num_training_batches(), first, *ranks, self.seed)
        return self._loader("train", stream)

    def val_dataloader(self) -> DataLoader:
        """Validation clips in order."""
        return self._in_order("val")

    def test_dataloader(self) -> DataLoader:
        """Test clips in order."""
        return self._in_order("test")

    def predict_dataloader(self) -> DataLoader:
        """Test clips in order: their captions are the prompts."""
        return self._in_order("test")

    def _in_order(self, split: Split) -> DataLoader:
        """Each rank sees every n-th clip; the few that pad the last round come twice and are dropped by id when gathered."""
        trainer = self.trainer
        sampler = DistributedSampler(self.datasets[split], trainer.world_size, trainer.global_rank, shuffle=False)
        return self._loader(split, sampler)

    def _loader(self, split: Split, sampler: DistributedSampler) -> DataLoader:
        ranks = self.trainer.world_size
        if self.batch_size % ranks:
            raise InputError(f"data.init_args.batch_size is {self.batch_size}; give a multiple of the {ranks} processes.")
        return DataLoader(
            self.datasets[split],
            batch_size=self.batch_size // ranks,
            sampler=sampler,
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
        )


def few_shot(clips: Sequence[Clip], shots: int, seed: int) -> list[Clip]:
    """Choose `shots` clips of every label.

    Clips are ranked by a hash of (seed, id) and the first are taken: the choice is nested in `shots`, does not depend on the
    order of `clips`, and a clip that joins the data set displaces at most one other.

    Raises:
        InputError: If a class has fewer clips.
    """
    by_label: dict[str, list[Clip]] = defaultdict(list)
    for clip in clips:
        by_label[clip.label].append(clip)
    for label, members in by_label.items():
        if len(members) < shots:
            raise InputError(
                f"class '{label}' has {len(members)} training clips, fewer than data.init_args.shots={shots}; "
                "lower shots or add clips."
            )
    chosen = {
        clip.id
        for members in by_label.values()
        for clip in sorted(members, key=lambda clip: noise.number(seed, "shots", clip.id))[:shots]
    }
    return [clip for clip in clips if clip.id in chosen]


def caption_from(template: str, label: str) -> str:
    """Fill a caption template such as "the sound of {label}"."""
    try:
        return template.format(label=label)
    except (AttributeError, LookupError, ValueError) as error:
        raise InputError(f"data.init_args.caption is '{template}'; its only field may be {{label}}.") from error


def _check(clips: Sequence[Clip], split: Split, root: Path) -> None:
    """Refuse an empty split, repeated ids, empty captions and missing files."""
    if not clips:
        raise InputError(f"{root}: the {split} split is empty; add clips to it or change what data.init_args chooses.")
    seen: set[str] = set()
    for clip in clips:
        if clip.id in seen:
            raise InputError(f"{root}: clip id '{clip.id}' comes twice in the {split} split; give every clip one entry.")
        seen.add(clip.id)
        if not clip.caption.strip():
            raise InputError(f"{clip.path}: its caption is empty; write one.")
        if not clip.path.is_file():
            raise InputError(f"{clip.path}: no such audio file; correct the path or remove the entry.")
