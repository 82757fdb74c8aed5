"""What is asked of a class of somebody else's before its methods are called: that they take what they will be given."""

from collections.abc import Callable
from inspect import signature
from typing import Any

from audioldm_lit.errors import InputError


def check_call(method: Callable[..., Any], where: str, *names: str, **given: str) -> None:
    """Refuse a method that does not take its arguments, before anything is spent on what comes before the call.

    Args:
        method: Bound to its object.
        where: The setting that names the class.
        names: Of the arguments that are given in order.
        given: Those that are given by name, after it.

    Raises:
        InputError: Says the signature that is wanted.
    """
    try:
        signature(method).bind(*names, **given)
    except TypeError as error:
        problem = f"has a method {method.__qualname__}{signature(method)} that cannot be called ({error})"
        wanted = ", ".join(["self", *names, *given])
        raise InputError(where, problem, f"write it as def {method.__name__}({wanted})") from error
