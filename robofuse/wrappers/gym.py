"""Dropout, faults and memory for any Gymnasium environment with Dict observations."""

from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium as gym
import numpy as np
import torch

from robofuse.dropout import Dropout, Law
from robofuse.faults import Mix, Plan
from robofuse.rng import check_seed
from robofuse.sensors import Kind, Sensor
from robofuse.wrappers.spaces import Fill
from robofuse.wrappers.transforms import BreakingTransform, MaskingTransform, StackingTransform, Transform

Observation = dict[str, Any]
DT = 0.05  # seconds of a control step where an environment does not say it; robofuse's own
_ONLY = torch.zeros(1, dtype=torch.int64)  # the environment's number


class SensorWrapper(gym.Wrapper[Observation, Any, Any, Any], gym.utils.RecordConstructorArgs):
    """One environment with a `Transform` of its observations.

    Episodes are counted from the last seed on, unless the environment's `info` numbers them (`episode_number`), as
    robofuse's own do.
    """

    def __init__(self, env: gym.Env, transform: Transform, **arguments: Any) -> None:  # noqa: ANN401
        """Wraps an environment; `arguments` are those of the subclass, which Gymnasium records."""
        gym.utils.RecordConstructorArgs.__init__(self, **arguments)
        gym.Wrapper.__init__(self, env)
        self._transform, self._episode = transform, 0
        self.observation_space = transform.space

    @property
    def keys(self) -> tuple[str, ...]:
        """Keys of the sensors, in the order of `available`."""
        return tuple(self._transform.sensed.keys)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Observation, dict]:
        """Starts an episode. A seed is passed on, and is that of this wrapper from its episode 0 on."""
        observation, info = self.env.reset(seed=seed, options=options)
        if seed is not None:
            self._transform.reseed(seed)
            self._episode = 0
        self._episode = int(info.get("episode_number", self._episode))
        self._transform.start(_ONLY, torch.tensor([self._episode]))
        self._episode += 1
        return self._changed(observation), info

    def step(self, action: Any) -> tuple[Observation, Any, bool, bool, dict[str, Any]]:  # noqa: ANN401
        """As `gymnasium.Env.step`, with the changed observation."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        self._transform.step()
        return self._changed(observation), reward, terminated, truncated, info

    def _changed(self, observation: Observation) -> Observation:
        self._transform.sensed.check(observation, batched=False)
        batch = {key: np.asarray(x)[None] for key, x in observation.items()}
        changed = self._transform.apply(batch, _ONLY)
        # what is unchanged, such as a number of a Discrete space, stays the very same thing
        return {key: observation[key] if x is batch.get(key) else x[0] for key, x in changed.items()}


class SensorDropout(SensorWrapper):
    """Masks sensors of one environment and says so under `available`.

    `available` is int8 (M,), 1 = delivering, one entry for each key but `available` and `privileged`, in alphabetical
    order; if the environment has one itself, a sensor delivers if both say so. The last observation of an episode has
    the mask of that episode. Masks depend on (seed, episode, step) alone.

    For several environments at once with Stable-Baselines3, `VecSensorDropout` is faster.
    """

    def __init__(
        self,
        env: gym.Env,
        dropout: Dropout | Law | float,
        sensors: Sequence[str] | None = None,
        fill: Fill = "zeros",
        seed: int | None = None,
    ) -> None:
        """Wraps an environment.

        Args:
            env: any environment with a flat Dict observation space.
            dropout: what to mask: a `Dropout`, a law, or a probability.
            sensors: keys that may be masked; by default all but `available`, `privileged` and goals.
            fill: what masked readings become: `zeros`, for policies that do not read `available`; or `keep`, as is.
            seed: of the masks until `reset` is given one; by default another in every run.

        Raises:
            InputError: not a flat Dict, an unknown sensor, or a law that does not fit; the message says what to do.
        """
        masking = MaskingTransform(env.observation_space, dropout, sensors, fill, 1, _seed(seed))
        super().__init__(env, masking, dropout=dropout, sensors=sensors, fill=fill, seed=seed)
        self._masker = masking.masker

    def set_progress(self, progress: float) -> None:
        """Sets the training progress in [0, 1] of the schedule, here and in environments further in."""
        self._masker.progress = progress
        if self.env.has_wrapper_attr("set_progress"):
            self.env.get_wrapper_attr("set_progress")(progress)


class SensorFaults(SensorWrapper):
    """Breaks sensors of one environment.

    Attributes:
        dt: seconds of a step.

    Announced faults show under `available`, as masked sensors do in `SensorDropout`. Faults depend on (seed, episode,
    step) and the readings alone.
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
            InputError: not a flat Dict, or a plan that does not fit; the message says what to do.
        """
        known = sensors or getattr(getattr(env.unwrapped, "world", None), "sensors", None)
        seconds = dt or step_seconds(env.metadata)
        breaking = BreakingTransform(env.observation_space, plan, kinds, known, seconds, 1, _seed(seed))
        super().__init__(env, breaking, plan=str(plan), kinds=kinds, sensors=sensors, dt=dt, seed=seed)
        self.dt, self._breaking = seconds, breaking

    @property
    def affected(self) -> np.ndarray:
        """Which sensors faults have broken in the last observation, announced or not, bool (M,)."""
        return self._breaking.affected[0]


class SensorStack(SensorWrapper):
    """Gives the last K readings that every sensor delivered, with their `freshness`; see `Stack`.

    It belongs outside of what masks or breaks sensors (`SensorDropout`, `SensorFaults`), whose `available` it reads.
    """

    def __init__(self, env: gym.Env, frames: int = 2, sensors: Sequence[str] | None = None) -> None:
        """Wraps an environment.

        Args:
            env: any environment with a flat Dict observation space.
            frames: K; 1 holds the last reading.
            sensors: keys to stack; by default all but `available`, `privileged` and goals.

        Raises:
            InputError: not a flat Dict, an unknown sensor or one that is no array; the message says what to do.
        """
        stacking = StackingTransform(env.observation_space, frames, sensors, 1)
        super().__init__(env, stacking, frames=frames, sensors=sensors)


def step_seconds(metadata: Mapping[str, Any] | None) -> float:
    """Seconds of a step, as the `render_fps` of an environment's metadata says; or those of robofuse."""
    fps = (metadata or {}).get("render_fps")
    return 1.0 / fps if fps else DT


def _seed(seed: int | None) -> int:
    return int(np.random.default_rng().integers(2**62)) if seed is None else check_seed(seed)
