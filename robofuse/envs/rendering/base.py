"""What all renderers share: where things are, what a camera draws, what comes back."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import mujoco
import numpy as np

from robofuse.errors import InputError


class Poses(NamedTuple):
    """Where and what everything is: live arrays, float64 or float32, N worlds in front.

    The physics backend refreshes them in place; a renderer reads them at each call and never writes them.

    Attributes:
        geom_xpos: (N, ngeom, 3) positions [m], world frame.
        geom_xmat: (N, ngeom, 9) rotation matrices, row by row.
        cam_xpos: (N, ncam, 3) positions [m], world frame.
        cam_xmat: (N, ncam, 9) rotation matrices; a camera looks along its −z, y up.
        light_xpos: (N, nlight, 3) positions [m], world frame.
        light_xdir: (N, nlight, 3) unit directions the light shines in, world frame.
        geom_size: (N, ngeom, 3) sizes [m], as in `MjModel.geom_size`.
        geom_rgba: (N, ngeom, 4) colours from 0 to 1; alpha 0 hides a geom, any other is opaque.
    """

    geom_xpos: np.ndarray
    geom_xmat: np.ndarray
    cam_xpos: np.ndarray
    cam_xmat: np.ndarray
    light_xpos: np.ndarray
    light_xdir: np.ndarray
    geom_size: np.ndarray
    geom_rgba: np.ndarray


MOVING = Poses._fields[:6]
"""Which of `Poses` MuJoCo computes."""
FIXED = Poses._fields[6:]
"""Which of `Poses` belong to the model."""


@dataclass(frozen=True)
class View:
    """What one camera of the model draws.

    Attributes:
        camera: its name in the model.
        height: rows [pixels].
        width: columns [pixels].
    """

    camera: str
    height: int
    width: int


Pictures = list[tuple[np.ndarray, np.ndarray]]
"""For each view in order, rgb uint8 (n, H, W, 3) and depth float32 (n, H, W).

Depth is in metres along the optical axis, 0 = no return. Top row first.
"""

Take = Callable[[int, int, Pictures], None]
"""Called with the pictures of worlds `start` to `stop` of those asked for; their arrays are overwritten afterwards."""


class Renderer(Protocol):
    """Draws any of N worlds.

    A picture depends on its own world alone: not on N, nor on which others are drawn, nor on the threads.

    Attributes:
        name: the key in `RENDERERS`.
    """

    name: str

    def start(self, take: Take, env_ids: np.ndarray | None = None) -> Callable[[], None]:
        """Begin to draw worlds as their poses are now, which must not change before all are drawn.

        Args:
            take: called on the drawing threads, as soon as some worlds are drawn, with their pictures.
            env_ids: integers (n,), the worlds to draw, in this order; None draws all N.

        Returns:
            Call it to wait until all are drawn and taken.

        Raises:
            StateError: after `close`.
            IndexError: an id outside [0, N).
        """
        ...

    def render(self, env_ids: np.ndarray | None = None) -> Pictures:
        """Draw worlds and wait for their pictures, which are the caller's to keep."""
        ...

    def close(self) -> None:
        """Release threads and contexts; may be called again. Nothing breaks if it is never called."""
        ...


class Painter(Protocol):
    """Draws worlds on the thread that made it."""

    def paint(self, env_ids: np.ndarray, take: Take) -> None:
        """Draw worlds `env_ids`, int64 (n,), and call `take` with the pictures of some at a time, in their order."""
        ...

    def close(self) -> None:
        """Release everything; called on the thread that made it."""
        ...


def check(model: mujoco.MjModel, views: Sequence[View], poses: Poses) -> None:
    """Whether the views and arrays fit the model; InputError says what would be right."""
    if not views:
        raise InputError("at least one view is needed")
    cameras = [model.camera(i).name for i in range(model.ncam)]
    for view in views:
        if view.camera not in cameras:
            raise InputError(f"the model has no camera {view.camera!r}; cameras: {', '.join(cameras) or 'none'}")
        if view.height < 1 or view.width < 1:
            raise InputError(f"height and width must be at least 1 pixel, got {view}")
    worlds = len(poses.geom_xpos)
    counts = {"geom": model.ngeom, "cam": model.ncam, "light": model.nlight}
    widths = {"xpos": 3, "xmat": 9, "xdir": 3, "size": 3, "rgba": 4}
    for name, array in zip(Poses._fields, poses, strict=True):
        thing, what = name.split("_")
        expected = (worlds, counts[thing], widths[what])
        if worlds < 1 or array.shape != expected:
            raise InputError(f"{name} must have shape {expected} with at least one world, got {array.shape}")
