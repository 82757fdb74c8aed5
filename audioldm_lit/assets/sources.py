"""Where assets come from: the Hugging Face hub, an address, a wheel of the package index, or a page that a person must visit."""

import os
import pkgutil
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, unquote, urlsplit

from audioldm_lit.assets.asset import Asset, Digests, digest, fetching
from audioldm_lit.assets.download import MB, download, read_json
from audioldm_lit.console.stages import say
from audioldm_lit.errors import InputError
from audioldm_lit.storage.atomic_write import atomic_write
from audioldm_lit.storage.cache_folder import cache_folder
from audioldm_lit.storage.fetch import Wheel

PICKLED = re.compile(r"\.(bin|ckpt|pt|pth|h5|msgpack|ot)$|(\.bin\.index\.json)$")
HEARS = ("audio_encoder", "feature_extractor")  # parts that published AudioLDMs lack and `doctor --add_audio_tower` adds
HALF = re.compile(r"\.fp16(?=[.-])")


@dataclass(frozen=True, kw_only=True)
class HubModel(Asset):
    """A model of the Hugging Face hub, in the layout and place of huggingface_hub's own cache.

    Attributes:
        hub: Its id.
        only: Names of the files that are wanted; all where not given.
    """

    hub: str
    only: Sequence[str] = ()
    room = "hub"

    @property
    def repository(self) -> Path:
        """Its folder in the hub cache."""
        return self.root / f"models--{self.hub.replace('/', '--')}"

    def files(self) -> list[str]:
        """Of its newest snapshot those noted at its fetching, and an audio tower that was added; all, if others fetched it."""
        snapshot = newest_snapshot(self.repository)
        if snapshot is None:
            return []
        noted = [file for file in self.digests() if file.startswith(f"{snapshot.relative_to(self.root).as_posix()}/")]
        if noted:
            added = [path for part in HEARS for path in sorted((snapshot / part).rglob("*")) if path.is_file()]
            noted = list(dict.fromkeys([*noted, *(path.relative_to(self.root).as_posix() for path in added)]))
            return noted if all((self.root / file).is_file() for file in noted) else []
        found = sorted(snapshot.rglob("*"))
        if any(path.suffix == ".part" or (path.is_symlink() and not path.exists()) for path in found):
            return []
        return [path.relative_to(self.root).as_posix() for path in found if path.is_file()]

    def owns(self, file: str) -> bool:
        """All in its snapshots."""
        return file.startswith(f"{self.repository.name}/snapshots/")

    def fetch(self) -> None:
        """Get the files of its newest state, safetensors rather than pickles and full rather than half precision."""
        if self.is_whole():
            return
        if os.environ.get("HF_HUB_OFFLINE", "0").lower() in ("1", "on", "yes", "true"):
            raise InputError("HF_HUB_OFFLINE", "is set, so nothing is fetched", f"unset it for {fetching(self.name)}")
        hub = os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")
        commit, listed = _listing(self.hub, read_json(f"{hub}/api/models/{self.hub}/revision/main?blobs=true"))
        folder = self.repository / "snapshots" / commit
        chosen = {name: listed[name] for name in chosen_files(list(listed)) if name in self.only or not self.only}
        if not chosen:
            raise InputError(self.hub, "holds no file that is wanted", "look at its page on the hub")
        say(f"{self.hub}: {len(chosen)} files, {sum(size for size, _ in chosen.values()) / MB:,.0f} MB; {self.licence}")
        digests = {(folder / name).relative_to(self.root).as_posix(): hash_ for name, (_, hash_) in chosen.items()}
        self.note(digests)
        for name, (_, hash_) in chosen.items():
            if not (folder / name).is_file() or digest(folder / name, hash_) != hash_:
                download(f"{hub}/{self.hub}/resolve/{commit}/{quote(name)}", folder / name, hash_)
        self.adopt(digests)

    def adopt(self, digests: Digests) -> None:
        """Note the hashes, and that their snapshot is the newest: last, for what it names must be whole."""
        super().adopt(digests)
        with atomic_write(self.repository / "refs" / "main") as unfinished:
            unfinished.write_text(next(iter(digests)).split("/")[2], encoding="utf-8")


@dataclass(frozen=True, kw_only=True)
class Download(Asset):
    """A file at an address.

    Attributes:
        url: Address.
        file: Its name here, where that is not the one in the address.
        sha256: Its hash, where it was published.
    """

    url: str
    file: str = ""
    sha256: str = ""

    @property
    def path(self) -> Path:
        """Where it lies or will lie: browsers and wget may have kept the address's way to write a name (`%3D` for `=`)."""
        name = self.file or unquote(urlsplit(self.url).path.rpartition("/")[2])
        folder = cache_folder() / "weights"
        return next((folder / other for other in (name, quote(name)) if (folder / other).is_file()), folder / name)

    def files(self) -> list[str]:
        """The file."""
        return [self.path.relative_to(self.root).as_posix()] if self.path.is_file() else []

    def owns(self, file: str) -> bool:
        """Its name, in either way to write it."""
        return unquote(file) == unquote(self.path.relative_to(self.root).as_posix())

    def fetch(self) -> None:
        """Get the file; its hash is noted, or compared with what was published or noted before."""
        if self.is_whole():
            return
        name = self.path.relative_to(self.root).as_posix()
        wanted = f"sha256:{self.sha256}" if self.sha256 else self.digests().get(name)
        if wanted or not self.path.is_file():  # a file of which no hash is known is taken as it is
            say(f"{self.about}; {self.licence}")
            download(self.url, self.path, wanted)
        self.note({name: wanted or digest(self.path)})


@dataclass(frozen=True, kw_only=True)
class WheelContent(Asset):
    """What is taken out of a wheel of the package index.

    Attributes:
        wheel: Name and version for pip.
        sha256: Of the wheel.
        folder: Where what is taken lies, below the cache.
        lay_out: Dotted path of the function that takes it out of the open archive.
        way_out: What to do where it cannot be fetched.
    """

    wheel: str
    sha256: str
    folder: str
    lay_out: str
    way_out: str

    def source(self) -> Wheel:
        """The wheel."""
        return Wheel(self.wheel, self.sha256, self.about, self.licence, f"{self.megabytes} MB", self.way_out)

    def files(self) -> list[str]:
        """All in its folder, which appears whole or not at all."""
        found = (path for path in sorted((self.root / self.folder).rglob("*")) if path.is_file())
        return [path.relative_to(self.root).as_posix() for path in found]

    def owns(self, file: str) -> bool:
        """All in its folder."""
        return file.startswith(f"{self.folder}/")

    def fetch(self) -> None:
        """Get the wheel with pip and take out what is wanted."""
        lay_out: Any = pkgutil.resolve_name(self.lay_out)
        self.source().fetch(self.root / self.folder, lay_out)

    @property
    def mend(self) -> str:
        """Its folder is taken out of the wheel whole."""
        return f"remove {self.root / self.folder}, then {super().mend}"


@dataclass(frozen=True, kw_only=True)
class ByHand(Asset):
    """What no program may or can fetch.

    Attributes:
        page: Where people find it.
    """

    page: str
    state = "by hand"

    def files(self) -> list[str]:
        """None: it lies wherever its user put it."""
        return []

    def owns(self, file: str) -> bool:
        """None."""
        return False

    def fetch(self) -> None:
        """Say where to find it."""
        raise InputError(self.name, "is not fetched by this program", f"get it from {self.page}; {self.wanted} names where it lies")


def newest_snapshot(repository: Path) -> Path | None:
    """Of a model's folder in the hub cache the snapshot that `refs/main` names, or the only one; None where none is.

    A copied cache may have lost its refs, which are files of their own beside the snapshots.

    Raises:
        InputError: If there are several and nothing says which.
    """
    main = repository / "refs" / "main"
    if main.is_file() and (named := repository / "snapshots" / main.read_text(encoding="utf-8").strip()).is_dir():
        return named
    found = sorted(path for path in repository.glob("snapshots/*") if path.is_dir())
    if len(found) > 1:
        names = ", ".join(path.name for path in found)
        raise InputError(repository, f"has several snapshots ({names}) and no refs/main", "give the folder of one")
    return found[0] if found else None


def chosen_files(names: list[str]) -> list[str]:
    """Of a model's files those that are needed: no pickle where its folder has safetensors, no half precision beside full."""
    safe = {name.rpartition("/")[0] for name in names if name.endswith(".safetensors") and not HALF.search(name)}
    full = {HALF.sub("", name) for name in names if not HALF.search(name)}
    pickled = {name for name in names if PICKLED.search(name) and name.rpartition("/")[0] in safe}
    halved = {name for name in names if HALF.search(name) and HALF.sub("", name) in full}
    return [name for name in names if name not in pickled | halved]


def _listing(hub: str, content: Any) -> tuple[str, dict[str, tuple[int, str]]]:
    """Commit, and size and hash of every file, as the hub's interface tells them."""
    try:
        files = {
            one["rfilename"]: (one["size"], f"sha256:{one['lfs']['sha256']}" if one.get("lfs") else f"git:{one['blobId']}")
            for one in content["siblings"]
        }
        if not re.fullmatch(r"\w+", content["sha"]) or any({"", ".."}.intersection(name.split("/")) for name in files):
            raise ValueError("a name leads out of the model's folder")
        return content["sha"], {name: facts for name, facts in files.items() if not name.startswith(".")}
    except (LookupError, TypeError, ValueError) as error:
        raise InputError(hub, f"the hub does not list its files ({error!r})", "try later") from error
