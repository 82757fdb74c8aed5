"""Published rows: nothing without a source, nothing invented, wrong files named."""

import pytest
import yaml

from audioldm_lit.ablation.published import FILE, METRICS, published
from audioldm_lit.data.audiocaps import AudioCaps
from audioldm_lit.data.audioset import AudioSet
from audioldm_lit.data.dcase_foley import DCASEFoley
from audioldm_lit.data.esc50 import ESC50
from audioldm_lit.data.urbansound8k import UrbanSound8K
from audioldm_lit.errors import InputError

DATASETS = [one.__name__ for one in (AudioCaps, AudioSet, UrbanSound8K, ESC50, DCASEFoley)]
STUDY = "arXiv 2303.03857"
ROW = {"system": "X", "dataset": "ESC50", "training": None, "parameters": 3, "source": "a paper", "measured": None}
ROW["values"] = dict.fromkeys(METRICS)


def every():
    return [row for dataset in DATASETS for row in published(dataset)]


def written(folder, **changes):
    path = folder / "rows.yaml"
    path.write_text(
        yaml.safe_dump({"rows": [ROW, {key: value for key, value in {**ROW, **changes}.items() if value != "left out"}]})
    )
    return path


def test_every_row_is_on_a_data_set_of_ours():
    assert len(every()) == len(yaml.safe_load(FILE.read_text())["rows"])


def test_no_two_rows_are_the_same_system_on_the_same_set():
    assert len({(row.system, row.dataset) for row in every()}) == len(every())


def test_rows_with_values_say_how_they_were_measured():
    assert all(row.measured for row in every() if not row.empty)


def test_rows_of_the_study_are_empty_until_someone_names_its_table():
    rows = [row for row in every() if row.source.startswith(STUDY)]
    assert {row.dataset for row in rows} == set(DATASETS) - {"DCASEFoley"}
    assert len(rows) == 16
    assert all(row.empty or "table" in row.source for row in rows)


def test_values_are_those_printed():
    tuned = next(row for row in published("AudioCaps") if row.system == "AudioLDM-L-Full")
    assert tuned.values == {"fd": 32.46, "is": 7.76, "kl": 1.76, "fad": 4.18}


def test_a_row_stands_in_no_column_of_ours():
    for row in every():
        note = row.footnote("0123abcd")
        assert note.startswith("measured elsewhere, not under this protocol: ")
        assert row.source in note


def test_a_row_measured_by_this_code_stands_with_values_of_its_passport_only(tmp_path):
    row = published("ESC50", written(tmp_path, passport="0123abcd"))[1]
    assert row.footnote("0123abcd") is None
    assert row.footnote("4567cdef")


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"colour": 1}, "row 2 (X): has the unknown key 'colour'"),
        ({"source": "left out"}, "row 2 (X): has no source"),
        ({"source": " "}, "row 2 (X): source is ' '"),
        ({"source": None}, "row 2 (X): source is None"),
        ({"measured": 3}, "row 2 (X): measured is 3"),
        ({"parameters": "181M"}, "row 2 (X): parameters is '181M'"),
        ({"values": 3}, "row 2 (X): values is 3"),
        ({"values": {**ROW["values"], "fd": "29.5"}}, "row 2 (X): values.fd is '29.5'"),
        ({"values": {**ROW["values"], "fd": float("nan")}}, "row 2 (X): values.fd is nan"),
        ({"values": {**ROW["values"], "fd": True}}, "row 2 (X): values.fd is True"),
        ({"values": {**ROW["values"], "clap": 0.4}}, "row 2 (X), values: has the unknown key 'clap'"),
        ({"values": {"fd": 29.5}}, "row 2 (X), values: has no fad"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(tmp_path, changes, named):
    with pytest.raises(InputError) as refused:
        published("ESC50", written(tmp_path, **changes))
    assert str(refused.value).startswith(f"{tmp_path / 'rows.yaml'}: {named}")


@pytest.mark.parametrize("text", ["rows: {", "[]", "rows: 3", "rows: []\nmore: 1", "rows: [3]"])
def test_a_file_that_is_no_list_of_rows_is_refused(tmp_path, text):
    (tmp_path / "rows.yaml").write_text(text)
    with pytest.raises(InputError, match=r"rows\.yaml: "):
        published("ESC50", tmp_path / "rows.yaml")
