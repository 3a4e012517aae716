"""One strike in those of N environments whose plan has it: since when it is there, and what it remembers."""

from functools import partial

import torch
from torch import Tensor

from robofuse.faults.memory import Held, Recall, Ring
from robofuse.faults.strike import Strike
from robofuse.sensors import Sensor
from robofuse.streams import Stream, uniform

_NEVER = torch.iinfo(torch.int64).max


class Running:
    """One strike in those of N environments whose plan has it.

    Attributes:
        strike: what happens, and when.
        sensor: to which.
        salt: of its random numbers.
        since: int64 (N,), of what moves cameras, as it was found before they took their pictures.
    """

    def __init__(
        self, strike: Strike, sensor: Sensor, num: int, salt: int, dt: float, phases: list[str]
    ) -> None:  # fmt: skip
        """In none of `num` environments, whose control step takes `dt` seconds, yet."""
        self.strike, self.sensor, self.salt = strike, sensor, salt
        fault, back = strike.fault, round(strike.fault.history / dt)
        self._held = Held(num) if fault.holds else None
        self._ring = Ring(num, back + 1) if back else None
        self._recall = Recall(num) if fault.recalls else None
        self._phase = None if strike.phase is None else phases.index(strike.phase)
        self._bursts = strike.bursts or fault.bursts()
        self._wait = torch.zeros(num, dtype=torch.int64)  # steps after the phase, or the episode's start
        self._first = torch.full((num,), _NEVER)  # the first step of the fault, once it is known
        self._began = torch.full((num,), -1, dtype=torch.int64)  # of the present burst; −1 between bursts
        self.since = torch.full((num,), -1, dtype=torch.int64)
        self._draw = partial(uniform, stream=Stream.FAULTS, count=1, salt=salt + 3)
        self._here = torch.zeros(num, dtype=torch.bool)
        self._lanes: Tensor | None = None

    def __len__(self) -> int:
        """In how many environments."""
        return len(self.lanes)

    @property
    def lanes(self) -> Tensor:
        """The environments, int64 (m,)."""
        if self._lanes is None:
            self._lanes = self._here.nonzero()[:, 0]
        return self._lanes

    def join(self, row: int) -> None:
        """The environment's plan has it."""
        self._here[row], self._lanes = True, None

    def leave(self, row: int) -> None:
        """The environment has another plan."""
        self._here[row], self._lanes = False, None

    def among(self, rows: Tensor | None) -> tuple[Tensor, Tensor]:
        """Of environments int64 (n,), or all, those that have it: where they stand in `rows`, and their numbers."""
        if rows is None:
            return self.lanes, self.lanes
        places = self._here[rows].nonzero()[:, 0]
        return places, rows[places]

    def start(self, lanes: Tensor, seed: int, episode: Tensor) -> None:
        """Begin episodes."""
        strike, wait = self.strike, torch.full_like(lanes, self.strike.step)
        if strike.until is not None:
            drawn = self._draw(seed=seed, episode=episode, step=1 << 40)[:, 0]
            wait = strike.step + (drawn * (strike.until - strike.step + 1)).long()
        self._wait[lanes], self._began[lanes] = wait, -1
        self._first[lanes] = wait if strike.phase is None else _NEVER
        for memory in (self._held, self._recall):
            if memory is not None:
                memory.start(lanes)

    def follow(self, lanes: Tensor, step: Tensor, phase: Tensor | None, seed: int, episode: Tensor) -> Tensor:
        """Control steps since the fault set in, int64 (m,), −1 where it is not there."""
        if self._phase is not None and phase is not None:
            now = (phase >= self._phase) & (self._first[lanes] == _NEVER)
            self._first[lanes] = torch.where(now, step + self._wait[lanes], self._first[lanes])
        since = step - self._first[lanes]
        there = since >= 0
        if self.strike.lasts is not None:
            there &= since < self.strike.lasts
        if self._bursts is None:
            return torch.where(there, since, -1)
        on, gap = self._bursts
        drawn, began = self._draw(seed=seed, episode=episode, step=step)[:, 0], self._began[lanes]
        stays = drawn >= 1.0 / on
        # at its first step the process is where it is in the long run
        comes = drawn < torch.where(since == 0, on / (on + gap), 1.0 / gap)
        burst = there & torch.where(began >= 0, stays, comes)
        began = torch.where(burst, torch.where(began >= 0, began, step), -1)
        self._began[lanes] = began
        return torch.where(burst, step - began, -1)

    def remember(self, readings: Tensor, places: Tensor, lanes: Tensor, healthy: Tensor, step: Tensor) -> None:
        """What the sensor reads at a control step; `healthy` bool (m,), where the fault is not there."""
        if self._held is not None:
            self._held.push(readings, places, lanes, healthy)
        for memory in (self._ring, self._recall):
            if memory is not None:
                memory.push(readings, places, lanes, step)

    def before(self, lanes: Tensor) -> Tensor:
        """The last reading before the fault; the first one if there was none."""
        assert self._held is not None
        return self._held.look(lanes)

    def past(self, lanes: Tensor, step: Tensor, age: Tensor) -> Tensor:
        """Readings of `age` control steps ago, never from before the episode."""
        assert self._ring is not None
        return self._ring.look(lanes, step, age)

    def other(self, lanes: Tensor, step: Tensor, otherwise: Tensor) -> Tensor:
        """What the episode before read at these steps; `otherwise` where there was none."""
        return otherwise if self._recall is None else self._recall.look(lanes, step, otherwise)
