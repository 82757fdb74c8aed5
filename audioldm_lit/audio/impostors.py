"""What is saved under the name of a recording but is none."""

import re
from pathlib import Path

from audioldm_lit.errors import InputError

HEAD = 1024  # bytes that are looked at
AGAIN = "download it again"
IMPOSTORS = {  # how it begins, after spaces and marks; what it is; what to do
    rb"version https://git-lfs": ("is a pointer of Git LFS, not the recording itself", "fetch it with `git lfs pull`"),
    rb"(<!--.*?-->\s*)*<(!doctype\s+html|html|head|body)\b": ("is a web page", f"{AGAIN}; the page says why it was not given"),
    rb"<\?xml|<Error>": ("is XML, as servers answer with an error", AGAIN),
    rb"[{\[]\s*[\"{\[}\]]": ("is JSON, as servers answer with an error", AGAIN),
    rb"%PDF-": ("is a PDF", "remove it"),
    rb"PK\x03\x04|Rar!|7z\xbc\xaf|\x1f\x8b": ("is an archive", "unpack it"),
    rb"\xff\xd8\xff|\x89PNG|GIF8": ("is a picture", "remove it"),
}


def check_impostor(path: Path) -> None:
    """Refuse what is no recording by its first bytes, naming what it is.

    Raises:
        InputError: If it is a pointer of Git LFS, a web page, an answer of a server, a picture, a PDF or an archive.
    """
    head = first_bytes(path).removeprefix(b"\xef\xbb\xbf").lstrip()
    for begins, (what, mend) in IMPOSTORS.items():
        if re.match(begins, head, re.IGNORECASE | re.DOTALL):
            raise InputError(path, what, mend)


def first_bytes(path: Path) -> bytes:
    """What a file begins with."""
    with path.open("rb") as file:
        return file.read(HEAD)
