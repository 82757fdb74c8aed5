"""Makes sure that all runs of one results folder come from the same files."""

import hashlib
from pathlib import Path

from audioldm_lit.ablation.grid import Grid
from audioldm_lit.errors import InputError
from audioldm_lit.storage.atomic_write import write_json
from audioldm_lit.storage.plain_files import read_record


def check_unchanged(grid: Grid, out: Path) -> None:
    """Compare the files that a grid's runs are made from with those of the runs before, and note new ones in `files.json`.

    Raises:
        InputError: Names a file that has changed.
    """
    file = out / "files.json"
    known = read_record(file, f"remove it if no configuration has changed since the first runs of {out}") if file.is_file() else {}
    now = {name: hashlib.sha256((grid.folder / name).read_bytes()).hexdigest() for name in grid.files}
    trial = next(iter(grid.trials.values()))
    now |= {"the grid's base": " ".join(trial.base), "the grid's program": Path(trial.program[-1]).name}
    changed = next((name for name, digest in now.items() if known.get(name, digest) != digest), None)
    if changed:
        raise InputError(changed, f"has changed since the first runs of {out}", "restore it, or give another --out")
    if now.items() - known.items():
        write_json(file, known | now)
