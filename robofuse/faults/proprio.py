"""Faults of joint sensors: of a `vector`, each element in units of the sensor's typical scale."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from robofuse.faults.base import Fault, FaultContext, number


@dataclass(frozen=True)
class ScaledFault(Fault):
    """A fault whose size at severity 1 is `scales`, in typical magnitudes of each element."""

    kinds: ClassVar = ("vector",)
    scales: float = number(0.3, 0.0, 1e3)

    def size(self, reading: Tensor, context: FaultContext) -> Tensor:
        """The size at this severity, (P,), in the reading's units."""
        scale = torch.as_tensor(context.sensor.scale, dtype=reading.dtype, device=reading.device)
        return self.severity * self.scales * scale.broadcast_to(reading.shape[-1:])


@dataclass(frozen=True)
class Offset(ScaledFault):
    """Encoders were zeroed wrongly: a constant error of each element, drawn per episode.

    It is normal, of standard deviation `scales` at severity 1, in typical magnitudes of the element.
    """

    name: ClassVar[str] = "offset"

    def apply(self, reading: Tensor, context: FaultContext) -> Tensor:
        return reading + context.normal(reading.shape[1], fixed=True) * self.size(reading, context)


@dataclass(frozen=True)
class EncoderDrift(ScaledFault):
    """An error that grows with time, each element in a direction of its own.

    It grows by `scales` typical magnitudes of the element per second at severity 1.
    """

    name: ClassVar[str] = "drift"
    scales: float = number(0.2, 0.0, 1e3)

    def apply(self, reading: Tensor, context: FaultContext) -> Tensor:
        seconds = (context.since + 1)[:, None] * context.dt
        return reading + context.normal(reading.shape[1], fixed=True) * self.size(reading, context) * seconds


@dataclass(frozen=True)
class Stuck(Fault):
    """Elements stay as they were: a `share` of them at severity 1 and at least one, drawn per episode."""

    name: ClassVar[str] = "stuck"
    kinds: ClassVar = ("vector",)
    holds: ClassVar[bool] = True
    share: float = number(0.5, 0.0, 1.0)

    def apply(self, reading: Tensor, context: FaultContext) -> Tensor:
        return torch.where(context.some(self.severity * self.share, reading.shape[1]), context.before, reading)


@dataclass(frozen=True)
class EncoderNoise(ScaledFault):
    """White noise on every element.

    Its standard deviation at severity 1 is `scales`, in typical magnitudes of the element.
    """

    name: ClassVar[str] = "noise"

    def apply(self, reading: Tensor, context: FaultContext) -> Tensor:
        return reading + context.normal(reading.shape[1]) * self.size(reading, context)


@dataclass(frozen=True)
class Coarse(ScaledFault):
    """Readings come in coarse steps, of `scales` typical magnitudes of the element at severity 1."""

    name: ClassVar[str] = "quantisation"
    scales: float = number(0.5, 1e-6, 1e3)

    def apply(self, reading: Tensor, context: FaultContext) -> Tensor:
        width = self.size(reading, context)
        return torch.round(reading / width) * width
