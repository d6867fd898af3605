"""The one exception that users are meant to read."""


class HelipError(ValueError):
    """What is wrong, where, and what to do, in one sentence.

    The command line prints its message alone and exits with status 1; inside a program it is an ordinary ValueError.
    """
