"""The verb `assets`."""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal

from rich.console import Console
from rich.table import Table

from audioldm_lit.assets.bundle import read_bundle, write_bundle
from audioldm_lit.assets.registry import asset, registry
from audioldm_lit.console.command import command
from audioldm_lit.console.markup import escape
from audioldm_lit.errors import InputError

Action = Literal["list", "fetch", "verify", "bundle", "import"]


def assets(action: Action, names: Sequence[str] = (), out: Path | None = None) -> None:
    """Weights and data sets: what there is, fetched, verified and carried to machines without a network.

    Everything is kept in the cache (`$XDG_CACHE_HOME/audioldm_lit`, by default under `~/.cache`), hub models in the hub's own
    (`$HF_HOME`, by default `~/.cache/huggingface`). Only `fetch` opens connections; run again, it goes on from where it broke off.

    Args:
        action: `list` shows every asset, its size, licence and use, and whether it is here; `fetch` gets assets and verifies them;
            `verify` compares what is here with its hashes; `bundle` writes assets that are here into one tar; `import` puts the
            assets of such a tar in place, all or none.
        names: Assets by the names that `list` shows; hub models also by their ids, any of them. The tar of `import`.
        out: The tar that `bundle` writes.
    """
    if (out is None) == (action == "bundle"):
        raise InputError("--out", "is the tar of `assets bundle`", "give it there and nowhere else")
    if not names and action not in ("list", "verify"):
        raise InputError(f"assets {action}", "nothing is named", "see python -m audioldm_lit assets list")
    ACTIONS[action](names, out)


def _list(names: Sequence[str], out: Path | None) -> None:
    table = Table(box=None, padding=(0, 2, 0, 0))
    for title in ("name", "here", "size", "licence", "what it is", "for"):
        table.add_column(title, overflow="fold", no_wrap=title in ("name", "here", "size"))
    for one in [asset(name) for name in names] or registry().values():
        size = "unknown" if one.megabytes is None else f"{one.megabytes:,} MB"
        row = (one.name, one.state, size, one.licence, one.about, one.wanted)
        table.add_row(*map(escape, row))
    Console(emoji=False).print(table, highlight=False)


def _fetch(names: Sequence[str], out: Path | None) -> None:
    for one in [asset(name) for name in names]:
        one.fetch()
        _say(one.verify())
        place = one.root / os.path.commonpath(one.files())
        _say(f"{place}: {one.about}; {one.licence}; for {one.wanted}")


def _verify(names: Sequence[str], out: Path | None) -> None:
    for one in [asset(name) for name in names] or [one for one in registry().values() if one.files()]:
        _say(one.verify())


def _bundle(names: Sequence[str], out: Path | None) -> None:
    assert out is not None
    chosen = {one.name: one for one in map(asset, names)}
    write_bundle(list(chosen.values()), out)
    for one in chosen.values():
        _say(f"{one.name}: {one.licence}")
    _say(f"{out}: take it to the other machine, and there: {command('assets', 'import', out.name)}")


def _import(names: Sequence[str], out: Path | None) -> None:
    for name in names:
        imported = read_bundle(Path(name))
        _say(f"{name}: {', '.join(imported)} are here now")


def _say(text: str) -> None:
    Console(emoji=False).print(escape(text), soft_wrap=True, highlight=False)


ACTIONS: Mapping[str, Callable[[Sequence[str], Path | None], None]] = {
    "list": _list, "fetch": _fetch, "verify": _verify, "bundle": _bundle, "import": _import,
}  # fmt: skip
