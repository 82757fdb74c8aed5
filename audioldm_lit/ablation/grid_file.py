"""Reads a grid's file: base configs, settings for every run, and axes whose levels are multiplied out into trials."""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from audioldm_lit.ablation.columns import DERIVED, NAMES
from audioldm_lit.ablation.grid import FIT, PROGRAM, Grid, Trial, is_file
from audioldm_lit.ablation.search_space import Choice, Search, read_search
from audioldm_lit.errors import InputError
from audioldm_lit.storage.names import check_name

KEYS = ("name", "extends", "base", "program", "set", "axes", "search", "exclude")
UNREADABLE: tuple[type[Exception], ...] = (OSError, ValueError, RecursionError, yaml.YAMLError, OmegaConfBaseException)
UNREADABLE += (AttributeError, LookupError)  # PyYAML's answers to `!!timestamp x`, `!!bool x` and `!!int ''`


def load_grid(path: Path, changes: Sequence[str] = ()) -> Grid:
    """Read a grid.

    The file has the keys `name`; `base`, one config or several; `set`, settings of every run by dotted key; `axes`, by name, each
    either levels by name with their settings, `{lora: {model.adapter: ../adapter/lora.yaml}, ...}`, or keys with a list of values
    each, which move together, `{data.init_args.shots: [1, 2]}`; and `exclude`, combinations of levels to leave out. A level with
    `fit: false` is tested without training. The axis called `seed` repeats runs. Values that end in .yaml are files beside the
    grid; `${oc.env:NAME}` is an environment variable. `program` is a Python file that runs the verbs
    instead of this package: one that calls `audioldm_lit.cli.main` with a model class of its own. `extends` is another grid of the
    same folder, whose keys stand in for those that are missing here: of `set`, what is missing, and `exclude` along with `axes`.
    `search` draws `runs` points from `ranges`, each run at every combination of the axes there are; with an Optuna `sampler`, the
    trials are examples of what it may draw.

    Args:
        path: YAML file.
        changes: `key=value` settings of every run, on top of the file's own.

    Raises:
        InputError: If the file, a key or a level is wrong, or two axes change the same setting.
    """
    content, folder = _extended(path), path.absolute().parent
    name, base = _name(content, path), _base(content.get("base") or [], folder, path)
    program = _program(content.get("program"), folder, path)
    changed = _changed(changes, folder)
    shared = {**_settings(content.get("set") or {}, folder, f"{path}: set"), **changed}
    where = f"{path}: search"
    search = read_search(content.get("search"), where, lambda settings, place: _settings(settings, folder, place))
    axes = _axes(content.get("axes"), folder, path) if search is None or content.get("axes") else {}
    _check_axes(axes, search, changed, path)
    excluded = _excluded(content.get("exclude") or [], axes, path)
    plain = Trial({}, shared, folder, base, program=program, grid=name)
    if search is not None:
        _check_search(search, axes, where)
    trials: dict[str, Trial] = {}
    for trial in _trials(plain, axes, search):
        if any(all(trial.levels[axis] in levels for axis, levels in exclusion.items()) for exclusion in excluded):
            continue
        if trial.id in trials:
            raise InputError(path, f"{trial.id} stands there twice", "give the levels different names or settings")
        _check_order(trial, path)
        check_name(trial.id, str(path))
        trials[trial.id] = trial
    if not trials:
        raise InputError(path, "`exclude` leaves no run", "exclude less")
    ranged = [value for one in search.ranges.values() if isinstance(one, Choice) for value in one.values.values()] if search else []
    values = [*ranged, *(value for trial in trials.values() for value in trial.settings.values())]
    own = [] if program == PROGRAM else [os.path.relpath(program[0], folder)]
    names = [*axes, *(search.ranges if search else ())]
    return Grid(name, folder, trials, [*_with_nested([*base, *filter(is_file, values)], folder), *own], names, plain, search)


def _with_nested(names: Sequence[str], folder: Path) -> list[str]:
    """Files, and those that they name in turn, each beside the one that names it."""
    found: dict[str, None] = {}
    waiting = list(names)
    while waiting:
        name = os.path.normpath(waiting.pop(0))
        if name in found:
            continue
        found[name] = None
        beside = Path(name).parent
        named = re.findall(r"[^\s'\"\[\]{},]+\.yaml\b", (folder / name).read_text(encoding="utf-8"))
        waiting += [str(beside / name) for name in named if (folder / beside / name).is_file()]
    return list(found)


def _trials(plain: Trial, axes: Mapping[str, Mapping[str, Any]], search: Search | None) -> Iterator[Trial]:
    """The product of the axes, at every point of a search."""
    points = list(search.at_random()) if search else []
    for chosen in product(*axes.values()):
        levels = dict(zip(axes, chosen, strict=True))
        settings = dict(plain.settings)
        for axis, level in levels.items():
            settings |= axes[axis][level]
        fit = settings.pop(FIT, True)
        trial = replace(plain, levels=levels, settings=settings, fit=fit)
        yield from (search.trial(trial, point) for point in points) if search else (trial,)


def _extended(path: Path, extending: Sequence[Path] = ()) -> dict[str, Any]:
    """Content of a grid and of those that it extends."""
    content, folder, where = _read(path), path.absolute().parent, f"{path}: extends"
    if "extends" not in content:
        return content
    name = _file(folder, content.pop("extends"), where)
    if path in extending or Path(name).name != name:
        raise InputError(where, f"is {name}", "name a grid of the same folder that does not extend this one in its turn")
    other = _extended(path.with_name(name), [*extending, path])
    other.pop("name", None)
    if "axes" in content:
        other.pop("exclude", None)
    shared = _settings(other.get("set") or {}, folder, f"{path.with_name(name)}: set")
    own = _settings(content.get("set") or {}, folder, f"{path}: set")
    return {**other, **content, "set": shared | own}


def _read(path: Path) -> dict[str, Any]:
    try:
        content: Any = OmegaConf.to_container(OmegaConf.load(path), resolve=True)
    except FileNotFoundError:
        raise InputError(path, "is not there", "give a grid such as configs/ablation/nano_esc10.yaml") from None
    except UNREADABLE as error:
        raise InputError(path, f"is no valid grid ({' '.join(str(error).split())})", "correct it") from error
    if not isinstance(content, dict):
        raise InputError(path, "is no mapping", f"give it the keys {', '.join(KEYS)}")
    unknown = [str(key) for key in content if key not in KEYS]
    if unknown:
        raise InputError(path, f"has the unknown key '{unknown[0]}'", f"use {', '.join(KEYS)}")
    return content


def _name(content: Mapping[str, Any], path: Path) -> str:
    """Name of the results folder."""
    name = content.get("name", path.stem)
    if not isinstance(name, str) or not name or "/" in name:
        raise InputError(path, f"name is {name!r}", "give a word without a slash")
    return name


def _base(content: Any, folder: Path, path: Path) -> list[str]:
    files = content if isinstance(content, list) else [content]
    if not files:
        raise InputError(path, "`base` names no config", "name the experiment that the runs start from")
    return [_file(folder, file, f"{path}: base") for file in files]


def _program(content: Any, folder: Path, path: Path) -> Sequence[str]:
    return PROGRAM if content is None else (str(folder / _file(folder, content, f"{path}: program")),)


def _axes(content: Any, folder: Path, path: Path) -> dict[str, dict[str, dict[str, Any]]]:
    """Settings by axis and level."""
    if not isinstance(content, Mapping) or not content:
        raise InputError(path, "has no `axes`", "name at least one, such as `seed: {model.seed: [1, 2, 3]}`")
    return {str(axis): _levels(axis, levels, folder, path) for axis, levels in content.items()}


def _levels(axis: str, content: Any, folder: Path, path: Path) -> dict[str, dict[str, Any]]:
    """Settings by level."""
    where = f"{path}: axes.{axis}"
    if not isinstance(content, Mapping) or not content:
        raise InputError(where, "is empty", "give levels by name, or keys with a list of values each")
    if all(isinstance(block, Mapping) for block in content.values()):
        return {str(level): _settings(settings, folder, f"{where}.{level}") for level, settings in content.items()}
    if not all(isinstance(levels, list) and levels for levels in content.values()):
        raise InputError(where, "mixes levels and lists, or a list is empty", "give either levels by name or a list for every key")
    lengths = {key: len(values) for key, values in content.items()}
    if len(set(lengths.values())) > 1:
        counts = ", ".join(f"{key} {count}" for key, count in lengths.items())
        raise InputError(where, f"the lists differ in length, {counts}", "give as many values that move together in each")
    rows = [dict(zip(content, values, strict=True)) for values in zip(*content.values(), strict=True)]
    names = [str(next(iter(row.values()))) for row in rows]
    names = [Path(name).stem if name.endswith(".yaml") else name for name in names]
    repeated = next((name for name in names if names.count(name) > 1), None)
    if repeated is not None:
        raise InputError(where, f"has the level '{repeated}' twice", "give the levels names of their own")
    return {name: _settings(row, folder, where) for name, row in zip(names, rows, strict=True)}


def _settings(content: Any, folder: Path, where: str) -> dict[str, Any]:
    """Settings by dotted key."""
    if not isinstance(content, Mapping):
        raise InputError(where, "is no mapping", "give settings by dotted key, such as `trainer.max_steps: 400`")
    if not isinstance(content.get(FIT, True), bool):
        raise InputError(where, f"{FIT} is {content[FIT]!r}", "give true or false")
    return {str(key): _file(folder, value, f"{where}: {key}") if is_file(value) else value for key, value in content.items()}


def _changed(changes: Sequence[str], folder: Path) -> dict[str, Any]:
    """Settings of the command line, `key=value`; files are relative to the current folder."""
    settings: dict[str, Any] = {}
    for change in changes:
        key, sign, value = change.partition("=")
        if not sign or not key:
            raise InputError("--set", f"'{change}' is no key=value", "write for example trainer.max_steps=100")
        try:
            parsed: Any = OmegaConf.to_container(OmegaConf.from_dotlist([f"value={value}"]))
            settings[key] = parsed["value"]
        except UNREADABLE as error:
            raise InputError("--set", f"the value of {key} cannot be read ({' '.join(str(error).split())})", "quote it") from error
    settings = _settings(settings, Path.cwd(), "--set")
    return {key: os.path.relpath(value, folder) if is_file(value) else value for key, value in settings.items()}


def _file(folder: Path, name: Any, where: str) -> str:
    if not isinstance(name, str) or not (folder / name).is_file():
        raise InputError(where, f"names '{name}', which is not in {folder}", "correct the path")
    return name


def _check_axes(
    axes: Mapping[str, Mapping[str, Mapping[str, Any]]], search: Search | None, changed: Mapping[str, Any], path: Path
) -> None:
    """Refuse an axis named like a column of the results, and two axes, or an axis and `--set`, that change one setting."""
    owner: dict[str, str] = {}
    named = [(axis, {key for settings in levels.values() for key in settings}) for axis, levels in axes.items()]
    for axis, keys in [*named, *((name, {one.key}) for name, one in (search.ranges.items() if search else ()))]:
        if axis in (*NAMES, *DERIVED) or not re.fullmatch(r"[\w .+-]+", axis):
            raise InputError(path, f"an axis cannot be called '{axis}', results have such a column or cannot have it", "rename it")
        if search and axis in axes and axis in search.ranges:
            raise InputError(path, f"'{axis}' is an axis and a range", "rename one")
        for key in keys:
            if key in owner:
                raise InputError(path, f"the axes '{owner[key]}' and '{axis}' both change {key}", "leave it to one of them")
            owner[key] = axis
    overruled = next((key for key in changed if key in owner), None)
    if overruled:
        raise InputError("--set", f"{overruled} is changed by the axis '{owner[overruled]}' of {path}", "change it there")


def _check_search(search: Search, axes: Mapping[str, Mapping[str, Mapping[str, Any]]], where: str) -> None:
    """Refuse what cannot be searched: several runs a point under a sampler, and levels that do not train."""
    if search.sampler is not None and axes:
        raise InputError(where, f"has a sampler, and the axis '{next(iter(axes))}' asks for several runs a point", "leave it out")
    untrained = next((level for levels in axes.values() for level, settings in levels.items() if not settings.get(FIT, True)), None)
    if untrained is not None:
        raise InputError(where, f"has points, and the level '{untrained}' does not train", "test it in a grid of its own")


def _check_order(trial: Trial, path: Path) -> None:
    """Refuse a whole object that is given after one of its settings, which it would reset."""
    keys = list(trial.settings)
    for number, late in enumerate(keys):
        early = next((key for key in keys[:number] if key.startswith(f"{late}.")), None)
        if early:
            raise InputError(path, f"{late} comes after {early} and would undo it", "put its axis or setting first")


def _excluded(content: Any, axes: Mapping[str, Mapping[str, Any]], path: Path) -> list[dict[str, list[str]]]:
    return [_exclusion(exclusion, axes, path) for exclusion in (content if isinstance(content, list) else [content])]


def _exclusion(content: Any, axes: Mapping[str, Mapping[str, Any]], path: Path) -> dict[str, list[str]]:
    """Levels to leave out together, by axis."""
    where = f"{path}: exclude"
    if not isinstance(content, Mapping) or not content or [] in content.values():
        raise InputError(where, "has an entry without axes or levels", "write for example `{strategy: base, shots: [2, 5]}`")
    chosen = {
        axis: [str(level) for level in (levels if isinstance(levels, list) else [levels])] for axis, levels in content.items()
    }
    for axis, levels in chosen.items():
        wrong = axis if axis not in axes else next((level for level in levels if level not in axes[axis]), None)
        if wrong is not None:
            raise InputError(where, f"'{wrong}' is no {'level of ' + axis if axis in axes else 'axis'}", "correct the name")
    return chosen
