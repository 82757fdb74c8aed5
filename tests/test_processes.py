"""Several processes of one run: whatever ends one of them ends all, soon and in a sentence."""

import subprocess
import sys

import pytest
from ranks import Ranks

import layouts
from runs import arguments

ENDING = """
import os
import torch
from audioldm_lit.errors import InputError
from audioldm_lit.objectives.denoising import Epsilon

class Ending(Epsilon):
    def __init__(self, how: str = "") -> None:
        super().__init__()
        self.how = how
    def forward(self, *args):
        if torch.distributed.is_initialized() and torch.distributed.get_rank() == 1:
            if self.how == "killed":
                os.kill(os.getpid(), 9)
            raise InputError("clip 7", "is broken", "mend it")
        return super().forward(*args)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("how", "statuses", "said"), [("killed", [1, -9], ""), ("refused", [1, 2], "error: clip 7: is broken; mend it.\n")]
)
def test_all_end_with_the_one_that_ends(workdir, tmp_path_factory, tiny_folder, how, statuses, said):
    (workdir / "ending.py").write_text(ENDING)
    data = {**layouts.esc50(workdir / "esc50", takes=1), "shots": 2, "batch_size": 4}
    both = Ranks(tmp_path_factory.mktemp("ranks"))
    objective = ["--model.objective", "ending.Ending", "--model.objective.how", how]
    try:
        (first, heard), (second, of_other) = both.last_command(workdir, ["fit", *arguments(tiny_folder, data), *objective])
    finally:
        both.end()
    assert [first, second] == statuses
    assert heard.endswith("error: another process of this run has ended; what it said is why.\n")
    assert of_other.endswith(said)
    assert "Traceback" not in heard + of_other


@pytest.mark.slow
def test_what_all_find_is_said_once(workdir):
    command = ["--no-python", "--nproc-per-node=2", sys.executable, "-m", "audioldm_lit", "fit", "--model.warmup_step=3"]
    done = subprocess.run([sys.executable, "-m", "torch.distributed.run", "--standalone", *command], capture_output=True, text=True)
    assert done.returncode
    assert done.stderr.count("is no setting of fit") == 1
