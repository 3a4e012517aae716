"""What several tasks are made of: firm contacts, sensors of touch, poses, and how to come to a thing and to hold it."""

import mujoco
import torch
from torch import Tensor

from robofuse.envs.control import Robot
from robofuse.envs.robot import Hand

FIRM = {"solref": [0.01, 1.0], "solimp": [0.95, 0.99, 0.001, 0.5, 2.0]}
"""Contact parameters of things that are grasped: a soft contact creeps."""


def add_touch(spec: mujoco.MjSpec, name: str, body: str, kind: mujoco.mjtObj, other: str) -> None:
    """Add a sensor that reads more than 0 while a body touches a geom, a body, or what is inside a site."""
    found, first = 1 << int(mujoco.mjtConDataField.mjCONDATA_FOUND), 1
    spec.add_sensor(
        name=name,
        type=mujoco.mjtSensor.mjSENS_CONTACT,
        objtype=kind,
        objname=other,
        reftype=mujoco.mjtObj.mjOBJ_BODY,
        refname=body,
        intprm=[found, 0, first],
    )


def add_tip_touches(spec: mujoco.MjSpec, hand: Hand, body: str, ending: str = "") -> None:
    """Add `touch_left` and `touch_right`, with this ending: whether the fingertips touch a body."""
    for tip, side in zip((hand.left_tip, hand.right_tip), ("left", "right"), strict=True):
        add_touch(spec, f"touch_{side}{ending}", body, mujoco.mjtObj.mjOBJ_SITE, tip)


def upright(position: Tensor, yaw: Tensor) -> Tensor:
    """The pose, as a free joint has it, (n, 7), of what stands at a position (n, 3) [m], turned by (n,) [rad]."""
    zero = torch.zeros_like(yaw)
    return torch.cat([position, torch.stack([torch.cos(yaw / 2), zero, zero, torch.sin(yaw / 2)], dim=1)], dim=1)


def yaw_of(axes: Tensor) -> Tensor:
    """Turn about the vertical, (n,) [rad], of orientations (n, 9)."""
    return torch.atan2(axes[:, 3], axes[:, 0])


def square_turn(yaw: Tensor, robot: Robot) -> Tensor:
    """How far to turn the hand to stand square to a box, (N,) [rad], for small turns.

    A box can be taken by either pair of sides: it is the sine of four times the turn, over 4; 0 at every quarter turn,
    and half-way between.
    """
    return torch.sin(4.0 * (yaw - robot.yaw)) / 4.0


def funnel(offset: Tensor) -> Tensor:
    """Where to go, (N, 3) [m], to come down on what is at an offset (N, 3) from above: higher the farther it is off."""
    height = (2.0 * (offset[:, :2].norm(dim=1) - 0.008)).clamp(0.0, 0.07)
    return torch.cat([offset[:, :2], (offset[:, 2] + height)[:, None]], dim=1)


def away_from(offset: Tensor) -> Tensor:
    """0 where the grip site is around what is at an offset (N, 3) [m], 1 from a centimetre on, (N,).

    A continuous number, so that who copies an expert from pictures, and is a centimetre off, does nearly the same.
    """
    return torch.maximum(offset[:, 2].abs() - 0.010, offset[:, :2].norm(dim=1) - 0.015).div(0.010).clamp(0.0, 1.0)


def is_held(touching: Tensor, robot: Robot) -> Tensor:
    """Bool (N,): both fingertips touch it, bool (N, 2), and have closed a little."""
    left, right = touching.unbind(1)
    return left & right & (robot.gap < 0.9 * robot.max_gap)
