"""Objects that a file names by class and settings.

A file may come from anybody. It is data: the class that it names is one of this project's, or of a module that was imported before
for another reason; nothing is imported because a file says so.
"""

import importlib
import inspect
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar

from audioldm_lit.adapters.base import Adapter
from audioldm_lit.diffusion import Prediction
from audioldm_lit.errors import InputError

OURS = {"Adapter": "audioldm_lit.adapters.", "Prediction": "audioldm_lit.diffusion."}  # where what is ours is defined
SETTINGS_ERRORS = (TypeError, ValueError, AttributeError, LookupError, OverflowError, RecursionError)  # of settings of any type
Made = TypeVar("Made", Adapter, Prediction)


def make(kind: type[Made], spec: Mapping[str, Any], path: Path) -> Made:
    """Make an object of a kind from what its `spec` said; its module is imported only if it is this project's.

    Raises:
        InputError: If the class is somebody else's, is not there, is no such kind, or does not take these settings.
    """
    try:
        class_path, init_args = str(spec["class_path"]), made_again(spec["init_args"], path)
    except (AttributeError, KeyError, TypeError, RecursionError) as error:
        raise InputError(path, f"does not say how it was made ({error})", "fetch the file again") from error
    module, _, name = class_path.rpartition(".")
    word = kind.__name__.lower()
    if module not in sys.modules and not f"{module}.".startswith(OURS[kind.__name__]):
        problem = f"needs {class_path}, a class of somebody else's, and a file is no reason to run its code"
        raise InputError(path, problem, f"give --trust {module or 'MODULE'} if you know where it comes from")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        raise InputError(path, f"needs the {word} class {class_path}, which is not there", "install that version") from error
    if not (isinstance(found, type) and issubclass(found, kind)) or inspect.isabstract(found):
        raise InputError(path, f"names {class_path}, which is no {kind.__name__}", "fetch the file again, it is damaged")
    try:
        inspect.signature(found).bind(**init_args)
        return found(**init_args)
    except InputError as error:
        raise InputError(path, f"has wrong settings: {error.problem}", "fetch the file again, it is damaged") from error
    except SETTINGS_ERRORS as error:
        raise InputError(path, f"was made by another version of {class_path} ({error})", "install that version") from error


def made_again(init_args: Mapping[str, Any], path: Path) -> dict[str, Any]:
    """Settings as a `spec` gave them, with the adapters among them made again."""
    return {name: _nested(value, path) for name, value in init_args.items()}


def _nested(value: Any, path: Path) -> Any:
    """A value of a setting: an adapter, or a list of them, where it says how these are made."""
    if isinstance(value, list):
        return [_nested(item, path) for item in value]
    if isinstance(value, dict) and value.keys() == {"class_path", "init_args"}:
        return make(Adapter, value, path)
    return value
