"""What the parsers of all verbs share: a mistake is told in one sentence, not in a list of all options."""

import re
from typing import NoReturn

from audioldm_lit.errors import InputError

FRAME = ("Parser key", "Does not validate", "Subtypes", "Errors", "Given value", "Expected a <class 'NoneType'>")


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
    reasons = dict.fromkeys(line for line in lines if line and not line.startswith(FRAME))
    key = ".".join(re.findall(r'Parser key "([^"]+)"', message))
    value = re.search(r"Given value: (?!NestedArg)(.+)", message)
    problem = ", ".join(reasons) or "is refused"
    owner = re.search(r"given class_path '([\w.]+)'", message)
    mend = f"--{key}.help {owner[1]} lists what is" if owner and "is not accepted" in problem else "correct it"
    return InputError(f"--{key}" if key else where, f"{problem}, given {value[1]}" if value else problem, mend)
