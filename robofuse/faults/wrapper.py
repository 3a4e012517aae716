"""Faults for any Gymnasium environment with Dict observations."""

from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
import torch

from robofuse.dropout.apply import hide_row
from robofuse.faults.foreign import Breaker
from robofuse.faults.mix import Mix
from robofuse.faults.plan import Plan
from robofuse.rng import check_seed
from robofuse.sensors import Kind, Sensor

Observation = dict[str, Any]


class SensorFaults(gym.Wrapper[Observation, Any, Any, Any], gym.utils.RecordConstructorArgs):
    """Breaks sensors of one environment.

    Announced faults show under `available`, int8 (M,), 1 = delivering, one entry for each key but `available` and
    `privileged`, in alphabetical order; if the environment has one itself, a sensor delivers if both say so. Faults
    depend on (seed, episode, step) and the readings alone.
    """

    def __init__(
        self,
        env: gym.Env,
        plan: Plan | Mix | str,
        kinds: Mapping[str, Kind] | None = None,
        sensors: Sequence[Sensor] | None = None,
        dt: float | None = None,
        seed: int | None = None,
    ) -> None:
        """Wraps an environment.

        Args:
            env: any environment with a flat Dict observation space.
            plan: what breaks, as a `Plan` or its text; or a `Mix`, of which every episode has another plan.
            kinds: key → kind of sensor, where it cannot be told from the space.
            sensors: what the keys are, with their typical scales; by default a robofuse environment's own, else they
                are inferred from the space, with scale 1.
            dt: seconds of a step; by default what the environment's `render_fps` says, else 0.05.
            seed: of the faults until `reset` is given one; by default another in every run.

        Raises:
            ValueError: not a flat Dict, or a plan that does not fit; the message says what to do.
        """
        gym.utils.RecordConstructorArgs.__init__(self, plan=str(plan), kinds=kinds, sensors=sensors, dt=dt, seed=seed)
        gym.Wrapper.__init__(self, env)
        seed = int(np.random.default_rng().integers(2**62)) if seed is None else check_seed(seed)
        fps = env.metadata.get("render_fps")
        sensors = sensors or getattr(getattr(env.unwrapped, "world", None), "sensors", None)
        dt = dt or (1.0 / fps if fps else None)
        self._breaker = Breaker(env.observation_space, plan, kinds, sensors, dt, 1, seed)
        self._episode = torch.zeros(1, dtype=torch.int64)
        self.observation_space = self._breaker.sensed.space

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Observation, dict]:
        """Start an episode; a seed is passed on, and starts the faults again at their episode 0."""
        observation, info = self.env.reset(seed=seed, options=options)
        if seed is not None:
            self._breaker.injector.seed, self._episode = check_seed(seed), torch.zeros_like(self._episode)
        if "episode_number" in info:  # robofuse's own environments number their scenes
            self._episode = torch.tensor([int(info["episode_number"])])
        self._breaker.injector.start(torch.zeros(1, dtype=torch.int64), self._episode)
        self._episode = self._episode + 1
        return self._break(observation), info

    def step(self, action: Any) -> tuple[Observation, Any, bool, bool, dict[str, Any]]:  # noqa: ANN401
        """See `gymnasium.Env.step`."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        self._breaker.injector.step()
        return self._break(observation), reward, terminated, truncated, info

    def _break(self, observation: Observation) -> Observation:
        self._breaker.sensed.check(observation)
        broken, told = self._breaker.apply({key: np.asarray(x)[None] for key, x in observation.items()})
        row = {key: broken[key][0] if key in self._breaker.affected else x for key, x in observation.items()}
        return hide_row(row, told[0], self._breaker.sensed.keys)
