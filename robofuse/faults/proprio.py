"""Faults of joint sensors: of a `vector`, each element in units of the sensor's typical scale."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from robofuse.faults.base import Fault, FaultContext
from robofuse.sensors import Kind, Sensor

_VECTOR: tuple[Kind, ...] = ("vector",)


def scale_of(sensor: Sensor, like: Tensor) -> Tensor:
    """Typical magnitude of each element of the last axis."""
    return torch.as_tensor(sensor.scale, dtype=like.dtype, device=like.device).broadcast_to(like.shape[-1:])


@dataclass(frozen=True)
class Offset(Fault):
    """Encoders that were zeroed wrongly: a constant error of each element, normal, fixed for the episode.

    Attributes:
        scales: standard deviation at severity 1, in typical magnitudes of the element.
    """

    scales: float = 0.3

    name: ClassVar[str] = "offset"
    kinds: ClassVar = _VECTOR

    def apply(self, reading: Tensor, context: FaultContext) -> Tensor:
        """See `Fault.apply`."""
        size = self.severity * self.scales * scale_of(context.sensor, reading)
        return reading + context.normal(reading.shape[1], fixed=True) * size


@dataclass(frozen=True)
class EncoderDrift(Fault):
    """An error that grows with time, each element in a direction of its own.

    Attributes:
        scales: speed at severity 1, in typical magnitudes of the element per second.
    """

    scales: float = 0.2

    name: ClassVar[str] = "drift"
    kinds: ClassVar = _VECTOR

    def apply(self, reading: Tensor, context: FaultContext) -> Tensor:
        """See `Fault.apply`."""
        size = self.severity * self.scales * scale_of(context.sensor, reading)
        seconds = (context.since + 1)[:, None] * context.dt
        return reading + context.normal(reading.shape[1], fixed=True) * size * seconds


@dataclass(frozen=True)
class Stuck(Fault):
    """Elements that stay as they were: a share of them, drawn per episode; at severity 1 half of them."""

    share: float = 0.5

    name: ClassVar[str] = "stuck"
    kinds: ClassVar = _VECTOR
    holds: ClassVar[bool] = True

    def apply(self, reading: Tensor, context: FaultContext) -> Tensor:
        """See `Fault.apply`."""
        # by rank, so that it is this share of every episode's elements, and at least one
        ranks = context.uniform(reading.shape[1], fixed=True).argsort(dim=1).argsort(dim=1)
        stuck = ranks < max(1, round(self.severity * self.share * reading.shape[1]))
        return torch.where(stuck, context.before, reading)


@dataclass(frozen=True)
class EncoderNoise(Fault):
    """White noise on every element.

    Attributes:
        scales: standard deviation at severity 1, in typical magnitudes of the element.
    """

    scales: float = 0.3

    name: ClassVar[str] = "noise"
    kinds: ClassVar = _VECTOR

    def apply(self, reading: Tensor, context: FaultContext) -> Tensor:
        """See `Fault.apply`."""
        size = self.severity * self.scales * scale_of(context.sensor, reading)
        return reading + context.normal(reading.shape[1]) * size


@dataclass(frozen=True)
class Coarse(Fault):
    """Readings in coarse steps.

    Attributes:
        scales: width of a step at severity 1, in typical magnitudes of the element.
    """

    scales: float = 0.5

    name: ClassVar[str] = "quantisation"
    positive: ClassVar[tuple[str, ...]] = ("scales",)
    kinds: ClassVar = _VECTOR

    def apply(self, reading: Tensor, context: FaultContext) -> Tensor:
        """See `Fault.apply`."""
        width = self.severity * self.scales * scale_of(context.sensor, reading)
        return torch.round(reading / width) * width
