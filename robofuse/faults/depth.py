"""Faults of depth cameras, in metres; a pixel of 0 has no return."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from robofuse.faults.fault import Fault, Moment
from robofuse.faults.rgb import planes_back, planes_last
from robofuse.sensors import Kind

_DEPTH: tuple[Kind, ...] = ("depth",)


@dataclass(frozen=True)
class RangeFault(Fault):
    """A fault of distances [m]; subclasses write `metres`."""

    kinds: ClassVar = _DEPTH

    def apply(self, reading: Tensor, moment: Moment) -> Tensor:
        """Metres out of the sensor's dtype and back: integers are millimetres, floats metres."""
        whole = not reading.is_floating_point()
        unit = 1000.0 if whole else 1.0
        image = planes_last(reading, moment.sensor)
        wide = image.view(torch.int16).int() & 0xFFFF if image.dtype == torch.uint16 else image
        metres = wide.float()[..., 0] / unit
        broken = torch.where(metres > 0.0, self.metres(metres, moment), 0.0).clamp(min=0.0) * unit
        if whole:
            limit = 2**16 - 1 if reading.dtype == torch.uint16 else torch.iinfo(reading.dtype).max
            broken = broken.round().masked_fill(broken > limit, 0.0)  # beyond its range it sees nothing
            small = broken.int().to(torch.int16).view(torch.uint16) if reading.dtype == torch.uint16 else broken
            broken = small.to(reading.dtype)
        return planes_back(broken[..., None], moment.sensor)

    def metres(self, depth: Tensor, moment: Moment) -> Tensor:
        """Distances (n, H, W), 0 = no return, and what becomes of them; pixels without a return stay so."""
        raise NotImplementedError


@dataclass(frozen=True)
class Holes(RangeFault):
    """No return from slanted and from dark surfaces, and, with severity, from ever flatter and brighter ones.

    A pixel goes if its slope, the change of depth from pixel to pixel in units of depth, exceeds a limit that falls
    from 0.3 to 0.001, by powers; if it is darker than the severity's half in the colour picture of the same camera,
    where there is one; and a share of the others goes too, in blotches drawn anew at every step.

    Attributes:
        blotches: share of the other pixels at severity 1.
    """

    blotches: float = 0.5

    name: ClassVar[str] = "holes"

    def metres(self, depth: Tensor, moment: Moment) -> Tensor:
        """See `RangeFault.metres`."""
        limit = 0.3 * (0.001 / 0.3) ** self.severity
        blotch = functional.avg_pool2d(moment.grain(*depth.shape[1:])[:, None], 5, 1, 2, count_include_pad=False)[:, 0]
        edge = -math.sqrt(2.0) * float(
            torch.erfinv(torch.tensor(1.0 - 2.0 * min(self.severity * self.blotches, 0.999)))
        )
        gone = (slope(depth) > limit * depth) | (blotch * 5.0 < edge)
        colours = moment.beside(moment.sensor.key.replace("depth", "rgb"))
        if colours is not None and colours.dtype == torch.uint8 and colours.shape[1:3] == depth.shape[1:]:
            gone |= colours.amax(dim=3) < 255.0 * 0.5 * self.severity
        return depth.masked_fill(gone, 0.0)


@dataclass(frozen=True)
class RangeNoise(RangeFault):
    """White noise that grows with distance squared, as of stereo cameras.

    Attributes:
        deviation: standard deviation at 1 m at severity 1 [m].
    """

    deviation: float = 0.1

    name: ClassVar[str] = "noise"

    def metres(self, depth: Tensor, moment: Moment) -> Tensor:
        """See `RangeFault.metres`."""
        return depth + self.severity * self.deviation * depth.square() * moment.grain(*depth.shape[1:])


@dataclass(frozen=True)
class Coarse(RangeFault):
    """Distances in coarse steps.

    Attributes:
        step: at severity 1 [m].
    """

    step: float = 0.1

    name: ClassVar[str] = "quantisation"
    positive: ClassVar[tuple[str, ...]] = ("step",)

    def metres(self, depth: Tensor, moment: Moment) -> Tensor:
        """See `RangeFault.metres`."""
        width = self.severity * self.step
        return (depth / width).round() * width


@dataclass(frozen=True)
class CutOff(RangeFault):
    """No return from beyond a distance, which falls by powers from `far` at severity 0+ to `near` at severity 1.

    Attributes:
        far: [m].
        near: [m].
    """

    far: float = 1.5
    near: float = 0.3

    name: ClassVar[str] = "cutoff"
    positive: ClassVar[tuple[str, ...]] = ("far", "near")

    def metres(self, depth: Tensor, moment: Moment) -> Tensor:
        """See `RangeFault.metres`."""
        return depth.masked_fill(depth > self.far * (self.near / self.far) ** self.severity, 0.0)


@dataclass(frozen=True)
class FlyingPixels(RangeFault):
    """Pixels at edges float between what is in front and what is behind.

    Attributes:
        share: of the pixels at edges, at severity 1.
        edge: change of depth from pixel to pixel that makes an edge [m].
    """

    share: float = 1.0
    edge: float = 0.01

    name: ClassVar[str] = "flyingpixels"

    def metres(self, depth: Tensor, moment: Moment) -> Tensor:
        """See `RangeFault.metres`."""
        # no return counts as far away, not as near
        far = torch.where(depth > 0.0, depth, depth.amax(dim=(1, 2), keepdim=True))[:, None]
        padded = functional.pad(far, (1, 1, 1, 1), mode="replicate")
        behind, front = functional.max_pool2d(padded, 3, 1)[:, 0], -functional.max_pool2d(-padded, 3, 1)[:, 0]
        drawn = moment.grain(*depth.shape[1:])
        mix = 0.5 + 0.5 * torch.erf(drawn / math.sqrt(2.0))  # uniform
        floats = (behind - front > self.edge) & (mix < self.severity * self.share)
        between = mix / (self.severity * self.share)
        return torch.where(floats, front + between * (behind - front), depth)


@dataclass(frozen=True)
class ScaleError(RangeFault):
    """A wrong calibration: all distances are multiplied by a factor, larger or smaller as drawn per episode.

    Attributes:
        share: by which they are wrong at severity 1.
    """

    share: float = 0.2

    name: ClassVar[str] = "scale"

    def metres(self, depth: Tensor, moment: Moment) -> Tensor:
        """See `RangeFault.metres`."""
        sign = torch.where(moment.uniform(1, 1, fixed=True) < 0.5, -1.0, 1.0)
        return depth * (1.0 + sign * self.severity * self.share)


def slope(depth: Tensor) -> Tensor:
    """The larger of the changes to the next pixel along x and y, (n, H, W)."""
    dx = functional.pad((depth[:, :, 1:] - depth[:, :, :-1]).abs(), (0, 1))
    dy = functional.pad((depth[:, 1:] - depth[:, :-1]).abs(), (0, 0, 0, 1))
    return dx.maximum(dy)
