"""What is noted of the episodes that are being played."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from robofuse.evaluate.conditions import Condition
from robofuse.stats import second_difference

_NEVER = torch.iinfo(torch.int64).max


class Job(NamedTuple):
    """One episode to play.

    Attributes:
        condition: what fails.
        episode: its number: it has the same scene under every condition.
    """

    condition: Condition
    episode: int


class Result(NamedTuple):
    """How one episode went.

    Attributes:
        condition: its name.
        episode: its number.
        success: whether the task was done; never if it broke off.
        steps: control steps it lasted.
        reward: sum over the episode.
        error: why it broke off, such as a simulation that diverged; or nothing.
        jerk: ‖a[t] − 2a[t−1] + a[t−2]‖ of the actions, t the first step of a fault, or the reference step where nothing
            fails; None if it did not come to that, or t is not at least 2.
        detected: control steps from the first step of the condition's only fault until a monitor no longer trusted the
            sensor; None if it did not, or has nothing to find.
        alarms: how often a monitor stopped trusting a sensor that was healthy.
        watched: control steps in which a monitor looked on.
    """

    condition: str
    episode: int
    success: bool
    steps: int
    reward: float
    error: str = ""
    jerk: float | None = None
    detected: int | None = None
    alarms: int = 0
    watched: int = 0


class Traces:
    """Notes of N worlds, in which one episode after the other is played.

    Attributes:
        reward: float64 (N,), sum since the start of the episode.
    """

    def __init__(self, num_envs: int, keys: Sequence[str], reference: int) -> None:
        """`keys` are the M sensors, `reference` the step at which jerk is noted where nothing fails."""
        self._keys, self._reference = list(keys), reference
        self.reward = torch.zeros(num_envs, dtype=torch.float64)
        self._before: list[Tensor] = []  # the last two actions of all worlds
        self._jerk = torch.full((num_envs,), torch.nan)
        self._onset = torch.full((num_envs,), _NEVER)
        self._detected = torch.full((num_envs,), _NEVER)
        self._quiet = torch.ones(num_envs, dtype=torch.bool)  # worlds in which nothing is to fail
        self._target = torch.full((num_envs,), -1, dtype=torch.int64)  # the sensor that a monitor should find
        self._trusted = torch.ones(num_envs, len(self._keys), dtype=torch.bool)
        self._alarms, self._watched = torch.zeros(num_envs, dtype=torch.int64), torch.zeros(num_envs, dtype=torch.int64)

    def start(self, env_ids: Tensor, conditions: Sequence[Condition]) -> None:
        """New episodes in worlds int64 (n,)."""
        for value, notes in (
            (0, (self.reward, self._alarms, self._watched)),
            (_NEVER, (self._onset, self._detected)),
            (torch.nan, (self._jerk,)),
            (True, (self._trusted,)),
        ):
            for note in notes:
                note[env_ids] = value
        for env_id, condition in zip(env_ids.tolist(), conditions, strict=True):
            only = condition.only
            self._quiet[env_id] = not len(condition.plan)
            self._target[env_id] = -1 if only is None or only.is_announced else self._keys.index(only.sensor)

    def watched(self, healthy: Tensor, affected: Tensor, trusted: Tensor, env_ids: Tensor, elapsed: Tensor) -> None:
        """What a monitor says, bool (N, M), beside what is so, of the worlds int64 (n,) that it looks at."""
        looked = torch.zeros_like(self._quiet).index_fill(0, env_ids, True)
        self._alarms += (healthy & self._trusted & ~trusted).sum(1) * looked
        self._watched += looked
        self._trusted = trusted
        found = looked & (self._target >= 0) & (self._detected == _NEVER)
        target = self._target.clamp(min=0)[:, None]
        found &= (affected & ~trusted).gather(1, target)[:, 0]
        self._detected = torch.where(found, elapsed, self._detected)

    def acted(self, action: Tensor, elapsed: Tensor, affected: Tensor) -> None:
        """Actions (N, A) at control steps (N,), and what was broken there, bool (N, M)."""
        begins = (self._onset == _NEVER) & torch.where(self._quiet, elapsed == self._reference, affected.any(1))
        self._onset = torch.where(begins, elapsed, self._onset)
        if len(self._before) == 2:
            older, old = self._before
            jerk = second_difference(action, old, older).norm(dim=1)
            self._jerk = torch.where(begins & (elapsed >= 2), jerk, self._jerk)
        self._before = [*self._before[-1:], action]

    def result(self, job: Job, env_id: int, steps: int, success: bool, error: str) -> Result:
        """Of an episode that has ended."""
        jerk, found = float(self._jerk[env_id]), int(self._detected[env_id])
        return Result(
            job.condition.name,
            job.episode,
            success,
            steps,
            float(self.reward[env_id]),
            error,
            None if jerk != jerk else jerk,
            None if found == _NEVER else found - int(self._onset[env_id]),
            int(self._alarms[env_id]),
            int(self._watched[env_id]),
        )
