"""One world as people look at it."""

import mujoco
import numpy as np

from robofuse.envs.backend import Backend
from robofuse.envs.cameras import OVERVIEW
from robofuse.envs.rendering import MOVING, Poses, View, make_renderer


class Picture:
    """Draws single worlds through the `overview` camera, with the renderer the policy sees through."""

    def __init__(self, backend: Backend, renderer: str) -> None:
        """Makes a renderer for one world."""
        self._backend = backend
        model = backend.model
        self._data = mujoco.MjData(model)
        self._size, self._rgba = model.geom_size[None].copy(), model.geom_rgba[None].copy()
        height, width = OVERVIEW.size or (0, 0)
        self._renderer = make_renderer(
            renderer,
            model,
            [View(OVERVIEW.name, height, width)],
            Poses(*[*(getattr(self._data, name)[None] for name in MOVING), self._size, self._rgba]),
            1,
        )

    def take(self, world: int) -> np.ndarray:
        """Picture of one world: uint8 (480, 640, 3)."""
        model, _ = self._backend.snapshot(world, self._data)
        self._size[0], self._rgba[0] = model.geom_size, model.geom_rgba
        return self._renderer.render()[0][0][0]

    def close(self) -> None:
        """Free the renderer; may be called twice."""
        self._renderer.close()
