"""Text in CSV files that people open in a spreadsheet, which would run what looks like a formula."""

import re

FORMULA = re.compile(r"['\s]*[=+\-@]")


def to_cell(text: str) -> str:
    """Text as it is written: an apostrophe, which spreadsheets take for "this is text", before what looks like a formula."""
    return f"'{text}" if FORMULA.match(text) and not _is_number(text) else text


def from_cell(cell: str) -> str:
    """Text that `to_cell` wrote."""
    return cell[1:] if cell.startswith("'") and FORMULA.match(cell) else cell


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
