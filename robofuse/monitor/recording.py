"""Healthy episodes, of which nothing is kept but what was measured."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from robofuse.checks import whole
from robofuse.dropout import mask_sensors
from robofuse.envs import World
from robofuse.errors import InputError
from robofuse.memory.stateful import stateful
from robofuse.monitor.features import Measured, filled_after, measure
from robofuse.play import Policy
from robofuse.tensors import one_torch_thread

FOLDS = 8  # episodes are dealt out to so many; two of them are kept to check the monitor on


@dataclass(frozen=True)
class Recording:
    """Healthy readings, episode by episode, as they were measured.

    Attributes:
        measured: per sensor, of n control steps.
        live: bool (n, M), which sensors the policy was given.
        episode: int64 (n,), ascending.
        step: int64 (n,), 0, 1, … within each episode.
    """

    measured: list[Measured]
    live: Tensor
    episode: Tensor
    step: Tensor

    def take(self, rows: Tensor) -> "Recording":
        """Some control steps, in the same order."""
        return Recording(
            [found.take(rows) for found in self.measured], self.live[rows], self.episode[rows], self.step[rows]
        )


@one_torch_thread()
def record(
    policy: Policy,
    world: World,
    episodes: int,
    seed: int,
    progress: Callable[[int, int], object] | None = None,
) -> Recording:
    """The healthy episodes that `calibrate` learns from.

    Args:
        policy: that acts.
        world: without faults; made with `auto_reset`, and reset by this call.
        episodes: to play.
        seed: of the scenes.
        progress: called with (episodes done, episodes to do).

    Returns:
        What was measured of every reading.
    """
    whole(episodes, "episodes", FOLDS)
    if not world.auto_reset:
        raise InputError("a monitor is calibrated in a World(auto_reset=True): its episodes follow each other")
    sensors = world.sensors
    keys = [sensor.key for sensor in sensors]
    dead = _blackouts(episodes, len(keys), seed, world.max_steps)
    filled = torch.tensor([filled_after(sensor) for sensor in sensors])
    observation, left = world.reset(seed=seed), set(range(episodes))
    before = [torch.full((world.num_envs, *sensor.shape), torch.nan) for sensor in sensors]
    parts: list[Recording] = []
    actor = stateful(policy, world.num_envs)
    while left:
        actor.start((world.elapsed == 0).nonzero()[:, 0])
        live = world.elapsed[:, None] < dead[world.episode.clamp(max=episodes - 1)]
        with torch.no_grad():
            measured = []
            for m, sensor in enumerate(sensors):
                before[m][world.elapsed == 0] = torch.nan
                found, before[m] = measure(observation[sensor.key], before[m], sensor, world.elapsed < filled[m])
                measured.append(found)
            action = actor.act(mask_sensors(observation, live.to(torch.int8), keys))
        kept = (world.episode < episodes).nonzero()[:, 0]
        parts.append(Recording(measured, live, world.episode, world.elapsed).take(kept))
        step = world.step(action)
        left -= set(step.episode[step.ended].tolist())
        observation = step.observation
        if progress is not None:
            progress(episodes - len(left), episodes)
    every = Recording(
        [
            Measured(*map(torch.cat, zip(*found, strict=True)))
            for found in zip(*(p.measured for p in parts), strict=True)
        ],
        *(torch.cat([getattr(part, name) for part in parts]) for name in ("live", "episode", "step")),
    )
    return every.take((every.episode * (1 + world.max_steps) + every.step).argsort())


def moments(step: Tensor) -> list[Tensor]:
    """The rows of step 0, of step 1, …; rows of an episode follow each other."""
    return [(step == t).nonzero()[:, 0] for t in range(int(step.max()) + 1)]


def env_id_of(episode: Tensor) -> Tensor:
    """Episodes numbered from 0 on, without gaps."""
    return episode.unique(return_inverse=True)[1]


def _joined(parts: Sequence[Measured]) -> Measured:
    return Measured(*map(torch.cat, zip(*parts, strict=True)))


def _blackouts(episodes: int, many: int, seed: int, steps: int) -> Tensor:
    """From which step on each sensor is hidden, int64 (E, M); at least one never is."""
    generator = torch.Generator().manual_seed(seed)
    never = torch.iinfo(torch.int64).max
    dead = torch.full((episodes, many), never)
    for episode in range(episodes):
        kind, when = torch.randint(4, (1,), generator=generator), torch.randint(steps // 2, (2,), generator=generator)
        gone = torch.randperm(many, generator=generator)[: min(many - 1, [0, 1, 1, 2][int(kind)])]
        dead[episode, gone] = when[: len(gone)] if int(kind) > 1 else 0
    return dead
