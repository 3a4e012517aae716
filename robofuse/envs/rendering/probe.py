"""Draws a tiny scene with one renderer and prints how long a frame takes.

A program of its own, `python -m robofuse.envs.rendering.probe NAME`, because a graphics
driver that does not suit the machine may abort or hang the process that tries it.
"""

import json
import sys
import time

import mujoco
import numpy as np

from robofuse.envs.rendering import Poses, View, make_renderer
from robofuse.errors import StateError

SIZE = 64
WORLDS = 8
SECONDS = 0.3

SCENE = """
<mujoco>
  <worldbody>
    <light pos="0 0 2" dir="0 0 -1"/>
    <camera name="above" pos="0 0 1" fovy="45"/>
    <geom type="plane" size="1 1 0.1" rgba="0.5 0.5 0.5 1"/>
    <geom type="box" pos="0 0 0.1" size="0.1 0.1 0.1" rgba="0.9 0.2 0.1 1"/>
  </worldbody>
</mujoco>
"""


def _poses(model: mujoco.MjModel) -> Poses:
    """Returns where everything in the scene is, `WORLDS` times over."""
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)

    def worlds(array: np.ndarray) -> np.ndarray:
        return np.repeat(array[None], WORLDS, axis=0)

    return Poses(
        geom_xpos=worlds(data.geom_xpos),
        geom_xmat=worlds(data.geom_xmat),
        cam_xpos=worlds(data.cam_xpos),
        cam_xmat=worlds(data.cam_xmat),
        light_xpos=worlds(data.light_xpos),
        light_xdir=worlds(data.light_xdir),
        geom_size=worlds(model.geom_size),
        geom_rgba=worlds(model.geom_rgba),
    )


def ms_per_frame(name: str) -> float:
    """Times a renderer.

    Args:
        name: A name that `make_renderer` knows.

    Returns:
        Milliseconds for one 64×64 frame of colour and depth, one thread.

    Raises:
        StateError: It drew, but not the box that is there.
    """
    model = mujoco.MjModel.from_xml_string(SCENE)
    renderer = make_renderer(name, model, [View("above", SIZE, SIZE)], _poses(model), num_threads=1)
    try:
        rgb, depth = renderer.render()[0]
        corner, centre = (np.asarray(depth)[0, at, at].item() for at in (0, SIZE // 2))
        if np.asarray(rgb).std() == 0 or not 0 < centre < corner:
            raise StateError("it drew an empty or wrong picture")
        frames, start = 0, time.perf_counter()
        while (elapsed := time.perf_counter() - start) < SECONDS:
            renderer.render()
            frames += WORLDS
    finally:
        renderer.close()
    return 1e3 * elapsed / frames


if __name__ == "__main__":
    print(json.dumps({"ms_per_frame": ms_per_frame(sys.argv[1])}))
