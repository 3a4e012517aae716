"""What is measured of a reading, cheaply: numbers in which a broken sensor differs from a healthy one."""

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from robofuse.sensors import Sensor, channels_last

_FINE, _COARSE = 4, 8  # cells along each side of a picture, for texture and for content
_TINY = 1e-8  # of a mean square of colours in [0, 1]: a hundredth of what rounding to bytes makes
_FAR = 1e3  # typical magnitudes; beyond, a number says no more, but its square could be infinite
_LOG = 0.02  # weighs logarithms: a factor of 1.6 is to them what a hundredth of the range is to a mean
_SMALL = 0.05  # of a typical force: what free motion shows


def picture(sensor: Sensor) -> bool:
    """Whether a reading is an image."""
    return len(sensor.shape) == 3


def readable(x: Tensor, sensor: Sensor) -> Tensor:
    """Readings (n, …) of any dtype in units of the sensor's scale, float32 (n, …)."""
    whole = not x.is_floating_point()
    now = x.to(torch.float32, copy=True).mul_(1.0 / torch.tensor(sensor.scale, dtype=torch.float32))
    return now if whole else now.clamp_(-_FAR, _FAR)  # integers end by themselves


def features(x: Tensor, before: Tensor, sensor: Sensor) -> Tensor:
    """Numbers that say what a reading looks like and how far it is from the one before, float32 (n, F).

    `x` float32 (n, …) is `readable` and finite; `before` is the same of one control step ago, NaN where there was none,
    and so are the changes then.

    First comes the content, then the texture (see `content_size`). Of a picture: means of cells; then logarithms of how
    rough cells are along x and y, of how much they changed, and of the shares of empty and full pixels. Of a vector:
    its elements; then their changes. Of a window: means and ends of its channels; then their spread, their steps, the
    step from the window before, and the change of the means.
    """
    if picture(sensor):
        return _picture(x, before, sensor)
    if sensor.kind == "window":
        return _window(x, before, sensor)
    return torch.cat([x.flatten(1), (x - before).flatten(1)], dim=1)


def content_size(sensor: Sensor) -> int:
    """How many of a sensor's features say what it reads; the others say how it reads."""
    if picture(sensor):
        return _COARSE**2 * min(sensor.shape[0], sensor.shape[-1])
    return 3 * sensor.shape[-1] if sensor.kind == "window" else math.prod(sensor.shape)


class Measured(NamedTuple):
    """What is measured of n readings of one sensor.

    Attributes:
        features: float32 (n, F), NaN where there is nothing to measure them by.
        repeats: float32 (n, R), how much of the reading before is repeated to the bit: 0 or 1 for each element, and for
            a picture the share of its pixels.
        ends: float32 (n, 2 C), the smallest and the negative of the largest of each channel; of a picture none.
        same: bool (n,), all of it is repeated.
        flat: bool (n,), all elements are equal.
        finite: bool (n,), no NaN and no Inf; the rest means nothing without.
    """

    features: Tensor
    repeats: Tensor
    ends: Tensor
    same: Tensor
    flat: Tensor
    finite: Tensor

    def take(self, rows: Tensor) -> "Measured":
        """Some rows, int64 (k,)."""
        return Measured(*(part[rows] for part in self))


def measure(x: Tensor, before: Tensor, sensor: Sensor, young: Tensor) -> tuple[Measured, Tensor]:
    """All that is measured of readings.

    Args:
        x: (n, …) as they arrive.
        before: float32 (n, …), what this function gave of the reading before; NaN where there was none.
        sensor: which.
        young: bool (n,), windows that are not filled yet, whose shape says nothing.

    Returns:
        The measurements, and float32 (n, …) to pass as `before` the next time.
    """
    now, finite = readable(x, sensor), torch.ones_like(young)
    if x.is_floating_point():
        finite = x.flatten(1).isfinite().all(1)
        now = torch.where(_like(finite, now), now, 0.0)
    elements = (now == before).flatten(1)
    count = torch.from_numpy(np.sum(elements.numpy(), axis=1))  # five times as fast as torch
    repeats = elements.float() if not picture(sensor) else count[:, None].float() / elements.shape[1]
    flat = (now.flatten(1).amax(1) == now.flatten(1).amin(1)) & ~young
    found = features(now, before, sensor).masked_fill((young | ~finite)[:, None], torch.nan)
    repeats = repeats.masked_fill(young[:, None], 0.0)
    ends = now.new_zeros(len(now), 0)
    if not picture(sensor):
        channels = now.reshape(len(now), -1, sensor.shape[-1])
        ends = torch.cat([channels.amin(1), -channels.amax(1)], dim=1)
    measured = Measured(found, repeats, ends, (count == elements.shape[1]) & ~young, flat, finite)
    if not bool(finite.all()):  # a gap is no change
        now = now.masked_fill(_like(~finite, now), torch.nan)
    return measured, now


def filled_after(sensor: Sensor) -> int:
    """Control steps until a window holds no reading from before the episode, 0 for other sensors."""
    if sensor.kind != "window" or not sensor.rate or not sensor.sample_rate:
        return 0
    return math.ceil(sensor.shape[0] * sensor.rate / sensor.sample_rate)


def _like(mask: Tensor, values: Tensor) -> Tensor:
    return mask.reshape(-1, *[1] * (values.ndim - 1))


def _picture(x: Tensor, before: Tensor, sensor: Sensor) -> Tensor:
    last = channels_last(sensor.shape)
    content = functional.adaptive_avg_pool2d(x.permute(0, 3, 1, 2) if last else x, _COARSE)
    grey, grey_before = _grey(x, last), _grey(before, last)
    dx, dy = grey[..., 1:] - grey[..., :-1], grey[..., 1:, :] - grey[..., :-1, :]
    rough = [_log_energy(part) for part in (dx, dy, grey - grey_before)]
    # the smoothest cell shows nothing but the sensor's own noise, wherever it is
    rough += [part.amin(1, keepdim=True) for part in rough] + [part.median(1, keepdim=True).values for part in rough]
    empty, full = (grey <= 0.0).float().mean((1, 2, 3)), (grey > 0.999).float().mean((1, 2, 3))
    shares = _LOG * torch.stack([empty, full], dim=1).add(1e-2).log()
    return torch.cat([content.flatten(1), *rough, shares], dim=1)


def _grey(x: Tensor, last: bool) -> Tensor:
    """Mean of the channels, (n, 1, H, W)."""
    if x.shape[-1 if last else 1] == 1:
        return x.reshape(len(x), 1, *(x.shape[1:3] if last else x.shape[2:]))
    if last:
        return (x @ x.new_full((x.shape[-1],), 1.0 / x.shape[-1]))[:, None]
    return x.mean(1, keepdim=True)


def _log_energy(part: Tensor) -> Tensor:
    return _LOG * functional.adaptive_avg_pool2d(part.square(), _FINE).flatten(1).add(_TINY).log()


def _window(x: Tensor, before: Tensor, sensor: Sensor) -> Tensor:
    # compressed: a touch is a hundred times what noise is, and both are healthy
    x, before = torch.asinh(x / _SMALL), torch.asinh(before / _SMALL)
    mean, first, last = x.mean(1), x[:, 0], x[:, -1]
    spread = (x - mean[:, None]).square().mean(1).add(1e-4).log()
    steps = (x[:, 1:] - x[:, :-1]).square().mean(1).add(1e-4).log() if x.shape[1] > 1 else spread
    new = round(sensor.sample_rate / sensor.rate) if sensor.rate and sensor.sample_rate else x.shape[1]
    seam = (x[:, -min(max(new, 1), x.shape[1])] - before[:, -1]).square().add(1e-2).log()
    return torch.cat([mean, last, last - first, spread, steps, seam, seam - steps, mean - before.mean(1)], dim=1)
