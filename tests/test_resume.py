"""What a run can be gone on from, and that its end is the same whenever it was stopped."""

import json
import os
import resource
import shutil
import signal
import struct
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from lightning import Trainer
from lightning.pytorch.loggers import CSVLogger
from safetensors.torch import load_file

from audioldm_lit.cli import main
from audioldm_lit.errors import InputError
from audioldm_lit.training.checkpoint_file import PlainCheckpoints, read_checkpoint
from audioldm_lit.training.resume import check_resumable, checkpoint_to_read

import layouts
from runs import arguments, run_folder

KEPT = {"audioldm_lit": {}, "state_dict": {}, "global_step": 2, "loops": {}, "optimizer_states": [], "lr_schedulers": []}


class Code:
    """Leaves a file when it is unpickled."""

    def __reduce__(self):
        return os.system, ("touch ran",)


@pytest.fixture
def run(workdir) -> Path:
    """A finished run of two steps, as far as its files tell."""
    folder = workdir / "runs" / "adapt" / "version_0"
    (folder / "checkpoints").mkdir(parents=True)
    for name in ("last.ckpt", "best-step=000002.ckpt"):
        torch.save(KEPT, folder / "checkpoints" / name)
    (folder / "result.json").write_text("{}")
    return folder


def asked(word: str | Path) -> Path:
    return checkpoint_to_read(str(word), Trainer(logger=CSVLogger("runs", "adapt"), enable_progress_bar=False, accelerator="cpu"))


def half(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def several_disks(file: Path) -> None:
    """Half of it, and an end that says that it is the first of two disks."""
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2] + struct.pack("<4sLQL", b"PK\x06\x07", 1, 0, 2) + whole[-22:])


SPOILT = {
    "gone": (lambda file: file.unlink(), "no such file"),
    "a folder": (lambda file: (file.unlink(), file.mkdir()), "is a folder"),
    "empty": (lambda file: file.write_bytes(b""), "is empty"),
    "cut off": (half, "is no whole checkpoint"),
    "several disks": (several_disks, "is no whole checkpoint"),
    "text": (lambda file: file.write_text("hello"), "is no whole checkpoint"),
    "weights": (lambda file: torch.save({"weight": torch.zeros(2)}, file), "is no checkpoint of this project"),
    "a tensor": (lambda file: torch.save(torch.zeros(2), file), "is no checkpoint of this project"),
    "code": (lambda file: torch.save({**KEPT, "more": Code()}, file), "would run code"),
}


@pytest.mark.parametrize("spoilt", SPOILT)
def test_a_file_that_is_no_checkpoint_is_refused_in_a_sentence_and_runs_no_code(run, spoilt):
    spoil, problem = SPOILT[spoilt]
    file = run / "checkpoints" / "other.ckpt"
    shutil.copy(run / "checkpoints" / "last.ckpt", file)
    spoil(file)
    with pytest.raises(InputError, match=problem):
        asked(file)
    assert not Path("ran").exists()


@pytest.mark.parametrize(("given", "problem"), [("s3://a/x.ckpt", "is an address"), ("x.safetensors", "is an adapter")])
def test_what_is_no_checkpoint_by_its_name_is_refused(workdir, given, problem):
    Path("x.safetensors").touch()
    with pytest.raises(InputError, match=f"{given}: {problem}"):
        asked(given)


@pytest.mark.parametrize("spoilt", ["empty", "cut off", "text", "code"])
def test_a_torn_last_falls_back_to_the_best_before_it_and_says_so(run, spoilt, capsys):
    SPOILT[spoilt][0](run / "checkpoints" / "last.ckpt")
    assert asked("last").name == "best-step=000002.ckpt"
    assert "going on from best-step=000002.ckpt" in capsys.readouterr().err


def test_a_torn_last_of_a_resumed_run_falls_back_to_what_it_was_resumed_from(run, capsys):
    shutil.copytree(run, resumed := run.with_name("version_7"))
    (resumed / "checkpoints" / "best-step=000002.ckpt").unlink()  # the best check was before
    half(resumed / "checkpoints" / "last.ckpt")
    for told in ("ckpt_path: null", "ckpt_path: other.ckpt", "- last", "{"):
        (resumed / "config.yaml").write_text(told)
        with pytest.raises(InputError, match=r"version_7/checkpoints/last\.ckpt: is no whole checkpoint"):
            asked("last")  # another training's
    (resumed / "config.yaml").write_text("ckpt_path: last")
    assert asked("last").resolve() == run / "checkpoints" / "last.ckpt"
    half(run / "checkpoints" / "last.ckpt")
    assert asked("last").resolve() == run / "checkpoints" / "best-step=000002.ckpt"
    assert "going on from best-step=000002.ckpt beside it" in capsys.readouterr().err


def test_last_and_best_are_those_of_the_newest_run_of_the_name(run, capsys):
    newer = run.with_name("version_10")
    for place, number in enumerate([9, 10, 2]):  # a clock that was set back decides nothing
        shutil.copytree(run, folder := run.with_name(f"version_{number}"))
        os.utime(folder / "checkpoints" / "last.ckpt", (place, place))
    os.utime(run / "checkpoints" / "last.ckpt", (2**33, 2**33))  # from the future
    assert [asked(word).resolve() for word in ("last", "best")] == [
        newer / "checkpoints" / name for name in ("last.ckpt", "best-step=000002.ckpt")
    ]
    assert f"--ckpt_path best: {newer.relative_to(Path.cwd())}/checkpoints/best-step=000002.ckpt" in capsys.readouterr().err


def test_of_several_checks_that_are_kept_best_is_the_one_that_the_run_holds_for_it(run):
    kept = run / "checkpoints"
    torch.save(KEPT, kept / "best-step=000004.ckpt")
    torch.save({**KEPT, "callbacks": {"BestCheck": {"best_model_path": "/moved/best-step=000002.ckpt"}}}, kept / "last.ckpt")
    assert asked("best").name == "best-step=000002.ckpt"


def test_which_is_best_is_not_guessed(run):
    (run / "checkpoints" / "best-step=000002.ckpt").rename(kept := run / "checkpoints" / "best-step=000003.ckpt")
    torch.save(KEPT, run / "checkpoints" / "best-step=000004.ckpt")
    with pytest.raises(InputError, match=r"finds 2 in .*, and not which of them is best; name a file"):
        asked("best")
    for one in (kept, kept.with_name("best-step=000004.ckpt")):
        one.unlink()
    with pytest.raises(InputError, match=r"finds none in .*; take last, or name a file"):
        asked("best")


def test_best_of_a_resumed_run_may_be_a_check_from_before(run):
    best, resumed = run / "checkpoints" / "best-step=000002.ckpt", run.with_name("version_1") / "checkpoints"
    resumed.mkdir(parents=True)
    torch.save({**KEPT, "callbacks": {"BestCheck": {"best_model_path": str(best)}}}, resumed / "last.ckpt")
    assert asked("best") == best


@pytest.mark.parametrize("word", ["last", "best"])
def test_last_without_any_is_refused(workdir, word):
    with pytest.raises(InputError, match="finds no checkpoint"):
        asked(word)


@pytest.mark.parametrize("lacking", ["loops", "global_step", "optimizer_states", "lr_schedulers"])
def test_a_checkpoint_that_training_cannot_go_on_from_is_refused(run, lacking):
    torch.save({key: value for key, value in KEPT.items() if key != lacking}, run / "checkpoints" / "last.ckpt")
    with pytest.raises(InputError, match=f"has no {lacking}"):
        check_resumable(run / "checkpoints" / "last.ckpt", 3)


def test_a_checkpoint_at_no_step_is_refused(run):
    torch.save({**KEPT, "global_step": "2"}, run / "checkpoints" / "last.ckpt")
    with pytest.raises(InputError, match="is at step '2', which is no number"):
        check_resumable(run / "checkpoints" / "last.ckpt", 3)


def test_where_nothing_is_left_to_train_only_an_end_that_was_not_reached_is_gone_on_with(run):
    last = run / "checkpoints" / "last.ckpt"
    check_resumable(last, 3)
    check_resumable(last, -1)
    for steps in (1, 2):
        with pytest.raises(InputError, match=r"is at step 2 .* nothing is left"):
            check_resumable(last, steps)
    check_resumable(last, 2, "scores.json")
    (run / "result.json").unlink()
    check_resumable(last, 2)


def test_an_address_is_refused_before_anything_is_loaded(workdir, cli):
    for given in (("--ckpt_path", "http://127.0.0.1:9/x.ckpt"), ("--ckpt_path=s3://bucket/x.ckpt",)):
        status, _, err = cli("fit", *given)
        assert status == 2
        assert "is an address" in err.splitlines()[-1]
    status, _, err = cli("fit", "--weights_only", "false")
    assert status == 2
    assert "weights_only: is no setting of fit" in err.splitlines()[-1]


def test_a_checkpoint_that_cannot_be_written_leaves_the_one_before_it(run):
    last, saver = run / "checkpoints" / "last.ckpt", PlainCheckpoints()
    before = last.read_bytes()
    bounds, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, bounds[1]))
    try:
        with pytest.raises(InputError, match="cannot be written"):
            saver.save_checkpoint({**KEPT, "weight": torch.zeros(100_000)}, last)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, bounds)
        signal.signal(signal.SIGXFSZ, handler)
    assert last.read_bytes() == before
    assert sorted(path.name for path in last.parent.iterdir()) == ["best-step=000002.ckpt", "last.ckpt"]
    assert read_checkpoint(last)["global_step"] == 2


class Killed(BaseException):
    """Nothing of ours catches it."""


def killed(*args, **kwargs):
    raise Killed


ENDS = ["export.save_adapter"]
AT_NIGHT = ["averages.choose", "result.run_record", "export.write_clips", "export.write_card", "adapter_effect.measure_effect"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory, tiny_folder) -> SimpleNamespace:
    """A run of two steps with averages, its options and its adapter."""
    place = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        patch.setenv("XDG_CACHE_HOME", str(place / "cache"))
        data = {**layouts.esc50(place / "esc50", takes=1), "shots": 2}
        options = [*arguments(tiny_folder, data), "--averages.profiles", "[0.1, 0.2]"]
        options += ["--trainer.val_check_interval", "1", "--model.optimizer", "torch.optim.AdamW", "--model.optimizer.lr", "0.02"]
        main(["fit", *options])
        adapter = load_file(run_folder(place) / "adapter.safetensors")
    return SimpleNamespace(cache=place / "cache", options=options, adapter=adapter)


@pytest.mark.slow
@pytest.mark.parametrize("stage", [*ENDS, *(pytest.param(stage, marks=pytest.mark.nightly) for stage in AT_NIGHT)])
def test_a_run_killed_at_its_end_ends_the_same_when_resumed(workdir, whole, monkeypatch, stage):
    shutil.copytree(whole.cache, workdir / "cache")
    with monkeypatch.context() as patch:
        patch.setattr(f"audioldm_lit.callbacks.{stage}", killed)
        with pytest.raises(Killed):
            main(["fit", *whole.options])
    assert not (run_folder(workdir) / "result.json").exists()
    main(["fit", *whole.options, "--ckpt_path", "last"])
    assert (run_folder(workdir) / "result.json").is_file()
    again = load_file(run_folder(workdir) / "adapter.safetensors")
    assert again.keys() == whole.adapter.keys()
    assert all(torch.equal(weight, again[name]) for name, weight in whole.adapter.items())


@pytest.mark.nightly
def test_a_run_that_lost_its_patience_finds_it_only_where_it_is_raised(workdir, whole, caplog):
    """At such a rate the first check is the best; what stopped the run must stop it when it is resumed, before another step."""
    shutil.copytree(whole.cache, workdir / "cache")
    options = [*whole.options, "--averages.profiles", "[]", "--trainer.max_steps", "4", "--model.ema_decay", "null"]
    options += [
        "--model.optimizer.lr",
        "0.5",
        "--model.warmup_steps",
        "0",
        "--early_stopping.patience",
        "1",
        "--checkpoint.save_top_k",
        "-1",
    ]
    main(["fit", *options])
    stopped = steps_done(workdir)
    assert stopped < 4
    main(["fit", *options, "--ckpt_path", "last"])
    assert steps_done(workdir) == stopped
    assert "raise it to go on" in caplog.text
    main(["fit", *options, "--ckpt_path", "last", "--early_stopping.patience", "9"])
    assert steps_done(workdir) == 4


def steps_done(root: Path) -> int:
    return json.loads((run_folder(root) / "result.json").read_text())["steps"]
