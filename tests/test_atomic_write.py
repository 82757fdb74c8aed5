"""What is written appears whole, and what is no file is never replaced by one."""

import json
import os
import subprocess
import sys
from pathlib import Path
from threading import Thread

import pytest

from audioldm_lit.errors import InputError
from audioldm_lit.storage.atomic_write import unfinished_name, write_json

CONTENT = {"kad": 0.1}


def test_a_named_pipe_is_sent_the_content_and_stays(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    read: list[str] = []
    reader = Thread(target=lambda: read.append((tmp_path / "pipe").read_text()), daemon=True)
    reader.start()
    write_json(tmp_path / "pipe", CONTENT)
    reader.join()
    assert json.loads(read[0]) == CONTENT
    assert (tmp_path / "pipe").is_fifo()
    assert os.listdir(tmp_path) == ["pipe"]


@pytest.mark.parametrize(("stream", "descriptor"), [("stdout", 1), ("stderr", 2)])
def test_a_stream_that_goes_to_a_file_goes_on(stream, descriptor, capfd):
    os.write(descriptor, b"before\n")  # capfd puts a file behind both
    link = os.lstat(f"/dev/{stream}")
    write_json(Path(f"/dev/{stream}"), CONTENT)
    os.write(descriptor, b"after\n")
    assert os.path.samestat(os.lstat(f"/dev/{stream}"), link)
    said = capfd.readouterr()[descriptor - 1]
    assert said == f"before\n{json.dumps(CONTENT, indent=2)}\nafter\n"


def test_a_full_device_is_one_sentence():
    with pytest.raises(InputError, match=r"^/dev/full: cannot be written .*; choose another folder or make room\.$"):
        write_json(Path("/dev/full"), CONTENT)


KILLED = """
import os
from pathlib import Path
from audioldm_lit.storage.atomic_write import atomic_write
for name in ("file", "folder"):
    with atomic_write(Path(name)) as unfinished:
        if name == "file":
            unfinished.write_text("half")
            continue
        unfinished.mkdir()
        (unfinished / "half").touch()
        with atomic_write(Path("other")) as more:
            more.write_text("half")
            os.kill(os.getpid(), 9)
"""


def test_what_a_killed_process_left_is_cleared_and_nothing_else(tmp_path):
    subprocess.run(
        [sys.executable, "-c", KILLED], cwd=tmp_path, check=False, env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    )
    assert len(list(tmp_path.glob("*.part"))) == 2
    mine, others = unfinished_name(tmp_path / "mine"), [tmp_path / "x.0000-1.part", tmp_path / "song.part"]
    for path in (mine, *others):
        path.touch()
    write_json(tmp_path / "next", "the first that this process writes there")
    assert sorted(tmp_path.iterdir()) == sorted([tmp_path / "file", tmp_path / "next", mine, *others])
