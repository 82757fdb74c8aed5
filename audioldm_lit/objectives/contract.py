"""What every run asks of its objective before its first step: that all randomness comes from the generators."""

import copy

import torch
import torch.nn.functional as F
from torch import Tensor

from audioldm_lit import seeding
from audioldm_lit.backbone import Backbone
from audioldm_lit.errors import InputError
from audioldm_lit.objectives.base import Objective

SAMPLES = 2
TOLERANCE = 1e-5  # of a loss: what a GPU may add up in another order
UNTRIED = (AttributeError, NotImplementedError, RuntimeError, TypeError, ValueError)  # of what cannot be copied, or needs gradients


@torch.no_grad()
def check_draws(objective: Objective, backbone: Backbone, num_samples: int) -> bool:
    """Call copies of a prepared objective twice, with equal generators and different global seeds: the losses must be equal.

    One that cannot be copied, or not be called without gradients, is left untried.

    Args:
        objective: Is left as it is; what of it is frozen is shared with the copies.
        backbone: The model, in float32 or under the run's autocast.
        num_samples: Length of every training clip in samples.

    Returns:
        Whether it could be tried.

    Raises:
        InputError: If the losses are not equal, or a number of its own changes that no checkpoint keeps: a resumed run would be
            another one.
    """
    was_training = backbone.unet.training
    backbone.eval()  # dropout is torch's own
    try:
        with torch.random.fork_rng():
            (first, changed), (second, _) = (_losses(objective, backbone, num_samples, seed) for seed in (1, 2))
    except UNTRIED:
        return False
    finally:
        backbone.train(was_training)
    if not torch.allclose(first, second, rtol=TOLERANCE, equal_nan=True):
        problem = "gives other losses with the same generators, so that a resumed run would be another one"
        raise InputError("model.objective", problem, "draw all that is random from `generators`, by audioldm_lit.seeding")
    if changed and type(objective).state is Objective.state:
        problem = f"changes its {changed[0]} in forward, which a resumed run would begin anew"
        raise InputError("model.objective", problem, "make it a buffer, or return it from `state` and take it back in `restore`")
    return True


def _losses(objective: Objective, backbone: Backbone, num_samples: int, seed: int) -> tuple[Tensor, list[str]]:
    """Losses of noise in place of clips, under a global seed, and which numbers in plain attributes they changed."""
    shared = {id(weight): weight for weight in objective.parameters() if not weight.requires_grad}
    ours = copy.deepcopy(objective, shared).eval().to(backbone.device)  # where the trainer has not put the objective yet
    generators = [seeding.placed(0, place) for place in range(SAMPLES)]
    latents = seeding.normal(generators, backbone.latent_shape(num_samples)).to(backbone.device)
    width = backbone.unet.config["projection_class_embeddings_input_dim"]
    cond = F.normalize(seeding.normal(generators, (width,)), dim=1).to(backbone.device)
    waveform = 0.1 * seeding.normal(generators, (num_samples,)).to(backbone.device)
    torch.manual_seed(seed)
    scheduler, before = ours.prediction.scheduler(backbone.scheduler), _numbers(ours)
    losses = ours(backbone, scheduler, latents, cond, generators, **ours.heard({"waveform": waveform})).float()
    return losses, [name for name, value in _numbers(ours).items() if value != before.get(name)]


def _numbers(objective: Objective) -> dict[str, float]:
    """Numbers in plain attributes, which no checkpoint keeps."""
    return {name: value for name, value in vars(objective).items() if isinstance(value, int | float) and name != "training"}
