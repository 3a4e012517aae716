"""What `robofuse record` can be asked."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

EXPERT = "expert"


@dataclass(frozen=True)
class Record:
    """What to record, and how.

    Attributes:
        policy: expert, the task's scripted solution, which sees the simulator's truth; or the name of a policy that
            comes with robofuse, or the path of one.
        task: For the expert: task, as in `robofuse list`.
        robot: For the expert: robot, as in `robofuse list`.
        episodes: How many to keep, together with those that are in the folder already.
        out: Folder for them, by default demos/TASK-ROBOT-POLICY. If it holds a part of the same recording, the rest is
            done.
        keep: Episodes that succeeded, or all.
        noise: Standard deviation of normal noise that is added to what is done, as a share of the largest action, so
            that the demonstrations tell how to recover; recorded as `action` is what was chosen without it.
        rgb: Colours as lossless video (every bit is kept, browsers do not play it), as lossy video (a twentieth of the
            size), or as png in the tables.
        instruction: The task in words, for LeRobot; by default its name.
        seed: Of the scenes, below 1000, as in trainings; higher ones are for validation and evaluation.
        worlds: Episodes simulated at a time.
        sensors: For the expert: out of rgb, depth, proprio and force.
        cameras: For the expert: cameras, as in `robofuse list`.
        image_size: For the expert: pixels a side.
        renderer: For the expert: auto takes gl if it works here, else warp.
        device: Of a policy's network: auto, cpu or cuda.
    """

    policy: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="POLICY")] = EXPERT
    task: str | None = None
    robot: str | None = None
    episodes: int = 50
    out: Path | None = None
    keep: Literal["success", "all"] = "success"
    noise: float = 0.0
    rgb: Literal["lossless", "lossy", "png"] = "lossless"
    instruction: str = ""
    seed: int = 0
    num_envs: int = 32
    sensors: tuple[str, ...] = ()
    cameras: tuple[str, ...] = ()
    image_size: int | None = None
    renderer: Literal["auto", "gl", "warp"] | None = None
    device: str = "auto"
