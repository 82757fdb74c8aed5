"""Which adapters help: `python scripts/bench/adapters.py --root ESC-10` trains each over several seeds and prints a table.

The folder holds recordings in ESC-50's layout (Piczak 2015). A seed draws the few shots, the adapter's start, the training noise
and the noise that clips are generated from; the held-out clips and their noise are everybody's. What is there already is not run
again.
"""

import argparse
import csv
import json
import subprocess
import sys
from pathlib import Path
from statistics import fmean, stdev

from scipy.stats import t as student

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
BASE = "base"
ARMS = {"lora": 3e-3, "bottleneck": 3e-3, "bitfit": 3e-3, "full": 3e-4, "scratch": 1e-3}  # learning rates, set by hand
MEASURED = {"held-out loss": "test/loss", "KAD": "test/kad", "copies": "test/copies"}
CHANGES = ("held-out loss", "KAD")


def options(arguments: argparse.Namespace, arm: str, seed: int, folder: Path) -> list[str]:
    """Command-line options of an arm, the same for `fit` and `test`."""
    adapter = "lora" if arm == BASE else arm  # untrained, it is the base
    settings = {
        "--config": CONFIGS / "experiment" / "esc50_lora_8shot.yaml",
        "--model.adapter": CONFIGS / "adapter" / f"{adapter}.yaml",
        "--model.optimizer": "torch.optim.AdamW",
        "--model.optimizer.init_args.lr": ARMS.get(arm, 1e-3),
        "--model.sampler.num_inference_steps": arguments.sampling_steps,
        "--model.seed": seed,
        "--data.init_args.seed": seed,
        "--data.init_args.root": arguments.root,
        "--data.init_args.shots": arguments.shots,
        "--data.init_args.duration": arguments.duration,
        "--trainer.max_steps": arguments.steps,
        "--trainer.val_check_interval": max(1, arguments.steps // 2),
        "--trainer.logger.init_args.save_dir": folder,
        "--audition.count": 0,
        "--dials.count": 0,
    }
    return [str(word) for pair in settings.items() for word in pair]


def verb(*words: str) -> None:
    """Run a verb as its users do."""
    subprocess.run([sys.executable, "-m", "audioldm_lit", *words], check=True)


def run(arguments: argparse.Namespace, arm: str, seed: int) -> None:
    """Train an arm on one seed and test its best check; nothing where both are done."""
    folder = arguments.out / arm / f"seed-{seed}"
    if (folder / "done.json").is_file():
        return
    words = options(arguments, arm, seed, folder)
    checkpoint: list[str] = []
    if arm != BASE:
        verb("fit", *words)
        result = json.loads(_newest(folder, "result.json").read_text())
        checkpoint = ["--ckpt_path", result["checkpoint"]]
    verb("test", *words, *checkpoint)
    with _newest(folder, "metrics.csv").open() as file:
        (row,) = [row for row in csv.DictReader(file) if row.get("test/loss")]
    (folder / "done.json").write_text(json.dumps({name: float(row[column]) for name, column in MEASURED.items()}) + "\n")


def interval(values: list[float]) -> str:
    """Mean and its 95 % interval over seeds, Student's t."""
    if len(values) < 2:
        return f"{values[0]:.4g}" if values else ""
    half = student.ppf(0.975, len(values) - 1) * stdev(values) / len(values) ** 0.5
    return f"{fmean(values):.4g} [{fmean(values) - half:.4g}, {fmean(values) + half:.4g}]"


def table(out: Path) -> str:
    """Markdown table of everything that is done; the last columns are differences from the base on the same seeds."""
    done = {
        arm: {path.parent.name: json.loads(path.read_text()) for path in out.glob(f"{arm}/*/done.json")} for arm in (BASE, *ARMS)
    }
    names = [*MEASURED, *(f"{name}, change" for name in CHANGES)]
    lines = ["| adapter | seeds | " + " | ".join(names) + " |", "|---" * (2 + len(names)) + "|"]
    for arm, runs in done.items():
        shared = runs.keys() & done[BASE].keys() if arm != BASE else ()
        cells = [interval([one[name] for one in runs.values()]) for name in MEASURED]
        cells += [interval([runs[seed][name] - done[BASE][seed][name] for seed in shared]) for name in CHANGES]
        lines.append(f"| `{arm}` | {len(runs)} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _newest(folder: Path, name: str) -> Path:
    return max(folder.rglob(name), key=lambda path: path.stat().st_mtime)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, required=True, help="recordings in ESC-50's layout")
    parser.add_argument("--out", type=Path, default=Path("runs/adapters"), help="folder for the runs")
    parser.add_argument("--arms", nargs="+", default=[BASE, *ARMS], choices=[BASE, *ARMS])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 4, 5])
    parser.add_argument("--shots", type=int, default=8, help="training clips a class")
    parser.add_argument("--steps", type=int, default=150, help="optimizer steps of eight clips")
    parser.add_argument("--duration", type=float, default=2.56, help="seconds a clip")
    parser.add_argument("--sampling-steps", type=int, default=10, help="steps of DPM-Solver++ a generated clip")
    given = parser.parse_args()
    for each_seed in given.seeds:
        for each_arm in given.arms:
            run(given, each_arm, each_seed)
    print(table(given.out))
