"""`import audioldm_lit as al`."""

import pickle
import runpy
import subprocess
import sys
from typing import Any

import pytest
import torch
from torch import nn

import audioldm_lit as al
from audioldm_lit.objectives.denoising import Epsilon
from audioldm_lit.training.checkpoint_file import read_checkpoint

from runs import REPOSITORY

SCRIPT = REPOSITORY / "docs" / "library.py"


@pytest.fixture(scope="module")
def script(tmp_path_factory, tiny_folder) -> dict[str, Any]:
    """What the script of the docs leaves, run in an empty folder with the tiny model."""
    folder = tmp_path_factory.mktemp("library")
    text = SCRIPT.read_text().replace("checkpoints/audioldm-nano", str(tiny_folder))
    (folder / "library.py").write_text(text)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        patch.setenv("MPLBACKEND", "agg")
        return {**runpy.run_path("library.py"), "folder": folder}


def test_what_is_loaded_from_a_checkpoint_is_what_was_trained(script):
    model, again = script["model"], script["again"]
    weights = again.weights
    average = read_checkpoint(script["folder"] / "trained.ckpt")["audioldm_lit"]["ema"]["average"]
    assert weights.keys() == model.weights.keys()
    assert all(torch.equal(weights[name], average[name]) for name in weights)
    assert again.hparams["sampler"]["init_args"]["num_inference_steps"] == again.sampler.num_inference_steps == 2
    assert (script["heard"].isfinite() & (script["heard"] != 0)).any(dim=1).all()
    assert torch.equal(again.generate_from(["hiss", "click"], seconds=0.64), script["heard"])  # the noise belongs to the prompts


def test_the_loaders_and_the_verbs_work_without_a_trainer(script):
    assert script["batch"]["waveform"].shape == (2, 10_240)
    assert script["checkup"].counts["val"] == 2
    assert len(script["made"]["clips"]) == 6
    assert (script["folder"] / script["made"]["folder"] / script["made"]["clips"][0]["file"]).is_file()
    data = al.Folder(str(script["folder"] / "recordings"), duration=0.64, batch_size=3)
    with pytest.raises(al.InputError, match=r"the train loader: has no clips yet; call setup\('fit'\)"):
        data.train_dataloader()
    data.setup("fit")
    ids = [name for batch in data.train_dataloader() for name in batch["id"]]
    assert len(ids) == 9  # one pass, its last batch filled up
    assert len(set(ids)) == 8


def test_what_a_checkpoint_may_not_do_is_a_sentence(script, monkeypatch):
    with pytest.raises(al.InputError, match="no such file"):
        al.LitAudioLDM.load_from_checkpoint("nowhere.ckpt")
    checkpoint = read_checkpoint(script["folder"] / "trained.ckpt")
    said = {
        "somebody.Sampler": r"needs somebody\.Sampler, a class of somebody else's; import somebody first",
        "audioldm_lit.diffusion.Nothing": r"cannot make audioldm_lit\.diffusion\.Nothing again \(AttributeError",
    }
    for path, problem in said.items():
        checkpoint["hyper_parameters"]["sampler"]["class_path"] = path
        torch.save(checkpoint, script["folder"] / "foreign.ckpt")
        with pytest.raises(al.InputError, match=problem):
            al.LitAudioLDM.load_from_checkpoint(script["folder"] / "foreign.ckpt")
    del checkpoint["hyper_parameters"]
    torch.save(checkpoint, script["folder"] / "older.ckpt")
    with pytest.raises(al.InputError, match=r"kept no hyper-parameters; load its adapter\.safetensors instead"):
        al.LitAudioLDM.load_from_checkpoint(script["folder"] / "older.ckpt")


class Learned(Epsilon):
    def __init__(self, bins: int = 5) -> None:
        super().__init__()
        self.bins = bins
        self.log_variance = nn.Parameter(torch.zeros(bins))


class Forgotten(Epsilon):
    def __init__(self, bins: int = 5) -> None:
        super().__init__()


def test_an_objective_comes_with_what_it_learned_and_one_that_cannot_be_made_again_is_refused(script, tiny_folder):
    with pytest.raises(al.InputError, match=r"model\.objective: test_library\.Forgotten does not keep its argument bins; keep it"):
        al.LitAudioLDM(backbone=str(tiny_folder), objective=Forgotten())
    checkpoint = read_checkpoint(script["folder"] / "trained.ckpt")
    checkpoint["hyper_parameters"]["objective"] = {"class_path": "test_library.Learned", "init_args": {"bins": 2}}
    checkpoint["audioldm_lit"]["objective"]["weights"] = {"log_variance": torch.tensor([0.25, -1.0])}
    torch.save(checkpoint, script["folder"] / "learned.ckpt")
    again = al.LitAudioLDM.load_from_checkpoint(script["folder"] / "learned.ckpt")
    assert again.objective.log_variance.tolist() == [0.25, -1.0]


def test_importing_loads_nothing_heavy_and_every_name_is_there():
    code = "import sys, audioldm_lit; print(sorted({'torch', 'lightning', 'numpy', 'pandas'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
    assert all(getattr(al, name) is not None for name in al.PLACES)
    assert set(al.PLACES) <= set(dir(al))
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        al.nothing  # noqa: B018


def test_tensors_are_clips_in_their_order():
    rows = torch.randn(30, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    at_once, in_turn = al.FrechetDistance(), al.FrechetDistance()
    at_once.update(rows[:10], rows[10:])
    for first, second in ((rows[:4], rows[10:20]), (rows[4:10], rows[20:])):
        in_turn.update(first, second)
    assert in_turn.compute() == at_once.compute() > 0
    assert pickle.loads(pickle.dumps(at_once)).compute() == at_once.compute()
    assert al.FrechetDistance()(rows[:10], rows[10:]) == at_once.compute()  # torchmetrics' forward
    distance = al.LogSpectralDistance()
    distance.update(torch.ones(2, 2000), torch.ones(2, 2000), sample_rate=16_000)
    distance.update(2 * torch.ones(2, 2000), torch.ones(2, 2000), sample_rate=16_000)
    assert distance.compute() > 0


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ((torch.ones(1, 3), torch.ones(4, 3)), "`preds`: has one row, and a covariance needs two"),
        ((torch.full((2, 3), torch.nan), torch.ones(4, 3)), "`preds`: 2 of 2 rows hold NaN or infinity"),
        ((torch.ones(3), torch.ones(4, 3)), r"`preds`: has the shape \(3,\); give features"),
        ((torch.ones(2, 9), torch.ones(4, 9), None, None, 16_000), "has no extractor"),
    ],
)
def test_what_no_distance_can_be_computed_of_is_a_sentence(given, reason):
    distance = al.FrechetDistance()
    with pytest.raises(al.InputError, match=reason):
        (distance.update(*given), distance.compute())
