"""What an adapter says of itself, as a record and as a page: what it was trained on, its licence, how well it did."""

import json
import re
import shlex
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from audioldm_lit import __version__
from audioldm_lit.adapters.base import Adapter
from audioldm_lit.diffusion import Prediction
from audioldm_lit.errors import InputError
from audioldm_lit.networks.published import Heads
from audioldm_lit.storage.atomic_write import atomic_write
from audioldm_lit.storage.plain_files import parse_json

CAPTIONS = 50  # kept of a run's; enough to see what it knows

Share = Literal["captions", "counts", "none"]  # what a file says of the clips


@dataclass(frozen=True)
class About:
    """What a run was, without audio and without paths.

    Attributes:
        base: Name of the base model: a hub id, or the name of a folder without its path.
        captions: Distinct captions it was trained on, at most 50; none where these are not shared.
        num_captions: How many distinct captions there were; None where nothing of the data is shared.
        num_clips: Training clips; None likewise.
        data_sha256: SHA-256 of the training clips, as the data set gives it; None likewise.
        steps: Optimizer steps.
        seed: Seed of the run.
        licence: Licence of the base's weights, which the adapter inherits: `CC BY-NC-SA 4.0` for the published AudioLDM.
        scores: Values of the base, where it was measured, and of the adapter, by the score's name.
        heads: Of the base's attention, `as_saved` or `original`.
        weights: How many numbers were trained, by part of the base; empty in files of older versions.
    """

    base: str
    captions: tuple[str, ...]
    num_captions: int | None
    num_clips: int | None
    data_sha256: str | None
    steps: int
    seed: int
    licence: str = "unknown"
    scores: Mapping[str, tuple[float | None, float]] = field(default_factory=dict)
    heads: Heads = "as_saved"
    weights: Mapping[str, int] = field(default_factory=dict)

    @classmethod
    def of_run(
        cls,
        backbone: str,
        captions: Iterable[str],
        num_clips: int,
        data_sha256: str,
        steps: int,
        seed: int,
        licence: str = "unknown",
        scores: Mapping[str, tuple[float | None, float]] | None = None,
        heads: Heads = "as_saved",
        share: Share = "counts",
        weights: Mapping[str, int] | None = None,
    ) -> "About":
        """Describe a run; `backbone` and `captions` are as the run has them; what is not shared, paths and repeats go here."""
        distinct = list(dict.fromkeys(caption for caption in captions if caption.strip()))
        kept = tuple(distinct[:CAPTIONS]) if share == "captions" else ()
        run = steps, seed, licence, scores or {}, heads, weights or {}
        if share == "none":
            return cls(_public_name(backbone), kept, None, None, None, *run)
        return cls(_public_name(backbone), kept, len(distinct), num_clips, data_sha256, *run)

    def to_json(self) -> str:
        """As one line of JSON, for the metadata of a file."""
        return json.dumps(asdict(self), ensure_ascii=False)

    @classmethod
    def from_json(cls, text: str, origin: str) -> "About":
        """Read what `to_json` wrote into `origin`.

        Raises:
            InputError: If it is not such a record.
        """
        try:
            record = parse_json(text)
            scores = {name: (base, adapted) for name, (base, adapted) in record.pop("scores").items()}
            weights = {part: int(number) for part, number in record.pop("weights", {}).items()}
            return cls(**record | {"captions": tuple(record["captions"]), "scores": scores, "weights": weights})
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise InputError(
                origin, f"its record of how it was trained cannot be read ({error})", "fetch the file again"
            ) from error


def write_card(path: Path, adapter: Adapter, base: str, prediction: Prediction, about: About) -> None:
    """Write the page that goes with an adapter file, in Markdown.

    Args:
        path: File to write, `adapter.md`; it appears whole or not at all.
        adapter: The adapter.
        base: Fingerprint of the UNet it belongs to.
        prediction: What the adapted UNet predicts.
        about: What the run was.
    """
    parts = [
        f"# Adapter for {_text(about.base)}\n",
        f"Sound from text with {_text(about.base)}, adapted to {_clips(about)} with audioldm_lit {__version__}.\n",
        _facts(adapter, base, prediction, about),
        _usage(adapter, prediction, about),
        _data(about),
        _scores(about),
        _limits(base, about),
    ]
    with atomic_write(path) as unfinished:
        unfinished.write_text("\n".join(parts), encoding="utf-8")


def _facts(adapter: Adapter, base: str, prediction: Prediction, about: About) -> str:
    spec = adapter.spec()
    settings = ", ".join(f"{name} {_text(_shown(value))}" for name, value in spec["init_args"].items())
    trained = ", ".join(f"{_text(part)} {number:,}" for part, number in about.weights.items())
    rows = {
        "base": f"{_text(about.base)}, UNet `{base}`",
        "method": spec["class_path"].rpartition(".")[2] + (f": {settings}" if settings else ""),
        **({"weights": trained} if trained else {}),
        "predicts": f"`{prediction}`",
        "training": f"{_counted(about.steps, 'step')}, seed {about.seed}",
        "licence": f"{_text(about.licence)} (of the base's weights, which holds for what is derived from them)",
    }
    return "\n".join(["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows.items()), ""])


def _usage(adapter: Adapter, prediction: Prediction, about: About) -> str:
    prompt = about.captions[0] if about.captions else "rain on a roof"
    base, words = shlex.quote(_line(about.base)), shlex.quote(_line(prompt))
    base += "" if about.heads == "as_saved" else f" --heads {about.heads}"
    module = type(adapter).__module__
    base += "" if module.startswith("audioldm_lit.") else f" --trust {module}"
    predicted = (
        f'pipe.scheduler = pipe.scheduler.from_config(pipe.scheduler.config, prediction_type="{prediction.word}")\n'
        if prediction.word != "epsilon"
        else ""
    )
    added = f"""pipe = diffusers.AudioLDMPipeline.from_pretrained({json.dumps(about.base)}, torch_dtype=torch.float32)
{predicted}pipe.unet.load_lora_adapter("diffusers", prefix=None, use_safetensors=True)  # --to diffusers
peft.PeftModel.from_pretrained(pipe.unet, "peft")  # or --to peft, which adapts pipe.unet in place
"""
    others = added if about.heads == "as_saved" else ""  # diffusers would take the folder's heads
    use = f"""## Use

```bash
python -m audioldm_lit generate --backbone {base} --adapter adapter.safetensors --prompt {words}
```
"""
    if not prediction.word:  # diffusers' pipeline cannot sample it
        return use
    return f"""{use}
Elsewhere, after `python -m audioldm_lit convert --backbone {base} --source adapter.safetensors --to LAYOUT --out LAYOUT`,
where the method allows it:

```python
{others}pipe = diffusers.AudioLDMPipeline.from_pretrained("merged")  # or --to merged, which needs no adapter any more
```
"""


def _data(about: About) -> str:
    if about.num_clips is None or about.num_captions is None:
        return "## Data\n\nNothing is said of it.\n"
    left_out = about.num_captions - len(about.captions)
    lines = [f"- {_text(caption)}" for caption in about.captions] + (
        [f"- and {left_out} more"] if about.captions and left_out else []
    )
    counts = f"{_counted(about.num_clips, 'clip')}, {_counted(about.num_captions, 'distinct caption')}"
    return "\n".join(["## Data", "", f"{counts}; SHA-256 of the clips `{about.data_sha256}`.", "", *lines, ""])


def _scores(about: About) -> str:
    if not about.scores:
        return "## Scores\n\nNone were taken.\n"
    rows = [f"| {_text(name)} | {_number(base)} | {_number(adapted)} |" for name, (base, adapted) in about.scores.items()]
    return "\n".join(["## Scores", "", "| | base | adapter |", "|---|---|---|", *rows, ""])


def _limits(base: str, about: About) -> str:
    return f"""## Limits

- It fits the base whose UNet has the fingerprint `{base}`, also as a copy in half precision, and no other.
- It knows {_clips(about)}. What it does with other captions was not measured unless a score says so.
- Whether clips resemble the training data too closely is for a listener, or `evaluate --training`, to say.
"""


def _public_name(backbone: str) -> str:
    """A hub id as it is; of a folder its name alone, for the path to it belongs to one machine."""
    return backbone if re.fullmatch(r"\w[\w.-]*(/\w[\w.-]*)?", backbone) else Path(backbone).resolve().name


def _shown(value: Any) -> str:
    """A setting as people write it; a file is named without its folder."""
    if isinstance(value, Mapping):
        return ", ".join(f"{name}={_shown(setting)}" for name, setting in value.items()) or "none"
    if isinstance(value, list | tuple):
        return " ".join(map(_shown, value)) if len(value) <= 10 else f"{len(value)} of them"
    return Path(value).name if isinstance(value, str | Path) and Path(value).is_absolute() else str(value)


def _text(text: str) -> str:
    """Text on one line that Markdown and a terminal leave alone."""
    return re.sub(r"([\\`*_\[\]<>|#])", r"\\\1", _line(text))


def _line(text: str) -> str:
    """Text on one line, without marks that a terminal takes for orders, such as ESC."""
    return " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())


def _clips(about: About) -> str:
    return "recordings" if about.num_clips is None else _counted(about.num_clips, "clip")


def _number(value: float | None) -> str:
    return "not measured" if value is None else f"{value:.4g}"


def _counted(count: int, what: str) -> str:
    return f"{count:,} {what}" + ("" if count == 1 else "s")
