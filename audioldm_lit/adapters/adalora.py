"""AdaLoRA: LoRA whose ranks move to the layers that need them."""

from collections.abc import Sequence
from typing import Any

import peft
import torch
from torch import Tensor

from audioldm_lit.adapters.peft import REFUSALS, PeftAdapter
from audioldm_lit.adapters.peft_internals import Ranks, low_rank_weights
from audioldm_lit.backbone import Backbone
from audioldm_lit.errors import InputError


class AdaLoRA(PeftAdapter):
    """AdaLoRA (Zhang et al. 2023, arXiv 2303.10512): a layer's update is B diag(E) A, and the least important E are set to zero.

    All layers begin with rank `init_r`. From step `tinit` to `total_step - tfinal` a budget for all layers together falls along a
    cubic curve (Eq. 12) to `target_r` a layer; which E stay is decided by sensitivity and its uncertainty (Eqs. 9 to 11). An E that
    was set to zero may come back until then. The moving average of the weights lags behind and so holds small values where E is
    zero.

    Args:
        options: Arguments of peft's `AdaLoraConfig`, among them `init_r`, `target_r`, `tinit`, `tfinal`, `deltaT` (steps between
            two allocations), `orth_reg_weight` and `total_step`. The last should equal `trainer.max_steps`: a shorter run stops
            before the ranks are down to `target_r`, a longer one goes on training with them.
        targets: Which layers, as in `PeftAdapter`.

    Raises:
        InputError: If `target_r` is not between 0 and `init_r`, or the schedule leaves no steps in which ranks fall.
    """

    refusals = tuple(refusal for refusal in REFUSALS if refusal.config != "AdaLoraConfig")  # which sends users here

    def __init__(self, options: dict[str, Any] | None = None, targets: Sequence[str] = ("all",)) -> None:
        super().__init__("AdaLoraConfig", options, targets)
        config: Any = self._peft_config([])
        if not 0 < config.target_r < config.init_r:
            problem = f"target_r is {config.target_r} and init_r {config.init_r}"
            raise InputError("model.adapter.init_args.options", problem, "give a target_r between 0 and init_r")

    def inject(self, backbone: Backbone) -> None:
        """Wrap the target layers at rank `init_r`."""
        super().inject(backbone)
        config = self._peft_config([])
        assert isinstance(config, peft.AdaLoraConfig)
        self.ranks = Ranks(backbone.unet, config)
        self.matrices = low_rank_weights(backbone.unet)

    def penalty(self, backbone: Backbone) -> Tensor:
        """Pull A and B towards orthogonal rows and columns (Eq. 4), as the authors' code does: norms not squared, averaged."""
        norms = []
        with torch.autocast(backbone.device.type, enabled=False):
            for name, weight in self.matrices.items():
                if ".lora_E." not in name:
                    gram = weight @ weight.T if ".lora_A." in name else weight.T @ weight
                    norms.append(torch.linalg.matrix_norm(gram - torch.eye(len(gram), device=gram.device)))
        return self.ranks.peft_config.orth_reg_weight * torch.stack(norms).mean()

    def after_step(self, backbone: Backbone, step: int) -> None:
        """Measure importance, and lower the ranks in the steps that are set for it."""
        self.ranks.update_and_allocate(backbone.unet, step)

    def state(self) -> dict[str, Any]:
        """The allocator's averages; the ranks themselves are in the weights E."""
        return {key: {name: value.cpu() for name, value in average.items()} for key, average in self.ranks.averages.items()}

    def restore(self, state: dict[str, Any]) -> None:
        """Go on with the averages of a checkpoint."""
        self.ranks.averages = {
            key: {name: value.to(self.matrices[name].device) for name, value in average.items()} for key, average in state.items()
        }
