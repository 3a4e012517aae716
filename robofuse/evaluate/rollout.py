"""Episodes of any number of conditions through one queue: every world is busy until the queue is empty."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple, Protocol

import torch
from torch import Tensor

from robofuse.checks import whole
from robofuse.dropout import hide
from robofuse.envs import Step, World
from robofuse.envs.tensors import one_torch_thread, put
from robofuse.evaluate.conditions import Condition, standard


class Actor(Protocol):
    """Anything that acts."""

    def act(self, observation: dict[str, Tensor], /) -> Tensor:
        """Actions (N, 5) in [−1, 1], a function of the observation alone."""
        ...


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
        success: whether the task was done; never if the simulation diverged.
        steps: control steps it lasted.
        reward: sum over the episode.
        error: why the simulation diverged, or nothing.
    """

    condition: str
    episode: int
    success: bool
    steps: int
    reward: float
    error: str


def schedule(conditions: Sequence[Condition], episodes: Iterable[int]) -> list[Job]:
    """Every episode under every condition, episode by episode: when stopped early, all conditions are as far."""
    return [Job(condition, episode) for episode in episodes for condition in conditions]


def rollout(
    policy: Actor, world: World, jobs: Sequence[Job], progress: Callable[[Result], object] | None = None
) -> list[Result]:
    """Play episodes, as many at a time as the world has room for.

    An episode's scene and noise depend on (the world's seed, its number) alone. Its result depends on neither N nor
    the other jobs, as far as the policy's arithmetic does not: matrix products may round differently for another N.

    Args:
        policy: what acts.
        world: made with `auto_reset=False`; reset by this call, and left wherever the last episodes ended.
        jobs: what to play.
        progress: called with every result, in the order in which episodes end.

    Returns:
        One result per job, in the order of the jobs.

    Raises:
        ValueError: the world resets by itself, a condition is of other sensors, or the policy gives no finite actions.
    """
    if world.auto_reset:
        raise ValueError("a rollout needs a World(auto_reset=False): it says itself which episode comes next")
    keys = tuple(sensor.key for sensor in world.sensors)
    for job in jobs:
        if job.condition.keys != keys:
            raise ValueError(
                f"condition {job.condition.name} is of the sensors {', '.join(job.condition.keys)}; "
                f"this world has {', '.join(keys)}"
            )
    results: dict[int, Result] = {}
    for index, result in _play(policy, world, jobs, keys):
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


def _play(policy: Actor, world: World, jobs: Sequence[Job], keys: tuple[str, ...]) -> Iterator[tuple[int, Result]]:
    """(number of the job, result) as episodes end."""
    if not jobs:
        return
    device = world.backend.device
    dead_from = {condition: condition.dead_from.to(device) for condition in {job.condition for job in jobs}}
    limit = torch.zeros(world.num_worlds, len(keys), dtype=torch.int64, device=device)
    waiting = iter(enumerate(jobs))
    playing: dict[int, int] = {}  # world → number of its job
    reward = torch.zeros(world.num_worlds, dtype=torch.float64, device=device)
    idle = torch.ones(world.num_worlds, dtype=torch.bool, device=device)

    def start(free: Iterable[int], observation: Mapping[str, Tensor]) -> None:
        """Give waiting jobs to free worlds, and put their first observations where they belong."""
        new = {lane: index for lane, (index, _) in zip(free, waiting, strict=False)}
        if not new:
            return
        lanes = torch.tensor(list(new), device=device)
        first = world.restart(lanes, [jobs[index].episode for index in new.values()])
        for key, value in first.items():
            put(observation[key], lanes, value)
        limit[lanes] = torch.stack([dead_from[jobs[index].condition] for index in new.values()])
        reward[lanes], idle[lanes] = 0.0, False
        playing.update(new)

    observation = world.reset()
    start(range(world.num_worlds), observation)
    while playing:
        available = (world.elapsed[:, None] < limit).to(torch.int8)
        # one thread: small batches gain little from more, and nothing depends on the number of cores
        with torch.no_grad(), one_torch_thread():
            action = policy.act(hide(observation, available, keys)).to(device)
        action = torch.where(idle[:, None], 0.0, action)  # nobody looks at those worlds
        _check(action, jobs, playing)
        step = world.step(action)
        reward += step.reward
        observation, ended = dict(step.observation), []
        for lane in step.ended.tolist():
            if lane in playing:
                index = playing.pop(lane)
                ended.append(lane)
                yield index, _result(jobs[index], step, lane, int(world.elapsed[lane]), float(reward[lane]))
        idle[ended] = True
        start(ended, observation)


def _result(job: Job, step: Step, lane: int, steps: int, reward: float) -> Result:
    error = step.errors.get(lane, "")
    return Result(job.condition.name, job.episode, bool(step.success[lane]) and not error, steps, reward, error)


def _check(action: Tensor, jobs: Sequence[Job], playing: Mapping[int, int]) -> None:
    bad = (~action.isfinite()).any(dim=1)
    if bad.any():
        job = jobs[playing[int(bad.nonzero()[0])]]
        raise ValueError(
            f"the policy's action is not finite in episode {job.episode} under {job.condition.name}; "
            "what a hidden sensor holds must not reach the action, and no set of sensors may break the network"
        )
