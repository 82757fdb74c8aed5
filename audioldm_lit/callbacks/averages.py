"""Post-hoc EMA in a run: averages of the trained weights are stored while it trains, and the best length is found when it ends."""

from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lightning import Callback, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities import rank_zero_info
from rich.console import Console
from rich.table import Table
from torch import Tensor

from audioldm_lit.console.stages import Stage
from audioldm_lit.errors import InputError
from audioldm_lit.module import LitAudioLDM
from audioldm_lit.storage.atomic_write import write_json
from audioldm_lit.training.ema import WIDEST, PowerAverage
from audioldm_lit.training.lightning_internals import only_tried, validation_autocast, validation_batch, validation_batches
from audioldm_lit.training.post_hoc_average import SIGMA_RELS, Candidate, choose, read_snapshots, write_snapshots
from audioldm_lit.training.run_folder import run_folder

PROFILES = (0.05, 0.1, 0.2)  # with a third beside the paper's two, few snapshots give wide averages as well
MOST_WEIGHTS = 10_000_000  # 120 MB a snapshot of three profiles
GAIN = 1e-3  # of the loss, by which an average must be better than the best check
GROWTH = 1.05  # of the step from one snapshot to the next: the profiles stretch with the run, so snapshots may thin out


class Averages(Callback):
    """Chooses after training, by held-out loss, how far back the average of the trained weights reaches.

    Power-function averages (Karras et al. 2023, arXiv 2312.02696) are tracked from the first step and stored in
    `averages/step-*.safetensors` at a check whenever the step has grown by 5 % since the last. When training ends, averages of
    several lengths that end with the best check are put together from them and their held-out losses are shown; each costs the
    time of a check. Where one of them beats the best check, its weights become the adapter. Training itself is not changed.

    Args:
        profiles: Relative standard deviations of the averages that are tracked, above 0 and below 0.2887; an empty list turns the
            choice off. By default 0.05, 0.1 and 0.2 where at most 10 million weights train, else none.
    """

    def __init__(self, profiles: list[float] | None = None) -> None:
        if profiles and (len(set(profiles)) < len(profiles) or not all(0 < profile < WIDEST for profile in profiles)):
            raise InputError("averages.profiles", f"is {profiles}", f"give different numbers above 0 and below {WIDEST:.4f}")
        self.profiles = profiles
        self.averages: dict[float, PowerAverage] = {}  # by sigma_rel; none while it is off
        self.snapshots: dict[int, Path] = {}  # by step
        self.restored: dict[str, Any] = {}
        self.folder = Path()

    def on_train_start(self, trainer: Trainer, pl_module: LitAudioLDM) -> None:
        """Start the averages or continue them, on every process."""
        self.folder = run_folder(trainer).absolute() / "averages"
        pl_module.outcome.chosen = None
        restored, self.restored = self.restored, {}
        self.averages = {profile: PowerAverage(profile) for profile in self._tracked(trainer, pl_module, restored)}
        for sigma_rel, average in self.averages.items():
            if restored:
                average.average, average.num_updates = restored["averages"][sigma_rel], restored["num_updates"]
            average.start(pl_module.weights)
        earlier = {step: Path(path) for step, path in restored.get("snapshots", {}).items()}
        self.snapshots = {step: path for step, path in earlier.items() if path.is_file()}
        if self.averages and len(self.snapshots) < len(earlier):
            rank_zero_info(f"averages: {len(earlier) - len(self.snapshots)} snapshots from before the resume are no longer there")

    def _tracked(self, trainer: Trainer, module: LitAudioLDM, restored: dict[str, Any]) -> Sequence[float]:
        """The profiles, none where averages are off."""
        if self.profiles == [] or only_tried(trainer):
            return ()
        if restored:
            return list(restored["averages"])
        if trainer.global_step:
            rank_zero_info("averages are off: the checkpoint comes from a run that had none")
            return ()
        count = sum(weight.numel() for weight in module.weights.values())
        if self.profiles is None and count > MOST_WEIGHTS:
            size = f"{4e-9 * count * len(PROFILES):.1f} GB"
            rank_zero_info(
                f"averages are off: {count:,} weights train, a snapshot would take {size}; averages.profiles turns them on"
            )
            return ()
        return self.profiles or PROFILES

    def on_train_batch_start(self, trainer: Trainer, pl_module: LitAudioLDM, batch: Any, batch_idx: int) -> None:
        """Include the step before: only now are the weights as the adapter's `after_step` left them."""
        self._follow(trainer, pl_module)

    def on_validation_start(self, trainer: Trainer, pl_module: LitAudioLDM) -> None:
        """Include the last step, before the module puts its own average in place of the weights; store a snapshot."""
        if trainer.sanity_checking or trainer.state.fn != TrainerFn.FITTING:
            return
        self._follow(trainer, pl_module)
        if self.averages and trainer.global_step > GROWTH * max(self.snapshots, default=0):
            self._store(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LitAudioLDM) -> None:
        """Include the last step."""
        self._follow(trainer, pl_module)

    def on_fit_end(self, trainer: Trainer, pl_module: LitAudioLDM) -> None:
        """Choose; the choice is left in the outcome. A run that was killed here has only this left to do when it is resumed."""
        if self.restored:  # Lightning skips the hooks of training where no step is left
            self.on_train_start(trainer, pl_module)
        self._choose(trainer, pl_module)

    def _choose(self, trainer: Trainer, pl_module: LitAudioLDM) -> None:
        policy = trainer.checkpoint_callback
        if not self.averages or not isinstance(policy, ModelCheckpoint) or policy.best_model_score is None:
            return
        pl_module.to(trainer.strategy.root_device)  # Lightning has moved it to the CPU by now
        best, least = policy.best_model_path, float(policy.best_model_score)
        if trainer.global_step not in self.snapshots:
            self._store(trainer)
        trainer.strategy.barrier("averages")  # all read what the first process wrote
        step = torch.load(best, weights_only=True, map_location="cpu", mmap=True)["global_step"]
        loss = partial(held_out_loss, trainer, pl_module)
        with Stage("averages of the trained weights"):
            candidates, weights = choose(read_snapshots(self.snapshots.values()), SIGMA_RELS, [step], loss)
        if candidates[0].loss < (1 - GAIN) * least:
            pl_module.outcome.chosen = candidates[0], weights
        if trainer.is_global_zero:
            write_json(self.folder / "candidates.json", [asdict(candidate) for candidate in candidates])
            show(candidates, step, least, pl_module.outcome.base_loss, Console(emoji=False))

    def _follow(self, trainer: Trainer, module: LitAudioLDM) -> None:
        for average in self.averages.values():
            if trainer.global_step > average.num_updates:  # else gradients are still being accumulated
                average.update(module.weights)

    def _store(self, trainer: Trainer) -> None:
        path = self.folder / f"step-{trainer.global_step:06d}.safetensors"
        if trainer.is_global_zero:
            write_snapshots(path, trainer.global_step, {sigma_rel: running.average for sigma_rel, running in self.averages.items()})
        self.snapshots[trainer.global_step] = path

    def state_dict(self) -> dict[str, Any]:
        """What a resumed run needs to continue exactly."""
        if not self.averages:
            return {}
        return {
            "num_updates": max(running.num_updates for running in self.averages.values()),
            "averages": {sigma_rel: running.average for sigma_rel, running in self.averages.items()},
            "snapshots": {step: str(path) for step, path in self.snapshots.items()},
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keep it until training starts."""
        found = sorted(state_dict["averages"])
        if self.profiles and sorted(self.profiles) != found:
            raise InputError("averages.profiles", f"is {self.profiles}, the checkpoint has averages of {found}", "use the same")
        self.restored = state_dict


@torch.no_grad()
def held_out_loss(trainer: Trainer, module: LitAudioLDM, weights: dict[str, Tensor]) -> float:
    """The held-out loss that a check would find for these weights; every process calls it, all get the same."""
    trained = {name: weight.data for name, weight in module.weights.items()}
    modes = {part: part.training for part in module.modules()}
    module.eval()
    try:
        for name, weight in module.weights.items():
            weight.data = weights[name].to(weight.data)
        for batch in validation_batches(trainer):
            batch = validation_batch(trainer, batch)
            with validation_autocast(trainer):
                module.held_out_loss.update(batch["id"], module.held_out(batch))
        return module.held_out_loss.by_timestep().mean().item()
    finally:
        module.held_out_loss.reset()
        for name, weight in module.weights.items():
            weight.data = trained[name]
        for part, mode in modes.items():
            part.training = mode


def show(candidates: Sequence[Candidate], best_step: int, best: float, base: float | None, console: Console) -> None:
    """Print the candidates for people, in order of step and length.

    Args:
        candidates: What was tried, the lowest loss first.
        best_step: Step of the best check.
        best: Held-out loss of the best check.
        base: Held-out loss of the base, where it was measured.
        console: Where to.
    """
    table = Table("average", "held-out loss", "profile off by", title="Averages of the trained weights", title_justify="left")
    if base is not None:
        table.add_row("none, the base", f"{base:.5f}", "")
    table.add_row(f"best check, step {best_step}", f"{best:.5f}", "")
    winner = candidates[0] if candidates[0].loss < (1 - GAIN) * best else None
    for candidate in sorted(candidates, key=lambda candidate: (candidate.step, candidate.sigma_rel)):
        mark = "  <- chosen" if candidate is winner else ""
        table.add_row(
            f"sigma_rel {candidate.sigma_rel:g}, step {candidate.step}",
            f"{candidate.loss:.5f}{mark}",
            f"{candidate.profile_error:.1%}",
        )
    console.print(table, soft_wrap=True)
    console.print(
        f"The least of {len(candidates)} losses of the same clips is optimistic; the test split had no part in the choice.",
        soft_wrap=True,
    )
