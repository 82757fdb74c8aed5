"""The verb `prepare`."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from rich.console import Console

from audioldm_lit.assets.finding import find_model
from audioldm_lit.backbone import Backbone
from audioldm_lit.console.markup import escape
from audioldm_lit.data.base import AudioDataModule
from audioldm_lit.errors import InputError
from audioldm_lit.health.advice import CAPTION, following, left_out, write_captions
from audioldm_lit.health.checkup import SPLITS, Checkup, examine
from audioldm_lit.health.findings import Examined
from audioldm_lit.health.report import as_dict, show, write_manifest, write_page
from audioldm_lit.health.suggestions import Namer, read_words
from audioldm_lit.networks.text_window import TextWindow
from audioldm_lit.places import NANO
from audioldm_lit.storage.atomic_write import clear_unfinished, write_json
from audioldm_lit.storage.cache_folder import cache_folder
from audioldm_lit.storage.paths import accepts_strings
from audioldm_lit.training.cache import Cache

OUT = Path("runs/prepare")


@accepts_strings
def prepare(
    data: AudioDataModule,
    out: Path = OUT,
    fix: bool = False,
    cache: bool = False,
    backbone: str = NANO,
    audio_embeds: bool = False,
    suggest: Path | None = None,
    cache_dir: Path | None = None,
    num_workers: int | None = None,
    json: Path | None = None,
) -> Checkup:
    """Find what is wrong with a data set before an hour is spent on it.

    Reads every clip once and looks for files that do not decode, silence, clipping, dull sound, duplicates, leaks from training to
    test, imbalance, and captions that teach nothing. Nothing is ever changed in the data set. Ends with exit status 2 where
    something stops training or spoils its scores, unless `fix` leaves it out.

    Args:
        data: The data set, as in `fit`: `--data CLASS --data.init_args.root DIR`, or `--config configs/data/NAME.yaml`.
        out: Folder for `manifest.jsonl`, one line a clip, `health.html`, and where captions are wrong `captions.csv` to correct
            them in, which `--data.init_args.table` takes back.
        fix: Also write `clean.jsonl` without clips that stop training, copies, and the training side of leaks; train on it with
            `fit --folder DIR --data.init_args.table FILE`.
        cache: Encode the clips, so that `fit` and `test` start at once.
        backbone: Model that captions are for, and whose encoders fill the cache.
        audio_embeds: Also encode CLAP audio embeddings, for runs conditioned on sound.
        suggest: Words to look for in every clip with the model's own CLAP: AudioSet's `class_labels_indices.csv`, or a text file
            with one a line. The best three stand in `captions.csv` beside the caption and are never used by themselves.
        cache_dir: Folder of encoded clips; by default under `~/.cache`.
        num_workers: Threads that read; one a core where not given.
        json: File for the findings.

    Returns:
        What was found.

    Raises:
        InputError: Where something stops training or spoils its scores.
    """
    if num_workers is not None and num_workers < 1:
        raise InputError("--num_workers", f"is {num_workers}", "give at least 1")
    if out.resolve().is_relative_to(data.root.resolve()):
        raise InputError(out, "lies inside the data set", "choose a folder outside with --out")
    data.prepare_data()
    clear_unfinished(out)
    clean = out / "clean.jsonl"
    if clean.is_file() and getattr(data, "table", None) != clean:
        clean.unlink()  # an earlier run's may be of other clips
    namer = None if suggest is None else _namer(suggest, backbone, out / "captions.csv")
    unheard = _unheard(backbone)
    threads = num_workers or os.cpu_count() or 1
    checkup = examine(data, out, threads, unheard)
    _report(checkup, data, out, json, fix, threads)
    _offer_captions(out / "captions.csv", checkup, data, namer)
    dirty = not fix and bool(left_out(checkup))
    model = None if backbone == NANO else backbone
    if dirty:
        asked = {"cache": cache or None, "audio_embeds": audio_embeds or None, "cache_dir": cache_dir, "backbone": model}
        _say(f"next: {following('prepare', data, others={'out': None if out == OUT else out, 'fix': True, **asked})}")
    _refuse(checkup, data.root, fix)
    others: dict[str, object] = {"model.backbone": model}
    if cache:
        items = checkup.kept if fix else checkup.items  # `fit` trains on copies unless they are left out
        _encode(data, items, backbone, audio_embeds, cache_dir or cache_folder())
        others["model.cache_dir"] = cache_dir
        _say(f"encoded at {data.duration:g} s by {backbone}; a run at another length or with another model encodes anew")
    _say(f"{'or, with all clips' if dirty else 'next'}: {following('fit', data, out / 'clean.jsonl' if fix else None, others)}")
    return checkup


def _say(text: str) -> None:
    Console(emoji=False).print(escape(text), soft_wrap=True, highlight=False)


def _report(checkup: Checkup, data: AudioDataModule, out: Path, json: Path | None, fix: bool, threads: int) -> None:
    """Write and print what was found; with `fix`, also the list of what is left."""
    write_manifest(out / "manifest.jsonl", checkup.items, data.root)
    write_page(out / "health.html", checkup, f"{type(data).__name__}, {data.root}", threads)
    if json is not None:
        write_json(json, as_dict(checkup))
    show(checkup, Console(emoji=False))
    counts = ", ".join(f"{count:,} {split}" for split, count in checkup.counts.items())
    _say(f"{counts} clips; {out / 'health.html'}, {out / 'manifest.jsonl'}")
    if lost := left_out(checkup):
        _say(lost)
    if fix:
        write_manifest(out / "clean.jsonl", checkup.kept, data.root)
        _say(f"{out / 'clean.jsonl'} keeps {len(checkup.kept):,} of {len(checkup.items):,} clips")


def _unheard(backbone: str) -> Callable[[str], str]:
    """What of a caption a model does not read."""
    try:
        return TextWindow.load(find_model(backbone)).unheard
    except InputError:
        if backbone != NANO:
            raise
        # The toy model comes with the repository, not with an installed package.
        _say("whether captions are read to their end was not looked at; name your model with --backbone")
        return lambda caption: ""


def _namer(words: Path, backbone: str, table: Path) -> Namer:
    """What suggests captions, if there is room for them."""
    if table.is_file():
        raise InputError(table, "is there already, perhaps with captions filled in", "move it away, or choose another --out")
    return Namer(Backbone.load(backbone), read_words(words))


def _offer_captions(path: Path, checkup: Checkup, data: AudioDataModule, namer: Namer | None) -> None:
    """Write the table to correct captions in, where it is needed; one that is there may have been filled in and is left alone."""
    if namer is None and not any(finding.kind.startswith(CAPTION) for finding in checkup.findings):
        return
    if path.is_file():
        _say(f"{path} is left as it is; remove it to have it written anew")
        return
    write_captions(path, checkup, data.root, namer.suggest(data, checkup.items) if namer else {})
    _say(f"{path}: correct the captions there, and give it with --data.init_args.table")


def _refuse(checkup: Checkup, root: Path, fix: bool) -> None:
    """End with an error where something stops training or spoils its scores and `fix` does not leave it out."""
    errors = [finding for finding in checkup.findings if finding.severity == "error"]
    stopping = {name for finding in errors for name in finding.clips}
    if stopping and not fix:
        raise InputError(
            root, f"{len(stopping)} clips stop training or spoil its scores", "mend them, or leave them out with --fix"
        )
    for finding in errors:
        if not finding.drop:
            raise InputError(finding.where, finding.problem, finding.mend)


def _encode(data: AudioDataModule, items: Sequence[Examined], backbone: str, audio_embeds: bool, folder: Path) -> None:
    cache = Cache(folder, Backbone.load(backbone), audio_embeds)
    for split in SPLITS:
        clips = [item.clip for item in items if item.split == split]
        if clips:
            waveforms = data.dataset(clips, split)
            cache.fill(data.training_set(waveforms) if split == "train" else waveforms)
