"""Faults of force–torque sensors: of a `window` (W, C), a short history of C channels, oldest first.

Channels 0 to 2 are forces [N], 3 to 5 torques [N·m] and the rest fingertip forces [N], as a `World` gives them; of a
window with fewer channels, all count as forces.
"""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from robofuse.faults.base import Fault, FaultContext, number


def per_channel(reading: Tensor, force: float, torque: float) -> Tensor:
    """(C,) `force` for forces, `torque` for the torques of a wrench."""
    sizes = torch.full(reading.shape[-1:], float(force), dtype=reading.dtype, device=reading.device)
    if len(sizes) >= 6:
        sizes[3:6] = torque
    return sizes


@dataclass(frozen=True)
class Bias(Fault):
    """A constant error, up or down in each channel, as drawn per episode: `force` [N], `torque` [N·m] at severity 1."""

    name: ClassVar[str] = "bias"
    kinds: ClassVar = ("window",)
    force: float = number(5.0, 0.0, 1e6)
    torque: float = number(0.5, 0.0, 1e6)

    def apply(self, reading: Tensor, context: FaultContext) -> Tensor:
        sign = context.sign(1, reading.shape[2])
        return reading + sign * (self.severity * per_channel(reading, self.force, self.torque))


@dataclass(frozen=True)
class ForceDrift(Fault):
    """An error that grows with time, up or down in each channel, as drawn per episode.

    At severity 1 it grows by `force` [N/s] and `torque` [N·m/s].
    """

    name: ClassVar[str] = "drift"
    kinds: ClassVar = ("window",)
    force: float = number(2.0, 0.0, 1e6)
    torque: float = number(0.2, 0.0, 1e6)

    def apply(self, reading: Tensor, context: FaultContext) -> Tensor:
        sign = context.sign(1, reading.shape[2])
        rate = context.sensor.sample_rate or reading.shape[1] / context.dt
        age = torch.arange(reading.shape[1] - 1, -1, -1, device=reading.device) / rate
        seconds = (((context.since + 1) * context.dt)[:, None] - age).clamp(min=0.0)  # nothing before it began
        speed = self.severity * per_channel(reading, self.force, self.torque)
        return reading + (seconds[:, :, None] * sign * speed).to(reading.dtype)


@dataclass(frozen=True)
class Saturation(Fault):
    """Readings end at a limit: `force` [N] and `torque` [N·m] at severity 1, by powers up to ten times that below."""

    name: ClassVar[str] = "saturation"
    kinds: ClassVar = ("window",)
    force: float = number(0.5, 0.0, 1e6)
    torque: float = number(0.05, 0.0, 1e6)

    def apply(self, reading: Tensor, context: FaultContext) -> Tensor:
        limit = per_channel(reading, self.force, self.torque) * 10.0 ** (1.0 - self.severity)
        return reading.minimum(limit).maximum(-limit)


@dataclass(frozen=True)
class Gain(Fault):
    """Every channel is multiplied by a factor of its own, drawn per episode.

    The standard deviation of the factor's logarithm is `spread` at severity 1; log 2 doubles or halves.
    """

    name: ClassVar[str] = "gain"
    kinds: ClassVar = ("window",)
    spread: float = number(math.log(2.0), 0.0, 5.0)

    def apply(self, reading: Tensor, context: FaultContext) -> Tensor:
        return reading * (self.severity * self.spread * context.normal(1, reading.shape[2], fixed=True)).exp()


@dataclass(frozen=True)
class CrossTalk(Fault):
    """Axes of the wrench leak into each other: a `share` of every other axis is added, with a sign drawn per episode.

    A `lever` [m] stands between forces and torques.
    """

    name: ClassVar[str] = "crosstalk"
    kinds: ClassVar = ("window",)
    share: float = number(0.3, 0.0, 1.0)
    lever: float = number(0.1, 1e-6, 1e3)

    def apply(self, reading: Tensor, context: FaultContext) -> Tensor:
        axes = min(reading.shape[2], 6)
        units = per_channel(reading[..., :axes], 1.0, self.lever)
        leak = self.severity * self.share * context.sign(axes, axes) * (1.0 - torch.eye(axes, device=reading.device))
        wrench = reading[..., :axes] / units
        reading[..., :axes] = (wrench + wrench @ leak.to(reading.dtype)) * units
        return reading


@dataclass(frozen=True)
class Spikes(Fault):
    """Single readings are far off: each element, with a `chance` at severity 1.

    Spikes are normal, of standard deviation `force` [N] and `torque` [N·m].
    """

    name: ClassVar[str] = "spikes"
    kinds: ClassVar = ("window",)
    force: float = number(50.0, 0.0, 1e6)
    torque: float = number(5.0, 0.0, 1e6)
    chance: float = number(0.1, 0.0, 1.0)

    def apply(self, reading: Tensor, context: FaultContext) -> Tensor:
        hit = context.uniform(*reading.shape[1:]) < self.severity * self.chance
        return reading + hit * context.normal(*reading.shape[1:]) * per_channel(reading, self.force, self.torque)


@dataclass(frozen=True)
class DeadAxis(Fault):
    """Channels read 0: a `share` of them at severity 1 and at least one, drawn per episode."""

    name: ClassVar[str] = "deadaxis"
    kinds: ClassVar = ("window",)
    share: float = number(0.5, 0.0, 1.0)

    def apply(self, reading: Tensor, context: FaultContext) -> Tensor:
        dead = context.some(self.severity * self.share, reading.shape[2])
        return torch.where(dead[:, None], 0.0, reading)
