"""The verb `curve`."""

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from audioldm_lit.ablation.curve_arms import arms, as_dict, chosen, read_results, sheet
from audioldm_lit.ablation.plot import plot as draw
from audioldm_lit.ablation.sheets import terminal
from audioldm_lit.console.markup import escape
from audioldm_lit.storage.atomic_write import write_json


def curve(
    grid: Path,
    metric: str = "loss",
    clips: Sequence[int] = (),
    reach: float | None = None,
    where: Sequence[str] = (),
    plot: Path | None = None,
    json: Path | None = None,
) -> None:
    """Say how many clips are needed, from a grid whose runs differ in the number of training clips.

    A power law with a 95 % interval is fitted to each arm, from at least 4 numbers of clips and 2 seeds. It holds from the smallest
    measured number up to twice the largest; where runs show no such law, the table says why.

    Args:
        grid: Results folder of a grid, with `results.csv`.
        metric: Metric whose curve is fitted.
        clips: Number of clips to predict the metric at, may be given several times; by default the largest measured and twice that.
        reach: Value of the metric; the table says how many clips would reach it.
        where: `axis=level`, to use only these runs; may be given several times.
        plot: Picture of the curves, .png, .svg or .pdf.
        json: File for the same numbers.
    """
    results = chosen(read_results(grid), where)
    found = arms(results, metric)
    largest = max((arm.curve.largest for arm in found if arm.curve), default=None)
    numbers = list(clips) or ([largest, 2 * largest] if largest else [])
    console = Console(emoji=False)
    terminal(sheet(found, metric, numbers, reach), console)
    for arm in found:
        if arm.why_not is not None:
            name = " ".join(arm.levels.values()) or metric
            why_not = f"{arm.why_not.problem}; {arm.why_not.mend}"
            console.print(escape(f"{name}: no curve, {why_not}."), soft_wrap=True, highlight=False)
    if largest:
        console.print("A curve levels off there only if it stays a power law to the end.", soft_wrap=True, highlight=False)
    if plot is not None:
        draw(found, results, metric, plot)
    if json is not None:
        write_json(json, [as_dict(arm, numbers, reach) for arm in found])
