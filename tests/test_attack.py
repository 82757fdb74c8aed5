"""The attack, again and in one process: `python -m pytest -n 0 -m nightly tests/test_attack.py -s`.

Each case, made here and stored nowhere, must end in an `InputError` (through the command line: status 2, one sentence, nothing
half-written) or be read right. Recordings and tables are the kinds of `test_broken_sets.py`, class paths those of
`test_class_paths.py`.
"""

import io
import json
import resource
import shutil
import signal
import struct
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
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
from audioldm_lit.diffusion import NoisePrediction
from audioldm_lit.errors import InputError
from audioldm_lit.inference.journal import Journal
from audioldm_lit.inference.manifest import Entry
from audioldm_lit.storage.atomic_write import write_json
from audioldm_lit.storage.shards import Shards
from audioldm_lit.training.checkpoint_file import PlainCheckpoints
from audioldm_lit.training.resume import check_resumable, checkpoint_to_read

import layouts
import tiny
from grids import seeds, write_grid
from runs import arguments, run_folder, weights
from users import as_root, begin, end

FINGERPRINT = "audioldm_lit.metrics.extractors.fingerprint.Fingerprint"
pytestmark = pytest.mark.nightly


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
    schedules = [
        3,
        {"no": 1},
        {"beta_end": "x"},
        {"beta_schedule": "x"},
        {"num_train_timesteps": -1},
        {"num_train_timesteps": 10**9},
    ]
    noise = "audioldm_lit.diffusion.NoisePrediction"
    predictions = [{"class_path": noise, "init_args": {"schedule": schedule}} for schedule in schedules]
    others = {
        "base": ["", "x", "0" * 64],
        "prediction": [
            "",
            "null",
            "3",
            "[" * 100_000,
            *map(json.dumps, (lies["an abstract class"], lies["a function"], *predictions)),
        ],
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
    save_adapter(workdir / "good.safetensors", adapter, dict(trainable(backbone)), base, NoisePrediction())
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
        "an adapter": lambda: save_adapter(workdir / "x.safetensors", PeftAdapter(), {"weight": large}, "", NoisePrediction()),
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


@pytest.fixture
def owned(tiny_folder) -> Iterator[tuple[Path, list[str]]]:
    """A place of this user's which all may enter, with a run, a grid's results and its cache; and the options of that run."""
    place = Path(tempfile.mkdtemp(dir="/var/tmp"))
    place.chmod(0o755)
    shutil.copytree(tiny_folder, place / "model").chmod(0o755)
    options = arguments(place / "model", {**layouts.esc50(place / "esc50", takes=1), "shots": 2})
    protocol = {
        "class_path": "audioldm_lit.evaluation.protocol.Protocol",
        "init_args": {
            "name": "light",
            "metrics": {"kad": {"class_path": "audioldm_lit.metrics.kernel.KAD", "init_args": {"extractor": FINGERPRINT}}},
        },
    }
    (place / "light.yaml").write_text(json.dumps(protocol))
    (place / "words").write_text("rain\nwind\n")
    main(["fit", *options, "--trainer.logger.init_args.save_dir", str(place / "runs"), "--model.cache_dir", str(place / "cache")])
    write_grid(place, seeds(1))
    with redirect_stdout(io.StringIO()):
        main(["ablate", "--config", str(place / "grid.yaml"), "--out", str(place / "results"), "--allow_dirty"])
    yield place, options
    shutil.rmtree(place)


def writing(place: Path, options: list[str]) -> dict[str, list[str]]:
    """Commands that write into somebody else's place."""
    model, sounds, run = str(place / "model"), str(place / "esc50" / "audio"), str(run_folder(place))
    texts = ["--prompt", "rain", "--backbone", model, "--device", "cpu", "--sampler.num_inference_steps", "2"]
    prepare = ["prepare", "--data", "audioldm_lit.data.folder.Folder", "--data.root", sounds, "--data.duration", "0.64"]
    files = ["--generated", sounds, "--reference", sounds, "--protocol", str(place / "light.yaml")]
    grid = ["ablate", "--config", str(place / "grid.yaml"), "--allow_dirty"]
    adapter = ["convert", "--backbone", model, "--source", f"{run}/adapter.safetensors"]
    watch = ["watch", "--run", run, "--data", sounds, "--protocol", str(place / "light.yaml"), "--device", "cpu"]
    return {
        "fit, runs": ["fit", *options, "--trainer.logger.init_args.save_dir", str(place / "runs")],
        "fit, cache": ["fit", *options, "--model.cache_dir", str(place / "no")],
        "fit, a half cache": ["fit", *options, "--model.cache_dir", str(place / "cache"), "--data.init_args.shots", "3"],
        "generate": ["generate", *texts, "--out", str(place / "generated")],
        "prepare": [*prepare, "--out", str(place / "health")],
        "prepare, cache": [*prepare, "--cache", "--backbone", model, "--cache_dir", str(place / "no")],
        "evaluate": ["evaluate", *files, "--json", str(place / "x.json")],
        "evaluate, features": ["evaluate", *files, "--cache_dir", str(place / "no")],
        "ablate": [*grid, "--out", str(place / "other")],
        "ablate, more": [*grid, "--out", str(place / "results")],
        "convert": [*adapter, "--to", "merged", "--out", str(place / "merged")],
        "listen build": ["listen", "build", "--run", run, "--clips", "2", "--out", str(place / "listen.html")],
        "report": ["report", run, "--out", str(place / "report.html")],
        "watch": [*watch, "--out", str(place / "watch")],
        "curve": ["curve", "--grid", str(place / "results"), "--json", str(place / "curve.json")],
        "doctor": ["doctor", "--model", model, "--device", "cpu", "--json", str(place / "doctor.json")],
        "assets bundle": ["assets", "bundle", "nothing", "--out", str(place / "x.tar")],
    }


def reading(place: Path, options: list[str]) -> dict[Path, list[str]]:
    """Commands that read what is closed to others, by what that is."""
    sounds, light, run = str(place / "esc50" / "audio"), str(place / "light.yaml"), run_folder(place)
    files = ["evaluate", "--generated", sounds, "--reference", sounds, "--protocol", light]
    adapter = str(run / "adapter.safetensors")
    return {
        place / "model": ["fit", *options],
        place / "model" / "unet": ["generate", "--prompt", "rain", "--backbone", str(place / "model"), "--device", "cpu"],
        place / "esc50": ["fit", *options],
        place / "esc50" / "audio": files,
        place / "light.yaml": files,
        place / "cache": ["fit", *options, "--model.cache_dir", str(place / "cache")],
        place / "grid.yaml": ["ablate", "--config", str(place / "grid.yaml"), "--allow_dirty"],
        place / "results": ["curve", "--grid", str(place / "results")],
        run: ["report", str(run)],
        run / "config.yaml": ["watch", "--run", str(run), "--data", sounds, "--device", "cpu"],
        run / "adapter.safetensors": ["convert", "--source", adapter, "--to", "merged", "--out", "merged"],
        run / "checkpoints": ["fit", *options, "--ckpt_path", str(run / "checkpoints" / "last.ckpt"), "--trainer.max_steps", "3"],
    }


@as_root
def test_places_that_may_not_be_written(owned):
    """As nobody: the runs folder, the cache, results of others, and wherever a verb writes; what is only read is no fault."""
    place, options = owned
    room, failures = place / "room", []
    before = {path: path.stat().st_mtime_ns for path in place.rglob("*")}
    written, read = writing(place, options), reading(place, options)

    def attack(name: str, words: list[str]) -> None:
        status, said = end(begin(partial(main, words), room), room)
        last = (said.splitlines() or [""])[-1]
        if status != 2 or not last.startswith("error: ") or "Traceback" in said:
            failures.append(f"{name}: {status}, {said[-1500:]}")

    for name, words in written.items():
        attack(name, words)
    status, said = end(begin(partial(main, ["fit", *options, "--model.cache_dir", str(place / "cache")]), room), room)
    kept, made = (sorted(folder.glob("runs/*/*/adapter.safetensors")) for folder in (place, room))
    if status or [weights(file) for file in kept] != [weights(file) for file in made]:
        failures.append(f"fit from a whole cache of somebody else's: {status}, {said[-1500:]}")
    for closed, words in read.items():
        mode = closed.stat().st_mode
        closed.chmod(0o600)
        attack(f"{closed.name} may not be read", words)
        closed.chmod(mode)
    told(failures, len(written) + 1 + len(read), "places of other users")
    assert before == {path: path.stat().st_mtime_ns for path in place.rglob("*") if not path.is_relative_to(room)}
