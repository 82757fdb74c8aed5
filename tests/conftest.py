"""What several tests need: the tiny model in memory and on disk, and the command line in-process.

Nothing heavy is imported before a test asks for it: the process that hands the tests out reads this file too.
"""

import gc
import os

os.environ["OMP_NUM_THREADS"] = "1"  # before torch: the test workers share the cores
os.environ["WANDB_MODE"] = "offline"

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, settings

from audioldm_lit.cli import main
from audioldm_lit.errors import InputError
from audioldm_lit.storage.cache_folder import cache_folder

if TYPE_CHECKING:
    from ranks import Ranks

    from audioldm_lit.backbone import Backbone
    from audioldm_lit.metrics.extractors.aisfx import AISFX

# A busy machine is no failure.
settings.register_profile("unhurried", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("unhurried")


def pytest_configure() -> None:
    """Look for no garbage while the tests are imported: it would be among half a million objects that stay."""
    gc.disable()


def pytest_collection_finish() -> None:
    """From now on look at what the tests make, and not at their imports; more seldom, for a training makes a million objects."""
    gc.freeze()
    gc.set_threshold(10_000)
    gc.enable()


@pytest.fixture
def backbone() -> "Backbone":
    import tiny

    return tiny.backbone()


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory) -> Path:
    import tiny

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
def own_cache() -> Path:
    """The user's own, as it is before a test redirects it."""
    return cache_folder()


@pytest.fixture(scope="session")
def aisfx(own_cache) -> "AISFX":
    """The published network, its weights fetched once into the user's own cache."""
    from audioldm_lit.metrics.extractors.aisfx import AISFX

    try:
        return AISFX()
    except InputError as error:
        if error.problem.startswith("pip cannot fetch"):
            pytest.skip(str(error))
        raise


@pytest.fixture
def aisfx_at_hand(aisfx, own_cache, workdir) -> None:
    """The test's own cache holds the network's weights, so that they are not fetched again."""
    cache_folder().mkdir(parents=True, exist_ok=True)
    (cache_folder() / "aisfx").symlink_to(own_cache / "aisfx")


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


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A Chromium for the tests of one file: Playwright keeps an event loop going as long as it runs."""
    import browser

    with browser.chromium() as one:
        yield one


@pytest.fixture(scope="session")
def ranks(tmp_path_factory) -> "Iterator[Ranks]":
    """Two processes of one run."""
    from ranks import Ranks

    both = Ranks(tmp_path_factory.mktemp("ranks"))
    yield both
    both.end()
