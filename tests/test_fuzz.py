"""Whatever a file holds, reading it ends well or in one sentence: cases are generated anew in every run, and none is stored.

CI draws the same few each time; `-m nightly` draws others, many more, and looks at what a case costs.
"""

import io
import json
import struct
import tarfile
import time
import zipfile
from collections.abc import Callable
from contextlib import suppress
from functools import cache, partial
from pathlib import Path
from typing import Any

import av
import numpy as np
import psutil
import pytest
import safetensors.torch
import soundfile
import torch
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from audioldm_lit.ablation.curve_arms import read_results
from audioldm_lit.ablation.grid_file import load_grid
from audioldm_lit.adapters.files.adapter_file import FORMAT, load_adapter, read_about, read_tensors
from audioldm_lit.adapters.peft import PeftAdapter
from audioldm_lit.assets.bundle import read_bundle
from audioldm_lit.audio.decoding import read_channels
from audioldm_lit.audio.loudest import read_loudest
from audioldm_lit.data.folder import Folder
from audioldm_lit.data.webdataset import WebDataset
from audioldm_lit.data.zipped import Zipped
from audioldm_lit.data.zipped import _opened as opened
from audioldm_lit.errors import InputError
from audioldm_lit.evaluation.listing import list_clips
from audioldm_lit.evaluation.protocol import load_protocol
from audioldm_lit.first_look import first_look
from audioldm_lit.inference.journal import Journal
from audioldm_lit.storage.shards import Shards
from audioldm_lit.training.checkpoint import KEY, checked_content
from audioldm_lit.training.checkpoint_file import read_checkpoint
from audioldm_lit.training.resume import check_resumable

import layouts
import tiny

FEW, MANY = 25, 2500
SECONDS, BYTES = 10.0, 10**9  # of computing, and of memory over the idle process, that one case may take
NUMBERS = st.one_of(st.integers(), st.floats(), st.sampled_from([0, -1, 1, 2**31, 2**63, 10**30, 1e308]))
LEAVES = st.one_of(st.none(), st.booleans(), NUMBERS, st.text(max_size=20))


def words(text: str) -> list[str]:
    return text.split()


WORDS = words("file caption label split source id start end train val a.wav ../a.wav b.wav /etc/passwd")


def junk(names: list[str], leaves: st.SearchStrategy[Any] = LEAVES) -> st.SearchStrategy[Any]:
    """Plain values of any form, with some of these names for keys and texts."""
    known = st.sampled_from(names)
    return st.recursive(
        st.one_of(leaves, known),
        lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(known, inner, max_size=6)),
        max_leaves=12,
    )


@st.composite
def spoilt(draw: st.DrawFn, originals: list[bytes]) -> bytes:
    """One of some files, with bytes changed, taken out, repeated or put in, or cut off."""
    content = bytearray(draw(st.sampled_from(originals)))
    for _ in range(draw(st.integers(1, 6))):
        place = draw(st.integers(0, min(len(content), 200)) | st.integers(0, len(content)))
        way = draw(st.sampled_from(["change", "change", "number", "out", "in", "again", "cut"]))
        if way == "change":
            content[place : place + 1] = draw(st.binary(min_size=1, max_size=1))
        elif way == "number":
            content[place : place + 4] = struct.pack("<I", draw(st.sampled_from([0, 1, 2**16, 2**31 - 1, 2**31, 2**32 - 1])))
        elif way == "out":
            del content[place : place + draw(st.integers(1, 64))]
        elif way == "in":
            content[place:place] = draw(st.binary(max_size=32))
        elif way == "again":
            content[place:place] = content[place : place + draw(st.integers(1, 256))]
        else:
            del content[place:]
    return bytes(content)


@cache
def sounds() -> list[bytes]:
    """A short sound in many formats."""
    found = []
    noise = 0.2 * np.random.default_rng(0).standard_normal((4000, 1)).clip(-1, 1)
    kinds = [
        ("WAV", "PCM_16"),
        ("WAV", "FLOAT"),
        ("WAV", "IMA_ADPCM"),
        ("WAV", "GSM610"),
        ("FLAC", "PCM_16"),
        ("OGG", "VORBIS"),
        ("OGG", "OPUS"),
    ]
    kinds += [
        ("AIFF", "PCM_24"),
        ("AU", "ULAW"),
        ("CAF", "PCM_16"),
        ("W64", "PCM_16"),
        ("RF64", "PCM_16"),
        ("MP3", "MPEG_LAYER_III"),
    ]
    for container, subtype in kinds:
        file = io.BytesIO()
        soundfile.write(file, noise, 8000, format=container, subtype=subtype)
        found.append(file.getvalue())
    for container, codec in (("ipod", "aac"), ("asf", "wmav2"), ("matroska", "aac"), ("avi", "mp2")):
        file = io.BytesIO()
        with av.open(file, "w", format=container) as out:
            stream = out.add_stream(codec, rate=44_100, layout="mono")
            stream.bit_rate = 64_000
            frame = av.AudioFrame.from_ndarray(noise.T.astype(np.float32), "fltp", "mono")
            frame.sample_rate = 44_100
            for packet in [*stream.encode(frame), *stream.encode(None)]:
                out.mux(packet)
        found.append(file.getvalue())
    return found


def read_sound(folder: Path, content: bytes) -> None:
    (folder / "x.wav").write_bytes(content)
    for read in (read_channels, partial(read_loudest, sample_rate=16_000, num_samples=5120)):
        with suppress(InputError):
            read(folder / "x.wav")


@cache
def tables() -> list[bytes]:
    rows = [{"file": "a.wav", "caption": "a dog", "split": "train"}, {"file": "b.wav", "caption": "rain", "split": "val"}]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    plain = 'file,caption,split\na.wav,a dog,train\nb.wav,"rain, far",val\n'
    excel = io.BytesIO()
    import pandas as pd

    pd.DataFrame(rows).to_excel(excel, index=False)
    encodings = [
        plain.encode(),
        plain.replace(",", ";").encode(),
        plain.encode("utf-16"),
        plain.replace("dog", "犬").encode("cp932"),
    ]
    return [*encodings, lines.encode(), json.dumps(rows).encode(), excel.getvalue()]


TABLE_NAMES = st.sampled_from(["metadata.csv", "metadata.jsonl", "captions.tsv", "list.json", "list.xlsx"])
TABLES = st.tuples(
    TABLE_NAMES,
    st.deferred(lambda: spoilt(tables()))
    | st.lists(st.lists(st.sampled_from(WORDS) | st.text(max_size=8), max_size=5), max_size=5).map(
        lambda rows: "\n".join(",".join(row) for row in rows).encode("utf-8", "surrogatepass")
    )
    | junk(WORDS).map(lambda value: json.dumps(value).encode()),
)


def read_table(folder: Path, named: tuple[str, bytes]) -> None:
    name, content = named
    (folder / name).write_bytes(content)
    for clip in "ab":
        if not (folder / f"{clip}.wav").is_file():
            layouts.tone(folder / f"{clip}.wav", 440)
    try:
        data = Folder(folder, table=folder / name, duration=0.32)
        for split in ("train", "val", "test"):
            for clip in data.clips(split):
                assert isinstance(clip.caption, str)
                assert clip.path.is_relative_to(folder)
    except InputError:
        pass
    finally:
        (folder / name).unlink()


SETTINGS = words("model data trainer init_args class_path adapter seed max_steps callbacks root config optimizer")
CONFIGS = junk([*SETTINGS, "subprocess.getoutput", "audioldm_lit.data.folder.Folder", "torch.optim.AdamW"]).map(
    lambda value: yaml.safe_dump(value).encode()
) | spoilt([b"model: {seed: 1}\ndata: &d {class_path: audioldm_lit.data.folder.Folder, init_args: {root: .}}\nx: *d\n"])


def read_config(folder: Path, content: bytes) -> None:
    (folder / "x.yaml").write_bytes(content)
    for read in (
        lambda: first_look("fit", ["--config", str(folder / "x.yaml")]),
        lambda: load_protocol(str(folder / "x.yaml")),
        lambda: load_grid(folder / "x.yaml", ()),
    ):
        with suppress(InputError):
            read()


ADAPTERS = words(
    "adalora.AdaLoRA bottleneck.BottleneckAdapter full.Scratch partial.PartialFineTune peft.PeftAdapter text_head.TextHead"
    " textual_inversion.TextualInversion base.Adapter targets.resolve"
)
KEYS = words(
    "options targets config r lora_alpha weights reduction num_vectors token initial seed LoraConfig target_modules"
    " rank_pattern attention all .* ( init_lora_weights use_dora bias"
)
SPECS = st.fixed_dictionaries(
    {
        "class_path": st.sampled_from(ADAPTERS).map("audioldm_lit.adapters.{}".format),
        "init_args": st.dictionaries(st.sampled_from(KEYS), junk(KEYS), max_size=3),
    }
)
METADATA = st.fixed_dictionaries(
    {"adapter": (SPECS | junk(["class_path", "init_args"])).map(json.dumps) | st.text(max_size=20)},
    optional={
        "about": junk(["base", "captions", "scores", "steps", "seed"]).map(json.dumps) | st.text(),
        "prediction_type": st.sampled_from(["epsilon", "v_prediction", "sample"]),
        "prediction": (SPECS | junk(["class_path", "init_args", "schedule"])).map(json.dumps),
        "sampling": junk(["scheduler", "num_inference_steps", "guidance_scale"]).map(json.dumps),
        "base_rounded": st.text(max_size=8),
    },
)


def read_adapter(folder: Path, metadata: dict[str, str]) -> None:
    backbone = tiny.backbone()
    about = {"format": FORMAT, "base": backbone.fingerprint("unet"), "version": "1", "prediction_type": "epsilon", **metadata}
    safetensors.torch.save_file({"weight": torch.zeros(64)}, folder / "x.safetensors", about)
    for read in (lambda: load_adapter(folder / "x.safetensors", backbone), lambda: read_about(folder / "x.safetensors")):
        with suppress(InputError):
            read()


@cache
def weights() -> list[bytes]:
    rows = {"mean": torch.zeros(2, 3).half(), "std": torch.ones(2, 3)}
    return [safetensors.torch.save(rows, {"keys": '["a", "b"]', "sha256": '["0", "0"]'}), safetensors.torch.save(rows)]


def read_weights(folder: Path, content: bytes) -> None:
    (folder / "x.safetensors").write_bytes(content)
    for read in (lambda: read_tensors(folder / "x.safetensors"), lambda: Shards(folder).missing(["a", "b", "c"])):
        with suppress(InputError):
            read()


@cache
def checkpoints() -> list[bytes]:
    content = {
        KEY: {},
        "state_dict": {"w": torch.zeros(3)},
        "global_step": 2,
        "loops": {},
        "optimizer_states": [],
        "lr_schedulers": [],
    }
    file = io.BytesIO()
    torch.save(content, file)
    return [file.getvalue()]


PARTS = ["base", "adapter", "adapter_state", "base_losses", "trained_on", "ema", "class_path", "init_args", "train"]
CHECKPOINTS = st.deferred(lambda: spoilt(checkpoints())) | st.fixed_dictionaries(
    {KEY: junk(PARTS)},
    optional={name: junk(PARTS) for name in ("state_dict", "global_step", "loops", "optimizer_states", "lr_schedulers")},
)


def read_run(folder: Path, content: bytes | dict[str, Any]) -> None:
    path = folder / "x.ckpt"
    path.write_bytes(content) if isinstance(content, bytes) else torch.save(content, path)
    for read in (
        lambda: check_resumable(path, 3),
        lambda: checked_content(read_checkpoint(path), "base", PeftAdapter(), {"train": "x"}),
    ):
        with suppress(InputError):
            read()


ROWS = ["clips", "id", "file", "prompt", "seed", "candidate", "unfinished", "x.wav", "../../x.wav"]
CLIPS = st.fixed_dictionaries({"clips": st.lists(junk(ROWS), max_size=3)}) | junk(ROWS)
MANIFESTS = CLIPS.map(lambda value: json.dumps(value).encode()) | spoilt(
    [b'{"seed": 1, "clips": [{"id": "x", "file": "x.wav", "prompt": "rain", "seed": 0, "candidate": 0}]}', b"[" * 100_000]
)


def read_manifest(folder: Path, content: bytes) -> None:
    (folder / "manifest.json").write_bytes(content)
    (folder / "x.wav").touch()
    for read in (lambda: list_clips(folder), lambda: Journal(folder, {"seed": 1})):
        with suppress(InputError):
            found = read()
            assert not isinstance(found, list) or all(isinstance(clip.caption, str) for clip in found)


RESULTS = spoilt([b"run,metric,value,higher_is_better,passport,steps,training_clips,seed\na,loss,0.5,False,x,2,4,1\n"])
HEADERS = words("size mtime path linkpath hdrcharset GNU.sparse.map GNU.sparse.size GNU.sparse.realsize GNU.sparse.name")
HEADERS += words("GNU.sparse.major GNU.sparse.minor GNU.sparse.numblocks GNU.sparse.offset")


def tar(headers: dict[str, str], kind: bytes, size: int) -> bytes:
    """A tar of one member of any kind and size, whose headers have right checksums and say anything."""
    member = tarfile.TarInfo("manifest.json")
    member.pax_headers, member.type, member.size = headers, kind, size
    return member.tobuf(tarfile.PAX_FORMAT) + b"{}".ljust(1024, b"\0")


TARS = st.builds(
    tar,
    st.dictionaries(st.sampled_from(HEADERS), NUMBERS.map(str) | st.text(st.characters(codec="ascii"), max_size=8), max_size=3),
    st.sampled_from([b"0", b"1", b"2", b"5", b"S", b"L", b"K", b"x", b"g", b"7", b"\0"]),
    st.sampled_from([0, 2, -1, -512, -1536, 600, 2**33, 2**80]),
)


@cache
def zips() -> list[bytes]:
    """A sound and what is said of it, packed in every way."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("sön.wav", b"RIFF")
        for suffix, way in (("txt", 8), ("json", 12), ("cls", 14)):  # deflate, bzip2, LZMA
            archive.writestr(f"sön.{suffix}", b'{"caption": "a dog, a dog, a dog"}', compress_type=way)
    return [file.getvalue()]


ARCHIVES = TARS | st.deferred(lambda: spoilt([tar({}, b"0", 2), *zips()]))


def read_others(folder: Path, content: bytes) -> None:
    (folder / "results.csv").write_bytes(content)
    for name in ("x.tar", "x.zip"):
        (folder / name).write_bytes(content)
    opened.cache_clear()
    packed = [partial(kind(folder).present, "train") for kind in (WebDataset, Zipped)]
    for read in (lambda: read_results(folder), lambda: read_bundle(folder / "x.tar"), *packed):
        with suppress(InputError):
            read()


CASES: dict[str, tuple[st.SearchStrategy[Any], Callable[[Path, Any], None]]] = {
    "audio": (st.deferred(lambda: spoilt(sounds())), read_sound),
    "tables": (TABLES, read_table),
    "YAML": (CONFIGS, read_config),
    "metadata of adapters": (METADATA, read_adapter),
    "weights": (st.deferred(lambda: spoilt(weights())), read_weights),
    "checkpoints": (CHECKPOINTS, read_run),
    "manifests": (MANIFESTS, read_manifest),
    "results and archives": (RESULTS | ARCHIVES, read_others),
}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("count", [FEW, pytest.param(MANY, marks=pytest.mark.nightly)])
def test_whatever_a_file_holds_reading_it_ends_well_or_in_a_sentence(workdir, name, count):
    strategy, read = CASES[name]
    idle = psutil.Process().memory_info().rss

    @settings(max_examples=count, derandomize=count == FEW, database=None, suppress_health_check=list(HealthCheck))
    @given(strategy)
    def check(content: Any) -> None:
        began = time.process_time()
        read(workdir, content)
        if count == MANY:
            assert time.process_time() - began < SECONDS
            assert psutil.Process().memory_info().rss - idle < BYTES

    check()
