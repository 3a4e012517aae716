"""Images as the planes that encoders see: colour with its saturation, depth with its slopes."""

import torch
from torch import Tensor, nn

from robofuse.errors import InputError
from robofuse.sensors import Sensor
from robofuse.tensors import merge_channels, on_cpu, split_channels

SLOPE = 50.0  # per unit of depth and pixel


def middle_and_unit(sensor: Sensor) -> tuple[Tensor, Tensor]:
    """Middle and unit of every plane, both (C,): planes · unit − middle lie about in [−1, 1].

    Raises:
        InputError: no image of at least 4×4 pixels, or no one positive scale.
    """
    if len(sensor.shape) != 3 or not isinstance(sensor.scale, int | float) or not sensor.scale > 0:
        raise InputError(
            f"{sensor.key!r}: an image needs shape (H, W, C) and one positive scale, got {sensor.shape} and "
            f"{sensor.scale}"
        )
    height, width, channels = sensor.shape
    if min(height, width) < 4:
        raise InputError(f"{sensor.key!r}: images must have at least 4×4 pixels, got {height}×{width}")
    depth = sensor.kind == "depth"
    saturations = 0 if depth else _colours(channels)
    count = 3 * channels if depth else channels + saturations
    middle, unit = torch.full((count,), 0.0 if depth else 0.5), torch.full((count,), 1.0 / float(sensor.scale))
    if depth:
        unit *= torch.tensor([1.0, SLOPE, SLOPE]).repeat(channels)
    middle[count - saturations :] = 0.0
    return middle, unit


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
