"""Assets in one tar file, for machines that no network reaches."""

import io
import json
import os
import shutil
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from audioldm_lit.assets.asset import ROOMS, Asset, check
from audioldm_lit.assets.download import MB
from audioldm_lit.assets.registry import asset
from audioldm_lit.assets.sources import Download
from audioldm_lit.console.stages import Stage, track
from audioldm_lit.errors import InputError
from audioldm_lit.storage.atomic_write import atomic_write
from audioldm_lit.storage.plain_files import parse_json

MANIFEST = "manifest.json"  # the first member
FORMAT = "audioldm_lit assets 1"
LARGEST_MANIFEST = 10_000_000  # bytes


class Entry(NamedTuple):
    """A file of a bundle: whose it is, where it belongs below its room, its size in bytes and its hash."""

    asset: Asset
    file: str
    size: int
    digest: str


def write_bundle(assets: Sequence[Asset], out: Path) -> None:
    """Verify assets that are here and write them into one tar, with a manifest of sizes and hashes.

    Raises:
        InputError: If one is not here or damaged, or the tar cannot be written.
    """
    content: dict[str, Any] = {}
    for one in track(assets, "verifying", len(assets)):
        one.verify()
        digests = one.digests()
        files = {f"{one.room}/{file}": [(one.root / file).stat().st_size, digests[file]] for file in one.files()}
        content[one.name] = {"licence": one.licence, "files": files}
    manifest = json.dumps({"format": FORMAT, "assets": content}, indent=2).encode()
    paths = {f"{one.room}/{file}": one.root / file for one in assets for file in one.files()}
    with atomic_write(out) as unfinished, tarfile.open(unfinished, "w") as tar:
        tar.addfile(_member(MANIFEST, len(manifest)), io.BytesIO(manifest))
        for name, path in track(paths.items(), f"writing {out}, files", len(paths)):
            with path.open("rb") as file:
                tar.addfile(_member(name, path.stat().st_size), file)


def read_bundle(path: Path) -> list[str]:
    """Put the assets of a bundle where they belong, all of them or none.

    Every member must be a plain file that the manifest lists, at a place that belongs to its asset, and have the size and hash
    that stand there.

    Returns:
        The names of the assets.

    Raises:
        InputError: If it is no bundle, is damaged, or holds anything else; then nothing was written.
    """
    with _opened(path) as tar, ExitStack() as stack:
        plan = _plan(path, tar)
        _check_room(plan.values())
        folders = {room: Path(stack.enter_context(_workroom(room))) for room in {name.partition("/")[0] for name in plan}}
        _unpack(path, tar, plan, folders)
        for name, entry in plan.items():
            place = entry.asset.root / entry.file
            place.parent.mkdir(parents=True, exist_ok=True)
            os.replace(folders[entry.asset.room] / name, place)
    by_name = {entry.asset.name: entry.asset for entry in plan.values()}
    for one in by_name.values():
        one.adopt({entry.file: entry.digest for entry in plan.values() if entry.asset is one})
    return list(by_name)


def _member(name: str, size: int) -> tarfile.TarInfo:
    """A file of nobody and no time: equal assets make equal bundles."""
    member = tarfile.TarInfo(name)
    member.size = size
    return member


@contextmanager
def _opened(path: Path) -> Iterator[tarfile.TarFile]:
    mend = "copy it again, or bundle it again"
    try:
        with tarfile.open(path, "r:") as tar:
            yield tar
    except (tarfile.TarError, EOFError, ValueError) as error:  # Python's reader takes the numbers of its headers for numbers
        raise InputError(path, f"is no tar file, or is cut short ({error})", mend) from error
    except OSError as error:
        raise InputError(path, f"cannot be unpacked ({error})", "mend that and import it again") from error


def _plan(path: Path, tar: tarfile.TarFile) -> dict[str, Entry]:
    """The files that the manifest lists, by their names in the tar."""
    first = tar.next()
    if first is None or first.name != MANIFEST or not _is_plain(first) or first.size > LARGEST_MANIFEST:
        raise InputError(path, f"does not begin with a {MANIFEST}", "give a file that `assets bundle` wrote")
    file = tar.extractfile(first)
    assert file is not None
    try:
        content = parse_json(file.read())
        if content["format"] != FORMAT:
            raise ValueError(f"its format is {content['format']!r}, not {FORMAT!r}")
        listed = [
            (str(name), str(file), int(size), str(digest))
            for name, one in content["assets"].items()
            for file, (size, digest) in one["files"].items()
        ]
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        raise InputError(path, f"its {MANIFEST} cannot be read ({error})", "bundle it again with this version") from error
    assets = {name: asset(name) for name, *_ in listed}
    return {file: _entry(path, assets[name], file, size, digest) for name, file, size, digest in listed}


def _entry(path: Path, owner: Asset, name: str, size: int, digest: str) -> Entry:
    """An entry of the manifest, if its place belongs to its asset."""
    room, _, file = name.partition("/")
    if room != owner.room or not owner.owns(file) or {"", ".", ".."}.intersection(file.split("/")) or "\\" in file:
        raise InputError(path, f"puts {name!a} where nothing of {owner.name} belongs", "do not use it")
    if isinstance(owner, Download) and owner.sha256 and digest != f"sha256:{owner.sha256}":
        raise InputError(path, f"holds another {owner.name} than was published", "do not use it")
    return Entry(owner, file, size, digest)


def _check_room(entries: Any) -> None:
    for room, place in ROOMS.items():
        needed = sum(entry.size for entry in entries if entry.asset.room == room)
        if not needed:
            continue
        place().mkdir(parents=True, exist_ok=True)
        if needed > (free := shutil.disk_usage(place()).free):
            raise InputError(place(), f"needs {needed / MB:,.0f} MB more, and {free / MB:,.0f} MB are free", "make room")


@contextmanager
def _workroom(room: str) -> Iterator[str]:
    """A folder beside the place where files of a room belong, on the same disk."""
    with TemporaryDirectory(prefix="import-", dir=ROOMS[room]()) as folder:
        yield folder


def _unpack(path: Path, tar: tarfile.TarFile, plan: Mapping[str, Entry], folders: Mapping[str, Path]) -> None:
    """Unpack and check every member into the work rooms."""
    missing = set(plan)
    with Stage(f"unpacking {path}, files", len(plan)) as stage:
        while (member := tar.next()) is not None:
            if not _is_plain(member) or member.name not in missing or member.size != plan[member.name].size:
                problem = f"holds {member.name!a}, which is no file that its {MANIFEST} lists, of that size and once"
                raise InputError(path, problem, "do not use it")
            source, entry = tar.extractfile(member), plan[member.name]
            place = folders[entry.asset.room] / member.name
            place.parent.mkdir(parents=True, exist_ok=True)
            assert source is not None
            with place.open("wb") as file:
                shutil.copyfileobj(source, file, 1 << 20)
            check(place, entry.digest, f"{path} is damaged or not what it says, copy it again")
            missing.remove(member.name)
            stage.advance()
    if missing:
        raise InputError(path, f"lacks {min(missing)}, which its {MANIFEST} lists", "copy it again")


def _is_plain(member: tarfile.TarInfo) -> bool:
    return member.type in (tarfile.REGTYPE, tarfile.AREGTYPE)
