"""Watching N environments: who is trusted, from step to step."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from robofuse.errors import InputError
from robofuse.monitor.features import Measured, filled_after, measure
from robofuse.monitor.health import OWN
from robofuse.sensors import AVAILABLE
from robofuse.tensors import one_torch_thread

if TYPE_CHECKING:
    from robofuse.monitor.monitor import Monitor

FADE = 0.3  # weight of the newest score in the lasting one
PATIENCE = 10  # control steps without suspicion, until a sensor is trusted again
_LONGEST = 80  # patience doubles with every time that a sensor comes back and goes again, up to this
_ALONE = len(OWN)  # checks that need no other sensor; one more does
_REST = -1.0  # score of what says nothing


class Watch:
    """Watches N environments; call `step` once for every control step of a lane.

    Attributes:
        monitor: what healthy readings look like.
        trusted: bool (N, M), the last verdict; sensors that are hidden keep theirs.
        level: float32 (N, M, C), how suspicious each sensor was in each check (`robofuse.monitor.CHECKS`) at its last
            step; above `monitor.limit` is suspicious.
        broken: bool (N, M), whether it was not finite, flat, frozen or beyond what it can read.
    """

    def __init__(self, monitor: "Monitor", num_envs: int) -> None:
        """All environments are at an episode's start."""
        self.monitor, self._num, shape = monitor, num_envs, (num_envs, len(monitor.sensors))
        self._before = {s.key: torch.full((num_envs, *s.shape), torch.nan) for s in monitor.sensors}
        self._filled = torch.tensor([filled_after(sensor) for sensor in monitor.sensors])
        self.trusted, self.broken = torch.ones(shape, dtype=torch.bool), torch.zeros(shape, dtype=torch.bool)
        self.level = torch.full((*shape, _ALONE + 1), _REST)
        self._run, self._calm = torch.zeros(shape, dtype=torch.int64), torch.zeros(shape, dtype=torch.int64)
        self._patience = torch.full(shape, PATIENCE)
        self._lasting = torch.full((*shape, _ALONE + 1), _REST)
        self._age = torch.zeros(num_envs, dtype=torch.int64)

    def start(self, rows: Tensor) -> None:
        """New episodes begin in environments `rows`, int64 (n,): all sensors are trusted, nothing is remembered."""
        self.trusted[rows], self.broken[rows], self.level[rows] = True, False, _REST
        self._run[rows], self._calm[rows], self._patience[rows], self._lasting[rows] = 0, 0, PATIENCE, _REST
        self._age[rows] = 0
        for before in self._before.values():
            before[rows] = torch.nan

    @torch.no_grad()
    @one_torch_thread()
    def step(self, observation: Mapping[str, Tensor], rows: Tensor | None = None) -> Tensor:
        """Judge the readings of one control step.

        Args:
            observation: key → (n, …), and `available` (n, M), without which all are; what is not available is not
                judged.
            rows: int64 (n,), the environments they come from; all by default.

        Returns:
            int8 (n, M), 1 where a sensor is available and trusted.

        Raises:
            ValueError: a sensor is missing, or a reading has another shape.
        """
        which: Tensor | slice = (
            slice(None) if rows is None else rows
        )  # indexing copies, which takes longer than all else
        rows = torch.arange(self._num) if rows is None else rows
        self._check(observation, len(rows))
        live = torch.ones(len(rows), len(self.monitor.sensors), dtype=torch.bool)
        if AVAILABLE in observation:
            live = observation[AVAILABLE].cpu() > 0.5
        measured = []
        for m, sensor in enumerate(self.monitor.sensors):
            before = self._before[sensor.key]
            young = self._age[rows] < self._filled[m]
            found, now = measure(observation[sensor.key].cpu(), before[which], sensor, young)
            if not bool(live[:, m].all()):  # a gap is no change
                now = now.masked_fill(~live[:, m].reshape(-1, *[1] * (now.ndim - 1)), torch.nan)
            before[which] = now
            measured.append(found)
        return self.judge(measured, live, rows)

    def judge(self, measured: list[Measured], live: Tensor, rows: Tensor) -> Tensor:
        """As `step`, of readings that are measured already."""
        monitor, old = self.monitor, self.trusted[rows]
        self._age[rows] += 1
        same = torch.stack([found.same for found in measured], dim=1) & live
        run = self._run[rows] = torch.where(same, self._run[rows] + 1, 0)
        pairs = zip(monitor.healths, measured, run.unbind(1), strict=True)
        broken = torch.stack([health.broken(found, held) for health, found, held in pairs], dim=1) & live
        sound = live & ~broken
        own, latents = monitor.own(measured)
        own = own.masked_fill(~sound[..., None], _REST)
        lasting = self._lasting[rows]
        recent = torch.where(sound[..., None], lasting[..., :_ALONE].lerp(own, FADE), lasting[..., :_ALONE])
        level = own.maximum(monitor.lasting(recent, slice(0, _ALONE))).masked_fill(~sound[..., None], _REST)
        alone = (level > monitor.limit).any(2)  # suspicious by itself
        inputs = monitor.peers.inputs(latents)
        vouch = sound & old & ~alone
        others = monitor.others(inputs, sound, vouch)
        last = torch.where(sound, lasting[..., _ALONE].lerp(others, FADE), lasting[..., _ALONE])
        apart = others.maximum(monitor.lasting(last[..., None], slice(_ALONE, _ALONE + 1))[..., 0]).masked_fill(
            ~sound, _REST
        )
        unlike = apart > monitor.limit
        accused = self._accuse(inputs, vouch, unlike & vouch, apart)
        last = torch.where(unlike & vouch & ~accused, _REST, last)  # its evidence was somebody else's fault
        suspicious = broken | alone | accused | (unlike & ~vouch & ~old)
        self._lasting[rows] = torch.cat([recent, last[..., None]], dim=2)
        self.level[rows], self.broken[rows] = torch.cat([level, apart[..., None]], dim=2), broken
        return self._settle(rows, live, old, suspicious)

    def _accuse(self, inputs: Tensor, vouch: Tensor, unlike: Tensor, apart: Tensor) -> Tensor:
        """Of sensors that contradict each other, the one without which the others agree best; bool (n, M)."""
        accused = torch.zeros_like(vouch)
        rows = unlike.any(1).nonzero()[:, 0]
        if not len(rows):
            return accused
        left = torch.full((len(rows), vouch.shape[1]), torch.inf)  # the worst disagreement without each
        for m in range(vouch.shape[1]):
            rest = vouch[rows].clone()
            rest[:, m] = False
            left[:, m] = self.monitor.others(inputs[rows], rest, rest).masked_fill(~rest, _REST).amax(1)
        # of two that contradict each other, the one that is further from what the other says
        left = left.clamp(min=0.0) - 0.1 * apart[rows]
        accused[rows, left.masked_fill(~vouch[rows], torch.inf).argmin(1)] = True
        return accused

    def _settle(self, rows: Tensor, live: Tensor, old: Tensor, suspicious: Tensor) -> Tensor:
        calm, patience = self._calm[rows], self._patience[rows]
        calm = torch.where(live, torch.where(suspicious, 0, calm + 1), calm)
        lost = old & suspicious
        back = ~old & live & (calm >= patience)
        self._patience[rows] = torch.where(back, (2 * patience).clamp(max=_LONGEST), patience)
        self._calm[rows] = calm
        self.trusted[rows] = (old & ~lost) | back
        return (self.trusted[rows] & live).to(torch.int8)

    def _check(self, observation: Mapping[str, Tensor], n: int) -> None:
        for sensor in self.monitor.sensors:
            if sensor.key not in observation:
                given = ", ".join(key for key in observation if key != AVAILABLE)
                raise InputError(f"this monitor watches the sensor {sensor.key!r}; the observation has {given}")
            if tuple(observation[sensor.key].shape) != (n, *sensor.shape):
                raise InputError(
                    f"{sensor.key!r} must have shape {(n, *sensor.shape)}, got {tuple(observation[sensor.key].shape)}"
                )
        shape = (n, len(self.monitor.sensors))
        if AVAILABLE in observation and tuple(observation[AVAILABLE].shape) != shape:
            raise InputError(f"available must have shape {shape}, got {tuple(observation[AVAILABLE].shape)}")
