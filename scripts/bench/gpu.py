"""Every way to take a training step beside each other, on a GPU where there is one: `python scripts/bench/gpu.py --json gpu.json`.

AudioLDM-S with random weights, clips of 10.24 s: the original training's step, LoRA as diffusers and peft give it in float32 and in
bfloat16, and ours, without the fused AdamW, with it, and compiled. Each runs in a process of its own; see `train_step.py`, whose
options it takes. All but the reference train from one initialisation on the same latents and noise, so their losses must agree:
`apart` is by how much one is off peft's in float32. `--shape nano --steps 4 --repeats 1` on a CPU only shows that it works.
"""

from dataclasses import asdict

from rich.console import Console
from rich.table import Table
from train_step import LAST, MORE, TOLERANCE, VARIANTS, machine, measured, options_of

from audioldm_lit.storage.atomic_write import write_json

ORDER = ("reference", "peft", "peft bfloat16", "ours unfused", "ours", "ours compiled")


def main() -> None:
    """Measure, print a row for each, and write the figures where asked."""
    assert set(ORDER) == {*VARIANTS, *MORE}
    options = options_of(__doc__.splitlines()[0])
    found = measured(options, ORDER)
    where = machine()
    title = f"{where['machine']}, torch {where['torch']}: {options.batch} clips of {options.seconds:g} s a step"
    table = Table(
        "step", "seconds", "of the reference", "peak GB", "first step, s more", f"loss of {LAST} steps", "apart", title=title
    )
    rows = []
    for name, one in found.items():
        apart = None if name == "reference" else abs(one.loss / found["peft"].loss - 1)
        share = found["reference"].seconds / one.seconds
        figures = [f"{one.seconds:.4f}", f"{share:.2f} times", f"{one.memory:.2f}", f"{one.first:.1f}", f"{one.loss:.4f}"]
        table.add_row(name, *figures, "" if apart is None else f"{apart:.2%}" + (" !" if apart > TOLERANCE else ""))
        rows.append({"step": name, **asdict(one), "times the reference's speed": share, "loss apart": apart})
    Console().print(table)
    if options.json:
        write_json(options.json, {**where, "shape": options.shape, "clips a step": options.batch, "rows": rows})


if __name__ == "__main__":
    main()
