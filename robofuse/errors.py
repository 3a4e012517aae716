"""Errors for users: the command line prints them in one line; all others show a traceback."""


class RobofuseError(Exception):
    """An error that the caller can mend; the message says how."""


class InputError(RobofuseError, ValueError):
    """An argument or a file is not as it should be."""


class StateError(RobofuseError, RuntimeError):
    """Something cannot be done now, or not on this machine."""


INTERRUPTED = 130  # exit status of a command that Ctrl-C ended
