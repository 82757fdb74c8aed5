"""How long the parts of a run take, for planning."""

import time
from pathlib import Path
from typing import Any

from lightning import Callback, Trainer

from audioldm_lit.module import LitAudioLDM
from audioldm_lit.storage.atomic_write import write_json


class Stopwatch(Callback):
    """Writes how long a training step, a check of the held-out clips and a batch of the test take, the first of each left out.

    Args:
        file: JSON file with `step`, `check` and `test_batch` in seconds, and `test_batches`, the number of batches of the test.
    """

    def __init__(self, file: Path) -> None:
        self.file = file
        self.times: dict[str, list[float]] = {"step": [], "check": [], "test_batch": []}
        self.began = time.monotonic()

    def on_train_batch_start(self, *_: Any) -> None:
        """Start."""
        self.began = time.monotonic()

    on_validation_start = on_test_batch_start = on_train_batch_start  # type: ignore[assignment]  # these ignore their arguments

    def on_train_batch_end(self, *_: Any) -> None:
        """Stop."""
        self._stop("step")

    def on_validation_end(self, *_: Any) -> None:
        """Stop."""
        self._stop("check")

    def on_test_batch_end(self, *_: Any) -> None:
        """Stop."""
        self._stop("test_batch")

    def teardown(self, trainer: Trainer, pl_module: LitAudioLDM, stage: str) -> None:
        """Write."""
        if trainer.is_global_zero:
            means = {part: sum(times[1:]) / (len(times) - 1) for part, times in self.times.items() if len(times) > 1}
            batches = int(sum(trainer.num_test_batches)) if stage == "test" else 0
            write_json(self.file, {**means, "test_batches": batches})

    def _stop(self, part: str) -> None:
        self.times[part].append(time.monotonic() - self.began)
