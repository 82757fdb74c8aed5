"""What every asset has in common: where it lies, and how its files are known again."""

import hashlib
import os
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from audioldm_lit.console.command import command
from audioldm_lit.console.stages import Stage
from audioldm_lit.errors import InputError
from audioldm_lit.storage.atomic_write import write_json
from audioldm_lit.storage.cache_folder import cache_folder
from audioldm_lit.storage.names import expanded
from audioldm_lit.storage.plain_files import read_json

Digests = Mapping[str, str]  # of files by their path below a room: `sha256:...`, or git's hash of a blob, `git:...`


def hub_cache() -> Path:
    """Where huggingface_hub keeps models: `$HF_HUB_CACHE`, `$HF_HOME/hub`, or `huggingface/hub` below `$XDG_CACHE_HOME`."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    home = os.environ.get("HF_HOME") or Path(cache) / "huggingface"
    return expanded(os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE") or Path(home) / "hub")


ROOMS = {"cache": cache_folder, "hub": hub_cache}  # where assets may lie, by the names that bundles give to them


def fetching(name: str) -> str:
    """The command that fetches an asset, or a model of the hub by its id."""
    return command("assets", "fetch", name)


@dataclass(frozen=True, kw_only=True)
class Asset(ABC):
    """Weights or a data set that the package can use and does not contain.

    Attributes:
        name: As in the registry.
        about: What it is.
        licence: Of what is fetched, in words.
        wanted: Which command or configuration wants it.
        commercial: Whether its licence allows commercial use; None where that is not known.
        megabytes: Size of the download; None where it is not known.
    """

    name: str
    about: str
    licence: str
    wanted: str
    commercial: bool | None = None
    megabytes: float | None = None
    room = "cache"

    @property
    def root(self) -> Path:
        """The folder that `files` are told from."""
        return ROOMS[self.room]()

    @abstractmethod
    def files(self) -> list[str]:
        """Paths below `root` of all its files; none unless all are there."""

    @abstractmethod
    def owns(self, file: str) -> bool:
        """Whether a path below `root` may be one of its files."""

    @abstractmethod
    def fetch(self) -> None:
        """Get what is missing, or is not what it should be, and note the hashes.

        Raises:
            InputError: If it cannot be got; the same call goes on from there.
        """

    @property
    def state(self) -> str:
        """Whether it is here, in a word."""
        return "yes" if self.files() else "no"

    def adopt(self, digests: Digests) -> None:
        """Take files that lie where they belong for its own, with their hashes."""
        self.note(digests)

    # ------------------------------------------------------------------ hashes

    @property
    def record(self) -> Path:
        """The file of the hashes that its files must have."""
        return cache_folder() / "assets" / f"{self.name.replace('/', '--')}.json"

    def digests(self) -> Digests:
        """Hashes as published, or as they were at the first fetch; none where none were noted."""
        if not self.record.is_file():
            return {}
        try:
            return dict(read_json(self.record)["digests"])
        except (OSError, LookupError, TypeError, ValueError) as error:
            raise InputError(self.record, f"cannot be read ({error})", "remove it; the hashes are then noted anew") from error

    def note(self, digests: Digests) -> None:
        """Keep hashes."""
        write_json(self.record, {"asset": self.name, "digests": dict(digests)})

    @property
    def mend(self) -> str:
        """What to do where one of its files is damaged."""
        return fetching(self.name)

    def is_whole(self) -> bool:
        """Whether hashes are noted and all its files have them."""
        digests = self.digests()
        places = {self.root / file: wanted for file, wanted in digests.items() if self.owns(file)}
        if not places or not all(path.is_file() for path in places):
            return False
        with Stage(f"verifying {self.name}"):
            return all(digest(path, wanted) == wanted for path, wanted in places.items())

    def verify(self) -> str:
        """Compare every file with its hash; notes the hashes where none were.

        Returns:
            What was found, in words.

        Raises:
            InputError: If it is not here, or a file is another one.
        """
        files = self.files()
        if not files:
            raise InputError(self.name, "is not here, or not all of it", fetching(self.name))
        digests, count = self.digests(), f"{self.name}: {len(files)} file" + "s" * (len(files) > 1)
        with Stage(f"verifying {self.name}"):
            new = {file: digest(self.root / file) for file in files if file not in digests}
            for file in files:
                if file not in new:
                    check(self.root / file, digests[file], self.mend)
            if new:
                self.note({**digests, **new})
        if not new:
            return f"{count}, hashes as they should be"
        return f"{count}, hashes noted now" if len(new) == len(files) else f"{count}, hashes of {len(new)} noted now"


def digest(path: Path, like: str = "sha256:") -> str:
    """Hash of a file, of the kind that `like` is."""
    with path.open("rb") as file:
        if like.startswith("git:"):
            made = hashlib.sha1(f"blob {path.stat().st_size}\0".encode(), usedforsecurity=False)
            while block := file.read(1 << 20):
                made.update(block)
            return f"git:{made.hexdigest()}"
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"


def check(path: Path, wanted: str, mend: str) -> None:
    """Refuse a file that has another hash."""
    if (found := digest(path, wanted)) != wanted:
        kind = "git hash" if wanted.startswith("git:") else "SHA-256"
        raise InputError(path, f"its {kind} is {found.partition(':')[2]}, not {wanted.partition(':')[2]}", mend)
