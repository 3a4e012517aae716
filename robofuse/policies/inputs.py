"""What reaches an extractor: does it fit the space that the extractor was built for? Every no is a sentence."""

import inspect
from collections.abc import Mapping, Sequence

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor

from robofuse.errors import InputError
from robofuse.sensors import AVAILABLE, Sensor

_ORDER = "desired_goal"  # of Gymnasium's goal environments; an agent without its orders is not one without a sensor


class Readings:
    """Checks readings against their spaces; comparisons of shapes and types, so at no cost that can be measured.

    The range of images that come as floats is looked at until one is not black, then no more: a GPU has to be waited
    for. It catches images in [0, 255] where [0, 1] is expected, which would look like glare to the network.
    """

    def __init__(self, space: gym.spaces.Dict, sensors: Sequence[Sensor]) -> None:
        """Takes note of what is to come.

        Args:
            space: the observations', channels where SB3 has moved them.
            sensors: those that are read.

        Raises:
            ValueError: a sensor is not in the space, or has another shape or type there.
        """
        self._spaces = {sensor.key: _checked(space, sensor) for sensor in sensors}
        self._images = {sensor.key: sensor for sensor in sensors if sensor.kind in ("rgb", "depth")}
        self._ranges = {  # of floats: bytes have been divided, other types keep theirs
            key: 1.0 if sensor.dtype == "uint8" else float(np.max(box.high))
            for key, sensor in self._images.items()
            if sensor.kind == "rgb"
            and isinstance(sensor.scale, int | float)
            and isinstance(box := self._spaces[key], gym.spaces.Box)
        }
        divided = _preprocessing_divides()
        self._undivided = {
            key
            for key, sensor in self._images.items()
            if sensor.dtype == "uint8" and not (divided and _is_sb3_image(self._spaces[key]))
        }

    def read(self, observations: Mapping[str, Tensor], key: str) -> Tensor:
        """The readings of a sensor, (B, …) as its space says.

        Raises:
            ValueError: they are missing, or of another shape or type than their space.
        """
        x, space = observations.get(key), self._spaces[key]
        if x is None:
            raise InputError(
                f"{key!r} is missing from the observation, which has {', '.join(observations)}; add it, or say under "
                "`available` that it is hidden in every row"
            )
        if isinstance(space, gym.spaces.Discrete):
            fits = x[:1].numel() in (min(len(x), 1), min(len(x), 1) * int(space.n))  # a number, or one-hot
        else:
            fits = x.shape[1:] == space.shape
        if not fits:
            shape = ", ".join(["N", *map(str, space.shape or ())])
            raise InputError(
                f"{key!r} has shape {tuple(x.shape)} but its space says ({shape}); give it as the environment does, "
                "with a batch in front, or build the extractor for the space that it has now"
            )
        sensor = self._images.get(key)
        if sensor and not x.is_floating_point() and str(x.dtype) != f"torch.{sensor.dtype}":
            raise InputError(
                f"{key!r} came as {str(x.dtype).removeprefix('torch.')} but its space says {sensor.dtype}; convert it "
                "in the environment (gymnasium.wrappers.TransformObservation) and give its space that dtype"
            )
        return x

    def in_units(self, key: str, x: Tensor) -> Tensor:
        """Readings of live rows as encoders expect them: images of bytes as bytes, or as floats in [0, 1].

        Raises:
            ValueError: an image of floats is beyond its range, or was divided twice.
        """
        if key not in self._images or not x.is_floating_point():
            return x
        if key in self._undivided:
            scale = self._images[key].scale
            assert isinstance(scale, int | float)
            x = x / scale
        if key in self._ranges and not _being_exported():
            highest, limit = float(x.detach().amax()), self._ranges[key]
            if highest > 1.01 * limit:
                raise InputError(
                    f"{key!r} holds {highest:g}, but as floats it lies in [0, {limit:g}]; keep bytes as uint8 in "
                    "Box(0, 255), or divide them by 255 in the environment and say Box(0, 1)"
                )
            bytes_ = x.detach() * 255.0
            twice = self._images[key].dtype == "uint8" and 0.0 < highest < 1.01 / 255.0
            if twice and bool(((bytes_ - bytes_.round()).abs() > 1e-3).any()):
                raise InputError(
                    f"{key!r} holds fractions of at most {255.0 * highest:.3g} where its space says bytes to 255: it "
                    "came as floats in [0, 1]; give (255 * x).round().astype(numpy.uint8), or say Box(0, 1) of floats"
                )
            if highest > 0.0:
                del self._ranges[key]
        return x


def columns(space: gym.spaces.Dict, keys: Sequence[str], maskable: Sequence[str] | None) -> list[int]:
    """Which of the sensors the entries of `available` stand for, as their positions among `keys`.

    Raises:
        ValueError: `maskable` names no sensor, or `available` has another length.
    """
    unknown = sorted(set(maskable or ()) - set(keys))
    if unknown:
        raise InputError(f"maskable names {unknown[0]!r}, which is no sensor; sensors: {', '.join(keys)}")
    found = [m for m, key in enumerate(keys) if maskable is None or key in maskable]
    shape = space.spaces[AVAILABLE].shape if AVAILABLE in space.spaces else (len(found),)
    if shape is not None and len(shape) == 2:
        raise InputError(
            f"`available` has shape {shape}, as if frames of it had been stacked; stack frames first and hide sensors "
            "after that: VecSensorDropout(VecFrameStack(...)), SensorDropout(FrameStackObservation(...))"
        )
    if shape != (len(found),):
        raise InputError(
            f"`available` has shape {shape} but there are {len(found)} sensors ({', '.join(keys)}); name those "
            "that it stands for: maskable=[...]"
        )
    return found


def droppable(keys: Sequence[str], maskable: Sequence[str] | None) -> list[int]:
    """Positions of the sensors that dropout in the network may hide; by default all but the order, `desired_goal`.

    `achieved_goal` is a sensor to the network. HER, which needs it, reads the replay buffer, where it stays as it was.

    Raises:
        ValueError: there are fewer than two, and one always stays.
    """
    found = [m for m, key in enumerate(keys) if (key != _ORDER if maskable is None else key in maskable)]
    if len(found) < 2:
        raise InputError(
            f"dropout would never hide anything, as one sensor always stays: of {', '.join(keys)} it may hide "
            f"{', '.join(keys[m] for m in found) or 'none'}; divide a sensor in two, or name more in maskable=[...]"
        )
    return found


def for_rollouts() -> bool:
    """Whether a policy that evaluates the actions of rollouts (PPO, A2C, TRPO, …) is making this extractor."""
    return any(hasattr(one, "evaluate_actions") for one in _makers())


def _preprocessing_divides() -> bool:
    """Whether images of bytes come divided by 255: SB3's preprocessing does that unless told not to."""
    return next((bool(one.normalize_images) for one in _makers() if hasattr(one, "normalize_images")), True)


def _being_exported() -> bool:
    return torch.compiler.is_compiling() or torch.jit.is_tracing()  # pyright: ignore[reportPrivateImportUsage]


def _makers() -> list[torch.nn.Module]:
    """The modules that are being made of which the present call is a part, inner ones first; SB3 does not tell."""
    found, frame = [], inspect.currentframe()
    while frame is not None:
        one = frame.f_locals.get("self")
        if isinstance(one, torch.nn.Module):
            found.append(one)
        frame = frame.f_back
    return found


def _is_sb3_image(space: gym.Space) -> bool:
    """Whether SB3 takes it for an image: three axes of bytes that go from 0 to 255."""
    return isinstance(space, gym.spaces.Box) and bool((space.low == 0).all() and (space.high == 255).all())


def _checked(space: gym.spaces.Dict, sensor: Sensor) -> gym.Space:
    part = space.spaces.get(sensor.key)
    if part is None:
        raise InputError(f"no {sensor.key!r} in the observation; it has {', '.join(space.spaces)}")
    if isinstance(part, gym.spaces.Discrete) or part.shape is None:
        return part
    if sorted(part.shape) != sorted(sensor.shape):  # SB3 may have moved the channels to the front
        raise InputError(f"{sensor.key!r} has shape {part.shape} but the sensor was {sensor.shape}")
    here, said = np.dtype(part.dtype), np.dtype(sensor.dtype)
    if sensor.kind in ("rgb", "depth") and here != said and not here.kind == said.kind == "f":
        raise InputError(
            f"{sensor.key!r} is {here.name} in the observation but the sensor was {said.name}; give sensors=... as the "
            "environment delivers them now, or leave that out"
        )
    return part
