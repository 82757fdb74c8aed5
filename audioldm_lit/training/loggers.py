"""Where a run can be watched: Weights & Biases or TensorBoard, beside the run's own folder.

Under every logger here a run has a folder of its own, `save_dir/name/version_0` and so on, as `CSVLogger` numbers them, with
`metrics.csv`, `config.yaml`, checkpoints and results in it. What another viewer shows is shown in addition.
"""

import os
import re
from functools import singledispatch
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
import yaml
from lightning.pytorch.loggers import CSVLogger, Logger, TensorBoardLogger, WandbLogger
from lightning.pytorch.utilities import rank_zero_only
from PIL import Image

from audioldm_lit.console.air_gap import allow

RUN_ID = "wandb_run_id.txt"


class Watched(CSVLogger):
    """The run's folder with its `metrics.csv`, and another logger that shows the same.

    The other logger starts only once there is something to show, so a refused run leaves nothing with it.

    Attributes:
        viewer: The other logger.
    """

    viewer: Logger

    def log_metrics(self, metrics: dict[str, Any], step: int | None = None) -> None:
        """Write to both."""
        super().log_metrics(metrics, step)
        self.viewer.log_metrics(metrics, step)

    def finalize(self, status: str) -> None:
        """End both."""
        super().finalize(status)
        self.viewer.finalize(status)


class Wandb(Watched):
    """Weights & Biases; the run's part of it is in `wandb/` in the run's folder.

    Args:
        save_dir: Folder of all runs.
        name: Name of the experiment, a folder in it.
        version: Number or name of the run; by default the next free number.
        project: Project at Weights & Biases.
        group: Runs that belong together there; in a grid its name, where not given.
        tags: Words to find the run by there.
        offline: Whether nothing leaves this machine, not even reports of wandb's own errors; `wandb sync RUN/wandb/offline-run-*`
            uploads such a run later.
    """

    viewer: WandbLogger

    def __init__(
        self,
        save_dir: str | Path = "runs",
        name: str = "adapt",
        version: int | str | None = None,
        project: str = "audioldm_lit",
        offline: bool = True,
        group: str | None = None,
        tags: list[str] | None = None,
    ) -> None:
        super().__init__(save_dir, name, version)
        self.project = project
        self.offline = offline
        self.group = group
        self.tags = tags
        self.viewer = self._viewer(None)
        self.shown = False  # anything, since this process began
        if offline:  # wandb reads it when it is first imported
            os.environ["WANDB_ERROR_REPORTING"] = "false"
        else:
            allow()

    def go_on(self, run_id: str) -> None:
        """Show what comes as more of an earlier run; to be called before there is something to show."""
        self.viewer = self._viewer(run_id)

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, Any], step: int | None = None) -> None:
        """Write to both, and keep the run's name there, so that a resumed run goes on in it."""
        super().log_metrics(metrics, step)
        self.shown = True
        file = Path(self.log_dir) / RUN_ID
        if self.viewer.version is not None and not file.is_file():
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(self.viewer.version, encoding="utf-8")

    def _viewer(self, run_id: str | None) -> WandbLogger:
        """A run that starts, or goes on, with its next value; earlier runs of this process stay as they are."""
        title = str(Path(self.log_dir).relative_to(self.save_dir))
        mode = "offline" if self.offline else None  # WandbLogger's own `offline` would hold for every later run of the process
        settings: dict[str, Any] = {"project": self.project, "mode": mode, "reinit": "create_new", "tags": self.tags}
        settings |= {"group": self.group} if self.group else {}  # else wandb looks for WANDB_RUN_GROUP, which a grid sets
        folder = Path(self.log_dir).absolute()  # wandb's own process keeps the current folder it was started in
        return WandbLogger(name=title, save_dir=folder, version=run_id, **settings)

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """End both, with the status; the process's end completes an offline run's file."""
        super().finalize(status)
        run_id = self.viewer.version
        if run_id is not None and self.shown:
            self.viewer.experiment.finish(exit_code=int(status != "success"))
            self.viewer = self._viewer(run_id)  # with the same trainer `test` may follow


class TensorBoard(Watched):
    """TensorBoard; its events are in the run's folder, and `tensorboard --logdir runs` shows them.

    Args:
        save_dir: Folder of all runs.
        name: Name of the experiment, a folder in it.
        version: Number or name of the run; by default the next free number.
    """

    def __init__(self, save_dir: str | Path = "runs", name: str = "adapt", version: int | str | None = None) -> None:
        super().__init__(save_dir, name, version)
        self.viewer = TensorBoardLogger(self.log_dir, name="", version="", default_hp_metric=False)


def resume_logging(logger: Logger, folder: Path) -> None:
    """Let a resumed run be more of the run whose folder its checkpoint is from, where its logger shows runs elsewhere."""
    file = folder / RUN_ID
    if isinstance(logger, Wandb) and file.is_file():
        logger.go_on(file.read_text(encoding="utf-8").strip())


@singledispatch
def log_file(logger: Logger, file: Path, kind: str) -> None:
    """Keep a file of a run's end where it is watched, loggers of other kinds keep none.

    Args:
        logger: Where.
        file: In the run's folder.
        kind: `adapter` or `scores`.
    """


@log_file.register
def _(logger: Wandb, file: Path, kind: str) -> None:
    import wandb

    title = "-".join(Path(logger.log_dir).parts[-2:])
    artifact = wandb.Artifact(re.sub(r"[^\w.-]", "_", f"{kind}-{title}"), type=kind)
    artifact.add_file(str(file), policy="immutable")  # no copy of it in the user's home
    logger.viewer.experiment.log_artifact(artifact)


@singledispatch
def log_config(logger: Logger, config: str) -> None:
    """Show the resolved configuration; loggers of other kinds get it as hyperparameters.

    Args:
        logger: Where.
        config: YAML.
    """
    logger.log_hyperparams(yaml.safe_load(config))


@log_config.register
def _(logger: CSVLogger, config: str) -> None:
    """`config.yaml` is in its folder."""


@log_config.register
def _(logger: Watched, config: str) -> None:
    log_config(logger.viewer, config)


@log_config.register
def _(logger: TensorBoardLogger, config: str) -> None:
    logger.log_hyperparams(yaml.safe_load(config))
    logger.experiment.add_text("config", "\n".join(f"    {line}" for line in config.splitlines()))  # indented: Markdown's code


@singledispatch
def log_clip(logger: Logger, prompt: str, sound: Path, picture: Path, step: int) -> None:
    """Show a generated clip; loggers of other kinds show none, and the files are there in any case.

    Args:
        logger: Where.
        prompt: What the clip was generated from.
        sound: Its WAV file; the name of its folder is that of the prompt.
        picture: PNG of its log-mel spectrogram.
        step: Optimizer steps before it.
    """


@log_clip.register
def _(logger: Watched, prompt: str, sound: Path, picture: Path, step: int) -> None:
    log_clip(logger.viewer, prompt, sound, picture, step)


@log_clip.register
def _(logger: WandbLogger, prompt: str, sound: Path, picture: Path, step: int) -> None:
    import wandb

    key = f"audition/{sound.parent.name}"
    clip, image = wandb.Audio(sound, caption=prompt), wandb.Image(str(picture), caption=prompt)
    shown: dict[str, Any] = {f"{key}/sound": clip, f"{key}/log_mel": image}  # of which log_metrics promises numbers alone
    logger.log_metrics(shown, step)


@log_clip.register
def _(logger: TensorBoardLogger, prompt: str, sound: Path, picture: Path, step: int) -> None:
    key = f"audition/{sound.parent.name}"
    waveform, sample_rate = soundfile.read(sound, dtype="float32")
    logger.experiment.add_audio(f"{key}/sound", waveform, step, sample_rate)
    logger.experiment.add_image(f"{key}/log_mel", np.asarray(Image.open(picture)), step, dataformats="HWC")


@singledispatch
def log_report(logger: Logger, page: Path) -> None:
    """Show a run's report; loggers of other kinds show none, and the page is there in any case.

    Args:
        logger: Where.
        page: HTML file.
    """


@log_report.register
def _(logger: Watched, page: Path) -> None:
    log_report(logger.viewer, page)


@log_report.register
def _(logger: WandbLogger, page: Path) -> None:
    logger.experiment.log_artifact(page, name="report", type="report")


@log_report.register
def _(logger: TensorBoardLogger, page: Path) -> None:
    logger.experiment.add_text("report", f"`{page}`")  # which shows no pages, and says where it is
