"""Stack: a block onto a shelf that hangs in the air; only depth tells how high, and so where, the shelf is."""

import mujoco
import numpy as np
import torch
from torch import Tensor

from robofuse.envs.cameras import CAMERAS
from robofuse.envs.control import Robot
from robofuse.envs.physics.backend import Backend
from robofuse.envs.robot import Hand
from robofuse.envs.tasks.parts import FIRM, add_tip_touches, away_from, funnel, is_held, square_turn, upright, yaw_of
from robofuse.envs.tasks.task import Task, between, lasting
from robofuse.tensors import span

_HALF_SIZE = (0.016, 0.020)  # m, of the block, a cube
_YAW = 0.25  # rad: the block lies nearly square to the hand, whose palm would else reach the shelf
_FROM = ((-0.17, -0.12), (-0.08, 0.08))  # m, where it lies
_HEIGHT = (0.04, 0.20)  # m, the shelf's top
_MIDDLE, _SIGHT = 0.12, ((0.06, 0.08), (-0.07, 0.07))  # m: the line of sight to the shelf meets this height here
_SHARE, _THICK = 0.075, 0.004  # half size of the shelf as a share of its distance from the camera; m
_ABOVE = 0.03  # m over the shelf: where the block is carried
_STAY = 5  # control steps (a quarter second)


class Stack(Task):
    """Take a block off the table and leave it on a shelf in the air; done when it lies there, released, for 0.25 s.

    The shelf is 4 to 20 cm high, and the larger the farther it is from the camera `scene`: along one line of sight all
    shelves look alike to it, and lie up to 27 cm apart.

    Reward terms, each per control step: `reach` 1 − tanh(5 d), d from the grip site to the block [m]; `grasp` 1 while
    both fingertips touch it, or it is on the shelf; `lift` height gained over that of the shelf and 3 cm, at most 1,
    likewise; `carry` 1 − tanh(5 d), d from the block to its place on the shelf [m], likewise; `success` 1 when done;
    `effort` minus the squared action.
    """

    name = "Stack"
    horizon = 5.0
    weights = {"reach": 0.02, "grasp": 0.02, "lift": 0.03, "carry": 0.08, "success": 10.0, "effort": 0.001}
    draws = 10
    privileged_names = (
        *("block_dx", "block_dy", "block_dz", "block_vx", "block_vy", "block_vz"),
        *("block_x", "block_y", "shelf_x", "shelf_y", "shelf_z", "shelf_half"),
        *("to_shelf_x", "to_shelf_y", "to_shelf_z", "turn", "half"),
        *("touch_left", "touch_right", "stayed"),
    )
    privileged_scale = (
        *(0.1, 0.1, 0.1, 0.3, 0.3, 0.3),
        *(0.1, 0.1, 0.1, 0.1, 0.1, 0.03),
        *(0.1, 0.1, 0.1, 0.3, 0.02),
        *(1.0, 1.0, 1.0),
    )
    phases = ("reach", "contact", "carry")
    visible_names = (
        *("block_dx", "block_dy", "block_dz", "block_x", "block_y", "shelf_x", "shelf_y", "shelf_z"),
        *("to_shelf_x", "to_shelf_y", "to_shelf_z", "turn", "touch_left", "touch_right"),
    )

    def add_objects(self, spec: mujoco.MjSpec, workspace: np.ndarray, hand: Hand) -> None:
        box = mujoco.mjtGeom.mjGEOM_BOX
        firm = {"friction": [1.0, 0.005, 0.0001], **FIRM}
        shelf = spec.worldbody.add_body(name="shelf", mocap=True, pos=workspace + [0.07, 0.0, 0.1])
        # compiled at the largest size: the bounds that MuJoCo derives from it then hold for every world's
        shelf.add_geom(name="shelf", type=box, size=[0.06, 0.06, _THICK], pos=[0.0, 0.0, -_THICK], **firm)
        block = spec.worldbody.add_body(name="block", pos=workspace + [-0.15, 0.0, 0.05])
        block.add_freejoint(name="block")
        block.add_geom(name="block", type=box, size=[_HALF_SIZE[1]] * 3, mass=0.1, condim=3, **firm)
        add_tip_touches(spec, hand, "block")

    def bind(self, backend: Backend, robot: Robot) -> None:
        super().bind(backend, robot)
        m = backend.model
        self._body, self._geom, self._shelf_geom = m.body("block").id, m.geom("block").id, m.geom("shelf").id
        self._qpos, self._dof = int(m.joint("block").qposadr[0]), int(m.joint("block").dofadr[0])
        # live views: where block and shelf are, their sizes, and what the sensors read last
        self._block, self._axes = (backend.field(name)[:, self._body] for name in ("xpos", "xmat"))
        self._shelf = backend.field("mocap_pos")[:, int(m.body("shelf").mocapid[0])]
        sizes = backend.parameter("geom_size")
        self._half, self._shelf_half = sizes[:, self._geom, 0], sizes[:, self._shelf_geom, 0]
        self._sensed = backend.readings[:, -1]
        self._touch = span([int(m.sensor(f"touch_{side}").adr[0]) for side in ("left", "right")])
        self._camera = torch.tensor(CAMERAS["scene"].position, dtype=backend.dtype, device=backend.device)
        self._stayed = torch.zeros(backend.num_envs, dtype=torch.int64, device=backend.device)

    def place(self, env_ids: Tensor, u: Tensor) -> None:
        parameter, qpos = self.backend.parameter, self.backend.field("qpos")
        workspace = self.robot.workspace
        half = between(u[:, 0], *_HALF_SIZE)
        yaw = between(u[:, 1], -_YAW, _YAW)
        spot = torch.stack([between(u[:, 2], *_FROM[0]), between(u[:, 3], *_FROM[1]), half], dim=1)
        qpos[env_ids, self._qpos : self._qpos + 7] = upright(workspace + spot, yaw)
        # the shelf is anywhere on a line of sight, and as large as makes it look alike
        height = between(u[:, 4:5], *_HEIGHT)
        middle = torch.full_like(half, _MIDDLE)
        at = torch.stack([between(u[:, 5], *_SIGHT[0]), between(u[:, 6], *_SIGHT[1]), middle], dim=1)
        camera = self._camera
        shelf = camera + (at - camera) * (camera[2] - height) / (camera[2] - _MIDDLE)
        large = _SHARE * torch.linalg.vector_norm(shelf - camera, dim=1)
        self._shelf[env_ids] = (workspace + shelf).to(self._shelf.dtype)
        parameter("geom_size")[env_ids, self._geom] = half[:, None].expand(-1, 3)
        parameter("body_inertia")[env_ids, self._body] = (0.1 * 2.0 / 3.0 * half.square())[:, None].expand(-1, 3)
        parameter("geom_size")[env_ids, self._shelf_geom, :2] = large[:, None].expand(-1, 2)
        shade = between(u[:, 7:10], 0.15, 0.9).float()
        parameter("geom_rgba")[env_ids, self._shelf_geom, :3] = shade
        parameter("geom_rgba")[env_ids, self._geom, :3] = 1.0 - shade

    def begin(self, worlds: Tensor) -> None:
        self._stayed[worlds] = 0

    def update(self) -> None:
        free = ~self._touching().any(dim=1)
        self._stayed = lasting(self._stayed, self._on_shelf(0.004) & free)

    def terms(self, action: Tensor) -> dict[str, Tensor]:
        both, there = self._touching().all(dim=1).double(), self._on_shelf(0.004).double()
        lifted = (self._block[:, 2] - self._half) / (self._shelf[:, 2] + _ABOVE)
        far = torch.linalg.vector_norm(self._to_shelf(), dim=1)
        return {
            "reach": 1.0 - torch.tanh(5.0 * torch.linalg.vector_norm(self._offset(), dim=1)),
            "grasp": torch.maximum(both, there),
            "lift": torch.maximum(both * lifted.clamp(0.0, 1.0), there),
            "carry": torch.maximum(both, there) * (1.0 - torch.tanh(5.0 * far)),
            "success": self.success().double(),
            "effort": -action.square().sum(dim=1),
        }

    def success(self) -> Tensor:
        return self._stayed >= _STAY

    def phase(self) -> Tensor:
        """Contact: a fingertip touches the block; carry: and it is 2 cm off the table."""
        touched = self._touching().any(dim=1)
        return touched.long() + (touched & (self._block[:, 2] - self._half > 0.02)).long()

    def privileged(self) -> Tensor:
        """Lengths in m. `block_dx` to `block_dz` are from the grip site, `block_x` to `shelf_z` in the workspace.

        `to_shelf` leads from the middle of the block's lower side to the middle of the shelf's top; `turn` is the sine
        of four times the block's yaw relative to the hand's, over 4.
        """
        columns = [
            self._offset(),
            self.backend.field("qvel")[:, self._dof : self._dof + 3],
            (self._block - self.robot.workspace)[:, :2],
            self._shelf - self.robot.workspace,
            self._shelf_half[:, None],
            self._to_shelf(),
            self._turn()[:, None],
            self._half[:, None],
            self._touching(),
            self._stayed[:, None] / _STAY,
        ]
        return torch.cat([column.double() for column in columns], dim=1)

    def expert(self) -> Tensor:
        """As in Grasp down a funnel over the block; then up, over the shelf, down, open, and away."""
        offset, to_shelf, step = self._offset(), self._to_shelf(), self.robot.model.step
        touching = self._touching()
        held, over = is_held(touching, self.robot), to_shelf[:, :2].norm(dim=1)
        free = (over < 0.025) & (to_shelf[:, 2] > -0.010) | self._on_shelf(0.006)
        # with the block: sideways as soon as it is higher than the shelf, and down over its middle
        high = ((0.02 - to_shelf[:, 2] - _ABOVE) / 0.015).clamp(0.0, 1.0)
        down = (1.0 - (over - 0.015) / 0.025).clamp(0.0, 1.0)
        rise = to_shelf[:, 2] + _ABOVE - down * (_ABOVE + 0.002)
        sideways = torch.where((down > 0.0)[:, None], to_shelf[:, :2], high[:, None] * to_shelf[:, :2])
        carry = torch.cat([sideways, rise[:, None]], dim=1)
        away = torch.zeros_like(carry)
        away[:, 2] = torch.where(touching.any(dim=1), 0.0, 0.1)
        aim = torch.where(held[:, None], carry, funnel(offset))
        aim = torch.where(free[:, None], away, aim)
        move = (0.5 * aim / step).clamp(-1.0, 1.0)
        move[:, 2] = move[:, 2].clamp(max=0.6)
        off = away_from(offset)
        turning = torch.where(held | free, 0.0, 0.5 * off * self._turn() / self.robot.model.yaw_step).clamp(-1.0, 1.0)
        grip = torch.where(free, 1.0, torch.where(held, -1.0, 2.0 * off - 1.0))
        return torch.cat([move, turning[:, None], grip[:, None]], dim=1)

    def _offset(self) -> Tensor:
        return self._block - self.robot.position

    def _to_shelf(self) -> Tensor:
        """From the middle of the block's lower side to the middle of the shelf's top, (N, 3) [m]."""
        to_shelf = self._shelf - self._block
        to_shelf[:, 2] += self._half
        return to_shelf

    def _on_shelf(self, height: float) -> Tensor:
        """Bool (N,): the block's middle is over the shelf, its lower side at most so far above it [m]."""
        to_shelf = self._to_shelf()
        return (to_shelf[:, :2].abs() < self._shelf_half[:, None]).all(dim=1) & (to_shelf[:, 2].abs() < height)

    def _turn(self) -> Tensor:
        return square_turn(yaw_of(self._axes.reshape(-1, 9)), self.robot)

    def _touching(self) -> Tensor:
        """Bool (N, 2): the left and the right fingertip touch the block."""
        return self._sensed[:, self._touch] > 0
