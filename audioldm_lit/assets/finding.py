"""Models found by what a user calls them."""

from pathlib import Path

from audioldm_lit.errors import InputError
from audioldm_lit.places import REPOSITORY


def find_model(name: str | Path) -> Path:
    """Folder of a model given by path, by a path inside this repository, or by the id of a hub model fetched earlier."""
    for folder in (Path(name), REPOSITORY / name):
        if (folder / "unet").is_dir():
            return folder
    if not Path(name).exists() and str(name).count("/") == 1:
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HFValidationError, LocalEntryNotFoundError

        try:
            return Path(snapshot_download(str(name), local_files_only=True))
        except (LocalEntryNotFoundError, HFValidationError):
            pass
    raise InputError(name, "no AudioLDM here", "give a folder in the diffusers layout (unet/, vae/, text_encoder/, ...)")
