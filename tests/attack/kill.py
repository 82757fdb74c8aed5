"""Kill -9 at random moments, then the same command again: `PYTHONPATH=.:tests python tests/attack/kill.py --moments 50`.

Libraries are loaded once; every command is a fork of this process. A moment is a random one of the changes that Python reports of
itself (files opened for writing and renamed, folders made, locks taken, processes started ...), of which the undisturbed command
has a known number: none depends on how busy the machine is. The change before which a command was killed is its stage.

What the second command leaves must be what the undisturbed one left, bit for bit, without anything half-written.
"""

import argparse
import hashlib
import json
import os
import random
import re
import shutil
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

os.environ["OMP_NUM_THREADS"] = "1"  # before torch: threads that a fork has not are waited for without end

import yaml

import audioldm_lit.commands.evaluate
import audioldm_lit.commands.generate
import audioldm_lit.commands.prepare
import audioldm_lit.lightning_cli  # noqa: F401  (loaded once, for all)
from audioldm_lit.cli import main

import layouts
import tiny
from grids import seeds, write_grid
from runs import arguments, run_folder, weights

METRICS = "audioldm_lit.metrics."
CHANGES = ("os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link", "os.symlink", "os.truncate", "os.utime", "fcntl.flock")
CASES = ("fit", "prepare", "generate", "evaluate", "ablate")


def changed(event: str, args: tuple) -> str | None:
    """What an event of Python changes, None where it changes nothing."""
    if event == "open" and isinstance(args[0], str | Path) and args[2] & (os.O_WRONLY | os.O_RDWR):
        return f"opening {named(args[0])}"
    if event == "subprocess.Popen":
        return f"starting {args[1][-1] if args[1][0] != 'git' else 'git'}"
    return f"{event.partition('.')[2]} {named(args[1] if event == 'os.rename' else args[0])}" if event in CHANGES else None


def named(path: object) -> str:
    """A file's kind: its name without numbers and what belongs to a process."""
    return re.sub(r"[0-9a-f]{8,}|[0-9]+(-[0-9]+)*", "*", Path(str(path)).name)[:32]


def command(words: Sequence[str], folder: Path, log: Path, kill_at: int | None = None) -> tuple[int, list[str]]:
    """Run a command in a fork; gives its exit status, negative for a signal, and the changes it made or was about to make."""
    ledger = folder.parent / "changes"
    child = os.fork()
    if child == 0:
        os.chdir(folder)
        os.environ["XDG_CACHE_HOME"] = str(folder / "cache")
        emptied = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        kept, written = os.open(ledger, emptied), os.open(log, emptied)
        for stream in (1, 2):
            os.dup2(written, stream)
        _watch(kept, kill_at)
        _end(list(words))
    _, ended = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(ended), ledger.read_text().splitlines()


def _watch(kept: int, kill_at: int | None) -> None:
    """Note this process's changes, and kill it before one of them."""
    count, own = 0, os.getpid()

    def watch(event: str, args: tuple) -> None:
        nonlocal count
        if os.getpid() == own and (change := changed(event, args)):
            count += 1
            os.write(kept, f"{change}\n".encode(errors="replace"))
            if count == kill_at:
                os.kill(own, 9)

    sys.addaudithook(watch)


def _end(words: list[str]) -> NoReturn:
    """Run a command and end this process as it ends, without what ends Python."""
    status = 1
    try:
        main(words)
        status = 0
    except SystemExit as exit_:
        status = int(exit_.code or 0)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def hashes(folder: Path, *patterns: str) -> dict[str, str]:
    """Hash of every file of these names below a folder."""
    found = sorted({path for pattern in patterns for path in folder.glob(pattern)})
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in found if path.is_file()}


def left_by_fit(folder: Path) -> object:
    run = run_folder(folder)
    result = json.loads((run / "result.json").read_text())
    return weights(run / "adapter.safetensors"), {key: result[key] for key in ("steps", "held_out_loss_after")}


def left_by_prepare(folder: Path) -> object:
    return hashes(folder, "health/manifest.jsonl", "findings.json"), len(
        list((folder / "cache").rglob("latents-*/*.safetensors"))
    ) > 0


def left_by_generate(folder: Path) -> object:
    return hashes(folder, "generated/*")


def left_by_evaluate(folder: Path) -> object:
    return json.loads((folder / "scores.json").read_text())


def left_by_ablate(folder: Path) -> object:
    lines = [line.split() for line in (folder / "ledger").read_text().splitlines()]
    ends = Counter(f"{verb} {trial}" for kind, verb, trial, _ in lines if kind == "end")
    results = [json.loads(path.read_text()).get("steps") for path in sorted(folder.glob("out/runs/*/result.json"))]
    return len(ends), results, max(ends.values())  # not the runs' names, which the ledger's place changes


def sets(root: Path) -> dict[str, tuple[Callable[[Path], None], list[str], Callable[[Path], object]]]:
    """By verb: what is there before, the command, and what it leaves."""
    model, sounds = root / "model", root / "sounds"
    tiny.backbone().save(model)
    layouts.folder(sounds, takes=3)
    data = {**layouts.esc50(root / "esc50", takes=1), "shots": 2}
    extractor = {"class_path": f"{METRICS}extractors.clap.CLAP", "init_args": {"model": str(model)}}
    metrics = {"kad": {"class_path": f"{METRICS}kernel.KAD", "init_args": {"extractor": extractor}}}
    protocol = {"class_path": "audioldm_lit.evaluation.protocol.Protocol", "init_args": {"name": "light", "metrics": metrics}}
    (root / "light.yaml").write_text(yaml.safe_dump(protocol))
    grid = root / "grid"
    grid.mkdir()
    write_grid(grid, seeds(3), {"seconds": "0.1"})
    content = yaml.safe_load((grid / "grid.yaml").read_text())

    def own_grid(folder: Path) -> None:
        shutil.copytree(grid, folder, dirs_exist_ok=True)
        content["set"]["ledger"] = str(folder / "ledger")
        (folder / "grid.yaml").write_text(yaml.safe_dump(content, sort_keys=False))

    fit = ["fit", *arguments(model, data), "--averages.profiles", "[0.1, 0.2]", "--trainer.val_check_interval", "1"]
    sampling = ["--backbone", str(model), "--sampler.num_inference_steps", "2", "--device", "cpu"]
    texts = ["--prompt", json.dumps([f"sound {i}" for i in range(6)]), "--batch_size", "2", "--duration", "0.64"]
    prepare = ["prepare", "--data", "audioldm_lit.data.folder.Folder", "--data.root", str(sounds), "--data.duration", "0.64"]
    files = ["--generated", str(sounds), "--reference", str(sounds), "--protocol", str(root / "light.yaml"), "--device", "cpu"]
    grid_words = ["--config", "grid.yaml", "--out", "out", "--allow_dirty", "--cluster.devices", "0"]
    return {
        "fit": (lambda folder: None, fit, left_by_fit),
        "prepare": (
            lambda folder: None,
            [*prepare, "--fix", "--cache", "--backbone", str(model), "--json", "findings.json"],
            left_by_prepare,
        ),
        "generate": (lambda folder: None, ["generate", *texts, *sampling], left_by_generate),
        "evaluate": (lambda folder: None, ["evaluate", *files, "--json", "scores.json"], left_by_evaluate),
        "ablate": (own_grid, ["ablate", *grid_words], left_by_ablate),
    }


def attempt(verb: str, root: Path, case: tuple, changes: int, expected: object, dice: random.Random) -> tuple[str, str]:
    """Kill once, run again; gives the stage and what is wrong, empty where nothing is."""
    before, words, left = case
    folder, log = root / "trial", root / "log"
    code, made = 0, list[str]()
    while code != -9:  # a grid's runner makes more changes or fewer, as it looks at its runs more often or less
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        before(folder)
        code, made = command(words, folder, log, dice.randrange(1, changes + 1))
        if code > 0:
            return "before", f"ended with {code}:\n{log.read_text(errors='replace')}"
    if not list(folder.glob("runs/*/*/result.json")):  # written last by `fit`, which has nothing left to do then
        again = [*words, "--ckpt_path", "last"] if list(folder.glob("runs/*/*/checkpoints/last.ckpt")) else words
        code, _ = command(again, folder, log)
    if code > 0:
        return made[-1], f"the second one ended with {code}:\n{log.read_text(errors='replace')}"
    with suppress(FileNotFoundError):
        if left(folder) == expected:
            halves = [str(path.relative_to(folder)) for path in folder.rglob("*.part")]
            return made[-1], f"half-written: {halves}" if halves and verb != "fit" else ""
    return made[-1], "another result"


def run() -> None:
    """Kill, and print the counts."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--moments", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--verbs", nargs="+", default=CASES, choices=CASES)
    given = parser.parse_args()
    dice = random.Random(given.seed)
    with tempfile.TemporaryDirectory() as place:
        root = Path(place)
        cases = sets(root)
        known = {}
        for verb in given.verbs:
            before, words, left = cases[verb]
            folder = root / f"whole-{verb}"
            folder.mkdir()
            before(folder)
            code, made = command(words, folder, root / "log")
            assert code == 0, (root / "log").read_text()
            known[verb] = len(made), left(folder)
            sys.stdout.write(f"{verb}: {len(made)} changes: {', '.join(made)}\n")
            sys.stdout.flush()
        right: Counter[str] = Counter()
        for moment in range(given.moments):
            verb = given.verbs[moment % len(given.verbs)]
            where, wrong = attempt(verb, root, cases[verb], *known[verb], dice)
            right[verb] += not wrong
            sys.stdout.write(f"{verb}, before '{where}': {wrong or 'as undisturbed'}\n")
            sys.stdout.flush()
        for number, verb in enumerate(given.verbs):
            sys.stdout.write(f"{verb}: {right[verb]} of {len(range(number, given.moments, len(given.verbs)))}\n")


if __name__ == "__main__":
    run()
