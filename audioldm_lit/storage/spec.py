"""What an object was made with, as files and hashes keep it."""

import inspect
from collections.abc import Collection
from typing import Any

from audioldm_lit.errors import InputError


def class_path(made: object) -> str:
    """Where the class of an object is imported from."""
    return f"{type(made).__module__}.{type(made).__qualname__}"


def init_args(made: object, optional: Collection[str] = (), where: str = "") -> dict[str, Any]:
    """Arguments of an object's `__init__` by name, as it keeps them in attributes of these names.

    Args:
        made: The object.
        optional: Arguments that need not be kept; `*args` and `**kwargs` never need be.
        where: Key of the setting that names the object, for the error; the object's class where there is none.

    Raises:
        InputError: If another argument is not kept.
    """
    found: dict[str, Any] = {}
    for name, parameter in inspect.signature(type(made)).parameters.items():
        if hasattr(made, name):
            value = getattr(made, name)
            found |= value if parameter.kind is parameter.VAR_KEYWORD else {name: value}
        elif name not in optional and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            mend = "keep it as an attribute of that name, or choose another class"
            problem = f"does not keep its argument {name}"
            raise InputError(where or class_path(made), f"{class_path(made)} {problem}" if where else problem, mend)
    return found


def spec(made: object) -> dict[str, Any]:
    """`class_path` and `init_args` from which an equal object can be made."""
    return {"class_path": class_path(made), "init_args": init_args(made)}
