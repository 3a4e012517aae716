"""robosuite's environments as sensors: colours, depth, the force at the wrist and proprioception, by key."""

from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np

from robofuse.errors import InputError
from robofuse.sensors import DEPTH_LIMIT_MM

HAND = ("joint_pos_cos", "joint_pos_sin", "joint_vel", "eef_pos", "eef_quat", "gripper_qpos")
"""What of the robot's observables is proprioception, in this order."""


class Robosuite(gym.Env[Any, np.ndarray]):
    """An environment of robosuite 1.5 with one robot, as a Gymnasium environment with a Dict observation.

    robosuite's own GymWrapper makes one vector of everything; here every sensor is a key, so that it can be missing.
    The observation has, for each camera `rgb` and `depth` (with several `rgb_<camera>`, `depth_<camera>`), uint8
    (H, W, 3) and uint16 (H, W, 1), millimetres along the optical axis, the top row first, if it was made with
    `use_camera_obs` and `camera_depths`; `force`, float32 (6,), force [N] and torque [N·m] at the wrist as robosuite
    reads them; `proprio`, float32, `HAND`. `info` has `is_success`, with which an episode ends.

    Attributes:
        inner: robosuite's environment.
        truth: its last observation, for scripted experts and critics.
    """

    def __init__(self, inner: Any, proprio: Sequence[str] = HAND, arm: str = "right") -> None:  # noqa: ANN401
        """Wraps what `robosuite.make` made; call `reset` next.

        Args:
            inner: robosuite's environment, with its observables.
            proprio: which of the robot's observables, without `robot0_`.
            arm: whose wrist.

        Raises:
            InputError: several robots, or an observable that it does not have; lists what there is.
        """
        self.inner, self._arm, self.truth = inner, arm, dict[str, Any]()
        self.render_mode, rate = "rgb_array", round(inner.control_freq)
        self.metadata = {"render_modes": ["rgb_array"], "render_fps": rate}
        if len(inner.robots) != 1:
            raise InputError(f"{len(inner.robots)} robots; this takes environments with one")
        self._proprio = [f"robot0_{name}" for name in proprio]
        cameras = list(inner.camera_names) if inner.use_camera_obs else []
        self._cameras = {name: f"_{name}" if len(cameras) > 1 else "" for name in cameras}
        self.truth = inner.reset()
        lacking = [name for name in self._proprio if name not in self.truth]
        if lacking:
            there = ", ".join(name for name in self.truth if name.startswith("robot0_"))
            raise InputError(f"there is no {lacking[0]}; there are {there}")
        low, high = inner.action_spec
        self.action_space = gym.spaces.Box(low.astype(np.float32), high.astype(np.float32))
        spaces: dict[str, gym.Space] = {}
        for key, x in self._look().items():
            whole = x.dtype.kind == "u"
            most = float(np.iinfo(x.dtype).max) if whole else np.inf
            spaces[key] = gym.spaces.Box(0.0 if whole else -np.inf, most, x.shape, x.dtype.type)
        self.observation_space = gym.spaces.Dict(spaces)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """A new episode; the seed fixes the scene, as robosuite draws all of it from one generator."""
        super().reset(seed=seed)
        self.inner.rng = self.np_random
        if getattr(self.inner, "placement_initializer", None) is not None:
            for sampler in _samplers(self.inner.placement_initializer):
                sampler.rng = self.np_random
        self.truth = self.inner.reset()
        return self._look(), {}

    def step(self, action: np.ndarray) -> tuple[dict[str, np.ndarray], float, bool, bool, dict[str, Any]]:
        """One control step of robosuite."""
        self.truth, reward, over, info = self.inner.step(action)
        done = bool(self.inner._check_success())
        return self._look(), float(reward), done, bool(over) and not done, {**info, "is_success": done}

    def render(self) -> np.ndarray:
        """A picture of the scene, uint8 (480, 640, 3)."""
        camera = next(iter(self._cameras), "frontview")
        return np.ascontiguousarray(self.inner.sim.render(width=640, height=480, camera_name=camera)[::-1])

    def close(self) -> None:
        """Free robosuite's renderer."""
        self.inner.close()

    def _look(self) -> dict[str, np.ndarray]:
        truth, robot, found = self.truth, self.inner.robots[0], dict[str, np.ndarray]()
        for camera, end in self._cameras.items():
            found[f"rgb{end}"] = np.ascontiguousarray(truth[f"{camera}_image"][::-1])
            if f"{camera}_depth" in truth:
                found[f"depth{end}"] = self._millimetres(truth[f"{camera}_depth"][::-1])
        wrench = np.concatenate([robot.ee_force[self._arm], robot.ee_torque[self._arm]])
        found["force"] = wrench.astype(np.float32)
        found["proprio"] = np.concatenate([truth[name] for name in self._proprio]).astype(np.float32)
        return dict(sorted(found.items()))

    def _millimetres(self, buffer: np.ndarray) -> np.ndarray:
        """The depth buffer of OpenGL, [0, 1], as millimetres; no return where nothing is."""
        model = self.inner.sim.model
        near, far = model.stat.extent * model.vis.map.znear, model.stat.extent * model.vis.map.zfar
        metres = near / (1.0 - buffer * (1.0 - near / far))
        return np.where(buffer < 1.0, (1000.0 * metres).round().clip(0, DEPTH_LIMIT_MM), 0).astype(np.uint16)


def _samplers(placement: Any) -> list[Any]:  # noqa: ANN401
    """A placement sampler, and those within it."""
    inner = getattr(placement, "samplers", {})
    return [placement, *(one for part in inner.values() for one in _samplers(part))]
