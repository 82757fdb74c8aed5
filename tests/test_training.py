import csv
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import soundfile
import torch
from lightning import Trainer

from audioldm_lit.adapters.peft import PeftAdapter
from audioldm_lit.cli import main
from audioldm_lit.data.esc50 import ESC50
from audioldm_lit.evaluation.protocol import Protocol
from audioldm_lit.inference.sampling import Sampler
from audioldm_lit.metrics.base import ClipMetric
from audioldm_lit.metrics.estimate import Estimate
from audioldm_lit.module import LitAudioLDM
from audioldm_lit.places import packaged

import layouts
from runs import EMBEDDED, HEARD, SHORT, arguments, run_folder


class Loudness(ClipMetric):
    sides = ("preds",)

    def update(self, preds, target=None):
        assert preds.waveform.shape == target.waveform.shape
        self.add("preds", preds.ids, target.waveform.square().mean(dim=1))

    def measure(self, preds):
        return Estimate.of_mean(preds.values[:, 0])


@pytest.fixture
def data(workdir) -> dict:
    return {**layouts.esc50(workdir / "esc50", takes=1), "shots": 3}


@pytest.fixture(scope="module")
def fitted(tmp_path_factory, tiny_folder) -> SimpleNamespace:
    """A run of two steps, and the options that made it; with more clips than `data`, so that they can be scored."""
    place = tmp_path_factory.mktemp("fitted")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        patch.setenv("XDG_CACHE_HOME", str(place / "cache"))
        data = {**layouts.esc50(place / "esc50"), "shots": 4}
        options = [*arguments(tiny_folder, data), *HEARD]
        main(["fit", *options])
    run = run_folder(place)
    result = json.loads((run / "result.json").read_text())
    return SimpleNamespace(
        place=place, data=data, options=options, run=run, result=result, last=run / "checkpoints" / "last.ckpt"
    )  # fmt: skip


@pytest.fixture
def warm(workdir, fitted) -> Path:
    """An empty current directory, and a cache in which that run's clips are encoded and the base's loss is measured."""
    shutil.copytree(fitted.place / "cache", workdir / "cache", dirs_exist_ok=True)
    return workdir


def read(checkpoint: Path) -> dict:
    return torch.load(checkpoint, weights_only=True)


def last(root: Path) -> dict:
    return read(run_folder(root) / "checkpoints" / "last.ckpt")


def distance(one: dict, other: dict) -> float:
    assert one["state_dict"].keys() == other["state_dict"].keys()
    return max((one["state_dict"][name] - other["state_dict"][name]).abs().max().item() for name in one["state_dict"])


@pytest.mark.slow
def test_resumed_run_equals_an_uninterrupted_one(warm, tiny_folder, fitted):
    options = arguments(tiny_folder, fitted.data, steps=3)
    main(["fit", *options])
    whole = last(warm)
    main(["fit", *options, "--ckpt_path", str(fitted.last)])
    resumed = last(warm)
    assert resumed["global_step"] == whole["global_step"] == 3
    assert distance(whole, resumed) == 0
    assert resumed["audioldm_lit"]["base_losses"] == whole["audioldm_lit"]["base_losses"]


@pytest.mark.slow
def test_a_resumed_run_keeps_the_best_check_from_before(warm, tiny_folder, fitted, monkeypatch):
    monkeypatch.chdir(fitted.place)  # where the best check is
    half = read(fitted.last)
    for group in half["optimizer_states"][0]["param_groups"]:
        group["lr"] = 1.0  # far too high: every later check is worse
    half["lr_schedulers"][0]["base_lrs"] = [1.0]
    torch.save(half, warm / "half.ckpt")
    main(["fit", *arguments(tiny_folder, fitted.data, steps=3), "--ckpt_path", str(warm / "half.ckpt")])
    after = json.loads((run_folder(fitted.place) / "result.json").read_text())
    assert (after["best_step"], after["held_out_loss_after"]) == (fitted.result["best_step"], fitted.result["held_out_loss_after"])
    left = last(fitted.place)  # a worse check is no best one, and still a place to go on from
    assert left["global_step"] == 3
    assert {Path(state["best_model_path"]).name for state in left["callbacks"].values() if "best_model_path" in state} == {
        Path(after["checkpoint"]).name
    }


@pytest.mark.nightly
def test_run_stopped_midway_continues_exactly(workdir, tiny_folder, data):
    """What a killed run leaves is a checkpoint in the middle of the stream, not at the end of one; two batches make a step."""
    options = [*arguments(tiny_folder, data, steps=3), "--checkpoint.save_top_k", "-1"]
    options += ["--trainer.accumulate_grad_batches", "2", "--trainer.val_check_interval", "2"]
    main(["fit", *options])
    whole = last(workdir)
    halfway = next(run_folder(workdir).glob("checkpoints/best-step=000002.ckpt"))
    main(["fit", *options, "--ckpt_path", str(halfway)])
    resumed = last(workdir)
    assert resumed["global_step"] == whole["global_step"] == 3
    assert distance(whole, resumed) == 0
    average = [run["audioldm_lit"]["ema"]["average"] for run in (whole, resumed)]
    assert all(torch.equal(value, average[1][name]) for name, value in average[0].items())


def test_fit_then_test_works_on_the_same_objects(workdir, tiny_folder, data):
    clips = ESC50(**data, duration=SHORT)
    model = LitAudioLDM(
        PeftAdapter(),
        backbone=str(tiny_folder),
        protocol=Protocol("loudness", {"loudness": Loudness()}, peak=None),
        sampler=Sampler(num_inference_steps=1),
    )
    trainer = Trainer(
        max_steps=1, val_check_interval=1, check_val_every_n_epoch=None, accelerator="cpu", logger=False, enable_progress_bar=False
    )
    trainer.fit(model, datamodule=clips)
    (scores,) = trainer.test(model, datamodule=clips)
    assert scores["test/loss"] > 0
    assert scores["test/loudness"] > 0


@pytest.mark.slow
@pytest.mark.parametrize("starter", ["torchrun", pytest.param("Lightning", marks=pytest.mark.nightly)])
def test_two_processes_reach_the_loss_of_one(workdir, fitted, ranks, starter):
    if starter == "Lightning":
        two = ["--trainer.devices", "2", "--trainer.strategy", "ddp"]
        subprocess.run([sys.executable, "-m", "audioldm_lit", "fit", *fitted.options, *two], check=True, timeout=600)
    else:
        assert [status for status, _ in ranks.command_line(workdir, ["fit", *fitted.options])] == [0, 0]
    together = json.loads((run_folder(workdir) / "result.json").read_text())
    for key in ("held_out_loss_before", "held_out_loss_after"):
        assert together[key] == pytest.approx(fitted.result[key], abs=1e-4)
    alone, shared = (logged_losses(folder) for folder in (fitted.run, run_folder(workdir)))
    assert shared == pytest.approx(alone, abs=1e-4)  # of all samples, not of the first process's half


def logged_losses(run: Path) -> list[float]:
    with (run / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert all(float(row["lr-AdamW"]) > 0 for row in rows if row["lr-AdamW"])
    assert len([row for row in rows if row["lr-AdamW"]]) == 2  # one a step
    return [float(row["train/loss"]) for row in rows if row["train/loss"]]


@pytest.mark.slow
def test_fit_ends_with_scores_of_base_adapted_and_real(warm, fitted, cli, aisfx_at_hand):
    words = ["--model.protocol", EMBEDDED, "--scores", '{"after_fit": true, "num_candidates": 2}', "--audition.count", 0]
    status, out, err = cli("fit", *fitted.options, "--data.init_args.classes", '["dog", "rain"]', *words)
    assert status == 0, err
    run = run_folder(warm)
    scores = json.loads((run / "scores.json").read_text())
    assert list(scores) == ["base", "adapted", "reconstructed", "real"]
    held_out = 2 * 2 * 3  # two folds of two classes of three takes
    for system in scores.values():
        assert system["metrics"]["kad"]["n_clips"] == system["metrics"]["kad"]["n_reference"] == held_out
        assert system["passport"]["sha256"] == scores["base"]["passport"]["sha256"]
    assert [name for name, system in scores.items() if "kad_reconstructed" in system["metrics"]] == ["base", "adapted"]
    assert scores["base"]["metrics"]["kl"]["n_clips"] == held_out
    assert "copies" in scores["adapted"]["metrics"]
    for system in ("base", "adapted"):
        assert scores[system]["passport"]["num_candidates"] == 2
        assert len(list((run / "scores" / system).glob("*-c1.wav"))) == held_out
    assert "adapted against base" in out
    assert (run / "adapter.safetensors").is_file()


def test_scores_without_metrics_are_refused_at_once(workdir, tiny_folder, data, cli):
    status, _, err = cli("fit", *arguments(tiny_folder, data), "--scores.after_fit", "true")
    assert status == 2
    assert "set model.protocol" in err.splitlines()[-1]
    assert not (workdir / "runs").exists()


@pytest.mark.slow
def test_two_processes_score_like_one(warm, fitted, ranks, aisfx_at_hand):
    """With nine test clips the loader repeats one for the second process."""
    protocol = str(packaged("evaluation/protocols/embedded.yaml"))
    options = [*fitted.options, "--model.protocol", protocol, "--ckpt_path", str(fitted.last)]
    main(["test", *options])
    alone = json.loads((run_folder(warm) / "scores.json").read_text())["generated"]
    assert [status for status, _ in ranks.command_line(warm, ["test", *options])] == [0, 0]
    together = json.loads((run_folder(warm) / "scores.json").read_text())["generated"]
    assert alone["passport"]["sha256"] == together["passport"]["sha256"]
    assert alone["metrics"].keys() == together["metrics"].keys() >= {"kad", "fad", "fd", "is", "kl", "copies"}
    for name, score in alone["metrics"].items():
        assert together["metrics"][name]["n_clips"] == score["n_clips"] == 9
        assert together["metrics"][name]["value"] == pytest.approx(score["value"], rel=1e-3, abs=1e-6)


@pytest.mark.slow
def test_auditions_do_not_change_the_training(warm, fitted):
    files = sorted(path.name for path in fitted.run.glob("audition/*/*.wav"))
    assert files == ["step-000000.wav", "step-000001.wav", "step-000002.wav"]
    main(["fit", *fitted.options, "--audition.count", "0"])
    assert distance(read(fitted.last), last(warm)) == 0


def test_every_verb_works_with_the_same_yaml(warm, tiny_folder, fitted, cli):
    for verb in ("validate", "test", "predict"):
        assert cli(verb, *fitted.options, "--ckpt_path", fitted.last)[0] == 0
    folder = run_folder(warm) / "predictions"
    manifest = json.loads((folder / "manifest.json").read_text())
    assert len(manifest["clips"]) == len(list(folder.glob("*.wav"))) > 0
    settings = ("--backbone", tiny_folder, "--adapter", fitted.run / "adapter.safetensors", "--sampler.num_inference_steps", 2)
    status, out, _ = cli("generate", "--prompt", "rain", "--duration", "0.5", "--out", "made", *settings)
    assert status == 0
    assert "1 clip of 0.5 s" in out
    made = json.loads((warm / "made" / "manifest.json").read_text())
    assert soundfile.info(warm / "made" / made["clips"][0]["file"]).frames == 8000


def test_checkpoint_holds_the_adapter_alone(fitted):
    checkpoint = read(fitted.last)
    assert all("lora_" in name for name in checkpoint["state_dict"])
    assert json.loads(json.dumps(checkpoint["hyper_parameters"]))["backbone"]  # plain data
    assert not (fitted.run / "averages").exists()  # it asks for no profiles


def test_data_set_smaller_than_a_batch_trains(workdir, tiny_folder, data):
    main(["fit", *arguments(tiny_folder, {**data, "shots": 1, "batch_size": 8})])
    assert last(workdir)["global_step"] == 2


def test_checkpoint_of_another_adapter_or_base_is_refused(workdir, fitted, cli, backbone):
    options = [*fitted.options, "--ckpt_path", fitted.last]
    status, _, err = cli("test", *options, "--model.adapter", "audioldm_lit.adapters.full.FullFineTune")
    assert status == 2
    assert "was trained with" in err.splitlines()[-1]
    assert "Traceback" not in err
    for weight in backbone.unet.parameters():
        weight.data += 1
    backbone.save(workdir / "other")
    status, _, err = cli("test", *options, "--model.backbone", workdir / "other")
    assert status == 2
    assert "load the same base, with the same heads" in err.splitlines()[-1]


@pytest.mark.parametrize(
    ("option", "value", "named"),
    [
        ("--data.init_args.shots", "100", "data.init_args.shots: is 100"),
        ("--data.init_args.root", "nowhere", "nowhere"),
        ("--data.init_args.duration", "0.7", "take 0.72 s"),
        ("--data.init_args.sample_rate", "8000", "16000 Hz"),
        ("--data.init_args.fold", "9", "fold: is 9"),
        ("--model.adapter.init_args.targets", "[nonsense]", "'nonsense' matches no"),
        ("--model.adapter.init_args.options", "{rank: 4}", "rank"),
        ("--model.backbone", "nowhere", "no AudioLDM here"),
        ("--model.sampler.scheduler", "Foo", "scheduler: is 'Foo'"),
        ("--model.objective", "audioldm_lit.objectives.denoising.Velocity", "model.objective: trains v_prediction"),
        ("--trainer.max_steps", "0", "max_steps: is 0"),
    ],
)
def test_wrong_request_is_one_sentence_and_leaves_nothing(workdir, tiny_folder, data, cli, option, value, named):
    status, _, err = cli("fit", *arguments(tiny_folder, data), option, value)
    assert status == 2
    assert err.splitlines()[-1].startswith("error: ")
    assert named in err.splitlines()[-1]
    assert "Traceback" not in err
    assert not (workdir / "runs").exists()


def test_unreadable_audio_is_one_sentence_and_leaves_nothing(workdir, tiny_folder, data, cli):
    broken = sorted((workdir / "esc50" / "audio").iterdir())
    for path in broken:
        path.write_bytes(b"no audio")
    status, _, err = cli("fit", *arguments(tiny_folder, data))
    assert status == 2
    assert ".wav" in err.splitlines()[-1]
    assert not (workdir / "runs").exists()


@pytest.mark.slow
def test_what_one_process_finds_wrong_all_say_at_once(workdir, tiny_folder, data, ranks):
    fold_2 = sorted((workdir / "esc50" / "audio").glob("2-*.wav"))
    fold_2[1].write_bytes(b"no audio")  # the second process encodes it
    for status, said in ranks.command_line(workdir, ["fit", *arguments(tiny_folder, data)]):
        assert status == 2
        assert f"{fold_2[1].name}: cannot be read" in said.splitlines()[-1]
        assert "Traceback" not in said
    assert not (workdir / "runs").exists()


def test_a_run_that_goes_nan_says_what_to_do(workdir, tiny_folder, data, cli):
    status, _, err = cli("fit", *arguments(tiny_folder, data, steps=8), "--model.optimizer.init_args.lr", "1e30")
    assert status == 2
    said = r"error: model.optimizer: has brought the (held-out )?loss to nan at step \d; lower its learning rate\."
    assert re.fullmatch(said, err.splitlines()[-1])


@pytest.mark.slow
def test_bfloat16_trains_with_clipped_gradients_to_an_adapter(workdir, tiny_folder, data, cli):
    options = [*arguments(tiny_folder, data), "--trainer.precision", "bf16-mixed", "--model.gradient_checkpointing", "true"]
    status, _, err = cli("fit", *options)
    assert status == 0, err
    result = json.loads((run_folder(workdir) / "result.json").read_text())
    assert result["effect"]["distance"] > 0
    assert (run_folder(workdir) / "adapter.safetensors").is_file()
