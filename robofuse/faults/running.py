"""One strike in those of N environments whose plan has it: since when it is there, and what it remembers."""

from functools import partial

import torch
from torch import Tensor

from robofuse.faults.event import FaultEvent
from robofuse.faults.memory import Held, Recall, Ring
from robofuse.rng import Stream, uniform
from robofuse.sensors import Sensor

_NEVER = torch.iinfo(torch.int64).max


class ActiveFault:
    """One strike in those of N environments whose plan has it.

    Attributes:
        strike: what happens, and when.
        sensor: to which.
        salt: of its random numbers.
        since: int64 (N,), of what moves cameras, as it was found before they took their pictures.
    """

    def __init__(
        self, event: FaultEvent, sensor: Sensor, num_envs: int, salt: int, dt: float, phases: list[str]
    ) -> None:  # fmt: skip
        """In none of `num_envs` environments, whose control step takes `dt` seconds, yet."""
        self.event, self.sensor, self.salt = event, sensor, salt
        fault, back = event.fault, round(event.fault.history / dt)
        self._held = Held(num_envs) if fault.holds else None
        self._ring = Ring(num_envs, back + 1) if back else None
        self._recall = Recall(num_envs) if fault.recalls else None
        self._phase = None if event.phase is None else phases.index(event.phase)
        self._bursts = event.bursts or fault.bursts()
        self._wait = torch.zeros(num_envs, dtype=torch.int64)  # steps after the phase, or the episode's start
        self._first = torch.full((num_envs,), _NEVER)  # the first step of the fault, once it is known
        self._began = torch.full((num_envs,), -1, dtype=torch.int64)  # of the present burst; −1 between bursts
        self.since = torch.full((num_envs,), -1, dtype=torch.int64)
        self._draw = partial(uniform, stream=Stream.FAULTS, count=1, salt=salt + 3)
        self._here = torch.zeros(num_envs, dtype=torch.bool)
        self._env_ids: Tensor | None = None

    def __len__(self) -> int:
        """In how many environments."""
        return len(self.env_ids)

    @property
    def env_ids(self) -> Tensor:
        """The environments, int64 (m,)."""
        if self._env_ids is None:
            self._env_ids = self._here.nonzero()[:, 0]
        return self._env_ids

    def join(self, row: int) -> None:
        """The environment's plan has it."""
        self._here[row], self._env_ids = True, None

    def leave(self, row: int) -> None:
        """The environment has another plan."""
        self._here[row], self._env_ids = False, None

    def among(self, rows: Tensor | None) -> tuple[Tensor, Tensor]:
        """Of environments int64 (n,), or all, those that have it: where they stand in `rows`, and their numbers."""
        if rows is None:
            return self.env_ids, self.env_ids
        places = self._here[rows].nonzero()[:, 0]
        return places, rows[places]

    def start(self, env_ids: Tensor, seed: int, episode: Tensor) -> None:
        """Begin episodes."""
        event, wait = self.event, torch.full_like(env_ids, self.event.step)
        if event.until is not None:
            drawn = self._draw(seed=seed, episode=episode, step=1 << 40)[:, 0]
            wait = event.step + (drawn * (event.until - event.step + 1)).long()
        self._wait[env_ids], self._began[env_ids] = wait, -1
        self._first[env_ids] = wait if event.phase is None else _NEVER
        for memory in (self._held, self._recall):
            if memory is not None:
                memory.start(env_ids)

    def follow(self, env_ids: Tensor, step: Tensor, phase: Tensor | None, seed: int, episode: Tensor) -> Tensor:
        """Control steps since the fault set in, int64 (m,), −1 where it is not there."""
        if self._phase is not None and phase is not None:
            now = (phase >= self._phase) & (self._first[env_ids] == _NEVER)
            self._first[env_ids] = torch.where(now, step + self._wait[env_ids], self._first[env_ids])
        since = step - self._first[env_ids]
        there = since >= 0
        if self.event.duration is not None:
            there &= since < self.event.duration
        if self._bursts is None:
            return torch.where(there, since, -1)
        on, gap = self._bursts
        drawn, began = self._draw(seed=seed, episode=episode, step=step)[:, 0], self._began[env_ids]
        stays = drawn >= 1.0 / on
        # at its first step the process is where it is in the long run
        comes = drawn < torch.where(since == 0, on / (on + gap), 1.0 / gap)
        burst = there & torch.where(began >= 0, stays, comes)
        began = torch.where(burst, torch.where(began >= 0, began, step), -1)
        self._began[env_ids] = began
        return torch.where(burst, step - began, -1)

    def remember(self, readings: Tensor, places: Tensor, env_ids: Tensor, healthy: Tensor, step: Tensor) -> None:
        """What the sensor reads at a control step; `healthy` bool (m,), where the fault is not there."""
        if self._held is not None:
            self._held.push(readings, places, env_ids, healthy)
        for memory in (self._ring, self._recall):
            if memory is not None:
                memory.push(readings, places, env_ids, step)

    def before(self, env_ids: Tensor) -> Tensor:
        """The last reading before the fault; the first one if there was none."""
        assert self._held is not None
        return self._held.look(env_ids)

    def past(self, env_ids: Tensor, step: Tensor, age: Tensor) -> Tensor:
        """Readings of `age` control steps ago, never from before the episode."""
        assert self._ring is not None
        return self._ring.look(env_ids, step, age)

    def other(self, env_ids: Tensor, step: Tensor, otherwise: Tensor) -> Tensor:
        """What the episode before read at these steps; `otherwise` where there was none."""
        return otherwise if self._recall is None else self._recall.look(env_ids, step, otherwise)
