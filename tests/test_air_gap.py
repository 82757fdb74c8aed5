"""Nothing connects to another machine but `assets fetch` and what the user names."""

import json
import shutil
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
import yaml

from audioldm_lit.console.air_gap import allow, closed
from audioldm_lit.errors import InputError

import layouts
from grids import seeds, write_grid
from runs import arguments

AWAY = "192.0.2.1"  # an address that is kept for texts (RFC 5737)
TELLING = f"""
import socket
from audioldm_lit.data.folder import Folder
class Telling(Folder):
    def clips(self, split):
        socket.create_connection(("{AWAY}", 9), timeout=1)
        return super().clips(split)
"""


@pytest.mark.parametrize(
    "connect",
    [
        lambda: socket.create_connection((AWAY, 9), timeout=0.1),
        lambda: socket.create_connection(("example.org", 443), timeout=0.1),
        lambda: socket.getaddrinfo(b"example.org", 443),
        lambda: socket.gethostbyname("example.org"),
        lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", (AWAY, 9)),
        lambda: socket.socket(socket.AF_INET6, socket.SOCK_DGRAM).connect(("2001:db8::1", 9)),
    ],
)
def test_another_machine_is_not_reached(connect):
    with closed(), pytest.raises(InputError, match="which no verb but `assets fetch` does"):
        connect()


def test_what_stays_on_this_machine_goes_on(tmp_path):
    with closed(), socket.socket(socket.AF_UNIX) as local, socket.socket() as server:
        local.bind(str(tmp_path / "socket"))
        local.listen()
        socket.socket(socket.AF_UNIX).connect(str(tmp_path / "socket"))
        server.bind(("127.0.0.1", 0))
        server.listen()
        for host in ("127.0.0.1", "localhost"):
            socket.create_connection((host, server.getsockname()[1])).close()


def test_what_the_user_names_may_connect_until_the_verb_ends():
    def attempt() -> None:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
            datagrams.connect((AWAY, 9))

    with closed():
        allow()
        with suppress(OSError):  # of a machine without a network
            attempt()
    with closed(), pytest.raises(InputError):
        attempt()


def test_a_verb_whose_parts_connect_ends_in_a_sentence(workdir, cli, monkeypatch):
    monkeypatch.syspath_prepend(str(workdir))
    (workdir / "telling.py").write_text(TELLING)
    layouts.folder(workdir / "sounds", takes=2)
    status, _, err = cli("prepare", "--data", "telling.Telling", "--data.root", "sounds", "--data.duration", "0.64")
    assert status == 2
    assert err.splitlines()[-1].startswith(f"error: {AWAY}: would be connected to")


EVERY_VERB = """
import json, os, sys
from audioldm_lit.cli import main
done = {}
for words in json.load(open("verbs.json")):
    try:
        main(words)
        status = 0
    except SystemExit as exit_:
        status = exit_.code or 0
    done[" ".join(words[:2])] = status
json.dump(done, open("done.json", "w"))
"""


def apart() -> bool:
    """Whether a network namespace of one's own, without interfaces, can be had here."""
    return shutil.which("unshare") is not None and not subprocess.run(["unshare", "-rn", "true"], capture_output=True).returncode


@pytest.mark.nightly
@pytest.mark.skipif(not apart(), reason="no network namespace can be made here: no unshare, or not allowed")
def test_every_verb_works_where_there_is_no_network(workdir, tiny_folder):
    sounds = layouts.folder(workdir / "sounds", takes=3)["root"]
    metrics = {"lsd": {"class_path": "audioldm_lit.metrics.spectral.LogSpectralDistance"}}
    protocol = {"class_path": "audioldm_lit.evaluation.protocol.Protocol", "init_args": {"name": "light", "metrics": metrics}}
    (workdir / "light.yaml").write_text(yaml.safe_dump(protocol))
    options = [
        *arguments(tiny_folder, {**layouts.esc50(workdir / "esc50", takes=1), "shots": 2}),
        "--trainer.logger.init_args.name",
        "adapt",
    ]
    run, cpu = "runs/adapt/version_0", ["--device", "cpu"]
    write_grid(workdir, seeds(2))
    last = ["--ckpt_path", f"{run}/checkpoints/last.ckpt"]
    adapter = f"{run}/adapter.safetensors"
    verbs = [
        ["fit", *options],
        *([verb, *options, *last] for verb in ("validate", "test", "predict")),
        ["prepare", str(sounds), "--fix"],
        [
            "generate",
            "--backbone",
            str(tiny_folder),
            "--adapter",
            adapter,
            "--prompt",
            "rain",
            "--sampler.num_inference_steps",
            "2",
            *cpu,
        ],
        ["evaluate", "--generated", str(sounds), "--reference", str(sounds), "--protocol", "light.yaml", *cpu],
        ["convert", "--source", adapter, "--to", "peft", "--out", "peft", "--backbone", str(tiny_folder)],
        ["ablate", "--config", "grid.yaml", "--allow_dirty"],
        ["curve", "--grid", "runs/ablation/grid"],
        ["doctor", "--model", str(tiny_folder)],
        ["assets", "list"],
        ["assets", "verify"],
        ["assets", "fetch", "cvssp/audioldm-s-full-v2"],
    ]
    (workdir / "verbs.json").write_text(json.dumps(verbs))
    said = subprocess.run(["unshare", "-rn", sys.executable, "-c", EVERY_VERB], capture_output=True, text=True)
    assert "Traceback" not in said.stderr, said.stderr
    done = json.loads(Path("done.json").read_text())
    assert done.pop("assets fetch") == 2, said.stderr
    assert done.pop("curve --grid") in (0, 2)  # two runs of one size are no curve
    wrong = [line for line in said.stderr.splitlines() if line.startswith("error:")]
    assert not any(done.values()), (done, wrong)
