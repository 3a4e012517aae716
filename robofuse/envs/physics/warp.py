"""Warp, which the ray tracer and the physics of GPUs stand on: its import, and its default device."""

import gc
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch

from robofuse.errors import StateError

# Warp's code generation is not meant for two threads at a time, and the second finds the first one's work cached.
_building = threading.Lock()
_NOTICE_AFTER_S = 2.0
_changed = threading.Condition()
_entered: list[tuple[str, Any]] = []  # device and scope of all that are within


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


def check_device(device: torch.device) -> None:
    """Checks that Warp has a device which torch has.

    Raises:
        StateError: it has not, as its CUDA needs a newer driver than torch's.
    """
    import warp

    if device.type == "cuda" and str(device) not in [one.alias for one in warp.get_devices()]:
        runs, needs = warp.get_cuda_driver_version(), warp.get_cuda_toolkit_version()
        versions = [".".join(map(str, pair)) if pair else "none" for pair in (runs, needs)]
        raise StateError(
            f"Warp sees no {device}, though torch does: it is built for CUDA {versions[1]}, the driver runs CUDA up to "
            f"{versions[0]}. Update the driver, or leave physics and pictures on the CPU; robofuse doctor says more"
        )


@contextmanager
def on_device(device: str = "cpu") -> Iterator[None]:
    """Makes a device Warp's default while anybody is within; who wants another one waits.

    The default is one variable for the whole process, so threads that each set and restore it would undo each other's
    work: the first to enter sets it, the last to leave restores it.
    """
    import warp

    with _changed:
        _changed.wait_for(lambda: not _entered or _entered[-1][0] == device)
        scope = _entered[-1][1] if _entered else warp.ScopedDevice(device)
        if not _entered:
            scope.__enter__()
        _entered.append((device, scope))
    try:
        yield
    finally:
        with _changed:
            _entered.pop()
            if not _entered:
                scope.__exit__(None, None, None)
            _changed.notify_all()


class Recorded:
    """Kernels in a fixed order. The first call records them, the others repeat the record without Python's part in it.

    On a GPU the record is a CUDA graph, on a CPU a list of calls; repeating takes a fortieth of the time there. It
    holds the addresses of arrays: after one has been replaced, `forget`.
    """

    def __init__(self, device: str, what: str, launch: Callable[[], object]) -> None:
        """`launch` launches the kernels on `device`; `what` says of what they are, while they compile."""
        self._device, self._what, self._launch, self._graph = device, what, launch, None

    def __call__(self) -> None:
        """Launches the kernels."""
        import warp

        if self._graph is not None:
            warp.capture_launch(self._graph)
            return
        with on_device(self._device), compiling(self._what):
            self._launch()  # compiles, and allocates what is allocated once
            collecting = gc.isenabled()
            gc.disable()  # arrays that are freed meanwhile would be part of the record
            try:
                with warp.ScopedCapture() as capture:
                    self._launch()
            finally:
                if collecting:
                    gc.enable()
            self._graph = capture.graph

    def forget(self) -> None:
        """Records anew at the next call."""
        self._graph = None


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
