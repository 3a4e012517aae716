"""The inputs of the graph of an exported policy: checked readings, and its memory."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from robofuse.errors import InputError
from robofuse.sensors import AVAILABLE, FADES, FRESHNESS, PRIVILEGED, Sensor, channels_last

STATE, NEXT = "robofuse:memory", "robofuse:memory_next"  # input and output of the graph


def checked(sensor: Sensor, reading: Any) -> np.ndarray:  # noqa: ANN401
    """A reading with a batch of one in front, contiguous; it may share memory.

    Raises:
        InputError: not an array of the sensor's shape and dtype. Its values are not checked.
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
        picture = sensor.kind in ("rgb", "depth") and reading.ndim == len(shape)
        height, width = (shape[:2] if channels_last(shape) else shape[1:]) if picture else (0, 0)
        average = f"; robofuse.deploy.Camera makes {height}×{width} pixels of a camera's picture" if picture else ""
        raise InputError(f"{key!r} must have the shape {shape}, got {reading.shape}{batch or average}")
    return np.ascontiguousarray(reading)[None]


def _remedy(sensor: Sensor, dtype: np.dtype) -> str:
    wanted = f"x.astype(numpy.{sensor.dtype})"
    if dtype.kind == "f" and sensor.dtype == "uint16" and sensor.unit == "mm":
        return f"metres become millimetres by (1000 * x).round().astype(numpy.{sensor.dtype}), no return by 0"
    if dtype.kind == "f" and sensor.dtype == "uint8":
        return f"[0, 1] becomes bytes by (255 * x).round().astype(numpy.{sensor.dtype})"
    return f"{wanted}, if the unit is right"


def finite(reading: np.ndarray) -> bool:
    """Whether a reading holds no NaN or Inf."""
    return reading.dtype.kind != "f" or bool(np.isfinite(reading).all())


def known(key: str, keys: Sequence[str]) -> None:
    """Raise InputError if there is no such sensor."""
    if key not in keys:
        why = "; the policy does not read the simulator's truth: leave it out" if key == PRIVILEGED else ""
        raise InputError(f"unknown sensor {key!r}{why}; sensors: {', '.join(keys)}")


def announced(observation: Mapping[str, Any], keys: Sequence[str]) -> np.ndarray:
    """The sensors that deliver by an observation's `available`, bool (M,); all without it. InputError if it is odd."""
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


class Recall:
    """Makes the inputs of the graph from live readings; stacks them as `robofuse.memory.Stack`, without torch.

    Attributes:
        frames: readings of each sensor that the policy reads at once; 0 for the present one alone.
        size: length of the policy's recurrent state, 0 for none.
    """

    def __init__(self, sensors: Sequence[Sensor], frames: int = 0, size: int = 0) -> None:
        """Of `sensors` in the order of `available`, with the shapes of one reading; nothing is remembered yet."""
        self.frames, self.size = frames, size
        self._sensors = tuple(sensors)
        keys = [sensor.key for sensor in sensors]
        self._order = sorted([*keys, FRESHNESS]) if frames else keys
        # for hidden sensors: the graph does not read it, but onnxruntime wants every input
        self._blank = {sensor.key: np.zeros((1, *sensor.shape), sensor.dtype) for sensor in sensors}
        self._held: dict[str, list[tuple[np.ndarray, int]]] = {key: [] for key in keys}
        self._state = np.zeros((1, size), np.float32)

    def fresh(self) -> "Recall":
        """Another one of the same sensors that remembers nothing."""
        return Recall(self._sensors, self.frames, self.size)

    def inputs(self, live: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Inputs of the graph for the next action, from live readings, key → (1, …)."""
        found = {**self._blank, **live}
        shown = [key in live for key in self._order]
        if self.frames:
            for key, held in self._held.items():
                aged = [(reading, age + 1) for reading, age in held]
                # a copy: drivers write the next frame into the same buffer
                self._held[key] = [*aged, (live[key].copy(), 0)][-self.frames :] if key in live else aged
            found = {sensor.key: self._stacked(sensor) for sensor in self._sensors}
            found[FRESHNESS] = np.array([[x for sensor in self._sensors for x in self._fresh(sensor.key)]], np.float32)
            shown = [key == FRESHNESS or bool(self._held[key]) for key in self._order]
        if self.size:
            found[STATE] = self._state
        return found | {AVAILABLE: np.array([shown], np.int8)}

    def remember(self, outputs: Sequence[np.ndarray]) -> np.ndarray:
        """The action (1, …) from the outputs of the graph; keeps the state for the next one."""
        if self.size:
            self._state = outputs[1]
        return outputs[0]

    def _stacked(self, sensor: Sensor) -> np.ndarray:
        readings = [reading for reading, _ in self._held[sensor.key]]
        missing = [self._blank[sensor.key]] * (self.frames - len(readings))
        return np.concatenate([*missing, *readings], axis=_stack_axis(sensor))

    def _fresh(self, key: str) -> list[float]:
        ages = [age for _, age in self._held[key]]
        return [0.0] * (self.frames - len(ages)) + [math.exp(-age / FADES) for age in ages]


def graph_inputs(sensors: Sequence[Sensor], frames: int = 0, size: int = 0) -> dict[str, tuple[tuple[int, ...], str]]:
    """Shape and dtype of the inputs that `Recall.inputs` makes."""
    found: dict[str, tuple[tuple[int, ...], str]] = {}
    for sensor in sensors:
        shape = [1, *sensor.shape]
        shape[_stack_axis(sensor)] *= max(frames, 1)
        found[sensor.key] = tuple(shape), sensor.dtype
    if frames:
        found[FRESHNESS] = (1, frames * len(sensors)), "float32"
    if size:
        found[STATE] = (1, size), "float32"
    return found | {AVAILABLE: ((1, len(sensors) + bool(frames)), "int8")}


def _stack_axis(sensor: Sensor) -> int:
    """The axis of (1, …) along which readings are stacked: the channels."""
    return 1 if len(sensor.shape) == 3 and not channels_last(sensor.shape) else -1
