"""Broken data sets of many kinds: each is one sentence with file and line, or is merely odd and read right.

`KINDS` lists them all. What is refused ends in an `InputError`; a part of the list also goes through the real command line.
"""

import codecs
import csv
import json
import os
import re
import shutil
import signal
import socket
import struct
import tempfile
import time
import tracemalloc
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from audioldm_lit.data.audiocaps import AudioCaps
from audioldm_lit.data.audioset import AudioSet
from audioldm_lit.data.base import AudioDataModule
from audioldm_lit.data.dcase_foley import DCASEFoley
from audioldm_lit.data.esc50 import ESC50
from audioldm_lit.data.folder import Folder
from audioldm_lit.data.urbansound8k import UrbanSound8K
from audioldm_lit.errors import InputError

import layouts
from runs import REPOSITORY, arguments, run_folder

SECONDS = 30  # after which a kind counts as hanging
SPLITS = ("train", "val")

Write = Callable[[Path], Any]


@dataclass(frozen=True)
class Kind:
    """One way in which a data set can be broken or odd.

    Attributes:
        write: Writes it into an empty folder.
        message: What the refusal says, as a regular expression; empty where the data set is merely odd.
        captions: Of an odd one: the caption of every clip that trains or validates, by id; empty where it does not matter.
        module: What reads it.
        options: Further init_args; `table` lies in the root.
    """

    write: Write
    message: str = ""
    captions: dict[str, str] = field(default_factory=dict)
    module: type[AudioDataModule] = Folder
    options: dict[str, Any] = field(default_factory=dict)

    def data(self, root: Path) -> AudioDataModule:
        options = {name: root / value if name == "table" else value for name, value in self.options.items()}
        return self.module(root, duration=0.32, **options)


# ---------------------------------------------------------------- tables beside good clips

TABLE = "file,caption,label,source,split"
GOOD = ("b.wav,wind,,,train", "c.wav,rain,,,val")


def clips(root: Path) -> None:
    """Four good clips, a.wav to d.wav."""
    for seed, name in enumerate("abcd"):
        layouts.tone(root / f"{name}.wav", 440, seed=seed)


def raw(content: bytes, name: str = "metadata.csv") -> Write:
    """A table of these bytes beside four good clips."""
    return lambda root: (clips(root), (root / name).write_bytes(content))


def table(*lines: str, header: str = TABLE) -> Write:
    """A metadata.csv of these lines."""
    return raw("\n".join([header, *lines, ""]).encode("utf-8", "surrogateescape"))


def jsonl(*rows: Any) -> Write:
    """A metadata.jsonl of these rows; text stands as it is."""
    return raw("\n".join(row if isinstance(row, str) else json.dumps(row) for row in rows).encode(), "metadata.jsonl")


def row(file: str = "a.wav", caption: Any = "a dog", split: str = "train", **more: Any) -> dict[str, Any]:
    return {"file": file, "caption": caption, "split": split, **more}


def together(*writes: Write) -> Write:
    """Do one after the other."""
    return lambda root: [write(root) for write in writes]


def linked_root(root: Path) -> None:
    """The root is a link; the table names the real place."""
    real = root.with_name("real")
    clips(real)
    (real / "metadata.csv").write_text("\n".join([TABLE, f"{real}/a.wav,a dog,,,train", GOOD[1], ""]))
    root.rmdir()
    root.symlink_to(real)


def named(name: str) -> Kind:
    """A clip of this name, which a table lists in CSV quotes."""
    quoted = '"' + name.replace('"', '""') + '"'
    write = together(table(f"{quoted},a dog,,,train", GOOD[1]), lambda root: layouts.tone(root / name, 440))
    return Kind(write, captions={name: "a dog", "c.wav": "rain"})


def link(name: str, target: str) -> Write:
    def write(root: Path) -> None:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).symlink_to(target)

    return write


TABLES = {
    # the header
    "table: nothing": Kind(raw(b""), "metadata.csv, line 1: lacks the columns file, caption; name them"),
    "table: a BOM alone": Kind(raw(codecs.BOM_UTF8), "metadata.csv, line 1: lacks the columns file, caption; name them"),
    "table: header alone": Kind(table(), "metadata.csv: lists no clip; add a line"),
    "table: blank lines alone": Kind(table("", ",,,,"), "metadata.csv: lists no clip"),
    "table: no header": Kind(raw(b"a.wav,dog\nb.wav,cat\n"), "line 1: lacks the columns file, caption"),
    "table: no caption column": Kind(table("a.wav,CC0", header="file,licence"), "metadata.csv, line 1: lacks the columns caption"),
    "table: a column twice": Kind(
        table("a.wav,dog,cat", header="file,caption,caption"), "line 1: names the column 'caption' twice; rename or remove"
    ),
    "table: a column twice, one missing": Kind(
        table("a.wav,b.wav", header="file,file"), "line 1: names the column 'file' twice and lacks the columns caption"
    ),
    "table: Excel's sep=;": Kind(table("file;caption", "a.wav;dog", header="sep=;"), "line 1: is separated by semicolons; save"),
    "table: Excel's sep=,": Kind(table("file,caption", "a.wav,dog", header="sep=,"), "line 1: lacks the columns file, caption"),
    # the encoding
    "table: UTF-16 without BOM": Kind(raw("file,caption\na.wav,x\n".encode("utf-16-le")), "line 1: lacks the columns"),
    "table: Latin-1": Kind(table("a.wav,Gr\udce4user,,,train"), "metadata.csv: is not UTF-8"),
    "table: NUL in a caption": Kind(table("a.wav,a\0dog,,,train"), r"line 2: its 'caption' holds '\\x00', which is no text; save"),
    "table: NUL in a name": Kind(table("a\0.wav,a dog,,,train"), r"line 2: the name 'a\\x00\.wav' holds a line break or another"),
    "table: NUL bytes alone": Kind(raw(b"\0" * 5000), "line 1: lacks the columns file, caption"),
    "table: an escape code in a label": Kind(table("a.wav,a dog,\x1b[31mred,,train"), r"line 2: its 'label' holds '\\x1b'"),
    "table: a ZIP, as Excel writes": Kind(raw(b"PK\x03\x04\x14\0\x06\0\x08\0\0\0!\0\xb5\x89"), "metadata.csv: is not UTF-8"),
    # the lines
    "table: open quote": Kind(
        table(GOOD[1], 'a.wav,"a dog,,,train', GOOD[0]), r"metadata.csv, line 3: is no readable CSV \(unexpected end.*\); close"
    ),
    "table: letters behind a quote": Kind(table('a.wav,"a" dog,,,train'), "metadata.csv, line 2: is no readable CSV"),
    "table: open quote in the header": Kind(table(*GOOD, header='"file,caption'), "metadata.csv, line 1: is no readable CSV"),
    "table: a field of 200 kB": Kind(table(GOOD[0], f"a.wav,{'x' * 200_000},,,train"), r"line 3: is no readable CSV \(field"),
    "table: a line of 3 MB": Kind(table(f"a.wav,{'x,' * 1_500_000}"), "line 2: is longer than 1,048,576 letters; break it"),
    "table: comma in a caption": Kind(table("a.wav,dogs, many,l,s,train"), "line 2: has more values than columns; put"),
    "table: short line": Kind(table("a.wav"), "line 2: split is ''; write train"),
    "table: unknown split": Kind(table("a.wav,x,,,valid"), "line 2: split is 'valid'; write train, val or test"),
    "table: no split": Kind(table("a.wav,x"), "line 2: split is ''"),
    "table: a source in two splits": Kind(
        table("a.wav,x,,s,train", "b.wav,x,,s,val"), "line 3: source 's' is in both train and val; keep it in one split"
    ),
    "table: nothing to train": Kind(table("a.wav,x,,,val"), "root: the train split is empty; add"),
    "table: nothing to validate": Kind(table("a.wav,x,,,train"), "the val split is empty"),
    # captions
    "table: no caption": Kind(table("a.wav,x,,,val", "b.wav,,,,train"), "line 3: the caption of 'b.wav' is empty; write one"),
    "table: a caption of spaces": Kind(table('a.wav,"  \u3000 ",,,train', GOOD[1]), "line 2: the caption of 'a.wav' is empty"),
    "table: a caption of a BOM": Kind(table("a.wav,\ufeff,,,train", GOOD[1]), "line 2: the caption of 'a.wav' is empty"),
    "table: a caption of marks": Kind(table("a.wav,\u200f\u200b...,,,train", GOOD[1]), "line 2: the caption of 'a.wav' is empty"),
    "table: a caption of control marks": Kind(table("a.wav,\1\2,,,train", GOOD[1]), r"line 2: its 'caption' holds '\\x01'"),
    # ids and paths
    "table: no file": Kind(table(",a dog,,,train"), "metadata.csv, line 2: names no file; write one"),
    "table: the folder for a file": Kind(table(".,a dog,,,train"), "line 2: names no file"),
    "table: the same clip twice": Kind(table("a.wav,x,,,train", "./a.wav,y,,,val"), "line 3: 'a.wav' is listed twice; keep"),
    "table: an id twice": Kind(
        table("1,a.wav,x,train", "1,b.wav,y,val", header="id,file,caption,split"), "line 3: '1' is listed twice"
    ),
    "table: an id that is another's file": Kind(
        table(",a.wav,x,train", "a.wav,b.wav,y,val", header="id,file,caption,split"), "line 3: 'a.wav' is listed twice"
    ),
    "table: missing audio": Kind(table("no.wav,x,,,train", *GOOD), r"line 2: .*no\.wav: no such audio file; correct"),
    "table: leaves the folder": Kind(table("../a.wav,x,,,train"), r"line 2: '\.\./a\.wav' lies outside .*; move"),
    "table: leaves the folder cunningly": Kind(table("a/../../root2/a.wav,x,,,train"), "line 2: .* lies outside"),
    "table: leaves the folder from a link": Kind(
        together(table("l/../../x.wav,x,,,train"), link("l", "/tmp")), "line 2: .* lies outside", options={"follow_links": True}
    ),
    "table: elsewhere": Kind(table("/etc/passwd,x,,,train"), "line 2: '/etc/passwd' lies outside"),
    "table: a device": Kind(table("/dev/zero,x,,,train"), "line 2: '/dev/zero' lies outside"),
    "table: a link to a device": Kind(
        together(table("zero.wav,x,,,train", *GOOD), link("zero.wav", "/dev/zero")), r"line 2: .*zero\.wav: is no regular file"
    ),
    "table: two slashes": Kind(table("//etc//passwd,x,,,train"), "line 2: .* lies outside"),
    "table: tilde": Kind(table("~root/a.wav,x,,,train", GOOD[1]), r"line 2: .*~root/a\.wav: no such audio file"),
    "table: a path in Windows' spelling": Kind(table("..\\a.wav,x,,,train", GOOD[1]), r"line 2: .*root/\.\.\\a\.wav: no such"),
    "table: a path in URL spelling": Kind(table("%2e%2e%2fa.wav,x,,,train", GOOD[1]), "line 2: .*root/%2e%2e%2fa.wav: no such"),
    "table: a URL": Kind(table("https://a.org/a.wav,x,,,train", GOOD[1]), "line 2: .*https:/a.org/a.wav: no such"),
    "table: a line break in a name": Kind(table('"a\n.wav",x,,,train'), r"line 3: the name 'a\\n\.wav' holds a line break"),
    "table: a name of 300 letters": Kind(table(f"{'x' * 300}.wav,x,,,train"), "line 2: the name 'x*...' is longer than 255 bytes"),
    "table: a path of 5,000 letters": Kind(table(f"{'x/' * 2500}a.wav,x,,,train"), "line 2: the path .* is longer than 4095 bytes"),
    "table: a file for a folder": Kind(table("a.wav/b.wav,x,,,train", GOOD[1]), r"line 2: .*b\.wav: no audio file can be reached"),
    "table: a folder for a file": Kind(
        together(table("x.wav,x,,,train", *GOOD), lambda root: (root / "x.wav").mkdir()), r"line 2: .*x\.wav: is a folder; correct"
    ),
    # the table itself
    "two tables": Kind(together(table(*GOOD), jsonl(row())), r"metadata\.jsonl: stands beside metadata\.csv; keep one"),
    "a given table that is missing": Kind(table(), r"list\.csv: no such file; set data\.init_args", options={"table": "list.csv"}),
    "a given table that is a folder": Kind(
        lambda root: (root / "list.csv").mkdir(), r"list\.csv: is a folder; ", options={"table": "list.csv"}
    ),
    "a given table that is a broken link": Kind(
        link("list.csv", "gone"), r"list\.csv: is a link to nothing; ", options={"table": "list.csv"}
    ),
    "a given table that is a recording": Kind(clips, r"a\.wav: is not UTF-8|a\.wav, line 1", options={"table": "a.wav"}),
    "a table that is a broken link": Kind(together(clips, link("metadata.csv", "gone")), r"metadata\.csv: is a link to nothing; "),
    "a table that is a link to itself": Kind(
        together(clips, link("metadata.csv", "metadata.csv")), r"metadata\.csv: no file can be reached there \(Too many levels"
    ),
    "a table that is a folder": Kind(
        together(clips, lambda root: (root / "metadata.csv").mkdir()), r"metadata\.csv: is a folder; "
    ),
    "a table that is a pipe": Kind(together(clips, lambda root: os.mkfifo(root / "metadata.csv")), r"metadata\.csv: is no regular"),
    # JSON lines
    "JSON: nothing": Kind(jsonl(), r"metadata\.jsonl: lists no clip"),
    "JSON: none": Kind(jsonl(row(), "file: b.wav"), r"metadata\.jsonl, line 2: is no JSON \(.*\); write one object a line"),
    "JSON: an object over several lines": Kind(jsonl(json.dumps(row(), indent=1)), "line 1: is no JSON"),
    "JSON: one list of all": Kind(jsonl([row(), row("b.wav")]), "line 1: is no flat JSON object; write"),
    "JSON: a number": Kind(jsonl(row(), "5"), "line 2: is no flat JSON object"),
    "JSON: a value in a value": Kind(jsonl(row(caption=["a", "b"])), "line 1: is no flat JSON object"),
    "JSON: brackets without end": Kind(jsonl("[" * 100_000), "line 1: is no JSON"),
    "JSON: a missing name": Kind(jsonl({"file": "a.wav"}), "line 1: lacks caption; say them in every line"),
    "JSON: a name twice": Kind(
        jsonl('{"file": "a.wav", "caption": "x", "caption": "y"}'), r"line 1: is no JSON \(a name comes twice\); write"
    ),
    "JSON: null for a caption": Kind(jsonl(row(), row("b.wav", None)), "line 2: the caption of 'b.wav' is empty"),
    "JSON: NaN for a caption": Kind(jsonl(row(caption=float("nan"))), r"line 1: is no JSON \(NaN is no number"),
    "JSON: a split in some lines": Kind(
        jsonl({"file": "a.wav", "caption": "x"}, row("b.wav")), "line 2: says a split, unlike the lines before; say it in all"
    ),
    "JSON: no split in some lines": Kind(
        jsonl(row(), {"file": "b.wav", "caption": "x"}), "line 2: says no split, unlike the lines before; say it in all"
    ),
    "JSON: an id twice": Kind(jsonl(row(id=1), row("b.wav", id="1")), "line 2: '1' is listed twice"),
    "JSON: half a letter": Kind(jsonl(row(caption="a \ud83d dog")), r"line 1: its 'caption' holds '\\ud83d'"),
    "JSON: half a letter in a name": Kind(jsonl(row("\udc15.wav")), r"line 1: the name '\\udc15\.wav' is not UTF-8"),
    "JSON: a line of 3 MB": Kind(jsonl(row(caption="x" * 3_000_000)), "line 1: is longer than 1,048,576 letters"),
    "JSON: a BOM in every line": Kind(jsonl(row(), "\ufeff" + json.dumps(row("b.wav"))), "line 2: is no JSON"),
    "JSON: CSV in it": Kind(jsonl(TABLE, *GOOD), "line 1: is no JSON"),
    # odd, but right
    "odd: a BOM": Kind(
        raw(codecs.BOM_UTF8 + f"{TABLE}\na.wav,a dog,,,train\n{GOOD[1]}".encode()), captions={"a.wav": "a dog", "c.wav": "rain"}
    ),
    "odd: Windows' line ends": Kind(
        raw(f"{TABLE}\r\na.wav,a dog,,,train\r\n{GOOD[1]}\r\n".encode()), captions={"a.wav": "a dog", "c.wav": "rain"}
    ),
    "odd: old Macintosh line ends": Kind(
        raw(f"{TABLE}\ra.wav,a dog,,,train\r{GOOD[1]}\r".encode()), captions={"a.wav": "a dog", "c.wav": "rain"}
    ),
    "odd: everything in quotes": Kind(
        table('"a.wav","a dog, ""big""","","","train"', GOOD[1], header='"file","caption","label","source","split"'),
        captions={"a.wav": 'a dog, "big"', "c.wav": "rain"},
    ),
    "odd: line breaks in a caption": Kind(
        table('a.wav,"a dog\r\n  barks\n\nloudly",,,train', GOOD[1]), captions={"a.wav": "a dog barks loudly", "c.wav": "rain"}
    ),
    "odd: a right-to-left caption": Kind(
        table("a.wav,\u200f\u05db\u05dc\u05d1 \u05e0\u05d5\u05d1\u05d7,,,train", GOOD[1]),
        captions={"a.wav": "\u200f\u05db\u05dc\u05d1 \u05e0\u05d5\u05d1\u05d7", "c.wav": "rain"},
    ),
    "odd: a caption of 10,000 words": Kind(
        table(f"a.wav,{'dog ' * 10_000},,,train", GOOD[1]), captions={"a.wav": ("dog " * 10_000).strip(), "c.wav": "rain"}
    ),
    "odd: ids that differ in case": Kind(
        table("x,a.wav,a dog,train", "X,b.wav,a cat,train", ",c.wav,rain,val", header="id,file,caption,split"),
        captions={"x": "a dog", "X": "a cat", "c.wav": "rain"},
    ),
    "odd: two captions of one file": Kind(
        table("1,a.wav,a dog,train", "2,a.wav,a hound,train", ",c.wav,rain,val", header="id,file,caption,split"),
        captions={"1": "a dog", "2": "a hound", "c.wav": "rain"},
    ),
    "odd: a path through ..": Kind(table("x/../a.wav,a dog,,,train", GOOD[1]), captions={"a.wav": "a dog", "c.wav": "rain"}),
    "odd: absolute paths inside": Kind(
        lambda root: table(f"{root}/a.wav,a dog,,,train", GOOD[1])(root), captions={"a.wav": "a dog", "c.wav": "rain"}
    ),
    "odd: absolute paths inside a linked root": Kind(linked_root, captions={"a.wav": "a dog", "c.wav": "rain"}),
    "odd: a linked file": Kind(
        together(
            table("l.wav,a dog,,,train", GOOD[1]), lambda root: layouts.tone(root.with_name("elsewhere.wav"), 440),
            link("l.wav", "../elsewhere.wav")
        ), captions={"l.wav": "a dog", "c.wav": "rain"}, options={"follow_links": True},
    ),
    "odd: columns nobody asked for": Kind(
        table("a.wav,a dog,CC0,train,,", "c.wav,rain,CC0,val,,", header="file,caption,licence,split,,"),
        captions={"a.wav": "a dog", "c.wav": "rain"},
    ),
    "odd: a given table of another name": Kind(
        raw(f"{TABLE}\na.wav,a dog,,,train\n{GOOD[1]}\n".encode(), "list.txt"), options={"table": "list.txt"},
        captions={"a.wav": "a dog", "c.wav": "rain"},
    ),
    "odd: JSON with a BOM": Kind(
        raw(codecs.BOM_UTF8 + f"{json.dumps(row())}\n\n{json.dumps(row('c.wav', 'rain', 'val'))}".encode(), "metadata.jsonl"),
        captions={"a.wav": "a dog", "c.wav": "rain"},
    ),
    "odd: JSON with a number for a caption": Kind(
        jsonl(row(caption=808), row("c.wav", "rain", "val")), captions={"a.wav": "808", "c.wav": "rain"}
    ),
    "odd: a name in NFC": named("\u00e9t\u00e9.wav"),
    "odd: a name in NFD": named(unicodedata.normalize("NFD", "\u00e9t\u00e9.wav")),
    "odd: a name in Japanese": named("\u72ac\u306e\u9cf4\u304d\u58f0.wav"),
    "odd: a name in Arabic": named("\u0643\u0644\u0628.wav"),
    "odd: an emoji for a name": named("\U0001f415\u200d\U0001f9ba.wav"),
    "odd: a name with spaces": named("a  big dog .wav"),
    "odd: a name with quotes": named("a \"big\" 'dog'.wav"),
    "odd: a name with percent signs": named("100%s %(x)s %2e.wav"),
    "odd: a name with braces": named("{label} [bold] $HOME `ls`.wav"),
    "odd: a name with a backslash": named("..\\a.wav"),
    "odd: a name with a leading dash": named("-rf.wav"),
    "odd: a name with a leading dot": named(".a.wav"),
    "odd: a name with a comma": named("a,b;c#d.wav"),
    "odd: a name of 200 letters": named(196 * "x" + ".wav"),
    "odd: a name of 250 bytes": named(82 * "\u72ac" + ".wav"),
    "odd: columns in capitals": Kind(
        table("a.wav,a dog,train", "c.wav,rain,val", header="File,CAPTION,Split"), captions={"a.wav": "a dog", "c.wav": "rain"}
    ),
    "odd: semicolons": Kind(
        table("a.wav;a dog, far away;train", "c.wav;rain;val", header="file;caption;split"),
        captions={"a.wav": "a dog, far away", "c.wav": "rain"},
    ),
    "odd: tabs": Kind(
        table("a.wav\ta dog\ttrain", "c.wav\train\tval", header="file\tcaption\tsplit"),
        captions={"a.wav": "a dog", "c.wav": "rain"},
    ),
    "odd: UTF-16": Kind(
        raw(f"{TABLE}\na.wav,\u72ac,,,train\n{GOOD[1]}\n".encode("utf-16")), captions={"a.wav": "\u72ac", "c.wav": "rain"}
    ),
    "odd: NFC for a name in NFD": Kind(
        together(table("\u00e9.wav,x,,,train", GOOD[1]), lambda root: layouts.tone(root / "e\u0301.wav", 440)),
        captions={"e\u0301.wav": "x", "c.wav": "rain"},
    ),
    "odd: narrow letters for a name in wide ones": Kind(
        together(
            table("DOG\uff71.wav,x,,,train", GOOD[1]), lambda root: layouts.tone(root / "\uff24\uff2f\uff27\u30a2.wav", 440)
        ), captions={"\uff24\uff2f\uff27\u30a2.wav": "x", "c.wav": "rain"},
    ),
    "odd: a suffix that is not audio's": Kind(
        together(table("x.bin,a dog,,,train", GOOD[1]), lambda root: shutil.copy(root / "a.wav", root / "x.bin")),
        captions={"x.bin": "a dog", "c.wav": "rain"},
    ),
}  # fmt: skip


# ---------------------------------------------------------------- recordings


def recorded(name: str, content: bytes | Write) -> Write:
    """A table whose third line lists this recording."""

    def write(root: Path) -> None:
        table(GOOD[1], f"{name},a dog,,,train")(root)
        if isinstance(content, bytes):
            (root / name).write_bytes(content)
        else:
            content(root / name)

    return write


def encoded(suffix: str, rate: int = 16_000, channels: int = 1, length: int = 32_000, **options: str) -> bytes:
    """A good recording of two seconds in a format."""
    samples = 0.2 * np.random.default_rng(0).standard_normal((length, channels)).clip(-1, 1)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, f"x.{suffix}")
        soundfile.write(path, samples, rate, **options)
        return path.read_bytes()


def refused(name: str, content: bytes | Write, message: str) -> Kind:
    return Kind(recorded(name, content), rf"metadata\.csv, line 3: .*{re.escape(name)}: {message}")


def accepted(name: str, content: bytes | Write) -> Kind:
    return Kind(recorded(name, content), captions={name: "a dog", "c.wav": "rain"})


def cut(suffix: str, share: float, **options: str) -> bytes:
    content = encoded(suffix, **options)
    return content[: int(share * len(content))]


def wav(
    rate: int = 16_000,
    channels: int = 1,
    bits: int = 16,
    kind: int = 1,
    data: bytes = b"\0\1\0\xff" * 4000,
    size: int | None = None,
) -> bytes:
    """A WAV whose header says what it is told to."""
    frame = channels * bits // 8
    head = struct.pack("<4sI4s4sIHHIIHH", b"RIFF", 36 + len(data), b"WAVE", b"fmt ", 16, kind, channels, rate,
                       rate * frame % 2**32, frame, bits)  # fmt: skip
    return head + struct.pack("<4sI", b"data", len(data) if size is None else size) + data


def long(hours: float, rate: int, bits: int) -> Write:
    """A WAV of hours that takes no room on the disk."""

    def write(path: Path) -> None:
        size = int(hours * 3600 * rate * bits // 8)
        path.write_bytes(wav(rate, bits=bits, data=b"", size=size))
        os.truncate(path, 44 + size)

    return write


def floats(*values: float) -> Write:
    return lambda path: soundfile.write(path, np.resize(np.array(values), (8000, 2)), 16_000, subtype="FLOAT")


def flac_of(frames: int) -> bytes:
    """A FLAC of 32,000 samples whose header says another number of them; 0 stands for unknown, as a pipe leaves it."""
    content = bytearray(encoded("flac"))
    content[21] = content[21] & 0xF0 | frames >> 32
    content[22:26] = (frames % 2**32).to_bytes(4, "big")
    return bytes(content)


def damaged(suffix: str, start: float, **options: str) -> bytes:
    """A recording with 200 bytes of rubbish in it."""
    content = bytearray(encoded(suffix, **options))
    place = int(start * len(content))
    content[place : place + 200] = np.random.default_rng(1).integers(0, 256, 200, dtype=np.uint8).tobytes()
    return bytes(content)


def listening(path: Path) -> None:
    """A socket; its address may only be short."""
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX) as server:
        server.bind(f"{folder}/s")
        os.rename(f"{folder}/s", path)


JPEG = b"\xff\xd8\xff\xe0\0\x10JFIF\0\1\1\0\0\1\0\1\0\0" + np.random.default_rng(2).bytes(100_000).replace(b"\xff", b"\xff\0")

RECORDINGS = {
    "audio: no bytes": refused("x.wav", b"", r"is empty \(0 bytes\); copy it again"),
    "audio: text": refused("x.wav", b"hello", "cannot be read as audio .*; remove it or convert"),
    "audio: a web page": refused("x.mp3", b"<!DOCTYPE html><html>not found</html>\n" * 50, "is a web page; download it again"),
    "audio: a JPEG": refused("x.mp3", JPEG, "is a picture; remove it"),
    "audio: a JPEG for a WAV": refused("x.wav", JPEG, "is a picture"),
    "audio: zeros": refused("x.wav", b"\0" * 10_000, "cannot be read as audio"),
    "audio: zeros for an MP3": refused("x.mp3", b"\0" * 100_000, "cannot be read as audio"),
    "audio: a pointer of Git LFS": refused(
        "x.flac", b"version https://git-lfs.github.com/spec/v1\n", "is a pointer of Git LFS, .*; fetch it with `git lfs pull`"
    ),
    "audio: a server's JSON": refused("x.wav", b'{"error": "no such file"}', "is JSON, as servers .*; download it again"),
    "audio: silence": refused("x.wav", wav(data=bytes(3200)), "is silent: .*; record it again, or leave it out, as prepare"),
    "audio: an offset alone": refused("x.wav", wav(data=b"\0\1" * 8000), "is silent: "),
    "audio: one sample": refused("x.wav", wav(data=b"\0\1"), "is silent: "),
    "audio: raw samples": refused("x.raw", b"\0\1" * 8000, "cannot be read as audio"),
    "audio: half a header": refused("x.wav", wav()[:20], "cannot be read as audio"),
    "audio: a header alone": refused("x.wav", wav()[:44], "holds no samples|is cut off"),
    "audio: no samples": refused("x.wav", wav(data=b""), "holds no samples; remove it"),
    "audio: NaN": refused("x.wav", floats(0.1, np.nan), "holds NaN or infinite samples; export it again"),
    "audio: infinity": refused("x.wav", floats(0.1, -np.inf), "holds NaN or infinite samples"),
    "audio: numbers that overflow": refused("x.wav", floats(3e38), "holds NaN or infinite samples"),
    "audio: cut WAV": refused("x.wav", cut("wav", 0.6), "is cut off, 1.2 of 2.0 s are there; copy it again"),
    "audio: cut AIFF": refused("x.aiff", cut("aiff", 0.6), "is cut off"),
    "audio: cut AU": refused("x.au", cut("au", 0.6), "is cut off"),
    "audio: cut FLAC": refused("x.flac", cut("flac", 0.6), "(is cut off|is damaged|cannot be read).*; "),
    "audio: cut OGG": refused("x.ogg", cut("ogg", 0.9), "is damaged or cut off, not all of its pages are there; copy"),
    "audio: half an OGG": refused("x.ogg", cut("ogg", 0.5), "(is damaged or cut off|holds no samples|cannot be read).*; "),
    "audio: cut Opus": refused("x.opus", cut("opus", 0.9, format="OGG", subtype="OPUS"), "(is damaged or cut off|cannot be).*; "),
    "audio: cut MP3": refused("x.mp3", cut("mp3", 0.6), "is cut off"),
    "audio: rubbish in a FLAC": refused("x.flac", damaged("flac", 0.5), "(is damaged|cannot be read).*; "),
    "audio: rubbish in an OGG": refused("x.ogg", damaged("ogg", 0.6), "is damaged or cut off"),
    "audio: a WAV that says it is longer": refused("x.wav", wav(size=32_000), "is cut off, 0.5 of 1.0 s"),
    "audio: a FLAC that says it is longer": refused("x.flac", flac_of(64_000), "(is cut off|is damaged|cannot be read).*; "),
    "audio: a FLAC that says it lasts for years": refused("x.flac", flac_of(2**36 - 1), r"lasts 1193\.0 h in 1 channels, too long"),
    "audio: a FLAC that says no length": refused("x.flac", flac_of(0), "does not say how long it is, .*; convert"),
    "audio: 0 Hz": refused("x.wav", wav(rate=0), "cannot be read as audio"),
    "audio: 1 Hz": refused("x.wav", wav(rate=1), "states a sample rate of 1 Hz, which no recording has; export"),
    "audio: 2 GHz": refused("x.wav", wav(rate=2_000_000_000), "states a sample rate of 2,000,000,000 Hz"),
    "audio: 0 channels": refused("x.wav", wav(channels=0), "cannot be read as audio"),
    "audio: 2,000 channels": refused("x.wav", wav(channels=2000), "cannot be read as audio"),
    "audio: 0 bits": refused("x.wav", wav(bits=0), "cannot be read as audio"),
    "audio: an unknown codec": refused("x.wav", wav(kind=999), "cannot be read as audio"),
    "audio: ten hours": refused("x.wav", long(10, 44_100, 16), r"lasts 10\.0 h in 1 channels, too long for a clip; cut it"),
    "audio: ten hours at a low rate": refused("x.wav", long(10, 8000, 8), r"lasts 10\.0 h in 1 channels, too long"),
    "audio: ten hours at 2 kHz": refused("x.wav", long(10, 2000, 8), r"lasts 10\.0 h in 1 channels, too long"),
    "audio: a pipe": refused("x.wav", os.mkfifo, "is no regular file; correct"),
    "audio: a socket": refused("x.wav", listening, "is no regular file"),
    "audio: a link to nothing": refused("x.wav", lambda path: path.symlink_to("gone.wav"), "is a link to nothing; correct"),
    "audio: a link to itself": refused(
        "x.wav", lambda path: path.symlink_to("x.wav"), "no audio file can be reached there .Too many"
    ),
    "audio: a link to a text": refused(
        "x.wav", lambda path: path.symlink_to("/etc/passwd"), "leads by a link to /etc/passwd, outside "
    ),
    "odd: 8 bits": accepted("x.wav", encoded("wav", subtype="PCM_U8")),
    "odd: 32 bits": accepted("x.wav", encoded("wav", subtype="PCM_32")),
    "odd: 64-bit floats": accepted("x.wav", encoded("wav", subtype="DOUBLE")),
    "odd: floats of 16-bit range": accepted("x.wav", floats(30_000.0, -20_000.0, 0.0)),
    "odd: A-law": accepted("x.wav", encoded("wav", subtype="ALAW")),
    "odd: ADPCM": accepted("x.wav", encoded("wav", subtype="IMA_ADPCM")),
    "odd: RF64": accepted("x.wav", encoded("wav", format="RF64")),
    "odd: 192 kHz": accepted("x.flac", encoded("flac", 192_000)),
    "odd: 44,101 Hz": accepted("x.wav", encoded("wav", 44_101)),
    "odd: 1 kHz": accepted("x.wav", encoded("wav", 1000)),
    "odd: 64 channels": accepted("x.wav", encoded("wav", channels=64)),
    "odd: a WAV from a pipe": accepted("x.wav", wav(size=0xFFFF_FFFF)),
    "odd: an MP3 in a WAV's name": accepted("x.wav", encoded("mp3")),
    "odd: a FLAC in an OGG's name": accepted("x.ogg", encoded("flac")),
    "odd: an OGG with a tag behind it": accepted("x.ogg", encoded("ogg") + b"TAG" + b"\0" * 125),
    "odd: Opus": accepted("x.opus", encoded("opus", format="OGG", subtype="OPUS")),
}


# ---------------------------------------------------------------- folders without a table


def files(contents: dict[str, bytes | str | None]) -> Write:
    """A folder of three classes with further files."""

    def write(root: Path) -> None:
        layouts.folder(root, takes=3)
        for name, content in contents.items():
            path = root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content.encode() if isinstance(content, str) else content)

    return write


def with_folder(*writes: Write) -> Write:
    """A folder of three classes and something else."""
    return together(lambda root: layouts.folder(root, takes=3), *writes)


def all_dogs(content: bytes) -> Write:
    return files({f"dog/dog{take}.wav": content for take in range(3)})


def all_dogs_as(suffix: str, content: bytes) -> Write:
    return files({f"cat/dog{take}.{suffix}": content for take in range(3)})


def nan_dogs(root: Path) -> None:
    layouts.folder(root, takes=3)
    for path in root.glob("dog/*.wav"):
        soundfile.write(path, np.full(100, np.nan), 16_000, subtype="FLOAT")


def in_bytes(name: bytes, folder: bool = False) -> Write:
    """A clip, or a class folder with one, of a name that is not UTF-8."""

    def write(root: Path) -> None:
        layouts.folder(root)
        target = os.fsencode(root) + b"/dog/" + name
        try:
            if folder:
                os.mkdir(target)
            shutil.copy(root / "dog" / "dog0.wav", target + (b"/a.wav" if folder else b".wav"))
        except OSError:
            pytest.skip("this file system takes UTF-8 names alone")

    return write


def folders(*names: str) -> Write:
    return lambda root: [(root / name).mkdir(parents=True) for name in names]


def nested(depth: int) -> Write:
    def write(root: Path) -> None:
        layouts.folder(root, takes=3)
        layouts.tone(root / "dog" / Path(*["d"] * depth) / "x.wav", 440)

    return write


def chain(root: Path) -> None:
    """A class whose folders link to each other in a ring."""
    layouts.folder(root, takes=3)
    for here, there in (("p", "q"), ("q", "p")):
        (root / here).mkdir()
        (root / here / "on").symlink_to(f"../{there}")


FOLDERS = {
    "folder: none": Kind(lambda root: root.rmdir(), r"root: no such folder; correct data\.init_args\.root"),
    "folder: a file": Kind(lambda root: (root.rmdir(), root.write_text("x")), "root: no such folder"),
    "folder: a link to itself": Kind(lambda root: (root.rmdir(), root.symlink_to("root")), "root: no such folder"),
    "folder: empty": Kind(folders(), "root: holds no audio file .*; correct"),
    "folder: only litter": Kind(lambda root: (root / "._a.wav").touch(), "root: holds no audio file"),
    "folder: an empty class": Kind(files({"cat/readme.md": b"x"}), "cat: this class has no audio file; add clips"),
    "folder: only empty classes": Kind(folders("dog", "cat"), "cat: this class has no audio file"),
    "folder: a folder in a recording's name": Kind(with_folder(folders("x.wav")), r"x\.wav: this class has no audio file"),
    "folder: one clip in all": Kind(
        lambda root: layouts.tone(root / "a.wav", 440), "no clip is left for the val split, no class has 2 .*; add"
    ),
    "folder: one clip a class": Kind(lambda root: layouts.folder(root, takes=1), "no clip is left for the val split"),
    "folder: a broken M4A": Kind(all_dogs_as("m4a", b"x"), r"dog\d\.m4a: cannot be read as audio .*; remove it or convert"),
    "folder: a name that is not UTF-8": Kind(in_bytes(b"\xff"), r"the name .* is not UTF-8; rename"),
    "folder: a folder's name that is not UTF-8": Kind(in_bytes(b"\xff", folder=True), r"the name .* is not UTF-8; rename"),
    "folder: a line break in a name": Kind(files({"dog/a\nb.wav": b"x"}), r"the name 'a\\nb\.wav' holds a line break .*; rename"),
    "folder: a line break in a class": Kind(files({"a\nb/x.wav": b"x"}), r"the name 'a\\nb' holds a line break .*; rename"),
    "folder: an escape code in a name": Kind(files({"dog/\x1b[2J.wav": b"x"}), r"the name '\\x1b\[2J\.wav' holds .*; rename"),
    "folder: a name without words": Kind(
        lambda root: [layouts.tone(root / f"{'_' * length}.wav", 440) for length in (1, 2, 3)], "_.wav: the caption of .* is empty"
    ),
    "folder: an empty caption": Kind(files({"dog/dog0.txt": b" \n"}), r"dog0\.txt: this caption is empty; write one"),
    "folder: a caption of a BOM": Kind(files({"dog/dog0.txt": codecs.BOM_UTF8}), r"dog0\.txt: this caption is empty"),
    "folder: a caption in Latin-1": Kind(
        files({"dog/dog0.txt": "K\u00e4uzchen".encode("latin-1")}), r"dog0\.txt: is not UTF-8 .*; save"
    ),
    "folder: a caption of 2 MB": Kind(files({"dog/dog0.txt": b"x " * 2**20}), r"dog0\.txt: is longer than .*; shorten"),
    "folder: a caption that is a link to nothing": Kind(
        with_folder(link("dog/dog0.txt", "gone")), r"dog0\.txt: is a link to nothing; remove"
    ),
    "folder: empty audio": Kind(all_dogs(b""), r"dog\d\.wav: is empty"),
    "folder: text for audio": Kind(all_dogs(b"hello"), r"dog\d\.wav: cannot be read as audio"),
    "folder: NaN": Kind(nan_dogs, r"dog\d\.wav: holds NaN"),
    "folder: a link to itself in it": Kind(
        with_folder(link("dog/again", ".")), "again: links back to .*dog, in which it lies; remove"
    ),
    "folder: a link to its parent": Kind(with_folder(link("dog/up", "..")), "dog/up: links back to .*root, in which it lies"),
    "folder: a link to the root in the root": Kind(with_folder(link("loop", ".")), "root/loop: links back to .*root, in which"),
    "folder: a ring of links": Kind(chain, "p/on/on: links back to .*p, in which it lies"),
    "folder: a class that is a link to nothing": Kind(with_folder(link("cat", "/gone")), "cat: is a link to nothing; remove"),
    "folder: a clip that is a link to nothing": Kind(
        with_folder(*(link(f"cat/{take}.wav", "gone") for take in range(3))), r"cat/\d\.wav: is a link to nothing; correct"
    ),
    "folder: a link to a device": Kind(
        with_folder(*(link(f"cat/{take}.wav", "/dev/zero") for take in range(3))), r"cat/\d\.wav: is no regular file"
    ),
    "folder: pipes": Kind(
        with_folder(folders("cat"), lambda root: [os.mkfifo(root / f"cat/{take}.wav") for take in range(3)]), "is no regular file"
    ),
    "folder: a socket": Kind(
        with_folder(folders("cat"), lambda root: [listening(root / f"cat/{take}.wav") for take in range(3)]),
        r"cat/\d\.wav: is no regular file",
    ),
    "folder: 120 folders deep": Kind(nested(120), "lies 100 folders deep; move"),
    "odd: a folder ten deep": Kind(nested(10)),
    "odd: a pipe for a caption": Kind(with_folder(lambda root: os.mkfifo(root / "dog/dog0.txt"))),
    "odd: a folder in a recording's name, with clips": Kind(
        with_folder(lambda root: [layouts.tone(root / "x.wav" / f"{take}.wav", 440) for take in range(3)])
    ),
    "odd: two samples": Kind(
        with_folder(lambda root: [soundfile.write(root / f"two{take}.wav", [0.5, -0.5], 16_000) for take in range(3)])
    ),
    "odd: a class in NFD": Kind(
        lambda root: [layouts.tone(root / unicodedata.normalize("NFD", f"caf\u00e9/{take}.wav"), 440) for take in range(2)],
        captions={unicodedata.normalize("NFD", f"caf\u00e9/{take}.wav"): "caf\u00e9" for take in range(2)},
    ),
    "odd: names that differ in case": Kind(
        lambda root: [layouts.tone(root / name, 440, seed=seed) for seed, name in enumerate(("Dog.wav", "dog.WAV"))],
        captions={"Dog.wav": "dog", "dog.WAV": "dog"},
    ),
}  # fmt: skip


# ---------------------------------------------------------------- published lists


def change_rows(layout: Callable[[Path], Any], name: str, change: Callable[[list[list[str]]], Any]) -> Write:
    """A published data set with `change` done to a table's rows; the first names the columns."""

    def write(root: Path) -> None:
        layout(root)
        with (root / name).open(newline="") as file:
            rows = list(csv.reader(file, skipinitialspace=True))
        change(rows)
        layouts.write_csv(root / name, rows)

    return write


def cell(layout: Callable[[Path], Any], name: str, column: int, value: str, line: int = 2) -> Write:
    """A clip, the first of the table unless said otherwise, has this value in a column."""
    return change_rows(layout, name, lambda rows: rows[line - 1].__setitem__(column, value))


def without(layout: Callable[[Path], Any], name: str) -> Write:
    """A data set without a file or folder."""

    def write(root: Path) -> None:
        layout(root)
        shutil.rmtree(root / name) if (root / name).is_dir() else (root / name).unlink()

    return write


def esc(write: Write, message: str, **options: Any) -> Kind:
    return Kind(write, message, module=ESC50, options=options)


def esc_cell(column: int, value: str, message: str, line: int = 2, **options: Any) -> Kind:
    return esc(cell(layouts.esc50, "meta/esc50.csv", column, value, line), rf"esc50\.csv, line {message}", **options)


def esc_rows(change: Callable[[list[list[str]]], Any]) -> Write:
    return change_rows(layouts.esc50, "meta/esc50.csv", change)


def esc_audio(content: bytes) -> Write:
    return together(layouts.esc50, lambda root: (root / "audio/3-30-A-0.wav").write_bytes(content))


def urban(root: Path) -> None:
    layouts.urbansound8k(root, takes=1)


def urban_cell(column: int, value: str, message: str) -> Kind:
    write = cell(urban, "metadata/UrbanSound8K.csv", column, value, line=4)
    return Kind(write, rf"UrbanSound8K\.csv, line {message}", module=UrbanSound8K)


def caps_cell(column: int, value: str, message: str, **options: Any) -> Kind:
    return Kind(
        cell(layouts.audiocaps, "train.csv", column, value), rf"train\.csv, line {message}", module=AudioCaps, options=options
    )


def segment(column: int, value: str, message: str) -> Kind:
    """The first line of AudioSet's list, which is its fourth, has this value in a column."""

    def write(root: Path) -> None:
        layouts.audioset(root)
        path = root / "balanced_train_segments.csv"
        lines = path.read_text().split("\n")
        values = next(csv.reader([lines[3]], skipinitialspace=True))
        values[column] = value
        lines[3] = ", ".join(f'"{one}"' for one in values)
        path.write_text("\n".join(lines))

    return Kind(write, rf"balanced_train_segments\.csv, line {message}", module=AudioSet)


def audioset_class(column: int, value: str) -> Kind:
    write = cell(layouts.audioset, "class_labels_indices.csv", column, value, line=3)
    return Kind(write, r"class_labels_indices\.csv, line 3: names no class, or one .*; copy", module=AudioSet)


def dcase_cell(column: int, value: str) -> Kind:
    write = cell(layouts.dcasefoley, "DevMeta.csv", column, value)
    return Kind(write, r"DevMeta\.csv, line 2: names no class, no file or no recording; copy", module=DCASEFoley)


PUBLISHED = {
    "ESC-50: no such folder": esc(lambda root: root.rmdir(), r"esc50\.csv: no such file; set data\.init_args\.root"),
    "ESC-50: no table": esc(without(layouts.esc50, "meta/esc50.csv"), r"esc50\.csv: no such file"),
    "ESC-50: no audio": esc(without(layouts.esc50, "audio"), r"\.wav: no such audio file"),
    "ESC-50: one clip missing": esc(
        without(layouts.esc50, "audio/3-30-A-0.wav"), r"esc50\.csv, line 8: .*3-30-A-0\.wav: no such audio file"
    ),
    "ESC-50: one clip empty": esc(esc_audio(b""), r"esc50\.csv, line 8: .*3-30-A-0\.wav: is empty"),
    "ESC-50: one clip broken": esc(esc_audio(b"RIFF"), r"esc50\.csv, line 8: .*3-30-A-0\.wav: cannot be read"),
    "ESC-50: a column missing": esc(
        esc_rows(lambda rows: [one.pop(1) for one in rows]), r"esc50\.csv, line 1: lacks the columns fold"
    ),
    "ESC-50: a fold in words": esc_cell(1, "one", "2: fold is 'one'; write a whole number"),
    "ESC-50: a fold with a point": esc_cell(1, "1.0", r"2: fold is '1\.0'"),
    "ESC-50: a sixth fold": esc_cell(1, "6", "2: fold is '6'"),
    "ESC-50: no fold": esc_cell(1, "", "2: fold is ''"),
    "ESC-50: neither of the ten nor not": esc_cell(4, "yes", "2: esc10 is 'yes'; write True or False", classes="esc10"),
    "ESC-50: a path that leaves the folder": esc_cell(0, "../meta/esc50.csv", "2: .* lies outside"),
    "ESC-50: no file name": esc_cell(0, "", "2: names no file"),
    "ESC-50: the same clip twice": esc(
        esc_rows(lambda rows: rows.append(rows[1])), r"esc50\.csv, line 47: '1-10-A-0\.wav' is listed twice"
    ),
    "ESC-50: the same clip in two folds": esc_cell(0, "3-30-A-0.wav", "8: '3-30-A-0.wav' is listed twice"),
    "ESC-50: no category": esc_cell(3, "", r"8: the caption of '3-30-A-0\.wav' is empty", line=8),
    "ESC-50: one fold alone": esc(esc_rows(lambda rows: rows.__setitem__(slice(5, None), [])), "esc: the train split is empty"),
    "UrbanSound8K: no table": Kind(without(urban, "metadata"), r"UrbanSound8K\.csv: no such file; ", module=UrbanSound8K),
    "UrbanSound8K: no file name": urban_cell(0, "", "4: names no file; "),
    "UrbanSound8K: a file elsewhere": urban_cell(0, "../../x.wav", "4: .* lies outside"),
    "UrbanSound8K: a file that is missing": urban_cell(0, "x.wav", r"4: .*fold3/x\.wav: no such audio file"),
    "UrbanSound8K: another salience": urban_cell(4, "3", "4: salience is '3'; write 1"),
    "UrbanSound8K: another fold's file": urban_cell(5, "4", r"4: .*fold4/.*\.wav: no such audio file"),
    "UrbanSound8K: an eleventh fold": urban_cell(5, "11", "4: fold is '11'; write a whole number"),
    "UrbanSound8K: no class": urban_cell(7, "", "4: the caption of .* is empty; write one"),
    "AudioCaps: no list": Kind(without(layouts.audiocaps, "train.csv"), r"train\.csv: no such file; ", module=AudioCaps),
    "AudioCaps: no root": Kind(lambda root: root.rmdir(), "caps: no such folder; ", module=AudioCaps),
    "AudioCaps: no video": caps_cell(1, "", "2: names no video or no start in whole seconds; copy"),
    "AudioCaps: a path for a video": caps_cell(1, "../../x", "2: names no video"),
    "AudioCaps: half a second": caps_cell(2, "0.5", "2: names no video or no start in whole seconds"),
    "AudioCaps: a start before zero": caps_cell(2, "-1", "2: names no video or no start in whole seconds"),
    "AudioCaps: no caption": caps_cell(3, "", "2: the caption of .* is empty; write one"),
    "AudioCaps: a clip twice in all captions": Kind(
        change_rows(layouts.audiocaps, "val.csv", lambda rows: rows[2].__setitem__(0, rows[1][0])),
        r"val\.csv, line 3: clip id .* comes twice in the val split; give", module=AudioCaps, options={"captions": "all"},
    ),
    "AudioCaps: most audio missing": Kind(
        together(layouts.audiocaps, lambda root: [path.unlink() for path in (root / "train").glob("*.wav")]),
        r"has the audio of 3 of 12 clips, .*; fetch more or lower", module=AudioCaps,
    ),
    "AudioCaps: two files of one name": Kind(
        together(layouts.audiocaps, lambda root: layouts.tone(root / "again" / "Ytr-_0000000.flac", 440)),
        "has the name of .*; keep one of the two", module=AudioCaps,
    ),
    "AudioSet: no classes": Kind(
        without(layouts.audioset, "class_labels_indices.csv"), r"class_labels_indices\.csv: no such file; ", module=AudioSet
    ),
    "AudioSet: a class without id": audioset_class(1, ""),
    "AudioSet: a class without name": audioset_class(2, ""),
    "AudioSet: a class twice": audioset_class(1, "/m/09x0r"),
    "AudioSet: no video": segment(0, "", "4: names no video or no class; copy"),
    "AudioSet: a path for a video": segment(0, "../x", "4: names no video"),
    "AudioSet: no start": segment(1, "", "4: start or end is no number of seconds; copy"),
    "AudioSet: NaN for a start": segment(1, "nan", "4: start or end is no number of seconds"),
    "AudioSet: a start in minutes": segment(1, "0:30", "4: start or end is no number of seconds"),
    "AudioSet: endless": segment(2, "inf", "4: start or end is no number of seconds"),
    "AudioSet: an end before the start": segment(1, "40", "4: start or end is no number of seconds"),
    "AudioSet: no class of a segment": segment(3, "", "4: names no video or no class"),
    "AudioSet: an unknown class of a segment": segment(3, "/m/none", "4: class '/m/none' is not in class_labels_indices.csv; copy"),
    "DCASE: no such folder": Kind(lambda root: root.rmdir(), r"dcase: no such folder; correct", module=DCASEFoley),
    "DCASE: an unknown class": Kind(
        together(layouts.dcasefoley, folders("dev/cat")), "dev/cat: is none of the classes .*; remove", module=DCASEFoley
    ),
    "DCASE: an empty class": Kind(
        together(without(layouts.dcasefoley, "dev/rain"), folders("dev/rain")), "rain: this class has no audio file; copy",
        module=DCASEFoley,
    ),
    "DCASE: evaluation set alone": Kind(without(layouts.dcasefoley, "dev"), "dev: no such folder; give", module=DCASEFoley),
    "DCASE: an unknown class in the list": dcase_cell(0, "Cat"),
    "DCASE: no file in the list": dcase_cell(1, ""),
    "DCASE: no recording in the list": dcase_cell(3, ""),
    "DCASE: a list that is a link to nothing": Kind(
        together(without(layouts.dcasefoley, "DevMeta.csv"), link("DevMeta.csv", "gone")), r"DevMeta\.csv: is a link to nothing; ",
        module=DCASEFoley,
    ),
}  # fmt: skip

KINDS = TABLES | RECORDINGS | FOLDERS | PUBLISHED


@contextmanager
def promptly() -> Iterator[None]:
    """Stop what hangs: a pipe that nobody writes to would be waited for until the end of the world."""

    def stop(*_: object) -> None:
        raise TimeoutError(f"still not done after {SECONDS} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def read_everything(data: AudioDataModule) -> dict[str, str]:
    """Do what a run does with a data set; gives the captions by id."""
    data.setup("fit")
    found = {}
    for split in SPLITS:
        clips = data.datasets[split]
        for index in range(len(clips)):
            clips.content_key(index)
        for item in clips:
            found[item["id"]] = item["caption"]
            assert item["waveform"].shape == (data.num_samples,)
            assert item["waveform"].isfinite().all()
            assert item["waveform"].abs().max() <= 0.5
    return found


def check_sentence(sentence: str, message: str) -> None:
    """It is one sentence, says the message, and how to mend it."""
    assert re.search(message, sentence), sentence
    assert "; " in sentence
    assert sentence.endswith(".")
    assert sentence.replace("\u200d", "").isprintable(), ascii(sentence)


def home(folder: Path, kind: Kind) -> Path:
    """Root of a kind's data set."""
    short = {ESC50: "esc", AudioCaps: "caps", DCASEFoley: "dcase"}
    root = folder / short.get(kind.module, "root")
    root.mkdir()
    return root


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_is_one_sentence_or_read_right(tmp_path, name):
    kind = KINDS[name]
    root = home(tmp_path, kind)
    kind.write(root)
    if kind.message:
        with promptly(), pytest.raises(InputError) as caught:
            read_everything(kind.data(root))
        check_sentence(str(caught.value), kind.message)
    else:
        with promptly():
            captions = read_everything(kind.data(root))
        assert captions
        assert not kind.captions or captions == kind.captions


def test_the_list_is_long():
    assert len(KINDS) >= 200
    assert sum(not kind.message for kind in KINDS.values()) >= 50


def test_wrong_requests_of_esc50_are_one_sentence(tmp_path):
    layouts.esc50(tmp_path)
    with pytest.raises(InputError) as caught:
        ESC50(tmp_path, classes=["cat"]).clips("train")
    check_sentence(str(caught.value), r"has no category 'cat'; correct data\.init_args\.classes")
    for fold in (0, 6):
        with pytest.raises(InputError, match=rf"data\.init_args\.fold: is {fold}; give one of ESC-50's folds, 1 to 5"):
            ESC50(tmp_path, fold=fold)


# ---------------------------------------------------------------- what the user may not read


@contextmanager
def somebody() -> Iterator[None]:
    """Without root's right to read everything."""
    if os.geteuid():
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.mark.parametrize(
    ("locked", "mode", "message"),
    [
        ("dog/dog0.wav", 0o000, r"dog0\.wav: cannot be opened \(Permission denied\); see to its permissions"),
        ("dog/dog0.txt", 0o000, r"dog0\.txt: cannot be opened \(Permission denied\); see to"),
        ("metadata.csv", 0o000, r"metadata\.csv: cannot be opened \(Permission denied\); see to"),
        ("dog", 0o000, r"dog: cannot be listed \(Permission denied\); see to"),
        ("dog", 0o444, r"dog/dog\d\.wav: no audio file can be reached there \(Permission denied\); "),
        (".", 0o000, r"sounds: cannot be listed \(Permission denied\); see to"),
    ],
)
def test_what_may_not_be_read_is_one_sentence(locked, mode, message):
    with tempfile.TemporaryDirectory() as folder:  # not below pytest's own folders, which only their owner may enter
        os.chmod(folder, 0o755)
        root = Path(folder, "sounds")
        layouts.folder(root, takes=2)
        (root / "dog" / "dog0.txt").write_text("a dog")
        if locked == "metadata.csv":
            table(*GOOD)(root)
        (root / locked).chmod(mode)
        try:
            with somebody(), pytest.raises(InputError) as caught:
                read_everything(Folder(root, duration=0.32))
        finally:
            (root / locked).chmod(0o755)
    check_sentence(str(caught.value), message)


# ---------------------------------------------------------------- ten million lines


@pytest.mark.parametrize(
    ("name", "line"), [("metadata.csv", b"a.wav,xx\n"), ("metadata.jsonl", b'{"file":1}\n'), ("metadata.csv", b"\r\r\r\r\r\r\r\r")]
)
def test_ten_million_lines_are_refused_before_they_are_held(tmp_path, name, line):
    clips(tmp_path)
    with (tmp_path / name).open("wb") as file:
        file.write(b"file,caption\n")
        for _ in range(100):
            file.write(line * 100_000)
    tracemalloc.start()
    began = time.monotonic()
    try:
        with pytest.raises(InputError) as caught:
            Folder(tmp_path).clips("train")
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    (tmp_path / name).unlink()
    check_sentence(
        str(caught.value), rf"{re.escape(name)}, line 3,000,001: is beyond the 3,000,000 that can be held; split the table"
    )
    assert peak < 50e6
    assert time.monotonic() - began < 10


def test_a_line_without_end_is_refused_before_it_is_held(tmp_path):
    for name in ("metadata.csv", "metadata.jsonl"):
        path = tmp_path / name
        path.write_bytes(b'"')
        os.truncate(path, 2 * 10**8)  # zeros that take no room
        tracemalloc.start()
        try:
            with pytest.raises(InputError, match=rf"{name}, line 1: is longer than 1,048,576 letters"):
                Folder(tmp_path).clips("train")
            assert tracemalloc.get_traced_memory()[1] < 20e6
        finally:
            tracemalloc.stop()
            path.unlink()


# ---------------------------------------------------------------- the command line

REFUSED = (
    "table: open quote",
    "JSON: half a letter",
    "two tables",
    "audio: cut OGG",
    "audio: NaN",
    "folder: a line break in a class",
)
TRAINED = (
    "odd: a name of 250 bytes", "odd: two samples",
    *(pytest.param(name, marks=pytest.mark.nightly) for name in (
        "odd: line breaks in a caption", "odd: a caption of 10,000 words", "odd: an emoji for a name", "odd: 64 channels",
    )),
)  # fmt: skip


def fit(root: Path, model: Path) -> list[str]:
    """Options of a run of one step on a folder."""
    return [
        "fit",
        *arguments(model, {"root": root, "shots": None}, steps=1, config=REPOSITORY / "configs" / "data" / "folder.yaml"),
    ]


def check_refusal(err: str, message: str, folder: Path) -> None:
    """Standard error ends in one sentence, nothing else is an error, and nothing half-written is left."""
    assert "Traceback" not in err
    assert err.endswith("\n")
    assert [line for line in err.split("\n")[:-1] if line.startswith("error: ")] == [err.split("\n")[-2]], err
    check_sentence(err.split("\n")[-2], message)
    assert not list(folder.rglob("*.part"))


@pytest.mark.parametrize("name", REFUSED)
def test_a_refused_run_says_one_sentence_and_leaves_nothing(cli, workdir, tiny_folder, name):
    kind = KINDS[name]
    kind.write(root := home(workdir, kind))
    before = sorted(workdir.rglob("*"))
    status, _, err = cli(*fit(root, tiny_folder))
    assert status == 2
    check_refusal(err, kind.message, workdir)
    cache = workdir / "cache"  # clips that were encoded before the broken one are kept, whole
    assert sorted(path for path in workdir.rglob("*") if not path.is_relative_to(cache)) == before
    assert {path.suffix for path in cache.rglob("*") if path.is_file()} <= {".safetensors"}


def test_a_run_whose_sounds_would_lie_among_its_recordings_is_refused(cli, workdir, tiny_folder):
    layouts.folder(workdir)
    status, _, err = cli(*fit(Path(), tiny_folder))
    assert status == 2
    check_refusal(err, "runs/adapt/version_0: lies inside the data set, .*; start it from another folder, or set", workdir)
    assert not Path("runs").exists()


@pytest.mark.parametrize("name", TRAINED)
def test_what_is_merely_odd_trains(cli, workdir, tiny_folder, name):
    kind = KINDS[name]
    kind.write(root := home(workdir, kind))
    status, _, err = cli(*fit(root, tiny_folder))
    assert status == 0, err
    result = json.loads((run_folder(workdir) / "result.json").read_text())
    assert result["training_clips"] >= 1
    assert np.isfinite(result["held_out_loss_after"])


# ---------------------------------------------------------------- prepare


def noises(root: Path) -> None:
    """Two classes of four clips that have nothing in common."""
    generator = np.random.default_rng(0)
    for label in ("dog", "rain"):
        (root / label).mkdir(parents=True)
        for take in range(4):
            soundfile.write(root / label / f"{label}{take}.wav", 0.1 * generator.standard_normal(16_000), 16_000)


BROKEN_FILES = {
    "no bytes": (b"", "is empty"),
    "text": (b"hello", "cannot be read as audio"),
    "cut": (cut("wav", 0.6), "is cut off"),
    "no samples": (wav(data=b""), "holds no samples"),
    "1 Hz": (wav(rate=1), "states a sample rate of 1 Hz"),
}
BROKEN_LISTS = ("table: no caption column", "table: open quote", "table: leaves the folder", "JSON: half a letter", "two tables")


@pytest.mark.parametrize("name", BROKEN_FILES)
def test_prepare_finds_a_broken_file_and_leaves_it_out(cli, workdir, name):
    content, problem = BROKEN_FILES[name]
    root = workdir / "sounds"
    noises(root)
    (root / "dog" / "broken.wav").write_bytes(content)
    options = ["prepare", "--data", "audioldm_lit.data.folder.Folder", "--data.root", root, "--out", "out", "--json", "found.json"]
    status, _, err = cli(*options)
    assert status == 2
    check_refusal(err, r"clips stop training or spoil its scores; mend them", workdir)
    (found,) = [one for one in json.loads(Path("found.json").read_text())["findings"] if one["kind"] == "unreadable"]
    assert found["clips"] == ["dog/broken.wav"]
    assert found["where"] == str(root / "dog" / "broken.wav")
    assert found["problem"].startswith(problem)
    assert found["mend"]
    status, _, err = cli(*options, "--fix")
    assert status == 0, err
    kept = read_everything(Folder(root, table=Path("out/clean.jsonl"), duration=0.32))
    assert "dog/broken.wav" not in kept
    assert len(kept) >= 4


@pytest.mark.parametrize("name", BROKEN_LISTS)
def test_prepare_refuses_a_broken_list_in_one_sentence(cli, workdir, name):
    kind = KINDS[name]
    kind.write(root := home(workdir, kind))
    for fix in ([], ["--fix"]):
        options = ["--data.root", root, "--out", "out", "--json", "found.json"]
        status, _, err = cli("prepare", "--data", "audioldm_lit.data.folder.Folder", *options, *fix)
        assert status == 2
        check_refusal(err, kind.message, workdir)
        assert not Path("found.json").exists()
        assert not Path("out").exists()


# ---------------------------------------------------------------- whatever bytes

LISTS = {
    "metadata.csv": "\n".join([TABLE, 'a.wav,"a dog\n",,,train', "b.wav,wind,x,s,val", ""]).encode(),
    "metadata.jsonl": "\n".join(json.dumps(one) for one in (row(id=1), row("b.wav", "wind", "val"))).encode(),
    "captions.json": json.dumps({"data": [row(), row("b.wav", "wind", "val")]}).encode(),
    "labels.tsv": "ファイル名\t説明\tsplit\na.wav\t犬が吠える\ttrain\nb.wav\t風の音\tval\n".encode("cp932"),
    "a.txt": "a dog\nbarks".encode("utf-16"),
}
FORMATS = {
    "x.wav": wav(), "x.flac": encoded("flac", length=4000), "x.ogg": encoded("ogg", length=4000),
    "x.mp3": encoded("mp3", length=4000), "x.aiff": encoded("aiff", length=4000),
    "y.wav": encoded("wav", length=4000, subtype="FLOAT"),
}  # fmt: skip


def changed(good: bytes) -> st.SearchStrategy[bytes]:
    """Any bytes at all, or good ones with some changed, put in, or cut off."""
    edit = st.tuples(st.integers(0, len(good)), st.integers(0, 4), st.binary(max_size=8))

    def apply(edits: list[tuple[int, int, bytes]], end: int) -> bytes:
        content = good
        for place, gone, put in edits:
            content = content[:place] + put + content[place + gone :]
        return content[:end]

    ends = st.just(2 * len(good) + 100) | st.integers(0, len(good))
    return st.binary(max_size=200) | st.builds(apply, st.lists(edit, min_size=1, max_size=4), ends)


def succeeds_or_is_one_sentence(data: AudioDataModule) -> None:
    try:
        read_everything(data)
    except InputError as error:
        assert str(error).isprintable()  # noqa: PT017  (it may also succeed)


@pytest.fixture(scope="module")
def good_clips(tmp_path_factory) -> Path:
    clips(root := tmp_path_factory.mktemp("bytes"))
    return root


@pytest.mark.parametrize("name", LISTS)
@settings(max_examples=80)
@given(data=st.data())
def test_whatever_bytes_a_list_has(good_clips, name, data):
    (good_clips / name).write_bytes(data.draw(changed(LISTS[name])))
    try:
        succeeds_or_is_one_sentence(Folder(good_clips, duration=0.32))
    finally:
        (good_clips / name).unlink()


@pytest.mark.parametrize("name", FORMATS)
@settings(max_examples=40)
@given(data=st.data())
def test_whatever_bytes_a_recording_has(tmp_path_factory, good_clips, name, data):
    root = good_clips.parent / "recordings"
    root.mkdir(exist_ok=True)
    for take in range(2):
        (root / f"{take}{name}").write_bytes(data.draw(changed(FORMATS[name])))
    try:
        succeeds_or_is_one_sentence(Folder(root, duration=0.32))
    finally:
        shutil.rmtree(root)
