"""An episode, one moment at a time: what a policy was given, what came of it."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from robofuse.dropout import mask_sensors
from robofuse.envs import World
from robofuse.envs.world import CONTROL_RATE
from robofuse.faults import Plan
from robofuse.memory.stateful import stateful
from robofuse.play import Monitor
from robofuse.sensors import AVAILABLE

_NOT_FINITE = "the policy's action is not finite"


class Actor(Protocol):
    """What replays can show: `robofuse.policies.load` gives one, and so does `stage.py`."""

    def act(self, observation: dict[str, Tensor], /) -> Tensor:
        """Actions (1, A) in [-1, 1] for an observation, key → (1, …)."""
        ...


@dataclass(frozen=True)
class Moment:
    """One control step of one episode.

    Attributes:
        episode: its number.
        step: control steps since its start.
        observation: what is delivered, key → array of one world; a sensor that is hidden holds zeros.
        alive: sensor → whether it delivers.
        dead_since: sensor → control step from which on it has been silent, for those that do not.
        terms: weighted reward terms of the step that led here; zeros at the start.
        total: sum of the rewards so far.
        outcome: empty while it goes on, then `success`, or what went wrong.
    """

    episode: int
    step: int
    observation: dict[str, np.ndarray]
    alive: dict[str, bool]
    dead_since: dict[str, int]
    terms: dict[str, float]
    total: float
    outcome: str = ""

    @property
    def time(self) -> float:
        """Seconds since the start of the episode."""
        return self.step / CONTROL_RATE

    @property
    def success(self) -> bool:
        """Whether it ended well."""
        return self.outcome == "success"


def play(world: World, actor: Actor, plan: Plan, episode: int, monitor: Monitor | None = None) -> Iterator[Moment]:
    """Play one episode; the world stands still at each moment, and can be drawn.

    The actor and the moments get the same observation, after the faults; hidden is what is announced as broken, and
    what the monitor does not trust.

    Args:
        world: a World of one, without automatic reset.
        actor: who acts.
        plan: what breaks, and when.
        episode: its number; with the world's seed it tells the scene.
        monitor: looks after the sensors.

    Yields:
        The moment after `reset`, and one after each control step; the last has an outcome.
    """
    keys = tuple(sensor.key for sensor in world.sensors)
    world.reset(episode=episode)
    observation = world.restart([0], [episode], [plan])
    terms, total, outcome = dict.fromkeys(world.task.weights, 0.0), 0.0, ""
    number, since = 0, dict[str, int]()
    watch, env_ids = None if monitor is None else monitor.stateful(1), stateful(actor, 1)
    env_ids.start(torch.zeros(1, dtype=torch.int64))
    while True:
        if watch is not None and outcome != _NOT_FINITE:  # that moment was judged already
            observation = mask_sensors(observation, watch.step(observation, torch.zeros(1, dtype=torch.int64)), keys)
        alive = observation[AVAILABLE][0] > 0
        since = {key: since.get(key, number) for key, works in zip(keys, alive.tolist(), strict=True) if not works}
        yield Moment(
            episode,
            number,
            {key: value[0].numpy() for key, value in observation.items()},
            dict(zip(keys, alive.tolist(), strict=True)),
            since,
            terms,
            total,
            outcome,
        )
        if outcome:
            return
        action = env_ids.act(observation).cpu()
        if not bool(action.isfinite().all()):
            outcome = _NOT_FINITE
            continue
        step = world.step(action)
        number += 1
        observation, total = step.observation, total + float(step.reward[0])
        terms = {name: float(term[0]) for name, term in step.terms.items()}
        if len(step.ended):
            outcome = "success" if step.success[0] else step.errors.get(0, "out of time")
