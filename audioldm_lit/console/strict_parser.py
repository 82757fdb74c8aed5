"""Parsers that make objects of classes alone: a class path in a setting names what will be called.

The parser holds a class against the type that a setting takes before it calls it. What it would call unseen is refused here:
functions, which it takes for makers of the right thing, and whatever stands in a setting of no type. Nothing of Python's own
library is of a kind that a setting takes, so that none of it is even imported.
"""

import os
import sys
from collections.abc import Iterable, Iterator, Mapping
from inspect import isclass
from typing import Any

import yaml
from jsonargparse import ArgumentParser, Namespace, get_loader, set_loader, set_parsing_settings

from audioldm_lit.console.parser import OneSentence
from audioldm_lit.errors import InputError

set_parsing_settings(import_path_denylist=sorted(sys.stdlib_module_names), instantiate_subclass_spec_in_any=False)
_read = get_loader("yaml")


def _loaded(text: str) -> Any:
    """What a text is in YAML; a line that would be nothing, or that is the name of a file, is that text: `#1`, `[rain]`, `a: b`."""
    value = _read(text)
    line = "\n" not in text and not isinstance(value, str)
    return text if line and (value is None or os.path.lexists(text)) else value


# What cannot be read is a text: PyYAML fails at `!!timestamp x`, `!!bool x` and `!!int ''` in ways of their own.
set_loader("yaml", _loaded, (yaml.YAMLError, ValueError, AttributeError, LookupError))


class Strict(OneSentence):
    """Mixed into a parser of jsonargparse."""

    def instantiate(self, cfg: Any, **kwargs: Any) -> Any:
        """Make the objects of settings, none of which may be named by a function."""
        for key, path in class_paths(cfg):
            named = _imported(path)
            if named is not None and not isclass(named):
                raise InputError(f"--{key}", f"is {path}, which is no class, and nothing else is called", "name a class")
        return super().instantiate(cfg, **kwargs)  # type: ignore[misc]  # that of the parser it is mixed into


class StrictParser(Strict, ArgumentParser):  # type: ignore[misc]  # `instantiate` takes whatever the parser does
    """A parser of typed functions and of settings in files."""


def class_paths(settings: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Every class path within settings, after the dotted key that it is the value of."""
    if isinstance(settings, Namespace):
        settings = vars(settings)
    parts: Iterable[tuple[Any, Any]]
    if isinstance(settings, Mapping):
        if isinstance(path := settings.get("class_path"), str):
            yield key, path
        parts = settings.items()
    elif isinstance(settings, list | tuple):
        parts = enumerate(settings)
    else:
        return
    for name, part in parts:
        yield from class_paths(part, f"{key}.{name}" if key else str(name))


def _imported(path: str) -> object | None:
    """What a path names in a module that reading the settings has imported, if it did."""
    module, _, name = path.rpartition(".")
    return getattr(sys.modules.get(module), name, None)
