"""What several tests need: the tiny model in memory and on disk, and the command line in-process."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch: two test workers share two cores
os.environ["WANDB_MODE"] = "offline"

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, settings

from audioldm_lit.backbone import Backbone
from audioldm_lit.cli import main
from audioldm_lit.errors import InputError
from audioldm_lit.metrics.extractors.aisfx import AISFX
from audioldm_lit.storage.cache_folder import cache_folder

import tiny

torch.set_num_threads(1)
# A busy machine is no failure.
settings.register_profile("unhurried", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unhurried")
CACHE = cache_folder()  # before a test redirects it


@pytest.fixture
def backbone() -> Backbone:
    return tiny.backbone()


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("model")
    tiny.backbone().save(folder)
    return folder


@pytest.fixture
def workdir(tmp_path, monkeypatch) -> Path:
    """An empty current directory and a cache of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path


@pytest.fixture(scope="session")
def aisfx() -> AISFX:
    """The published network, its weights fetched once into the user's own cache."""
    try:
        return AISFX()
    except InputError as error:
        if "pip cannot fetch" in str(error):
            pytest.skip(str(error))
        raise


@pytest.fixture
def aisfx_at_hand(aisfx, workdir) -> None:
    """The test's own cache holds the network's weights, so that they are not fetched again."""
    cache_folder().mkdir(parents=True)
    (cache_folder() / "aisfx").symlink_to(CACHE / "aisfx")


@pytest.fixture
def cli(workdir, capfd) -> Callable[..., tuple[int, str, str]]:
    """Run the command line; returns exit status, standard output and standard error."""

    def run(*args: object) -> tuple[int, str, str]:
        capfd.readouterr()
        status = 0
        try:
            main([str(arg) for arg in args])
        except SystemExit as exit_:
            status = exit_.code or 0
        out, err = capfd.readouterr()
        return status, out, err

    return run
