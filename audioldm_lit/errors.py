"""The one exception that means "the input or the request is wrong", never "the program is wrong"."""


class InputError(Exception):
    """Wrong input, in one sentence that names the file, key or value and how to mend it.

    The command line prints the sentence alone and exits with status 2; every other exception is our fault and keeps its
    traceback. Not a ValueError: parsers take that for "try another type".
    """
