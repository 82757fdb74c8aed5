"""Several users of one machine: a cache of another's, written by both, and places that only others may write."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from audioldm_lit.ablation.trial_folder import State, TrialFolder
from audioldm_lit.errors import InputError
from audioldm_lit.storage.atomic_write import atomic_write
from audioldm_lit.storage.shards import Row, Shards

from users import as_root, begin, end

pytestmark = as_root


@pytest.fixture
def place() -> Iterator[Path]:
    """A folder that every user may enter, which pytest's own is not."""
    folder = Path(tempfile.mkdtemp(dir="/var/tmp"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


def rows(names: str) -> dict[str, Row]:
    return {name: {"mean": torch.full((4,), float(ord(name))), "std": torch.ones(2)} for name in names}


def right(store: Shards, names: str) -> bool:
    return all(torch.equal(store[name]["mean"], row["mean"]) for name, row in rows(names).items())


def test_rows_of_another_user_s_are_served_where_they_may_only_be_read(place):
    Shards(place / "cache").write(rows("ab"))
    (place / "cache" / "x.0000-1.part").touch()

    def read() -> None:
        store = Shards(place / "cache")
        assert right(store, "ab")
        assert store.missing("abc") == ["c"]
        with pytest.raises(InputError, match=r"cannot be written .*Permission denied"):
            store.write(rows("c"))

    assert end(begin(read, place / "nobody"), place / "nobody") == (0, "")


def test_two_users_write_into_one_cache_at_once(place):
    """Of a group that may write there, as its folder's permissions say; the sticky bit keeps either from the other's files."""
    (place / "cache").mkdir()
    (place / "cache").chmod(0o1777)

    def write() -> None:
        for first in range(0, 20, 2):
            Shards(place / "cache").write(rows("abcdefghijklmnopqrstuvwxyz"[first : first + 4]))

    other = begin(write, place / "nobody", umask=0)
    write()
    assert end(other, place / "nobody") == (0, "")
    assert right(Shards(place / "cache"), "abcdefghijklmnopqrstuv")
    assert not list((place / "cache").glob("*.part"))


def test_the_state_of_another_user_s_trial_can_be_seen(place):
    folder = TrialFolder(place / "trial")
    with folder.claimed():
        assert end(begin(lambda: print(folder.state), place / "nobody"), place / "nobody") == (0, f"{State.RUNNING}\n")  # noqa: T201
    assert end(begin(lambda: print(folder.state), place / "nobody"), place / "nobody") == (0, f"{State.WAITING}\n")  # noqa: T201


def test_weights_that_are_written_can_be_read_by_others(place):
    """safetensors would keep them to their own user."""
    with atomic_write(place / "weights.safetensors") as unfinished:
        save_file({"weight": torch.ones(2)}, unfinished)
    with atomic_write(place / "model") as unfinished:
        unfinished.mkdir()
        save_file({"weight": torch.ones(2)}, unfinished / "weights.safetensors")

    def read() -> None:
        for file in ("weights.safetensors", "model/weights.safetensors"):
            assert load_file(place / file)["weight"].sum() == 2

    assert end(begin(read, place / "nobody"), place / "nobody") == (0, "")
