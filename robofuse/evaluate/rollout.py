"""Episodes of any number of conditions through one queue: every world is busy until the queue is empty."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from robofuse.checks import whole
from robofuse.dropout import mask_sensors
from robofuse.envs import World
from robofuse.errors import InputError
from robofuse.evaluate.conditions import Condition, standard
from robofuse.evaluate.traces import Job, Result, Traces
from robofuse.memory.stateful import stateful
from robofuse.sensors import AVAILABLE
from robofuse.tensors import one_torch_thread, put, take

_BLOCK = 16  # episodes
_NOT_FINITE = "the policy's action was not finite"


class Actor(Protocol):
    """Anything that acts. One that may remember has `stateful` (see `robofuse.policies.Policy`), and acts there."""

    def act(self, observation: dict[str, Tensor], /) -> Tensor:
        """Actions (N, 5) in [−1, 1], a function of the observation alone."""
        ...


class Watch(Protocol):
    """A health monitor at work in N worlds."""

    def start(self, rows: Tensor, /) -> None:
        """New episodes begin in worlds int64 (n,)."""
        ...

    def step(self, observation: Mapping[str, Tensor], rows: Tensor, /) -> Tensor:
        """int8 (n, M), 1 for what is to be trusted; called once per control step with (n, …) of worlds int64 (n,)."""
        ...


class Monitor(Protocol):
    """What `robofuse.monitor` calibrates.

    Attributes:
        card: how, as plain JSON.
    """

    @property
    def card(self) -> dict[str, Any]: ...  # noqa: D102

    def stateful(self, num_envs: int, /) -> Watch:
        """A fresh watch over N worlds."""
        ...


def schedule(conditions: Sequence[Condition], episodes: Iterable[int]) -> list[Job]:
    """Every episode under every condition, a few episodes at a time, so that all conditions are about as far.

    Within these few it goes condition by condition, so that few plans are at work at a time.

    Args:
        conditions: to play under.
        episodes: numbers of the scenes.

    Returns:
        The jobs, in the order in which they begin.
    """
    numbers = list(episodes)
    blocks = [numbers[first : first + _BLOCK] for first in range(0, len(numbers), _BLOCK)]
    return [Job(condition, episode) for block in blocks for condition in conditions for episode in block]


def rollout(
    policy: Actor,
    world: World,
    jobs: Sequence[Job],
    progress: Callable[[Result], object] | None = None,
    monitor: Monitor | None = None,
    reference: int = 15,
) -> list[Result]:
    """Play episodes, as many at a time as the world has room for.

    An episode's scene and noise depend on (the world's seed, its number) alone. Its result depends on neither N nor
    the other jobs, as far as the policy's arithmetic does not: matrix products may round differently for another N.

    Args:
        policy: what acts.
        world: made with `auto_reset=False`; reset by this call, and left wherever the last episodes ended.
        jobs: what to play.
        progress: called with every result, in the order in which episodes end.
        monitor: hides the sensors that it does not trust.
        reference: the control step at which jerk is measured where nothing fails.

    Returns:
        One result per job, in the order of the jobs.

    Raises:
        ValueError: the world resets by itself, a condition is of other sensors, or the policy gives no finite actions.
    """
    if world.auto_reset:
        raise InputError("a rollout needs a World(auto_reset=False): it says itself which episode comes next")
    keys = tuple(sensor.key for sensor in world.sensors)
    for job in jobs:
        if job.condition.keys != keys:
            raise InputError(
                f"condition {job.condition.name} is of the sensors {', '.join(job.condition.keys)}; "
                f"this world has {', '.join(keys)}"
            )
    results: dict[int, Result] = {}
    for index, result in _play(policy, world, jobs, monitor, reference):
        results[index] = result
        if progress is not None:
            progress(result)
    return [results[index] for index in range(len(jobs))]


def validate(
    policy: Actor, world: World, conditions: Sequence[Condition] | None = None, episodes: int = 20
) -> dict[str, float]:
    """Success rates for use during training: always the same scenes, 0 … `episodes` − 1 of the world's seed.

    Args:
        policy: what acts, deterministically; put networks into eval mode first, and back afterwards.
        world: made with `auto_reset=False` and a seed that is not trained on.
        conditions: by default all sensors, each one removed, and each one alone.
        episodes: per condition.

    Returns:
        Name of the condition → success rate.

    Raises:
        ValueError: as `rollout`, or fewer than one episode.
    """
    whole(episodes, "episodes", 1)
    if conditions is None:
        conditions = standard([sensor.key for sensor in world.sensors])
    won = dict.fromkeys((condition.name for condition in conditions), 0)
    for result in rollout(policy, world, schedule(conditions, range(episodes))):
        won[result.condition] += result.success
    return {name: count / episodes for name, count in won.items()}


def _play(
    policy: Actor, world: World, jobs: Sequence[Job], monitor: Monitor | None, reference: int
) -> Iterator[tuple[int, Result]]:
    """(number of the job, result) as episodes end."""
    if not jobs:
        return
    device, keys = world.backend.device, tuple(sensor.key for sensor in world.sensors)
    traces = Traces(world.num_envs, keys, reference)
    watch = None if monitor is None else monitor.stateful(world.num_envs)
    actor = stateful(policy, world.num_envs)
    waiting = iter(enumerate(jobs))
    playing: dict[int, int] = {}  # world → number of its job
    idle = torch.ones(world.num_envs, dtype=torch.bool, device=device)

    def start(free: Iterable[int], observation: dict[str, Tensor]) -> None:
        """Give waiting jobs to free worlds, and put their first observations where they belong."""
        new = {env_id: index for env_id, (index, _) in zip(free, waiting, strict=False)}
        if not new:
            return
        env_ids = torch.tensor(list(new), device=device)
        played = [jobs[index] for index in new.values()]
        first = world.restart(env_ids, [job.episode for job in played], [job.condition.plan for job in played])
        for key, value in first.items():
            put(observation[key], env_ids, value)
        traces.start(env_ids, [job.condition for job in played])
        for memory in (watch, actor):
            if memory is not None:
                memory.start(env_ids)
        idle[env_ids] = False
        playing.update(new)

    observation = world.reset()
    start(range(world.num_envs), observation)
    while playing:
        delivered, affected = observation, world.affected
        if watch is not None:
            env_ids = torch.tensor(sorted(playing), device=device)
            available = observation[AVAILABLE]
            trusted = torch.ones_like(available)
            trusted[env_ids] = watch.step({key: take(value, env_ids) for key, value in observation.items()}, env_ids)
            shown = available.bool()
            traces.watched(shown & ~affected, shown & affected, trusted.bool(), env_ids, world.elapsed)
            delivered = mask_sensors(observation, available & trusted, keys)
        # one thread: small batches gain little from more, and nothing depends on the number of cores
        with torch.no_grad(), one_torch_thread():
            action = actor.act(delivered).to(device)
        action = torch.where(idle[:, None], 0.0, action)  # nobody looks at those worlds
        ended = []
        for env_id in (~action.isfinite()).any(dim=1).nonzero()[:, 0].tolist():
            index = playing.pop(env_id)
            _check(jobs[index], delivered, env_id, keys)
            ended.append(env_id)
            action[env_id] = 0.0
            yield index, traces.result(jobs[index], env_id, int(world.elapsed[env_id]), False, _NOT_FINITE)
        traces.acted(action, world.elapsed, affected)
        step = world.step(action)
        traces.reward += step.reward
        observation = dict(step.observation)
        for env_id in step.ended.tolist():
            if env_id in playing:
                index = playing.pop(env_id)
                ended.append(env_id)
                error = step.errors.get(env_id, "")
                success = bool(step.success[env_id]) and not error
                yield index, traces.result(jobs[index], env_id, int(world.elapsed[env_id]), success, error)
        idle[ended] = True
        start(ended, observation)


def _check(job: Job, delivered: Mapping[str, Tensor], env_id: int, keys: Sequence[str]) -> None:
    """An action that is not finite is the policy's failure if a reading was not; otherwise somebody's mistake."""
    for key in keys:
        if delivered[key].is_floating_point() and not bool(delivered[key][env_id].isfinite().all()):
            return
    raise InputError(
        f"the policy's action is not finite in episode {job.episode} under {job.condition.name}; "
        "what a hidden sensor holds must not reach the action, and no set of sensors may break the network"
    )
