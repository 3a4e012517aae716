"""Faults of colour cameras, and of a camera's place. Lengths are shares of the image: the same at every size."""

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from robofuse.faults.base import Fault, FaultContext, number
from robofuse.sensors import Sensor, channels_last


def planes_last(reading: Tensor, sensor: Sensor) -> Tensor:
    """A view (n, H, W, C) of images of either order."""
    return reading if channels_last(sensor.shape) else reading.permute(0, 2, 3, 1)


def planes_back(images: Tensor, sensor: Sensor) -> Tensor:
    """The sensor's own order again."""
    return images if channels_last(sensor.shape) else images.permute(0, 3, 1, 2).contiguous()


@dataclass(frozen=True)
class ColourFault(Fault):
    """A fault of colours in [0, 1]; subclasses write `colours`.

    Of a stack of pictures (3 channels each) every picture is broken alike. One of four is transparency, which stays.
    Of any other number, each channel is a grey picture.
    """

    kinds: ClassVar = ("rgb",)

    def apply(self, reading: Tensor, context: FaultContext) -> Tensor:
        """Colours out of the sensor's dtype and back, rounded and clipped."""
        image = planes_last(reading, context.sensor)
        channels = image.shape[3]
        size = 3 if channels % 3 == 0 or channels == 4 else 1
        pictures = list(image.split(size, dim=3))
        transparency = [pictures.pop()] if channels == 4 else []
        broken = [self._one(picture, context) for picture in pictures] + transparency
        return planes_back(broken[0] if len(broken) == 1 else torch.cat(broken, dim=3), context.sensor)

    def _one(self, picture: Tensor, context: FaultContext) -> Tensor:
        floats, grey = picture.is_floating_point(), picture.shape[3] == 1
        top = _top(context.sensor) if floats else float(torch.iinfo(picture.dtype).max)
        image = picture.float().mul_(1.0 / top)
        broken = self.colours(image.repeat(1, 1, 1, 3) if grey else image, context).clamp_(0.0, 1.0).mul_(top)
        broken = broken.mean(dim=3, keepdim=True) if grey else broken
        return (broken if floats else broken.round_()).to(picture.dtype)

    def colours(self, image: Tensor, context: FaultContext) -> Tensor:
        """Float images (n, H, W, C) in [0, 1], which may be changed in place; values beyond are clipped."""
        raise NotImplementedError


def _top(sensor: Sensor) -> float:
    return float(sensor.scale) if isinstance(sensor.scale, int | float) else 1.0


@dataclass(frozen=True)
class Gaussian(ColourFault):
    """White noise of standard deviation `deviation` at severity 1, of the full range."""

    name: ClassVar[str] = "noise"
    deviation: float = number(0.3, 0.0, 10.0)

    def colours(self, image: Tensor, context: FaultContext) -> Tensor:
        return image.add_(context.grain(*image.shape[1:]), alpha=self.severity * self.deviation)


@dataclass(frozen=True)
class Shot(ColourFault):
    """Photon noise, in the normal limit of Poisson's law: its variance grows with brightness.

    At severity s, `photons` / s² photons make full brightness.
    """

    name: ClassVar[str] = "shot"
    photons: float = number(8.0, 1e-6, 1e9)

    def colours(self, image: Tensor, context: FaultContext) -> Tensor:
        return image.addcmul_(image.sqrt(), context.grain(*image.shape[1:]), value=self.severity / self.photons**0.5)


@dataclass(frozen=True)
class MotionBlur(ColourFault):
    """The camera shakes: each picture is smeared along a line, whose direction is drawn anew for each.

    The line's `length` is in image heights, at severity 1.
    """

    name: ClassVar[str] = "motionblur"
    length: float = number(0.3, 0.0, 2.0)

    def colours(self, image: Tensor, context: FaultContext) -> Tensor:
        height, width = image.shape[1:3]
        length = self.severity * self.length * height
        angle, border = math.pi * context.uniform(1), math.ceil(length / 2)
        reach = torch.linspace(-length / 2, length / 2, 2 * max(1, round(length / 2)) + 1, device=image.device)
        right = (border + reach * angle.cos()).round().int().tolist()
        down = (border + reach * angle.sin()).round().int().tolist()
        planes = functional.pad(image.permute(0, 3, 1, 2), (border,) * 4, mode="replicate")
        planes = planes.permute(0, 2, 3, 1).contiguous()
        blurred = torch.zeros_like(image)
        for total, picture, xs, ys in zip(blurred, planes, right, down, strict=True):
            for x, y in zip(xs, ys, strict=True):  # to whole pixels
                total += picture[y : y + height, x : x + width]
        return blurred.div_(len(reach))


@dataclass(frozen=True)
class Defocus(ColourFault):
    """Out of focus: a Gaussian blur of standard deviation `width` at severity 1, in image heights."""

    name: ClassVar[str] = "defocus"
    width: float = number(0.1, 1e-6, 1.0)

    def colours(self, image: Tensor, context: FaultContext) -> Tensor:
        sigma = self.severity * self.width * image.shape[1]
        down, across = (_blur(size, sigma).to(image.device) for size in image.shape[1:3])
        return torch.einsum("nyxc,vy,ux->nvuc", image, down, across)


@dataclass(frozen=True)
class Exposure(ColourFault):
    """Too bright: colours are multiplied by 2 to the number of `stops`, at severity 1; negative ones darken."""

    name: ClassVar[str] = "overexposure"
    stops: float = number(3.0, -20.0, 20.0)

    def colours(self, image: Tensor, context: FaultContext) -> Tensor:
        return image.mul_(2.0 ** (self.severity * self.stops))


@dataclass(frozen=True)
class Underexposure(Exposure):
    """Too dark: colours are multiplied by 2 to the (negative) number of `stops`, at severity 1."""

    name: ClassVar[str] = "underexposure"
    stops: float = number(-5.0, -20.0, 20.0)


@dataclass(frozen=True)
class Glare(ColourFault):
    """A lamp shines into the lens: a white spot, at a place drawn per episode, that fades outwards.

    Its standard deviation at severity 1 is `radius`, in image heights; its middle has brightness 2.
    """

    name: ClassVar[str] = "glare"
    radius: float = number(0.4, 1e-6, 10.0)

    def colours(self, image: Tensor, context: FaultContext) -> Tensor:
        x, y = _axes(image)
        place = context.uniform(2, fixed=True)
        x, y = x - place[:, :1, None] * image.shape[2] / image.shape[1], y - place[:, 1:, None]
        spot = torch.exp(-0.5 * (x.square() + y.square()) / (self.severity * self.radius) ** 2)
        return image.add_(spot[..., None], alpha=2.0 * self.severity)


@dataclass(frozen=True)
class Occlusion(ColourFault):
    """Something sticks to the lens: a dark square, at a place drawn per episode.

    Attributes:
        size: of its sides at severity 1, in image heights.
        speed: at which it moves, in image heights per second; it comes in again on the other side.
    """

    name: ClassVar[str] = "occlusion"
    size: float = number(0.7, 0.0, 10.0)
    speed: float = number(0.0, -100.0, 100.0)

    def colours(self, image: Tensor, context: FaultContext) -> Tensor:
        x, y = _axes(image)
        aspect = image.shape[2] / image.shape[1]
        drawn = context.uniform(3, fixed=True)
        way = self.speed * context.dt * context.since
        angle = 2.0 * math.pi * drawn[:, 2]
        left = (drawn[:, 0] * aspect + way * angle.cos()).remainder(aspect)[:, None, None]
        upper = (drawn[:, 1] + way * angle.sin()).remainder(1.0)[:, None, None]
        # measured around the image's edges, so that the share that is covered never depends on the place
        inside = ((x - left).remainder(aspect) < self.severity * self.size) & (
            (y - upper).remainder(1.0) < self.severity * self.size
        )
        return image.masked_fill_(inside[..., None], 0.05)


@dataclass(frozen=True)
class MovingOcclusion(Occlusion):
    """Somebody's arm, a cable: a dark square that moves through the picture."""

    name: ClassVar[str] = "movingocclusion"
    speed: float = number(0.5, -100.0, 100.0)


@dataclass(frozen=True)
class DeadPixels(ColourFault):
    """Pixels that are black or white for good, at places drawn per episode; a `share` of them at severity 1."""

    name: ClassVar[str] = "deadpixels"
    share: float = number(0.3, 0.0, 1.0)

    def colours(self, image: Tensor, context: FaultContext) -> Tensor:
        drawn = context.grain(*image.shape[1:3], fixed=True)
        edge = math.sqrt(2.0) * float(torch.erfinv(torch.tensor(1.0 - self.severity * self.share)))
        return image.masked_fill_((drawn > edge)[..., None], 1.0).masked_fill_((drawn < -edge)[..., None], 0.0)


@dataclass(frozen=True)
class DeadLines(ColourFault):
    """Lines of pixels that are black for good, drawn per episode; a `share` of them at severity 1."""

    name: ClassVar[str] = "deadlines"
    share: float = number(0.5, 0.0, 1.0)

    def colours(self, image: Tensor, context: FaultContext) -> Tensor:
        dead = context.uniform(image.shape[1], fixed=True) < self.severity * self.share
        return image.masked_fill_(dead[:, :, None, None], 0.0)


@dataclass(frozen=True)
class ColourCast(ColourFault):
    """A wrong white balance: red and blue are multiplied by factors drawn per episode.

    The standard deviation of a factor's logarithm to base 2 is `stops`, at severity 1.
    """

    name: ClassVar[str] = "colourcast"
    stops: float = number(1.0, 0.0, 10.0)

    def colours(self, image: Tensor, context: FaultContext) -> Tensor:
        factors = 2.0 ** (self.severity * self.stops * context.normal(image.shape[3], fixed=True))
        factors[:, 1 : image.shape[3] - 1] = 1.0
        return image.mul_(factors[:, None, None, :])


@dataclass(frozen=True)
class Compression(ColourFault):
    """JPEG at a low quality: 100 at severity 0, 1 at severity 1."""

    name: ClassVar[str] = "compression"

    def colours(self, image: Tensor, context: FaultContext) -> Tensor:
        import cv2

        quality = [cv2.IMWRITE_JPEG_QUALITY, max(1, round(100 - 99 * self.severity))]
        pictures = (image * 255.0).round().to(torch.uint8).cpu().numpy()
        for picture in pictures:
            _, packed = cv2.imencode(".jpg", np.ascontiguousarray(picture[..., ::-1]), quality)
            unpacked = cv2.imdecode(packed, cv2.IMREAD_COLOR)
            assert unpacked is not None
            picture[:] = unpacked[..., ::-1]
        return torch.from_numpy(pictures).to(image.device).float() / 255.0


@dataclass(frozen=True)
class Knocked(Fault):
    """A knock has turned and shifted the camera, in a direction that is drawn per episode; it stays like that.

    The camera really moves, so it needs a World, and is given under `rgb` or `depth`; the other picture of the same
    camera shows it too.

    Attributes:
        degrees: of the turn at severity 1.
        metres: of the shift at severity 1 [m].
    """

    name: ClassVar[str] = "knocked"
    degrees: float = number(15.0, 0.0, 180.0)
    metres: float = number(0.05, 0.0, 10.0)
    kinds: ClassVar = ("rgb", "depth")
    moves_camera: ClassVar[bool] = True

    def apply(self, reading: Tensor, context: FaultContext) -> Tensor:
        """The picture was taken by the camera where it is now."""
        return reading

    def offset(self, context: FaultContext) -> tuple[Tensor, Tensor]:
        """Shift [m] and turn [rad, about an axis of its length], (n, 3) each, in the camera's own frame."""
        drawn = context.normal(2, 3, fixed=True)
        drawn = drawn / drawn.norm(dim=2, keepdim=True).clamp(min=1e-6)
        return drawn[:, 0] * (self.severity * self.metres), drawn[:, 1] * math.radians(self.severity * self.degrees)


@lru_cache(maxsize=16)
def _blur(size: int, sigma: float) -> Tensor:
    """(size, size) weights of each pixel of a line in each pixel of the blurred line; the border is repeated."""
    reach = max(1, math.ceil(3.0 * sigma))
    weights = torch.zeros(size, size)
    at = torch.arange(size)
    for x in range(-reach, reach + 1):
        weights[at, (at + x).clamp(0, size - 1)] += math.exp(-0.5 * (x / sigma) ** 2)
    return weights / weights.sum(dim=1, keepdim=True)


def _axes(image: Tensor) -> tuple[Tensor, Tensor]:
    """X (1, 1, W) and y (1, H, 1) of pixels, in image heights."""
    height, width = image.shape[1:3]
    x = (torch.arange(width, device=image.device) + 0.5) / height
    return x[None, None, :], ((torch.arange(height, device=image.device) + 0.5) / height)[None, :, None]
