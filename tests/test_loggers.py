"""Every logger by YAML: a folder a run, the configuration and the sound in it, and nothing sent."""

import json
import socket
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import wandb
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st
from lightning import Trainer
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from wandb.errors import CommError
from wandb.proto.wandb_internal_pb2 import Record

from audioldm_lit.audio.log_mel import MEL_FLOOR, LogMel
from audioldm_lit.audio.spectrogram import COLOURS, LOUDEST, coloured, frequency_ticks, write_spectrogram
from audioldm_lit.audio.waveform import write
from audioldm_lit.cli import main
from audioldm_lit.training.loggers import TensorBoard, Wandb, log_clip, resume_logging

import layouts
from runs import HEARD, REPOSITORY, arguments, run_folder

LOGGERS = {path.stem: path for path in (REPOSITORY / "configs" / "logger").glob("*.yaml")}
BLOCK, HEAD = 32768, 7  # of wandb's file: LevelDB's log format after a head of its own


def records(folder: Path) -> list[Record]:
    """What wandb keeps of an offline run, in order, once its own process has written all of it."""
    wandb.teardown()
    (file,) = folder.glob("wandb/offline-run-*/run-*.wandb")
    content, place, parts, found = file.read_bytes(), HEAD, b"", []
    while place + HEAD <= len(content):
        if BLOCK - place % BLOCK < HEAD:  # too little of the block is left for a head
            place += BLOCK - place % BLOCK
            continue
        size, kind = int.from_bytes(content[place + 4 : place + 6], "little"), content[place + 6]
        parts += content[place + HEAD : place + HEAD + size]
        place += HEAD + size
        if kind in (1, 4):  # whole, or the last part
            found.append(Record.FromString(parts))
            parts = b""
    return found


def logged(folder: Path) -> dict[str, list]:
    """Values by name of an offline wandb run."""
    values: dict[str, list] = {}
    for record in records(folder):
        for item in record.history.item:
            values.setdefault(item.key or "/".join(item.nested_key), []).append(json.loads(item.value_json))
    return values


def config_of(folder: Path) -> dict:
    """Configuration of an offline wandb run."""
    updates = (item for record in records(folder) for item in record.config.update)
    return {item.key: json.loads(item.value_json) for item in updates if item.key}


def events(folder: Path) -> EventAccumulator:
    return EventAccumulator(str(folder), size_guidance={"audio": 0, "images": 0, "tensors": 0}).Reload()


def resolved(folder: Path) -> dict:
    return yaml.safe_load((folder / "config.yaml").read_text())


@pytest.fixture(scope="module")
def workplace(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("loggers")


@pytest.fixture(scope="module")
def fitted(workplace, tiny_folder):
    """Runs of the same two steps, one with each logger."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(workplace)
        patch.setenv("XDG_CACHE_HOME", str(workplace / "cache"))
        options = [*arguments(tiny_folder, {**layouts.esc50(workplace / "esc50", takes=1), "shots": 2}), *HEARD]
        folders = {}
        for name, logger in LOGGERS.items():
            main(["fit", *options, "--trainer.logger", str(logger)])
            folders[name] = run_folder(workplace).absolute()
    return SimpleNamespace(folders=folders, options=options)


def test_offline_wandb_run_keeps_its_config(fitted):
    kept, saved = config_of(fitted.folders["wandb"]), resolved(fitted.folders["wandb"])
    assert saved["model"]["adapter"]["init_args"]["options"] == {"r": 8, "lora_alpha": 8}
    assert {name: kept[name] for name in saved} == saved


def test_tensorboard_run_keeps_its_config(fitted):
    folder = fitted.folders["tensorboard"]
    (text,) = events(folder).Tensors("config/text_summary")[0].tensor_proto.string_val
    assert yaml.safe_load(text.decode()) == resolved(folder)


@pytest.mark.parametrize("settings", [{}, pytest.param({"offline": False}, marks=pytest.mark.nightly)])
def test_a_connection_is_made_only_where_the_user_asks_for_one(settings, workdir, monkeypatch):
    """The server takes what comes and gives no answer."""
    wandb.teardown()  # it reads its server's address once
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.delenv("WANDB_MODE")
        monkeypatch.setenv("WANDB_API_KEY", "0" * 40)
        monkeypatch.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{server.getsockname()[1]}")
        monkeypatch.setenv("WANDB_INIT_TIMEOUT", "5")
        logger = Wandb(**{**yaml.safe_load(LOGGERS["wandb"].read_text())["init_args"], **settings})
        with nullcontext() if not settings else pytest.raises(CommError):
            logger.log_metrics({"val/loss": 1.0}, 0)
            logger.finalize("success")
        wandb.teardown()
        server.setblocking(False)
        with nullcontext() if settings else pytest.raises(BlockingIOError):
            server.accept()[0].close()


def test_two_runs_share_no_folder(fitted):
    """Everything a run leaves is in its own folder, wandb's part too; the experiment's name is that of its YAML."""
    folders = list(fitted.folders.values())
    assert len(set(folders)) == len(LOGGERS)
    assert {folder.parent for folder in folders} == {folders[0].parents[1] / "esc50_lora_8shot"}
    assert [path.name for path in folders[0].parents[1].iterdir()] == ["esc50_lora_8shot"]
    whole = {path.name for path in fitted.folders["csv"].iterdir()}
    assert {"config.yaml", "adapter.safetensors", "result.json", "metrics.csv", "checkpoints", "audition"} <= whole
    assert all(whole <= {path.name for path in folder.iterdir()} for folder in folders)
    for folder in folders:
        assert str(folder).endswith(str(Path(json.loads((folder / "result.json").read_text())["adapter"]).parent))


def test_loggers_do_not_change_the_training(fitted):
    plain, *others = (
        torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"] for folder in fitted.folders.values()
    )
    assert all(torch.equal(weight, other[name]) for other in others for name, weight in plain.items())


def test_clips_and_spectrograms_reach_wandb(fitted):
    folder = fitted.folders["wandb"]
    (prompt,) = (folder / "audition").iterdir()
    values = logged(folder)
    for name, suffix in {"sound": "wav", "log_mel": "png"}.items():
        media = [folder.glob(f"wandb/offline-run-*/files/{path}") for path in _paths(values, f"audition/{prompt.name}/{name}")]
        heard = [next(found).read_bytes() for found in media]
        assert heard == [path.read_bytes() for path in sorted(prompt.glob(f"*.{suffix}"))]
        assert len(heard) == 3


def _paths(values: dict[str, list], name: str) -> list[str]:
    """Files of a medium; wandb keeps it as one object or as one value a field."""
    return [one["path"] for one in values[name]] if name in values else values[f"{name}/path"]


def test_clips_and_spectrograms_reach_tensorboard(fitted):
    folder = fitted.folders["tensorboard"]
    (prompt,) = (folder / "audition").iterdir()
    shown = events(folder)
    heard, seen = shown.Audio(f"audition/{prompt.name}/sound"), shown.Images(f"audition/{prompt.name}/log_mel")
    assert [one.step for one in heard] == [one.step for one in seen] == [0, 1, 2]
    picture = Image.open(prompt / "step-000000.png")
    assert {(one.width, one.height) for one in seen} == {picture.size}
    assert {(one.sample_rate, one.length_frames) for one in heard} == {(16_000, 10_240)}


def test_curves_are_those_of_the_table(fitted):
    losses = {}
    for name, folder in fitted.folders.items():
        head, *rows = (line.split(",") for line in (folder / "metrics.csv").read_text().splitlines())
        losses[name] = [float(row[head.index("val/loss")]) for row in rows if row[head.index("val/loss")]]
    assert len(losses["csv"]) == 2
    assert all(one == losses["csv"] for one in losses.values())
    assert logged(fitted.folders["wandb"])["val/loss"] == pytest.approx(losses["csv"])
    assert [one.value for one in events(fitted.folders["tensorboard"]).Scalars("val/loss")] == pytest.approx(losses["csv"])


@pytest.mark.nightly
@pytest.mark.parametrize("logger", [name for name in LOGGERS if name != "csv"])  # which every experiment has
def test_every_verb_takes_an_experiment_that_names_the_logger(logger, fitted, workplace, monkeypatch):
    """As a relative path; `test` keeps its configuration as well, and a resumed run has a folder of its own."""
    monkeypatch.chdir(workplace)
    experiment = workplace / f"{logger}.yaml"
    path = Path("configs") / "logger" / f"{logger}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(LOGGERS[logger].read_text())
    experiment.write_text(f"trainer: {{logger: {path}}}\n")
    options = [*fitted.options, "--config", str(experiment), "--trainer.logger.init_args.name", f"all_{logger}"]
    options += ["--trainer.max_steps", "3", "--ckpt_path", str(fitted.folders[logger] / "checkpoints" / "last.ckpt")]
    left = {"fit": "result.json", "validate": "metrics.csv", "test": "test.json", "predict": "predictions/manifest.json"}
    for number, (verb, file) in enumerate(left.items()):
        main([verb, *options])
        folder = workplace / "runs" / f"all_{logger}" / f"version_{number}"
        assert (folder / file).is_file()
        if logger == "wandb":
            assert config_of(folder)["trainer"]["max_steps"] == 3


def test_a_logger_that_gives_runs_no_folder_is_refused(workdir, tiny_folder, cli):
    options = arguments(tiny_folder, {**layouts.esc50(workdir / "esc50", takes=1), "shots": 2})
    status, _, err = cli("fit", *options, "--trainer.logger", "lightning.pytorch.loggers.WandbLogger")
    assert status == 2
    assert "configs/logger/" in err.splitlines()[-1]
    assert not (workdir / "wandb").exists()


def test_a_refused_run_leaves_nothing_with_any_logger(workdir, tiny_folder, cli):
    data = layouts.esc50(workdir / "esc50", takes=1)
    for logger in LOGGERS.values():
        options = arguments(tiny_folder, {**data, "shots": 2})
        assert cli("fit", *options, "--trainer.logger", logger, "--data.init_args.duration", "0.7")[0] == 2
        assert not (workdir / "runs").exists()


def test_a_trainer_s_second_verb_goes_on_in_the_same_wandb_run(workdir):
    logger = Wandb()
    logger.log_metrics({"val/loss": 1.0}, 0)
    logger.finalize("success")
    logger.log_metrics({"test/loss": 2.0}, 1)
    logger.finalize("success")
    files = list(Path(logger.log_dir).glob("wandb/offline-run-*/run-*.wandb"))
    assert len({file.name for file in files}) == 1


def test_a_clip_reaches_each_logger_of_a_list_that_takes_sound(workdir):
    sound, picture = workdir / "bell" / "step-000000.wav", workdir / "bell" / "step-000000.png"
    write(sound, torch.linspace(-1, 1, 1600), 16_000)
    write_spectrogram(picture, torch.zeros(10, 64), LogMel(), "a $bell")
    loggers = [CSVLogger("runs"), TensorBoardLogger("runs", name="plain"), TensorBoard(name="ours")]
    for logger in Trainer(logger=loggers, accelerator="cpu").loggers:
        log_clip(logger, "a bell", sound, picture, 7)
        logger.finalize("success")
    for logger in loggers[1:]:
        assert [one.step for one in events(logger.log_dir).Audio("audition/bell/sound")] == [7]


@given(st.floats(-20, 5), st.floats(0, 5))
@example(-5.2987, 0.1018)  # colours 116 and 117, which are equally light: two steps of the map are seen, one may not be
def test_louder_is_lighter_and_silence_is_black(level, more):
    floor = float(np.log(MEL_FLOOR))
    log_mel = torch.full((3, 2), floor)
    log_mel[1, 0], log_mel[2, 0] = level, level + more  # the lowest bin: the picture's last row
    pixels = coloured(log_mel).astype(int).sum(axis=-1)
    assert (pixels[0] == pixels.min()).all()
    assert pixels[-1, 0] == pixels.min() < 10
    assert pixels[-1, 1] <= pixels[-1, 2]
    quiet, loud = np.clip([level, level + more], floor, LOUDEST)
    assert pixels[-1, 1] < pixels[-1, 2] or loud - quiet < 2.01 * (LOUDEST - floor) / COLOURS.N


@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=80))
@settings(max_examples=10, deadline=None)
def test_a_picture_takes_any_prompt_as_its_title(tmp_path_factory, prompt):
    path = tmp_path_factory.getbasetemp() / "mel.png"
    write_spectrogram(path, torch.zeros(10, 64), LogMel(), prompt)
    assert Image.open(path).size == (640, 260)


@pytest.mark.parametrize("hertz", [1000, 4000])
def test_a_sine_is_seen_at_its_frequency(hertz):
    front_end = LogMel()
    log_mel = front_end(torch.sin(2 * torch.pi * hertz * torch.arange(16_000) / 16_000)[None])[0, 0]
    row = coloured(log_mel).astype(int).sum(axis=(1, 2)).argmax()  # from above
    assert frequency_ticks(front_end)[hertz / 1000] == pytest.approx(1 - (row + 0.5) / 64, abs=1 / 64)


def test_a_run_s_adapter_is_an_artifact_at_wandb(fitted):
    found = records(fitted.folders["wandb"])
    kept = [record.artifact for record in found] + [record.request.log_artifact.artifact for record in found]
    (adapter,) = [artifact for artifact in kept if artifact.type == "adapter"]
    assert [Path(entry.path).name for entry in adapter.manifest.contents] == ["adapter.safetensors"]


def test_a_resumed_run_is_the_same_at_wandb_and_of_its_grid(workdir, monkeypatch):
    monkeypatch.setenv("WANDB_RUN_GROUP", "a grid")
    wandb.teardown()  # it reads the environment once
    folders, runs = [], []
    for loss in (1.0, 0.5):
        logger = Wandb(tags=["long"])
        for folder in folders:
            resume_logging(logger, folder)
        logger.log_metrics({"val/loss": loss}, 0)
        folders.append(Path(logger.log_dir))
        runs += [record.run for record in records(folders[-1]) if record.HasField("run")][:1]  # ends wandb's process, as a kill
    assert len(set(folders)) == 2
    assert len({run.run_id for run in runs}) == 1
    assert {run.run_group for run in runs} == {"a grid"}
    assert list(runs[0].tags) == ["long"]
