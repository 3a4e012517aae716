"""The renderer around the painters: which worlds, which thread, which slice of the output."""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from typing import Protocol

import numpy as np

from robofuse.envs.rendering import Pictures, Poses, View
from robofuse.envs.rendering.workers import Workers
from robofuse.errors import InputError, StateError


class Painter(Protocol):
    """Draws worlds on the thread that made it."""

    def paint(self, env_ids: np.ndarray, out: Pictures) -> None:
        """Draw worlds `env_ids`, int64 (n,), into each view's rgb (n, H, W, 3) uint8 and depth (n, H, W) float32."""
        ...

    def close(self) -> None:
        """Release everything."""
        ...


class ThreadedRenderer:
    """See `Renderer`: one painter a thread, each with a contiguous share of the worlds."""

    def __init__(
        self,
        name: str,
        factory: Callable[[], Painter],
        guard: Callable[[], AbstractContextManager],
        views: Sequence[View],
        poses: Poses,
        num_threads: int,
    ) -> None:
        """Makes the painters.

        Args:
            name: the renderer's name.
            factory: makes a painter, in its thread.
            guard: entered by the caller's thread while painters are made or paint.
            views: what a painter draws.
            poses: only its number of worlds is read here.
            num_threads: at least 1; more than there are worlds are not started.

        Raises:
            RuntimeError: the factory could not make a painter.
        """
        self.name = name
        self._shapes = [(view.height, view.width) for view in views]
        self._worlds = len(poses.geom_xpos)
        self._guard = guard
        with guard():
            self._workers = Workers(f"robofuse-{name}", min(num_threads, self._worlds), factory)

    def start(self, env_ids: np.ndarray | None = None) -> Callable[[], Pictures]:
        """See `Renderer.start`."""
        if self._workers.closed:
            raise StateError(f"this {self.name} renderer is closed: make another one to draw again")
        rows = np.arange(self._worlds) if env_ids is None else self._rows(env_ids)
        n = len(rows)
        out = [(np.empty((n, *shape, 3), np.uint8), np.empty((n, *shape), np.float32)) for shape in self._shapes]

        def share(painter: Painter, start: int, stop: int) -> None:
            painter.paint(rows[start:stop], [(rgb[start:stop], depth[start:stop]) for rgb, depth in out])

        guarded = ExitStack()
        guarded.enter_context(self._guard())
        wait = self._workers.start(share, n)

        def fetch() -> Pictures:
            with guarded:
                wait()
            return out

        return fetch

    def render(self, env_ids: np.ndarray | None = None) -> Pictures:
        """See `Renderer.render`."""
        return self.start(env_ids)()

    def close(self) -> None:
        """See `Renderer.close`."""
        self._workers.close()

    def _rows(self, env_ids: np.ndarray) -> np.ndarray:
        rows = np.asarray(env_ids)
        if rows.ndim != 1 or (rows.size and rows.dtype.kind not in "iu"):
            raise InputError(f"ids must be integers of shape (n,), got {rows.dtype} {rows.shape}")
        if rows.size and not (0 <= rows.min() and rows.max() < self._worlds):
            raise IndexError(f"ids must lie in [0, {self._worlds}), got {rows.min()} to {rows.max()}")
        return rows.astype(np.int64)
