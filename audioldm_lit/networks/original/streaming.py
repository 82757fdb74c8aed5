"""A checkpoint written piece by piece: first the file with room for every tensor, then the tensors, one piece at a time."""

import json
import struct
import zipfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import torch
from torch import Tensor

Pieces = Callable[[], Iterable[Mapping[str, Tensor]]]
PRECISIONS = {  # as safetensors calls them
    torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16",
    torch.int64: "I64", torch.int32: "I32", torch.int16: "I16", torch.int8: "I8", torch.uint8: "U8", torch.bool: "BOOL",
}  # fmt: skip
LOCAL_HEADER = 30  # bytes of a zip's header before the name


def write_pieces(path: Path, pieces: Pieces, kind: str) -> None:
    """Write tensors by name.

    Args:
        path: File.
        pieces: Gives the tensors in pieces without a name in common; called twice, first for the shapes alone.
        kind: `.safetensors`, or anything else for a file of `torch.save` as Lightning's are. Of such a file the tensors have no
            checksum, which PyTorch never looks at.

    Raises:
        OSError: If it cannot be written.
    """
    # Memory that is never touched costs nothing.
    blank = {name: torch.empty(tensor.shape, dtype=tensor.dtype) for piece in pieces() for name, tensor in piece.items()}
    places = _safetensors(path, blank) if kind == ".safetensors" else _pickled(path, blank)
    del blank
    with path.open("r+b") as file:
        for piece in pieces():
            for name, tensor in piece.items():
                file.seek(places[name])
                file.write(tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data)


def _pickled(path: Path, blank: Mapping[str, Tensor]) -> dict[str, int]:
    """Make a file of `torch.save` with holes for the tensors; returns where each begins."""
    try:
        with torch.serialization.skip_data():
            torch.save({"state_dict": dict(blank)}, path)
    except RuntimeError as error:  # so it says that a disk is full
        raise OSError(str(error).splitlines()[0]) from error
    with zipfile.ZipFile(path) as laid_out, path.open("rb") as file:
        begins = {}
        for member in laid_out.infolist():
            file.seek(member.header_offset)
            before = struct.unpack_from("<HH", file.read(LOCAL_HEADER), 26)  # lengths of the name and of what follows it
            begins[member.filename.partition("/")[2]] = member.header_offset + LOCAL_HEADER + sum(before)
    return {name: begins[f"data/{number}"] for number, name in enumerate(blank)}  # numbered as they come


def _safetensors(path: Path, blank: Mapping[str, Tensor]) -> dict[str, int]:
    """Make a safetensors file without its tensors; returns where each begins."""
    head: dict[str, object] = {"__metadata__": {"format": "pt"}}
    ends = {"": 0}
    for name, tensor in sorted(blank.items(), key=lambda item: -item[1].element_size()):  # so that each is aligned
        begin = next(reversed(ends.values()))
        ends[name] = begin + tensor.nbytes
        head[name] = {"dtype": PRECISIONS[tensor.dtype], "shape": list(tensor.shape), "data_offsets": [begin, ends[name]]}
    text = json.dumps(head).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text)
    return {name: 8 + len(text) + end - blank[name].nbytes for name, end in ends.items() if name}
