"""What a result was computed with: the commits of the code, whether anything is uncommitted, and the versions of libraries."""

import platform
import subprocess
import sys
from collections.abc import Iterable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from audioldm_lit import __version__
from audioldm_lit.errors import InputError

PACKAGES = ("torch", "lightning", "diffusers", "transformers", "peft", "torchaudio", "torchmetrics", "numpy")


def check_committed() -> None:
    """Refuse code that no commit holds.

    Raises:
        InputError: If tracked files were changed since the commit.
    """
    changed = next((top for top, tree in trees().items() if tree["dirty"]), None)
    if changed:
        raise InputError(
            changed, "has changes that are not committed, no commit says what would run", "commit, or add --allow_dirty"
        )


def provenance() -> dict[str, Any]:
    """Commits of the current folder and of this package, versions and machine, as they are now."""
    return {
        "code": trees(),
        "versions": {"audioldm_lit": __version__, "python": platform.python_version(), **_versions()},
        "machine": {"host": platform.node(), "system": platform.platform(), "executable": sys.executable},
    }


def trees() -> dict[str, dict[str, Any]]:
    """Commit of the repositories that the current folder and this package are in, and whether anything is uncommitted there."""
    return {str(top): _tree(top) for top in _tops([Path.cwd(), Path(__file__).parent])}


def _tops(folders: Iterable[Path]) -> list[Path]:
    """Top folders of the repositories that folders are in."""
    found = (_git(folder, "rev-parse", "--show-toplevel") for folder in folders)
    return sorted({Path(top) for top in found if top})


def _tree(top: Path) -> dict[str, Any]:
    return {"commit": _git(top, "rev-parse", "HEAD"), "dirty": bool(_git(top, "status", "--porcelain", "--untracked-files=no"))}


def _git(folder: Path, *words: str) -> str:
    """Output of git; empty where there is no git or no repository."""
    try:
        return subprocess.run(["git", "-C", str(folder), *words], check=True, capture_output=True, text=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def _versions() -> dict[str, str]:
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "absent"
    return versions
