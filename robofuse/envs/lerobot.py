"""Tasks as LeRobot's EnvHub takes them: `make_env`, for the `env.py` of a repository on a hub.

LeRobot itself is not needed, and not imported.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector.utils import batch_space

from robofuse.checks import whole
from robofuse.envs.gym import BatchedEnv, arrays
from robofuse.envs.tasks import TASKS
from robofuse.errors import InputError
from robofuse.registration import id_of
from robofuse.sensors import lerobot_name

__all__ = ["LeRobotEnv", "make_env"]

SEED = 1_000_000  # as `robofuse evaluate`: no training and no recording knows these scenes
PIXELS, _IMAGES = "pixels", "images."
_STARTS = 1 << 31  # where a first reset without a seed may begin


class LeRobotEnv(BatchedEnv):
    """N copies of one task as a vector environment with LeRobot's observations, straight over a World.

    An observation has `pixels`, camera → uint8 (N, H, W, 3); `agent_pos`, float32 (N, P), the readings of `proprio`;
    `environment_state`, float32 (N, K), with `privileged=True`; depth under `images.CAMERA_depth`, uint16 (N, 1, H, W)
    [mm]; and all else under robofuse's own name, such as `force` and `available`. LeRobot makes of them the names and
    shapes that its reader gives for recordings of `robofuse record`. A sensor that is not available reads zero.
    """

    def __init__(
        self,
        task: str = "Grasp",
        num_envs: int = 1,
        *,
        instruction: str = "",
        seed: int = SEED,
        **options: Any,  # noqa: ANN401
    ) -> None:
        """Options are those of `World`.

        Args:
            task: a task's name.
            num_envs: N.
            instruction: the task in words, for policies that read; by default its name, as in `robofuse record`.
            seed: of the World. The seeds that `reset` takes are numbers of its episodes.
            options: as of `World`.

        Raises:
            InputError, StateError: as `World`.
        """
        super().__init__(task, num_envs, render_mode="rgb_array", seed=seed, **options)
        world = self.world
        kinds = {sensor.key: sensor.kind for sensor in world.sensors}
        self._names = {key: lerobot_name(key, kinds.get(key)) for key in world.observation_space.spaces}
        self._depths = {key for key, kind in kinds.items() if kind == "depth"}
        self.single_observation_space = self._space(world.observation_space)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.spec = gym.registry.get(id_of(world.task.name))  # LeRobot reports under its id
        self._told = {
            "task": world.task.name,
            "task_description": instruction or world.task.name,
            "_max_episode_steps": world.max_steps,
        }
        self._begun = False

    def reset(
        self, *, seed: int | Sequence[int] | None = None, options: Mapping[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Start an episode in every world.

        Args:
            seed: N numbers of episodes, one for each world, such as LeRobot gives; k for the episodes k … k + N − 1;
                None for the next ones, which of a new environment are others in every run. Episode k has the scene
                that `robofuse evaluate` plays under this number, if `seed` of the environment is its seed.
            options: not used. LeRobot marks a new rollout there, for wrappers of its own.

        Returns:
            Observation, and `episode_number` int64 (N,).

        Raises:
            InputError: not N whole numbers from 0.
        """
        world = self.world
        if seed is None and not self._begun:
            seed = int(np.random.default_rng().integers(_STARTS))
        if seed is None or isinstance(seed, int | np.integer):
            observation = world.reset(episode=seed)
        elif len(seed) != self.num_envs:
            raise InputError(f"one seed for each of the {self.num_envs} worlds, got {list(seed)}")
        else:
            if not self._begun:
                world.reset(episode=0)  # `restart` needs worlds that have begun
            observation = world.restart(range(self.num_envs), list(seed))
        self._begun = True
        return self._layout(arrays(observation)), {"episode_number": world.episode.cpu().numpy().copy()}

    def step(self, actions: np.ndarray) -> tuple[dict[str, Any], np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """As `BatchedEnv.step`: worlds reset in the same step, success is `infos["final_info"]["is_success"]`."""
        observation, reward, terminated, truncated, infos = super().step(actions)
        for index in np.flatnonzero(infos.get("_final_obs", ())).tolist():
            infos["final_obs"][index] = self._layout(infos["final_obs"][index])
        return self._layout(observation), reward, terminated, truncated, infos

    def get_attr(self, name: str) -> tuple[Any, ...]:
        """`task`, `task_description` or `_max_episode_steps`, once for each world; AttributeError for all else."""
        if name not in self._told:
            raise AttributeError(f"no {name!r} for each world; there are {', '.join(self._told)}")
        return (self._told[name],) * self.num_envs

    def call(self, name: str) -> tuple[Any, ...]:
        """`render`, a picture uint8 (480, 640, 3) of each world; or as `get_attr`."""
        return (self.render() or ()) if name == "render" else self.get_attr(name)

    def _layout(self, observation: Mapping[str, np.ndarray]) -> dict[str, Any]:
        """An observation (N, …), or (…) of one world, as LeRobot wants it."""
        # depth has its channel first, as in LeRobot's reader; colours LeRobot turns itself
        turned = {key: np.moveaxis(x, -1, -3) if key in self._depths else x for key, x in observation.items()}
        return self._placed(turned)

    def _space(self, space: gym.spaces.Dict) -> gym.spaces.Dict:
        """The space of `_layout`, of one world."""
        parts = dict(space.spaces)
        for key in self._depths:
            part = parts[key]
            assert isinstance(part, gym.spaces.Box)
            low, high = (np.moveaxis(bound, -1, -3) for bound in (part.low, part.high))
            parts[key] = gym.spaces.Box(low, high, dtype=part.dtype.type)
        placed = self._placed(parts)
        if PIXELS in placed:
            placed[PIXELS] = gym.spaces.Dict(placed[PIXELS])
        return gym.spaces.Dict(placed)

    def _placed(self, parts: Mapping[str, Any]) -> dict[str, Any]:
        """Parts of an observation under the keys where LeRobot looks for them."""
        found: dict[str, Any] = {}
        for key, part in parts.items():
            name = self._names[key]
            if name.startswith(_IMAGES) and key not in self._depths:
                found.setdefault(PIXELS, {})[name.removeprefix(_IMAGES)] = part
            else:
                found["agent_pos" if name == "state" else name] = part
        return found


def make_env(
    n_envs: int = 1,
    use_async_envs: bool = False,
    cfg: Any = None,  # noqa: ANN401
    *,
    task: str = "Grasp",
    **options: Any,  # noqa: ANN401
) -> LeRobotEnv:
    """What LeRobot calls in the `env.py` of a repository.

    Args:
        n_envs: number of worlds.
        use_async_envs: makes no difference: all worlds are simulated together, on all cores of this process.
        cfg: LeRobot's `EnvConfig`, if there is one; its `task`, if it is one of robofuse, takes the place of `task`.
        task: a task's name.
        options: as of `LeRobotEnv`: `sensors`, `cameras`, `image_size`, `faults`, …

    Raises:
        InputError, StateError: as `LeRobotEnv`.
    """
    asked = getattr(cfg, "task", None)
    return LeRobotEnv(asked if asked in TASKS else task, whole(n_envs, "n_envs", 1), **options)
