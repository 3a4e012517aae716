"""Faults for any Stable-Baselines3 `VecEnv` with Dict observations."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper
from stable_baselines3.common.vec_env.base_vec_env import VecEnvObs, VecEnvStepReturn

from robofuse.dropout.apply import hide_arrays, hide_row
from robofuse.dropout.wrapper_sb3 import tell_progress
from robofuse.faults.foreign import Breaker
from robofuse.faults.mix import Mix
from robofuse.faults.plan import Plan
from robofuse.rng import check_seed
from robofuse.sensors import Kind, Sensor


class VecSensorFaults(VecEnvWrapper):
    """Breaks sensors of each of N environments.

    Announced faults show under `available`, int8 (N, M), as `VecSensorDropout` tells of hidden sensors. Environment i
    of N has the faults of the episodes i, i + N, i + 2N, … of the seed; `terminal_observation` is broken as the episode
    that ended was. It belongs inside `VecSensorDropout`.
    """

    def __init__(
        self,
        venv: VecEnv,
        plan: Plan | Mix | str,
        kinds: Mapping[str, Kind] | None = None,
        sensors: Sequence[Sensor] | None = None,
        dt: float | None = None,
        seed: int = 0,
    ) -> None:
        """Wraps environments.

        Args:
            venv: any VecEnv with a flat Dict observation space.
            plan: what breaks, as a `Plan` or its text; or a `Mix`, of which every episode has another plan.
            kinds: key → kind of sensor, where it cannot be told from the space.
            sensors: what the keys are, with their typical scales; by default a robofuse environment's own, else they
                are inferred from the space, with scale 1.
            dt: seconds of a step; by default what the environments' `render_fps` says, else 0.05, robofuse's own.
            seed: of the faults until `seed` is called, as algorithms with a seed do.

        Raises:
            ValueError: not a flat Dict, or a plan that does not fit; the message says what to do.
        """
        sensors, dt = (
            sensors or _ask(venv, "sensors"),
            dt or 1.0 / (_ask(venv, "metadata") or {}).get("render_fps", 20.0),
        )
        self._breaker = Breaker(venv.observation_space, plan, kinds, sensors, dt, venv.num_envs, check_seed(seed))
        self._episode = torch.arange(venv.num_envs)
        super().__init__(venv, observation_space=self._breaker.sensed.space)

    def reset(self) -> VecEnvObs:
        """Start the next episode everywhere."""
        observation = self.venv.reset()
        self._start(torch.arange(self.num_envs))
        return self._break(observation)

    def seed(self, seed: int | None = None) -> Sequence[int | None]:
        """Seed the environments; from the next `reset`, the faults are those of this seed from episode 0 on."""
        if seed is not None:
            self._breaker.injector.seed = check_seed(seed)
            self._episode = torch.arange(self.num_envs)
        return self.venv.seed(seed)

    def step_wait(self) -> VecEnvStepReturn:
        """See `VecEnv.step_wait`."""
        observation, rewards, dones, infos = self.venv.step_wait()
        self._breaker.sensed.check(observation, batched=True)
        assert isinstance(observation, dict)
        self._breaker.injector.step()
        ended = np.flatnonzero(dones)
        if not len(ended):
            return self._break(observation), rewards, dones, infos
        # first what the ended episodes last read and the others read now, then what the new episodes read first
        rows = {key: np.array(x) for key, x in observation.items()}
        last = {index: infos[index].get("terminal_observation") for index in ended.tolist()}
        for index, final in last.items():
            for key, x in (final or {}).items():
                rows[key][index] = x
        broken, told = self._breaker.apply(rows)
        shown = hide_arrays(broken, told, self._breaker.sensed.keys)
        for index, final in last.items():
            if final is not None:
                row = {key: broken[key][index] if key in self._breaker.affected else x for key, x in final.items()}
                infos[index]["terminal_observation"] = hide_row(row, told[index], self._breaker.sensed.keys)
        self._start(torch.from_numpy(ended))
        begun, told = self._breaker.apply({key: x[ended] for key, x in observation.items()}, torch.from_numpy(ended))
        first = hide_arrays(begun, told, self._breaker.sensed.keys)
        for key, x in shown.items():
            shown[key] = np.array(x)
            shown[key][ended] = first[key]
        return shown, rewards, dones, infos

    def set_progress(self, progress: float) -> None:
        """Tell the schedules of dropout further in the training progress in [0, 1]."""
        tell_progress(self.venv, progress)

    def _start(self, rows: torch.Tensor) -> None:
        self._breaker.injector.start(rows, self._episode[rows])
        self._episode[rows] += self.num_envs

    def _break(self, observation: VecEnvObs) -> dict[str, np.ndarray]:
        self._breaker.sensed.check(observation, batched=True)
        assert isinstance(observation, dict)
        broken, told = self._breaker.apply(observation)
        return hide_arrays(broken, told, self._breaker.sensed.keys)


def _ask(venv: VecEnv, name: str) -> Any:  # noqa: ANN401
    """An attribute of the first environment, None if it has none."""
    try:
        return venv.get_attr(name, 0)[0]
    except (AttributeError, EOFError):
        return None
