"""The training loop that every stage shares: a time budget, a resumable state file and a progress bar.

The learning rate follows the fraction of the time budget that is used up, so `--minutes` alone sets the whole schedule. On a CPU
the time is that of the processor: what else the machine does, or a stop, costs the training nothing. On a GPU it is the clock's.
"""

import functools
import math
import os
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from torch import nn
from tqdm import tqdm

from audioldm_lit.device import fast_precision
from audioldm_lit.errors import InputError

WARM_UP = 50  # steps
SAVE_EVERY = 120  # seconds between state files, the most that an interruption loses


def train(
    state_file: Path,
    modules: Mapping[str, nn.Module],
    step: Callable[[int, float], dict[str, float]],
    optimizers: Mapping[str, torch.optim.Optimizer],
    minutes: float,
    after_step: Callable[[], None] = lambda: None,
    on_save: Callable[[int], None] = lambda _: None,
) -> int:
    """Train until `minutes` are used up, those of an earlier, interrupted run included.

    Args:
        state_file: Where weights, optimizer states and the time used so far are kept; read first if it exists.
        modules: Networks to save and restore by name.
        step: Does one update, given the step's number and the fraction of the budget used; returns losses to show.
        optimizers: Optimizers to save and restore by name; each group's `initial_lr` is its peak learning rate.
        minutes: Budget of time; on a CPU that of the processor, summed over threads.
        after_step: Called after each step, for instance to update an average of the weights.
        on_save: Called with the step's number whenever the state has been written.

    Returns:
        Number of steps done.

    Raises:
        InputError: If the state file is torn, or of another architecture.
    """
    on_cpu = next(next(iter(modules.values())).parameters()).device.type == "cpu"
    count, used, clock = 0, 0.0, time.process_time if on_cpu else time.monotonic
    if state_file.is_file():
        state = read_state(state_file)
        count, used = state["step"], state["seconds"]
        for name, owner in {**modules, **optimizers}.items():
            restore(owner, state, name, state_file)

    def save() -> None:
        owners = {**modules, **optimizers}
        state = {"step": count, "seconds": used, **{name: owner.state_dict() for name, owner in owners.items()}}
        state_file.parent.mkdir(parents=True, exist_ok=True)
        torch.save(state, state_file.with_suffix(".part"))
        os.replace(state_file.with_suffix(".part"), state_file)
        on_save(count)

    budget, saved, shown = 60 * minutes, used, {}
    with tqdm(total=round(minutes, 1), initial=round(used / 60, 2), desc=state_file.stem, unit="min", mininterval=20) as bar:
        while used < budget:
            started = clock()
            fraction = used / budget
            scale = min(1.0, (count + 1) / WARM_UP) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * fraction)))
            for optimizer in optimizers.values():
                for group in optimizer.param_groups:
                    group["lr"] = group["initial_lr"] * scale
            for name, loss in step(count, fraction).items():
                shown[name] = 0.98 * shown.get(name, loss) + 0.02 * loss
            after_step()
            count += 1
            elapsed = clock() - started
            used += elapsed
            bar.update(elapsed / 60)
            bar.set_postfix({"step": count, **{name: f"{loss:.4f}" for name, loss in shown.items()}}, refresh=False)
            if used - saved > SAVE_EVERY:
                saved = used
                save()
    save()
    return count


def read_state(file: Path) -> dict[str, Any]:
    """A state file's content.

    Raises:
        InputError: If it cannot be read.
    """
    try:
        return torch.load(file, weights_only=True, map_location="cpu")
    except (OSError, RuntimeError, EOFError, UnpicklingError) as error:
        raise InputError(file, "cannot be read", "delete it, and the stage starts anew") from error


def restore(owner: nn.Module | torch.optim.Optimizer, state: Mapping[str, Any], name: str, file: Path) -> None:
    """Give a network or optimizer what a state file holds under its name.

    Raises:
        InputError: If it is that of another architecture.
    """
    try:
        owner.load_state_dict(state[name])
    except (KeyError, RuntimeError, ValueError) as error:
        raise InputError(file, f"holds {name} of another architecture", "delete it, or name another folder as --state") from error


def autocast(device: torch.device) -> torch.autocast:
    """bfloat16 where the hardware computes in it, float32 elsewhere."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=fast_precision() == "bf16-mixed")


def adamw(module: nn.Module, rate: float, betas: tuple[float, float] = (0.9, 0.99)) -> torch.optim.AdamW:
    """AdamW over the trainable weights of `module`, with the peak learning rate that `train` schedules from."""
    groups = [{"params": [p for p in module.parameters() if p.requires_grad], "initial_lr": rate}]
    return torch.optim.AdamW(groups, lr=rate, betas=betas, weight_decay=0.01)


def ends_with_a_sentence(main: Callable[[], None]) -> Callable[[], None]:
    """A script's `main` which ends with one sentence and status 2 where the input is wrong, as the verbs do."""

    @functools.wraps(main)
    def wrapped() -> None:
        try:
            main()
        except InputError as error:
            sys.stderr.write(f"error: {error}\n")
            raise SystemExit(2) from None

    return wrapped
