"""Networks that give their weights back while nobody asks for them, and read them from their folder when somebody does."""

from pathlib import Path

import torch
from torch import nn

from audioldm_lit.networks.model_folder import load_network
from audioldm_lit.networks.unread import Unread


def let_go(network: nn.Module) -> bool:
    """Free a network's weights, on whatever device; not those of one in which anything trains, which its folder has not.

    Returns:
        Whether there was anything to free.
    """
    weights = list(network.parameters())
    if rests(network) or any(weight.requires_grad for weight in weights):
        return False
    for weight in weights:
        weight.data = weight.data.new_empty(0)
    return True


def rests(network: nn.Module) -> bool:
    """Whether its weights are gone."""
    return all(weight.numel() == 0 for weight in network.parameters())


def take_up(network: nn.Module, folder: Path, device: torch.device) -> nn.Module:
    """Give a network that rests its weights again, from its folder, where they were and in the precision they had.

    Returns:
        The network, or in the place of one that was not read yet what is read now, in float32 on the device.

    Raises:
        InputError: If the folder is not what it was.
    """
    if isinstance(network, Unread):
        return load_network(folder, network.network).requires_grad_(False).to(device)
    saved = dict(load_network(folder, type(network)).named_parameters())
    for name, weight in network.named_parameters():
        weight.data = saved[name].data.to(weight.device, weight.dtype)
    return network
