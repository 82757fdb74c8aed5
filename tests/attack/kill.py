"""Kill -9 at random moments, then the same command again: `PYTHONPATH=.:tests python tests/attack/kill.py --moments 50`.

Libraries are loaded once; every command is a fork of this process. A moment is a random one of the events that Python reports of
itself (files opened and renamed, folders made, modules imported ...), of which the undisturbed command has a known number: most of
them lie where files are written, and none depends on how busy the machine is.

What the second command leaves must be what the undisturbed one left, bit for bit, without anything half-written.
"""

import argparse
import hashlib
import json
import os
import random
import shutil
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import yaml

import audioldm_lit.commands.evaluate
import audioldm_lit.commands.generate
import audioldm_lit.commands.prepare
import audioldm_lit.lightning_cli  # noqa: F401  (loaded once, for all)
from audioldm_lit.cli import main

import layouts
import tiny
from grids import seeds, write_grid
from runs import arguments, run_folder

METRICS = "audioldm_lit.metrics."
CASES = ("fit", "prepare", "generate", "evaluate", "ablate")


def command(words: Sequence[str], folder: Path, log: Path, kill_at: int | None = None) -> tuple[int, int]:
    """Run a command in a fork; gives its exit status, negative for a signal, and how many events it had."""
    count_file = folder.parent / "events"
    child = os.fork()
    if child == 0:
        os.chdir(folder)
        os.environ["XDG_CACHE_HOME"] = str(folder / "cache")
        written = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        for stream in (1, 2):
            os.dup2(written, stream)
        status, count = 1, 0

        def watch(event: str, args: object) -> None:
            nonlocal count
            count += 1
            if count == kill_at:
                os.kill(os.getpid(), 9)

        sys.addaudithook(watch)
        try:
            main(list(words))
            status = 0
        except SystemExit as exit_:
            status = int(exit_.code or 0)
        except BaseException:
            traceback.print_exc()
        finally:
            kill_at = None
            sys.stdout.flush()
            sys.stderr.flush()
            count_file.write_text(str(count))
            os._exit(status)
    _, ended = os.waitpid(child, 0)
    code = os.waitstatus_to_exitcode(ended)
    return code, int(count_file.read_text()) if code >= 0 else 0


def stage(log: Path) -> str:
    """What a command was at: its last line of progress."""
    lines = [line.split(":")[0] for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1][:40] if lines else "start"


def hashes(folder: Path, *patterns: str) -> dict[str, str]:
    """Hash of every file of these names below a folder."""
    found = sorted({path for pattern in patterns for path in folder.glob(pattern)})
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in found if path.is_file()}


def left_by_fit(folder: Path) -> object:
    run = run_folder(folder)
    result = json.loads((run / "result.json").read_text())
    return hashes(run, "adapter.safetensors"), {key: result[key] for key in ("steps", "held_out_loss_after")}


def left_by_prepare(folder: Path) -> object:
    return hashes(folder, "health/manifest.jsonl", "findings.json"), len(
        list((folder / "cache").rglob("latents-*/*.safetensors"))
    ) > 0


def left_by_generate(folder: Path) -> object:
    return hashes(folder, "generated/*")


def left_by_evaluate(folder: Path) -> object:
    return json.loads((folder / "scores.json").read_text())["scores"]


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


def attempt(verb: str, root: Path, case: tuple, events: int, expected: object, dice: random.Random) -> tuple[str, str]:
    """Kill once, run again; gives the stage and what is wrong, empty where nothing is."""
    before, words, left = case
    folder, log = root / "trial", root / "log"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    before(folder)
    code, _ = command(words, folder, log, dice.randrange(1, events))
    where = stage(log)
    if code != -9:
        return where, f"ended with {code} before it was killed"
    if not list(folder.glob("runs/*/*/result.json")):  # written last by `fit`, which has nothing left to do then
        again = [*words, "--ckpt_path", "last"] if list(folder.glob("runs/*/*/checkpoints/last.ckpt")) else words
        code, _ = command(again, folder, log)
    if code > 0:
        return where, f"the second one ended with {code}: {log.read_text(errors='replace')[-300:]}"
    with suppress(FileNotFoundError):
        if left(folder) == expected:
            halves = [str(path.relative_to(folder)) for path in folder.rglob("*.part")]
            return where, f"half-written: {halves}" if halves and verb != "fit" else ""
    return where, "another result"


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
            code, events = command(words, folder, root / "log")
            assert code == 0, (root / "log").read_text()
            known[verb] = events, left(folder)
        right: Counter[str] = Counter()
        stages: Counter[tuple[str, str]] = Counter()
        for moment in range(given.moments):
            verb = given.verbs[moment % len(given.verbs)]
            where, wrong = attempt(verb, root, cases[verb], *known[verb], dice)
            stages[verb, where] += 1
            right[verb] += not wrong
            sys.stdout.write(f"{verb}, at '{where}': {wrong or 'as undisturbed'}\n")
            sys.stdout.flush()
        for verb in given.verbs:
            seen = ", ".join(f"{where} {count}" for (name, where), count in stages.items() if name == verb)
            sys.stdout.write(f"{verb}: {right[verb]} right; stages: {seen}\n")


if __name__ == "__main__":
    run()
