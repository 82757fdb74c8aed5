"""An object's settings as files and hashes keep them."""

import re

import pytest

from audioldm_lit.errors import InputError
from audioldm_lit.storage.spec import init_args, spec


class Kept:
    def __init__(self, width: int, *rest: int, depth: int = 2, **more: int) -> None:
        self.width = width
        self.depth = depth
        self.more = more


class Forgotten:
    def __init__(self, width: int, depth: int = 2) -> None:
        self.width = width


def test_an_equal_object_is_made_of_a_spec():
    made = Kept(3, depth=4, slope=5)
    assert spec(made) == {"class_path": "test_spec.Kept", "init_args": {"width": 3, "depth": 4, "slope": 5}}
    assert spec(Kept(**init_args(made))) == spec(made)


def test_an_argument_that_is_not_kept_is_named_unless_it_may_be_left_out():
    with pytest.raises(InputError, match=re.escape("test_spec.Forgotten: does not keep its argument depth; keep it as")):
        init_args(Forgotten(3))
    assert init_args(Forgotten(3), optional={"depth"}) == {"width": 3}
