"""What the parsers of all verbs share: a mistake is told in one sentence, not in a list of all options."""

import re
from collections.abc import Callable
from typing import NoReturn

from audioldm_lit.errors import InputError

FRAME = ("Parser key", "Does not validate", "Subtypes", "Errors", "Given value", "Problem with given class_path")
KINDS = {
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "str": "text",
    "list": "a list",
    "dict": "a mapping",
}
LITERAL = re.compile(r"Expected a typing\.Literal\[(.*)\]")
# The types that were tried beside the one that was meant: said only where nothing else is.
OTHER_TYPES = re.compile(r"Expected an? <class '[\w.]+'>$|Expected a path but .* either not accessible or invalid")
PLAIN: tuple[tuple[str, str | Callable[[re.Match[str]], str]], ...] = (  # what jsonargparse says, and how people say it
    *((rf"Expected a <class '{kind}'>\. Got value: (.*)", rf"is \1, not {words}") for kind, words in KINDS.items()),
    (r"Expected a <class '(\w+)'>", lambda found: f"is not {KINDS.get(found[1], found[1])}"),
    (r".*Expected '([\w.]+)' to be a subclass of <class '([\w.]+)'>.*", r"is \1, which is no \2"),
    (r"Import path does not correspond to a subclass of (\w+)", r"is no \1"),
    (r".*Importing '([\w.]+)' is not allowed, denied by .*", r"is \1, of Python's own library, which has no class of that kind"),
    (r"Expected an instantiatable class, but ([\w.]+) is abstract", r"has no class: name a subclass of \1 first"),
)


class OneSentence:
    """Mixed into a parser of jsonargparse."""

    exit_on_error: bool

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Raise what the parser says as an `InputError`; a parser within this one tells this one first."""
        if not self.exit_on_error:
            super().error(message, ex)  # type: ignore[misc]  # that of the parser it is mixed into
        raise refusal(message) from ex


def refusal(message: str, where: str = "the command line") -> InputError:
    """The error that a message of jsonargparse is, which may be a tree of every type that was tried.

    Args:
        message: What the parser says.
        where: What is wrong where the message names no setting.
    """
    lines = [line.strip().removeprefix("- ").rstrip(":.") for line in message.splitlines()]
    reasons = _reasons([line for line in lines if line and not line.startswith(FRAME)])
    key = ".".join(re.findall(r'Parser key "([^"]+)"', message))
    value = re.search(r"Given value: (?!NestedArg)(.+)", message)
    problem = ", ".join(dict.fromkeys(reasons)) or "is refused"
    owner = re.search(r"given class_path '([\w.]+)'", message)
    mend = f"--{key}.help {owner[1]} lists what is" if owner and "is not accepted" in problem else "correct it"
    return InputError(f"--{key}" if key else where, f"{problem}, given {value[1]}" if value else problem, mend)


def _reasons(lines: list[str]) -> list[str]:
    """What is wrong, in plain words, without the types that were tried in vain beside the one that was meant."""
    choices = [choice for line in lines if (found := LITERAL.search(line)) for choice in found[1].replace("'", "").split(", ")]
    if choices:
        return [f"is none of {', '.join(dict.fromkeys(choices))}"]
    meant = [line for line in lines if not OTHER_TYPES.match(line)] or [line for line in lines if "NoneType" not in line]
    return [_plain(line) for line in meant]


def _plain(line: str) -> str:
    for pattern, words in PLAIN:
        line = re.sub(rf"^{pattern}$", words, line)
    return line
