"""Episodes under conditions, and what is noted of each: success, length, reward, jerk, what a monitor found."""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from robofuse.envs import World
from robofuse.errors import InputError
from robofuse.evaluate.conditions import Condition
from robofuse.evaluate.results import Episode
from robofuse.play import NOT_FINITE, Actor, Ended, Monitor, PlayStep, play

_BLOCK = 16  # episodes
_NEVER = torch.iinfo(torch.int64).max


class Job(NamedTuple):
    """One episode to play; number `episode` has the same scene under every condition."""

    condition: Condition
    episode: int


def schedule(conditions: Sequence[Condition], episodes: Iterable[int]) -> list[Job]:
    """Every episode under every condition, in the order in which they are to begin.

    Blocks of a few episodes are played under one condition after another. So all conditions are about equally far, and
    few plans are in use at a time.
    """
    numbers = list(episodes)
    blocks = [numbers[first : first + _BLOCK] for first in range(0, len(numbers), _BLOCK)]
    return [Job(condition, episode) for block in blocks for condition in conditions for episode in block]


def rollout(
    policy: Actor,
    world: World,
    jobs: Sequence[Job],
    progress: Callable[[Episode], object] | None = None,
    monitor: Monitor | None = None,
    reference: int = 15,
) -> list[Episode]:
    """Plays episodes under their conditions, see `robofuse.play.play`; one result per job, in the order of the jobs.

    Args:
        policy: what acts.
        world: made with `auto_reset=False`.
        jobs: what to play.
        progress: called with every result, in the order in which episodes end.
        monitor: masks the sensors that it does not trust.
        reference: the control step at which jerk is measured where nothing fails.

    Raises:
        InputError: the world resets by itself, a condition has other sensors, or the policy gives actions that are not
            finite although all readings were.
    """
    keys = tuple(sensor.key for sensor in world.sensors)
    for job in jobs:
        if job.condition.keys != keys:
            raise InputError(
                f"condition {job.condition.name} is of the sensors {', '.join(job.condition.keys)}; "
                f"this world has {', '.join(keys)}"
            )
    results: dict[int, Episode] = {}
    notes = Notes(world.num_envs, keys, reference, watched=monitor is not None)
    for step in play(policy, world, [(job.episode, job.condition.plan) for job in jobs], monitor=monitor):
        notes.add(step, [jobs[step.jobs[env_id]].condition for env_id in step.began])
        for end in step.ended:
            if end.error == NOT_FINITE:
                _blame(jobs[end.job], step, end.env_id, keys)
            result = results[end.job] = notes.result(jobs[end.job], end)
            if progress is not None:
                progress(result)
    return [results[index] for index in range(len(jobs))]


def _blame(job: Job, step: PlayStep, env_id: int, keys: Sequence[str]) -> None:
    """Raises InputError if an action is not finite although all readings are: that is no failure, but a mistake."""
    for key in keys:
        reading = step.observation[key][env_id]
        if reading.is_floating_point() and not bool(reading.isfinite().all()):
            return
    raise InputError(
        f"the policy's action is not finite in episode {job.episode} under {job.condition.name}; "
        "the reading of a masked sensor must not reach the action, and no set of sensors may break the network"
    )


class Notes:
    """What is noted of the episodes that are being played in N worlds."""

    def __init__(self, num_envs: int, keys: Sequence[str], reference: int, watched: bool = False) -> None:
        """`keys` are the M sensors, `reference` the step at which jerk is noted where nothing fails."""
        self._keys, self._reference, self._monitored = list(keys), reference, watched
        self._reward = torch.zeros(num_envs, dtype=torch.float64)
        self._peak = torch.zeros(num_envs)
        self._before: list[Tensor] = []  # the last two actions of all worlds
        self._jerk = torch.full((num_envs,), torch.nan)
        self._onset = torch.full((num_envs,), _NEVER)
        self._detected = torch.full((num_envs,), _NEVER)
        self._quiet = torch.ones(num_envs, dtype=torch.bool)  # worlds in which nothing is to fail
        self._target = torch.full((num_envs,), -1, dtype=torch.int64)  # the sensor that a monitor should find
        self._trusted = torch.ones(num_envs, len(self._keys), dtype=torch.bool)
        self._alarms, self._watched = torch.zeros(num_envs, dtype=torch.int64), torch.zeros(num_envs, dtype=torch.int64)

    def add(self, step: PlayStep, conditions: Sequence[Condition]) -> None:
        """Takes in a control step; `conditions` are those of the episodes that began with it, as in `step.began`."""
        for env_id, condition in zip(step.began, conditions, strict=True):
            self._begin(env_id, condition)
        if self._monitored:
            self._judge(step)
        begins = (self._onset == _NEVER) & torch.where(
            self._quiet, step.elapsed == self._reference, step.affected.any(1)
        )
        self._onset = torch.where(begins, step.elapsed, self._onset)
        if len(self._before) == 2:
            older, old = self._before
            jerk = (step.action - 2.0 * old + older).norm(dim=1)
            self._jerk = torch.where(begins & (step.elapsed >= 2), jerk, self._jerk)
        self._before = [*self._before[-1:], step.action]
        finite = step.action.isfinite().all(1)
        self._reward += torch.where(finite, step.step.reward, 0.0)
        self._peak = torch.where(finite, torch.maximum(self._peak, step.step.peak_force), self._peak)

    def result(self, job: Job, end: Ended) -> Episode:
        """The result of an episode that ended with the last step."""
        env_id = end.env_id
        noted, found = float(self._jerk[env_id]), int(self._detected[env_id])
        return Episode(
            job.condition.name,
            job.episode,
            end.success,
            end.steps,
            float(self._reward[env_id]),
            end.error,
            None if noted != noted else noted,
            None if found == _NEVER else found - int(self._onset[env_id]),
            int(self._alarms[env_id]),
            int(self._watched[env_id]),
            round(float(self._peak[env_id]), 3),
        )

    def _begin(self, env_id: int, condition: Condition) -> None:
        self._reward[env_id], self._jerk[env_id], self._peak[env_id] = 0.0, torch.nan, 0.0
        self._onset[env_id] = self._detected[env_id] = _NEVER
        self._trusted[env_id] = True
        self._alarms[env_id] = self._watched[env_id] = 0
        only = condition.event
        self._quiet[env_id] = not len(condition.plan)
        self._target[env_id] = -1 if only is None or only.is_announced else self._keys.index(only.sensor)

    def _judge(self, step: PlayStep) -> None:
        """Compares what the monitor trusts with what is broken."""
        shown, trusted = step.available.bool(), step.trusted
        looked = torch.zeros_like(self._quiet)
        looked[list(step.jobs)] = True
        self._alarms += (shown & ~step.affected & self._trusted & ~trusted).sum(1) * looked
        self._watched += looked
        self._trusted = trusted
        found = looked & (self._target >= 0) & (self._detected == _NEVER)
        target = self._target.clamp(min=0)[:, None]
        found &= (shown & step.affected & ~trusted).gather(1, target)[:, 0]
        self._detected = torch.where(found, step.elapsed, self._detected)
