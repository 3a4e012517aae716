"""Grasp: take a block off the table, lift it 10 cm and hold it there."""

import math

import mujoco
import numpy as np
import torch
from torch import Tensor

from robofuse.envs.control import Robot
from robofuse.envs.physics.backend import Backend
from robofuse.envs.robot import Hand
from robofuse.envs.tasks.parts import (
    FIRM,
    add_tip_touches,
    add_touch,
    away_from,
    funnel,
    is_held,
    square_turn,
    upright,
    yaw_of,
)
from robofuse.envs.tasks.task import Task, between, lasting
from robofuse.tensors import span

_HALF_SIZE = (0.015, 0.025)  # m
_MASS = (0.05, 0.20)  # kg
_FRICTION = (0.7, 1.2)
_LIFT, _HOLD = 0.10, 10  # m, control steps (half a second)


class Grasp(Task):
    """A block of random place (20 × 20 cm), yaw, size, mass, friction and colour; done when held 10 cm up for 0.5 s.

    Held means: both fingertips touch the block, and the block does not touch the table.

    Reward terms, each per control step: `reach` 1 − tanh(5 d), d from the grip site to the block's middle [m], a point
    the hand can reach; `grasp` 1 while both fingertips touch the block; `lift` height gained over 10 cm, at most 1,
    while both touch; `hold` share of the half second done; `success` 1 when done, worth more than lingering below;
    `effort` minus the squared action.
    """

    name = "Grasp"
    horizon = 5.0
    weights = {"reach": 0.02, "grasp": 0.02, "lift": 0.06, "hold": 0.10, "success": 10.0, "effort": 0.001}
    draws = 11
    privileged_names = (
        *("block_x", "block_y", "yaw_cos4", "yaw_sin4"),
        *("block_dx", "block_dy", "block_dz", "block_vx", "block_vy", "block_vz"),
        *("block_xx", "block_xy", "block_xz", "block_yx", "block_yy", "block_yz"),
        *("half_x", "half_y", "half_z", "mass", "friction"),
        *("turn_cos4", "turn_sin4"),
        *("lift", "touch_left", "touch_right", "touch_table", "held"),
    )

    privileged_scale = (
        *(0.1, 0.1, 1.0, 1.0),
        *(0.1, 0.1, 0.1, 0.3, 0.3, 0.3),
        *[1.0] * 6,
        *(0.02, 0.02, 0.02, 0.1, 1.0),
        *(1.0, 1.0),
        *(0.1, 1.0, 1.0, 1.0, 1.0),
    )
    phases = ("reach", "contact", "lift")
    visible_names = (
        *("block_x", "block_y", "yaw_cos4", "yaw_sin4"),
        *("block_dx", "block_dy", "block_dz", "turn_cos4", "turn_sin4"),
        *("lift", "touch_left", "touch_right", "touch_table"),
    )

    def add_objects(self, spec: mujoco.MjSpec, workspace: np.ndarray, hand: Hand) -> None:
        block = spec.worldbody.add_body(name="block", pos=workspace + [0.0, 0.0, 0.05])
        block.add_freejoint(name="block")
        # compiled at the largest size: the bounds that MuJoCo derives from it then hold for every world's block
        block.add_geom(
            name="block",
            type=mujoco.mjtGeom.mjGEOM_BOX,
            size=[_HALF_SIZE[1]] * 3,
            mass=0.1,
            rgba=[0.8, 0.1, 0.1, 1.0],
            condim=3,
            friction=[1.0, 0.005, 0.0001],
            **FIRM,
        )
        add_tip_touches(spec, hand, "block")
        add_touch(spec, "touch_table", "block", mujoco.mjtObj.mjOBJ_GEOM, "table")

    def bind(self, backend: Backend, robot: Robot) -> None:
        super().bind(backend, robot)
        m = backend.model
        self._body, self._geom = m.body("block").id, m.geom("block").id
        self._qpos, self._dof = int(m.joint("block").qposadr[0]), int(m.joint("block").dofadr[0])
        # live views: where the block is, how high its middle is when it lies, and what the sensors read last
        self._block, self._rest = backend.field("xpos")[:, self._body], backend.parameter("geom_size")[:, self._geom, 2]
        self._sensed = backend.readings[:, -1]
        self._touch = span([int(m.sensor(f"touch_{part}").adr[0]) for part in ("left", "right", "table")])
        self._both_alone = torch.tensor([True, True, False], device=backend.device)  # of `_touching`
        self._held = torch.zeros(backend.num_envs, dtype=torch.int64, device=backend.device)

    def place(self, env_ids: Tensor, u: Tensor) -> None:
        parameter, qpos = self.backend.parameter, self.backend.field("qpos")
        half = between(u[:, 0:3], *_HALF_SIZE)
        mass = between(u[:, 3], *_MASS)
        yaw = between(u[:, 6], -math.pi, math.pi)
        spot = torch.stack([between(u[:, 4], -0.1, 0.1), between(u[:, 5], -0.1, 0.1), half[:, 2]], dim=1)
        qpos[env_ids, self._qpos : self._qpos + 7] = upright(self.robot.workspace + spot, yaw)
        parameter("geom_size")[env_ids, self._geom] = half
        parameter("geom_friction")[env_ids, self._geom, 0] = between(u[:, 7], *_FRICTION)
        parameter("geom_rgba")[env_ids, self._geom, :3] = _colour(u[:, 8:11]).float()
        parameter("body_mass")[env_ids, self._body] = mass
        squared = half.square()
        parameter("body_inertia")[env_ids, self._body] = (
            mass[:, None] / 3.0 * (squared.sum(dim=1, keepdim=True) - squared)
        )

    def begin(self, worlds: Tensor) -> None:
        self._held[worlds] = 0

    def update(self) -> None:
        grasped = (self._touching() == self._both_alone).all(dim=1)
        self._held = lasting(self._held, grasped & (self._lifted() >= _LIFT))

    def terms(self, action: Tensor) -> dict[str, Tensor]:
        both = self._touching()[:, :2].all(dim=1).double()
        return {
            "reach": 1.0 - torch.tanh(5.0 * torch.linalg.vector_norm(self._offset(), dim=1)),
            "grasp": both,
            "lift": both * (self._lifted() / _LIFT).clamp(0.0, 1.0),
            "hold": (self._held / _HOLD).clamp(max=1.0),
            "success": self.success().double(),
            "effort": -action.square().sum(dim=1),
        }

    def success(self) -> Tensor:
        return self._held >= _HOLD

    def phase(self) -> Tensor:
        """Contact: a fingertip touches the block; lift: and the block is off the table."""
        left, right, table = self._touching().unbind(1)
        touched = left | right
        return touched.long() + (touched & ~table).long()

    def privileged(self) -> Tensor:
        """Lengths in m, the block's x and y axes in the world frame, touches 0 or 1.

        `block_x`, `block_y` are in the workspace, `block_dx` to `block_dz` from the grip site. `turn` is the block's
        yaw relative to the hand's; four times it, since a box can be taken by either pair of sides.

        Touches are those of the last physics step, 5 ms older than the poses.
        """
        field, parameter = self.backend.field, self.backend.parameter
        axes = field("xmat")[:, self._body].reshape(-1, 3, 3)
        yaw = 4.0 * torch.atan2(axes[:, 1, 0], axes[:, 0, 0])[:, None]
        turn = yaw - 4.0 * self.robot.yaw[:, None]
        columns = [
            (self._block - self.robot.workspace)[:, :2],
            torch.cos(yaw),
            torch.sin(yaw),
            self._offset(),
            field("qvel")[:, self._dof : self._dof + 3],
            axes[:, :, 0],
            axes[:, :, 1],
            parameter("geom_size")[:, self._geom],
            parameter("body_mass")[:, self._body, None],
            parameter("geom_friction")[:, self._geom, :1],
            torch.cos(turn),
            torch.sin(turn),
            self._lifted()[:, None],
            self._touching(),
            self._held[:, None] / _HOLD,
        ]
        return torch.cat([column.double() for column in columns], dim=1)

    def expert(self) -> Tensor:
        """Down a funnel over the block, turn square to it, close, lift, hold; what to do follows from where things are.

        Close to the block every entry but the lift is a continuous function of the state, so that who copies it from
        pictures, and is a centimetre or a few degrees off, does nearly the same.
        """
        offset, touching = self._offset(), self._touching()[:, :2]
        held = is_held(touching, self.robot)
        turn = square_turn(yaw_of(self.backend.field("xmat")[:, self._body].reshape(-1, 9)), self.robot)
        to_block = funnel(offset)
        up = torch.zeros_like(to_block)
        up[:, 2] = (_LIFT + 0.03) - self._lifted()
        aim = torch.where(held[:, None], up, to_block)
        move = (0.5 * aim / self.robot.model.step).clamp(-1.0, 1.0)
        move[:, 2] = move[:, 2].clamp(max=0.6)
        away = away_from(offset)
        turning = torch.where(held, 0.0, 0.5 * away * turn / self.robot.model.yaw_step).clamp(-1.0, 1.0)
        grip = torch.where(held, -1.0, 2.0 * away - 1.0)
        return torch.cat([move, turning[:, None], grip[:, None]], dim=1)

    def _offset(self) -> Tensor:
        return self._block - self.robot.position

    def _lifted(self) -> Tensor:
        return self._block[:, 2] - self._rest

    def _touching(self) -> Tensor:
        """Bool (N, 3): the left and the right fingertip touch the block, and the table does."""
        return self._sensed[:, self._touch] > 0


def _colour(u: Tensor) -> Tensor:
    """Saturated colours (n, 3) from uniform hue, saturation and value."""
    hue, saturation, value = u[:, 0:1] * 6.0, between(u[:, 1:2], 0.6, 1.0), between(u[:, 2:3], 0.5, 1.0)
    corner = torch.tensor([5.0, 3.0, 1.0], dtype=u.dtype, device=u.device)
    k = (hue + corner) % 6.0
    return value * (1.0 - saturation * torch.minimum(k, 4.0 - k).clamp(0.0, 1.0))
