"""Sensors that deliver late or seldom."""

from dataclasses import dataclass

import torch
from torch import Tensor

from robofuse.checks import whole


@dataclass(frozen=True)
class Timing:
    """When a sensor delivers.

    Attributes:
        update_interval: control steps between deliveries; the last one is held in between.
        delay: age of a reading when it is delivered, in control steps.
    """

    update_interval: int = 1
    delay: int = 0

    def __post_init__(self) -> None:
        whole(self.update_interval, "update_interval", 1)
        whole(self.delay, "delay", 0)


class Line:
    """What lies between one sensor of N worlds and its reader: a delay line and a held delivery."""

    def __init__(self, timing: Timing, num_envs: int) -> None:
        """Starts empty; the first reading of an episode fills it."""
        self._timing, self._num_envs = timing, num_envs
        self._sent: Tensor | None = None  # (delay + 1, N, …), newest first
        self._held: Tensor | None = None  # (N, …)

    def pass_on(self, reading: Tensor, step: Tensor, rows: Tensor) -> Tensor:
        """Put readings in, take deliveries out.

        Args:
            reading: (n, …) what the sensor reads now in worlds `rows`.
            step: int64 (n,), control steps since the episode's start.
            rows: int64 (n,).

        Returns:
            (n, …) what arrives now, a fresh tensor.
        """
        if reading.dtype == torch.uint16:  # torch cannot index into it, but into the same bits as int16
            return self.pass_on(reading.view(torch.int16), step, rows).view(torch.uint16)
        if self._sent is None or self._held is None:
            self._held = reading.new_zeros((self._num_envs, *reading.shape[1:]))
            self._sent = torch.stack([self._held] * (self._timing.delay + 1))
        first = step == 0
        self._sent[1:, rows] = torch.where(_like(first, reading)[None], reading[None], self._sent[:-1, rows])
        self._sent[0, rows] = reading
        due = rows[step % self._timing.update_interval == 0]
        self._held[due] = self._sent[-1, due]
        return self._held[rows]


def _like(mask: Tensor, values: Tensor) -> Tensor:
    return mask.reshape(-1, *[1] * (values.dim() - 1))
