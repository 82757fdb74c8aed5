"""A program that understands `fit` and `test` in milliseconds, for tests of what runs it.

`--print_config` prints the settings, those that are left out at their defaults.

Settings: `ledger`, a file to which every start and end is added; `behaviour`, how it goes wrong; `seconds`, how long `fit` takes.
"""

import json
import math
import os
import sys
import time
from pathlib import Path

DEFAULTS = {"seconds": 0, "behaviour": "well", "lr": 0.001}

verb, options = sys.argv[1], dict(word.removeprefix("--").split("=", 1) for word in sys.argv[2:] if "=" in word)
if "--print_config" in sys.argv:
    sys.stdout.write(json.dumps({name: str(value) for name, value in {**DEFAULTS, **options}.items()}))
    sys.exit()
folder = Path(options["trainer.logger.init_args.save_dir"])
trial = folder.parent.name


def note(event: str) -> None:
    with open(options["ledger"], "a") as ledger:
        ledger.write(f"{event} {verb} {trial} {time.time()}\n")


def alone() -> None:
    """Note it if another process runs the same trial."""
    marker = folder.parent / "busy"
    if marker.is_file() and marker.read_text() and Path(f"/proc/{marker.read_text()}").exists():
        note("overlap")
    marker.write_text(str(os.getpid()))


def behave(behaviour: str) -> None:
    if behaviour == "fail" or (behaviour == "fail_once" and folder.name == "attempt-1"):
        sys.exit("error: the moon is full; wait.")
    if behaviour == "killed":
        os.kill(os.getpid(), 9)
    if behaviour == "worker_vanishes" or (behaviour == "worker_vanishes_once" and folder.name == "attempt-1"):
        os.kill(os.getppid(), 9)
        os.kill(os.getpid(), 9)


alone()
note("start")
if verb == "fit":
    loss = abs(math.log10(float(options.get("lr", 0.001))) + 3)  # the best learning rate is 0.001
    (folder / "metrics.csv").write_text(f"step,train/loss,val/loss\n0,,9\n0,1,\n1,,{loss}\n")
    time.sleep(float(options.get("seconds", 0)))
    behave(options.get("behaviour", "well"))
    (folder / "last.ckpt").write_text("weights")
    result = {"checkpoint": str(folder / "last.ckpt"), "steps": 1, "training_clips": 4, "trained_weights": 10}
    result["held_out_loss_after"] = loss
    (folder / "result.json").write_text(json.dumps(result))
else:
    if options.get("behaviour") == "test_fails_once" and folder.name == "attempt-1":
        sys.exit("error: no ears; grow some.")
    loss = {"value": int(trial[-8:], 16) / 2**32, "interval": None, "n_clips": 9, "higher_is_better": False, "passport": "one"}
    (folder / "test.json").write_text(json.dumps({"loss": loss, "metrics": {}, "not_computed": {}, "passport": {}}))
note("end")
(folder.parent / "busy").unlink()
