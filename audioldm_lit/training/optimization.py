"""How weights are moved: optimizers of adapter and objective, warm-up, and what the learning rate does after it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning import Trainer
from lightning.pytorch.cli import LRSchedulerCallable
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, ReduceLROnPlateau, SequentialLR

from audioldm_lit.backbone import Backbone
from audioldm_lit.errors import InputError
from audioldm_lit.networks.strict_loading import load_strictly
from audioldm_lit.objectives.base import Objective
from audioldm_lit.objectives.contract import check_draws
from audioldm_lit.training.over_the_run import OverTheRun


class ObjectiveTraining:
    """What an objective has beside its loss: weights, perhaps with an optimizer of their own, buffers and state.

    Args:
        objective: The objective.
    """

    def __init__(self, objective: Objective) -> None:
        self.objective = objective
        self.optimizer: Optimizer | None = None
        self.restored: dict[str, Any] = {}  # of the optimizer, until there is one

    def groups(self, weights: Mapping[str, nn.Parameter]) -> list[nn.Parameter] | list[dict[str, Any]]:
        """What the model's optimizer takes: the adapter's weights, and as a second group those of an objective without its own."""
        ours, own = list(weights.values()), [weight for weight in self.objective.parameters() if weight.requires_grad]
        if not own:
            return ours
        self.optimizer = self.objective.own_optimizer(own)
        if self.optimizer is not None:
            if self.restored:
                self.optimizer.load_state_dict(self.restored)
            return ours
        second: dict[str, Any] = {"params": own}
        if self.objective.learning_rate is not None:
            second["lr"] = self.objective.learning_rate
        return [{"params": ours}, second]

    def step(self, backbone: Backbone, step: int) -> None:
        """Take the second optimizer's step, on the gradients that the model's was taken on, then the objective's own."""
        if self.optimizer is not None:
            self.optimizer.step()
            self.optimizer.zero_grad()
        self.objective.after_step(backbone, step)

    def state(self) -> dict[str, Any]:
        """What `restore` goes on from, as plain data."""
        weights = {name: tensor.detach() for name, tensor in self._tensors().items()}
        return {"weights": weights, "state": self.objective.state(), "optimizer": self.optimizer and self.optimizer.state_dict()}

    def restore(self, state: Mapping[str, Any] | None, origin: str) -> None:
        """Take back what `state` gave; None in checkpoints of before objectives had any.

        Raises:
            InputError: If it is another objective's.
        """
        state = state or {"weights": {}, "state": {}, "optimizer": None}
        try:
            load_strictly(self._tensors(), state["weights"])
        except ValueError as error:
            raise InputError(origin, f"is of another objective, {error}", "use the same model.objective") from error
        self.objective.restore(state["state"])
        self.restored = state["optimizer"] or {}

    def restore_weights(self, state: Mapping[str, Any] | None, origin: str) -> None:
        """Take back of what `state` gave the weights and buffers that are there without `prepare`, as outside a training.

        Raises:
            InputError: If one is of another shape.
        """
        own, weights = self._tensors(), (state or {"weights": {}})["weights"]
        shared = own.keys() & weights.keys()
        try:
            load_strictly({name: own[name] for name in shared}, {name: weights[name] for name in shared})
        except ValueError as error:
            raise InputError(origin, f"is of another objective, {error}", "give the objective itself") from error

    def _tensors(self) -> dict[str, Tensor]:
        """Weights that train and persistent buffers."""
        held = self.objective.state_dict(keep_vars=True)
        return {name: tensor for name, tensor in held.items() if tensor.requires_grad or not isinstance(tensor, nn.Parameter)}


def prepare(objective: Objective, backbone: Backbone, trainer: Trainer, num_samples: int, folder: Path) -> None:
    """Call an objective's `prepare` in every process, the first of which does the work that is kept, and try the objective."""
    for first in (True, False):
        if trainer.is_global_zero == first:
            objective.prepare(backbone, num_samples, folder)
        trainer.strategy.barrier()
    with trainer.precision_plugin.forward_context():
        check_draws(objective, backbone, num_samples)


def rates(optimizer: Optimizer, warmup_steps: int, steps: int, scheduler: LRSchedulerCallable | None = None) -> LRScheduler:
    """Linear warm-up, then what a scheduler does, which begins where warm-up ends; without one, a constant rate.

    Args:
        optimizer: Of the run.
        warmup_steps: Steps of warm-up.
        steps: Of the whole run.
        scheduler: Makes the scheduler.

    Raises:
        InputError: If the scheduler follows a value instead of steps.
    """
    warmup = LambdaLR(optimizer, lambda step: min(1.0, (step + 1) / max(1, warmup_steps)))
    if scheduler is None:
        return warmup
    after = made(scheduler, optimizer)
    if isinstance(after, OverTheRun):
        after.steps = max(1, steps - warmup_steps)
    return SequentialLR(optimizer, [warmup, after], [warmup_steps]) if warmup_steps else after


def made(scheduler: LRSchedulerCallable, optimizer: Optimizer) -> LRScheduler:
    """The scheduler of an optimizer; an `InputError` where it refuses its settings, or follows a value."""
    try:
        found = scheduler(optimizer)
    except (TypeError, ValueError) as error:
        raise InputError("model.lr_scheduler", f"is refused ({error})", "correct its settings") from error
    if isinstance(found, ReduceLROnPlateau):
        problem = f"is {type(found).__name__}, which follows a value, and a resumed run does not know the last one"
        raise InputError("model.lr_scheduler", problem, "take one that counts steps, such as configs/lr_scheduler/cosine.yaml")
    return found
