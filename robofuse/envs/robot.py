"""A robot: an MJCF file and the names of its parts. `control.py` moves it."""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import mujoco
import numpy as np

from robofuse import registration
from robofuse.checks import check_name
from robofuse.envs.mjcf import compiled, read_mjcf, require
from robofuse.errors import InputError
from robofuse.sensors import Entry

ROBOT_PREFIX = "robot/"
_SLIDE, _HINGE = int(mujoco.mjtJoint.mjJNT_SLIDE), int(mujoco.mjtJoint.mjJNT_HINGE)
FORCE_SENSORS = ("wrist_force", "wrist_torque", "tip_0", "tip_1")
_NARROW = math.radians(7.0)  # −π to π, taken for degrees, is less
_ASSETS = Path(__file__).parent / "assets"


class Hand(NamedTuple):
    """Names, in a scene, of the sites of a robot's hand: both fingertips, and the point between them."""

    left_tip: str
    right_tip: str
    grip: str


@dataclass(frozen=True)
class RobotModel:
    """A robot: its MJCF and the names in it.

    The MJCF holds the robot alone, its base at the origin on a table at z = 0, with one position servo per joint and
    finger. At `home` the hand points down over the middle of the workspace.

    Attributes:
        name: for messages and files.
        mjcf: path of the MJCF file, or the MJCF itself (a string that starts with `<`).
        joints: the arm's joints, base first; slides and hinges.
        home: joint positions [rad, m] of a new episode, one per joint.
        fingers: the finger joints; larger positions open, and their sum is the gap between the pads [m].
        grip_site: site between the fingertips, z out of the fingers, y along the closing direction.
        wrist_site: site where the force–torque sensor sits.
        tip_sites: two sites whose volumes enclose the finger pads; contacts inside count as fingertip forces.
        step: distance of the hand for an action of 1 [m].
        yaw_step: rotation about the vertical for an action of 1 [rad].
        gap_step: fastest change of the gap between the fingers per control step [m].
        reach: half-extent (x, y) of the box the hand may be sent to, around the workspace's middle [m].
        height: lowest and highest grip site [m].
    """

    name: str
    mjcf: str | Path
    joints: tuple[str, ...]
    home: tuple[float, ...]
    fingers: tuple[str, str] = ("left_finger", "right_finger")
    grip_site: str = "grip"
    wrist_site: str = "wrist"
    tip_sites: tuple[str, str] = ("left_tip", "right_tip")
    step: float = 0.02
    yaw_step: float = 0.15
    gap_step: float = 0.012
    reach: tuple[float, float] = (0.20, 0.20)
    height: tuple[float, float] = (0.008, 0.40)

    def __post_init__(self) -> None:
        if len(self.home) != len(self.joints):
            raise InputError(f"robot {self.name!r}: {len(self.joints)} joints but {len(self.home)} home positions")
        if len(self.fingers) != 2 or len(self.tip_sites) != 2:
            raise InputError(f"robot {self.name!r}: give two fingers and two tip_sites")

    def spec(self) -> mujoco.MjSpec:
        """A fresh, checked spec of the robot alone.

        Raises:
            InputError: no such MJCF, a name is missing in it, a joint is of the wrong kind or without a position servo,
                or home is out of range; lists what there is.
        """
        whose, moving = f"robot {self.name!r}", (*self.joints, *self.fingers)
        spec = read_mjcf(self.mjcf, whose)
        require(spec, whose, joint=moving, site=(self.grip_site, self.wrist_site, *self.tip_sites))
        for name in moving:
            kind, (low, high) = int(spec.joint(name).type), spec.joint(name).range
            if kind not in (_SLIDE, _HINGE):
                raise InputError(f"{whose}: joint {name!r} must be a slide or a hinge, it is a ball or free joint")
            if name in self.fingers and not (kind == _SLIDE and low < high):
                raise InputError(
                    f"{whose}: finger {name!r} must be a slide with a range, closed to open [m]; it is a "
                    f"{'slide' if kind == _SLIDE else 'hinge'} with range [{low:g}, {high:g}]"
                )
        driven = [a.target for a in spec.actuators if is_servo(a.trntype, a.gainprm, a.biasprm)]
        for name in moving:
            if driven.count(name) != 1:
                raise InputError(
                    f"{whose}: joint {name!r} must have one <position> servo, it has {driven.count(name)}; "
                    f"joints with a servo: {', '.join(driven) or 'none'}"
                )
        for name, value in zip(self.joints, self.home, strict=True):
            hinge = int(spec.joint(name).type) == _HINGE
            low, high = spec.joint(name).range * (math.pi / 180.0 if hinge and spec.compiler.degree else 1.0)
            if hinge and spec.compiler.degree and 0.0 < high - low < _NARROW:
                raise InputError(
                    f"{whose}: hinge {name!r} has a range of {math.degrees(high - low):.3g} degrees; for radians, "
                    'write <compiler angle="radian"/>'
                )
            if low < high and not low <= value <= high:
                raise InputError(f"{whose}: home of {name!r} is {value}, outside its range [{low:g}, {high:g}]")
        return spec

    def workspace(self) -> np.ndarray:
        """The middle of the workspace on the table, (3,) [m]: straight below the grip site at home."""
        return np.array([*self.home_pose()[0][:2], 0.0])

    def home_pose(self) -> tuple[np.ndarray, np.ndarray]:
        """Position (3,) [m] and orientation (3, 3) of the grip site at home, in the robot's base frame."""
        model = compiled(self.spec(), f"robot {self.name!r}")
        data = mujoco.MjData(model)
        for joint, value in zip(self.joints, self.home, strict=True):
            data.joint(joint).qpos[0] = value
        mujoco.mj_kinematics(model, data)
        grip = data.site(self.grip_site)
        position, axes = grip.xpos.copy(), grip.xmat.reshape(3, 3).copy()
        if axes[2, 2] > -0.7:
            raise InputError(
                f"robot {self.name!r}: the z axis of site {self.grip_site!r} points out of the fingers, and at home "
                f"down; there it points to {np.round(axes[:, 2], 2).tolist()}"
            )
        return position, axes

    def entries(self) -> dict[str, tuple[Entry, ...]]:
        """What each number of `proprio`, of a sample of `force`, and of `action` is."""
        model = compiled(self.spec(), f"robot {self.name!r}")
        slides = {name: int(model.joint(name).type[0]) == _SLIDE for name in (*self.joints, *self.fingers)}
        encoders = [Entry(name, "m" if slide else "rad") for name, slide in slides.items()]
        speeds = [Entry(f"{name}_velocity", "m/s" if slide else "rad/s") for name, slide in slides.items()]
        base, middle = "axes of the robot's base", self.workspace()
        x, y = (np.round(middle[:2], 3) + 0.0).tolist()  # no −0.0
        hand = [Entry(f"hand_{axis}", "m", 1.0, f"grip site from ({x}, {y}, 0) of the base, {base}") for axis in "xyz"]
        turn = "turn about the vertical, counter-clockwise from above, 0 at home"
        heading = [
            Entry(f"{name}_yaw", "", 1.0, f"{long} of the hand's {turn}")
            for name, long in (("cos", "cosine"), ("sin", "sine"))
        ]
        moving = [Entry(f"hand_v{axis}", "m/s", 1.0, f"of the grip site, {base}") for axis in "xyz"]
        wrist = "of hand and load on the wrist, in the frame of the wrist site, less the hand's own weight"
        wrench = [Entry(f"{kind}_{axis}", unit, 1.0, wrist) for kind, unit in (("force", "N"), ("torque", "N·m"))
                  for axis in "xyz"]  # fmt: skip
        tips = [Entry(f"tip_{i}", "N", 1.0, "normal force at a fingertip") for i in (0, 1)]
        steps = [Entry(axis, "m", self.step, f"step of the commanded grip site, {base}") for axis in "xyz"]
        gap = float(model.jnt_range[[model.joint(name).id for name in self.fingers], 1].sum())
        most = f"changes by {self.gap_step:g} m a step at most"
        about = f"commanded gap from half open: −1 closed, 1 open at {gap:g} m; {most}"
        return {
            "proprio": (*encoders, *speeds, *hand, *heading, *moving),
            "force": (*wrench, *tips),
            "action": (*steps, Entry("yaw", "rad", self.yaw_step, f"step of the commanded {turn}"),
                       Entry("gripper", "m", gap / 2.0, about)),
        }  # fmt: skip

    def add_sensors(self, spec: mujoco.MjSpec) -> None:
        """Add the wrist and fingertip force sensors to the spec that the robot has been attached to."""
        site = mujoco.mjtObj.mjOBJ_SITE
        for name, kind, at in zip(
            FORCE_SENSORS,
            (mujoco.mjtSensor.mjSENS_FORCE, mujoco.mjtSensor.mjSENS_TORQUE, *[mujoco.mjtSensor.mjSENS_TOUCH] * 2),
            (self.wrist_site, self.wrist_site, *self.tip_sites),
            strict=True,
        ):
            spec.add_sensor(name=name, type=kind, objtype=site, objname=ROBOT_PREFIX + at)


def is_servo(kind: int, gain: np.ndarray, bias: np.ndarray) -> bool:
    """Whether an actuator is a position servo of a joint: force = kp (ctrl − q) − kv q̇."""
    return int(kind) == int(mujoco.mjtTrn.mjTRN_JOINT) and gain[0] > 0.0 and bias[1] == -gain[0]


_HAND = {
    "fingers": ("hand/left_finger", "hand/right_finger"),
    "grip_site": "hand/grip",
    "wrist_site": "hand/wrist",
    "tip_sites": ("hand/left_tip", "hand/right_tip"),
}
ROBOTS = {
    "arm": RobotModel(
        name="arm",
        mjcf=_ASSETS / "arm.xml",
        joints=tuple(f"joint{i}" for i in range(1, 8)),
        home=(0.0, 0.0459, 0.0, -2.3763, 0.0, 2.4222, 0.7853982),
        **_HAND,
    ),
    "gripper": RobotModel(
        name="gripper",
        mjcf=_ASSETS / "gripper.xml",
        joints=("x", "y", "z", "yaw"),
        home=(0.0, 0.0, 0.0, 0.0),
        **_HAND,
    ),
}
"""Robots by name."""


def register_robot(robot: RobotModel, summary: str = "") -> RobotModel:
    """Registers a robot under its name, for `World`, the commands and `robofuse list`.

    Args:
        robot: its MJCF and the names in it.
        summary: the line; by default, its joints.

    Returns:
        The robot as it was given.

    Raises:
        InputError: its MJCF lacks something, or another robot has the name.
    """
    check_name(robot.name, robot, ROBOTS, "robot")
    robot.home_pose()
    ROBOTS[robot.name] = robot
    registration.ROBOTS[robot.name] = summary or f"joints {', '.join(robot.joints)}"
    return robot


def resolve_robot(robot: "str | RobotModel") -> RobotModel:
    """A robot by name, or the given one.

    Raises:
        InputError: unknown name; the message lists what exists.
    """
    if isinstance(robot, RobotModel):
        return robot
    if not isinstance(robot, str) or robot not in ROBOTS:
        raise InputError(
            f"unknown robot {robot!r}; robots: {', '.join(ROBOTS)}; or give a robofuse.envs.RobotModel, or make its "
            "name known first: robofuse.envs.register_robot, and --import FILE.py on the command line"
        )
    return ROBOTS[robot]
