"""A sensor: one key of the observation, with its shape, range, unit, typical scale, rate and latency.

Gymnasium is imported only where a space is made, as a robot that runs an exported policy need not have it.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from robofuse.errors import InputError

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
    "Entry",
    "Kind",
    "Sensor",
    "channels_last",
    "describe",
    "infer_sensors",
    "lerobot_name",
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
        unit: SI unit of the elements (of depth: millimetres), in words where they differ.
        scale: typical magnitude, one number or one per element of the last axis; an extractor divides by it.
        rate: deliveries per second; in between the last one is held.
        latency: age of a reading when it is delivered [s].
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

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> "Sensor":
        """From its attributes in plain JSON, where lists stand for tuples."""
        values: dict[str, Any] = {name: tuple(x) if isinstance(x, list) else x for name, x in plain.items()}
        return cls(**values)

    def space(self) -> "gym.spaces.Box":
        """The Gymnasium space: full integer range for images, unbounded for vectors."""
        import gymnasium as gym

        dtype = np.dtype(self.dtype)
        if dtype.kind == "u":
            return gym.spaces.Box(0, np.iinfo(dtype).max, self.shape, dtype.type)
        return gym.spaces.Box(-np.inf, np.inf, self.shape, dtype.type)


@dataclass(frozen=True)
class Entry:
    """What one number of a reading, or of an action, is.

    Attributes:
        name: such as `joint3_velocity`.
        unit: SI; empty for a ratio.
        size: how much of the unit a 1 is.
        about: the frame, the sign, the limits, in words; may be empty.
    """

    name: str
    unit: str = ""
    size: float = 1.0
    about: str = ""


def order(sensors: Iterable[Sensor]) -> tuple[Sensor, ...]:
    """Sensors in the order of `available`: alphabetical by key."""
    return tuple(sorted(sensors, key=lambda sensor: sensor.key))


def lerobot_name(key: str, kind: str | None = None) -> str:
    """LeRobot's name of a key, after `observation.`.

    Args:
        key: of a sensor; `available` or `privileged`.
        kind: of the sensor; None if it is none.

    Returns:
        `images.wrist` of `rgb_wrist`, `images.wrist_depth` of `depth_wrist` (`scene` if the key names no camera),
        `state` of `proprio`, `environment_state` of `privileged`; the key of all else.
    """
    if kind in ("rgb", "depth"):
        camera = key.removeprefix(kind).strip("_.") or "scene"
        return f"images.{camera}{'_depth' if kind == 'depth' else ''}"
    return {"proprio": "state", PRIVILEGED: "environment_state"}.get(key, key)


def observation_space(sensors: Sequence[Sensor], privileged: int = 0) -> "gym.spaces.Dict":
    """The Dict space of these sensors, with `available`, and with `privileged` if it is not empty.

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
    """Rows (key, kind, shape, dtype, unit) of the sensors that a world can have, for `robofuse list`."""
    return [
        ("rgb, rgb_<camera>", "rgb", "(H, W, 3)", "uint8", "sRGB, 0 to 255"),
        ("depth, depth_<camera>", "depth", "(H, W, 1)", "uint16", "mm along the optical axis, 0 = no return"),
        ("proprio", "vector", "(P,)", "float32", "rad, rad/s, m, m/s; P depends on the robot"),
        ("force", "window", "(W, 8)", "float32", "wrist force N, torque N·m, two fingertip forces N"),
        (AVAILABLE, "flags", "(M,)", "int8", "1 = delivering, one per sensor in alphabetical order"),
        (TRUTH, "vector", "(K,)", "float32", "simulator truth as a sensor, for teachers; only if asked for"),
        (PRIVILEGED, "truth", "(K,)", "float32", "simulator truth for critics; only with privileged=True"),
    ]


def infer_sensors(
    space: "gym.Space", kinds: Mapping[str, Kind] | None = None, encoded: Collection[str] = ()
) -> tuple[Sensor, ...]:
    """Guess the sensors of a Dict space, for extractors that are given nothing but the space.

    A uint8 image of 1, 3 or 4 channels, or of 3 for each of several stacked frames, is `rgb` (one channel is grey). An
    image of 1 channel is `depth` if its key says so, or if it is of wider unsigned integers, as millimetres. (P,) is a
    `vector` and (W, C) a `window`. Discrete (one-hot) and MultiBinary entries are vectors. What is ambiguous, such as a
    float image whose key does not say `depth`, must be named in `kinds`.

    Args:
        space: Dict space; `available` and `privileged` are left out.
        kinds: key → kind, where the guess is wrong or not made.
        encoded: keys with an encoder of their own, which need no kind: what cannot be guessed is a `vector`, of
            whatever shape.

    Returns:
        Sensors in alphabetical order. Their scale is 1000 for images of wider integers than bytes (depth in
        millimetres); the upper bound of other integers and of rgb of floats, if it is below a million; and 1 for all
        else.
        Their unit and rate are unknown ("" and 0).

    Raises:
        InputError: not a Dict, an entry that is not an array of numbers, or keys whose kind cannot be told; the
            message names all of them and what to do.
    """
    import gymnasium as gym

    if not isinstance(space, gym.spaces.Dict):
        raise InputError(
            f"sensors are the keys of a Dict observation, got {type(space).__name__}; make a Box the only key of one: "
            'gymnasium.wrappers.TransformObservation(env, lambda x: {"state": x}, '
            "gymnasium.spaces.Dict(state=env.observation_space))"
        )
    given: dict[str, Kind] = dict(kinds or {})
    found: list[Sensor] = []
    unknown: list[str] = []
    for key, part in space.spaces.items():
        if key in (AVAILABLE, PRIVILEGED):
            continue
        shape, dtype = _array(key, part)
        kind = given.pop(key, None)
        if kind is None:
            kind, problem = _guess(key, shape, dtype)
            if kind is None and key in encoded:
                kind = "vector"
            if kind is None:
                unknown.append(problem)
                continue
        if kind not in get_args(Kind):
            raise InputError(f"kinds says {kind!r} for {key!r}; kinds: {', '.join(get_args(Kind))}")
        highest = float(np.max(part.high)) if isinstance(part, gym.spaces.Box) and part.high.size else np.inf
        image, integers = kind in ("rgb", "depth"), dtype.kind in "ui"
        if image and integers and dtype != np.uint8:
            scale = 1000.0
        else:
            bounded = integers or (kind == "rgb" and dtype.kind == "f")
            scale = highest if bounded and 0.0 < highest < 1e6 else 1.0
        found.append(Sensor(key, kind, shape, dtype.name, "", scale, 0.0))
    if unknown:
        raise InputError(f"cannot tell what kind of sensor {'; nor '.join(unknown)}")
    if given:
        raise InputError(f"kinds names {min(given)!r}, which is no sensor; sensors: {', '.join(sorted(space))}")
    if not found:
        raise InputError(f"the observation has no sensors, only {', '.join(space.spaces)}")
    return order(found)


def _array(key: str, space: "gym.Space") -> tuple[tuple[int, ...], np.dtype]:
    """Shape and type of an entry; InputError if it is not an array of numbers."""
    import gymnasium as gym

    if isinstance(space, gym.spaces.Discrete):
        return (int(space.n),), np.dtype(space.dtype)  # as one-hot
    if isinstance(space, gym.spaces.Box | gym.spaces.MultiBinary):
        return tuple(space.shape), np.dtype(space.dtype)
    what = type(space).__name__
    if isinstance(space, gym.spaces.Dict | gym.spaces.Tuple):
        inner = space.spaces if isinstance(space, gym.spaces.Dict) else range(len(space.spaces))
        first = next(iter(inner), 0)
        how = (
            f"give each of its parts a key of its own with gymnasium.wrappers.TransformObservation, such as "
            f"'{key}_{first}': observation[{key!r}][{first!r}]"
        )
    elif isinstance(space, gym.spaces.MultiDiscrete):
        how = "flatten it into one-hot Box entries of their own (gymnasium.spaces.flatten)"
    else:
        how = (
            "it has no fixed shape; make it a Box of fixed shape (pad it, or take figures of it) with "
            "gymnasium.wrappers.TransformObservation"
        )
    raise InputError(f"observation {key!r} is a {what}, and a sensor is an array of numbers: {how}")


def _guess(key: str, shape: tuple[int, ...], dtype: np.dtype) -> tuple[Kind | None, str]:
    """The kind of a sensor; or None, and why it cannot be told."""
    if len(shape) <= 1:
        return "vector", ""
    if len(shape) == 2:
        return "window", ""
    what = f"{key!r} {shape} {dtype} is"
    if len(shape) > 3:
        return None, (
            f"{what}: an image has three axes. Stacked frames belong into its channels: stable_baselines3's "
            "VecFrameStack does so, gymnasium's FrameStackObservation puts them first"
        )
    channels = shape[-1] if channels_last(shape) else shape[0]
    if channels == 1 and ("depth" in key or (dtype.kind == "u" and dtype != np.uint8)):
        return "depth", ""
    if (channels in (1, 4) or channels % 3 == 0) and dtype == np.uint8:
        return "rgb", ""
    if channels in (1, 3, 4):
        how = f"say kinds={{{key!r}: ...}} with one of {', '.join(get_args(Kind))}; its space's bounds are its range"
    else:
        how = (
            f"it has {channels} channels. Divide it into keys of their own, or say kinds={{{key!r}: 'rgb'}} to take "
            "the channels as they are, or 'depth' if each is a frame of depth"
        )
    return None, f"{what}: an image is (H, W, C) or (C, H, W), uint8 rgb has 3 channels and grey 1, depth 1: {how}"
