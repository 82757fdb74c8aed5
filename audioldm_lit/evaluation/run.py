"""A finished run of `fit`, as its folder tells it: data, sampler, model and adapter."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from audioldm_lit.console.parser import refusal
from audioldm_lit.data.base import AudioDataModule
from audioldm_lit.errors import InputError
from audioldm_lit.inference.carried import carried_sampler
from audioldm_lit.inference.sampling import Sampler
from audioldm_lit.networks.published import Heads
from audioldm_lit.storage.plain_files import read_yaml
from audioldm_lit.storage.spec import spec


@dataclass(frozen=True, eq=False)
class Run:
    """What a run was made of.

    Attributes:
        data: Its data set.
        sampler: How it generates.
        backbone: Name of its base model.
        heads: Heads of its UNet's attention.
        adapter: File of what it trained.
        seed: Of its generated clips.
        adapter_class: Class path of what it trained; None for the default's.
        num_candidates: Clips it generated for each caption when it was scored.
    """

    data: AudioDataModule
    sampler: Sampler
    backbone: str
    heads: Heads
    adapter: Path
    seed: int
    adapter_class: str | None
    num_candidates: int

    @classmethod
    def load(cls, folder: Path) -> "Run":
        """Read a run's folder, `runs/NAME/version_N`.

        Raises:
            InputError: If it is none, the run has not ended, or it has no captions.
        """
        config, adapter = folder / "config.yaml", folder / "adapter.safetensors"
        for path in (config, adapter):
            if not path.is_file():
                problem = f"has no {path.name}, so no run of `fit` has ended there"
                raise InputError(folder, problem, "give its runs/NAME/version_N, or let it end")
        try:
            settings = read_yaml(config)
            model = settings["model"]
            carried = carried_sampler([adapter]) or Sampler()
            made = _made({"data": settings["data"], "sampler": model["sampler"] or spec(carried)})
            heads, candidates = model.get("heads", "as_saved"), settings["scores"].get("num_candidates", 1)  # of older runs
            named = model["adapter"] and model["adapter"]["class_path"]
            run = cls(made.data, made.sampler, model["backbone"], heads, adapter, model["seed"], named, candidates)
        except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
            raise InputError(config, f"does not say how the run was made ({error!r})", "restore it") from error
        if not run.data.captioned:
            raise InputError(folder, "has no captions to generate from", "give --generated and --reference instead")
        return run


def _made(settings: dict[str, Any]) -> Any:
    """Objects of a run's settings."""
    from jsonargparse import ArgumentError

    from audioldm_lit.console.strict_parser import StrictParser

    parser = StrictParser(exit_on_error=False)
    parser.add_subclass_arguments(AudioDataModule, "data", required=True)
    parser.add_subclass_arguments(Sampler, "sampler", required=True)
    try:
        return parser.instantiate(parser.parse_object(settings))
    except ArgumentError as error:
        raise refusal(str(error), "config.yaml") from error
