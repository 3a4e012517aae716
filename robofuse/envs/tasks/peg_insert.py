"""PegInsert: a held peg into a hole under a brush; only force tells on which edge of the hole the peg stands."""

import mujoco
import numpy as np
import torch
from torch import Tensor

from robofuse.arrays import as_tensor
from robofuse.envs.control import Robot
from robofuse.envs.physics.backend import Backend
from robofuse.envs.robot import ROBOT_PREFIX, Hand
from robofuse.envs.tasks.parts import add_touch
from robofuse.envs.tasks.task import Task, between, lasting
from robofuse.tensors import span

_PEG = (0.028, 0.028, 0.035)  # m, half extents
_ROUND = 0.0015  # m, of its edges
_OUT = 0.025  # m from the grip site to the peg's middle, out of the fingers
_TIP = _OUT + _PEG[2]  # m from the grip site to the peg's end
_HOLE = 0.0285  # m, half width: a millimetre wider than the peg
_SOCKET, _COVER = (0.055, 0.03), (0.065, 0.002)  # m, half width and height; the brush is higher by its second
_OFF = 0.005  # m, how far from the middle of its cover the hole may lie, along x and y
_SPOT, _RISE = 0.08, 0.008  # m, the socket's places, along x and y and up
_DEEP = 0.015  # m into the hole: seated
_STAY = 3  # control steps
_LIMIT = 80.0  # N
_STRIDE = 0.005  # m: twice the step with which the expert looks for the hole
_SPRING, _PRESS = 4000.0, 25.0  # N/m of the peg's holder; N with which the expert presses it down


class PegInsert(Task):
    """A held peg, 5.6 cm square, into a hole 1 mm wider; done when 1.5 cm deep, if never pushed too hard.

    A brush covers the hole. Cameras see the brush; the hole is up to 5 mm off its middle, along x and along y. A peg
    that stands on an edge of the hole is pushed up on that side, which the torque at the wrist tells. A force on the
    wrist above 80 N, at any time, and the episode cannot succeed any more.

    Reward terms, each per control step: `reach` 1 − tanh(5 d), d from the peg's end to the hole's opening [m]; `align`
    1 − tanh(300 e) while the end is at most 1 cm above the opening, e its distance from the hole's axis [m]; `depth`
    the part of 1.5 cm that the peg is in the hole; `success` 1 when done; `gentle` minus the force on the wrist above
    half the limit, over the limit (40 N more cost 0.1 a step); `effort` minus the squared action.
    """

    name = "PegInsert"
    horizon = 5.0
    weights = {"reach": 0.02, "align": 0.03, "depth": 0.10, "success": 10.0, "gentle": 0.2, "effort": 0.001}
    draws = 9
    privileged_names = (
        *("hole_dx", "hole_dy", "hole_dz", "cover_dx", "cover_dy", "cover_x", "cover_y", "cover_z"),
        *("off_x", "off_y", "depth", "touching", "force", "spoilt"),
    )
    privileged_scale = (
        *(0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.01),
        *(0.005, 0.005, 0.01, 1.0, 20.0, 1.0),
    )
    phases = ("reach", "contact", "insert")
    visible_names = (
        *("hole_dz", "cover_dx", "cover_dy", "cover_x", "cover_y", "off_x", "off_y", "depth", "touching", "force"),
    )

    def add_objects(self, spec: mujoco.MjSpec, workspace: np.ndarray, hand: Hand) -> None:
        box, (wide, high) = mujoco.mjtGeom.mjGEOM_BOX, _SOCKET
        firm = {"solref": [0.01, 1.0], "solimp": [0.99, 0.999, 0.001, 0.5, 2.0], "friction": [0.05, 0.005, 0.0001]}
        socket = spec.worldbody.add_body(name="socket", mocap=True, pos=workspace)
        half = (wide - _HOLE) / 2.0
        for side, (dx, dy) in enumerate(((1, 0), (-1, 0), (0, 1), (0, -1))):
            size = [half if dx else wide, half if dy else _HOLE, high / 2.0]
            socket.add_geom(
                name=f"socket_{side}", type=box, size=size, pos=[dx * (_HOLE + half), dy * (_HOLE + half), -high / 2.0],
                rgba=[0.55, 0.56, 0.58, 1.0], **firm,
            )  # fmt: skip
        cover = spec.worldbody.add_body(name="cover", mocap=True, pos=workspace)
        cover.add_geom(
            name="cover", type=box, size=[_COVER[0], _COVER[0], (high + _COVER[1]) / 2.0], contype=0, conaffinity=0,
            pos=[0.0, 0.0, (_COVER[1] - high) / 2.0], rgba=[0.2, 0.35, 0.75, 1.0],
        )  # fmt: skip
        grip = spec.site(hand.grip)
        forward = np.zeros(3)
        mujoco.mju_rotVecQuat(forward, np.array([0.0, 0.0, _OUT]), np.array(grip.quat))
        peg = grip.parent.add_body(name="peg", pos=np.array(grip.pos) + forward, quat=grip.quat, gravcomp=1.0)
        # It gives way along its axis, as a compliant tool holder does: a stiff arm would hit the socket with 100 N. The
        # armature keeps the contact from trembling: MuJoCo's contacts are as stiff as what touches is heavy.
        peg.add_joint(
            name="peg", type=mujoco.mjtJoint.mjJNT_SLIDE, axis=[0.0, 0.0, 1.0], stiffness=[_SPRING] * 3,
            damping=[200.0] * 3, armature=3.0, range=[-0.012, 0.012], limited=True,
        )  # fmt: skip
        peg.add_geom(name="peg", type=box, size=_PEG, mass=0.05, contype=0, conaffinity=0, rgba=[0.9, 0.55, 0.1, 1.0])
        # It touches with balls around its end: where two boxes overlap by millimetres, MuJoCo may push them sideways
        # apart, and the peg would slip into the hole by itself. Bits as of all that is the robot's: the fingers, whose
        # friction would hold it, do not touch it.
        out = _PEG[0] - _ROUND
        for number, (dx, dy) in enumerate((x, y) for x in (-1, 0, 1) for y in (-1, 0, 1) if x or y):
            peg.add_geom(
                name=f"peg_{number}", type=mujoco.mjtGeom.mjGEOM_SPHERE, size=[_ROUND, 0.0, 0.0], mass=0.0, contype=2,
                conaffinity=1, pos=[dx * out, dy * out, _PEG[2] - _ROUND], rgba=[0.9, 0.55, 0.1, 1.0], **firm,
            )  # fmt: skip
        add_touch(spec, "touch_socket", "peg", mujoco.mjtObj.mjOBJ_BODY, "socket")

    def bind(self, backend: Backend, robot: Robot) -> None:
        super().bind(backend, robot)
        m = backend.model
        self._mocap = [int(m.body(name).mocapid[0]) for name in ("socket", "cover")]
        self._places = backend.field("mocap_pos")
        self._peg, self._peg_axes = (backend.field(name)[:, m.body("peg").id] for name in ("xpos", "xmat"))
        self._sensed = backend.readings[:, -1]
        self._touch = span([int(m.sensor("touch_socket").adr[0])])
        self._fingers = [int(m.joint(ROBOT_PREFIX + name).qposadr[0]) for name in robot.model.fingers]
        n, device = backend.num_envs, backend.device
        self._stayed = torch.zeros(n, dtype=torch.int64, device=device)
        self._spoilt = torch.zeros(n, dtype=torch.bool, device=device)
        self._force = torch.zeros(n, dtype=backend.dtype, device=device)

    def place(self, env_ids: Tensor, u: Tensor) -> None:
        spot = torch.cat([between(u[:, 0:2], -_SPOT, _SPOT), _SOCKET[1] + between(u[:, 2:3], -_RISE, _RISE)], dim=1)
        cover = self.robot.workspace + spot
        off = torch.cat([between(u[:, 3:5], -_OFF, _OFF), torch.zeros_like(u[:, :1])], dim=1)
        self._places[env_ids, self._mocap[0]] = cover + off
        self._places[env_ids, self._mocap[1]] = cover
        shade = between(u[:, 5:8], 0.15, 0.85)
        self.backend.parameter("geom_rgba")[env_ids, self.backend.model.geom("cover").id, :3] = shade.float()
        for finger in self._fingers:  # around the peg
            self.backend.field("qpos")[env_ids, finger] = _PEG[1]

    def begin(self, worlds: Tensor) -> None:
        self._stayed[worlds] = 0
        self._spoilt[worlds] = False
        self._force[worlds] = 0.0

    def update(self) -> None:
        self._force = self.robot.peak_force().to(self._force.dtype)
        self._spoilt = self._spoilt | (self._force > _LIMIT)
        self._stayed = lasting(self._stayed, self._depth() >= _DEEP)

    def terms(self, action: Tensor) -> dict[str, Tensor]:
        offset, depth = self._offset(), self._depth()
        beside = torch.linalg.vector_norm(offset[:, :2], dim=1)
        near = offset[:, 2] > -0.01
        return {
            "reach": 1.0 - torch.tanh(5.0 * torch.linalg.vector_norm(offset, dim=1)),
            "align": near * (1.0 - torch.tanh(300.0 * beside)),
            "depth": (depth / _DEEP).clamp(0.0, 1.0),
            "success": self.success().double(),
            "gentle": -((self._force - 0.5 * _LIMIT) / _LIMIT).clamp(min=0.0),
            "effort": -action.square().sum(dim=1),
        }

    def success(self) -> Tensor:
        return (self._stayed >= _STAY) & ~self._spoilt

    def phase(self) -> Tensor:
        """Contact: the peg touches the socket; insert: and it is 1 mm deep in the hole."""
        inside = self._depth() > 0.001
        return (self._touching() | inside).long() + inside.long()

    def privileged(self) -> Tensor:
        """Lengths in m. `hole` and `cover` lead from the peg's end to the middles of the hole's opening and its cover.

        `off` is how far the hole is from the middle of its cover, `force` the largest on the wrist in the last control
        step [N], `spoilt` 1 once it has been too large.
        """
        hole, cover = (self._places[:, number] for number in self._mocap)
        columns = [
            hole - self._end(),
            (cover - self._end())[:, :2],
            cover[:, :2] - self.robot.workspace[:2],
            cover[:, 2:] - _SOCKET[1],
            (hole - cover)[:, :2],
            self._depth()[:, None],
            self._touching()[:, None],
            self._force[:, None],
            self._spoilt[:, None],
        ]
        return torch.cat([column.double() for column in columns], dim=1)

    def expert(self) -> Tensor:
        """To the middle of the cover, down until it touches; with a light push toward the hole; and down.

        Away from the socket it goes by what cameras can know. What it does in contact, the force tells.
        """
        hole, pushed = self._offset(), self._pushed()
        cover = (self._places[:, self._mocap[1]] - self._end())[:, :2]
        height = -hole[:, 2]
        # in contact in steps of one size: the torque tells the direction, but hardly how far
        sideways = torch.where((height < 0.002)[:, None], (4.0 * hole[:, :2]).clamp(-_STRIDE, _STRIDE), cover)
        beside = sideways.norm(dim=1)
        funnel = height - (2.0 * (beside - 0.004)).clamp(0.0, 0.05)
        step = self.robot.model.step
        down = (0.5 * funnel / step).clamp(-0.5, 0.5)
        pressing = ((_PRESS - pushed) / (2.0 * _SPRING * step)).clamp(-0.2, 0.12)
        down = torch.where(height < 0.03, torch.minimum(down, pressing), down)
        down = torch.where(height < 0.005, pressing, down)
        move = (0.5 * sideways / step).clamp(-0.5, 0.5)
        turning = (-0.5 * self.robot.yaw / self.robot.model.yaw_step).clamp(-1.0, 1.0)[:, None]
        around = torch.full_like(turning, 4.0 * _PEG[1] / self.robot.max_gap - 1.0)
        return torch.cat([move, -down[:, None], turning, around], dim=1)

    def _end(self) -> Tensor:
        """Middle of the peg's lower end, (N, 3) [m]."""
        return self._peg + _PEG[2] * self._peg_axes.reshape(-1, 3, 3)[:, :, 2]

    def _offset(self) -> Tensor:
        """From the peg's end to the middle of the hole's opening, (N, 3) [m]."""
        return self._places[:, self._mocap[0]] - self._end()

    def _depth(self) -> Tensor:
        """How deep the peg is in the hole, (N,) [m]; 0 beside it."""
        offset = self._offset()
        inside = (offset[:, :2].abs() < 2.0 * (_HOLE - _PEG[0])).all(dim=1)
        return inside * offset[:, 2].clamp(min=0.0)

    def _touching(self) -> Tensor:
        """Bool (N,): the peg touches the socket."""
        return (self._sensed[:, self._touch] > 0).squeeze(1)

    def _pushed(self) -> Tensor:
        """How hard the socket pushes the peg up, (N,) [N]: that part of the last wrist reading."""
        return -as_tensor(self.robot.wrench())[:, -1, 2]
