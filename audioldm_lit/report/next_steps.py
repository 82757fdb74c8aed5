"""What to do next: a reason in plain words and a command to copy for each step, the most useful first."""

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from audioldm_lit.report.run_files import RunFiles
from audioldm_lit.report.texts import Texts
from audioldm_lit.report.verdict import Verdict

PROGRAM = ("python", "-m", "audioldm_lit")


@dataclass(frozen=True)
class Step:
    """A step.

    Attributes:
        why: In one sentence.
        command: For a POSIX shell.
    """

    why: Markup
    command: str


def next_steps(texts: Texts, run: RunFiles, found: Verdict, asked: bool = False) -> list[Step]:
    """What the run's own files suggest.

    Args:
        texts: In which language.
        run: The run; of several the last.
        found: What became of it.
        asked: Whether people were asked already.
    """
    suggested = [(key, words) for key, words in _suggested(run, found) if key != "ask" or not asked]
    return [Step(texts(f"next.{key}"), shlex.join([*PROGRAM, *words])) for key, words in suggested]


def _suggested(run: RunFiles, found: Verdict) -> Iterator[tuple[str, Sequence[str]]]:
    """Key of the reason, and words of the command."""
    folder, config = str(run.folder), ["--config", str(run.folder / "config.yaml")]
    best, steps = run.result.get("best_step"), run.result.get("steps", 0)
    adapted = run.evaluations.get("adapted")
    if not run.result:
        yield "resume", ["fit", *config, "--ckpt_path", str(run.folder / "checkpoints" / "last.ckpt")]
        return
    if not found.comparisons:
        yield "score", ["evaluate", "--run", folder]
    if found.kind == "good":
        prompt = next((clip["caption"] for split in run.clips.values() for clip in split["clips"].values()), "rain on a roof")
        yield "use", ["generate", "--adapter", str(run.folder / "adapter.safetensors"), "--prompt", prompt, "--out", "generated"]
    if adapted is not None and adapted.suspected_copies:
        yield "copies", ["fit", *config, "--trainer.max_steps", str(max(1, (best or steps) // 2))]
    elif best is not None and best == steps:
        yield "longer", ["fit", *config, "--trainer.max_steps", str(2 * steps)]
    elif found.kind == "bad" or run.result.get("effect", {}).get("verdict") == "saturated":
        rate = run.setting("model.optimizer.init_args.lr", 3e-4)
        yield "gentler", ["fit", *config, "--model.optimizer.init_args.lr", f"{rate / 3:.2g}"]
    if found.kind == "unsure" and found.comparisons:
        count = run.setting("scores.num_candidates", 1)
        yield "candidates", ["fit", *config, "--scores.num_candidates", str(max(4, 2 * count))]
    if found.comparisons:
        yield "ask", ["listen", "build", "--run", folder, "--out", "listen.html"]
    if found.kind == "good":
        yield "watch", ["watch", "--run", folder, "--data", "NEW"]
    data = run.setting("data.class_path")
    if data:
        settings = run.setting("data.init_args", {})
        root = ["--data.init_args.root", str(settings["root"])] if settings.get("root") else []
        yield "prepare", ["prepare", "--data", data, *root]
    yield "compare", ["report", folder, "runs/NAME/version_N", "--out", "compare.html"]
