"""What the adapter of a run does to the model."""

import torch
from lightning import Callback, Trainer
from rich.console import Console
from torch import Tensor

from audioldm_lit.adapters.files.adapter_file import read_parts
from audioldm_lit.backbone import Backbone
from audioldm_lit.callbacks.export import ADAPTER
from audioldm_lit.device import give_back
from audioldm_lit.inference.blending import AdaptedCopy, AdapterSetting
from audioldm_lit.inference.effect import measure_effect, show
from audioldm_lit.module import LitAudioLDM
from audioldm_lit.training.encoding import encoded
from audioldm_lit.training.run_folder import rank_zero_folder

HEARD = 4  # prompts on which it is measured


class AdapterEffect(Callback):
    """Measures and prints what the adapter does to the model on a few of its training prompts."""

    def on_fit_end(self, trainer: Trainer, pl_module: LitAudioLDM) -> None:
        """Measure on the first process, from the adapter's file: the model in memory may hold bfloat16."""
        if pl_module.outcome.best is None or not trainer.is_global_zero:
            return
        train = encoded(pl_module.data, "train")
        heard: dict[str, Tensor] = {}  # as they are cached, so that no text tower is called back
        for index in range(len(train)):
            if len(heard) < HEARD:
                item = train[index]
                heard.setdefault(item["caption"], item["prompt_embeds"])
        give_back()  # two more UNets are coming
        file = rank_zero_folder(trainer) / ADAPTER
        base = Backbone.load(pl_module.backbone_name, pl_module.heads, read_parts(file)).to(pl_module.device)
        base.rest()  # what the adapter reads or changes comes back by itself
        adapted = AdaptedCopy.load(AdapterSetting(file), base)
        models = base, adapted.adapter, adapted.backbone
        said = list(heard), pl_module.seed, torch.stack(list(heard.values()))
        pl_module.outcome.effect = measure_effect(*models, adapted.prediction, *said)
        show(pl_module.outcome.effect, Console(emoji=False))
