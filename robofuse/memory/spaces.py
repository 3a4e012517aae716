"""What observations with a memory look like."""

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import gymnasium as gym
import numpy as np

from robofuse.checks import whole
from robofuse.dropout.spaces import sensed
from robofuse.errors import InputError
from robofuse.sensors import AVAILABLE, FRESHNESS, Sensor, channels_last, order


class Stacked(NamedTuple):
    """Observations whose sensors are stacked.

    Attributes:
        space: the Dict space, with `freshness` and `available`.
        keys: the stacked sensors, in alphabetical order.
        order: all sensors of the environment, in the order of its `available`.
    """

    space: gym.spaces.Dict
    keys: tuple[str, ...]
    order: tuple[str, ...]


def stacked(space: gym.Space, sensors: Sequence[str] | None, frames: int) -> Stacked:
    """The space that `Stack` makes of one.

    Args:
        space: of one environment.
        sensors: keys to stack; by default all but `available`, `privileged` and goals.
        frames: K.

    Raises:
        ValueError: not a flat Dict, an unknown key, one that is no array, or `freshness` is there already.
    """
    whole(frames, "frames", 1)
    found = sensed(space, sensors, "keep")
    if FRESHNESS in found.keys:
        raise InputError(f"the observation has {FRESHNESS!r} already: stack sensors once, or rename that key")
    spaces: dict[str, gym.Space] = dict(found.space.spaces)
    for key in found.hideable:
        spaces[key] = _repeated(key, found.space[key], frames)
    many = len(found.hideable) * frames
    spaces[FRESHNESS] = gym.spaces.Box(0.0, 1.0, (many,), np.float32)
    spaces[AVAILABLE] = gym.spaces.MultiBinary(len(found.keys) + 1)
    return Stacked(gym.spaces.Dict(spaces), found.hideable, found.keys)


def stacked_sensors(sensors: Sequence[Sensor], frames: int) -> tuple[Sensor, ...]:
    """What a policy behind a `Stack` reads: these sensors with K readings each, and `freshness`.

    Args:
        sensors: in front of the stack.
        frames: K.

    Returns:
        The sensors, in the order of `available`.
    """
    found = [_several(sensor, whole(frames, "frames", 1)) for sensor in sensors]
    rate = max(sensor.rate for sensor in sensors)
    return order([*found, Sensor(FRESHNESS, "vector", (len(found) * frames,), "float32", "", 1.0, rate)])


def single_sensors(sensors: Sequence[Sensor], frames: int) -> tuple[Sensor, ...]:
    """The inverse of `stacked_sensors`."""
    return order(_one(sensor, frames) for sensor in sensors if sensor.key != FRESHNESS)


def stacking_axis(shape: tuple[int, ...]) -> int:
    """The axis along which readings of this shape are stacked: the last, of images (C, H, W) the first."""
    return 0 if len(shape) == 3 and not channels_last(shape) else len(shape) - 1


def _several(sensor: Sensor, frames: int) -> Sensor:
    scale = sensor.scale * frames if isinstance(sensor.scale, tuple) else sensor.scale
    return replace(sensor, shape=_stretched(sensor.shape, frames, 1), scale=scale)


def _one(sensor: Sensor, frames: int) -> Sensor:
    scale = sensor.scale[: len(sensor.scale) // frames] if isinstance(sensor.scale, tuple) else sensor.scale
    return replace(sensor, shape=_stretched(sensor.shape, 1, frames), scale=scale)


def _stretched(shape: tuple[int, ...], times: int, by: int) -> tuple[int, ...]:
    axis = stacking_axis(shape)
    return tuple(n * times // by if i == axis else n for i, n in enumerate(shape))


def _repeated(key: str, space: gym.Space, frames: int) -> gym.spaces.Box:
    if not isinstance(space, gym.spaces.Box) or not space.shape:
        raise InputError(
            f"{key!r} is {space}, and only arrays (Box) can be stacked; name the others in sensors=[...], or make it "
            "a Box (gymnasium.wrappers.TransformObservation)"
        )
    axis, zero = stacking_axis(space.shape), np.zeros((), space.dtype)  # what has not been delivered yet
    low, high = (np.concatenate([x] * frames, axis) for x in (space.low, space.high))
    if stacking_axis(low.shape) != axis:
        raise InputError(f"{frames} frames of {key!r} {space.shape} would have more channels than pixels; fewer frames")
    assert space.dtype is not None
    return gym.spaces.Box(np.minimum(low, zero), np.maximum(high, zero), dtype=space.dtype.type)
