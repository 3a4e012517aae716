"""A robot in N worlds: Cartesian actions to servo targets, and its own joint readings."""

import math
from typing import Any

import mujoco
import numpy as np
import torch
from torch import Tensor

from robofuse.arrays import (
    Array,
    as_tensor,
    atan2,
    clip,
    columns,
    concatenate,
    cos_sin,
    cross,
    float32,
    like,
    maximum,
    product,
    rows_of,
    solve,
    where,
    write_rows,
    zeros,
)
from robofuse.envs.physics.backend import Backend
from robofuse.envs.robot import FORCE_SENSORS, ROBOT_PREFIX, RobotModel, is_servo
from robofuse.errors import InputError
from robofuse.tensors import Worlds, on_cpu

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
        m, n = backend.model, backend.num_envs

        def ids(names: tuple[str, ...], lookup: str) -> list[int]:
            return [getattr(m, lookup)(ROBOT_PREFIX + name).id for name in names]

        kind = backend.array("qpos")  # constants are arrays like this one
        joints, fingers = ids(model.joints, "joint"), ids(model.fingers, "joint")
        arrays = (m.actuator_trntype, m.actuator_gainprm, m.actuator_biasprm)
        servo = {int(m.actuator_trnid[a, 0]): a for a in range(m.nu) if is_servo(*(array[a] for array in arrays))}
        self._joints, self._num_joints = columns(joints, kind), len(joints)
        qpos, dof = (array[joints + fingers].tolist() for array in (m.jnt_qposadr, m.jnt_dofadr))
        self._qpos, self._dof = columns(qpos, kind), columns(dof, kind)
        self._joint_qpos, self._finger_qpos = columns(qpos[: len(joints)], kind), columns(qpos[len(joints) :], kind)
        self._servos = columns([servo[j] for j in joints + fingers], kind)
        self._num_encoders = 2 * len(qpos)
        self._grip, self._wrist = ids((model.grip_site, model.wrist_site), "site")
        slide = m.jnt_type[joints + fingers] == mujoco.mjtJoint.mjJNT_SLIDE
        self._slide, self._slides = slide[: len(joints)], None
        if self._slide.any():
            self._slides = self._slide if isinstance(kind, np.ndarray) else torch.tensor(self._slide).to(kind.device)
        limited, (low, high) = m.jnt_limited[joints].astype(bool), m.jnt_range[joints].T
        self._low, self._high = (
            like(x, kind) for x in (np.where(limited, low, -np.inf), np.where(limited, high, np.inf))
        )
        self._open = m.jnt_range[fingers][:, 1].copy()
        self.max_gap = float(self._open.sum())
        self._finger_share = like(self._open / self.max_gap, kind)
        self._home = like(model.home, kind)
        self._start = as_tensor(like([*model.home, *self._open], kind))
        sizes = np.array([_ENCODER_NOISE["slide" if s else "hinge"] for s in slide], np.float32).T.ravel()
        self._noise = sizes if isinstance(kind, np.ndarray) else like(sizes, kind)

        middle, home_axes = model.workspace(), model.home_pose()[1]
        self.workspace = torch.from_numpy(middle).to(backend.device, backend.dtype)
        self._middle, self._from_home = like(middle, kind), like(np.tile(home_axes.T, (n, 1, 1)), kind)
        # home turned about the vertical by an angle: cos · the first + sin · the second + the third
        (x, y, z), none = home_axes, np.zeros(3)
        turned = np.array([x, y, none]), np.array([-y, x, none]), np.array([none, none, z])
        self._turned_home = tuple(like(part, kind) for part in turned)
        (reach_x, reach_y), (lowest, highest) = (np.array(x, np.float32) for x in (model.reach, model.height))
        self._scale = like([*[model.step] * 3, model.yaw_step], kind)
        self._leash = like([*[_LEASH] * 3, _YAW_LEASH], kind)
        self._box_low = like([*(middle + [-reach_x, -reach_y, lowest]), -np.inf], kind)
        self._box_high = like([*(middle + [reach_x, reach_y, highest]), np.inf], kind)
        self._hand = int(m.site_bodyid[self._wrist])
        weight = float(m.body_subtreemass[self._hand]) * m.opt.gravity
        self._weight = like(np.tile(weight, (n, 1)), kind)
        self._force = columns([int(x) for name in FORCE_SENSORS for x in range(*_extent(m.sensor(name)))], kind)

        # position and yaw; gap
        self._target, self._target_gap = zeros((n, 4), kind), zeros((n,), kind) + self.max_gap

    @property
    def proprio_names(self) -> tuple[str, ...]:
        """What each entry of `proprio` is."""
        return tuple(entry.name for entry in self.model.entries()["proprio"])

    @property
    def proprio_scale(self) -> tuple[float, ...]:
        """Typical magnitude of each entry of `proprio`."""
        joints = [0.2 if slide else 1.5 for slide in self._slide.tolist()]
        fingers = self._open.tolist()
        return (*joints, *fingers, *[1.0] * len(joints), *[0.1] * len(fingers), *[0.2] * 3, 1.0, 1.0, *[0.3] * 3)

    def reset(self, env_ids: Tensor) -> None:
        """Put worlds `env_ids`, int64 (n,), at home with open fingers; `settle` must follow the backend's `commit`."""
        for name, where_to in (("qpos", self._qpos), ("ctrl", self._servos)):
            values = self.backend.field(name)[env_ids]
            values[:, where_to] = self._start
            self.backend.field(name)[env_ids] = values

    def settle(self, worlds: Worlds) -> None:
        """Take the present pose of worlds as the commanded one."""
        self.update()
        write_rows(self._target, worlds, rows_of(self._pose, worlds))
        write_rows(self._target_gap, worlds, rows_of(self._gap, worlds))

    def update(self) -> None:
        """Read the pose of the hand and its Jacobian after the physics has moved."""
        self._axes = self.backend.array("site_xmat")[:, self._grip].reshape(-1, 3, 3)
        turn = product(self._axes, self._from_home)
        yaw = atan2(turn[:, 1, 0], turn[:, 0, 0])
        position = self.backend.array("site_xpos")[:, self._grip]
        self._pose = concatenate([position, yaw[:, None]], 1)
        anchors, axes = (self.backend.array(name)[:, self._joints] for name in ("xanchor", "xaxis"))
        self._jacobian = jacobian(position, anchors, axes, self._slides)
        self._gap = self.backend.array("qpos")[:, self._finger_qpos].sum(axis=1)
        pose, self.gap = as_tensor(self._pose), as_tensor(self._gap)
        self.position, self.yaw = pose[:, :3], pose[:, 3]

    def apply(self, action: Tensor) -> None:
        """Set servo targets from actions (N, 5) in [−1, 1], order `ACTION`; see the class for their meaning."""
        pose = self._pose
        moves = action.double().numpy() if isinstance(pose, np.ndarray) else action.to(pose.dtype)
        target = self._target + self._scale * moves[:, :4]
        target[:, 3] = clip(target[:, 3], -_MAX_YAW, _MAX_YAW)
        target = pose + clip(target - pose, -self._leash, self._leash)
        self._target = clip(target, self._box_low, self._box_high)
        wanted, most = 0.5 * (moves[:, 4] + 1.0) * self.max_gap, self.model.gap_step
        gap = self._target_gap + clip(wanted - self._target_gap, -most, most)
        self._target_gap = clip(maximum(gap, self._gap - _GAP_LEASH), 0.0, self.max_gap)

        flat, quarter, up = self._turned_home
        cosine, sine = cos_sin(self._target[:, 3])
        axes = cosine[:, None, None] * flat + sine[:, None, None] * quarter + up
        error = concatenate([self._target[:, :3] - pose[:, :3], rotation_error(axes, self._axes)], 1)
        measured = self.backend.array("qpos")[:, self._joint_qpos]
        step = damped_step(self._jacobian, error, measured, self._low, self._high, self._home)
        servos = concatenate([measured + step, self._target_gap[:, None] * self._finger_share], 1)
        self.backend.field("ctrl")[:, self._servos] = as_tensor(servos)

    @property
    def num_encoders(self) -> int:
        """Position and velocity encoders, of joints and fingers."""
        return self._num_encoders

    def proprio(self, worlds: Worlds, noise: Array | None) -> Tensor:
        """Joint readings and the hand's pose from forward kinematics, float32 (n, P), entries `proprio_names`.

        Args:
            worlds: which to read.
            noise: standard normal (n, num_encoders), None for none. The pose and velocity of the hand follow from the
                noisy joints to first order, as they would on a robot.

        Returns:
            rad and m, rad/s and m/s; the hand's position relative to the middle of the workspace.
        """
        n, backend = self._num_joints, self.backend
        encoders = concatenate([backend.array("qpos")[:, self._qpos], backend.array("qvel")[:, self._dof]], 1)
        encoders, pose, jacobian = (rows_of(x, worlds) for x in (encoders, self._pose, self._jacobian))
        wrong = (zeros(encoders.shape, encoders) if noise is None else noise) * self._noise
        encoders = encoders + wrong
        speeds = encoders[:, self._num_encoders // 2 :]
        moved = product(jacobian, wrong[:, :n, None])[..., 0]
        velocity = product(jacobian[:, :3], speeds[:, :n, None])[..., 0]
        position = pose[:, :3] - self._middle + moved[:, :3]
        heading = [x[:, None] for x in cos_sin(pose[:, 3] + moved[:, 5])]
        return float32(concatenate([encoders, position, *heading, velocity], 1))

    def wrench(self) -> Array:
        """Readings of the force sensors during the last control step, less the hand's own weight (tared).

        The orientation of the weight is the present one, at most one control step newer than the readings.

        Returns:
            (N, W, 8), an array of the backend's kind: force [N] and torque [N·m] that hand and load exert on the wrist,
            in the frame of the wrist site, and the normal forces [N] at the two fingertips. The hand's inertia is not
            taken off.
        """
        axes = self.backend.array("site_xmat")[:, self._wrist].reshape(-1, 3, 3)
        lever = self.backend.array("subtree_com")[:, self._hand] - self.backend.array("site_xpos")[:, self._wrist]
        own = concatenate([self._weight[:, None], cross(lever, self._weight)[:, None]], 1)
        readings = self.backend.readings
        readings = (readings.numpy() if isinstance(lever, np.ndarray) else readings)[..., self._force]
        # MuJoCo reports what the wrist exerts on the hand
        hand = -(readings[..., :6] + product(own, axes).reshape(-1, 1, 6))
        return concatenate([hand, readings[..., 6:]], 2)

    def peak_force(self) -> Tensor:
        """The largest force on the wrist during the last control step, (N,) [N]: exact, in whatever direction."""
        force = self.wrench()[..., :3]
        return as_tensor((force * force).sum(2)).amax(1).sqrt()


def _extent(sensor: Any) -> tuple[int, int]:  # noqa: ANN401
    """First and last column + 1 of a sensor's readings."""
    return int(sensor.adr[0]), int(sensor.adr[0] + sensor.dim[0])


def checked(action: Tensor | np.ndarray, num_envs: int, device: torch.device) -> Tensor:
    """Actions (N, 5) as float64, clipped to [−1, 1]; InputError for another shape, and for NaN or Inf anywhere.

    On another device than the CPU nobody looks for them, which would wait for it: both become NaN, for the physics to
    find.
    """
    try:
        action = torch.as_tensor(action, dtype=torch.float64, device=device)
    except (TypeError, ValueError, RuntimeError):
        raise InputError(f"actions must be numbers of shape ({num_envs}, 5), got {action!r}") from None
    if action.shape != (num_envs, 5):
        raise InputError(f"actions must have shape ({num_envs}, 5), got {tuple(action.shape)}")
    if not on_cpu(action):
        return action.clamp(-1.0, 1.0).masked_fill(action.isinf(), math.nan)
    if not math.isfinite(action.sum()):  # one call where there is nothing to find; huge numbers are finite, though
        for world, index in (~action.isfinite()).nonzero().tolist():
            value = float(action[world, index])
            raise InputError(f"action of world {world} has {value} at index {index}; nothing moved")
    return action.clamp(-1.0, 1.0)


def jacobian(point: Array, anchors: Array, axes: Array, slides: Array | None) -> Array:
    """Geometric Jacobian of a point at the end of a serial chain.

    Args:
        point: (N, 3) world position [m].
        anchors: (N, J, 3) world positions of the joints (MuJoCo's `xanchor`).
        axes: (N, J, 3) world directions of the joints (`xaxis`).
        slides: bool (J,), True for a slide joint, False for a hinge; None if all are hinges.

    Returns:
        (N, 6, J): rows are the linear velocity [m/s] and the angular velocity [rad/s] per unit joint speed.
    """
    linear = cross(axes, point[:, None] - anchors)
    if slides is not None:
        linear = where(slides[:, None], axes, linear)
        axes = axes * ~slides[:, None]
    return concatenate([linear, axes], 2).swapaxes(1, 2)


def rotation_error(target: Array, current: Array) -> Array:
    """Rotation vector (N, 3) [rad, world frame] that turns `current` to `target`, both (N, 3, 3); exact to first order.

    The sine of the angle stands for the angle, so errors near 180 degrees vanish; callers keep theirs below 90.
    """
    return 0.5 * cross(current, target, 1).sum(2)


def damped_step(
    jacobian: Array,
    error: Array,
    position: Array,
    low: Array,
    high: Array,
    posture: Array,
) -> Array:
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
    within = clip(reached, low, high)
    outside = reached != within
    if isinstance(outside, np.ndarray) and not outside.any():  # mostly; elsewhere looking would cost more
        return within - position
    stopped = where(outside, within - position, 0.0)
    free = where(outside[:, None], 0.0, jacobian)
    rest = error - product(jacobian, stopped[..., None])[..., 0]
    step = where(outside, stopped, _solve(free, rest, where(outside, 0.0, pull)))
    return clip(position + step, low, high) - position


def _solve(jacobian: Array, error: Array, pull: Array) -> Array:
    transposed = jacobian.swapaxes(1, 2)
    squared = product(jacobian, transposed)
    squared.reshape(-1, 36)[:, ::7] += _DAMPING**2
    # pull first, then the error that is left including what the pull caused: the projection without forming I − J⁺J
    left = error[..., None] - product(jacobian, pull[..., None])
    return pull + product(transposed, solve(squared, left))[..., 0]
