"""The verb `watch`."""

from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console

from audioldm_lit.console.markup import escape
from audioldm_lit.console.stages import say
from audioldm_lit.device import device_named
from audioldm_lit.errors import InputError
from audioldm_lit.evaluation.listing import list_clips
from audioldm_lit.evaluation.protocol import load_protocol
from audioldm_lit.evaluation.run import Run
from audioldm_lit.report.texts import Texts
from audioldm_lit.storage.atomic_write import atomic_write, write_json
from audioldm_lit.storage.cache_folder import cache_folder
from audioldm_lit.watching.contest import contest
from audioldm_lit.watching.drift import drift
from audioldm_lit.watching.history import Check, append, read
from audioldm_lit.watching.page import page
from audioldm_lit.watching.words import lines

KEEP = 3  # the exit status of a check after which the champion stays


def watch(
    run: Path,
    data: Path,
    challenger: Path | None = None,
    protocol: str = "embedded",
    device: str = "auto",
    cache_dir: Path | None = None,
    language: str = "en",
    out: Path = Path("runs/watch"),
    json: Path | None = None,
) -> None:
    """Watch a model in use: are new recordings still what it was trained on, and is a newer model better?

    Made for a scheduler. Exit status 0 means one thing alone: the challenger is better in the protocol's first metric and worse in
    none, put it in the champion's place. 3 means that the champion stays, also where no challenger was given; 2 that the input is
    wrong. Every check adds one line to `history.jsonl` in the folder, from which `watch.html` is written anew.

    Args:
        run: The champion, the folder of the run whose model is in use.
        data: Folder of new recordings, with classes as sub-folders, or a CSV that lists them.
        challenger: Folder of a newer run. Both generate for its held-out captions, without recordings that the champion was trained
            on, and are scored under one passport.
        protocol: Metrics; the first is the distance and decides.
        device: `cpu`, `cuda`, `cuda:1`, `mps` or `auto`.
        cache_dir: Folder of features that were extracted before; by default under `~/.cache`.
        language: Of the page: `en` or `ja`.
        out: Folder of the history, its page and the generated clips.
        json: File for this check alone.
    """
    texts = Texts(language)
    champion = Run.load(run)
    newer = Run.load(challenger) if challenger is not None else None
    new = list_clips(data)
    if challenger is not None and challenger.resolve() == run.resolve():
        raise InputError("--challenger", "is the champion itself", "give a newer run")
    chosen = load_protocol(protocol)
    chosen.keep_features((cache_dir or cache_folder()) / "features")
    chosen.device = device_named(device)
    champion.data.prepare_data()
    found = drift(champion, new, chosen)
    result = None
    if newer is not None and challenger is not None:
        newer.data.prepare_data()
        result = contest(champion, newer, run, chosen, out / challenger.resolve().parent.name / challenger.resolve().name)
    time = datetime.now(UTC).isoformat(timespec="seconds")
    check = Check(time, str(run), str(data), found, None if challenger is None else str(challenger), result)
    append(out / "history.jsonl", check)
    checks, errors = read(out / "history.jsonl")
    for error in errors:
        say(str(error))
    with atomic_write(out / "watch.html") as unfinished:
        unfinished.write_text(page(checks, errors, texts), encoding="utf-8")
    if json is not None:
        write_json(json, check.as_dict())
    console = Console(emoji=False)
    for line in [*lines(check), f"{out / 'watch.html'}: this and all earlier checks"]:
        console.print(escape(line), soft_wrap=True, highlight=False)
    if not check.promoted:
        raise SystemExit(KEEP)
