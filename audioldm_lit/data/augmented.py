"""A training set with variants of its clips, each of which is encoded once like a clip of its own."""

import hashlib

from torch import Tensor

from audioldm_lit import seeding
from audioldm_lit.data.augmentation import Augmentation
from audioldm_lit.data.clips import ClipDataset


class AugmentedDataset(ClipDataset):
    """Every clip as it is, then the first variant of every clip, then the second, and so on.

    Args:
        clips: The clips as they are.
        augmentation: Makes the variants.
        seed: Seed of the variants.
    """

    def __init__(self, clips: ClipDataset, augmentation: Augmentation, seed: int) -> None:
        super().__init__(clips.clips, clips.sample_rate, clips.num_samples, clips.padding, clips.phrasing)
        self.augmentation = augmentation
        self.seed = seed
        self.file_keys: dict[int, str] = {}  # a file is hashed once for all its variants

    def __len__(self) -> int:
        """Number of items: clips, and their variants."""
        return len(self.clips) * (1 + self.augmentation.variants)

    def id(self, index: int) -> str:
        """Id of the clip that an item is a variant of."""
        return super().id(index % len(self.clips))

    def where(self, index: int) -> str:
        """Where that clip is listed."""
        return super().where(index % len(self.clips))

    def caption(self, index: int) -> str:
        """Caption of an item; a mixture names both clips."""
        clip = super().caption(index % len(self.clips))
        if index < len(self.clips):
            return clip
        return self.augmentation.caption(clip, super().caption(self._partner(index)), self._key(index))

    def captions(self, index: int) -> list[str]:
        """All captions of an item; a mixture has one."""
        caption, captions = self.caption(index), super().captions(index % len(self.clips))
        return captions if caption == captions[0] else [caption]

    def waveform(self, index: int) -> Tensor:
        """Waveform (T,) of an item."""
        clip = index % len(self.clips)
        waveform = super().waveform(clip)
        if index < len(self.clips):
            return waveform
        key, partner = self._key(index), self._partner(index)
        other = super().waveform(partner) if self.augmentation.partners(key) else waveform
        captions = self.clips[clip].caption, self.clips[partner].caption
        return self.augmentation(waveform, captions[0], (other, captions[1]), self.sample_rate, key)[0]

    def content_key(self, index: int) -> str:
        """SHA-256 of everything the waveform depends on: the files, how they are fitted, and how the variant is made."""
        files = [self._file_key(index % len(self.clips))]
        if index < len(self.clips):
            return files[0]
        key = self._key(index)
        if self.augmentation.partners(key):
            files.append(self._file_key(self._partner(index)))
        return hashlib.sha256(" ".join([*files, self.augmentation.fingerprint, *map(str, key)]).encode()).hexdigest()

    def _file_key(self, clip: int) -> str:
        if clip not in self.file_keys:
            self.file_keys[clip] = super().content_key(clip)
        return self.file_keys[clip]

    def _key(self, index: int) -> tuple[object, ...]:
        variant, clip = divmod(index, len(self.clips))
        return self.seed, "augmentation", self.clips[clip].id, variant

    def _partner(self, index: int) -> int:
        """Another clip of the set, the clip itself where there is no other."""
        clip, others = index % len(self.clips), len(self.clips) - 1
        return (clip + 1 + seeding.number(*self._key(index), "partner") % others) % len(self.clips) if others else clip
