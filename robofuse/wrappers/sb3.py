"""Dropout, faults and memory for any Stable-Baselines3 `VecEnv` with Dict observations, and training progress."""

from collections.abc import Mapping, Sequence
from typing import Any, cast

import numpy as np
import torch
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper
from stable_baselines3.common.vec_env.base_vec_env import VecEnvObs, VecEnvStepReturn
from torch import Tensor

from robofuse.dropout import Dropout, Law
from robofuse.errors import InputError
from robofuse.faults import Mix, Plan
from robofuse.sensors import Kind, Sensor
from robofuse.wrappers.gym import step_seconds
from robofuse.wrappers.spaces import Fill
from robofuse.wrappers.transforms import Arrays, BreakingTransform, MaskingTransform, StackingTransform, Transform


class VecSensorWrapper(VecEnvWrapper):
    """N environments with a `Transform` of their observations.

    Environment i of N plays the episodes i, i + N, i + 2N, … of the seed. `terminal_observation` is changed as the
    episode that ended was.
    """

    def __init__(self, venv: VecEnv, transform: Transform) -> None:
        """Wraps environments."""
        self._transform, self._all = transform, torch.arange(venv.num_envs)
        self._episode = self._all.clone()
        super().__init__(venv, observation_space=transform.space)

    def reset(self) -> VecEnvObs:
        """Starts the next episode everywhere."""
        observation = self.venv.reset()
        self._start(self._all)
        return self._changed(observation)

    def seed(self, seed: int | None = None) -> Sequence[int | None]:
        """Seeds the environments; from the next `reset` on, this wrapper has this seed too, from episode 0 on."""
        if seed is not None:
            self._transform.reseed(seed)
            self._episode = self._all.clone()
        return self.venv.seed(seed)

    def step_wait(self) -> VecEnvStepReturn:
        """As `VecEnv.step_wait`, with the changed observations."""
        observation, rewards, dones, infos = self.venv.step_wait()
        self._transform.step()
        ended = np.flatnonzero(dones).tolist()
        if ended:
            self._change_last(infos, [index for index in ended if "terminal_observation" in infos[index]])
            self._start(torch.tensor(ended))
        return self._changed(observation), rewards, dones, infos

    def _start(self, env_ids: Tensor) -> None:
        self._transform.start(env_ids, self._episode[env_ids])
        self._episode[env_ids] += self.num_envs

    def _changed(self, observation: VecEnvObs) -> Arrays:
        self._transform.sensed.check(observation, batched=True)
        assert isinstance(observation, dict)
        return self._transform.apply(observation, self._all)

    def _change_last(self, infos: Sequence[dict], indices: list[int]) -> None:
        """Changes the last observations of episodes in place, before new episodes start in their environments."""
        if not indices:
            return
        last = [infos[index]["terminal_observation"] for index in indices]
        batch = {key: np.stack([one[key] for one in last]) for key in last[0]}
        changed = self._transform.apply(batch, torch.tensor(indices))
        for row, index in enumerate(indices):
            infos[index]["terminal_observation"] = {key: x[row] for key, x in changed.items()}


class VecSensorDropout(VecSensorWrapper):
    """Masks sensors of each of N environments, as `SensorDropout` does, and says so under `available`, int8 (N, M).

    The mask is part of the observation, so rollout buffers store it and PPO updates with the mask that it acted with;
    `terminal_observation` has the mask of the episode that ended.

    With PPO or A2C, `VecNormalize` belongs inside, so that masked readings do not count:
    `VecSensorDropout(VecNormalize(venv), 0.3)`. Learners from a replay buffer store what `VecNormalize` was given, so
    there it belongs outside, with `norm_obs_keys` that leave `available` out.
    """

    def __init__(
        self,
        venv: VecEnv,
        dropout: Dropout | Law | float,
        sensors: Sequence[str] | None = None,
        fill: Fill = "zeros",
        seed: int = 0,
    ) -> None:
        """Wraps any `VecEnv` with a flat Dict observation space; arguments and errors as of `SensorDropout`.

        `seed` is that of the masks until `seed` is called, as algorithms with a seed do.
        """
        masking = MaskingTransform(venv.observation_space, dropout, sensors, fill, venv.num_envs, seed)
        self._masker = masking.masker
        super().__init__(venv, masking)

    def set_progress(self, progress: float) -> None:
        """Sets the training progress in [0, 1] of the schedule, here and in environments further in."""
        self._masker.progress = progress
        tell_progress(self.venv, progress)


class VecSensorFaults(VecSensorWrapper):
    """Breaks sensors of each of N environments, as `SensorFaults` does.

    Announced faults show under `available`, int8 (N, M). It belongs inside `VecSensorDropout`.
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
        """Wraps any `VecEnv` with a flat Dict observation space; arguments and errors as of `SensorFaults`.

        `seed` is that of the faults until `seed` is called, as algorithms with a seed do.
        """
        known = sensors or _ask(venv, "sensors")
        seconds = dt or step_seconds(_ask(venv, "metadata"))
        space = venv.observation_space
        super().__init__(venv, BreakingTransform(space, plan, kinds, known, seconds, venv.num_envs, seed))


class VecSensorStack(VecSensorWrapper):
    """Gives the last K readings that every sensor delivered, as `SensorStack` does.

    It belongs outside of `VecSensorDropout` and `VecSensorFaults`, whose `available` it reads.
    """

    def __init__(self, venv: VecEnv, frames: int = 2, sensors: Sequence[str] | None = None) -> None:
        """Wraps any `VecEnv` with a flat Dict observation space; arguments and errors as of `SensorStack`."""
        super().__init__(venv, StackingTransform(venv.observation_space, frames, sensors, venv.num_envs))


def tell_progress(venv: VecEnv, progress: float) -> bool:
    """Tells training `progress` in [0, 1] to all inside a `venv` that has `set_progress`; False if nothing has it."""
    # wrappers pretend to have the attributes of what they wrap, so the class is asked
    while not hasattr(type(venv), "set_progress"):
        if not isinstance(venv, VecEnvWrapper):
            if venv.has_attr("set_progress"):
                venv.env_method("set_progress", progress)
                return True
            return False
        venv = venv.venv
    venv.set_progress(progress)  # type: ignore[attr-defined]
    return True


class DropoutProgress(BaseCallback):
    """Tells the schedules of dropout how far training is: steps done / all steps of `learn`.

    For every algorithm of Stable-Baselines3, and for whatever masks sensors: `VecSensorDropout`, `SensorDropout`, the
    `dropout` option of a robofuse environment, or that of the extractor. It has effect from the next rollout on.
    """

    def __init__(self, total: int | None = None, verbose: int = 0) -> None:
        """At `total` steps progress is 1, by default at all that `learn` was asked for; `verbose` as in SB3."""
        super().__init__(verbose)
        self.total, self._last = total, -1.0

    def _on_training_start(self) -> None:
        self._last = -1.0
        if not self._tell():
            raise InputError(
                "nothing here has a schedule that DropoutProgress could tell: wrap the environment in "
                "VecSensorDropout or SensorDropout, or give dropout=... to a robofuse environment or, for learners "
                "from a replay buffer, to the extractor"
            )

    def _on_rollout_start(self) -> None:
        self._tell()

    def _on_step(self) -> bool:
        return True

    def _tell(self) -> bool:
        progress = min(self.num_timesteps / max(self.total or self.model._total_timesteps, 1), 1.0)
        # learners from a replay buffer have a rollout per step; other processes are told seldom
        if progress < 1.0 and abs(progress - self._last) < 1e-3 and self._last >= 0.0:
            return True
        self._last = progress
        told = [tell_progress(self.training_env, progress)]
        for module in self.model.policy.modules():
            if hasattr(module, "set_dropout_progress"):  # an extractor: policies are above wrappers
                told.append(cast(Any, module).set_dropout_progress(progress))
        return any(told)


def _ask(venv: VecEnv, name: str) -> Any:  # noqa: ANN401
    """An attribute of the first environment, None if it has none."""
    try:
        return venv.get_attr(name, 0)[0]
    except (AttributeError, EOFError):
        return None
