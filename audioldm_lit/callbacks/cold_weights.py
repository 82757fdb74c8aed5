"""Finds weights that should train but never get a gradient."""

import torch
from lightning import Callback, Trainer
from torch.nn import Parameter
from torch.optim import Optimizer

from audioldm_lit.errors import InputError
from audioldm_lit.module import LitAudioLDM

PATIENCE = 10  # steps: half of LoRA has no gradient in the first, and a pruned rank may wait for a few more
FEWEST = 3  # a run shorter than that says nothing


class ColdWeights(Callback):
    """Stops a run in which a weight that should train never gets a gradient, as when its layer is not part of the forward pass.

    The UNet's weights are judged after ten optimizer steps, or at the end of a shorter run of three or more. Weights of the text
    tower only get a gradient from captions that ask for them, so they are judged at the end of a run of ten or more. Once every
    weight has had a gradient, nothing is done.
    """

    def on_train_start(self, trainer: Trainer, pl_module: LitAudioLDM) -> None:
        """Start with every weight."""
        self.cold: dict[str, Parameter] = dict(pl_module.weights)
        self.steps = 0

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LitAudioLDM, optimizer: Optimizer) -> None:
        """Drop the weights that have a gradient; under DDP it is averaged by now, so all processes see the same."""
        if not self.cold:
            return
        self.steps += 1
        reached = {name: weight.grad for name, weight in self.cold.items() if weight.grad is not None}
        if reached:
            # The largest entry, because squares of small gradients vanish; read all at once, because each reading makes a GPU wait.
            largest = torch.stack([grad.abs().amax() for grad in reached.values()]).tolist()
            for name in [name for name, value in zip(reached, largest, strict=True) if value != 0]:
                del self.cold[name]
        if self.steps == PATIENCE:
            self._refuse([name for name in self.cold if name.startswith("unet.")])

    def on_train_end(self, trainer: Trainer, pl_module: LitAudioLDM) -> None:
        """Refuse the rest."""
        if self.steps >= FEWEST:
            self._refuse([name for name in self.cold if self.steps >= PATIENCE or name.startswith("unet.")])

    def _refuse(self, names: list[str]) -> None:
        names = [name for name in names if self.cold[name].requires_grad]  # some methods freeze weights for a while
        if names:
            raise InputError(
                "model.adapter",
                f"{len(names)} weights got no gradient in {self.steps} steps, the first are {', '.join(names[:3])}",
                "choose targets that the forward pass uses",
            )
