"""A World as a `VecEnv` of Stable-Baselines3, without copies or subprocesses."""

import time
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import VecEnv
from torch import Tensor

from robofuse.envs.gym import Observation, arrays, check_render_mode, episode_option
from robofuse.envs.world import Step, World
from robofuse.errors import InputError, StateError
from robofuse.rng import check_seed


class SB3VecEnv(VecEnv):
    """N copies of one task for Stable-Baselines3, straight over a World.

    Arrays are fresh at every step, so a rollout buffer may keep them. `infos` hold `is_success`, `reward_terms`, and at
    the end of an episode `terminal_observation`, `TimeLimit.truncated` and `episode` (return, length, time), as
    SB3's Monitor would give: no Monitor is needed.

    Attributes:
        world: the worlds.
        max_steps: of an episode.
        by_mask: whether nobody is to look at which worlds ended, see `Backend`.
        finished: return float64 (N,) and length int64 (N,) of the episodes that the last step belonged to, so far.
    """

    def __init__(
        self,
        task: str = "Grasp",
        num_envs: int = 1,
        *,
        render_mode: str | None = None,
        seed: int | None = 0,
        **options: Any,  # noqa: ANN401
    ) -> None:
        """Options are those of `World`; `seed=None` gives other scenes in every run."""
        seed = int(np.random.default_rng().integers(2**62)) if seed is None else seed
        self.render_mode = check_render_mode(render_mode)
        if render_mode == "human":
            raise InputError('an SB3VecEnv has render_mode="rgb_array" only; for a window, make a single environment')
        self.world = World(task, num_envs, auto_reset=True, seed=seed, **options)
        self._actions: np.ndarray | None = None
        self.max_steps, self.by_mask = self.world.max_steps, self.world.backend.by_mask
        self._lengths = torch.zeros_like(self.world.episode)
        self._returns = self._lengths.double()
        self.finished = self._returns, self._lengths
        self._start = time.time()
        super().__init__(num_envs, self.world.observation_space, self.world.action_space)

    def reset(self) -> Observation:
        """Start an episode in every world; takes the seed and options given to `seed` and `set_options`."""
        seed, options = self._seeds[0], self._options[0]
        self._reset_seeds()
        self._reset_options()
        self._returns, self._lengths = torch.zeros_like(self._returns), torch.zeros_like(self._lengths)
        observation = self.world.reset(seed, episode_option(options))
        self.reset_infos = [{"episode_number": number} for number in self.world.episode.tolist()]
        return arrays(observation)

    def seed(self, seed: int | None = None) -> Sequence[int | None]:
        """One seed for all worlds at the next reset: their scenes differ by episode number, not by seed."""
        return super().seed(None if seed is None else check_seed(seed))

    def step_async(self, actions: np.ndarray) -> None:
        """Remember the actions (N, 5) for `step_wait`."""
        self._actions = actions

    def step_wait(self) -> tuple[Observation, np.ndarray, np.ndarray, list[dict[str, Any]]]:
        """Advance every world by one control step; see `World.step`."""
        if self._actions is None:
            raise StateError("call step_async() before step_wait()")
        step = self.step_tensors(self._actions)
        self._actions = None
        return arrays(step.observation), step.reward.cpu().numpy(), step.ended.cpu().numpy(), self.infos(step)

    def step_tensors(self, action: Tensor | np.ndarray) -> Step:
        """Advance every world by one control step, as `World.step`, for learners that take tensors."""
        step = self.world.step(action)
        self.finished = self._returns + step.reward, self._lengths + 1
        self._returns, self._lengths = (x.masked_fill(step.ended, 0) for x in self.finished)
        return step

    def infos(self, step: Step) -> list[dict[str, Any]]:
        """What SB3 calls infos, of the last step."""
        infos: list[dict[str, Any]] = [
            {
                "is_success": success,
                "episode_number": number,
                "reward_terms": dict(zip(step.terms, values, strict=True)),
            }
            for success, number, values in zip(
                step.success.tolist(),
                step.episode.tolist(),
                zip(*(term.tolist() for term in step.terms.values()), strict=True),
                strict=True,
            )
        ]
        ended = step.ended.nonzero()[:, 0].tolist()
        final = arrays(step.final_observation) if ended else {}
        returns, lengths = self.finished
        for index in ended:
            infos[index]["terminal_observation"] = {key: value[index].copy() for key, value in final.items()}
            infos[index]["TimeLimit.truncated"] = bool(step.truncated[index])
            infos[index]["episode"] = {
                "r": round(float(returns[index]), 6),
                "l": int(lengths[index]),
                "t": round(time.time() - self._start, 6),
            }
            if failure := int(step.failure[index]):
                infos[index]["sim_error"] = self.world.cause(failure)
        return infos

    def get_images(self) -> Sequence[np.ndarray | None]:
        """A picture of every world, uint8 (480, 640, 3) each, if the render mode is `rgb_array`."""
        if self.render_mode != "rgb_array":
            return [None] * self.num_envs
        return [self.world.picture(index) for index in range(self.num_envs)]

    def set_progress(self, progress: float) -> None:
        """Set the training progress in [0, 1], which the schedule of `dropout` follows."""
        self.world.dropout_progress = progress

    def close(self) -> None:
        """Free what the World holds; may be called twice."""
        self.world.close()

    def get_attr(self, attr_name: str, indices: int | Iterable[int] | None = None) -> list[Any]:
        """An attribute of this object or its World, once per index."""
        owner = self if attr_name in vars(self) else self.world
        return [getattr(owner, attr_name) for _ in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: int | Iterable[int] | None = None) -> None:  # noqa: ANN401
        """`dropout_progress`, of all worlds; the rest is refused: the worlds share one object."""
        if attr_name == "dropout_progress":
            return self.set_progress(value)
        raise NotImplementedError(
            f"cannot set {attr_name!r}: these worlds share one World; make a new env, or set dropout_progress"
        )

    def env_method(
        self,
        method_name: str,
        *method_args: Any,  # noqa: ANN401
        indices: int | Iterable[int] | None = None,
        **method_kwargs: Any,  # noqa: ANN401
    ) -> list[Any]:
        """`env_method("picture")`: a picture of each world; the worlds share one World, so there is nothing else."""
        if method_name != "picture":
            raise NotImplementedError(f"cannot call {method_name!r} per world; methods: picture")
        return [self.world.picture(index, *method_args, **method_kwargs) for index in self._get_indices(indices)]

    def env_is_wrapped(self, wrapper_class: type, indices: int | Iterable[int] | None = None) -> list[bool]:
        """True for SB3's Monitor, whose `episode` entries the infos have; nothing else is inside."""
        return [issubclass(Monitor, wrapper_class) for _ in self._get_indices(indices)]
