"""Worlds as people look at them: pictures, MuJoCo's window, depth in colours."""

import atexit
import os
import sys
import threading
import weakref
from contextlib import nullcontext
from functools import partial
from typing import Any

import cv2
import mujoco
import numpy as np

from robofuse.envs.cameras import OVERVIEW
from robofuse.envs.physics.backend import Backend
from robofuse.envs.rendering import FIXED, MOVING, Poses, View, make_renderer
from robofuse.envs.rendering.gl import choose_opengl
from robofuse.envs.rendering.studio import SEEN_THROUGH, StudioPainter, dressed, rotations, screens
from robofuse.envs.rendering.threads import ThreadedRenderer
from robofuse.errors import StateError


class Picture:
    """Draws single worlds through the `overview` camera: with OpenGL in a studio, without it as policies see them."""

    def __init__(self, backend: Backend, spec: mujoco.MjSpec) -> None:
        """Makes a renderer for one world.

        Args:
            backend: its worlds.
            spec: what its model was compiled from.
        """
        self._backend, self._screens = backend, screens(backend.model)
        self._data = mujoco.MjData(backend.model)
        try:
            opengl = choose_opengl()
        except StateError:
            name, opengl, self._model = "warp", None, backend.model
            self._opacity = 0.0  # the ray tracer draws whole what it draws at all
        else:
            name, self._model, self._opacity = "gl", dressed(spec), SEEN_THROUGH
        still = mujoco.MjData(self._model)
        mujoco.mj_forward(self._model, still)  # what the studio adds never moves
        self._poses = Poses(
            *(getattr(still, field)[None].copy() for field in MOVING),
            *(getattr(self._model, field)[None].copy() for field in FIXED),
        )
        number = backend.model.ngeom
        # MuJoCo turns meshes to their axes of inertia
        self._turns = rotations(backend.model).transpose(0, 2, 1) @ rotations(self._model)[:number]
        height, width = OVERVIEW.size or (0, 0)
        views = [View(OVERVIEW.name, height, width)]
        if opengl is None:
            self._renderer = make_renderer(name, self._model, views, self._poses, 1)
        else:
            factory = partial(StudioPainter, self._model, tuple(views), self._poses, opengl.context)
            self._renderer = ThreadedRenderer(name, factory, nullcontext, views, self._poses, 1)

    def take(self, world: int) -> np.ndarray:
        """Picture of one world: uint8 (480, 640, 3)."""
        model, _ = self._backend.snapshot(world, self._data)
        for name in MOVING:
            values = getattr(self._data, name)
            if name == "geom_xmat":
                values = (values.reshape(-1, 3, 3) @ self._turns).reshape(-1, 9)
            getattr(self._poses, name)[0, : len(values)] = values
        for name in FIXED:  # what differs from world to world; the rest has the studio's own looks
            shown, ours, usual = (getattr(x, name) for x in (self._model, model, self._backend.model))
            values = np.where((ours == usual).all(1, keepdims=True), shown[: len(ours)], ours)
            if name == "geom_rgba":
                values[self._screens, 3] *= self._opacity
            getattr(self._poses, name)[0, : len(values)] = values
        return self._renderer.render()[0][0][0]

    def close(self) -> None:
        """Free the renderer; may be called twice."""
        self._renderer.close()


class Viewer:
    """A window that follows one world."""

    def __init__(self, backend: Backend, world: int = 0) -> None:
        """Opens the window.

        Raises:
            StateError: there is no display.
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


def depth_limits(millimetres: np.ndarray) -> tuple[float, float]:
    """Nearest and farthest depth [mm] of an image uint16 (H, W), less 1 % at either end; (0, 1) if nothing is seen."""
    valid = millimetres[millimetres > 0]
    nearest, farthest = np.percentile(valid, (1, 99)) if valid.size else (0.0, 1.0)
    return float(nearest), float(farthest)


def depth_colours(millimetres: np.ndarray, limits: tuple[float, float] | None = None) -> np.ndarray:
    """Depth in Google's Turbo colours: red is nearest, blue farthest, black no return.

    Args:
        millimetres: uint16 (H, W), 0 = no return.
        limits: the depths that are shown as red and blue [mm]; by default those of this image.

    Returns:
        uint8 (H, W, 3), RGB.
    """
    nearest, farthest = limits or depth_limits(millimetres)
    share = np.clip((farthest - millimetres) / max(farthest - nearest, 1.0), 0.0, 1.0)
    coloured = cv2.applyColorMap((255 * share).astype(np.uint8), cv2.COLORMAP_TURBO)[..., ::-1]
    return np.where((millimetres > 0)[..., None], coloured, 0).astype(np.uint8)
