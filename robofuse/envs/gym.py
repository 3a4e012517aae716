"""A World as Gymnasium environments: a single one, and a vector of N, without copies or subprocesses."""

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space
from torch import Tensor

from robofuse.envs.rendering.picture import Viewer
from robofuse.envs.world import CONTROL_RATE, Step, World
from robofuse.errors import InputError, StateError
from robofuse.rng import check_seed

RENDER_MODES = ("rgb_array", "human")
Observation = dict[str, np.ndarray]


def arrays(observation: dict[str, Tensor]) -> Observation:
    """Tensors as NumPy arrays over the same memory (a copy only from another device)."""
    return {key: value.cpu().numpy() for key, value in observation.items()}


def check_render_mode(render_mode: str | None) -> str | None:
    """The mode itself; InputError that lists the modes if it is unknown."""
    if render_mode not in (None, *RENDER_MODES):
        raise InputError(f"unknown render_mode {render_mode!r}; modes: {', '.join(RENDER_MODES)}")
    return render_mode


def episode_option(options: dict[str, Any] | None) -> int | None:
    """The episode that reset's options ask for; InputError if they ask for anything else."""
    unknown = [key for key in options or {} if key != "episode"]
    if unknown:
        raise InputError(f"unknown reset option {unknown[0]!r}; options: episode")
    return (options or {}).get("episode")


def world_info(world: World, step: Step, index: int) -> dict[str, Any]:
    """The `info` of one world: `is_success`, weighted `reward_terms`, `episode_number`, and `sim_error` if diverged."""
    info: dict[str, Any] = {
        "is_success": bool(step.success[index]),
        "reward_terms": {name: float(values[index]) for name, values in arrays(step.terms).items()},
        "episode_number": int(step.episode[index]),
    }
    if failure := int(step.failure[index]):
        info["sim_error"] = world.cause(failure)
    return info


class SingleEnv(gym.Env[Any, np.ndarray]):
    """One task as a Gymnasium environment: a World of one."""

    metadata = {"render_modes": list(RENDER_MODES), "render_fps": CONTROL_RATE}

    def __init__(
        self,
        task: str = "Grasp",
        *,
        render_mode: str | None = None,
        seed: int | None = None,
        **options: Any,  # noqa: ANN401
    ) -> None:
        """Options are those of `World`; without a seed here or in `reset`, scenes differ from run to run."""
        self.render_mode = check_render_mode(render_mode)
        self.world = World(task, 1, auto_reset=False, seed=seed or 0, **options)
        self.observation_space, self.action_space = self.world.observation_space, self.world.action_space
        self._seeded, self._ended, self._viewer = seed is not None, False, None

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Observation, dict]:
        """Start the next episode, or episode 0 of a new seed; `options={"episode": k}` plays the k-th of this seed."""
        seed = start_seed(self, seed, self._seeded)
        self._seeded, self._ended = True, False
        observation = self.world.reset(seed, episode_option(options))
        if self.render_mode == "human":
            self.render()
        return _row(observation), {"episode_number": int(self.world.episode[0])}

    def step(self, action: np.ndarray) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Advance by one control step, as `World.step`; StateError after the end of an episode."""
        if self._ended:
            raise StateError("the episode has ended; call reset() before step()")
        action = np.asarray(action)
        if action.shape != self.action_space.shape:
            raise InputError(f"the action must have shape {self.action_space.shape}, got {action.shape}")
        step = self.world.step(action[None])
        terminated, truncated = bool(step.terminated[0]), bool(step.truncated[0])
        self._ended = terminated or truncated
        if self.render_mode == "human":
            self.render()
        info = world_info(self.world, step, 0)
        return _row(step.final_observation), float(step.reward[0]), terminated, truncated, info

    def render(self) -> np.ndarray | None:
        """`rgb_array`: a picture uint8 (480, 640, 3) for people; `human`: MuJoCo's viewer."""
        if self.render_mode == "rgb_array":
            return self.world.picture()
        if self.render_mode == "human":
            self._viewer = self._viewer or Viewer(self.world.backend)
            self._viewer.show()
        return None

    def set_progress(self, progress: float) -> None:
        """Set the training progress in [0, 1], which the schedule of `dropout` follows."""
        self.world.dropout_progress = progress

    def close(self) -> None:
        """Free what the World holds; may be called twice."""
        if self._viewer is not None:
            self._viewer.close()
        self.world.close()


class BatchedEnv(gym.vector.VectorEnv[Observation, np.ndarray, np.ndarray]):
    """N copies of one task as a Gymnasium vector environment, straight over a World; resets in the same step."""

    metadata = {
        "render_modes": ["rgb_array"],
        "render_fps": CONTROL_RATE,
        "autoreset_mode": AutoresetMode.SAME_STEP,
    }

    def __init__(
        self,
        task: str = "Grasp",
        num_envs: int = 1,
        *,
        render_mode: str | None = None,
        seed: int | None = None,
        **options: Any,  # noqa: ANN401
    ) -> None:
        """Options are those of `World`; without a seed here or in `reset`, scenes differ from run to run."""
        self.render_mode = check_render_mode(render_mode)
        if render_mode == "human":
            raise InputError('a vector environment has render_mode="rgb_array" only; for a window, make a single one')
        self.world = World(task, num_envs, auto_reset=True, seed=seed or 0, **options)
        self.num_envs, self._seeded = num_envs, seed is not None
        self.single_observation_space = self.world.observation_space
        self.single_action_space = self.world.action_space
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Observation, dict]:
        """Start the next episodes, or episodes 0 … N − 1 of a new seed (one seed for all: scenes differ by episode)."""
        seed = start_seed(self, seed, self._seeded)
        self._seeded = True
        observation = self.world.reset(seed, episode_option(options))
        return arrays(observation), {"episode_number": np.array(self.world.episode.tolist())}

    def step(self, actions: np.ndarray) -> tuple[Observation, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Advance by one control step, as `World.step`; `infos["final_obs"]` has the last of an episode."""
        step = self.world.step(actions)
        every = np.ones(self.num_envs, bool)
        infos: dict[str, Any] = {
            "is_success": step.success.cpu().numpy(),
            "_is_success": every,
            "reward_terms": arrays(step.terms) | {f"_{name}": every for name in step.terms},
            "_reward_terms": every,
            "episode_number": step.episode.cpu().numpy(),
            "_episode_number": every,
        }
        ended = step.ended.cpu().numpy()
        if ended.any():
            final = arrays(step.final_observation)
            infos["final_obs"], infos["_final_obs"] = np.full(self.num_envs, None, dtype=object), ended
            for index in np.flatnonzero(ended).tolist():
                infos["final_obs"][index] = {key: value[index].copy() for key, value in final.items()}
                infos = self._add_info(infos, {"final_info": world_info(self.world, step, index)}, index)
        for index, failure in enumerate(step.failure.tolist()):
            if failure:
                infos = self._add_info(infos, {"sim_error": self.world.cause(failure)}, index)
        reward, terminated, truncated = (x.cpu().numpy() for x in (step.reward, step.terminated, step.truncated))
        return arrays(step.observation), reward, terminated, truncated, infos

    def render(self) -> tuple[np.ndarray, ...] | None:
        """A picture of every world, uint8 (480, 640, 3) each."""
        if self.render_mode is None:
            return None
        return tuple(self.world.picture(index) for index in range(self.num_envs))

    def set_progress(self, progress: float) -> None:
        """Set the training progress in [0, 1], which the schedule of `dropout` follows."""
        self.world.dropout_progress = progress

    def close_extras(self, **kwargs: Any) -> None:  # noqa: ANN401
        """Free what the World holds."""
        if hasattr(self, "world"):
            self.world.close()


def start_seed(env: gym.Env | gym.vector.VectorEnv, seed: int | None, seeded: bool) -> int | None:
    """The seed to reset a World with: the given one, fresh entropy if there never was one, None to go on."""
    seed = None if seed is None else check_seed(seed)
    # Gymnasium's own generator: nothing here draws from it, but its wrappers and checkers look at it
    (gym.Env if isinstance(env, gym.Env) else gym.vector.VectorEnv).reset(env, seed=seed)  # type: ignore[arg-type]
    return int(env.np_random.integers(2**62)) if seed is None and not seeded else seed


def _row(observation: dict[str, Tensor]) -> Observation:
    return {key: value[0] for key, value in arrays(observation).items()}
