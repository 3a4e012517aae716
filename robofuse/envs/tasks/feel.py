"""Feel: pull a plate out of a slot inside an opaque box; only proprioception tells where in there the hand is."""

import mujoco
import numpy as np
import torch
from torch import Tensor

from robofuse.envs.control import Robot
from robofuse.envs.physics.backend import Backend
from robofuse.envs.robot import Hand
from robofuse.envs.tasks.parts import FIRM, add_tip_touches, upright
from robofuse.envs.tasks.task import Task, between, lasting
from robofuse.tensors import span

_PLATE = (0.02, 0.006, 0.035)  # m, half extents; it stands on its edge, its faces toward the fingers
_SLOT = (0.001, 0.006, 0.008)  # m: clearance around the plate, half thickness and half height of its walls
_BOX = (0.25, 0.25, 0.40)  # m: half width, half depth, height; it hides the hand from the camera `scene`
_HANDLE = (0.265, 0.126, 0.23)  # m, on the front of the box, relative to its middle
_SPOT, _OFF = 0.05, 0.02  # m: the box's places, along x and y; how far off its middle the plate stands, along y
_GRIP, _OUT = 0.045, 0.08  # m above the table: the grip site that takes the plate; how far it is pulled up
_STAY = 5  # control steps (a quarter second)


class Feel(Task):
    """A hand inside a closed box pulls a plate out of its slot; done when held 8 cm up for 0.25 s.

    Cameras see the box from outside, and on it a handle: so they tell where the box is, but never the hand. Where in
    the box the hand is, proprioception tells. The plate stands up to 2 cm left or right of the box's middle, which
    shows when one finger touches it before the other.

    Reward terms, each per control step: `reach` 1 − tanh(5 d), d from the grip site to where it takes the plate [m];
    `grasp` 1 while both fingertips touch the plate; `lift` height gained over 8 cm, at most 1, while both touch;
    `hold` share of the quarter second done; `success` 1 when done; `effort` minus the squared action.
    """

    name = "Feel"
    horizon = 5.0
    weights = {"reach": 0.02, "grasp": 0.03, "lift": 0.06, "hold": 0.10, "success": 10.0, "effort": 0.001}
    draws = 9
    privileged_names = (
        *("plate_dx", "plate_dy", "plate_dz", "box_x", "box_y", "box_dx", "box_dy", "off"),
        *("lift", "touch_left", "touch_right", "stayed"),
    )
    privileged_scale = (
        *(0.1, 0.1, 0.1, 0.05, 0.05, 0.1, 0.1, 0.02),
        *(0.1, 1.0, 1.0, 1.0),
    )
    phases = ("reach", "contact", "pull")

    def add_objects(self, spec: mujoco.MjSpec, workspace: np.ndarray, hand: Hand) -> None:
        box, unfelt = mujoco.mjtGeom.mjGEOM_BOX, {"contype": 0, "conaffinity": 0, "group": 1}
        cover = spec.worldbody.add_body(name="box", mocap=True, pos=workspace)
        wide, deep, high = _BOX
        # a lid and four sides: what is inside a solid box would still be seen from within it
        cover.add_geom(name="box_top", type=box, size=[wide, deep, 0.002], pos=[0.0, 0.0, high], **unfelt)
        for side, (dx, dy) in enumerate(((1, 0), (-1, 0), (0, 1), (0, -1))):
            size = [0.002 if dx else wide, 0.002 if dy else deep, high / 2.0]
            cover.add_geom(name=f"box_{side}", type=box, size=size, pos=[dx * wide, dy * deep, high / 2.0], **unfelt)
        cover.add_geom(name="handle", type=box, size=[0.015, 0.03, 0.012], pos=_HANDLE, **unfelt)
        slot = spec.worldbody.add_body(name="slot", mocap=True, pos=workspace)
        gap, thick, tall = _SLOT
        for side, (dx, dy) in enumerate(((1, 0), (-1, 0), (0, 1), (0, -1))):
            out = [_PLATE[0] + gap + thick, _PLATE[1] + gap + thick]
            size = [thick if dx else _PLATE[0] + gap + 2.0 * thick, thick if dy else _PLATE[1] + gap, tall]
            slot.add_geom(name=f"slot_{side}", type=box, size=size, pos=[dx * out[0], dy * out[1], tall], **FIRM)
        plate = spec.worldbody.add_body(name="plate", pos=workspace + [0.0, 0.0, _PLATE[2]])
        plate.add_freejoint(name="plate")
        plate.add_geom(
            name="plate", type=box, size=_PLATE, mass=0.1, condim=3, friction=[1.0, 0.005, 0.0001],
            rgba=[0.85, 0.65, 0.1, 1.0], **FIRM,
        )  # fmt: skip
        add_tip_touches(spec, hand, "plate")

    def bind(self, backend: Backend, robot: Robot) -> None:
        super().bind(backend, robot)
        m = backend.model
        self._qpos = int(m.joint("plate").qposadr[0])
        self._plate = backend.field("xpos")[:, m.body("plate").id]
        places = backend.field("mocap_pos")
        self._box, self._slot = (places[:, int(m.body(name).mocapid[0])] for name in ("box", "slot"))
        self._sides = [m.geom(f"box_{side}").id for side in ("top", 0, 1, 2, 3)]
        self._handle = m.geom("handle").id
        self._sensed = backend.readings[:, -1]
        self._touch = span([int(m.sensor(f"touch_{side}").adr[0]) for side in ("left", "right")])
        self._stayed = torch.zeros(backend.num_envs, dtype=torch.int64, device=backend.device)

    def place(self, env_ids: Tensor, u: Tensor) -> None:
        colours = self.backend.parameter("geom_rgba")
        zero = torch.zeros_like(u[:, 0])
        box = self.robot.workspace + torch.cat([between(u[:, 0:2], -_SPOT, _SPOT), zero[:, None]], dim=1)
        slot = box + torch.stack([zero, between(u[:, 2], -_OFF, _OFF), zero], dim=1)
        self._box[env_ids], self._slot[env_ids] = box, slot
        stands = slot + torch.stack([zero, zero, zero + _PLATE[2]], dim=1)
        self.backend.field("qpos")[env_ids, self._qpos : self._qpos + 7] = upright(stands, zero)
        shade, handle = between(u[:, 3:6], 0.25, 0.5).float(), between(u[:, 6:9], 0.65, 1.0).float()
        for side in self._sides:
            colours[env_ids, side, :3] = shade
        colours[env_ids, self._handle, :3] = handle

    def begin(self, worlds: Tensor) -> None:
        self._stayed[worlds] = 0

    def update(self) -> None:
        self._stayed = lasting(self._stayed, self._touching().all(dim=1) & (self._lifted() >= _OUT))

    def terms(self, action: Tensor) -> dict[str, Tensor]:
        both = self._touching().all(dim=1).double()
        return {
            "reach": 1.0 - torch.tanh(5.0 * torch.linalg.vector_norm(self._offset(), dim=1)),
            "grasp": both,
            "lift": both * (self._lifted() / _OUT).clamp(0.0, 1.0),
            "hold": (self._stayed / _STAY).clamp(max=1.0),
            "success": self.success().double(),
            "effort": -action.square().sum(dim=1),
        }

    def success(self) -> Tensor:
        return self._stayed >= _STAY

    def phase(self) -> Tensor:
        """Contact: a fingertip touches the plate; pull: and it is 1 cm up."""
        touched = self._touching().any(dim=1)
        return touched.long() + (touched & (self._lifted() > 0.01)).long()

    def privileged(self) -> Tensor:
        """Lengths in m. `plate_dx` to `plate_dz` are from the grip site to where it takes the plate.

        `box_x` and `box_y` are in the workspace, `box_dx` and `box_dy` from the grip site; `off` is how far left of the
        box's middle the slot is.
        """
        columns = [
            self._offset(),
            (self._box - self.robot.workspace)[:, :2],
            (self._box - self.robot.position)[:, :2],
            (self._slot - self._box)[:, 1:2],
            self._lifted()[:, None],
            self._touching(),
            self._stayed[:, None] / _STAY,
        ]
        return torch.cat([column.double() for column in columns], dim=1)

    def expert(self) -> Tensor:
        """Down over the box's middle with open fingers, and close; the hand follows the finger that touches; up.

        Until a finger touches, it goes by what cameras can know.
        """
        touching, offset, step = self._touching(), self._offset(), self.robot.model.step
        middle = self._box - self.robot.position
        both = touching.all(dim=1)
        aim = torch.stack([middle[:, 0], torch.where(touching.any(dim=1), offset[:, 1], middle[:, 1])], dim=1)
        beside = middle[:, :2].norm(dim=1)
        # down a funnel; the sides do not count once it is low enough
        low = (1.0 - (offset[:, 2].abs() - 0.015) / 0.01).clamp(0.0, 1.0)
        height = (2.0 * (beside - 0.004)).clamp(0.0, 0.07) * (1.0 - low)
        rise = torch.where(both, _OUT + 0.02 - self._lifted(), offset[:, 2] + height)
        move = (0.5 * torch.cat([aim, rise[:, None]], dim=1) / step).clamp(-1.0, 1.0)
        move[:, 2] = move[:, 2].clamp(max=0.5)
        turning = (-0.5 * self.robot.yaw / self.robot.model.yaw_step).clamp(-1.0, 1.0)[:, None]
        grip = torch.where(both, -1.0, 1.0 - 2.0 * low)
        return torch.cat([move, turning, grip[:, None]], dim=1)

    def _offset(self) -> Tensor:
        """From the grip site to where it takes the plate, in its slot or lifted, (N, 3) [m]."""
        offset = self._plate - self.robot.position
        offset[:, 2] += _GRIP - _PLATE[2]
        return offset

    def _lifted(self) -> Tensor:
        return self._plate[:, 2] - _PLATE[2]

    def _touching(self) -> Tensor:
        """Bool (N, 2): the left and the right fingertip touch the plate."""
        return self._sensed[:, self._touch] > 0
