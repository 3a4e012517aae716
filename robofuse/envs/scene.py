"""The model of one world: a table, a robot on it, what the task adds, cameras and force sensors."""

from collections.abc import Callable, Sequence

import mujoco
import numpy as np

from robofuse.envs.cameras import OVERVIEW, Camera
from robofuse.envs.mjcf import compiled
from robofuse.envs.robot import ROBOT_PREFIX, Hand, RobotModel

TIMESTEP = 0.005
# larger than what the arm can reach
_TABLE_HALF = (0.75, 0.75, 0.02)


def build(
    robot: RobotModel,
    add_objects: Callable[[mujoco.MjSpec, np.ndarray, Hand], None],
    cameras: Sequence[Camera],
) -> mujoco.MjModel:
    """The model alone of what `compose` puts together, which see."""
    return compose(robot, add_objects, cameras)[0]


def compose(
    robot: RobotModel,
    add_objects: Callable[[mujoco.MjSpec, np.ndarray, Hand], None],
    cameras: Sequence[Camera],
) -> tuple[mujoco.MjModel, mujoco.MjSpec]:
    """Put one world together and compile it.

    Args:
        robot: what stands on the table, its base at the origin.
        add_objects: the task's part: gets the spec, the middle of the workspace on the table [m], the hand's sites.
        cameras: with their sizes.

    Returns:
        The model, with the table's top at z = 0 and gravity along −z, and what it was compiled from.

    Raises:
        InputError: the robot's MJCF lacks a name that `robot` gives, or MuJoCo cannot compile all of it together.
    """
    spec = mujoco.MjSpec()
    spec.modelname = f"robofuse {robot.name}"
    _options(spec)
    workspace = robot.workspace()
    spec.worldbody.add_geom(
        name="table",
        type=mujoco.mjtGeom.mjGEOM_BOX,
        size=_TABLE_HALF,
        pos=[workspace[0] - 0.2, workspace[1], -_TABLE_HALF[2]],
        rgba=[0.46, 0.40, 0.34, 1.0],
        friction=[1.0, 0.005, 0.0001],
    )
    spec.attach(robot.spec(), prefix=ROBOT_PREFIX, frame=spec.worldbody.add_frame())
    robot.add_sensors(spec)
    add_objects(spec, workspace, Hand(*(ROBOT_PREFIX + site for site in (*robot.tip_sites, robot.grip_site))))
    for camera in (*cameras, OVERVIEW):
        _add_camera(spec, camera, robot, workspace)
    return compiled(spec, f"the world of robot {robot.name!r}"), spec


def _options(spec: mujoco.MjSpec) -> None:
    spec.option.timestep = TIMESTEP
    spec.option.integrator = mujoco.mjtIntegrator.mjINT_IMPLICITFAST
    # half the cost of the elliptic cone here; the default iterations, since fewer let the fingers shoot the block out
    spec.option.cone = mujoco.mjtCone.mjCONE_PYRAMIDAL
    spec.memory = 16 << 20  # one per thread, touched only as far as needed
    spec.stat.extent = 1.0
    spec.visual.map.znear = 0.01
    spec.visual.map.zfar = 10.0
    # shadows and multisampling cost a hundred times the rest of a small image on a CPU
    spec.visual.quality.shadowsize = 0
    spec.visual.quality.offsamples = 0
    spec.visual.global_.offwidth = 2048
    spec.visual.global_.offheight = 2048
    spec.visual.headlight.ambient = [0.40, 0.40, 0.40]
    spec.visual.headlight.diffuse = [0.15, 0.15, 0.15]
    spec.visual.headlight.specular = [0.0, 0.0, 0.0]
    spec.worldbody.add_light(
        type=mujoco.mjtLightType.mjLIGHT_DIRECTIONAL,
        pos=[0.0, 0.0, 2.0],
        dir=[-0.35, 0.25, -0.9],
        ambient=[0.0, 0.0, 0.0],
        diffuse=[0.55, 0.55, 0.55],
        specular=[0.0, 0.0, 0.0],
        castshadow=False,
    )


def _add_camera(spec: mujoco.MjSpec, camera: Camera, robot: RobotModel, workspace: np.ndarray) -> None:
    quat, pos = camera.quaternion(), np.array(camera.position)
    if camera.mount == "hand":
        grip = spec.site(ROBOT_PREFIX + robot.grip_site)
        # a site may be turned in its body: carry position and orientation over
        turned, orientation = np.zeros(3), np.zeros(4)
        mujoco.mju_rotVecQuat(turned, pos, np.array(grip.quat))
        mujoco.mju_mulQuat(orientation, np.array(grip.quat), quat)
        grip.parent.add_camera(name=camera.name, pos=np.array(grip.pos) + turned, quat=orientation, fovy=camera.fovy)
    else:
        spec.worldbody.add_camera(name=camera.name, pos=workspace + pos, quat=quat, fovy=camera.fovy)
