"""The result of a run as people read it."""

from typing import Any

from rich.console import Console
from rich.table import Table

from audioldm_lit.console.markup import escape


def show(result: dict[str, Any], console: Console) -> None:
    """Print the content of `result.json`."""
    table = Table(title="Result", show_header=False, title_justify="left")
    for name, text in [*_training(result), *_dials(result), *_files(result)]:
        table.add_row(name, escape(text))
    console.print(table, soft_wrap=True)


def _training(result: dict[str, Any]) -> list[tuple[str, str]]:
    before, after = result["held_out_loss_before"], result["held_out_loss_after"]
    of = result.get("held_out_loss_of", "noise")  # runs of before had no other
    if before is None:
        loss = f"{after:.4f} (the base was not measured: trainer.num_sanity_val_steps is not -1)"
    else:
        # No interval stands beside it, so no word on whether it is better.
        judged = f"{result['held_out_clips']} clips" + (", same noise" if of == "noise" else "")
        loss = f"{before:.4f} before, {after:.4f} after ({_change(before, after)}); {judged}"
    trained = f"{result['trained_weights']:,} weights on {result['training_clips']} clips, {result['steps']} steps"
    audio = [(f"{split} audio", coverage) for split, coverage in result["coverage"].items()]
    # Rounded down, so that 100 % means all.
    partly = [(name, coverage) for name, coverage in audio if not coverage.endswith(" 100.0 %")]
    return [
        ("trained", trained),
        ("held-out loss" if of == "noise" else f"held-out error of {of}", loss),
        *partly,
        ("best check", f"step {result['best_step']}{result['average']}"),
    ]


def _change(before: float, after: float) -> str:
    """In percent; a difference that would print as zero has no sign."""
    change = f"{(after - before) / before:+.1%}"
    return "equal to 0.1%" if change in ("+0.0%", "-0.0%") else change


def _dials(result: dict[str, Any]) -> list[tuple[str, str]]:
    if "dials" not in result:
        return []
    base, now = result["dials"]["base"], result["dials"]["best"]
    return [
        ("learned", f"distance of a few clips {base['learned']:.1f} before, {now['learned']:.1f} after: see the scores"),
        ("copied", f"{now['copied']:.0%} of them are near-copies of training clips"),
        ("forgot", f"CLAP score of general prompts {base['general']:.3f} before, {now['general']:.3f} after"),
    ]


def _files(result: dict[str, Any]) -> list[tuple[str, str]]:
    heard = f"{result['auditions']}/*/step-000000.wav is the base, the highest step the adapter"
    listen = [("listen", heard)] if result["auditions"] else []
    return [("adapter", result["adapter"]), *listen, ("time", f"{result['seconds'] / 60:.1f} min")]
