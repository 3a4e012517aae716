"""Tasks as LeRobot's EnvHub takes them: `make_env(n_envs, use_async_envs)` of a file `env.py` on the hub.

Checked against LeRobot's source of August 2026 (0.6.2 and later), which cannot be installed beside this torch.
"""

import functools
from typing import Any

import gymnasium as gym
import numpy as np

from robofuse import registration
from robofuse.envs.gym import SingleEnv
from robofuse.envs.tasks import TASKS
from robofuse.errors import InputError
from robofuse.sensors import AVAILABLE, PRIVILEGED, Sensor


class LeRobotEnv(gym.Env[Any, np.ndarray]):
    """One task whose observation has the names that LeRobot's `preprocess_observation` looks for.

    | of a World | here | in LeRobot |
    |---|---|---|
    | `rgb_<camera>`, `rgb` of camera `scene` | `pixels[camera]`, uint8 (H, W, 3) | `observation.images.<camera>` |
    | `depth_<camera>`, `depth` | `images.<camera>_depth`, uint16 mm | `observation.images.<camera>_depth`, floats |
    | `proprio` | `agent_pos` | `observation.state` |
    | all others, `available` | as they are | `observation.<key>` |

    The same names stand in the demonstrations that `robofuse record` writes.

    Attributes:
        task: its name.
        task_description: a sentence, for policies that read one.
    """

    metadata = SingleEnv.metadata

    def __init__(self, task: str = "Grasp", **options: Any) -> None:  # noqa: ANN401
        """Options are those of `robofuse.envs.SingleEnv`; `render_mode` is `rgb_array` by default."""
        self._inner = SingleEnv(task, **{"render_mode": "rgb_array", **options})
        self.render_mode, self.task = self._inner.render_mode, task
        self.task_description = registration.TASKS.get(registration.id_of(task), task)
        self._max_episode_steps = self._inner.world.max_steps  # LeRobot asks for it by this name
        self.action_space = self._inner.action_space
        inner = self._inner.observation_space
        assert isinstance(inner, gym.spaces.Dict)
        names = {sensor.key: _name(sensor) for sensor in self._inner.world.sensors}
        self._names = {key: names.get(key, (key, "")) for key in inner.spaces if key != PRIVILEGED}
        spaces: dict[str, Any] = {}
        for key, (name, camera) in self._names.items():
            part = inner.spaces[key]
            part = gym.spaces.Box(0, 1, part.shape, np.int8) if key == AVAILABLE else part
            if camera:
                spaces.setdefault(name, {})[camera] = part
            else:
                spaces[name] = part
        if "pixels" in spaces:
            spaces["pixels"] = gym.spaces.Dict(spaces["pixels"])
        self.observation_space = gym.spaces.Dict(spaces)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[dict[str, Any], dict]:
        """Start the next episode, or the first of a seed; LeRobot's `options` mean nothing to it."""
        super().reset(seed=seed)
        observation, info = self._inner.reset(seed=seed)
        return self._named(observation), {**info, "is_success": False}

    def step(self, action: np.ndarray) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        """Advance by one control step; `info["is_success"]`."""
        observation, reward, terminated, truncated, info = self._inner.step(action)
        return self._named(observation), reward, terminated, truncated, info

    def render(self) -> Any:  # noqa: ANN401
        """A picture uint8 (480, 640, 3) for people."""
        return self._inner.render()

    def close(self) -> None:
        """Free what the World holds; may be called twice."""
        self._inner.close()

    def _named(self, observation: dict[str, np.ndarray]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, (name, camera) in self._names.items():
            if camera:
                found.setdefault(name, {})[camera] = observation[key]
            else:
                found[name] = observation[key]
        return found


def make_env(
    n_envs: int = 1,
    use_async_envs: bool = False,
    cfg: Any = None,  # noqa: ANN401
    *,
    task: str = "Grasp",
    **options: Any,  # noqa: ANN401
) -> gym.vector.VectorEnv:
    """Several of one task, as LeRobot's EnvHub calls it.

    Args:
        n_envs: how many.
        use_async_envs: each in a process of its own.
        cfg: LeRobot's `EnvConfig`; its `task`, if it names one that is known here, replaces `task`.
        task: by name.
        options: of `LeRobotEnv`.

    Returns:
        A vector environment that resets in the step after an episode's last.

    Raises:
        InputError: no such task or option, or no environments.
    """
    if n_envs < 1:
        raise InputError(f"n_envs must be at least 1, got {n_envs}")
    asked = getattr(cfg, "task", None)
    make = functools.partial(LeRobotEnv, asked if asked in TASKS else task, **options)
    if use_async_envs:
        return gym.vector.AsyncVectorEnv([make] * n_envs, context="spawn")
    return gym.vector.SyncVectorEnv([make] * n_envs)


def _name(sensor: Sensor) -> tuple[str, str]:
    """The name of a sensor's readings, and the camera if they stand below `pixels`."""
    camera = sensor.key.removeprefix(sensor.kind).strip("_") or "scene"
    if sensor.kind == "rgb":
        return "pixels", camera
    if sensor.kind == "depth":
        return f"images.{camera}_depth", ""
    return ("agent_pos" if sensor.key == "proprio" else sensor.key), ""
