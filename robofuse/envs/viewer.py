"""MuJoCo's interactive viewer on one world, for `render_mode="human"`."""

import atexit
import os
import sys
import threading
import weakref
from typing import Any

from robofuse.envs.backend import Backend
from robofuse.errors import StateError


class Viewer:
    """A window that follows one world."""

    def __init__(self, backend: Backend, world: int = 0) -> None:
        """Opens the window.

        Raises:
            RuntimeError: there is no display.
        """
        if sys.platform.startswith("linux") and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
            raise StateError('render_mode="human" needs a display, and there is none; use render_mode="rgb_array"')
        import mujoco.viewer

        self._backend, self._world = backend, world
        self._model, self._data = backend.snapshot(world)
        others = set(threading.enumerate())
        self._handle = mujoco.viewer.launch_passive(self._model, self._data)
        threads = [thread for thread in threading.enumerate() if thread not in others]
        self._end = weakref.finalize(self, _end, self._handle, threads)
        # exit handlers run last in, first out: ours must come before those that MuJoCo's viewer has just registered
        self._end.atexit = False
        atexit.register(self._end)

    def show(self) -> None:
        """Draw the world as it is now; does nothing once the user has closed the window."""
        if not self._handle.is_running():
            return
        with self._handle.lock():
            model, _ = self._backend.snapshot(self._world, self._data)
            # the window keeps the model it was opened with: bring over what differs from world to world
            self._model.geom_size[:] = model.geom_size
            self._model.geom_rgba[:] = model.geom_rgba
        self._handle.sync()

    def close(self) -> None:
        """Close the window; may be called twice."""
        self._end()


def _end(handle: Any, threads: list[threading.Thread]) -> None:  # noqa: ANN401
    handle.close()
    for thread in threads:  # the interpreter must not end while it still draws: that crashes the driver
        thread.join(timeout=5.0)
