"""Kenney's game sound effects (kenney.nl, CC0): the demo's data, fetched once from the PyPI wheel of the game library `arcade`.

The wheel holds 55 WAVs. The nine complete families are taken, five takes of each: 45 clips of 0.1 to 1.1 s at 44.1 kHz.
Families of fewer takes (fall, explosion, secret, phaseJump, rockHit) are left out: too few to train, validate and test on.
"""

import csv
import zipfile
from pathlib import Path
from typing import Any

from audioldm_lit.assets.registry import wheel
from audioldm_lit.data.folder import Folder
from audioldm_lit.storage.cache_folder import cache_folder

WHEEL = wheel("kenney-effects")
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


class KenneyEffects(Folder):
    """Kenney's CC0 game sound effects, nine families of five takes; each family trains on three, validates on one, tests on one.

    Args:
        root: A folder of recordings, read as `Folder` reads it; where not given, the effects are fetched (43 MB, once) into
            `$XDG_CACHE_HOME/audioldm_lit/kenney`, by default under `~/.cache`.
        **kwargs: See `Folder`.
    """

    documents = ("License.txt",)

    def __init__(self, root: Path | None = None, **kwargs: Any) -> None:
        super().__init__(root or cache_folder() / "kenney", **kwargs)
        self.own = root is not None

    def prepare_data(self) -> None:
        """Fetch the effects unless they are there or another root was given."""
        if not self.own:
            WHEEL.fetch(self.root, lay_out)


def lay_out(archive: zipfile.ZipFile, folder: Path) -> None:
    """Take the complete families out of the wheel: sub-folders, a metadata.csv and Kenney's licence."""
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
