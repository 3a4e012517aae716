"""What a sensor delivered, checked; every complaint names the key and says what would be right."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from robofuse.errors import InputError
from robofuse.sensors import AVAILABLE, PRIVILEGED, Sensor


def checked(sensor: Sensor, reading: Any) -> np.ndarray:  # noqa: ANN401
    """The reading with a batch of one in front, contiguous; it may share memory.

    Args:
        sensor: what it ought to be.
        reading: an array of the sensor's shape and dtype, without a batch.

    Raises:
        ValueError: anything else. What the numbers are is not looked at.
    """
    key, shape = sensor.key, sensor.shape
    if not isinstance(reading, np.ndarray):
        raise InputError(
            f"{key!r} must be a NumPy array, {sensor.dtype} of shape {shape}, got a {type(reading).__name__}; "
            f"numpy.asarray(x, numpy.{sensor.dtype}) makes one"
        )
    if reading.dtype != np.dtype(sensor.dtype):
        unit = f" [{sensor.unit}]" if sensor.unit else ""
        raise InputError(f"{key!r} must be {sensor.dtype}{unit}, got {reading.dtype}; {_remedy(sensor, reading.dtype)}")
    if reading.shape != shape:
        batch = "; leave the batch out: x[0]" if reading.shape == (1, *shape) else ""
        raise InputError(f"{key!r} must have the shape {shape}, got {reading.shape}{batch}")
    return np.ascontiguousarray(reading)[None]


def _remedy(sensor: Sensor, dtype: np.dtype) -> str:
    wanted = f"x.astype(numpy.{sensor.dtype})"
    if dtype.kind == "f" and sensor.dtype == "uint16" and sensor.unit == "mm":
        return f"metres become millimetres by (1000 * x).round().astype(numpy.{sensor.dtype}), no return by 0"
    if dtype.kind == "f" and sensor.dtype == "uint8":
        return f"[0, 1] becomes bytes by (255 * x).round().astype(numpy.{sensor.dtype})"
    return f"{wanted}, if the unit is right"


def finite(reading: np.ndarray) -> bool:
    """Whether all numbers are; integers always."""
    return reading.dtype.kind != "f" or bool(np.isfinite(reading).all())


def known(key: str, keys: Sequence[str]) -> None:
    """ValueError if there is no such sensor."""
    if key not in keys:
        why = "; the policy does not read the simulator's truth: leave it out" if key == PRIVILEGED else ""
        raise InputError(f"unknown sensor {key!r}{why}; sensors: {', '.join(keys)}")


def announced(observation: Mapping[str, Any], keys: Sequence[str]) -> np.ndarray:
    """Which sensors an observation says are live, bool (M,); all, if it has no `available`. ValueError if it is odd."""
    given = observation.get(AVAILABLE)
    if given is None:
        return np.ones(len(keys), bool)
    flags = np.asarray(given)
    if flags.shape != (len(keys),) or flags.dtype.kind not in "biuf" or not ((flags == 0) | (flags == 1)).all():
        raise InputError(
            f"{AVAILABLE!r} must hold 0 or 1 for each of {', '.join(keys)}, in this order, shape ({len(keys)},); got "
            f"{given!r}"
        )
    return flags.astype(bool)
