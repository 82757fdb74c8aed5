"""Downloads that go on where they broke off: the only connections of this package beside pip's."""

import errno
import http.client
import os
import shutil
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, NoReturn

from filelock import FileLock, Timeout

from audioldm_lit import __version__
from audioldm_lit.assets.asset import check
from audioldm_lit.console.stages import Stage
from audioldm_lit.errors import InputError
from audioldm_lit.storage.plain_files import parse_json

BLOCK = 1 << 20  # bytes
MB = 1_000_000
PATIENCE = 30.0  # seconds without an answer
AGAIN = "run the same command again, it goes on from there"
CARRY = "connect this machine, or carry it here: `assets bundle` on one that is connected, `assets import` on this one"
UNREACHABLE = (urllib.error.URLError, http.client.HTTPException, OSError)


def download(url: str, path: Path, digest: str | None) -> None:
    """Fetch a file; what came before the connection broke off is kept beside it as `.part` and not fetched again.

    Args:
        url: Where it is.
        path: Appears whole and verified or not at all.
        digest: Its hash, see `assets.asset.digest`; None where it is not known.

    Raises:
        InputError: If it cannot be reached, breaks off, is a web page, does not fit onto the disk, or has another hash.
    """
    part = path.with_name(f"{path.name}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{part}.lock", timeout=0):
            _receive(url, part, same_version=digest is None)
            if digest is not None:
                _check(url, part, digest)
            os.replace(part, path)
    except Timeout as error:
        raise InputError(path, "is being fetched by another process", "wait for it") from error
    except OSError as error:
        raise InputError(path, f"cannot be written ({error.strerror})", f"mend that and {AGAIN}") from error
    for rest in (Path(f"{part}.lock"), _mark(part)):
        rest.unlink(missing_ok=True)


def read_json(url: str) -> Any:
    """The content of an address that answers in JSON.

    Raises:
        InputError: If it cannot be reached or answers in something else.
    """
    try:
        with _opened(url) as answer:
            return parse_json(answer.read())
    except ValueError as error:
        problem = "answers with something else than was asked, perhaps a proxy's page"
        raise InputError(url, problem, f"open it in a browser; {CARRY}") from error
    except UNREACHABLE as error:
        _unreachable(url, error)


def _receive(url: str, part: Path, same_version: bool) -> None:
    """Add to the part what is missing of it; with `same_version` only to one of the same version, where no hash will tell."""
    have = part.stat().st_size if part.is_file() else 0
    try:
        answer = _opened(url, have, _mark(part) if same_version else None)
    except urllib.error.HTTPError as error:
        if error.code != http.client.REQUESTED_RANGE_NOT_SATISFIABLE:
            _unreachable(url, error)
        if error.headers["Content-Range"] != f"bytes */{have}":  # it is none of this file
            part.unlink()
            _receive(url, part, same_version)
        return
    except UNREACHABLE as error:
        _unreachable(url, error)
    with answer:
        have = have if answer.status == http.client.PARTIAL_CONTENT else 0
        total = have + int(answer.headers["Content-Length"]) if answer.headers["Content-Length"] else None
        first = _first_block(url, answer)
        _check_room(part, total, have)
        _mark(part).write_text(answer.headers["ETag"] or "", encoding="utf-8")
        with part.open("ab" if have else "wb", buffering=0) as file, Stage(f"fetching {part.stem}, MB") as stage:
            block = first
            while block:
                _write(file, block, part, have)
                have += len(block)
                stage.count(have // MB, (total or have) // MB)
                block = _next_block(url, answer, have)
    if total is not None and have < total:
        raise InputError(url, f"broke off after {have / MB:.1f} of {total / MB:.1f} MB", AGAIN)


def _opened(url: str, have: int = 0, mark: Path | None = None) -> http.client.HTTPResponse:
    headers = {"User-Agent": f"audioldm_lit/{__version__}"}
    if have:
        headers["Range"] = f"bytes={have}-"
        if mark is not None and mark.is_file() and (etag := mark.read_text(encoding="utf-8")):
            headers["If-Range"] = etag  # of another file nothing is added: it comes whole
    answer: http.client.HTTPResponse = urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=PATIENCE)
    return answer


def _mark(part: Path) -> Path:
    """The file that says of which version the part is."""
    return part.with_name(f"{part.name}.etag")


def _first_block(url: str, answer: http.client.HTTPResponse) -> bytes:
    first = _next_block(url, answer, 0)
    page = first.lstrip()[:14].lower().startswith((b"<!doctype html", b"<html"))
    if page or answer.headers.get_content_type() == "text/html":
        raise InputError(url, "answers with a web page, perhaps a proxy's, not the file", f"open it in a browser; {CARRY}")
    return first


def _next_block(url: str, answer: http.client.HTTPResponse, have: int) -> bytes:
    try:
        return answer.read(BLOCK)
    except UNREACHABLE as error:
        raise InputError(url, f"broke off after {have / MB:.1f} MB ({error})", AGAIN) from error


def _check_room(part: Path, total: int | None, have: int) -> None:
    free = shutil.disk_usage(part.parent).free
    if total is not None and total - have > free:
        problem = f"needs {(total - have) / MB:,.0f} MB more, and {free / MB:,.0f} MB are free"
        raise InputError(part.with_suffix(""), problem, f"make room, or set XDG_CACHE_HOME to another disk, and {AGAIN}")


def _write(file: Any, block: bytes, part: Path, have: int) -> None:
    try:
        file.write(block)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise InputError(part.with_suffix(""), f"the disk is full after {have / MB:.1f} MB", f"make room and {AGAIN}") from error


def _check(url: str, part: Path, digest: str) -> None:
    try:
        check(part, digest, f"it was removed; run the same command again, and if it stays so do not use {url}")
    except InputError:
        part.unlink()
        _mark(part).unlink(missing_ok=True)
        raise


def _unreachable(url: str, error: Exception) -> NoReturn:
    if isinstance(error, urllib.error.HTTPError):
        raise InputError(url, f"the server answers {error.code} {error.reason}", f"try later or in a browser; {CARRY}") from error
    raise InputError(url, f"cannot be reached ({getattr(error, 'reason', error)})", CARRY) from error
