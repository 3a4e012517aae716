"""What the benchmark compares a World with: the least that has to be done, and what people write today.

Neither is meant for use. Both run the model of a World, so all contenders simulate and draw the same scene.
"""

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import mujoco
import numpy as np
from mujoco import batch

from robofuse.checks import usable_cores
from robofuse.envs.cameras import resolve
from robofuse.envs.rendering import MOVING, Poses, View, make_renderer
from robofuse.envs.robot import ROBOT_PREFIX, resolve_robot
from robofuse.envs.scene import build
from robofuse.envs.tasks import resolve_task
from robofuse.envs.world import SUBSTEPS, World


def model_of(task: str, robot: str) -> tuple[mujoco.MjModel, np.ndarray]:
    """The model of a World with its default camera, and the robot's home as servo targets (nu,)."""
    kind = resolve_robot(robot)
    model = build(kind, resolve_task(task).add_objects, resolve(("scene",), 64))
    home = np.zeros(model.nu)
    for name, value in zip(kind.joints, kind.home, strict=True):
        joint = model.joint(ROBOT_PREFIX + name).id
        model.qpos0[model.jnt_qposadr[joint]] = value
        home[model.actuator_trnid[:, 0] == joint] = value
    return model, home


class Script:
    """Servo targets of a World under given actions, and the states it started from: what a `Floor` replays."""

    def __init__(self, world: World, actions: np.ndarray) -> None:
        """Steps the World through `actions` (T, N, A) from a reset, remembering what reached the servos."""
        world.reset()
        ctrl = world.backend.field("ctrl")
        names = ("geom_size", "geom_rgba", "geom_friction", "body_mass", "body_inertia")
        self.parameters = {name: world.backend.parameter(name).numpy().copy() for name in names}
        self.start = {name: world.backend.field(name).numpy().copy() for name in ("qpos", "qvel")}
        self.ctrl = []
        for action in actions:
            world.step(action)
            self.ctrl.append(ctrl.numpy().copy())


class Floor:
    """The least: a bare `mujoco.batch.Batch` and a bare renderer, no task and no sensors.

    It replays a World's servo targets, so that arms and blocks are where the World has them: what touches and what is
    in the picture costs time.
    """

    def __init__(self, model: mujoco.MjModel, script: Script, size: int, renderer: str) -> None:
        """As many worlds as the script has; pictures of `size` × `size` pixels by the renderer of that name."""
        num_envs = len(script.ctrl[0])
        self._script, self._step = script, 0
        self._batch = batch.Batch(model, num_envs, min(usable_cores(), num_envs))
        poses = [self._batch.bind(name) for name in MOVING]
        for name, values in script.parameters.items():
            self._batch.expand(name)[:] = values
        self._batch.set_const()
        inputs = Poses(*[*poses, script.parameters["geom_size"], script.parameters["geom_rgba"]])
        self._renderer = make_renderer(renderer, model, [View("scene", size, size)], inputs, None)
        self._qpos, self._qvel, self._ctrl = (self._batch.bind(name) for name in ("qpos", "qvel", "ctrl"))

    def physics(self) -> None:
        """One control step of every world."""
        at = self._step % len(self._script.ctrl)
        self._step += 1
        if at == 0:
            self._qpos[:], self._qvel[:] = self._script.start["qpos"], self._script.start["qvel"]
        self._ctrl[:] = self._script.ctrl[at]
        self._batch.step(nstep=SUBSTEPS, stage=int(mujoco.mjtStage.mjSTAGE_POS))

    def physics_and_render(self) -> None:
        """The same, and one RGB-D picture of every world."""
        self.physics()
        self._renderer.render()

    def close(self) -> None:
        """Free the renderer."""
        self._renderer.close()


class TypicalEnv(gym.Env[Any, np.ndarray]):
    """What people write today: one simulation, two passes of `mujoco.Renderer`, to be multiplied by SubprocVecEnv.

    The action is a step of the joint targets: cheaper than the inverse kinematics that a World does.
    """

    metadata = {"render_modes": []}

    def __init__(self, task: str, robot: str, size: int, tuned: bool) -> None:
        """With `tuned`, shadows and multisampling are off; else they are MuJoCo's defaults."""
        self._model, self._home = model_of(task, robot)
        quality = self._model.vis.quality
        quality.shadowsize, quality.offsamples = (0, 0) if tuned else (4096, 4)
        self._model.light_castshadow[:] = not tuned
        self._model.vis.global_.offwidth, self._model.vis.global_.offheight = 640, 480  # MuJoCo's default buffer
        self._data = mujoco.MjData(self._model)
        self._renderer = mujoco.Renderer(self._model, size, size)
        self._steps = 0
        self.action_space = gym.spaces.Box(-1.0, 1.0, (self._model.nu,), np.float32)
        self.observation_space = gym.spaces.Dict(
            {
                "rgb": gym.spaces.Box(0, 255, (size, size, 3), np.uint8),
                "depth": gym.spaces.Box(0.0, np.inf, (size, size, 1), np.float32),
                "proprio": gym.spaces.Box(-np.inf, np.inf, (self._model.nq + self._model.nv,), np.float32),
                "force": gym.spaces.Box(-np.inf, np.inf, (self._model.nsensordata,), np.float32),
            }
        )

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[dict[str, np.ndarray], dict]:
        """Back to the model's default state."""
        super().reset(seed=seed)
        mujoco.mj_resetData(self._model, self._data)
        self._data.ctrl[:] = self._home
        mujoco.mj_forward(self._model, self._data)
        self._steps = 0
        return self._observe(), {}

    def step(self, action: np.ndarray) -> tuple[dict[str, np.ndarray], float, bool, bool, dict]:
        """One control step."""
        self._data.ctrl[:] = self._home + 0.1 * action
        mujoco.mj_step(self._model, self._data, nstep=SUBSTEPS)
        self._steps += 1
        return self._observe(), 0.0, False, self._steps >= 100, {}

    def close(self) -> None:
        """Free the renderer."""
        self._renderer.close()

    def _observe(self) -> dict[str, np.ndarray]:
        self._renderer.update_scene(self._data, camera="scene")
        rgb = self._renderer.render()
        self._renderer.enable_depth_rendering()
        depth = self._renderer.render()
        self._renderer.disable_depth_rendering()
        return {
            "rgb": rgb,
            "depth": depth[..., None],
            "proprio": np.concatenate([self._data.qpos, self._data.qvel]).astype(np.float32),
            "force": self._data.sensordata.astype(np.float32),
        }


def typical(task: str, robot: str, size: int, tuned: bool) -> Callable[[], TypicalEnv]:
    """What SubprocVecEnv wants: a function that makes the env in the child process."""
    return lambda: TypicalEnv(task, robot, size, tuned)
