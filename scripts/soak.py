"""Hours of training, checks and generating with a fault a minute: `python scripts/soak.py --data DIR --hours 4 --out runs/soak`.

The first round is left in peace: one `fit` and one `generate` of the trained adapter; its memory is watched, and what it leaves is
what every later round must leave. In a later round the same commands meet a fault after a random time, and the same command goes
on, until it ends well:

* `kill`: kill -9 of the process
* `stop`: SIGTERM, as a cluster sends it
* `torn checkpoint`: kill -9, and `last.ckpt` is cut in the middle
* `damaged cache`: kill -9, and a byte of a cached row is changed
* `left over`: kill -9, and a half-written file lies beside the results

After a round everything is counted: weights of the adapter, steps and checks of the log, generated clips, byte for byte. Rounds are
kept in `soak.jsonl`: the same command goes on after an interruption of its own, until the hours are full.
"""

import argparse
import hashlib
import json
import random
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import psutil
from safetensors import safe_open

from audioldm_lit.places import REPOSITORY
from audioldm_lit.storage.atomic_write import MACHINE

SAMPLE_SECONDS = 2.0
PROMPTS = ("rain on a roof", "a door closes", "footsteps on gravel", "a whistle", "water drips", "paper tears")
FIT = (
    "--model.adapter", str(REPOSITORY / "configs" / "adapter" / "lora.yaml"),
    "--model.optimizer", "torch.optim.AdamW", "--model.optimizer.init_args.lr", "1e-3",
    "--trainer.val_check_interval", "10", "--trainer.log_every_n_steps", "1", "--scores.after_fit", "false",
    "--audition.count", "0", "--dials.count", "0", "--data", "audioldm_lit.data.folder.Folder", "--data.init_args.duration", "2.56",
)  # fmt: skip


def kill(process: psutil.Popen, folder: Path, dice: random.Random) -> None:
    """Kill -9."""
    process.kill()
    process.wait()


def stop(process: psutil.Popen, folder: Path, dice: random.Random) -> None:
    """SIGTERM."""
    process.terminate()
    process.wait()


def torn_checkpoint(process: psutil.Popen, folder: Path, dice: random.Random) -> None:
    """Cut the newest `last.ckpt` of a killed process in the middle."""
    kill(process, folder, dice)
    for file in sorted(folder.rglob("last.ckpt"))[-1:]:
        content = file.read_bytes()
        file.write_bytes(content[: len(content) // 2])


def damaged_cache(process: psutil.Popen, folder: Path, dice: random.Random) -> None:
    """Change a byte of one of the cache's files."""
    kill(process, folder, dice)
    for file in dice.sample(found := sorted((folder / "cache").rglob("*.safetensors")), min(1, len(found))):
        content = bytearray(file.read_bytes())
        content[dice.randrange(len(content) // 2, len(content))] ^= 1
        file.write_bytes(content)


def left_over(process: psutil.Popen, folder: Path, dice: random.Random) -> None:
    """Leave a file beside the results that the killed process had half written."""
    kill(process, folder, dice)
    for file in sorted(folder.rglob("*.wav"))[-1:]:
        file.with_name(f"{file.name}.{MACHINE}-{process.pid}.part").write_bytes(b"RIFF")


FAULTS: tuple[Callable[[psutil.Popen, Path, random.Random], None], ...] = (kill, stop, torn_checkpoint, damaged_cache, left_over)


class Round:
    """One training and one generation in a folder of their own.

    Args:
        folder: Where they work.
        options: The command line's.
        minutes_between: Mean minutes between two faults, none for a round left in peace.
        dice: What draws the faults.
    """

    def __init__(self, folder: Path, options: argparse.Namespace, minutes_between: float | None, dice: random.Random) -> None:
        self.folder, self.options, self.minutes_between, self.dice = folder, options, minutes_between, dice
        self.faults: Counter[str] = Counter()
        self.memory_mb: dict[str, list[float]] = {"fit": [], "generate": []}

    def go(self) -> dict[str, object]:
        """Train, generate and count what is left."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        own = ["--data.init_args.root", str(self.options.data.resolve()), "--model.cache_dir", "cache"]
        self.to_the_end(["fit", *FIT, *own, "--trainer.max_steps", str(self.options.steps)])
        adapter = max(self.folder.rglob("adapter.safetensors"), key=lambda file: file.stat().st_mtime)  # a kill may come after one
        prompts = json.dumps([f"{prompt} {number}" for number in range(self.options.prompts // len(PROMPTS)) for prompt in PROMPTS])
        how = ["--sampler.num_inference_steps", "10", "--duration", "2.56", "--batch_size", "2"]
        self.to_the_end(["generate", "--adapter", str(adapter.relative_to(self.folder)), "--prompt", prompts, *how])
        return self.left(adapter)

    def to_the_end(self, words: Sequence[str]) -> None:
        """Start a command again and again until it ends well; faults come in between."""
        while True:
            last = ["--ckpt_path", "last"] if words[0] == "fit" and any(self.folder.rglob("checkpoints/*.ckpt")) else []
            with (self.folder / f"{words[0]}.log").open("a") as log:
                process = psutil.Popen(
                    [sys.executable, "-m", "audioldm_lit", *words, *last], cwd=self.folder, stdout=log, stderr=log
                )
                code = self.wait(process, self.memory_mb[words[0]])
            if code == 0 or (words[0] == "fit" and any(self.folder.rglob("result.json"))):  # which `fit` writes last
                return
            if code is not None:
                sys.exit(f"{self.folder / words[0]}.log: the command ended with status {code} without a fault")

    def wait(self, process: psutil.Popen, memory_mb: list[float]) -> int | None:
        """Status of a command that ended by itself, None where a fault ended it; adds to `memory_mb` what it held, in MB."""
        wait = self.dice.expovariate(1 / (60 * self.minutes_between)) if self.minutes_between else float("inf")
        began = time.monotonic()
        while (code := process.poll()) is None and time.monotonic() - began < wait:
            memory_mb.append(process.memory_info().rss / 1e6)
            time.sleep(SAMPLE_SECONDS)
        if code is not None:
            return code
        fault = self.dice.choice(FAULTS)
        fault(process, self.folder, self.dice)
        self.faults[fault.__name__] += 1
        return None

    def left(self, adapter: Path) -> dict[str, object]:
        """What a round must leave like every other."""
        with safe_open(adapter, "np") as file:
            weights = {name: digest(file.get_tensor(name).tobytes()) for name in sorted(file.keys())}
        logs = [pd.read_csv(path) for path in sorted(self.folder.rglob("metrics.csv"))]
        checks = pd.concat(logs).dropna(subset=["val/loss"]).drop_duplicates("step", keep="last").sort_values("step")
        return {
            "weights": digest(json.dumps(weights).encode()),
            "checks": {str(int(row["step"])): row["val/loss"] for _, row in checks.iterrows()},
            "clips": {file.name: digest(file.read_bytes()) for file in sorted((self.folder / "generated").glob("*.wav"))},
            "half-written": sorted(file.name for file in (self.folder / "generated").rglob("*.part")),
        }


def digest(content: bytes) -> str:
    """SHA-256."""
    return hashlib.sha256(content).hexdigest()


def drift(memory_mb: Sequence[float]) -> float:
    """Growth of a process's memory from its fourth tenth to its ninth, as a share of the former; medians.

    What comes before is its start, which reads models, and what comes after is its end, which reads the base again.
    """
    tenth = max(1, len(memory_mb) // 10)
    return float(np.median(memory_mb[8 * tenth : 9 * tenth]) / np.median(memory_mb[3 * tenth : 4 * tenth]) - 1)


def main() -> None:
    """Rounds until the hours are full, then the report."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder of recordings with captions")
    parser.add_argument("--out", type=Path, default=Path("runs/soak"))
    parser.add_argument("--hours", type=float, default=4.0, help="of all starts together")
    parser.add_argument("--steps", type=int, default=200, help="of a training")
    parser.add_argument("--prompts", type=int, default=60, help="clips to generate, a multiple of 6")
    parser.add_argument("--minutes_between", type=float, default=1.0, help="mean minutes between two faults")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    book = options.out / "soak.jsonl"
    rounds = [json.loads(line) for line in book.read_text().splitlines()] if book.is_file() else []
    while sum(done["hours"] for done in rounds) < options.hours:
        number, began = len(rounds), time.monotonic()
        now = Round(options.out / f"round-{number}", options, options.minutes_between if number else None, random.Random(number))
        left = now.go()
        rounds.append({
            "hours": (time.monotonic() - began) / 3600, "faults": now.faults, "left": left,
            "drift": None if number else {verb: drift(memory_mb) for verb, memory_mb in now.memory_mb.items()},
        })  # fmt: skip
        with book.open("a") as file:
            file.write(json.dumps(rounds[-1]) + "\n")
        told(rounds)


def told(rounds: Sequence[dict]) -> None:
    """Print how it stands."""
    same = [done["left"] == rounds[0]["left"] for done in rounds[1:]]
    faults = sum((Counter(done["faults"]) for done in rounds), Counter())
    hours = sum(done["hours"] for done in rounds)
    print(f"{hours:.2f} hours, {len(rounds)} rounds; {sum(same)} of {len(same)} as the one left in peace; {dict(faults)}; ", end="")
    grown = ", ".join(f"{verb} {share:+.1%}" for verb, share in rounds[0]["drift"].items())
    print(f"memory from the fourth to the ninth tenth of the round left in peace: {grown}", flush=True)


if __name__ == "__main__":
    main()
