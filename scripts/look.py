"""Look at a task: the scripted expert's episode as one picture, a column per moment, a row per sensor.

python scripts/look.py --task Grasp --out grasp.png
python scripts/look.py --faults --out faults.png    what each fault of a camera makes of one picture
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

import cv2
import numpy as np
import torch
import tyro

from robofuse.envs import World
from robofuse.envs.rendering.picture import depth_colours, depth_limits
from robofuse.errors import InputError, RobofuseError
from robofuse.faults import FaultEvent, Plan, faults_for
from robofuse.play import play, scripted
from robofuse.replay.frames import Frame, frames
from robofuse.sensors import Kind, Sensor

_TILE = 192


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


def sheet(world: World, episode: int = 0, moments: int = 6) -> np.ndarray:
    """Play one episode and lay it out: a column per moment, the scene on top, a row per sensor below.

    Args:
        world: a World of one, without automatic reset.
        episode: number of the episode.
        moments: columns, spread evenly from the first to the last step.

    Returns:
        uint8 (H, W, 3), RGB.

    Raises:
        ValueError: the World has several worlds or resets by itself.
    """
    shown = list(frames(scripted("expert", world), world, [(episode, None)]))
    chosen = np.linspace(0, len(shown) - 1, moments).round().astype(int)
    return np.hstack([_column(world.sensors, shown[index]) for index in chosen])


def fault_sheet(world: World, severities: Sequence[float] = (0.25, 0.5, 0.75, 1.0), step: int = 12) -> np.ndarray:
    """What each fault of a camera makes of one picture: a line per fault, a column per severity, the healthy one first.

    Faults that only show in time, such as a late or frozen picture, are left out.

    Args:
        world: a World of one, without automatic reset, with a camera.
        severities: of the columns.
        step: control step of the scripted expert at which the picture is taken.

    Returns:
        uint8 (H, W, 3), RGB.
    """

    def seen(*events: FaultEvent) -> dict[str, torch.Tensor]:
        steps = play(scripted("expert", world), world, [(0, Plan(events))])
        return next(played.observation for played in steps if int(played.elapsed[0]) == step)

    observation, lines = seen(), []
    for sensor in (sensor for sensor in world.sensors if sensor.kind in ("rgb", "depth")):
        for name, kind in faults_for(sensor.kind).items():
            if set(kind.kinds) == set(get_args(Kind)):
                continue  # those of any sensor
            healthy = observation[sensor.key][0].numpy()
            limits = depth_limits(healthy) if sensor.kind == "depth" else None
            tiles = [_camera(healthy, sensor)]
            tiles[0] = _caption(tiles[0], f"{sensor.key}: {name}")
            for severity in severities:
                broken = seen(FaultEvent(sensor.key, kind(severity)))
                tiles.append(_caption(_camera(broken[sensor.key][0].numpy(), sensor, limits), f"{severity:g}"))
            lines.append(np.hstack(tiles))
    if not lines:
        raise InputError("this world has no camera; give it rgb or depth")
    half = (len(lines) + 1) // 2  # two blocks side by side
    lines += [np.full_like(lines[0], 255)] * (2 * half - len(lines))
    gap = np.full((half * _TILE, _TILE // 8, 3), 255, np.uint8)
    return np.hstack([np.vstack(lines[:half]), gap, np.vstack(lines[half:])])


def _camera(value: np.ndarray, sensor: Sensor, limits: tuple[float, float] | None = None) -> np.ndarray:
    image = value if sensor.kind == "rgb" else depth_colours(value[..., 0], limits)
    return cv2.resize(image, (_TILE, _TILE), interpolation=cv2.INTER_NEAREST)


def _column(sensors: Sequence[Sensor], frame: Frame) -> np.ndarray:
    height, width = frame.scene.shape[:2]
    side = (width - height) // 2
    tiles = [_caption(cv2.resize(frame.scene[:, side:-side], (_TILE, _TILE), interpolation=cv2.INTER_AREA), "")]
    for sensor in sensors:
        value = frame.observation[sensor.key]
        if sensor.kind in ("rgb", "depth"):
            tile = _camera(value, sensor)
        else:
            newest = value[-1] if sensor.kind == "window" else value
            tile = _bars(newest, np.broadcast_to(sensor.scale, newest.shape))
        tiles.append(_caption(tile, sensor.key))
    return np.vstack(tiles)


def _bars(values: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """A bar per value, up or down from the middle, full height at twice its typical scale."""
    tile = np.full((_TILE, _TILE, 3), 245, np.uint8)
    edges = np.linspace(0, _TILE, len(values) + 1).astype(int)
    heights = np.clip(values / scale / 2.0, -1.0, 1.0) * _TILE / 2
    for left, right, height in zip(edges[:-1], edges[1:], heights.astype(int), strict=True):
        top, bottom = sorted((_TILE // 2, _TILE // 2 - int(height)))
        tile[top : bottom + 1, left + 1 : max(right - 1, left + 2)] = (40, 90, 160)
    return tile


def _caption(tile: np.ndarray, text: str) -> np.ndarray:
    tile = np.ascontiguousarray(tile)
    tile[:1], tile[:, :1] = 255, 255
    if text:
        tile[:22, : 12 + 9 * len(text)] //= 3
        cv2.putText(tile, text, (6, 16), cv2.FONT_HERSHEY_SIMPLEX, 0.45, (255, 255, 255), 1, cv2.LINE_AA)
    return tile


if __name__ == "__main__":
    look = tyro.cli(Look)
    try:
        cameras = look.cameras[:1] if look.faults else look.cameras
        world = World(look.task, 1, robot=look.robot, cameras=cameras, renderer=look.renderer, auto_reset=False)
    except RobofuseError as error:
        raise SystemExit(f"error: {error}") from None
    picture = fault_sheet(world) if look.faults else sheet(world, look.episode, look.moments)
    world.close()
    cv2.imwrite(look.out, np.ascontiguousarray(picture[..., ::-1]))
    print(f"wrote {look.out}, {picture.shape[1]} × {picture.shape[0]} pixels")
