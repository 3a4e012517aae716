"""Encoders: one sensor's readings to one token, by kind of sensor."""

import math
from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn

from robofuse.errors import InputError
from robofuse.sensors import Sensor
from robofuse.tensors import merge_channels, on_cpu, split_channels

SLOPE = 50.0  # per unit of depth and pixel


class ImageEncoder(nn.Module):
    """RGB or depth to a token, by three convolutions (4×4/4, 3×3/2, 3×3/2) and a linear layer.

    Convolutions see the memory in the channels-last order in which cameras deliver it, so nothing is transposed.
    Stacked frames are channels: rgb may have a multiple of 3, each frame with its saturation, and depth any number,
    each with its slopes. One channel of rgb is grey.

    Two inputs are made visible that a network finds slowly by itself. RGB gets a fourth channel, saturation (largest
    minus smallest): things stand out by it, whatever their colour and light. Depth gets its slopes along x and y, times
    50 and clipped: a block 4 cm high is 1/12 of the depth's range, its edges are not. Pixels without a return (0) have
    depth 0 and no slope. Where a block is, learned from 100,000 images with labels, median error: 10.8 mm and 8.9 mm
    with saturation; from depth 10.6 mm with slopes times 10, 8.9 mm times 50. The same convolutions with overlap
    (8×8/4, 4×4/2) cost twice as much and gave 9.8 mm without saturation.
    """

    middle: Tensor
    unit: Tensor

    def __init__(self, sensor: Sensor, token_dim: int) -> None:
        """Layers for the size of this sensor's images, at least 16×16 pixels."""
        super().__init__()
        if len(sensor.shape) != 3 or not isinstance(sensor.scale, int | float) or not sensor.scale > 0:
            raise InputError(
                f"{sensor.key!r}: an image needs shape (H, W, C) and one positive scale, got {sensor.shape} and "
                f"{sensor.scale}"
            )
        self.depth, self.scale = sensor.kind == "depth", float(sensor.scale)
        height, width, channels = sensor.shape
        self.size = height, width
        if min(height, width) < 16:
            raise InputError(f"{sensor.key!r}: images must have at least 16×16 pixels, got {height}×{width}")
        saturations = 0 if self.depth else _colours(channels)
        planes = 3 * channels if self.depth else channels + saturations
        self.convolutions = nn.Sequential(
            nn.Conv2d(planes, 16, 4, 4),
            nn.ReLU(),
            nn.Conv2d(16, 32, 3, 2, 1),
            nn.ReLU(),
            nn.Conv2d(32, 32, 3, 2, 1),
            nn.ReLU(),
            nn.Flatten(),
        )
        with torch.no_grad():
            size = self.convolutions(torch.zeros(1, planes, height, width)).shape[1]
        middle, unit = torch.full((planes,), 0.0 if self.depth else 0.5), torch.full((planes,), 1.0 / self.scale)
        if self.depth:
            unit *= torch.tensor([1.0, SLOPE, SLOPE]).repeat(channels)
        middle[planes - saturations :] = 0.0
        self.register_buffer("middle", middle[:, None, None], persistent=False)
        self.register_buffer("unit", unit[:, None, None], persistent=False)
        self.head = nn.Sequential(nn.Linear(size, token_dim), nn.LayerNorm(token_dim))

    def forward(self, x: Tensor) -> Tensor:
        """(n, H, W, C) in the sensor's dtype to (n, token_dim)."""
        planes = slopes(millimetres(x), self.scale / SLOPE) if self.depth else saturated(x)
        first, others = cast(nn.Conv2d, self.convolutions[0]), self.convolutions[1:]
        # (planes × unit − middle) is put into the weights: over all pixels it takes as long as the convolution
        weight = first.weight * self.unit
        bias = cast(Tensor, first.bias) - (first.weight * self.middle).sum((1, 2, 3))
        return self.head(others(nn.functional.conv2d(planes.permute(0, 3, 1, 2), weight, bias, (4, 4))))


def saturated(image: Tensor) -> Tensor:
    """Image (n, H, W, C) as float32; after rgb, rgba or k frames of rgb come their saturations, (n, H, W, C + k)."""
    if image.dtype != torch.uint8:
        image = image.float()
    frames = _colours(image.shape[-1])
    if not frames:
        return image.float()
    planes = split_channels(image)
    for frame in range(frames):
        red, green, blue = planes[3 * frame : 3 * frame + 3]
        planes.append(red.maximum(green).maximum(blue) - red.minimum(green).minimum(blue))
    return merge_channels(planes).float()


def _colours(channels: int) -> int:
    """How many frames of red, green and blue the channels are; 4 are one with opacity."""
    return 1 if channels == 4 else channels // 3 if channels % 3 == 0 else 0


def millimetres(x: Tensor) -> Tensor:
    """Depth as float32; torch converts int16 three times faster than uint16."""
    if x.dtype != torch.uint16:
        return x.float()
    x = x.view(torch.int16).float()
    return x if _at_least(x, 0.0) else x.add_((x < 0) * 65536.0)


def slopes(depth: Tensor, limit: float) -> Tensor:
    """Depth (n, H, W, C) with the slopes of each along x and y, clipped to ±`limit`, after it: (n, H, W, 3C)."""
    planes: list[Tensor] = []
    for frame in split_channels(depth):
        dx, dy = frame[:, :, 1:] - frame[:, :, :-1], frame[:, 1:] - frame[:, :-1]
        if not _at_least(frame, 1e-9):
            valid = frame > 0
            dx, dy = dx * (valid[:, :, 1:] & valid[:, :, :-1]), dy * (valid[:, 1:] & valid[:, :-1])
        dx, dy = dx.clamp_(-limit, limit), dy.clamp_(-limit, limit)
        planes += [frame, nn.functional.pad(dx, (1, 0)), nn.functional.pad(dy, (0, 0, 1, 0))]
    return merge_channels(planes)


def _at_least(x: Tensor, least: float) -> bool:
    """Whether no number is smaller; False on a GPU, which would have to be waited for."""
    return on_cpu(x) and bool(x.numel() == 0 or x.amin() >= least)


class VectorEncoder(nn.Module):
    """A vector, or a window of readings flattened, to a token by two layers.

    Readings are divided by the sensor's typical scale and squashed beyond 3 of it, so that a spike cannot saturate
    the network: x → 3 asinh(x / 3).
    """

    scale: Tensor

    def __init__(self, sensor: Sensor, token_dim: int) -> None:
        """Layers for this sensor's number of elements."""
        super().__init__()
        scale = torch.as_tensor(sensor.scale, dtype=torch.float32).broadcast_to(sensor.shape)
        if not bool((scale > 0).all()):
            raise InputError(f"{sensor.key!r}: scales must be positive, got {sensor.scale}")
        self.register_buffer("scale", scale.reshape(-1).clone(), persistent=False)
        self.layers = nn.Sequential(
            nn.Linear(max(math.prod(sensor.shape), 1), token_dim),
            nn.ELU(),
            nn.Linear(token_dim, token_dim),
            nn.LayerNorm(token_dim),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(n, …) float32 to (n, token_dim)."""
        x = x.reshape(len(x), -1) / self.scale
        return self.layers(3.0 * torch.asinh(x / 3.0))


Encoder = Callable[[Sensor, int], nn.Module]
"""What makes an encoder: (sensor, D) to a module, readings (n, …) to tokens (n, D); see `register_encoder`."""
ENCODERS: dict[str, Encoder] = {
    "rgb": ImageEncoder,
    "depth": ImageEncoder,
    "vector": VectorEncoder,
    "window": VectorEncoder,
}
"""Encoders by name; the standard encoder of a kind of sensor has the kind's name."""
