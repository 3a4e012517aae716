"""What a sensor is: one key of the observation, with its shape, range, unit, typical scale, rate and latency.

Gymnasium is imported where a space is made: a robot that runs an exported policy has sensors, and no Gymnasium.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

if TYPE_CHECKING:
    import gymnasium as gym

__all__ = [
    "AVAILABLE",
    "DEPTH_LIMIT_MM",
    "FADES",
    "FRESHNESS",
    "MODALITIES",
    "PRIVILEGED",
    "TRUTH",
    "Kind",
    "Sensor",
    "channels_last",
    "describe",
    "observation_space",
    "order",
]

Kind = Literal["rgb", "depth", "vector", "window"]
"""What sort of reading it is, which chooses the encoder."""
AVAILABLE = "available"
"""The key that says which sensors deliver."""
PRIVILEGED = "privileged"
"""The key of the simulator's truth, for critics."""
MODALITIES = ("rgb", "depth", "proprio", "force")
"""What a world of robofuse senses."""
FRESHNESS = "freshness"
"""The key that says how old stacked readings are, see `robofuse.memory.Stack`: exp(−age / FADES)."""
FADES = 10.0
"""In control steps; an episode of a few seconds spans most of the range."""
TRUTH = "truth"
"""The privileged vector as a sensor: for teachers and upper bounds, no robot has it."""
DEPTH_LIMIT_MM = 65535
"""The largest depth that can be told, in millimetres."""


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

    def space(self) -> "gym.spaces.Box":
        """The Gymnasium space: full integer range for images, unbounded for vectors."""
        import gymnasium as gym

        dtype = np.dtype(self.dtype)
        if dtype.kind == "u":
            return gym.spaces.Box(0, np.iinfo(dtype).max, self.shape, dtype.type)
        return gym.spaces.Box(-np.inf, np.inf, self.shape, dtype.type)


def order(sensors: Iterable[Sensor]) -> tuple[Sensor, ...]:
    """Sensors in the order of `available`: alphabetical by key."""
    return tuple(sorted(sensors, key=lambda sensor: sensor.key))


def observation_space(sensors: Sequence[Sensor], privileged: int = 0) -> "gym.spaces.Dict":
    """The Dict space of these sensors, with `available` and, if asked for, `privileged`.

    Args:
        sensors: the sensors of one world.
        privileged: length of the privileged vector, 0 for none.

    Returns:
        The space.
    """
    import gymnasium as gym

    spaces: dict[str, gym.Space] = {sensor.key: sensor.space() for sensor in order(sensors)}
    spaces[AVAILABLE] = gym.spaces.MultiBinary(len(sensors))
    if privileged:
        spaces[PRIVILEGED] = gym.spaces.Box(-np.inf, np.inf, (privileged,), np.float32)
    return gym.spaces.Dict(spaces)


def channels_last(shape: tuple[int, ...]) -> bool:
    """Whether an image shape is (H, W, C) rather than (C, H, W): the channels are the smallest axis."""
    return shape[-1] <= shape[0]


def describe() -> list[tuple[str, str, str, str, str]]:
    """Rows (key, kind, shape, dtype, unit) of the sensors every world can deliver, for `robofuse list`."""
    return [
        ("rgb, rgb_<camera>", "rgb", "(H, W, 3)", "uint8", "sRGB, 0 to 255"),
        ("depth, depth_<camera>", "depth", "(H, W, 1)", "uint16", "mm along the optical axis, 0 = no return"),
        ("proprio", "vector", "(P,)", "float32", "rad, rad/s, m, m/s; P depends on the robot"),
        ("force", "window", "(W, 8)", "float32", "wrist force N, torque N·m, two fingertip forces N"),
        (AVAILABLE, "flags", "(M,)", "int8", "1 = delivering, one per sensor in alphabetical order"),
        (TRUTH, "vector", "(K,)", "float32", "simulator truth as a sensor, for teachers; only if asked for"),
        (PRIVILEGED, "truth", "(K,)", "float32", "simulator truth for critics; only with privileged=True"),
    ]
