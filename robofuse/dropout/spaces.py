"""Somebody else's Dict observations: which of their keys are sensors, and what `available` stands for there."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple, get_args

import gymnasium as gym
import numpy as np
from torch import Tensor

from robofuse.dropout.units import check_names
from robofuse.errors import InputError
from robofuse.sensors import AVAILABLE, PRIVILEGED

Fill = Literal["zeros", "keep"]
GOALS = ("achieved_goal", "desired_goal")  # of Gymnasium's goal environments: orders, not senses
_FLAT = (gym.spaces.Box, gym.spaces.Discrete, gym.spaces.MultiBinary, gym.spaces.MultiDiscrete)


class Sensed(NamedTuple):
    """Observations with sensors that may be hidden.

    Attributes:
        space: the Dict space, with `available`.
        keys: the M sensors, in the order of `available`: every key but `available` and `privileged`.
        hideable: those that dropout may hide, in the same order.
    """

    space: gym.spaces.Dict
    keys: tuple[str, ...]
    hideable: tuple[str, ...]

    def masks(self, drawn: Tensor) -> np.ndarray:
        """Masks of the hideable sensors, int8 (N, len(hideable)), as fresh masks of all, int8 (N, M)."""
        masks = np.ones((len(drawn), len(self.keys)), np.int8)
        masks[:, [self.keys.index(key) for key in self.hideable]] = drawn.numpy()
        return masks

    def check(self, observation: Any, batched: bool = False) -> None:  # noqa: ANN401
        """Whether an observation is what its space says; environments need not keep their word.

        Args:
            observation: of one environment, or of N of them.
            batched: there are N.

        Raises:
            ValueError: no Dict; a key is missing, or is no array of numbers, or has another shape; or, of one
                environment, floats come where the space has integers.
        """
        if not isinstance(observation, Mapping):
            raise InputError(f"the observation is a {type(observation).__name__}, but its space a Dict; give a dict")
        for key in self.keys:
            if key not in observation:
                raise InputError(
                    f"{key!r} is missing from the observation, which has {', '.join(observation)}; the environment "
                    "must give every key of its space in every step: of a dead sensor zeros, and 0 under `available`"
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


def sensed(space: gym.Space, sensors: Sequence[str] | None, fill: str) -> Sensed:
    """What dropout needs to know about a space.

    Args:
        space: of one environment.
        sensors: keys that may be hidden; by default all but `available`, `privileged` and the goals of a goal
            environment.
        fill: `zeros` or `keep`.

    Raises:
        ValueError: not a Dict, a nested one, an unknown key, an `available` of another kind, or zeros where the space
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
        raise InputError(f"no sensor may be hidden; name some in `sensors` out of {', '.join(keys) or 'none'}")
    for key in wanted if fill == "zeros" else ():
        if not space[key].contains(np.zeros(space[key].shape or (), space[key].dtype)):
            raise InputError(f"{key!r} cannot be zero-filled: its space {space[key]} has no 0; use fill='keep'")
    own = space.spaces.get(AVAILABLE, gym.spaces.MultiBinary(len(keys)))
    if own != gym.spaces.MultiBinary(len(keys)):
        raise InputError(
            f"`available` must be MultiBinary({len(keys)}), one for each of {', '.join(keys)}; got {own}. What stacks "
            "frames or changes keys belongs inside of what hides or breaks sensors"
        )
    return Sensed(gym.spaces.Dict({**space.spaces, AVAILABLE: own}), keys, tuple(key for key in keys if key in wanted))
