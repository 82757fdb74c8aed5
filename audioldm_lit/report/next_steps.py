"""What to do next: a reason in plain words and a command to copy for each step, the most useful first."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from audioldm_lit.console.command import command
from audioldm_lit.places import NANO
from audioldm_lit.report.run_files import RunFiles
from audioldm_lit.report.texts import Texts
from audioldm_lit.report.verdict import Verdict

MODEL = {"backbone": "model.backbone", "heads": "model.heads"}  # option of a verb: the setting of a run
DATA = {
    "backbone": "model.backbone",
    **{key: key for key in ("data.init_args.root", "data.init_args.table", "data.init_args.duration")},
}
DEFAULTS = (None, NANO, "as_saved")


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
    return [Step(texts(f"next.{key}"), command(*words)) for key, words in suggested]


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
        adapter = ["--adapter", str(run.folder / "adapter.safetensors")]
        yield "use", ["generate", *_options(run, MODEL), *_trusted(run), *adapter, "--prompt", prompt, "--out", "generated"]
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
        yield "prepare", ["prepare", "--data", data, *_options(run, DATA)]
    yield "compare", ["report", folder, "runs/NAME/version_N", "--out", "compare.html"]


def _options(run: RunFiles, names: Mapping[str, str]) -> list[str]:
    """What a verb has to be told of a run's settings: those that are not its own defaults."""
    given = {option: run.setting(key) for option, key in names.items()}
    return [word for option, value in given.items() if value not in DEFAULTS for word in (f"--{option}", str(value))]


def _trusted(run: RunFiles) -> list[str]:
    """The module of an adapter class of somebody's own, which an adapter's file alone may not name."""
    module = run.setting("model.adapter.class_path", "audioldm_lit.").rpartition(".")[0]
    return [] if f"{module}.".startswith("audioldm_lit.") else ["--trust", module]
