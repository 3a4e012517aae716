"""Faults of force–torque sensors: of a `window` (W, C), a short history of C channels, oldest first.

Channels 0 to 2 are forces [N], 3 to 5 torques [N·m] and the rest fingertip forces [N], as a `World` gives them; of a
window with fewer channels, all count as forces.
"""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from robofuse.faults.base import Fault, FaultContext
from robofuse.sensors import Kind

_WINDOW: tuple[Kind, ...] = ("window",)


def per_channel(reading: Tensor, force: float, torque: float) -> Tensor:
    """(C,) `force` for forces, `torque` for the torques of a wrench."""
    sizes = torch.full(reading.shape[-1:], float(force), dtype=reading.dtype, device=reading.device)
    if len(sizes) >= 6:
        sizes[3:6] = torque
    return sizes


@dataclass(frozen=True)
class Bias(Fault):
    """A constant error, in a direction that is drawn per episode: each channel's is plus or minus its size.

    Attributes:
        force: at severity 1 [N].
        torque: at severity 1 [N·m].
    """

    force: float = 5.0
    torque: float = 0.5

    name: ClassVar[str] = "bias"
    kinds: ClassVar = _WINDOW

    def apply(self, reading: Tensor, context: FaultContext) -> Tensor:
        """See `Fault.apply`."""
        sign = torch.where(context.uniform(1, reading.shape[2], fixed=True) < 0.5, -1.0, 1.0)
        return reading + sign * (self.severity * per_channel(reading, self.force, self.torque))


@dataclass(frozen=True)
class ForceDrift(Fault):
    """An error that grows with time, in a direction that is drawn per episode.

    Attributes:
        force: speed at severity 1 [N/s].
        torque: speed at severity 1 [N·m/s].
    """

    force: float = 2.0
    torque: float = 0.2

    name: ClassVar[str] = "drift"
    kinds: ClassVar = _WINDOW

    def apply(self, reading: Tensor, context: FaultContext) -> Tensor:
        """See `Fault.apply`."""
        sign = torch.where(context.uniform(1, reading.shape[2], fixed=True) < 0.5, -1.0, 1.0)
        rate = context.sensor.sample_rate or reading.shape[1] / context.dt
        age = torch.arange(reading.shape[1] - 1, -1, -1, device=reading.device) / rate
        seconds = (((context.since + 1) * context.dt)[:, None] - age).clamp(min=0.0)  # nothing before it began
        speed = self.severity * per_channel(reading, self.force, self.torque)
        return reading + (seconds[:, :, None] * sign * speed).to(reading.dtype)


@dataclass(frozen=True)
class Saturation(Fault):
    """Readings end at a limit, which falls from ten times its size at severity 0+ to its size at severity 1, by powers.

    Attributes:
        force: limit at severity 1 [N].
        torque: limit at severity 1 [N·m].
    """

    force: float = 0.5
    torque: float = 0.05

    name: ClassVar[str] = "saturation"
    kinds: ClassVar = _WINDOW

    def apply(self, reading: Tensor, context: FaultContext) -> Tensor:
        """See `Fault.apply`."""
        limit = per_channel(reading, self.force, self.torque) * 10.0 ** (1.0 - self.severity)
        return reading.minimum(limit).maximum(-limit)


@dataclass(frozen=True)
class Gain(Fault):
    """Every channel is multiplied by a factor of its own, drawn per episode.

    Attributes:
        spread: standard deviation of the factor's logarithm at severity 1; log 2 doubles or halves.
    """

    spread: float = math.log(2.0)

    name: ClassVar[str] = "gain"
    kinds: ClassVar = _WINDOW

    def apply(self, reading: Tensor, context: FaultContext) -> Tensor:
        """See `Fault.apply`."""
        return reading * (self.severity * self.spread * context.normal(1, reading.shape[2], fixed=True)).exp()


@dataclass(frozen=True)
class CrossTalk(Fault):
    """Axes of the wrench leak into each other.

    Attributes:
        share: of every other axis that is added at severity 1, with a sign drawn per episode; a lever of 0.1 m stands
            between forces and torques.
    """

    share: float = 0.3
    lever: float = 0.1

    name: ClassVar[str] = "crosstalk"
    positive: ClassVar[tuple[str, ...]] = ("lever",)
    kinds: ClassVar = _WINDOW

    def apply(self, reading: Tensor, context: FaultContext) -> Tensor:
        """See `Fault.apply`."""
        axes = min(reading.shape[2], 6)
        units = per_channel(reading[..., :axes], 1.0, self.lever)
        sign = torch.where(context.uniform(axes, axes, fixed=True) < 0.5, -1.0, 1.0)
        leak = self.severity * self.share * sign * (1.0 - torch.eye(axes, device=reading.device))
        wrench = reading[..., :axes] / units
        reading[..., :axes] = (wrench + wrench @ leak.to(reading.dtype)) * units
        return reading


@dataclass(frozen=True)
class Spikes(Fault):
    """Single readings far off: each element, with a chance of 0.1 at severity 1.

    Attributes:
        force: standard deviation of a spike [N].
        torque: of a torque's [N·m].
        chance: of each element at severity 1.
    """

    force: float = 50.0
    torque: float = 5.0
    chance: float = 0.1

    name: ClassVar[str] = "spikes"
    kinds: ClassVar = _WINDOW

    def apply(self, reading: Tensor, context: FaultContext) -> Tensor:
        """See `Fault.apply`."""
        hit = context.uniform(*reading.shape[1:]) < self.severity * self.chance
        return reading + hit * context.normal(*reading.shape[1:]) * per_channel(reading, self.force, self.torque)


@dataclass(frozen=True)
class DeadAxis(Fault):
    """Channels that read 0: a share of them, drawn per episode, half of them at severity 1 and at least one."""

    share: float = 0.5

    name: ClassVar[str] = "deadaxis"
    kinds: ClassVar = _WINDOW

    def apply(self, reading: Tensor, context: FaultContext) -> Tensor:
        """See `Fault.apply`."""
        ranks = context.uniform(1, reading.shape[2], fixed=True).argsort(dim=2).argsort(dim=2)
        dead = ranks < max(1, round(self.severity * self.share * reading.shape[2]))
        return torch.where(dead, 0.0, reading)
