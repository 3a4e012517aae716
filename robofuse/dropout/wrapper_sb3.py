"""Sensor dropout for any Stable-Baselines3 `VecEnv` with Dict observations, and the callback that tells progress."""

from collections.abc import Sequence

import numpy as np
import torch
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper
from stable_baselines3.common.vec_env.base_vec_env import VecEnvObs, VecEnvStepReturn

from robofuse.dropout.apply import hide_arrays, hide_row
from robofuse.dropout.config import Dropout
from robofuse.dropout.laws import Law
from robofuse.dropout.masker import Masker
from robofuse.dropout.spaces import Fill, sensed
from robofuse.errors import InputError
from robofuse.rng import check_seed


class VecSensorDropout(VecEnvWrapper):
    """Hides sensors of each of N environments and says so under `available`.

    `available` is int8 (N, M), 1 = delivering, one entry for each key but `available` and `privileged`, in alphabetical
    order; if the environments have one themselves, a sensor delivers if both say so. The mask is part of the
    observation, so rollout buffers store it and PPO updates with the mask that it acted with; `terminal_observation`
    has the mask of the episode that ended.

    Environment i of N has the masks of the episodes i, i + N, i + 2N, … of the seed.

    With PPO or A2C, `VecNormalize` belongs inside, so that hidden readings do not count:
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
        """Wraps environments.

        Args:
            venv: any VecEnv with a flat Dict observation space.
            dropout: what to hide: a `Dropout`, a law, or a probability.
            sensors: keys that may be hidden; by default all but `available`, `privileged` and goals.
            fill: what hidden readings become: `zeros`, for policies that do not read `available`; or `keep`, as is.
            seed: of the masks until `seed` is called, as algorithms with a seed do.

        Raises:
            ValueError: not a flat Dict, an unknown sensor, or a law that does not fit; the message says what to do.
        """
        if dropout is None:
            raise InputError("dropout is missing: give a probability, a robofuse.dropout.Dropout or a law")
        self._sensed, self._fill = sensed(venv.observation_space, sensors, fill), fill == "zeros"
        self._masker = Masker(dropout, self._sensed.hideable, venv.num_envs, seed)
        self._episode = torch.arange(venv.num_envs)
        super().__init__(venv, observation_space=self._sensed.space)

    def reset(self) -> VecEnvObs:
        """Start the next episode everywhere."""
        observation = self.venv.reset()
        self._start(torch.arange(self.num_envs))
        return self._hide(observation)

    def seed(self, seed: int | None = None) -> Sequence[int | None]:
        """Seed the environments; from the next `reset`, the masks are those of this seed from episode 0 on."""
        if seed is not None:
            self._masker.seed = check_seed(seed)
            self._episode = torch.arange(self.num_envs)
        return self.venv.seed(seed)

    def step_wait(self) -> VecEnvStepReturn:
        """See `VecEnv.step_wait`."""
        observation, rewards, dones, infos = self.venv.step_wait()
        self._masker.step()
        ended = np.flatnonzero(dones)
        if len(ended):
            masks = self._sensed.masks(self._masker.available)
            for index in ended:
                if "terminal_observation" in infos[index]:
                    last = infos[index]["terminal_observation"]
                    last = hide_row(last, masks[index], self._sensed.keys, self._fill)
                    infos[index]["terminal_observation"] = last
            self._start(torch.from_numpy(ended))
        return self._hide(observation), rewards, dones, infos

    def set_progress(self, progress: float) -> None:
        """Tell the schedule, here and in environments further in, the training progress in [0, 1]."""
        self._masker.progress = progress
        tell_progress(self.venv, progress)

    def _start(self, rows: torch.Tensor) -> None:
        self._masker.start(rows, self._episode[rows])
        self._episode[rows] += self.num_envs

    def _hide(self, observation: VecEnvObs) -> dict[str, np.ndarray]:
        self._sensed.check(observation, batched=True)
        assert isinstance(observation, dict)
        return hide_arrays(observation, self._sensed.masks(self._masker.available), self._sensed.keys, self._fill)


def tell_progress(venv: VecEnv, progress: float) -> bool:
    """Tell training progress to everything inside a VecEnv that has `set_progress`.

    Args:
        venv: with wrappers or without.
        progress: steps done / all steps, in [0, 1].

    Returns:
        Whether anything has it.
    """
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

    For every algorithm of Stable-Baselines3, and for whatever hides sensors: `VecSensorDropout`, `SensorDropout` or
    the `dropout` option of a robofuse environment. Draws follow from the next rollout on.
    """

    def __init__(self, total: int | None = None, verbose: int = 0) -> None:
        """Makes the callback.

        Args:
            total: steps at which progress is 1; by default all that `learn` was asked for.
            verbose: as in SB3.
        """
        super().__init__(verbose)
        self.total, self._last = total, -1.0

    def _on_training_start(self) -> None:
        self._last = -1.0
        if not self._tell():
            raise InputError(
                "DropoutProgress has nobody to tell: wrap the environment in VecSensorDropout or SensorDropout, or "
                "make a robofuse environment with dropout=..."
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
        return tell_progress(self.training_env, progress)
