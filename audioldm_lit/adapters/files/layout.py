"""Forms in which an adapted model is kept: the file of this project, and a whole model with the adapter folded in."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from audioldm_lit.adapters.base import Adapter, trainable
from audioldm_lit.adapters.files.adapter_file import FORMAT, load_adapter, read_about, read_metadata, read_sampling, save_adapter
from audioldm_lit.adapters.files.card import About, write_card
from audioldm_lit.backbone import Backbone
from audioldm_lit.diffusion import Prediction
from audioldm_lit.errors import InputError

# How peft and diffusers say no.
LIBRARY_ERRORS = (AttributeError, KeyError, NotImplementedError, OSError, RuntimeError, TypeError, ValueError)


@dataclass(frozen=True)
class Adapted:
    """A backbone with an adapter in it, and what is known of both.

    Attributes:
        backbone: The backbone; what the adapter adds is trainable.
        adapter: The adapter.
        base: Fingerprint of the UNet before it.
        rounded: Fingerprint of its weights rounded to float16.
        names: Names of the backbone's weights before it.
        prediction: What the adapted UNet predicts.
        about: What the run was, where it is known.
        stated: Whether the file named base and prediction itself; otherwise they are taken to be the backbone's.
        sampling: Settings of the `Sampler` that the adapter was made for; empty where the file says none.
    """

    backbone: Backbone
    adapter: Adapter
    base: str
    rounded: str
    names: frozenset[str]
    prediction: Prediction
    about: About | None
    stated: bool
    sampling: Mapping[str, Any]


class Layout(ABC):
    """A form in which an adapted model is kept."""

    @abstractmethod
    def load(self, path: Path, backbone: Backbone) -> None:
        """Load into a fresh backbone, as a user of this layout would."""

    @abstractmethod
    def write(self, path: Path, adapted: Adapted) -> None:
        """Write to a path where nothing exists yet; may change the backbone.

        Raises:
            InputError: If the layout cannot hold this adapter.
        """


class Source(Layout):
    """A layout that the adapter can be read back from."""

    @abstractmethod
    def holds(self, path: Path) -> bool:
        """Whether the file or folder looks like one of this layout."""

    @abstractmethod
    def read(self, path: Path, backbone: Backbone) -> Adapted:
        """Load into a fresh backbone.

        Raises:
            InputError: If anything the file holds or asks for would be left out.
        """

    def load(self, path: Path, backbone: Backbone) -> None:
        """Load as `read` does, and return nothing."""
        self.read(path, backbone)


class AdapterFile(Source):
    """The file of this project."""

    def holds(self, path: Path) -> bool:
        """Whether it is a safetensors file that says so."""
        return path.is_file() and read_metadata(path).get("format") == FORMAT

    def read(self, path: Path, backbone: Backbone) -> Adapted:
        """Load with `load_adapter`."""
        base, names = fingerprints(backbone), frozenset(backbone.state_dict())
        adapter, prediction = load_adapter(path, backbone)
        return Adapted(backbone, adapter, *base, names, prediction, read_about(path), True, read_sampling(path))

    def write(self, path: Path, adapted: Adapted) -> None:
        """Write with `save_adapter`."""
        weights = dict(trainable(adapted.backbone))
        known = adapted.base, adapted.prediction, adapted.about, adapted.rounded, adapted.sampling
        save_adapter(path, adapted.adapter, weights, *known)


class MergedModel(Layout):
    """A whole model in the diffusers layout with the adapter folded in, for `AudioLDMPipeline.from_pretrained(folder)`."""

    def load(self, path: Path, backbone: Backbone) -> None:
        """Take what the folder has of all that an adapter changes."""
        merged = Backbone.load(path)
        backbone.unet, backbone.vae, backbone.vocoder = merged.unet, merged.vae, merged.vocoder

    def write(self, path: Path, adapted: Adapted) -> None:
        """Fold the adapter in and save every part, with a scheduler that knows what the UNet now predicts."""
        backbone, adapter = adapted.backbone, adapted.adapter
        method = type(adapter).__name__
        if type(adapter).prompt_embeds is not Adapter.prompt_embeds:
            problem = f"{method} changes how prompts are read, which no plain model does"
            raise InputError("--to merged", problem, "keep the adapter file")
        if not adapted.prediction.word:
            raise InputError(
                "--to merged", f"{method} predicts {adapted.prediction}, which diffusers does not know", "keep the adapter file"
            )
        try:
            adapter.merge(backbone)
        except LIBRARY_ERRORS as error:
            raise InputError("--to merged", f"{method} cannot be folded ({first_line(error)})", "keep the adapter file") from error
        left = sorted(backbone.state_dict().keys() ^ adapted.names)
        if left:
            problem = f"{method} cannot be folded, {len(left)} weights such as {left[0]} stay beside the base's"
            raise InputError("--to merged", problem, "keep the adapter file")
        backbone.scheduler = adapted.prediction.scheduler(backbone.scheduler)
        backbone.save(path)
        card_beside(path, adapted)


def fingerprints(backbone: Backbone) -> tuple[str, str]:
    """Those of a UNet: of its weights as they are, and rounded to float16."""
    return backbone.fingerprint("unet"), backbone.fingerprint("unet", rounded=True)


def card_beside(folder: Path, adapted: Adapted) -> None:
    """Write the adapter's page into a folder, if anything is known of its run."""
    if adapted.about is not None:
        write_card(folder / "adapter.md", adapted.adapter, adapted.base, adapted.prediction, adapted.about)


def first_line(error: BaseException) -> str:
    """The first line of a library's message, as part of a sentence."""
    return f"{type(error).__name__}: {error}".splitlines()[0]
