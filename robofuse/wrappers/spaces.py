"""Other people's Dict observations: which of their keys are sensors, which may be masked, stacked or broken."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple, get_args

import gymnasium as gym
import numpy as np

from robofuse.checks import whole, zeros_and_ones
from robofuse.dropout.laws import check_names
from robofuse.errors import InputError
from robofuse.memory.stack import stacking_axis
from robofuse.sensors import AVAILABLE, FRESHNESS, PRIVILEGED, Kind, Sensor, infer_sensors

Fill = Literal["zeros", "keep"]
GOALS = ("achieved_goal", "desired_goal")  # of Gymnasium's goal environments: orders, not senses
_FLAT = (gym.spaces.Box, gym.spaces.Discrete, gym.spaces.MultiBinary, gym.spaces.MultiDiscrete)


class SensorSpace(NamedTuple):
    """The observations of one environment, as sensors.

    Attributes:
        space: the Dict space, with `available`.
        keys: the M sensors, in the order of `available`: every key but `available` and `privileged`.
        chosen: those that the wrapper may change, in the same order.
    """

    space: gym.spaces.Dict
    keys: tuple[str, ...]
    chosen: tuple[str, ...]

    def check(self, observation: Any, batched: bool) -> None:  # noqa: ANN401
        """Checks that an observation, of one environment or `batched` of N, is what the space says.

        Raises:
            InputError: no Dict; a key is missing, or is no array of numbers, or has another shape; `available` holds
                anything but 0 and 1; or, of one environment, floats come where the space has integers.
        """
        if not isinstance(observation, Mapping):
            raise InputError(f"the observation is a {type(observation).__name__}, but its space a Dict; give a dict")
        for key in self.keys:
            if key not in observation:
                raise InputError(
                    f"{key!r} is missing from the observation, which has {', '.join(observation)}; the environment "
                    "must give every key of its space in every step: of a missing sensor zeros, and 0 under `available`"
                )
            part = self.space[key]
            x, shape = np.asarray(observation[key]), tuple(part.shape or ())
            if x.dtype.kind not in "biuf":
                raise InputError(f"{key!r} must be {part.dtype} of shape {shape}, got {observation[key]!r:.60}")
            if x.shape[batched:] != shape:
                raise InputError(
                    f"{key!r} has shape {x.shape[batched:]}, but its space says {shape}; let the environment give what "
                    "its space says (gymnasium.wrappers.TransformObservation changes both)"
                )
            # of N environments VecNormalize gives floats, and says so only of images
            if not batched and x.dtype.kind == "f" and isinstance(part, gym.spaces.Box) and part.dtype.kind in "iu":
                raise InputError(
                    f"{key!r} came as {x.dtype}, but its space says {part.dtype}, and fractions would be cut off; for "
                    f"an image in [0, 1] give (255 * x).round().astype(numpy.{part.dtype}), else a space of floats"
                )
        if AVAILABLE in observation:
            available = np.asarray(observation[AVAILABLE])
            if available.shape[batched:] != (len(self.keys),):
                raise InputError(
                    f"`available` has shape {available.shape[batched:]}, but there are {len(self.keys)} sensors: "
                    f"{', '.join(self.keys)}"
                )
            zeros_and_ones(available, "`available`")


def sensor_space(space: gym.Space, sensors: Sequence[str] | None, fill: str) -> SensorSpace:
    """The sensors of the space of one environment.

    `sensors` are the keys that the wrapper may change, by default all but `available`, `privileged` and the goals of a
    goal environment; `fill` is `zeros` or `keep`.

    Raises:
        InputError: not a Dict, a nested one, an unknown key, an `available` of another kind, or zeros where the space
            has none; the message says what to do.
    """
    if not isinstance(space, gym.spaces.Dict):
        raise InputError(
            f"sensors are the keys of a Dict observation, got {type(space).__name__}; divide a Box into its sensors "
            "first: gymnasium.wrappers.TransformObservation(env, lambda x: {'left': x[:3], 'right': x[3:]}, "
            "gymnasium.spaces.Dict(left=..., right=...))"
        )
    keys = tuple(sorted(key for key in space.spaces if key not in (AVAILABLE, PRIVILEGED)))
    for key in keys:
        if not isinstance(space[key], _FLAT):
            raise InputError(
                f"observation {key!r} is a {type(space[key]).__name__}; each sensor must be a key of its own with "
                "numbers: flatten it with gymnasium.wrappers.TransformObservation"
            )
    if fill not in get_args(Fill):
        raise InputError(f"fill must be one of {', '.join(get_args(Fill))}, got {fill!r}")
    if isinstance(sensors, str):
        sensors = (sensors,)
    wanted = [key for key in keys if key not in GOALS] if sensors is None else list(sensors)
    check_names(wanted, keys, "sensors")
    if not wanted:
        raise InputError(f"no sensor is left; name some in `sensors` out of {', '.join(keys) or 'none'}")
    for key in wanted if fill == "zeros" else ():
        if not space[key].contains(np.zeros(space[key].shape or (), space[key].dtype)):
            raise InputError(f"{key!r} cannot be zero-filled: its space {space[key]} has no 0; use fill='keep'")
    own = space.spaces.get(AVAILABLE, gym.spaces.MultiBinary(len(keys)))
    if own != gym.spaces.MultiBinary(len(keys)):
        raise InputError(
            f"`available` must be MultiBinary({len(keys)}), one for each of {', '.join(keys)}; got {own}. What stacks "
            "frames or changes keys belongs inside of what masks or breaks sensors"
        )
    chosen = tuple(key for key in keys if key in wanted)
    return SensorSpace(gym.spaces.Dict({**space.spaces, AVAILABLE: own}), keys, chosen)


def stacked_space(sensed: SensorSpace, frames: int) -> gym.spaces.Dict:
    """The space that a `Stack` of K `frames` makes of one.

    Raises:
        InputError: a chosen key is no array, or `freshness` is there already.
    """
    whole(frames, "frames", 1)
    if FRESHNESS in sensed.keys:
        raise InputError(f"the observation has {FRESHNESS!r} already: stack sensors once, or rename that key")
    spaces: dict[str, gym.Space] = dict(sensed.space.spaces)
    for key in sensed.chosen:
        spaces[key] = _repeated(key, sensed.space[key], frames)
    spaces[FRESHNESS] = gym.spaces.Box(0.0, 1.0, (len(sensed.chosen) * frames,), np.float32)
    spaces[AVAILABLE] = gym.spaces.MultiBinary(len(sensed.keys) + 1)
    return gym.spaces.Dict(spaces)


def breakable_sensors(sensed: SensorSpace, kinds: Mapping[str, Kind]) -> tuple[tuple[Sensor, ...], dict[str, str]]:
    """The sensors that faults can break (images, and vectors and windows of floats, but no goals); why not the others.

    `kinds` has the kinds that cannot be told from the space. InputError if it names no sensor, or does not fit one.
    """
    unknown = [key for key in kinds if key not in sensed.keys]
    if unknown:
        raise InputError(f"kinds names {unknown[0]!r}, which is no sensor; sensors: {', '.join(sensed.keys)}")
    found: list[Sensor] = []
    left_out: dict[str, str] = {}
    for key in sensed.keys:
        part = sensed.space[key]
        if key in GOALS:
            left_out[key] = f"{key!r} is a goal, from which rewards and replay buffers are computed; no sensor reads it"
            continue
        if not isinstance(part, gym.spaces.Box) or not part.shape or (len(part.shape) < 3 and part.dtype.kind != "f"):
            left_out[key] = f"no fault is known for {key!r}, {part}; faults break vectors of floats, and images"
            continue
        try:
            (sensor,) = infer_sensors(gym.spaces.Dict({key: part}), {key: kinds[key]} if key in kinds else None)
            found.append(sensor)
        except InputError as error:
            if key in kinds:
                raise
            left_out[key] = str(error)
    return tuple(found), left_out


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
