"""The verb `listen`."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import pandas as pd
from rich.console import Console

from audioldm_lit.console.command import command
from audioldm_lit.console.markup import escape
from audioldm_lit.console.stages import say
from audioldm_lit.data.clips import Clip
from audioldm_lit.data.pairs import write_pairs
from audioldm_lit.device import device_named
from audioldm_lit.errors import InputError
from audioldm_lit.evaluation.kept import scored_folder
from audioldm_lit.evaluation.listing import list_clips
from audioldm_lit.evaluation.opinion import Opinion
from audioldm_lit.evaluation.protocol import load_protocol
from audioldm_lit.evaluation.run import Run
from audioldm_lit.evaluation.systems import HELD_OUT
from audioldm_lit.listening.abx import ABX
from audioldm_lit.listening.answers import Answers, read_all
from audioldm_lit.listening.blind_test import BlindTest
from audioldm_lit.listening.building import build
from audioldm_lit.listening.dcase import DCASE2023
from audioldm_lit.listening.material import read_material
from audioldm_lit.listening.metrics import by_sound
from audioldm_lit.listening.mushra import MUSHRA
from audioldm_lit.listening.opinions import opinion, trust
from audioldm_lit.listening.page import page
from audioldm_lit.listening.preferred import preferred
from audioldm_lit.listening.scheme import Scheme
from audioldm_lit.listening.tables import show
from audioldm_lit.report.shell import render
from audioldm_lit.report.texts import Texts
from audioldm_lit.storage.atomic_write import atomic_write
from audioldm_lit.storage.cache_folder import cache_folder

Action = Literal["build", "merge"]
SCHEMES = (ABX, DCASE2023, MUSHRA)  # a class that is imported here can be named without its path


def listen(
    action: Action,
    names: Sequence[str] = (),
    run: Path | None = None,
    reference: Path | None = None,
    scheme: Scheme | None = None,
    clips: int = 12,
    title: str = "Listening test",
    language: str = "en",
    seed: int = 0,
    test: Path | None = None,
    protocol: str | None = "embedded",
    device: str = "auto",
    cache_dir: Path | None = None,
    out: Path | None = None,
) -> None:
    """Ask people: a blind listening test as one page, and what its raters said.

    `listen build A B` writes a page that raters open in a browser, and beside it a file that says which sound is of which system,
    which stays with whoever leads the test. Every rater saves a small file of answers. `listen merge FILE ... --test FILE` makes of
    them mean ratings with intervals over raters and clips, says how far raters agree, and which automatic metric follows them.

    Args:
        action: `build` a test or `merge` answers.
        names: To build, the systems: folders, CSVs or manifests of clips made for the same captions, as `generate` and `evaluate`
            write them. To merge, the files of answers, or their folder.
        run: To build, instead of systems and reference, the folder of a run whose clips were scored: base against adapted model.
        reference: To build, the recordings, by the ids of the clips.
        scheme: To build, how is asked: `DCASE2023`, the default (quality, fit and diversity in ten steps), `MUSHRA` (side by side
            with a hidden reference and an anchor), `ABX` (two systems: told apart, and preferred).
        clips: To build, how many clips of each system are heard, the classes in turn.
        title: To build, what raters read above the test.
        language: Of the page: `en` or `ja`.
        seed: To build, of what is chosen.
        test: To merge, the `.json` that was written beside the page.
        protocol: To merge, metrics that are set beside the raters; null for none.
        device: To merge, where metrics are computed: `cpu`, `cuda`, `cuda:1`, `mps` or `auto`.
        cache_dir: To merge, folder of features that were extracted before; by default under `~/.cache`.
        out: The page, by default `listen.html`; of `merge` a JSON, by default `opinion.json`, beside which the same is a page, and
            a table of pairs is what `DirectPreference` learns from.
    """
    if action == "build":
        if test is not None:
            raise InputError("--test", "is what `listen merge` reads", "leave it out")
        systems, recordings = _systems(names, run, reference)
        _build(systems, recordings, scheme or DCASE2023(), clips, title, language, seed, out or Path("listen.html"))
    else:
        if test is None:
            raise InputError("listen merge", "does not say of which test", "give the .json beside its page with --test")
        if run is not None or reference is not None:
            raise InputError("--run and --reference", "are what `listen build` reads", "leave them out: the test knows its clips")
        out = out or Path("opinion.json")
        if {out.resolve(), out.with_suffix(".html").resolve()} & {test.resolve(), test.with_suffix(".html").resolve()}:
            raise InputError(out, "would replace the test", "name another file with --out")
        _merge([Path(name) for name in names], BlindTest.read(test), protocol, device, cache_dir, language, out)


def _systems(names: Sequence[str], run: Path | None, reference: Path | None) -> tuple[dict[str, Path], list[Clip]]:
    """Systems by name, and the recordings."""
    if run is None:
        if not names:
            raise InputError("listen build", "nothing is named", "name the folders of two or more systems, or give --run")
        systems = {Path(name).resolve().stem if Path(name).is_file() else Path(name).resolve().name: Path(name) for name in names}
        if len(systems) < len(names):
            raise InputError(", ".join(names), "have one name", "rename one folder")
        return systems, list_clips(reference) if reference is not None else []
    if names or reference is not None:
        raise InputError("--run", "stands beside other clips", "leave one of them out")
    data = Run.load(run).data
    data.prepare_data()
    folder = scored_folder(run)
    if folder is None:
        raise InputError(run, "has no clips, as it was not scored", f"score it: {command('evaluate', '--run', run)}")
    held_out = [clip for split in HELD_OUT if split == "val" or data.clips(split) for clip in data.present(split)]
    return {name: folder / name for name in ("base", "adapted")}, held_out


def _build(
    systems: dict[str, Path],
    recordings: Sequence[Clip],
    scheme: Scheme,
    clips: int,
    title: str,
    language: str,
    seed: int,
    out: Path,
) -> None:
    if clips < 1:
        raise InputError("--clips", f"is {clips}", "give at least 1")
    if out.suffix != ".html":
        raise InputError(out, "is the page of a test", "name it .html")
    built = build(read_material(systems, recordings, clips, seed), scheme, title)
    html = page(built, language)
    built.test.write(out.with_suffix(".json"))
    with atomic_write(out) as unfinished:
        unfinished.write_text(html, encoding="utf-8")
    for name, decibel in built.test.notes["quieter_db"].items():
        sound = built.test.sounds[name]
        say(f"{sound.file or sound.system}: {decibel} dB quieter than all others, since it would have been clipped")
    _say(f"{out}: {len(built.test.asked)} trials; give it to raters")
    _say(f"{out.with_suffix('.json')}: which sound is of which system; keep it, and merge answers with it:")
    _say(f"{command('listen', 'merge')} answers*.json --test {shlex.quote(str(out.with_suffix('.json')))}")


def _merge(
    sources: Sequence[Path], test: BlindTest, protocol: str | None, device: str, cache_dir: Path | None, language: str, out: Path
) -> None:
    if not sources:
        raise InputError("listen merge", "nothing is named", "name the files of answers, or their folder")
    texts = Texts(language)
    answers, not_read = read_all(sources, test)
    for error in not_read:
        say(str(error))
    said = opinion(test, answers, not_read)
    if protocol is not None:
        said = _with_metrics(said, test, answers, protocol, device, cache_dir)
    said.write(out)
    with atomic_write(out.with_suffix(".html")) as unfinished:
        unfinished.write_text(render("listening/opinion.html", texts, opinion=said), encoding="utf-8")
    show(said, Console(emoji=False))
    _say(f"{out.with_suffix('.html')}: the same as a page; {out}: for programs")
    if pairs := list(preferred(test, answers)):
        write_pairs(out.with_suffix(".pairs.csv"), pairs)
        _say(f"{out.with_suffix('.pairs.csv')}: {len(pairs)} pairs that a model can learn from, configs/objective/preference.yaml")


def _with_metrics(
    said: Opinion, test: BlindTest, answers: Sequence[Answers], protocol: str, device: str, cache_dir: Path | None
) -> Opinion:
    """The same with what metrics say of the same sounds."""
    if not test.recordings:
        say("metrics are not compared: the test was built without recordings to measure against")
        return said
    chosen = load_protocol(protocol)
    chosen.keep_features((cache_dir or cache_folder()) / "features")
    chosen.device = device_named(device)
    values, reasons = by_sound(test, chosen)
    found, too_few = trust(test, answers, {name: pd.Series(series) for name, series in values.items()})
    return Opinion(**{**vars(said), "metrics": found, "not_compared": reasons | too_few})


def _say(text: str) -> None:
    Console(emoji=False).print(escape(text), soft_wrap=True, highlight=False)
