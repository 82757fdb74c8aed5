"""Reading JSON and YAML that may be anybody's: whatever is wrong with a text is a ValueError."""

import json
from collections import Counter
from pathlib import Path
from typing import IO, Any

import yaml

from audioldm_lit.errors import InputError

DEEP = "it is nested too deeply"


class _Plain(yaml.SafeLoader):
    """Plain values, and no key twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """Look at the keys as they stand there, before others are merged into them."""
        names = Counter(key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode) and key.value != "<<")
        if twice := [name for name, count in names.items() if count > 1]:
            raise yaml.YAMLError(f"line {node.start_mark.line + 1}: the key '{twice[0]}' comes twice")
        return super().construct_mapping(node, deep)


def parse_json(text: str | bytes) -> Any:
    """Plain values of a JSON text.

    Raises:
        ValueError: If it is not UTF-8, no JSON, or nested too deeply.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError(DEEP) from None


def read_json(path: Path) -> Any:
    """Plain values of a JSON file.

    Raises:
        ValueError: If it is not UTF-8, no JSON, or nested too deeply.
        OSError: If it cannot be read.
    """
    return parse_json(path.read_bytes())


def read_record(path: Path, mend: str) -> dict[str, Any]:
    """A JSON object that a run wrote.

    Raises:
        InputError: If it is not whole; `mend` says what brings it back.
    """
    try:
        content = read_json(path)
    except (OSError, ValueError) as error:
        raise InputError(path, f"is not whole ({error})", mend) from error
    if not isinstance(content, dict):
        raise InputError(path, f"is not whole ({type(content).__name__} is no object)", mend)
    return content


def parse_yaml(text: str | bytes | IO[bytes]) -> Any:
    """Plain values of a YAML text.

    Raises:
        ValueError: If it is not UTF-8, no YAML, nested too deeply, or has a key twice, of which one would be lost.
    """
    try:
        return yaml.load(text, Loader=_Plain)  # a safe loader
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from error
    except (AttributeError, LookupError):  # PyYAML's answers to `!!timestamp x`, `!!bool x` and `!!int ''`
        raise ValueError("a value is not what its tag says") from None
    except RecursionError:
        raise ValueError(DEEP) from None


def read_yaml(path: Path) -> Any:
    """Plain values of a YAML file.

    Raises:
        ValueError: If it is not UTF-8, no YAML, or nested too deeply.
        OSError: If it cannot be read.
    """
    with path.open("rb") as file:
        return parse_yaml(file)
