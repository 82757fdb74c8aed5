"""The one exception that means "the input or the request is wrong", never "the program is wrong"."""

from pathlib import Path


class InputError(Exception):
    """Wrong input: where it is, what is wrong there and how to mend it; `str` makes them the one sentence that is printed.

    The command line prints the sentence alone and exits with status 2; every other exception is a bug and keeps its traceback.
    Code that passes an error on uses its fields; nothing parses the sentence. Not a ValueError: parsers take that for "try
    another type".

    Args:
        where: File, line of a table, key, or option; "metadata.csv, line 3".
        problem: What is wrong there, as it reads after `where` and a colon: "is empty".
        mend: What to do about it, in the imperative and without a full stop: "copy it again".
    """

    def __init__(self, where: str | Path, problem: str, mend: str) -> None:
        super().__init__(str(where), problem, mend)  # `args` are what pickle makes it again from, in another process
        self.where = str(where)
        self.problem = problem
        self.mend = mend

    def __str__(self) -> str:
        return f"{self.where}: {self.problem}; {self.mend}."
