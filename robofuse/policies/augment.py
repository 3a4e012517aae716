"""Augmentation of rows to copy: one shift for all pictures of a camera, mixtures of two rows; and of what is acted on.

For rows of which only a target is learned: demonstrations, and past rows of the teacher. PPO's own loss compares the
probability of an action with what it was when it was taken; on other pictures, its first ratio would not be 1. DrAC
(Raileanu et al. 2021) keeps that loss apart and adds one that pulls the action on augmented rows to that on the row as
it was; here the teacher's action is that target, at the price of no further pass of the encoders.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from robofuse.checks import whole
from robofuse.dropout.laws import same_camera
from robofuse.errors import InputError
from robofuse.sensors import AVAILABLE, Sensor, channels_last
from robofuse.tensors import take

if TYPE_CHECKING:
    from robofuse.policies.policy import Policy

AUGMENTATIONS = ("shift", "mixup")
_MOST_COPIES = 9


class Augmentation:
    """Shifts pictures, mixes rows, or both; draws from torch's random numbers, anew at every call.

    **shift** (DrQ, Kostrikov et al. 2020): each row's pictures are moved by up to so many pixels along x and y; the
    edge is repeated. All pictures of a camera, colour and depth and stacked frames, move alike, so that they still show
    one scene; cameras move apart. What there is to do is taken to be the same.

    **mixup** (Zhang et al. 2018): each row becomes λ · row + (1 − λ) · another one, in all sensors and targets with one
    λ ~ Beta(α, α). Only rows with the same live sensors are mixed, so the law of dropout stays as it is. Bytes and
    millimetres are rounded; a pixel of depth without a return in one of the rows has none in the mixture.

    Attributes:
        shift: the most pixels.
        mixup: α; 0 for none.
    """

    def __init__(self, sensors: Sequence[Sensor], shift: float = 0, mixup: float = 0.0) -> None:
        """Reads rows of these sensors, as an environment gives them.

        Raises:
            InputError: a number out of range, nothing that could be shifted, or a sensor that cannot be mixed.
        """
        self.shift = whole(int(shift) if float(shift).is_integer() else shift, "shift", 0)
        if not 0.0 <= mixup < math.inf:
            raise InputError(f"mixup must be finite and at least 0, got {mixup}")
        self.mixup = float(mixup)
        self._pictures = {sensor.key: sensor for sensor in sensors if sensor.kind in ("rgb", "depth")}
        self._cameras = cameras(tuple(self._pictures.values()))
        if self.shift and not self._pictures:
            raise InputError(f"shift moves pictures, and there are none; sensors: {', '.join(s.key for s in sensors)}")
        for sensor in sensors:
            if self.mixup and sensor.key not in self._pictures and not sensor.dtype.startswith("float"):
                raise InputError(f"mixup mixes real numbers, and {sensor.key!r} has {sensor.dtype}; leave mixup out")

    @classmethod
    def named(cls, sensors: Sequence[Sensor], strengths: Mapping[str, float]) -> "Augmentation | None":
        """From strengths by name, such as {"shift": 2, "mixup": 0.4}; None if all are 0.

        Raises:
            InputError: an unknown name, or as of the class.
        """
        for name in strengths:
            if name not in AUGMENTATIONS:
                raise InputError(f"unknown augmentation {name!r}; augmentations: {', '.join(AUGMENTATIONS)}")
        return cls(sensors, **strengths) if any(strengths.values()) else None

    def __call__(self, rows: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Rows, key → (n, …), with their targets under further keys, to augmented ones of the same types."""
        found = dict(rows)
        if self.shift:
            found = self.shifted(found)
        return self.mixed(found) if self.mixup else found

    def shifted(self, rows: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Rows whose pictures are moved."""
        found = dict(rows)
        for camera in self._cameras:
            given = [key for key in camera if key in rows]
            if not given:  # masked in all rows
                continue
            size = (len(rows[given[0]]), 2)
            offsets = torch.randint(-self.shift, self.shift + 1, size, device=rows[given[0]].device)
            found |= moved_pictures({key: rows[key] for key in given}, self._pictures, offsets)
        return found

    def mixed(self, rows: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Mixtures of rows."""
        count, device = len(next(iter(rows.values()))), next(iter(rows.values())).device
        available = rows.get(AVAILABLE, torch.ones(count, 1, dtype=torch.int8, device=device))
        alpha = torch.full((count,), self.mixup)
        weight = torch.distributions.Beta(alpha, alpha).sample().to(device, non_blocking=True)
        depths = {key for key, sensor in self._pictures.items() if sensor.kind == "depth"}
        return mix(rows, partners(available), weight, depths)


class Averaged:
    """Acts by the mean action over copies of an observation whose pictures are shifted: augmentation while acting.

    The copies are always the same: the observation as it is, then moved by so many pixels along an axis, then along
    both; all cameras alike. It takes as many passes of the network as there are copies, in one batch.
    """

    def __init__(self, policy: "Policy", copies: int = 5, pixels: int = 1) -> None:
        """For a policy without a memory that sees pictures; `copies` are 2 to 9.

        Raises:
            InputError: it remembers, sees no pictures, or a number out of range.
        """
        self._policy, self.copies = policy, whole(copies, "copies", 2, _MOST_COPIES)
        whole(pixels, "pixels", 1)
        self._pictures = {sensor.key: sensor for sensor in policy.sensors if sensor.kind in ("rgb", "depth")}
        if policy.remembers or not self._pictures:
            why = "remembers what it saw" if policy.remembers else f"reads {', '.join(policy.keys)}"
            raise InputError(f"an action is averaged over shifted pictures of one moment; policy {policy.name!r} {why}")
        steps = [(0, 0), (-1, 0), (1, 0), (0, -1), (0, 1), (-1, -1), (-1, 1), (1, -1), (1, 1)]
        self._offsets = pixels * torch.tensor(steps[: self.copies])

    def act(self, observation: Mapping[str, Tensor]) -> Tensor:
        """Actions (N, A), see `Policy.act`."""
        count = len(next(iter(observation.values())))
        rows = {key: x.repeat(self.copies, *[1] * (x.ndim - 1)) for key, x in observation.items()}
        given = {key: rows[key] for key in self._pictures if key in rows}
        offsets = self._offsets.repeat_interleave(count, dim=0)
        actions = self._policy.act(rows | moved_pictures(given, self._pictures, offsets))
        return actions.view(self.copies, count, -1).mean(0)


def moved_pictures(rows: Mapping[str, Tensor], pictures: Mapping[str, Sensor], offsets: Tensor) -> dict[str, Tensor]:
    """Pictures, key → (n, …), moved by `offsets` (n, 2), see `moved`."""
    return {key: moved(x, offsets.to(x.device), channels_last(pictures[key].shape)) for key, x in rows.items()}


def cameras(pictures: Sequence[Sensor]) -> list[tuple[str, ...]]:
    """The keys of each camera's pictures: colour and depth if they have the same size, else each for itself."""
    sizes = {sensor.key: sensor.shape[:2] if channels_last(sensor.shape) else sensor.shape[1:] for sensor in pictures}
    pairs = [pair for pair in same_camera([*sizes]) if sizes[pair[0]] == sizes[pair[1]]]
    return pairs + [(key,) for key in sizes if not any(key in pair for pair in pairs)]


def moved(images: Tensor, offsets: Tensor, last: bool = True) -> Tensor:
    """Images whose pixel (y, x) is the given one's pixel (y + dy, x + dx), the nearest one beyond the edges.

    Args:
        images: (n, H, W, C), or (n, C, H, W) without `last`; any dtype.
        offsets: int64 (n, 2), dy and dx of every image.
        last: whether the channels are the last axis.

    Returns:
        Fresh ones, of the same dtype.
    """
    if not last:
        return moved(images.permute(0, 2, 3, 1).contiguous(), offsets).permute(0, 3, 1, 2).contiguous()
    n, height, width, channels = images.shape
    y, x = (
        (torch.arange(size, device=images.device) + offsets[:, axis, None]).clamp(0, size - 1)
        for axis, size in enumerate((height, width))
    )
    rows = torch.arange(n, device=images.device)[:, None, None] * height + y[:, :, None]
    pixels = (rows * width + x[:, None, :]).flatten()
    return take(images.reshape(-1, channels), pixels).view(images.shape)


def partners(available: Tensor) -> Tensor:
    """For each row another one with the same live sensors, at random; itself for one that has none left.

    Args:
        available: (n, M), 1 where a sensor is live.

    Returns:
        int64 (n,); no row is another's partner twice.
    """
    count, sensors = available.shape
    order = torch.randperm(count, device=available.device)
    # numbers of masks: two different ones have the same number with a probability of 0
    number = available[order].double() @ torch.rand(sensors, dtype=torch.float64, device=available.device)
    order = order[number.argsort(stable=True)]
    following = order.roll(-1)
    same = (available[order] == available[following]).all(1)
    return torch.empty_like(order).index_copy(0, order, torch.where(same, following, order))


def mix(rows: Mapping[str, Tensor], partner: Tensor, weight: Tensor, depths: Collection[str] = ()) -> dict[str, Tensor]:
    """λ · row + (1 − λ) · its partner, of everything but `available`.

    Args:
        rows: key → (n, …).
        partner: int64 (n,), the number of another row.
        weight: λ (n,).
        depths: keys in which 0 means that there is no return; where one of the two has none, the mixture has none.

    Returns:
        Fresh rows of the same dtypes, integers rounded.
    """
    found = dict(rows)
    for key, x in rows.items():
        if key == AVAILABLE:
            continue
        one, other = x.float(), take(x, partner).float()
        share = weight.view(-1, *[1] * (x.ndim - 1))
        both = share * one + (1.0 - share) * other
        if key in depths:
            both = both * ((one > 0) & (other > 0))
        found[key] = (both if x.is_floating_point() else both.round()).to(x.dtype)
    return found
