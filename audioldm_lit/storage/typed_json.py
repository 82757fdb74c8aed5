"""Reading a dataclass back from the JSON of its fields."""

from typing import TypeVar

from pydantic import TypeAdapter, ValidationError

Kind = TypeVar("Kind")


def parse_json_as(kind: type[Kind], text: str | bytes) -> Kind:
    """A dataclass from a JSON text of its fields; what else the text holds is left out.

    Raises:
        ValueError: If a field is missing or not of its type; it names the first.
    """
    try:
        return TypeAdapter(kind).validate_json(text, strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise ValueError(f"{place}: {first['msg']}" if place else first["msg"]) from None
