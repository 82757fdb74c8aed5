"""The promise of the README: a new trick is one file anywhere and one YAML, and no edit elsewhere."""

import json
import subprocess
import sys

import pytest

import layouts
from runs import SHORT, run_folder

TRICKS = """
from pathlib import Path

from audioldm_lit import noise
from audioldm_lit.adapters.base import Adapter
from audioldm_lit.data.base import AudioDataModule, Clip
from audioldm_lit.metrics.base import ClipMetric
from audioldm_lit.metrics.estimate import Estimate
from audioldm_lit.objectives.denoising import Epsilon


class BiasOnly(Adapter):
    def inject(self, backbone):
        for name, weight in backbone.unet.named_parameters():
            weight.requires_grad_(name.endswith(".bias"))


class Huber(Epsilon):
    def __init__(self, delta: float = 1.0):
        super().__init__()
        self.delta = delta

    def forward(self, backbone, scheduler, latents, cond, generators):
        drawn = noise.normal(generators, latents.shape[1:])
        timesteps = (noise.uniform(generators) * 1000).long()
        error = (backbone(scheduler.add_noise(latents, drawn, timesteps), timesteps, cond).float() - drawn).abs()
        return (error.clamp(max=self.delta) * (error - 0.5 * error.clamp(max=self.delta))).mean(dim=(1, 2, 3))


class Flat(AudioDataModule):
    def clips(self, split):
        paths = sorted(Path(self.root).rglob("*.wav"))
        third = {"train": 0, "val": 1, "test": 2}[split]
        return [Clip(path.name, path, "a sound") for path in paths[third::3]]


class Level(ClipMetric):
    sides = ("preds",)

    def update(self, preds, target=None):
        self.add("preds", preds.ids, preds.waveform.double().square().mean(dim=1))

    def measure(self, preds):
        return Estimate.of_mean(preds.values[:, 0])
"""

YAML = """
trainer:
  {{accelerator: cpu, precision: 32-true, max_steps: 2, val_check_interval: 1, log_every_n_steps: 1, enable_progress_bar: false}}
audition: {{count: 0}}
data: {{class_path: mytrick.Flat, init_args: {{root: {root}, duration: {duration}}}}}
model:
  backbone: {model}
  adapter: mytrick.BiasOnly
  objective: {{class_path: mytrick.Huber, init_args: {{delta: 0.5}}}}
  protocol: {{class_path: audioldm_lit.metrics.protocol.Protocol, init_args: {{name: mine, metrics: {{level: mytrick.Level}}}}}}
  sampler: {{num_inference_steps: 2}}
"""


@pytest.mark.slow
def test_new_tricks_run_without_an_edit(workdir, tiny_folder):
    (workdir / "mytrick.py").write_text(TRICKS)
    data = layouts.esc50(workdir / "data")
    (workdir / "mytrick.yaml").write_text(YAML.format(root=data["root"], model=tiny_folder, duration=SHORT))

    def run(*arguments: object) -> str:
        command = [sys.executable, "-m", "audioldm_lit", *map(str, arguments), "--config", "mytrick.yaml"]
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=200).stdout

    run("fit")
    folder = run_folder(workdir)
    result = json.loads((folder / "result.json").read_text())
    assert result["held_out_loss_after"] != result["held_out_loss_before"]
    assert "test/level" in run("test", "--ckpt_path", folder / "checkpoints" / "last.ckpt")
