"""Consoles and locales that lack letters of file names."""

import io
import subprocess
import sys

import numpy as np
import pytest
import soundfile

from audioldm_lit.cli import main

from layouts import bursts
from runs import REPOSITORY

CHECK = """
import os, sys
from audioldm_lit.errors import InputError
from audioldm_lit.storage.names import check_name
for name in os.listdir(sys.argv[1]):
    try:
        check_name(name, os.path.join(sys.argv[1], name))
    except InputError as error:
        sys.stdout.buffer.write(f"{error}\\n".encode())
"""


def test_a_console_without_the_letters_shows_others(workdir, monkeypatch):
    for number, name in enumerate("犬鳥雨"):
        (workdir / "音").mkdir(exist_ok=True)
        soundfile.write(workdir / "音" / f"{name}の声.wav", bursts(number), 16_000)
    soundfile.write(workdir / "音" / "無音.wav", np.zeros(16_000), 16_000)
    console = io.TextIOWrapper(io.BytesIO(), encoding="cp1252")
    monkeypatch.setattr(sys, "stdout", console)
    with pytest.raises(SystemExit) as ended:
        main(["prepare", "--data", "audioldm_lit.data.folder.Folder", "--data.root", str(workdir / "音")])
    assert ended.value.code == 2  # a silent clip
    console.flush()
    shown = console.buffer.getvalue().decode("cp1252")
    assert "silent" in shown
    assert "??.wav" in shown


@pytest.mark.parametrize("locale", [{"LC_ALL": "C"}, {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}])
def test_a_locale_is_not_blamed_on_the_name(tmp_path, locale):
    (tmp_path / "犬の声.wav").touch()
    (tmp_path / "bark.wav").touch()
    done = subprocess.run(
        [sys.executable, "-c", CHECK, str(tmp_path)], capture_output=True, check=True,
        env={**locale, "PYTHONPATH": str(REPOSITORY)},
    )  # fmt: skip
    said = done.stdout.decode()
    if "PYTHONUTF8" in locale:
        end = "this terminal's encoding, ascii, has no letters for the name '犬の声.wav'; set PYTHONUTF8=1, or LC_ALL=C.UTF-8.\n"
        assert said == f"{tmp_path}/犬の声.wav: {end}"
    else:
        assert not said
