"""Where the files lie that come with the package and with its repository."""

from importlib.resources import files
from pathlib import Path

NANO = "checkpoints/audioldm-nano"  # the toy model of this repository
REPOSITORY = Path(__file__).resolve().parent.parent


def packaged(name: str) -> Path:
    """A file or folder that is installed with the package, by its path inside it: `evaluation/protocols/embedded.yaml`."""
    return Path(str(files("audioldm_lit").joinpath(name)))
