"""Errors whose messages are written for users; the command line prints these, and lets all others show a traceback."""


class RobofuseError(Exception):
    """Something that the caller can put right; the message says what is wrong and what would be right."""


class InputError(RobofuseError, ValueError):
    """What was passed, or a file that was named, is not what is needed."""


class StateError(RobofuseError, RuntimeError):
    """What was asked for cannot be done now, or not on this machine."""


INTERRUPTED = 130  # exit status of a command that Ctrl-C ended
