"""The report of one run, or of several side by side: first the answer, then what it rests on, then what to do next."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from audioldm_lit.assets.licence import licence_of
from audioldm_lit.audio.spectrogram import QUIETEST_DB
from audioldm_lit.console.stages import Stage
from audioldm_lit.errors import InputError
from audioldm_lit.evaluation.evaluation import Evaluation
from audioldm_lit.evaluation.opinion import Opinion
from audioldm_lit.evaluation.score import Score
from audioldm_lit.evaluation.tables import number
from audioldm_lit.report.charts import Chart, bars, curves, intervals, steps_of, timesteps
from audioldm_lit.report.data_health import Health, health
from audioldm_lit.report.next_steps import next_steps
from audioldm_lit.report.players import Player, Players, gains
from audioldm_lit.report.run_files import RunFiles
from audioldm_lit.report.shell import render
from audioldm_lit.report.sound import BIT_RATE, scale
from audioldm_lit.report.texts import Texts
from audioldm_lit.report.verdict import Verdict, direction, metric_name, verdict, word
from audioldm_lit.storage.atomic_write import atomic_write

SHORT = ("model.backbone", "model.adapter", "data", "trainer.max_steps", "model.optimizer", "model.sampler", "seed_everything")


def write_report(path: Path, folders: Sequence[Path], language: str = "en", listeners: Path | None = None) -> None:
    """Write the report as one HTML file.

    Args:
        path: The file.
        folders: Runs; of several, each is compared with the first.
        language: Of the texts.
        listeners: What `listen merge` made of people's answers.

    Raises:
        InputError: If a folder is no run, the language has no catalogue, or the file cannot be written.
    """
    texts = Texts(language)
    runs = [RunFiles.read(folder) for folder in folders]
    with Stage("report"):
        page = render(
            "report/report.html", texts, styles=["report/report.css"], scripts=["report/player.js", "report/report.js"],
            **content(texts, runs, listeners),
        )  # fmt: skip
        with atomic_write(path) as unfinished:
            unfinished.write_text(page, encoding="utf-8")


def content(texts: Texts, runs: Sequence[RunFiles], listeners: Path | None = None) -> dict[str, Any]:
    """All that the template of a report shows."""
    named = dict(zip(_names(texts, runs), runs, strict=True))
    systems = _systems(texts, named)
    found = _verdicts(texts, named, systems)
    opinion, unread = _opinion(listeners)
    heard = _sounds(texts, named, found[0], systems)
    return {
        "title": runs[0].name if len(runs) == 1 else " / ".join(run.name for run in runs),
        "runs": named,
        "verdicts": found,
        "warnings": _warnings(texts, named),
        "opinion": opinion,
        **heard,
        "gaps": [*unread, *heard["gaps"]],
        "metrics": _metrics(texts, systems, found[0]),
        "charts": _charts(texts, named, systems),
        "health": {name: health(run.clips) for name, run in named.items()},
        "differing": _differing(runs) if len(runs) > 1 else {},
        "settings": {name: yaml.safe_dump(dict(run.settings), sort_keys=False, allow_unicode=True) for name, run in named.items()},
        "short": {name: [(key, _brief(run.setting(key))) for key in SHORT] for name, run in named.items()},
        "licence": {name: _licence(run) for name, run in named.items()},
        "next": next_steps(texts, runs[-1], found[0], asked=listeners is not None),
        "number": number,
    }


def _names(texts: Texts, runs: Sequence[RunFiles]) -> list[str]:
    """What the runs' adapted models are called: of several by their folders, told apart by as many as it takes."""
    if len(runs) == 1:
        return [texts.plain("takes.adapted")]
    parts = [run.folder.resolve().parts for run in runs]
    depth = next((depth for depth in range(2, 20) if len({part[-depth:] for part in parts}) == len(runs)), 20)
    names = ["/".join(part[-depth:]) for part in parts]
    if len(set(names)) < len(runs):
        raise InputError(names[0], "is given twice", "give each run once")
    return names


def _systems(texts: Texts, named: Mapping[str, RunFiles]) -> dict[str, Evaluation]:
    """Evaluations by what systems are called; what several runs share is the first's."""
    first = next(iter(named.values())).evaluations
    own = {} if len(named) > 1 else {"reconstructed_adapted": "takes.reconstructed_adapted"}  # of a run that adapts the decoder
    others = {"base": "takes.base", "reconstructed": "takes.reconstructed", **own, "real": "takes.real"}
    shared = {texts.plain(key): first[kind] for kind, key in others.items() if kind in first}
    base = {name: shared.pop(name) for name in (texts.plain("takes.base"),) if name in shared}
    return base | {name: run.evaluations["adapted"] for name, run in named.items() if "adapted" in run.evaluations} | shared


def _verdicts(texts: Texts, named: Mapping[str, RunFiles], systems: Mapping[str, Evaluation]) -> list[Verdict]:
    """Of one run against its base; of several, of each against the first."""
    first, *others = named
    if others:
        return [verdict(texts, (first, name), systems.get(first), systems.get(name)) for name in others]
    names = texts.term("base"), texts.term("adapted")
    return [verdict(texts, names, systems.get(texts.plain("takes.base")), systems.get(first))]


def _opinion(listeners: Path | None) -> tuple[Opinion | None, list[str]]:
    """What listeners said, or why that cannot be read."""
    if listeners is None:
        return None, []
    try:
        return Opinion.read(listeners), []
    except InputError as error:
        return None, [str(error)]


def sounds_of(texts: Texts, runs: Sequence[RunFiles]) -> dict[str, Any]:
    """What a page lets hear of runs, and what it cannot; of none, nothing."""
    if not runs:
        return {"gaps": [], "players": []}
    named = dict(zip(_names(texts, runs), runs, strict=True))
    systems = _systems(texts, named)
    return _sounds(texts, named, _verdicts(texts, named, systems)[0], systems)


def _sounds(texts: Texts, named: Mapping[str, RunFiles], found: Verdict, systems: Mapping[str, Evaluation]) -> dict[str, Any]:
    players = Players()
    shown = _players(texts, named, found, systems, players)
    copied = {name: players.copies(run, name, texts.plain("takes.training")) for name, run in named.items()}
    gaps = [*(gap for run in named.values() for gap in run.gaps), *players.gaps]
    return {
        "gaps": list(dict.fromkeys(map(str, gaps))),
        "players": shown,
        "labels": sorted({player.label for player in shown if player.label}),
        "left_out": players.left_out,
        "copied": copied,
        "sounds": players.sounds,
        "scale": scale(),
        "quietest": QUIETEST_DB,
        "kilobits": BIT_RATE // 1000,
    }


def _players(
    texts: Texts, named: Mapping[str, RunFiles], found: Verdict, systems: Mapping[str, Evaluation], players: Players
) -> list[Player]:
    base, recordings = texts.plain("takes.base"), texts.plain("takes.recording")
    if any(run.scored for run in named.values()):
        compared = list(named)[:2] if len(named) > 1 else [base, *named]
        metric = next(iter(found.comparisons), None)
        by_clip = gains(systems[compared[0]], systems[compared[1]], metric) if metric else {}
        return players.scored(named, recordings, base, by_clip)
    return [player for name, run in named.items() for player in players.auditions(run, base, name)]


def _metrics(texts: Texts, systems: Mapping[str, Evaluation], found: Verdict) -> list[dict[str, Any]]:
    """Rows of the table: a metric's values by system, floor, and the verdict on it."""
    metrics = dict.fromkeys(metric for evaluation in systems.values() for metric in evaluation.scores)
    rows = []
    for metric in metrics:
        scores = {name: evaluation.scores.get(metric) for name, evaluation in systems.items()}
        first = next(score for score in scores.values() if score is not None)
        compared = found.comparisons.get(metric)
        cautions = dict.fromkeys(score.caution for score in scores.values() if score is not None and score.caution)
        rows.append(
            {
                "name": metric_name(texts, metric),
                "direction": direction(texts, first),
                "scores": scores,
                "floor": number(first.floor.value) if first.floor.num_clips else "",
                "verdict": word(texts, compared.verdict) if compared else "",
                "why": "" if compared is None or compared.interval is not None else texts("metrics.no_interval"),
                "cautions": list(cautions),
            }
        )
    return rows


def _charts(texts: Texts, named: Mapping[str, RunFiles], systems: Mapping[str, Evaluation]) -> dict[str, Chart]:
    """Those for which there is something to draw."""
    said = texts.part("charts")
    charts: dict[str, Chart] = {}
    metric = next((name for evaluation in systems.values() for name in evaluation.scores), None)
    if metric is not None:
        scores = {name: one.scores[metric] for name, one in systems.items() if metric in one.scores}
        charts["metric"] = intervals(scores, said["floor"], _axis(texts, metric, scores), said["metric"])
    axes = said["steps"], said["change"]
    changes = {name: steps_of(run.checks, "val/change") for name, run in named.items()}
    if any(changes.values()):
        charts["loss"] = curves({name: line for name, line in changes.items() if line}, said["zero"], axes, said["loss"])
    run = list(named.values())[-1]
    by_timestep = timesteps(run.checks, run.result.get("held_out_losses_before", []))
    if by_timestep:
        charts["timestep"] = curves(by_timestep, said["zero"], axes, said["timestep"])
    blocks = {name: run.result["effect"]["blocks"] for name, run in named.items() if run.result.get("effect", {}).get("blocks")}
    if blocks:
        charts["blocks"] = bars(blocks, said["blocks_axis"], said["blocks"])
    return charts


def _axis(texts: Texts, metric: str, scores: Mapping[str, Score]) -> str:
    """A metric and which way it is better, where no markup may be."""
    name = texts.plain(f"terms.{metric}.word") if texts.knows(f"terms.{metric}.word") else metric
    return f"{name} ({direction(texts, next(iter(scores.values()))).striptags()})"


def _warnings(texts: Texts, named: Mapping[str, RunFiles]) -> list[Any]:
    """What to know before the verdict is trusted."""
    found = []
    for name, run in named.items():
        adapted, effect = run.evaluations.get("adapted"), run.result.get("effect", {}).get("verdict")
        copied = len(adapted.suspected_copies) if adapted else 0
        found += [texts("warnings.copies", run=name, count=copied)] if copied else []
        found += [texts(f"warnings.{effect.replace(' ', '_')}", run=name)] if effect in ("no effect", "saturated") else []
        checked: Health = health(run.clips)
        found += [texts("warnings.leaks", run=name, count=len(checked.leaks))] if checked.leaks else []
    return found


def _differing(runs: Sequence[RunFiles]) -> dict[str, list[str]]:
    """Settings that are not the same in all runs, by dotted key."""
    flat = [dict(_flat(run.settings)) for run in runs]
    keys = dict.fromkeys(key for settings in flat for key in settings)
    values = {key: [_brief(settings.get(key)) for settings in flat] for key in keys}
    return {key: shown for key, shown in values.items() if len(set(shown)) > 1}


def _flat(settings: Mapping[str, Any], above: str = "") -> list[tuple[str, Any]]:
    return [
        pair
        for key, value in settings.items()
        for pair in (_flat(value, f"{above}{key}.") if isinstance(value, Mapping) else [(f"{above}{key}", value)])
    ]


def _brief(value: Any) -> str:
    """A setting in a line: a class by its last name, with its settings."""
    if isinstance(value, Mapping) and "class_path" in value:
        given = {key: one for key, one in value.get("init_args", {}).items() if one is not None}
        return f"{value['class_path'].rpartition('.')[2]}({', '.join(f'{key}={_brief(one)}' for key, one in given.items())})"
    if isinstance(value, Mapping):
        return ", ".join(f"{key}={_brief(one)}" for key, one in value.items())
    return "" if value is None else str(value)


def _licence(run: RunFiles) -> str:
    try:
        return str(licence_of(run.setting("model.backbone", "")))
    except InputError as error:
        return str(error)
