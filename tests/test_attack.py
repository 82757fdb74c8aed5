"""The attack, again and in one process: `python -m pytest -n 0 -m simulation tests/test_attack.py -s`.

Each case, made here and stored nowhere, must end in an `InputError` (through the command line: status 2, one sentence, nothing
half-written) or be read right. Recordings and tables are the kinds of `test_broken_sets.py`, class paths those of
`test_class_paths.py`.
"""

import json
import os
import resource
import shutil
import signal
import struct
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from test_resume import KEPT, Code, asked

from audioldm_lit.adapters.base import trainable
from audioldm_lit.adapters.files.adapter_file import load_adapter, read_about, save_adapter
from audioldm_lit.adapters.peft import PeftAdapter
from audioldm_lit.audio.waveform import write
from audioldm_lit.cli import main
from audioldm_lit.errors import InputError
from audioldm_lit.inference.journal import Journal
from audioldm_lit.inference.manifest import Entry
from audioldm_lit.storage.atomic_write import write_json
from audioldm_lit.storage.shards import Shards
from audioldm_lit.training.checkpoint_file import PlainCheckpoints
from audioldm_lit.training.resume import check_resumable, checkpoint_to_read

import layouts
import tiny
from runs import arguments

pytestmark = pytest.mark.simulation
NOBODY = 65_534


def told(failures: list[str], count: int, what: str) -> None:
    """Print the count, and fail where a case does."""
    sys.stdout.write(f"{what}: {count - len(failures)} of {count}\n")
    assert not failures, "\n".join(failures)


def refused(attempt: Callable[[], Any]) -> str:
    """What is wrong with how a case ends, empty where it is an `InputError`."""
    try:
        return f"was taken: {attempt()!r:.80}"
    except InputError:
        return ""
    except Exception as error:
        return f"{type(error).__name__}: {error!s:.120}"


# ---------------------------------------------------------------- settings

SETTINGS = {
    "model.lr": "1",
    "model.optimizer.lr": "-1",
    "model.optimizer.init_args.lr": ".nan",
    "model.optimizer": "torch.nn.Linear",
    "model.val_timesteps": "1000000000",
    "model.warmup_steps": "-1",
    "model.ema_decay": ".nan",
    "model.objective": "3",
    "model.adapter": "torch.nn.Linear",
    "model.backbone": "/nowhere",
    "model.sampler.num_inference_steps": "0",
    "model.sampler.scheduler": "Nope",
    "model.sampler.guidance_scale": ".nan",
    "model.protocol": "nope.yaml",
    "model.seed": "abc",
    "model.compile_unet": "perhaps",
    "data.init_args.batch_size": "1000000",
    "data.init_args.duration": ".nan",
    "data.init_args.shots": "0",
    "data.init_args.num_workers": "-1",
    "data.init_args.fold": "9",
    "data.init_args.rot": "x",
    "data.init_args.root": "/nowhere",
    "data.init_args.sample_rate": "0",
    "data": "nowhere.Data",
    "trainer.accelerator": "foo",
    "trainer.precision": "17",
    "trainer.devices": "9999",
    "trainer.max_steps": "-5",
    "trainer.val_check_interval": "500",
    "trainer.limit_val_batches": "0",
    "trainer.logger.init_args.save_dir": "/dev/null",
    "trainer.strategy": "fsdp",
    "trainer.gradient_clip_val": "abc",
    "trainer.callbacks": "os.system",
    "checkpoint.monitor": "nope",
    "early_stopping.patience": "abc",
    "audition.count": "-1",
    "averages.profiles": "[-1]",
    "seed_everything": "abc",
    "ckpt_path": "http://127.0.0.1:9/x.ckpt",
}


def test_settings(cli, workdir, tiny_folder):
    options = arguments(tiny_folder, {**layouts.esc50(workdir / "esc50", takes=1), "shots": 2})
    failures = []
    for key, value in SETTINGS.items():
        try:
            status, _, err = cli("fit", *options, f"--{key}", value)
        except Exception as error:
            failures.append(f"{key}={value}: {type(error).__name__}: {error!s:.120}")
            continue
        last = (err.splitlines() or [""])[-1]
        if status != 2 or not last.startswith("error: ") or "Traceback" in err or (workdir / "runs").exists():
            failures.append(f"{key}={value}: status {status}, {last:.120}, runs: {(workdir / 'runs').exists()}")
            shutil.rmtree(workdir / "runs", ignore_errors=True)
    told(failures, len(SETTINGS), "settings")


# ---------------------------------------------------------------- adapter files


def adapter_files(good: Path) -> dict[str, bytes]:
    """Spoilt adapter files of many kinds."""
    content = good.read_bytes()
    size = struct.unpack("<Q", content[:8])[0]
    header, body = json.loads(content[8 : 8 + size]), content[8 + size :]
    about, names = header["__metadata__"], [name for name in header if name != "__metadata__"]

    def made(change: Callable[[dict[str, Any]], Any], metadata: dict[str, str] | None = None) -> bytes:
        copy = json.loads(json.dumps(header))
        copy["__metadata__"] |= metadata or {}
        change(copy)
        text = json.dumps(copy).encode()
        return struct.pack("<Q", len(text)) + text + body

    def same(_: dict[str, Any]) -> None:
        pass

    found = {f"cut at {share:.0%}": content[: int(share * len(content))] for share in (0, 0.001, 0.01, 0.1, 0.5, 0.9, 0.999)}
    found |= {
        f"a header of {length} bytes": struct.pack("<Q", length) + content[8:]
        for length in (0, 1, size - 1, size + 1, 2**40, 2**64 - 1)
    }
    found |= {
        "bytes behind it": content + b"x",
        "zeros": bytes(1000),
        "text": b"hello",
        "a picture": b"\x89PNG\r\n\x1a\n" + bytes(99),
    }
    first = names[0]
    found |= {
        "a weight less": made(lambda copy: copy.pop(first)),
        "a weight of another name": made(lambda copy: copy.__setitem__("unet.other", copy.pop(first))),
        "a weight of another shape": made(lambda copy: copy[first].__setitem__("shape", copy[first]["shape"][::-1])),
        "a weight of no shape": made(lambda copy: copy[first].__setitem__("shape", [])),
        "a weight of a negative shape": made(lambda copy: copy[first].__setitem__("shape", [-1, 4])),
        "a weight of a huge shape": made(lambda copy: copy[first].__setitem__("shape", [2**62, 4])),
        "a weight before the start": made(lambda copy: copy[first].__setitem__("data_offsets", [-8, 8])),
        "a weight behind the end": made(lambda copy: copy[first].__setitem__("data_offsets", [0, 2**50])),
        "two weights of the same bytes": made(lambda copy: copy[names[1]].__setitem__("data_offsets", copy[first]["data_offsets"])),
        "no metadata": made(lambda copy: copy.pop("__metadata__")),
    }
    found |= {
        f"{kind} weights": made(lambda copy, kind=kind: copy[first].__setitem__("dtype", kind))
        for kind in ("I64", "BOOL", "U8", "F8_E4M3", "C64", "X9")
    }
    spec = json.loads(about["adapter"])
    lies: dict[str, Any] = {
        "a list": [spec],
        "a text": "lora",
        "null": None,
        "a number": 3,
        "deep": json.loads("[" * 400 + "]" * 400),
        "no class": {"init_args": {}},
        "no settings": {"class_path": spec["class_path"]},
        "settings that are a list": {**spec, "init_args": [1]},
        "an unknown setting": {**spec, "init_args": {"rank": 4}},
        "options that are a number": {**spec, "init_args": {"options": 3}},
        "options that are a list": {**spec, "init_args": {"options": ["r"]}},
        "targets that are a number": {**spec, "init_args": {"targets": 3}},
        "targets of lists": {**spec, "init_args": {"targets": [["a"]]}},
        "no targets": {**spec, "init_args": {"targets": []}},
        "a pattern that is none": {**spec, "init_args": {"targets": ["("]}},
        "an evil pattern": {**spec, "init_args": {"targets": ["(.?.?.?)*(.?.?.?)*(.?.?.?)*!"]}},
        "a config that is none": {**spec, "init_args": {"config": "PeftConfig_"}},
        "a config that is a number": {**spec, "init_args": {"config": 3}},
        "another rank": {**spec, "init_args": {"options": {"r": 5}}},
        "a huge rank": {**spec, "init_args": {"options": {"r": 10**12}}},
        "a rank of -1": {**spec, "init_args": {"options": {"r": -1}}},
        "a rank of nan": {**spec, "init_args": {"options": {"r": float("nan")}}},
        "modules to save": {**spec, "init_args": {"options": {"modules_to_save": ["conv_in"]}}},
        "an abstract class": {**spec, "class_path": "audioldm_lit.adapters.base.Adapter"},
        "a function": {**spec, "class_path": "os.system"},
        "a module that is not there": {**spec, "class_path": "nowhere.Trick"},
        "a class that is not there": {**spec, "class_path": "audioldm_lit.adapters.peft.No"},
        "a private name": {**spec, "class_path": "audioldm_lit.adapters.peft.__doc__"},
        "an empty class": {**spec, "class_path": ""},
        "a class of dots": {**spec, "class_path": "..."},
        "another adapter": {"class_path": "audioldm_lit.adapters.text_head.TextHead", "init_args": {}},
    }
    found |= {f"a spec: {name}": made(same, {"adapter": json.dumps(lie)}) for name, lie in lies.items()}
    others = {
        "base": ["", "x", "0" * 64],
        "prediction_type": ["", "sample", "epsilon "],
        "format": ["", "pt", "audioldm_lit.adapter/2"],
        "adapter": ["", "{", "[" * 100_000],
    }
    found |= {f"{key} {number}": made(same, {key: value}) for key, values in others.items() for number, value in enumerate(values)}
    return found


def test_adapter_files(workdir, monkeypatch):
    monkeypatch.setattr("audioldm_lit.adapters.files.bounds.SECONDS", 1.0)
    backbone = tiny.backbone()
    adapter = PeftAdapter(options={"r": 2}, targets=["text_path"])
    base = backbone.fingerprint("unet")
    adapter.inject(backbone)
    save_adapter(workdir / "good.safetensors", adapter, dict(trainable(backbone)), base, "epsilon")
    load_adapter(workdir / "good.safetensors", tiny.backbone())
    files = adapter_files(workdir / "good.safetensors")
    failures = []
    for name, content in files.items():
        (workdir / "x.safetensors").write_bytes(content)
        if wrong := refused(lambda: load_adapter(workdir / "x.safetensors", tiny.backbone())):
            failures.append(f"{name}: {wrong}")
    abouts = [
        "",
        "{",
        "3",
        "null",
        "[]",
        '{"scores": 3}',
        '{"scores": {"a": 1}}',
        '{"captions": null, "scores": {}}',
        "[" * 100_000,
        '{"x": 1}',
    ]
    for number, text in enumerate(abouts):
        safetensors.torch.save_file({"weight": torch.zeros(1)}, workdir / "x.safetensors", {"about": text})
        if wrong := refused(lambda: read_about(workdir / "x.safetensors")):
            failures.append(f"about {number}: {wrong}")
    places = {
        "a folder": workdir,
        "nothing": workdir / "no",
        "a device": Path("/dev/null"),
        "a link to /etc/passwd": workdir / "link",
    }
    (workdir / "link").symlink_to("/etc/passwd")
    for name, place in places.items():
        if wrong := refused(partial(load_adapter, place, tiny.backbone())):
            failures.append(f"{name}: {wrong}")
    told(failures, len(files) + len(abouts) + len(places), "adapter files")


# ---------------------------------------------------------------- checkpoints


def test_checkpoints(workdir):
    folder = workdir / "runs" / "adapt" / "version_0" / "checkpoints"
    folder.mkdir(parents=True)
    torch.save(KEPT, path := folder / "x.ckpt")
    whole = path.read_bytes()
    checkpoint_to_read(str(path), _trainer())
    contents: dict[str, Any] = {
        f"cut at {share:.0%}": whole[: int(share * len(whole))] for share in (0, 0.05, 0.3, 0.6, 0.95, 0.999)
    }
    contents |= {"zeros": bytes(999), "text": b"hello", "a pickle": b"cos\nsystem\n(S'touch ran'\ntR."}
    contents |= {
        "code": {**KEPT, "more": Code()},
        "a list": [KEPT],
        "a tensor": torch.zeros(2),
        "weights": {"weight": torch.zeros(2)},
        "a number": 3,
    }
    contents |= {f"no {name}": {key: value for key, value in KEPT.items() if key != name} for name in KEPT if name != "state_dict"}
    contents |= {f"a step {step!r}": {**KEPT, "global_step": step} for step in ("2", None, [2], 2.5, 99)}
    failures = []
    for name, content in contents.items():
        path.write_bytes(content) if isinstance(content, bytes) else torch.save(content, path)
        if wrong := refused(lambda: (asked(path), check_resumable(path, 3))):
            failures.append(f"{name}: {wrong}")
    words = [
        "last",
        "best",
        "http://127.0.0.1:9/x.ckpt",
        "s3://a/b.ckpt",
        "file:///etc/passwd",
        "/dev/null",
        ".",
        "no.ckpt",
        "x\0y",
    ]
    failures += [f"--ckpt_path {word!r}: {wrong}" for word in words if (wrong := refused(partial(asked, word)))]
    assert not Path("ran").exists()
    told(failures, len(contents) + len(words), "checkpoints")


def _trainer() -> Any:
    from lightning import Trainer
    from lightning.pytorch.loggers import CSVLogger

    return Trainer(logger=CSVLogger("runs", "adapt"), enable_progress_bar=False, accelerator="cpu")


# ---------------------------------------------------------------- the cache


def test_cache_rows(workdir):
    rows = {key: {"mean": torch.randn(3, 4).half(), "std": torch.rand(3, 4)} for key in ("a", "b")}
    Shards(workdir / "cache").write(rows)
    (shard,) = (workdir / "cache").iterdir()
    whole = shard.read_bytes()
    tensors, metadata = safetensors.torch.load(whole), {"keys": '["a", "b"]'}
    with safetensors.safe_open(shard, "pt") as file:
        metadata = dict(file.metadata())
    save = safetensors.torch.save
    spoilt = {
        **{
            f"a bit at {place}": whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :]
            for place in (len(whole) - 1, len(whole) - 60)
        },
        "swapped rows": save({name: rows_.flip(0).contiguous() for name, rows_ in tensors.items()}, metadata),
        "swapped keys": save(tensors, {**metadata, "keys": '["b", "a"]'}),
        "other keys": save(tensors, {**metadata, "keys": '["a", "c"]'}),
        "another name": save({"mean": tensors["mean"], "more": tensors["std"]}, metadata),
        "another type": save({"mean": tensors["mean"].float(), "std": tensors["std"]}, metadata),
        "another shape": save({name: rows_.reshape(2, 4, 3) for name, rows_ in tensors.items()}, metadata),
        "fewer rows": save({name: rows_[:1].contiguous() for name, rows_ in tensors.items()}, metadata),
        "hashes of nothing": save(tensors, {**metadata, "sha256": '["", ""]'}),
        "numbers for hashes": save(tensors, {**metadata, "sha256": "[1, 2]"}),
        "cut off": whole[: len(whole) // 2],
        "no hashes": save(tensors, {"keys": metadata["keys"]}),
        "zeros": bytes(len(whole)),
    }
    failures = []
    for name, content in spoilt.items():
        shard.write_bytes(content)
        try:
            found = Shards(workdir / "cache")
            served = [key for key in rows if key in found]
            wrong = [key for key in served if any(not torch.equal(found[key][part], rows[key][part]) for part in rows[key])]
            failures += [f"{name}: {key} is served" for key in wrong]
        except InputError:
            continue
        except Exception as error:
            failures.append(f"{name}: {error!r:.120}")
    told(failures, len(spoilt), "cache rows")


# ---------------------------------------------------------------- no room, no right


def test_a_full_disk(workdir):
    large = torch.zeros(100_000)
    journal = Journal(workdir / "journal", {})
    writes: dict[str, Callable[[], Any]] = {
        "a checkpoint": lambda: PlainCheckpoints().save_checkpoint({"weight": large}, workdir / "x.ckpt"),
        "a clip": lambda: write(workdir / "x.wav", large, 16_000),
        "a JSON": lambda: write_json(workdir / "x.json", "x" * 400_000),
        "a cache": lambda: Shards(workdir / "cache").write({"a": {"mean": large}}),
        "a journal": lambda: [journal.add(Entry(f"{number}", "x" * 400_000, 0, 0)) for number in range(2)],
        "an adapter": lambda: save_adapter(workdir / "x.safetensors", PeftAdapter(), {"weight": large}, "", "epsilon"),
    }
    bounds, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, bounds[1]))
    try:
        failures = [f"{name}: {wrong}" for name, attempt in writes.items() if (wrong := refused(attempt))]
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, bounds)
        signal.signal(signal.SIGXFSZ, handler)
    assert not list(workdir.rglob("*.part"))
    assert not [path for path in workdir.glob("x.*")]
    told(failures, len(writes), "full disk")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_places_that_may_not_be_written(tiny_folder):
    """In a fork that is nobody: the runs folder, the cache, and where each verb writes."""
    place = Path(tempfile.mkdtemp(dir="/var/tmp"))
    try:
        failures, count = _as_nobody(place, tiny_folder)
    finally:
        shutil.rmtree(place)
    told(failures, count, "unwritable places")


def _as_nobody(place: Path, model: Path) -> tuple[list[str], int]:
    shutil.copytree(model, place / "model")
    data = layouts.esc50(place / "esc50", takes=1)
    for folder in (place, place / "model"):
        folder.chmod(0o755)
    (place / "free").mkdir(mode=0o777)
    (place / "free").chmod(0o777)
    options = arguments(place / "model", {**data, "shots": 2})
    texts = ["--prompt", "rain", "--backbone", str(place / "model"), "--device", "cpu", "--sampler.num_inference_steps", "2"]
    protocol = {
        "class_path": "audioldm_lit.evaluation.protocol.Protocol",
        "init_args": {"name": "light", "metrics": {"lsd": {"class_path": "audioldm_lit.metrics.spectral.LogSpectralDistance"}}},
    }
    (place / "light.yaml").write_text(json.dumps(protocol))
    sounds = str(place / "esc50" / "audio")
    verbs = {
        "fit, runs": ["fit", *options, "--trainer.logger.init_args.save_dir", str(place / "runs")],
        "fit, cache": ["fit", *options, "--model.cache_dir", str(place / "cache")],
        "generate": ["generate", *texts, "--out", str(place / "generated")],
        "prepare": ["prepare", "--data", "audioldm_lit.data.folder.Folder", "--data.root", sounds, "--out", str(place / "health")],
        "evaluate": [
            "evaluate",
            "--generated",
            sounds,
            "--reference",
            sounds,
            "--protocol",
            str(place / "light.yaml"),
            "--json",
            str(place / "x.json"),
        ],
    }
    failures = []
    for name, words in verbs.items():
        log = place / "free" / "log"
        child = os.fork()
        if child == 0:
            os.setgid(NOBODY)
            os.setuid(NOBODY)
            os.chdir(place / "free")
            os.environ["XDG_CACHE_HOME"] = str(place / "free" / "cache")
            written = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
            for stream in (1, 2):
                os.dup2(written, stream)
            status = 0
            try:
                main(words)
            except SystemExit as exit_:
                status = int(exit_.code or 0)
            except BaseException as error:
                os.write(2, f"{error!r}".encode())
                status = 1
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(status)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        last = (log.read_text(errors="replace").splitlines() or [""])[-1]
        if code != 2 or "error: " not in last:
            failures.append(f"{name}: {code}, {last:.200}")
    return failures, len(verbs)
