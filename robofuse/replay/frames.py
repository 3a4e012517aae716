"""Plays episodes as frames to look at: one at the start and one after each control step."""

from collections.abc import Generator
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from robofuse.dropout import mask_sensors
from robofuse.envs import World
from robofuse.envs.world import CONTROL_RATE
from robofuse.errors import InputError
from robofuse.faults import Plan
from robofuse.play import NOT_FINITE, Actor, Monitor, play
from robofuse.sensors import AVAILABLE


@dataclass(frozen=True)
class Frame:
    """One moment of one episode.

    Attributes:
        episode: number of the episode.
        step: control steps since its start.
        observation: the policy's, key → array of one world; a sensor that is off holds zeros.
        on: sensor → whether it delivers; off are unavailable sensors, and those that the monitor does not trust.
        off_since: sensor → control step since which it has been off, of the sensors that are off.
        terms: weighted reward terms of the step that led here; zeros at the start.
        total: sum of the rewards so far.
        scene: picture of the world, RGB uint8 (H, W, 3).
        outcome: empty while the episode goes on, then `success`, or why it failed.
        dt: seconds of a control step.
    """

    episode: int
    step: int
    observation: dict[str, np.ndarray]
    on: dict[str, bool]
    off_since: dict[str, int]
    terms: dict[str, float]
    total: float
    scene: np.ndarray
    outcome: str = ""
    dt: float = 1.0 / CONTROL_RATE

    @property
    def time(self) -> float:
        """Seconds since the start of the episode."""
        return self.step * self.dt

    @property
    def success(self) -> bool:
        """Whether the episode ended with success."""
        return self.outcome == "success"


def frames(
    policy: Actor, world: World, jobs: list[tuple[int, Plan | None]], monitor: Monitor | None = None
) -> Generator[Frame]:
    """Play episodes one after the other in a World of one; arguments as of `robofuse.play.play`.

    Yields:
        The frame at the start of each episode, and one after each of its control steps; the last one has an outcome,
        and in it sensors are trusted as in the step before.

    Raises:
        InputError: the World has several worlds or resets by itself.
    """
    if world.num_envs != 1:
        raise InputError(f"frames are of one world, got a World of {world.num_envs}")
    keys = [sensor.key for sensor in world.sensors]
    terms, total, since = dict[str, float](), 0.0, dict[str, int]()

    def frame(episode: int, step: int, observation: dict[str, Tensor], scene: np.ndarray, outcome: str = "") -> Frame:
        nonlocal since
        on = dict(zip(keys, (observation[AVAILABLE][0] > 0).tolist(), strict=True))
        since = {key: since.get(key, step) for key, works in on.items() if not works}
        seen = {key: value[0].numpy() for key, value in observation.items()}
        return Frame(episode, step, seen, on, since, terms, total, scene, outcome)

    for played in play(policy, world, jobs, monitor=monitor, pictures=True):
        if played.began:
            terms, total, since = dict.fromkeys(world.task.weights, 0.0), 0.0, {}
        assert played.picture is not None
        episode, number = int(played.episode[0]), int(played.elapsed[0])
        yield frame(episode, number, played.observation, played.picture)
        last = next(iter(played.ended), None)
        if last is not None and last.error == NOT_FINITE:  # the step was not taken
            yield frame(episode, number, played.observation, played.picture, NOT_FINITE)
            continue
        total += float(played.step.reward[0])
        terms = {name: float(term[0]) for name, term in played.step.terms.items()}
        if last is not None:
            observation = dict(played.step.observation)
            if not bool(played.trusted.all()):
                observation = mask_sensors(observation, observation[AVAILABLE] & played.trusted, keys)
            outcome = "success" if last.success else last.error or "out of time"
            yield frame(episode, last.steps, observation, world.picture(), outcome)
