"""The page on real weights: its commands, on look-alikes of what is published, from a server on this machine."""

import re
import shlex
from pathlib import Path

import pytest
import torch

from audioldm_lit.assets.asset import hub_cache
from audioldm_lit.metrics.extractors.panns import Cnn14Net
from audioldm_lit.metrics.extractors.vggish import VGGishNet
from audioldm_lit.storage.cache_folder import cache_folder

import layouts
from publisher import publisher
from runs import REPOSITORY

CHEAP = {
    "fit": [
        *("--trainer.max_steps", 1, "--trainer.val_check_interval", 1, "--model.sampler.num_inference_steps", 2),
        *("--audition.count", 1, "--dials.count", 0, "--averages.profiles", "[]"),
        *("--trainer.accelerator", "cpu", "--trainer.precision", "32-true"),
    ],
    "generate": ["--num_candidates", 10, "--sampler.num_inference_steps", 2, "--device", "cpu"],
    "evaluate": ["--device", "cpu"],
}  # fmt: skip


def commands(*titles: str) -> list[list[str]]:
    """The words of every command below these titles of the page."""
    page = (REPOSITORY / "docs" / "real_weights.md").read_text(encoding="utf-8")
    sections = "\n".join(page.split(f"## {title}\n")[1].split("\n## ")[0] for title in titles)
    lines = re.findall(r"^python -m audioldm_lit (.+)$", re.sub(r"\\\n\s*", "", sections), re.MULTILINE)
    return [shlex.split(line.split("#")[0]) for line in lines]


@pytest.mark.nightly
def test_the_pages_commands_lead_from_what_is_published_to_an_adapted_sound_and_its_scores(
    cli, workdir, tiny_folder, aisfx_at_hand, monkeypatch
):
    for name in ("HF_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    layouts.folder(workdir / "DIR")
    files = {"panns-cnn14-16k": Cnn14Net(), "vggish": VGGishNet()}
    for name, network in files.items():
        torch.save(network.state_dict(), f"{name}.pth")
    walk = commands("Four commands", "What is fetched, and carried to machines without a network", "The weights of metrics")
    assert [words[:2] if words[0] == "assets" else words[0] for words in walk] == [
        ["assets", "fetch"], "prepare", "fit", "generate",
        ["assets", "fetch"], ["assets", "verify"], ["assets", "bundle"], ["assets", "import"], "evaluate",
    ]  # fmt: skip
    with publisher() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        server.publish("cvssp/audioldm-s-full-v2", tiny_folder)
        for verb, *words in walk:
            if words[0] == "import":  # the other machine
                monkeypatch.setenv("XDG_CACHE_HOME", str(workdir / "other"))
            given = [re.sub(r"^(.+)=FILE$", r"\1=\1.pth", word) for word in words]
            status, out, err = cli(verb, *given, *CHEAP.get(verb, []))
            assert status == 0, err
    assert len(list(Path("generated").glob("*.wav"))) == 10
    assert "fad" in out
    assert (cache_folder() / "aisfx" / "checkpoint.pth").is_file()
    assert list(hub_cache().glob("models--cvssp--audioldm-s-full-v2/snapshots/*/unet"))
    assert "| licence | CC BY-NC-SA 4.0 " in Path("runs/recordings/version_0/adapter.md").read_text()
