"""Whether a file is a zip file, as checkpoints are."""

import zipfile
from pathlib import Path


def is_zip(path: Path) -> bool:
    """Whether it can be read as one; Python's own test raises where a file claims to span several disks."""
    try:
        return zipfile.is_zipfile(path)
    except zipfile.BadZipFile:
        return False
