"""The verb `evaluate`."""

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console

from audioldm_lit.adapters.files.adapter_file import trust
from audioldm_lit.assets.finding import given, nickname
from audioldm_lit.backbone import Backbone, VocoderName
from audioldm_lit.console.markup import escape
from audioldm_lit.device import device_named
from audioldm_lit.diffusion import prediction_of
from audioldm_lit.errors import InputError
from audioldm_lit.evaluation.evaluation import Evaluation, compare_systems
from audioldm_lit.evaluation.protocol import Protocol, load_protocol
from audioldm_lit.evaluation.recordings import reconstructed
from audioldm_lit.evaluation.run import Run
from audioldm_lit.evaluation.scoring import score_files
from audioldm_lit.evaluation.systems import System, Trial, score_systems
from audioldm_lit.evaluation.tables import show, to_csv, to_latex
from audioldm_lit.inference.blending import AdaptedCopy, AdapterSetting
from audioldm_lit.storage.atomic_write import atomic_write, write_json
from audioldm_lit.storage.cache_folder import cache_folder
from audioldm_lit.storage.paths import accepts_strings


@accepts_strings
def evaluate(
    generated: Path | None = None,
    reference: Path | None = None,
    run: Path | None = None,
    protocol: str = "embedded",
    weights: Sequence[str] = (),
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
) -> dict[str, Evaluation]:
    """Score any system's clips against recordings, with intervals.

    Clips are given as a folder of audio files, a CSV (columns `file`; optional `id`, `caption`, `label`) or a manifest.json. An id
    is a file's path without its suffix; generated and recorded clips pair by it.

    The short way for a run of this project is `evaluate --run runs/NAME/version_N`.

    Args:
        generated: Clips to score.
        reference: Recordings to score them against.
        run: Instead of both, the folder of a run of `fit`: base and adapted model generate a clip for each held-out caption, kept
            in its `evaluation/`, and are scored against the held-out recordings, beside as many real ones.
        protocol: Which metrics, on which features: `embedded`, `audioldm-2023`, `retention`, or a YAML file.
        weights: Your copies of published weights, NAME=FILE by the names of `assets list`: `panns-cnn14-16k=Cnn14.pth`; for a CLAP
            its folder. Others are looked for where `assets fetch` puts them.
        compare: Clips of a second system, scored alike and compared with the first: better, worse or cannot tell.
        training: Recordings the system was trained on, to look for copies of them.
        decoder: Model whose VAE and vocoder the recordings go through for the metrics against reconstructions: the one that
            generated.
        vocoder: What turned its log-mels into sound: `own` or `griffin_lim`.
        strict: Refuse clips that are stereo, silent, clipped, short or of another rate, files that are not audio, and metrics
            that cannot be computed; otherwise the passport states the rule by which each was handled.
        seed: Seed of the intervals' resampling; a run has its own.
        device: `cpu`, `cuda`, `cuda:1`, `mps` or `auto`.
        cache_dir: Folder of features that were extracted before; by default under `~/.cache`.
        json: File for values, intervals and passport.
        csv: File with one line for each metric and class.
        latex: File for a LaTeX table.

    Returns:
        Scores with their passport, by system.
    """
    _check_outputs(path for path in (json, csv, latex) if path is not None)
    files = {"generated": generated, "reference": reference, "compare": compare, "training": training, "decoder": decoder}
    finished = _finished(run, **files, strict=strict or None)
    with given(_files(weights)):
        chosen = load_protocol(protocol)
    chosen.keep_features((cache_dir or cache_folder()) / "features")
    chosen.device = device_named(device)
    if run is not None and finished is not None:
        results = _score_run(finished, chosen, run / "evaluation")
    else:
        assert generated is not None
        assert reference is not None
        model = Backbone.load(decoder).to(chosen.device) if decoder is not None else None
        reconstruct = partial(reconstructed, backbone=model, vocoder=vocoder) if model is not None else None
        score = partial(score_files, reference=reference, training=training, strict=strict, seed=seed, reconstruct=reconstruct)
        results = {name: score(chosen, path) for name, path in _systems(generated, compare).items()}
        if model is not None:
            results = {name: result.noting(decoder=model.decoder_passport(vocoder)) for name, result in results.items()}
    _print(results)
    content = _content(results)
    if json is not None:
        write_json(json, content)
    for path, text in ((csv, to_csv(results)), (latex, to_latex(results))):
        if path is not None:
            with atomic_write(path) as unfinished:
                unfinished.write_text(text, encoding="utf-8")
    return results


def _print(results: Mapping[str, Evaluation]) -> None:
    """Print the scores, and how many files needed which rule."""
    console = Console(emoji=False)
    show(results, console)
    for name, result in results.items():
        for rule, count in result.passport.get("rules", {}).items():
            console.print(escape(f"{name} and recordings: {count} files {rule}"), soft_wrap=True, highlight=False)


def _systems(generated: Path, compare: Path | None) -> dict[str, Path]:
    """The systems' clips by what the systems are called."""
    systems = {_name(path): path for path in (generated, compare) if path is not None}
    if compare is not None and len(systems) < 2:
        raise InputError("--generated and --compare", f"are both called '{_name(generated)}'", "rename one folder")
    return systems


def _content(results: Mapping[str, Evaluation]) -> dict[str, Any]:
    """Scores of the first system, of a second and the comparison, and of all others by name, as plain values."""
    first, *others = results.values()
    content = first.as_dict()
    if others:
        verdicts = {name: {**vars(found), "verdict": str(found)} for name, found in compare_systems(first, others[0]).items()}
        content |= {"compare": others[0].as_dict(), "comparison": verdicts}
    return content | {name: results[name].as_dict() for name in list(results)[2:]}


def _finished(run: Path | None, **given: object) -> Run | None:
    """The run to score, None where clips and recordings are given; refuses neither, and options that a run answers itself."""
    if run is None:
        if given["generated"] is None or given["reference"] is None:
            raise InputError("evaluate", "has nothing to score", "give --generated and --reference, or --run alone")
        return None
    for name, value in given.items():
        if value is not None:
            raise InputError("--run", f"stands beside --{name}", "leave one of them out")
    return Run.load(run)


def _score_run(run: Run, protocol: Protocol, out: Path) -> dict[str, Evaluation]:
    """Score a run's base, its adapted model and real recordings."""
    run.data.prepare_data()
    base = Backbone.load(run.backbone, run.heads).to(protocol.device)
    if run.adapter_class is not None:  # the run's own configuration names it, not the adapter's file alone
        trust([run.adapter_class.rpartition(".")[0]])
    adapted = AdaptedCopy.load(AdapterSetting(run.adapter), base)
    systems = {
        "base": System(base, prediction_of(base.scheduler)),
        "adapted": System(adapted.backbone, adapted.prediction),
    }
    trial = Trial(run.data, protocol, run.sampler, base.encode_text([""])[0], run.seed, num_candidates=run.num_candidates)
    return score_systems(trial, systems, out)


def _files(weights: Sequence[str]) -> dict[str, Path]:
    """Files by the names of the assets that they stand for."""
    pairs = {nickname(name): Path(file) for name, _, file in (word.partition("=") for word in weights)}
    for word in weights:
        if not word.partition("=")[2]:
            raise InputError(f"--weights {word}", "names no file", "write NAME=FILE")
    return pairs


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
