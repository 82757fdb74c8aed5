"""Tables as Excel keeps them."""

import zipfile
from collections.abc import Iterator
from pathlib import Path
from xml.etree.ElementTree import ParseError
from zlib import error as BrokenStream

from openpyxl import load_workbook
from openpyxl.utils.exceptions import InvalidFileException

from audioldm_lit.errors import InputError

LARGEST = 2**28  # bytes that a workbook may unpack to
BROKEN = (
    zipfile.BadZipFile,
    InvalidFileException,
    ParseError,
    BrokenStream,
    EOFError,
    KeyError,
    ValueError,
    TypeError,
    IndexError,
    AttributeError,
    NotImplementedError,
)  # fmt: skip  (what openpyxl lets through where a file is damaged)


def spreadsheet_rows(table: Path) -> Iterator[tuple[int, list[str]]]:
    """Number and values of each row of a workbook's first sheet; formulas as they were last computed.

    Raises:
        InputError: If it is no workbook, or one that is damaged or too large.
    """
    try:
        with zipfile.ZipFile(table) as archive:
            size = sum(entry.file_size for entry in archive.infolist())
        if size <= LARGEST:
            workbook = load_workbook(table, read_only=True, data_only=True)
            try:
                rows = [[str("" if value is None else value) for value in row] for row in workbook.worksheets[0].values]
            finally:
                workbook.close()
    except BROKEN as error:
        raise InputError(table, f"is no readable workbook ({error})", "save it again, as .xlsx or as CSV") from error
    if size > LARGEST:
        raise InputError(table, f"unpacks to more than {LARGEST:,} bytes", "save it as CSV")
    for number, row in enumerate(rows, 1):
        while row and not row[-1].strip():  # cells that were once formatted
            row.pop()
        yield number, row
