"""Text from outside, in what is printed and in tables: it stands as it is and does nothing."""

import csv
import io

from hypothesis import example, given, settings
from hypothesis import strategies as st
from rich.console import Console
from rich.table import Table

from audioldm_lit.callbacks.result_table import show
from audioldm_lit.console.markup import escape, legible
from audioldm_lit.data.tables.table import read_rows
from audioldm_lit.storage.csv_cell import from_cell, to_cell

TEXTS = st.text(st.sampled_from("a[]/\\#:=+-@'\"\x1b\x07\x9b |") | st.characters(codec="utf-8"), max_size=30)


def printed(*content: object) -> str:
    console = Console(file=io.StringIO(), width=400, emoji=False, force_terminal=False, color_system=None)
    for one in content:
        console.print(one, soft_wrap=True, highlight=False)
    return console.file.getvalue()


@settings(max_examples=200)
@given(TEXTS.filter(lambda text: "\n" not in text and "\t" not in text))
@example("\\[")
@example("\\\\")
def test_text_from_outside_is_printed_letter_by_letter(text):
    table = Table(show_header=False, box=None)
    table.add_row(f"[red]{escape(text)}[/]|")
    assert printed(f"[red]{escape(text)}[/]|") == f"{legible(text)}|\n"
    assert legible(text).rstrip() in printed(table)
    assert not set(printed(table)) & set(map(chr, [*range(10), *range(11, 32), *range(127, 160)]))


def test_a_runs_result_names_its_folder_as_it_is_called():
    result = {"held_out_loss_before": None, "held_out_loss_after": 1.0, "trained_weights": 1, "training_clips": 1, "steps": 1,
              "coverage": {}, "best_step": 1, "average": "", "auditions": None, "seconds": 1.0,
              "adapter": "g[/]x/[red]/:bell:/a.safetensors"}  # fmt: skip
    console = Console(file=io.StringIO(), width=200, emoji=False)
    show(result, console)
    assert "g[/]x/[red]/:bell:/a.safetensors" in console.file.getvalue()


@given(TEXTS)
def test_no_cell_is_a_formula_and_each_is_read_as_it_was_written(text):
    cell = to_cell(text)
    assert from_cell(cell) == text
    if cell.strip()[:1] in tuple("=+-@"):
        float(cell)


def test_captions_that_look_like_formulas_come_back(tmp_path):
    captions = ["=1+1", "@home", "-20 dB hum", "'=quoted", "'tis rain", "-3.5"]
    with (tmp_path / "captions.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["file", "caption"], *([to_cell("-a.wav"), to_cell(caption)] for caption in captions)])
    assert [row["caption"] for _, row in read_rows(tmp_path / "captions.csv", ("file", "caption"))] == captions
    assert "\n'-a.wav,'=1+1" in (tmp_path / "captions.csv").read_text().replace("\r", "")
