"""The verb `evaluate`."""

from collections.abc import Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape

from audioldm_lit.backbone import Backbone, VocoderName
from audioldm_lit.device import device_named
from audioldm_lit.errors import InputError
from audioldm_lit.evaluation.evaluation import Evaluation, compare_systems
from audioldm_lit.evaluation.protocol import load_protocol
from audioldm_lit.evaluation.recordings import reconstructed
from audioldm_lit.evaluation.scoring import score_files
from audioldm_lit.evaluation.tables import show, to_csv, to_latex
from audioldm_lit.storage.atomic_write import atomic_write, write_json
from audioldm_lit.storage.cache_folder import cache_folder


def evaluate(
    generated: Path,
    reference: Path,
    protocol: str = "embedded",
    compare: Path | None = None,
    training: Path | None = None,
    decoder: str | None = None,
    vocoder: VocoderName = "own",
    strict: bool = False,
    seed: int = 0,
    device: str = "auto",
    cache_dir: Path | None = None,
    json: Path | None = None,
    csv: Path | None = None,
    latex: Path | None = None,
) -> None:
    """Score any system's clips against recordings, with intervals.

    Clips are given as a folder of audio files, a CSV (columns `file`; optional `id`, `caption`, `label`) or a manifest.json. An id
    is a file's path without its suffix; generated and recorded clips pair by it.

    Args:
        generated: Clips to score.
        reference: Recordings to score them against.
        protocol: Which metrics, on which features: `embedded`, `audioldm-2023`, `retention`, or a YAML file.
        compare: Clips of a second system, scored alike and compared with the first: better, worse or cannot tell.
        training: Recordings the system was trained on, to look for copies of them.
        decoder: Model whose VAE and vocoder the recordings go through for the metrics against reconstructions: the one that
            generated.
        vocoder: What turned its log-mels into sound: `own` or `griffin_lim`.
        strict: Refuse clips that are stereo, silent, clipped, short or of another rate, files that are not audio, and metrics
            that cannot be computed; otherwise the passport states the rule by which each was handled.
        seed: Seed of the intervals' resampling.
        device: `cpu`, `cuda`, `cuda:1`, `mps` or `auto`.
        cache_dir: Folder of features that were extracted before; by default under `~/.cache`.
        json: File for values, intervals and passport.
        csv: File with one line for each metric and class.
        latex: File for a LaTeX table.
    """
    _check_outputs(path for path in (json, csv, latex) if path is not None)
    chosen = load_protocol(protocol)
    chosen.keep_features((cache_dir or cache_folder()) / "features")
    chosen.device = device_named(device)
    systems = _systems(generated, compare)
    model = Backbone.load(decoder).to(chosen.device) if decoder is not None else None
    reconstruct = partial(reconstructed, backbone=model, vocoder=vocoder) if model is not None else None
    results = {name: score_files(chosen, path, reference, training, strict, seed, reconstruct) for name, path in systems.items()}
    if model is not None:
        results = {name: result.noting(decoder=model.decoder_passport(vocoder)) for name, result in results.items()}
    _print(results)
    content = _content(*results.values())
    if json is not None:
        write_json(json, content)
    for path, text in ((csv, to_csv(results)), (latex, to_latex(results))):
        if path is not None:
            with atomic_write(path) as unfinished:
                unfinished.write_text(text, encoding="utf-8")


def _print(results: Mapping[str, Evaluation]) -> None:
    """Print the scores, and how many files needed which rule."""
    console = Console()
    show(results, console)
    for name, result in results.items():
        for rule, count in result.passport["rules"].items():
            console.print(escape(f"{name} and recordings: {count} files {rule}"), soft_wrap=True, highlight=False)


def _systems(generated: Path, compare: Path | None) -> dict[str, Path]:
    """The systems' clips by what the systems are called."""
    systems = {_name(path): path for path in (generated, compare) if path is not None}
    if compare is not None and len(systems) < 2:
        raise InputError("--generated and --compare", f"are both called '{_name(generated)}'", "rename one folder")
    return systems


def _content(first: Evaluation, second: Evaluation | None = None) -> dict[str, Any]:
    """Scores of one system, and where there is another its scores and the comparison, as plain values."""
    if second is None:
        return first.as_dict()
    verdicts = {
        name: {**vars(comparison), "verdict": str(comparison)} for name, comparison in compare_systems(first, second).items()
    }
    return {**first.as_dict(), "compare": second.as_dict(), "comparison": verdicts}


def _name(source: Path) -> str:
    """What a system is called: as its folder, or as its list of clips where that has a name of its own."""
    path = source.resolve()
    if path.name in ("manifest.json", "metadata.csv"):
        path = path.parent
    return path.stem if path.is_file() else path.name  # a folder's dot starts no suffix: lr0.1, lr0.5


def _check_outputs(paths: Iterable[Path]) -> None:
    """Refuse what cannot be written before anything is computed."""
    for path in paths:
        nearest = next(folder for folder in path.absolute().parents if folder.exists())
        if path.is_dir() or not nearest.is_dir():
            raise InputError(
                path, f"cannot be written, a {'folder' if path.is_dir() else 'file'} is in its way", "name another file"
            )
