"""Strings where paths are meant, as Python's own functions take them."""

from collections.abc import Callable
from functools import wraps
from inspect import signature
from pathlib import Path
from typing import Any, ParamSpec, TypeVar, get_args

from audioldm_lit.storage.names import expanded

P = ParamSpec("P")
R = TypeVar("R")


def accepts_strings(function: Callable[P, R]) -> Callable[P, R]:
    """Let a function be called with strings for those arguments that are paths and nothing else that a string could be."""
    parameters = signature(function).parameters.values()
    paths = {one.name for one in parameters if one.annotation is Path or Path in get_args(one.annotation)}

    @wraps(function)
    def called(*args: P.args, **kwargs: P.kwargs) -> R:
        bound = signature(function).bind(*args, **kwargs)
        bound.arguments.update({name: _path(value) for name, value in bound.arguments.items() if name in paths})
        return function(*bound.args, **bound.kwargs)

    return called


def _path(value: Any) -> Any:
    return expanded(value) if isinstance(value, str) else value
