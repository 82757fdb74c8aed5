"""Files taken from a Python wheel: downloaded with pip, verified and unpacked once; its code is never run."""

import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from audioldm_lit.console.stages import Stage
from audioldm_lit.errors import InputError
from audioldm_lit.storage.atomic_write import clear_unfinished, unfinished_name

LayOut = Callable[[zipfile.ZipFile, Path], None]


@dataclass(frozen=True)
class Wheel:
    """A wheel whose files are wanted, not its code.

    Attributes:
        requirement: Name and version for pip: `arcade==3.3.3`.
        sha256: Of the wheel; no other is unpacked.
        contents: What is taken from it, in words.
        licence: Of what is taken from it.
        size: Of the download: `43 MB`.
        way_out: What to do where it cannot be fetched; ends every error message.
    """

    requirement: str
    sha256: str
    contents: str
    licence: str
    size: str
    way_out: str

    def fetch(self, folder: Path, lay_out: LayOut) -> None:
        """Download the wheel and keep what `lay_out` takes from it in `folder`, unless that exists already.

        Args:
            folder: Appears whole or not at all, whichever processes fetch it at once.
            lay_out: Writes what is wanted from the open archive into an empty folder.

        Raises:
            InputError: If pip cannot fetch the wheel, its hash is another, or the folder cannot be written.
        """
        if folder.is_dir():
            return
        source = f"{self.licence}; {self.requirement} from your package index, {self.size}"
        sys.stderr.write(f"fetching {self.contents} ({source}) into {folder}\n")
        with tempfile.TemporaryDirectory() as download:
            pip = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:", "--disable-pip-version-check"]
            command = [*pip, self.requirement, "-d", download]
            with Stage(f"downloading {self.size}"):
                done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
            wheels = sorted(Path(download).glob("*.whl"))
            if done.returncode or not wheels:
                reason = (done.stderr.strip().splitlines() or ["no output"])[-1].removeprefix("ERROR: ").strip(".")
                raise InputError(
                    self.requirement,
                    f"pip cannot fetch it ({reason})",
                    f"connect to a package index, bring it by `assets import`, {self.way_out}",
                )
            self.unpack(wheels[0], folder, lay_out)

    def unpack(self, path: Path, folder: Path, lay_out: LayOut) -> None:
        """Verify the wheel at `path` and keep what `lay_out` takes from it in `folder`, all of it or nothing.

        Raises:
            InputError: If the wheel is not the one asked for, or the folder cannot be written.
        """
        with path.open("rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
        if found != self.sha256:
            raise InputError(
                path.name, f"its SHA-256 is {found}, not {self.sha256}", f"use an index that serves the original, {self.way_out}"
            )
        clear_unfinished(folder.parent)
        unfinished = unfinished_name(folder)
        try:
            unfinished.mkdir(parents=True)
            with zipfile.ZipFile(path) as archive:
                lay_out(archive, unfinished)
            os.replace(unfinished, folder)
        except OSError as error:
            if not folder.is_dir():  # else another process was faster, and what it laid out is the same
                raise InputError(folder, f"cannot be written ({error})", f"set XDG_CACHE_HOME, {self.way_out}") from error
        finally:
            shutil.rmtree(unfinished, ignore_errors=True)
