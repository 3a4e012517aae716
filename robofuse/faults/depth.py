"""Faults of depth cameras, in metres; a pixel of 0 has no return."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist
from typing import ClassVar

import torch
from torch import Tensor

from robofuse.faults.base import Fault, FaultContext, number
from robofuse.faults.camera import planes_back, planes_last


@dataclass(frozen=True)
class RangeFault(Fault):
    """A fault of distances [m]; subclasses write `metres`."""

    kinds: ClassVar = ("depth",)

    def apply(self, reading: Tensor, context: FaultContext) -> Tensor:
        """Metres out of the sensor's dtype and back: integers are millimetres, floats metres; a stack one by one."""
        image = planes_last(reading, context.sensor)
        broken = torch.stack([self._one(picture, context) for picture in image.unbind(3)], dim=3)
        return planes_back(broken, context.sensor)

    def _one(self, picture: Tensor, context: FaultContext) -> Tensor:
        whole = not picture.is_floating_point()
        unit = 1000.0 if whole else 1.0
        metres = picture.float() / unit
        # masks are floats here and below: bool ones take five times as long
        there = torch.gt(metres, 0.0, out=torch.empty_like(metres))
        broken = self.metres(metres, context).clamp_(min=0.0).mul_(there).mul_(unit)
        if whole:
            beyond = torch.iinfo(picture.dtype).max + 1
            broken = broken.clamp_(max=beyond).round_()
            broken.mul_(torch.lt(broken, beyond, out=there))  # beyond its range it sees nothing
        return broken.to(picture.dtype)

    def metres(self, depth: Tensor, context: FaultContext) -> Tensor:
        """Distances (n, H, W), which may be changed in place; pixels without a return, of 0, stay so."""
        raise NotImplementedError


@dataclass(frozen=True)
class Holes(RangeFault):
    """No return from slanted and from dark surfaces, and, with severity, from ever flatter and brighter ones.

    A pixel goes if its slope, the change of depth from pixel to pixel in units of depth, exceeds a limit that falls
    from 0.3 to 0.001, by powers; if it is darker than the severity's half in the colour picture of the same camera,
    where there is one; and a share of the others goes too, `blotches` at severity 1, in blotches drawn anew at every
    step.
    """

    name: ClassVar[str] = "holes"
    blotches: float = number(0.5, 0.0, 1.0)

    def metres(self, depth: Tensor, context: FaultContext) -> Tensor:
        steepest = 0.3 * (0.001 / 0.3) ** self.severity
        steep, blotch = slope(depth), context.blotches(depth.shape[1], depth.shape[2])
        left = torch.le(steep, depth * steepest, out=steep)
        left.mul_(torch.ge(blotch, _edge(self.severity * self.blotches), out=blotch))
        colours = context.beside(context.sensor.key.replace("depth", "rgb"))
        if colours is not None and colours.dtype == torch.uint8 and colours.shape[1:3] == depth.shape[1:]:
            brightest = colours[..., 0].maximum(colours[..., 1]).maximum(colours[..., 2]).float()
            left.mul_(torch.ge(brightest, 255.0 * 0.5 * self.severity, out=brightest))
        return depth.mul_(left)


@dataclass(frozen=True)
class RangeNoise(RangeFault):
    """White noise that grows with distance squared, as of stereo cameras.

    Its standard deviation at 1 m is `deviation` [m], at severity 1.
    """

    name: ClassVar[str] = "noise"
    deviation: float = number(0.1, 0.0, 10.0)

    def metres(self, depth: Tensor, context: FaultContext) -> Tensor:
        return depth.addcmul_(depth.square(), context.grain(*depth.shape[1:]), value=self.severity * self.deviation)


@dataclass(frozen=True)
class Coarse(RangeFault):
    """Distances in coarse steps, of `step` [m] at severity 1."""

    name: ClassVar[str] = "quantisation"
    step: float = number(0.1, 1e-6, 100.0)

    def metres(self, depth: Tensor, context: FaultContext) -> Tensor:
        width = self.severity * self.step
        return depth.div_(width).round_().mul_(width)


@dataclass(frozen=True)
class CutOff(RangeFault):
    """No return from beyond a distance, which falls by powers from `far` [m] to `near` [m] at severity 1."""

    name: ClassVar[str] = "cutoff"
    far: float = number(1.5, 1e-6, 1e3)
    near: float = number(0.3, 1e-6, 1e3)

    def metres(self, depth: Tensor, context: FaultContext) -> Tensor:
        limit = self.far * (self.near / self.far) ** self.severity
        return depth.mul_(torch.le(depth, limit, out=torch.empty_like(depth)))


@dataclass(frozen=True)
class FlyingPixels(RangeFault):
    """Pixels at edges float between what is in front and what is behind: a `share` of them at severity 1.

    An edge is a change of depth by `edge` [m] from pixel to pixel.
    """

    name: ClassVar[str] = "flyingpixels"
    share: float = number(1.0, 0.0, 1.0)
    edge: float = number(0.01, 0.0, 100.0)

    def metres(self, depth: Tensor, context: FaultContext) -> Tensor:
        # no return counts as far away, not as near
        far = torch.where(depth > 0.0, depth, depth.amax(dim=(1, 2), keepdim=True))
        behind, front = _around(far, torch.maximum), _around(far, torch.minimum)
        drawn = context.grain(*depth.shape[1:])
        mix = 0.5 + 0.5 * torch.erf(drawn / math.sqrt(2.0))  # uniform
        floats = (behind - front > self.edge) & (mix < self.severity * self.share)
        between = mix / (self.severity * self.share)
        return torch.where(floats, front + between * (behind - front), depth)


@dataclass(frozen=True)
class ScaleError(RangeFault):
    """A wrong calibration: distances are too large or too small, as drawn per episode, by a `share` at severity 1."""

    name: ClassVar[str] = "scale"
    share: float = number(0.2, 0.0, 1.0)

    def metres(self, depth: Tensor, context: FaultContext) -> Tensor:
        sign = context.sign(1, 1)
        return depth.mul_(1.0 + sign * self.severity * self.share)


def _edge(share: float) -> float:
    """The number below which this share of standard normal numbers lies."""
    return NormalDist().inv_cdf(min(max(share, 1e-9), 0.999))


def _around(image: Tensor, most: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """The largest, or smallest, of every pixel (n, H, W) and its eight neighbours."""
    for axis in (1, 2):
        size = image.shape[axis]
        first, last = image.narrow(axis, 0, 1), image.narrow(axis, size - 1, 1)
        before = torch.cat([first, image.narrow(axis, 0, size - 1)], dim=axis)
        after = torch.cat([image.narrow(axis, 1, size - 1), last], dim=axis)
        image = most(most(before, image), after)
    return image


def slope(depth: Tensor) -> Tensor:
    """The larger of the changes to the next pixel along x and y, (n, H, W)."""
    steps = torch.zeros_like(depth)
    steps[:, :, :-1] = (depth[:, :, 1:] - depth[:, :, :-1]).abs_()
    down = steps[:, :-1]
    torch.maximum(down, (depth[:, 1:] - depth[:, :-1]).abs_(), out=down)
    return steps
