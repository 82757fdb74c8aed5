"""The base's held-out loss: every run starts with it and it never changes, so it is measured once for each setting."""

import hashlib
import json
from functools import cache
from importlib.metadata import version
from pathlib import Path

from lightning import Callback, Trainer
from lightning.pytorch.utilities import rank_zero_info

import audioldm_lit
from audioldm_lit.console.stages import say
from audioldm_lit.module import LitAudioLDM
from audioldm_lit.storage.atomic_write import write_json
from audioldm_lit.storage.plain_files import read_json
from audioldm_lit.training.encoding import encoded
from audioldm_lit.training.held_out_loss import error_of

PACKAGE = Path(audioldm_lit.__file__).parent
LIBRARIES = ("torch", "diffusers", "peft")


class BaseLoss(Callback):
    """Takes the base's held-out loss from an earlier run on the same clips, where there was one.

    It is filed under a hash of everything it depends on: weights, clips, captions, noise, settings, versions of libraries and the
    source of this package. Where a class from outside takes part, whose source may change unseen, it is measured every time.
    """

    def on_sanity_check_start(self, trainer: Trainer, pl_module: LitAudioLDM) -> None:
        """Look it up; the first process decides for all, since all must compute the same."""
        self.path = _path(trainer, pl_module) if trainer.is_global_zero else None
        known = _known(self.path) if self.path and self.path.is_file() else []
        pl_module.outcome.base_losses = trainer.strategy.broadcast(known)
        if pl_module.outcome.base_losses:
            rank_zero_info(f"the base's held-out loss is {pl_module.outcome.base_loss:.4f}, as measured before on these clips")
            self.path = None

    def on_sanity_check_end(self, trainer: Trainer, pl_module: LitAudioLDM) -> None:
        """Keep what was measured."""
        if self.path:
            losses = pl_module.outcome.base_losses
            write_json(self.path, {"losses": losses, "sha256": _digest(self.path, losses)})


def _known(path: Path) -> list[float]:
    """The losses in a file, none where it is damaged: believed with the hash that was written with them."""
    try:
        content = read_json(path)
        losses: list[float] = content["losses"]
        if content["sha256"] == _digest(path, losses):
            return losses
    except (OSError, ValueError, LookupError, TypeError):
        pass
    say(f"{path}: is damaged, and measured again")
    return []


def _digest(path: Path, losses: list[float]) -> str:
    return hashlib.sha256(f"{path.stem} {json.dumps(losses)}".encode()).hexdigest()


def _path(trainer: Trainer, module: LitAudioLDM) -> Path | None:
    classes = [type(part) for part in (module, module.adapter, *([module.objective] if module.objective.judged_by else []))]
    if not all(cls.__module__.startswith("audioldm_lit.") for cls in classes):
        return None
    held_out = encoded(module.data, "val")
    content = {
        "base": [module.backbone.fingerprint(part) for part in ("unet", "text_encoder")],
        "encoders": held_out.latents.folder.name,
        "schedule": dict(module.backbone.scheduler.config),
        "clips": held_out.fingerprint(),
        "model": [classes[0].__qualname__, module.adapter.spec(), module.seed],
        "timesteps": module.val_timesteps,
        **({"judged": error_of(module.objective), "decoder": module.base_decoder} if module.objective.judged_by else {}),
        "batches": [module.data.batch_size, trainer.limit_val_batches, trainer.num_sanity_val_steps, trainer.world_size],
        "precision": [trainer.precision, module.device.type],
        "code": [_source(), *map(version, LIBRARIES)],
    }
    key = hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()
    return module.cache_dir / "base-loss" / f"{key}.json"


@cache
def _source() -> str:
    digest = hashlib.sha256()
    for path in sorted(PACKAGE.rglob("*.py")):
        digest.update(path.read_bytes())
    return digest.hexdigest()
