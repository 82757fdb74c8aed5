"""What every run asks of its adapter before anything is trained: that nothing of it would be lost at the end."""

import copy
import json
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor, nn

from audioldm_lit.adapters.base import Adapter, inject, part_of, saved, trainable, trained_parts
from audioldm_lit.adapters.files.adapter_file import load_weights
from audioldm_lit.adapters.files.making import made_again
from audioldm_lit.backbone import SOUND_SIDE, UNET_SIDE, Backbone
from audioldm_lit.errors import InputError
from audioldm_lit.networks.unread import unread

KEY = "model.adapter"
CALLED = {"unet": "the UNet", "vae": "the VAE", "vocoder": "the vocoder"}  # parts all of which have gradients without text
MOVED = 0.02  # standard deviation of what is added to the weights: many adapters do nothing before they train
TOLERANCE = 1e-5  # of what a model makes: the same weights make the same
START = 1e-3  # of what the base makes: what rounding leaves of an adapter that changes nothing
CANNOT_COPY = (AttributeError, NotImplementedError, RuntimeError, TypeError, ValueError)
FAILS = (*CANNOT_COPY, AssertionError, LookupError)  # how code of somebody else's fails in a copy
MEND = "draw it from a generator of its own with a fixed seed, or make it a parameter or a persistent buffer, which are saved"


def check_contract(
    adapter: Adapter, backbone: Backbone, fresh: Backbone, seed: int, trains: Sequence[str] = UNET_SIDE
) -> dict[str, Tensor]:
    """Copy an adapted model, move what trains, and take it through a file into a fresh base, where it must make the same.

    Args:
        adapter: The adapter, injected.
        backbone: What it was injected into; is left as it is.
        fresh: The same base without an adapter, in which at least the parts are read that the adapter adds to; is used up.
        seed: Seed under which the adapter was injected.
        trains: Parts of the backbone that the objective's losses go through.

    Returns:
        What the adapter adds frozen, as it is when it is injected again under another seed; `saved` compares with it.

    Raises:
        InputError: If the adapter cannot be copied, made again from its `spec` or saved; trains what no step goes through; gets no
            gradient; changes what the base makes and does not say so; or is another one when it is loaded.
    """
    for name in trainable(backbone):
        if not name.startswith(tuple(f"{part}." for part in trains)):
            mend = f"train weights of {' or '.join(trains)}, or choose another model.objective"
            raise InputError(KEY, f"trains {name}, which no training step goes through", mend)
    untouched = unread(fresh)
    for model in (backbone, fresh):
        model.rest()  # whole models would be the most memory that a run takes
    try:
        ours, copied = _copied(adapter, backbone, untouched - {"text_encoder"})  # on which hooks may lie that tell others the text
    except CANNOT_COPY as error:
        problem = f"does not survive copy.deepcopy of the backbone ({error})"
        raise InputError(KEY, problem, "register hooks and modules that can be copied") from error
    _move(copied.float())
    sounds = bool(trained_parts(backbone) & {*SOUND_SIDE})
    made = _made_of_copy(copied, ours, sounds, backbone, adapter)
    _check_gradients(copied, made)
    again = type(adapter)(**made_again(json.loads(json.dumps(adapter.spec()))["init_args"], Path(KEY)))
    added = _injected(again, fresh.to(backbone.device), seed + 1, sounds)
    _round(fresh, backbone)
    anew = {name: tensor.detach().clone() for name, tensor in added.items() if part_of(name) not in untouched}
    load_weights(fresh, _through_file(saved(trainable(copied), copied, anew)), KEY, anew)
    loaded = _made(fresh, again, sounds)
    lost = _apart(_registered(copied), _registered(fresh), untouched)
    if not all((other - one).norm() <= TOLERANCE * one.norm() for one, other in zip(made, loaded, strict=True)):
        lost = lost or _apart(_plain(ours, copied), _plain(again, fresh), untouched) or ["something of it"]
    if lost:
        more = f" (and {len(lost) - 1} more)" if len(lost) > 1 else ""
        raise InputError(KEY, f"draws {lost[0]}{more} at random and does not save it: every load would be another adapter", MEND)
    return anew


def _copied(adapter: Adapter, backbone: Backbone, shared: Collection[str]) -> tuple[Adapter, Backbone]:
    """Deep copies but for some parts and the memory of the frozen weights, which they share."""
    frozen = [weight for weight in backbone.parameters() if not weight.requires_grad]
    known: dict[int, Any] = {id(weight): nn.Parameter(weight.data, requires_grad=False) for weight in frozen}
    known |= {id(part): part for name, part in backbone.named_children() if name in shared}
    return copy.deepcopy((adapter, backbone), known)


def _move(backbone: Backbone) -> None:
    generator = torch.Generator().manual_seed(0)
    for weight in trainable(backbone).values():
        weight.data += MOVED * torch.randn(weight.shape, generator=generator).to(weight)


def _round(fresh: Backbone, backbone: Backbone) -> None:
    """Round weights as those of a backbone are that an earlier check has stored in bfloat16."""
    held = dict(backbone.named_parameters())
    for name, weight in fresh.named_parameters():
        if name in held:
            weight.data = weight.data.to(held[name].dtype).float()


def _made(backbone: Backbone, adapter: Adapter | None, sounds: bool) -> list[Tensor]:
    """What is predicted of two latents of the shortest length, and perhaps the sound of them, in eval mode."""
    generator = torch.Generator().manual_seed(1)
    latents = torch.randn(2, *backbone.latent_shape(1), generator=generator).to(backbone.device)
    captions = ["rain", "a dog barks"]
    with torch.no_grad():
        cond = backbone.encode_text(captions)
        cond = adapter.prompt_embeds(backbone, captions, cond) if adapter else cond
    backbone.rest()
    steps = len(backbone.scheduler.alphas_cumprod)
    timesteps = torch.tensor([steps // 4, 3 * steps // 4], device=backbone.device)
    predicted = backbone.eval()(latents, timesteps, cond)
    return [predicted, backbone.sound(latents)] if sounds else [predicted]


def _made_of_copy(copied: Backbone, ours: Adapter, sounds: bool, backbone: Backbone, adapter: Adapter) -> list[Tensor]:
    """What a copy makes; where it fails and the original does not, the copy is to blame."""
    try:
        return _made(copied, ours, sounds)
    except FAILS as error:
        with torch.no_grad():
            _made(backbone, adapter, sounds)  # raises what is wrong with both
        problem = f"works, but its copy by copy.deepcopy does not ({type(error).__name__}: {error})"
        mend = "keep what hooks share in a module, and reach it through the hook's own module argument, not by a closure"
        raise InputError(KEY, problem, mend) from error


def _injected(adapter: Adapter, fresh: Backbone, seed: int, sounds: bool) -> dict[str, Tensor]:
    """Inject into a base, and refuse an adapter that changes it at once: what a run measures at its start is called the base's."""
    with torch.no_grad():
        base = _made(fresh, None, sounds)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        added = inject(adapter, fresh)
    if adapter.identity_at_start:
        with torch.no_grad():
            pairs = zip(base, _made(fresh, adapter, sounds), strict=True)
        away = max(float((ours - one).norm() / one.norm()) for one, ours in pairs)
        if not away <= START:
            problem = f"changes what the base makes by {away:.1%} before anything trains, which would be reported as the base's"
            raise InputError(KEY, problem, "start it at zero, or say identity_at_start = False in its class if it is meant")
    return added


def _check_gradients(backbone: Backbone, made: Sequence[Tensor]) -> None:
    """Refuse an adapter of a part none of whose weights has a gradient; single ones may have theirs in other steps."""
    for one in made:
        if one.requires_grad:
            one.square().mean().backward()
    for part, called in CALLED.items():
        weights = {name: weight for name, weight in trainable(backbone).items() if name.startswith(f"{part}.")}
        if weights and not any(weight.grad is not None and weight.grad.any() for weight in weights.values()):
            problem = f"trains {len(weights)} weights of {called}, such as {next(iter(weights))}, and none of them gets a gradient"
            raise InputError(KEY, problem, "use them in the forward pass, without detach or no_grad")


def _through_file(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights as a file gives them back."""
    for name, weight in weights.items():
        if not weight.is_floating_point():
            raise InputError(KEY, f"draws {name} at random, and files hold floating-point numbers alone", MEND.partition(",")[0])
    try:
        return safetensors.torch.load(safetensors.torch.save({name: w.cpu().contiguous() for name, w in weights.items()}))
    except RuntimeError as error:  # of weights that share memory
        problem = f"cannot be written to a file ({' '.join(str(error).split())})"
        raise InputError(KEY, problem, "give every weight memory of its own") from error


def _registered(backbone: Backbone) -> dict[str, Tensor]:
    return {**dict(backbone.named_parameters()), **dict(backbone.named_buffers())}


def _plain(adapter: Adapter, backbone: Backbone) -> dict[str, Tensor]:
    """Tensors that are mere attributes, of the adapter or of a module."""
    owners: dict[str, Adapter | nn.Module] = {type(adapter).__name__: adapter, **dict(backbone.named_modules())}
    found = {f"{name}.{key}": value for name, owner in owners.items() for key, value in vars(owner).items()}
    return {name: value for name, value in found.items() if isinstance(value, Tensor)}


def _apart(ours: Mapping[str, Tensor], others: Mapping[str, Tensor], untouched: Collection[str]) -> list[str]:
    """Names of tensors that are not the same in both, but for those of parts that the adapter adds nothing to."""
    asked = [name for name in ours if part_of(name) not in untouched]
    return [name for name in asked if name not in others or not torch.equal(ours[name], others[name])]
