"""An examination as people read it."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from audioldm_lit.console.command import command
from audioldm_lit.console.markup import escape
from audioldm_lit.doctor.examination import Use
from audioldm_lit.doctor.parts import HEARS, Part


def show_parts(parts: Sequence[Part], console: Console) -> None:
    """Print what the folder holds."""
    table = Table("part", "format", "precision", "weights", "MB", box=None)
    for part in parts:
        if not part.here:
            table.add_row(part.name, "not here" if part.name in HEARS else "missing")
            continue
        kind = escape(part.problem) or part.format + (f", {part.files} files" if part.files > 1 else "")
        weights = f"{part.parameters / 1e6:,.1f} M" if part.parameters else ""
        table.add_row(part.name, kind, part.precision, weights, f"{part.megabytes:,.1f}")
    console.print(table)


def show(found: Mapping[str, Any], uses: Sequence[Use], console: Console) -> None:
    """Print everything else."""
    lines = [] if found["seconds"] is None else [f"length    {found['seconds']:g} s at {found['sample_rate']:,} Hz"]
    lines += [*_heads(found["heads"], found["model"]), _twins(found["twins"])] if found["heads"] else []
    for use in uses:
        lines.append(f"{'ready' if not use.missing else 'not ready':9} {use.what}" + (f": {use.missing}" if use.missing else ""))
        lines += [f"{'':9} {use.mend}"] if use.mend else []
    console.print(escape("\n".join([*lines, *_machine(found["machine"])])), soft_wrap=True, highlight=False)


def _heads(heads: Mapping[str, Any], model: str) -> Iterator[str]:
    saved, original, measured = heads["as_saved"], heads["original"], heads["measured"]
    if not heads["published_levels"] and not measured:
        yield f"heads     {saved}"
        return
    yield f"heads     {saved} as saved, {original} in the original code"
    if measured:
        losses = [f"{name} {measured[name]['loss']:.4f}" for name in ("as_saved", "original")]
        low, high = measured["interval"]
        verdict = f"take heads: {measured['better']}" if measured["better"] else "cannot tell"
        yield f"{'':9} loss on {measured['clips']} clips: {', '.join(losses)}"
        yield f"{'':9} original less as_saved {measured['difference']:+.3g} [{low:+.3g}, {high:+.3g}]: {verdict}"
    elif heads["differ"]:
        yield f"{'':9} which fits? {command('doctor', '--model', model, '--data', 'DIR')}"


def _twins(twins: Mapping[str, Any]) -> str:
    if twins["known"] is None:
        return "CLAP      text alone, no audio tower"
    if not twins["known"]:
        return "CLAP      text and sound; whether both belong together is not noted"
    cosine = "" if twins["cosine"] is None else f", cosine {twins['cosine']:.4f}"
    return f"CLAP      text and sound, which belong together{cosine}"


def _machine(machine: Mapping[str, Any]) -> Iterator[str]:
    memory = f"{machine['memory_gb']:.1f} GB of memory, {machine['memory_free_gb']:.1f} free"
    yield f"machine   {machine['processor']}; {machine['threads']} threads on {machine['cores']} cores; {memory}"
    yield f"{'':9} devices: {', '.join(machine['devices'])}; bfloat16 is {machine['bfloat16']}"
    yield f"{'':9} {machine['cache_free_gb']:.0f} GB free for the cache, {machine['cache']}"
