"""Sort: put the red one of two blocks into the red one of two trays; only colour tells which is which."""

import math

import mujoco
import numpy as np
import torch
from torch import Tensor

from robofuse.envs.control import Robot
from robofuse.envs.physics.backend import Backend
from robofuse.envs.robot import Hand
from robofuse.envs.tasks.parts import FIRM, add_tip_touches, away_from, funnel, is_held, square_turn, upright, yaw_of
from robofuse.envs.tasks.task import Task, between, lasting
from robofuse.tensors import span

_HALF_SIZE = (0.016, 0.022)  # m, of both blocks, which are cubes
_BLOCKS, _TRAYS = ("block_0", "block_1"), ("tray_0", "tray_1")
_TRAY_AT = ((0.06, -0.09), (0.06, 0.09))  # m, in the workspace
_TRAY_HALF, _WALL = 0.055, (0.004, 0.010)  # m: inside; half thickness and half height of a wall
_CARRY, _DROP = 0.09, 0.045  # m above the table: where a block is carried, and below which it is let go
_STAY = 5  # control steps (a quarter second)


class Sort(Task):
    """Two cubes alike but for colour, two trays likewise: the red cube lies in the red tray, released, for 0.25 s.

    Where the cubes lie, which of them is red, and on which side the red tray is, changes. A hand that takes any cube to
    any tray is right in a quarter of the episodes.

    Reward terms, each per control step: `reach` 1 − tanh(5 d), d from the grip site to the red cube [m]; `grasp` 1
    while both fingertips touch it, or it lies in its tray; `lift` height gained over 9 cm, at most 1, likewise; `carry`
    1 − tanh(5 d), d from the cube to the middle of its tray on the table [m], likewise; `success` 1 when done; `effort`
    minus the squared action.
    """

    name = "Sort"
    horizon = 5.0
    weights = {"reach": 0.02, "grasp": 0.02, "lift": 0.03, "carry": 0.08, "success": 10.0, "effort": 0.001}
    draws = 12
    privileged_names = (
        *("red_dx", "red_dy", "red_dz", "red_vx", "red_vy", "red_vz"),
        *("red_x", "red_y", "blue_x", "blue_y", "tray_side"),
        *("tray_dx", "tray_dy", "turn_cos4", "turn_sin4", "half"),
        *("lift", "touch_left", "touch_right", "stayed"),
    )
    privileged_scale = (
        *(0.1, 0.1, 0.1, 0.3, 0.3, 0.3),
        *(0.1, 0.1, 0.1, 0.1, 1.0),
        *(0.1, 0.1, 1.0, 1.0, 0.02),
        *(0.1, 1.0, 1.0, 1.0),
    )
    phases = ("reach", "contact", "carry")
    visible_names = (
        *("red_dx", "red_dy", "red_dz", "red_x", "red_y", "tray_side", "tray_dx", "tray_dy"),
        *("turn_cos4", "turn_sin4", "lift", "touch_left", "touch_right"),
    )

    def add_objects(self, spec: mujoco.MjSpec, workspace: np.ndarray, hand: Hand) -> None:
        box = mujoco.mjtGeom.mjGEOM_BOX
        for tray, (x, y) in zip(_TRAYS, _TRAY_AT, strict=True):
            middle, (thick, high), half = workspace + [x, y, 0.0], _WALL, _TRAY_HALF
            floor = {"type": box, "size": [half, half, 0.0005], "contype": 0, "conaffinity": 0}
            spec.worldbody.add_geom(name=f"{tray}_floor", pos=middle + [0.0, 0.0, 0.0005], **floor)
            for side, (dx, dy) in enumerate(((1, 0), (-1, 0), (0, 1), (0, -1))):
                out = half + thick
                size = [thick if dx else half + 2.0 * thick, thick if dy else half, high]
                spec.worldbody.add_geom(
                    name=f"{tray}_wall_{side}", type=box, size=size, pos=middle + [dx * out, dy * out, high]
                )
        for number, block in enumerate(_BLOCKS):
            body = spec.worldbody.add_body(name=block, pos=workspace + [-0.08, 0.2 * number - 0.1, 0.05])
            body.add_freejoint(name=block)
            body.add_geom(
                name=block, type=box, size=[_HALF_SIZE[1]] * 3, mass=0.1, condim=3, friction=[1.0, 0.005, 0.0001],
                **FIRM,
            )  # fmt: skip
            add_tip_touches(spec, hand, block, f"_{number}")

    def bind(self, backend: Backend, robot: Robot) -> None:
        super().bind(backend, robot)
        m, device = backend.model, backend.device
        self._bodies = [m.body(block).id for block in _BLOCKS]
        self._geoms = [m.geom(block).id for block in _BLOCKS]
        self._qpos = [int(m.joint(block).qposadr[0]) for block in _BLOCKS]
        self._dof = [int(m.joint(block).dofadr[0]) for block in _BLOCKS]
        parts = [[m.geom(g).id for g in range(m.ngeom) if m.geom(g).name.startswith(tray)] for tray in _TRAYS]
        self._tray_geoms = parts
        # live views: where the blocks are, what colours and sizes are, and what the sensors read last
        self._places = backend.field("xpos")[:, self._bodies[0] : self._bodies[1] + 1]
        self._colours, self._sizes = backend.parameter("geom_rgba"), backend.parameter("geom_size")
        self._sensed = backend.readings[:, -1]
        names = [f"touch_{side}_{number}" for number in (0, 1) for side in ("left", "right")]
        self._touch = span([int(m.sensor(name).adr[0]) for name in names])
        self._trays = robot.workspace[:2] + torch.tensor(_TRAY_AT, dtype=robot.workspace.dtype, device=device)
        self._stayed = torch.zeros(backend.num_envs, dtype=torch.int64, device=device)

    def place(self, env_ids: Tensor, u: Tensor) -> None:
        parameter, qpos, dof = self.backend.parameter, self.backend.field("qpos"), u.dtype
        half = between(u[:, 0], *_HALF_SIZE)
        first_red, tray_0_red = (u[:, 1] < 0.5).to(dof), (u[:, 2] < 0.5).to(dof)
        shade = between(u[:, 3], 0.6, 0.9)
        for number in (0, 1):
            away, along, turn = u[:, 4 + 3 * number], u[:, 5 + 3 * number], u[:, 6 + 3 * number]
            side = 2.0 * number - 1.0
            spot = torch.stack([between(away, -0.13, -0.04), side * between(along, 0.05, 0.12), half], dim=1)
            yaw, start = between(turn, -math.pi, math.pi), self._qpos[number]
            qpos[env_ids, start : start + 7] = upright(self.robot.workspace + spot, yaw)
            is_red = first_red if number == 0 else 1.0 - first_red
            tray_is_red = tray_0_red if number == 0 else 1.0 - tray_0_red
            geom, body = self._geoms[number], self._bodies[number]
            parameter("geom_size")[env_ids, geom] = half[:, None].expand(-1, 3)
            parameter("geom_rgba")[env_ids, geom, :3] = _painted(is_red, shade).float()
            parameter("body_inertia")[env_ids, body] = (0.1 * 2.0 / 3.0 * half.square())[:, None].expand(-1, 3)
            for part in self._tray_geoms[number]:
                parameter("geom_rgba")[env_ids, part, :3] = _painted(tray_is_red, 0.8 * shade).float()

    def begin(self, worlds: Tensor) -> None:
        self._stayed[worlds] = 0

    def update(self) -> None:
        free = ~self._touching().any(dim=1)
        self._stayed = lasting(self._stayed, self._inside(0.012) & free)

    def terms(self, action: Tensor) -> dict[str, Tensor]:
        both, there = self._touching().all(dim=1).double(), self._inside(0.012).double()
        far = torch.linalg.vector_norm(self._to_tray(), dim=1)
        return {
            "reach": 1.0 - torch.tanh(5.0 * torch.linalg.vector_norm(self._offset(), dim=1)),
            "grasp": torch.maximum(both, there),
            "lift": torch.maximum(both * (self._lifted() / _CARRY).clamp(0.0, 1.0), there),
            "carry": torch.maximum(both, there) * (1.0 - torch.tanh(5.0 * far)),
            "success": self.success().double(),
            "effort": -action.square().sum(dim=1),
        }

    def success(self) -> Tensor:
        return self._stayed >= _STAY

    def phase(self) -> Tensor:
        """Contact: a fingertip touches the red block; carry: and it is 2 cm off the table."""
        touched = self._touching().any(dim=1)
        return touched.long() + (touched & (self._lifted() > 0.02)).long()

    def privileged(self) -> Tensor:
        """Lengths in m. `red_x` to `blue_y` are in the workspace, `red_dx` to `red_dz` from the grip site.

        `tray_side` is −1 or 1, `tray_dx` and `tray_dy` lead from the red block to the middle of its tray; `turn` is the
        block's yaw relative to the hand's, four times it, since a cube can be taken by either pair of sides.
        """
        red = self._red()
        turn = 4.0 * (self._yaw() - self.robot.yaw)[:, None]
        blue = _chosen(self._places, 1 - red)
        velocities = self.backend.field("qvel")
        speeds = torch.stack([velocities[:, start : start + 3] for start in self._dof], dim=1)
        columns = [
            self._offset(),
            _chosen(speeds, red),
            (self._target() - self.robot.workspace)[:, :2],
            (blue - self.robot.workspace)[:, :2],
            2.0 * self._red_tray()[:, None] - 1.0,
            self._to_tray(),
            torch.cos(turn),
            torch.sin(turn),
            self._sizes[:, self._geoms[0], :1],
            self._lifted()[:, None],
            self._touching(),
            self._stayed[:, None] / _STAY,
        ]
        return torch.cat([column.double() for column in columns], dim=1)

    def expert(self) -> Tensor:
        """As in Grasp down a funnel over the red block; then up, over its tray, down, open, and away."""
        offset, to_tray, lifted = self._offset(), self._to_tray(), self._lifted()
        touching = self._touching()
        held = is_held(touching, self.robot)
        over = to_tray.norm(dim=1)
        let_go = self._inside(_DROP) & (over < 0.035)
        # with the block: sideways as soon as it is high enough, and down over the tray
        high = ((lifted - 0.03) / 0.03).clamp(0.0, 1.0)
        down = (1.0 - (over - 0.015) / 0.02).clamp(0.0, 1.0)
        sideways = high[:, None] * to_tray
        rise = _CARRY - lifted - down * (_CARRY - 0.6 * _DROP)
        carry = torch.cat([sideways, rise[:, None]], dim=1)
        carry[:, :2] = torch.where((down > 0.0)[:, None], to_tray, carry[:, :2])
        away = torch.zeros_like(carry)
        away[:, 2] = torch.where(touching.any(dim=1), 0.0, 0.1)
        aim = torch.where(held[:, None], carry, funnel(offset))
        aim = torch.where(let_go[:, None], away, aim)
        move = (0.5 * aim / self.robot.model.step).clamp(-1.0, 1.0)
        move[:, 2] = move[:, 2].clamp(max=0.6)
        off, turn = away_from(offset), square_turn(self._yaw(), self.robot)
        turning = torch.where(held | let_go, 0.0, 0.5 * off * turn / self.robot.model.yaw_step).clamp(-1.0, 1.0)
        grip = torch.where(let_go, 1.0, torch.where(held, -1.0, 2.0 * off - 1.0))
        return torch.cat([move, turning[:, None], grip[:, None]], dim=1)

    def _red(self) -> Tensor:
        """Number of the red block, int64 (N,)."""
        return self._is_red(self._geoms[1]).long()

    def _red_tray(self) -> Tensor:
        """Number of the red tray, int64 (N,)."""
        return self._is_red(self._tray_geoms[1][0]).long()

    def _is_red(self, geom: int) -> Tensor:
        return self._colours[:, geom, 0] > self._colours[:, geom, 2]

    def _target(self) -> Tensor:
        return _chosen(self._places, self._red())

    def _offset(self) -> Tensor:
        return self._target() - self.robot.position

    def _to_tray(self) -> Tensor:
        return self._trays[self._red_tray()] - self._target()[:, :2]

    def _lifted(self) -> Tensor:
        return self._target()[:, 2] - self._sizes[:, self._geoms[0], 2]

    def _inside(self, height: float) -> Tensor:
        """Bool (N,): the red block is over its tray, less than so far above the table [m]."""
        return (self._to_tray().abs() < _TRAY_HALF).all(dim=1) & (self._lifted() < height)

    def _yaw(self) -> Tensor:
        axes = self.backend.field("xmat")[:, self._bodies[0] : self._bodies[1] + 1].reshape(-1, 2, 9)
        return yaw_of(_chosen(axes, self._red()))

    def _touching(self) -> Tensor:
        """Bool (N, 2): the left and the right fingertip touch the red block."""
        return _chosen((self._sensed[:, self._touch] > 0).reshape(-1, 2, 2), self._red())


def _chosen(both: Tensor, which: Tensor) -> Tensor:
    """(N, …) of (N, 2, …), each row by its number."""
    return both[torch.arange(len(both), device=both.device), which]


def _painted(red: Tensor, shade: Tensor) -> Tensor:
    """Colours (n, 3): red where it is 1, else blue, of the same lightness."""
    dark = 0.15 * shade
    return torch.stack([torch.where(red > 0, shade, dark), dark, torch.where(red > 0, dark, shade)], dim=1)
