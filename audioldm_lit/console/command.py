"""Commands that are said, to be copied into a shell."""

import shlex


def command(*words: object) -> str:
    """A command line of this program for a POSIX shell, whatever its words hold."""
    return f"python -m audioldm_lit {shlex.join(map(str, words))}"
