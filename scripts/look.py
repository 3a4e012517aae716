"""Look at a task: the scripted expert's episode as one picture, a column per moment, a row per sensor.

python scripts/look.py --task Grasp --out grasp.png
python scripts/look.py --faults --out faults.png    what each fault of a camera makes of one picture
"""

from dataclasses import dataclass

import cv2
import numpy as np
import tyro

from robofuse.envs import World
from robofuse.envs.look import fault_sheet, sheet


@dataclass(frozen=True)
class Look:
    """What to look at.

    Attributes:
        task: Task, as in `robofuse list`.
        robot: Robot, as in `robofuse list`.
        cameras: Cameras, as in `robofuse list`.
        renderer: `warp` or `gl`.
        moments: Columns of the picture.
        episode: Which scene.
        faults: Instead, a line per fault of the first camera, a column per severity.
        out: Where the PNG goes.
    """

    task: str = "Grasp"
    robot: str = "arm"
    cameras: tuple[str, ...] = ("scene", "wrist")
    renderer: str = "warp"
    moments: int = 5
    episode: int = 0
    faults: bool = False
    out: str = "look.png"


if __name__ == "__main__":
    look = tyro.cli(Look)
    try:
        cameras = look.cameras[:1] if look.faults else look.cameras
        world = World(look.task, 1, robot=look.robot, cameras=cameras, renderer=look.renderer, auto_reset=False)
    except (ValueError, RuntimeError) as error:
        raise SystemExit(f"error: {error}") from None
    picture = fault_sheet(world) if look.faults else sheet(world, look.episode, look.moments)
    world.close()
    cv2.imwrite(look.out, np.ascontiguousarray(picture[..., ::-1]))
    print(f"wrote {look.out}, {picture.shape[1]} × {picture.shape[0]} pixels")
