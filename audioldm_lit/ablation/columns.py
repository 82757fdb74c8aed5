"""Columns of a results table; every other one is an axis."""

FIGURES = ("value", "low", "high", "debiased", "floor", "n_clips", "higher_is_better", "passport", "caution")
COSTS = (
    "training_clips", "steps", "best_step", "trained_weights", "seconds", "fit_seconds", "attempts", "peak_memory_gb",
    "peak_device_memory_gb",
)  # fmt: skip
DERIVED = ("seeds", "mean", "first", "second", "difference", "p", "p_holm", "verdict")  # what statistics add, no names of axes
NAMES = ("run", "metric", *FIGURES, *COSTS, "held_out_loss", "held_out_loss_of", "commit", "state", "error")
