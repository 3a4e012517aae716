"""Warp, which the ray tracer and the physics of GPUs stand on: its import, and its default device."""

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from robofuse.errors import StateError

# Warp's code generation is not meant for two threads at a time, and the second finds the first one's work cached.
_building = threading.Lock()
_NOTICE_AFTER_S = 2.0
_lock = threading.Lock()
_entered: list[Any] = []


def import_warp(what: str) -> tuple[Any, Any]:
    """The modules `warp` and `mujoco_warp`, ready to use.

    Args:
        what: what needs them, for the error.

    Raises:
        StateError: one of them is missing.
    """
    try:
        import warp

        # else it reports every module it loads, and itself
        warp.config.log_level = max(warp.config.log_level, warp.LOG_WARNING)
        import mujoco_warp

        warp.init()
    except ImportError as error:
        raise StateError(f"{what} needs mujoco_warp: pip install mujoco-warp (import failed: {error})") from error
    return warp, mujoco_warp


@contextmanager
def on_device() -> Iterator[None]:
    """Makes the CPU Warp's default device while anybody is within.

    The default is one variable for the whole process, so threads that each set and restore it would undo each other's
    work: the first to enter sets it, the last to leave restores it.
    """
    import warp

    with _lock:
        if not _entered:
            scope = warp.ScopedDevice("cpu")
            scope.__enter__()
        else:
            scope = _entered[-1]
        _entered.append(scope)
    try:
        yield
    finally:
        with _lock:
            scope = _entered.pop()
            if not _entered:
                scope.__exit__(None, None, None)


@contextmanager
def compiling(what: str) -> Iterator[None]:
    """Compiles kernels, one thread at a time, and says so if it takes long; `what` is what they are of."""
    import warp

    cache = warp.config.kernel_cache_dir
    message = f"robofuse: compiling {what}; kept in {cache} for the next time"
    notice = threading.Timer(_NOTICE_AFTER_S, print, [message], {"file": sys.stderr, "flush": True})
    notice.daemon = True
    with _building:
        notice.start()
        try:
            yield
        finally:
            notice.cancel()
