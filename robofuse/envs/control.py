"""A robot in N worlds: Cartesian actions to servo targets, and its own joint readings."""

import math
from typing import Any

import mujoco
import numpy as np
import torch
from torch import Tensor

from robofuse.envs.backend import Backend
from robofuse.envs.robot import FORCE_SENSORS, ROBOT_PREFIX, RobotModel, is_servo
from robofuse.errors import InputError
from robofuse.tensors import Rows, span

ACTION = ("x", "y", "z", "yaw", "gripper")
# how far the commanded pose may run ahead of the hand, so that a push against the table does not wind up
_LEASH, _YAW_LEASH, _GAP_LEASH = 0.05, 0.4, 0.03
_MAX_YAW = math.pi / 2
# damped least squares: damping, and how fast what the task leaves free is drawn toward home
_DAMPING, _POSTURE_GAIN = 0.03, 0.1
_ENCODER_NOISE = {"hinge": (5e-4, 5e-3), "slide": (1e-4, 1e-3)}  # rad, rad/s; m, m/s


class Robot:
    """Actuation, proprioception and wrist wrench of one robot in N worlds.

    An action is a step of the commanded hand pose: x, y, z of the grip site [world frame, `RobotModel.step` m each],
    a turn about the vertical [`yaw_step` rad], and the gap between the fingers (−1 closed, 1 open, reached at
    `gap_step` m a control step). The servos are given the joint positions that damped least squares finds for the
    commanded pose from the measured one, so a load deflects the hand like a spring and does not make it creep.

    Attributes:
        workspace: (3,) middle of the workspace on the table [m].
        position: (N, 3) measured grip site [m].
        yaw: (N,) measured turn of the hand about the vertical [rad], 0 at home.
        gap: (N,) distance between the finger pads [m].
        max_gap: gap when fully open [m].
    """

    def __init__(self, model: RobotModel, backend: Backend) -> None:
        """Looks up the robot's parts in the backend's model; call `reset` before the first `apply`."""
        self.model, self.backend = model, backend
        m, device, n = backend.model, backend.device, backend.num_envs

        def ids(names: tuple[str, ...], lookup: str) -> list[int]:
            return [getattr(m, lookup)(ROBOT_PREFIX + name).id for name in names]

        joints, fingers = ids(model.joints, "joint"), ids(model.fingers, "joint")
        arrays = (m.actuator_trntype, m.actuator_gainprm, m.actuator_biasprm)
        servo = {int(m.actuator_trnid[a, 0]): a for a in range(m.nu) if is_servo(*(array[a] for array in arrays))}
        self._joints, self._num_joints = span(joints), len(joints)
        qpos = m.jnt_qposadr[joints + fingers].tolist()
        self._qpos, self._dof = span(qpos), span(m.jnt_dofadr[joints + fingers].tolist())
        self._joint_qpos, self._finger_qpos = span(qpos[: len(joints)]), span(qpos[len(joints) :])
        self._servos = span([servo[j] for j in joints + fingers])
        self._num_encoders = 2 * len(qpos)
        self._grip, self._wrist = ids((model.grip_site, model.wrist_site), "site")
        slide = m.jnt_type[joints + fingers] == mujoco.mjtJoint.mjJNT_SLIDE
        self._slide = torch.tensor(slide[: len(joints)], device=device)
        self._slides = self._slide if self._slide.any() else None
        limited = torch.tensor(m.jnt_limited[joints], dtype=torch.bool)
        ranges = torch.tensor(m.jnt_range[joints])
        self._low = torch.where(limited, ranges[:, 0], -torch.inf).to(device)
        self._high = torch.where(limited, ranges[:, 1], torch.inf).to(device)
        self._open = torch.tensor(m.jnt_range[fingers][:, 1], device=device)
        self.max_gap = float(self._open.sum())
        self._finger_share = self._open / self.max_gap
        self._home = torch.tensor(model.home, dtype=torch.float64, device=device)
        sigma = [_ENCODER_NOISE["slide" if s else "hinge"] for s in slide]
        self._noise = torch.tensor([s[0] for s in sigma] + [s[1] for s in sigma], device=device)

        self.workspace = torch.tensor(model.workspace(), device=device)
        home_axes = torch.tensor(model.home_pose()[1], device=device)
        self._from_home = home_axes.T.contiguous()
        # home turned about the vertical by an angle: cos · the first + sin · the second + the third
        flat, up = torch.diag(torch.tensor([1.0, 1.0, 0.0]).to(home_axes)), torch.zeros_like(home_axes)
        quarter, up[2, 2] = torch.zeros_like(home_axes), 1.0
        quarter[0, 1], quarter[1, 0] = -1.0, 1.0
        self._turned_home = [part @ home_axes for part in (flat, quarter, up)]
        (reach_x, reach_y), far = model.reach, torch.tensor([math.inf], device=device)
        self._scale = torch.tensor([*[model.step] * 3, model.yaw_step], dtype=torch.float64, device=device)
        self._leash = torch.tensor([*[_LEASH] * 3, _YAW_LEASH], dtype=torch.float64, device=device)
        low, high = (-reach_x, -reach_y, model.height[0]), (reach_x, reach_y, model.height[1])
        self._box_low = torch.cat([self.workspace + torch.tensor(low, device=device), -far])
        self._box_high = torch.cat([self.workspace + torch.tensor(high, device=device), far])
        hand = int(m.site_bodyid[self._wrist])
        self._hand, self._weight = hand, float(m.body_subtreemass[hand]) * torch.tensor(m.opt.gravity, device=device)
        self._force = span([int(x) for name in FORCE_SENSORS for x in range(*_extent(m.sensor(name)))])

        self._target = torch.zeros(n, 4, dtype=torch.float64, device=device)  # position and yaw
        self._target_gap = torch.full((n,), self.max_gap, dtype=torch.float64, device=device)

    @property
    def proprio_names(self) -> tuple[str, ...]:
        """What each entry of `proprio` is."""
        parts = (*self.model.joints, *self.model.fingers)
        hand = tuple(f"hand_{axis}" for axis in "xyz") + ("cos_yaw", "sin_yaw")
        speed = tuple(f"hand_v{axis}" for axis in "xyz")
        return (*parts, *(f"{part}_velocity" for part in parts), *hand, *speed)

    @property
    def proprio_scale(self) -> tuple[float, ...]:
        """Typical magnitude of each entry of `proprio`."""
        joints = [0.2 if slide else 1.5 for slide in self._slide.tolist()]
        fingers = self._open.tolist()
        return (*joints, *fingers, *[1.0] * len(joints), *[0.1] * len(fingers), *[0.2] * 3, 1.0, 1.0, *[0.3] * 3)

    def reset(self, env_ids: Tensor) -> None:
        """Put worlds `env_ids` at home with open fingers; `settle` must follow the backend's `commit`."""
        start = torch.cat([self._home, self._open])
        for name, columns in (("qpos", self._qpos), ("ctrl", self._servos)):
            values = self.backend.field(name)[env_ids]
            values[:, columns] = start
            self.backend.field(name)[env_ids] = values

    def settle(self, env_ids: Tensor) -> None:
        """Take the present pose of worlds `env_ids` as the commanded one."""
        self.update()
        self._target[env_ids] = self._pose[env_ids]
        self._target_gap[env_ids] = self.gap[env_ids]

    def update(self) -> None:
        """Read the pose of the hand and its Jacobian after the physics has moved."""
        field = self.backend.field
        self._axes = field("site_xmat")[:, self._grip].reshape(-1, 3, 3)
        turn = self._axes @ self._from_home
        self.yaw = torch.atan2(turn[:, 1, 0], turn[:, 0, 0])
        self._pose = torch.cat([field("site_xpos")[:, self._grip], self.yaw[:, None]], dim=1)
        self.position = self._pose[:, :3]
        anchors, axes = (field(name)[:, self._joints] for name in ("xanchor", "xaxis"))
        self._jacobian = jacobian(self.position, anchors, axes, self._slides)
        self.gap = field("qpos")[:, self._finger_qpos].sum(dim=1)

    def apply(self, action: Tensor) -> None:
        """Set servo targets from actions (N, 5) in [−1, 1], order `ACTION`; see the class for their meaning."""
        action = action.to(self._target)
        target = self._target + self._scale * action[:, :4]
        target[:, 3].clamp_(-_MAX_YAW, _MAX_YAW)
        target = self._pose + (target - self._pose).clamp(-self._leash, self._leash)
        self._target = target.clamp(self._box_low, self._box_high)
        wanted = 0.5 * (action[:, 4] + 1.0) * self.max_gap
        gap = self._target_gap + (wanted - self._target_gap).clamp(-self.model.gap_step, self.model.gap_step)
        self._target_gap = gap.maximum(self.gap - _GAP_LEASH).clamp(0.0, self.max_gap)

        flat, quarter, up = self._turned_home
        yaw = self._target[:, 3, None, None]
        axes = torch.cos(yaw) * flat + torch.sin(yaw) * quarter + up
        error = torch.cat([self._target[:, :3] - self.position, rotation_error(axes, self._axes)], dim=1)
        measured = self.backend.field("qpos")[:, self._joint_qpos]
        step = damped_step(self._jacobian, error, measured, self._low, self._high, self._home)
        fingers = self._target_gap[:, None] * self._finger_share
        self.backend.field("ctrl")[:, self._servos] = torch.cat([measured + step, fingers], dim=1)

    @property
    def num_encoders(self) -> int:
        """Position and velocity encoders, of joints and fingers."""
        return self._num_encoders

    def proprio(self, rows: Rows, noise: Tensor) -> Tensor:
        """Joint readings and the hand's pose from forward kinematics, float64 (n, P), entries `proprio_names`.

        Args:
            rows: worlds to read.
            noise: standard normal (n, num_encoders), or zeros. The pose and velocity of the hand follow from the
                noisy joints to first order, as they would on a robot.

        Returns:
            rad and m, rad/s and m/s; the hand's position relative to the middle of the workspace.
        """
        wrong, n = noise * self._noise, self._num_joints
        columns = self.backend.field("qpos")[:, self._qpos], self.backend.field("qvel")[:, self._dof]
        encoders, pose, jacobian = torch.cat(columns, dim=1), self._pose, self._jacobian
        if isinstance(rows, Tensor):
            encoders, pose, jacobian = (x.index_select(0, rows) for x in (encoders, pose, jacobian))
        encoders += wrong
        moved = (jacobian @ wrong[:, :n, None])[..., 0]
        speeds = encoders[:, self._num_encoders // 2 :]
        velocity = (jacobian[:, :3] @ speeds[:, :n, None])[..., 0]
        position, yaw = pose[:, :3] - self.workspace + moved[:, :3], pose[:, 3:] + moved[:, 5:]
        return torch.cat([encoders, position, torch.cos(yaw), torch.sin(yaw), velocity], dim=1)

    def wrench(self, readings: Tensor) -> Tensor:
        """Readings of the force sensors, less the hand's own weight (tared).

        Args:
            readings: (N, W, nsensordata) of the backend.

        The orientation of the weight is the present one, at most one control step newer than the readings.

        Returns:
            float64 (N, W, 8): force [N] and torque [N·m] that hand and load exert on the wrist, in the frame of the
            wrist site, and the normal forces [N] at the two fingertips. The hand's inertia is not taken off.
        """
        axes = self.backend.field("site_xmat")[:, self._wrist].reshape(-1, 3, 3)
        lever = self.backend.field("subtree_com")[:, self._hand] - self.backend.field("site_xpos")[:, self._wrist]
        weight = self._weight.expand_as(lever)
        own = torch.stack([weight, torch.linalg.cross(lever, weight)], dim=1) @ axes
        measured = readings[..., self._force]
        # MuJoCo reports what the wrist exerts on the hand
        return torch.cat([-(measured[..., :6] + own.reshape(-1, 1, 6)), measured[..., 6:]], dim=2)


def _extent(sensor: Any) -> tuple[int, int]:  # noqa: ANN401
    """First and last column + 1 of a sensor's readings."""
    return int(sensor.adr[0]), int(sensor.adr[0] + sensor.dim[0])


def checked(action: Tensor | np.ndarray, num_envs: int, device: torch.device) -> Tensor:
    """Actions (N, 5) as float64, clipped to [−1, 1]; ValueError for another shape, and for NaN or Inf anywhere."""
    try:
        action = torch.as_tensor(action, dtype=torch.float64, device=device)
    except (TypeError, ValueError, RuntimeError):
        raise InputError(f"actions must be numbers of shape ({num_envs}, 5), got {action!r}") from None
    if action.shape != (num_envs, 5):
        raise InputError(f"actions must have shape ({num_envs}, 5), got {tuple(action.shape)}")
    if not action.isfinite().all():
        world, index = (~action.isfinite()).nonzero()[0].tolist()
        value = float(action[world, index])
        raise InputError(f"action of world {world} has {value} at index {index}; nothing moved")
    return action.clamp(-1.0, 1.0)


def jacobian(point: Tensor, anchors: Tensor, axes: Tensor, slides: Tensor | None) -> Tensor:
    """Geometric Jacobian of a point at the end of a serial chain.

    Args:
        point: (N, 3) world position [m].
        anchors: (N, J, 3) world positions of the joints (MuJoCo's `xanchor`).
        axes: (N, J, 3) world directions of the joints (`xaxis`).
        slides: bool (J,), True for a slide joint, False for a hinge; None if all are hinges.

    Returns:
        (N, 6, J): rows are the linear velocity [m/s] and the angular velocity [rad/s] per unit joint speed.
    """
    linear = torch.linalg.cross(axes, point[:, None] - anchors)
    if slides is not None:
        linear = torch.where(slides[:, None], axes, linear)
        axes = axes * ~slides[:, None]
    return torch.cat([linear, axes], dim=2).transpose(1, 2)


def rotation_error(target: Tensor, current: Tensor) -> Tensor:
    """Rotation vector (N, 3) [rad, world frame] that turns `current` to `target`, both (N, 3, 3); exact to first order.

    The sine of the angle stands for the angle, so errors near 180 degrees vanish; callers keep theirs below 90.
    """
    return 0.5 * torch.linalg.cross(current, target, dim=1).sum(dim=2)


def damped_step(
    jacobian: Tensor, error: Tensor, position: Tensor, low: Tensor, high: Tensor, posture: Tensor
) -> Tensor:
    """Joint displacement that reduces a pose error by damped least squares (Wampler 1986), within joint ranges.

    The error is solved for in full; what the task leaves free is drawn toward `posture`. Joints that would leave their
    range stop at its end, and the others take over what they can of the rest.

    Args:
        jacobian: (N, 6, J).
        error: (N, 6), [m, rad].
        position: (N, J) joint positions.
        low: (J,) ends of the ranges, −inf where there is none.
        high: (J,) likewise.
        posture: (J,) preferred joint positions.

    Returns:
        (N, J) displacement; position + displacement lies within [low, high].
    """
    pull = _POSTURE_GAIN * (posture - position)
    reached = position + _solve(jacobian, error, pull)
    within = reached.clamp(low, high)
    if not torch.equal(reached, within):
        outside = reached != within
        stopped = torch.where(outside, within - position, 0.0)
        free = torch.where(outside[:, None], 0.0, jacobian)
        rest = error - (jacobian @ stopped[..., None])[..., 0]
        step = torch.where(outside, stopped, _solve(free, rest, torch.where(outside, 0.0, pull)))
        within = (position + step).clamp(low, high)
    return within - position


def _solve(jacobian: Tensor, error: Tensor, pull: Tensor) -> Tensor:
    transposed = jacobian.transpose(1, 2)
    squared = jacobian @ transposed
    squared.diagonal(dim1=1, dim2=2).add_(_DAMPING**2)
    # pull first, then the error that is left including what the pull caused: the projection without forming I − J⁺J
    left = error - (jacobian @ pull[..., None])[..., 0]
    return pull + (transposed @ torch.linalg.solve(squared, left[..., None]))[..., 0]
