"""What a sensor is: one key of the observation, with its shape, range, unit, typical scale, rate and latency."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import gymnasium as gym
import numpy as np

Kind = Literal["rgb", "depth", "vector", "window"]

AVAILABLE = "available"
PRIVILEGED = "privileged"
MODALITIES = ("rgb", "depth", "proprio", "force")
DEPTH_LIMIT_MM = 65535


@dataclass(frozen=True)
class Sensor:
    """One key of the observation.

    Attributes:
        key: name in the observation Dict, such as `rgb` or `depth_wrist`.
        kind: `rgb` (H, W, 3), `depth` (H, W, 1), `vector` (P,) or `window` (W, C), a short history, oldest first.
        shape: of one observation, without the batch.
        dtype: NumPy's name of the element type.
        unit: SI unit of the elements (depth: millimetres), in words where they differ.
        scale: typical magnitude, one number or one per element of the last axis; an extractor divides by it.
        rate: deliveries per second; the last one is held in between.
        latency: seconds between the world and the reading.
        sample_rate: of a window, readings per second within it; else the rate.
    """

    key: str
    kind: Kind
    shape: tuple[int, ...]
    dtype: str
    unit: str
    scale: float | tuple[float, ...]
    rate: float
    latency: float = 0.0
    sample_rate: float = 0.0

    def space(self) -> gym.spaces.Box:
        """The Gymnasium space: full integer range for images, unbounded for vectors."""
        dtype = np.dtype(self.dtype)
        if dtype.kind == "u":
            return gym.spaces.Box(0, np.iinfo(dtype).max, self.shape, dtype.type)
        return gym.spaces.Box(-np.inf, np.inf, self.shape, dtype.type)


def order(sensors: Iterable[Sensor]) -> tuple[Sensor, ...]:
    """Sensors in the order of `available`: alphabetical by key."""
    return tuple(sorted(sensors, key=lambda sensor: sensor.key))


def observation_space(sensors: Sequence[Sensor], privileged: int = 0) -> gym.spaces.Dict:
    """The Dict space of these sensors, with `available` and, if asked for, `privileged`.

    Args:
        sensors: the sensors of one world.
        privileged: length of the privileged vector, 0 for none.
    """
    spaces: dict[str, gym.Space] = {sensor.key: sensor.space() for sensor in order(sensors)}
    spaces[AVAILABLE] = gym.spaces.MultiBinary(len(sensors))
    if privileged:
        spaces[PRIVILEGED] = gym.spaces.Box(-np.inf, np.inf, (privileged,), np.float32)
    return gym.spaces.Dict(spaces)


def describe() -> list[tuple[str, str, str, str, str]]:
    """Rows (key, kind, shape, dtype, unit) of the sensors every world can deliver, for `robofuse list`."""
    return [
        ("rgb, rgb_<camera>", "rgb", "(H, W, 3)", "uint8", "sRGB, 0 to 255"),
        ("depth, depth_<camera>", "depth", "(H, W, 1)", "uint16", "mm along the optical axis, 0 = no return"),
        ("proprio", "vector", "(P,)", "float32", "rad, rad/s, m, m/s; P depends on the robot"),
        ("force", "window", "(W, 8)", "float32", "wrist force N, torque N·m, two fingertip forces N"),
        (AVAILABLE, "flags", "(M,)", "int8", "1 = delivering, one per sensor in alphabetical order"),
        (PRIVILEGED, "truth", "(K,)", "float32", "simulator truth for critics; only with privileged=True"),
    ]
