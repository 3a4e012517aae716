"""Readings as encoders get them: checked against their spaces, and the same tensors under every algorithm."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor, nn

from robofuse.errors import InputError
from robofuse.sensors import Sensor, channels_last


class Readings:
    """Checks readings against their spaces, and gives encoders the same tensors under every algorithm.

    `FusionPPO` hands on what the environment delivers; SB3's own policies make floats of everything, divide bytes by
    255 and put the channels of images first. Encoders get what `register_encoder` says in both cases.

    Checking compares shapes and types, at no cost that can be measured. The values of images are looked at until one is
    not black, then no more, as a GPU has to be waited for. That catches images in [0, 255] where [0, 1] is expected,
    and the other way round.

    Attributes:
        encoded: key → the sensor as its encoder reads it.
        divided: whether bytes that come as floats have been divided by 255, as SB3's policies do unless told not to.
    """

    def __init__(self, space: gym.spaces.Dict, sensors: Sequence[Sensor]) -> None:
        """Compares sensors with their spaces.

        Args:
            space: the observations', channels where SB3 has moved them.
            sensors: those that are read.

        Raises:
            InputError: a sensor is not in the space, or has another shape or type there.
        """
        self.divided = True
        self._spaces = {sensor.key: _checked(space, sensor) for sensor in sensors}
        self.encoded = {sensor.key: _encoded(sensor, self._spaces[sensor.key]) for sensor in sensors}
        self._images = {key for key, sensor in self.encoded.items() if sensor.kind in ("rgb", "depth")}
        self._first = {  # images whose channels come first
            key for key in self._images if len(s := self._spaces[key].shape or ()) == 3 and not channels_last(s)
        }
        self._limits = {  # of images whose values have not been looked at
            key: float(np.max(box.high))
            for key in self._images
            if self.encoded[key].kind == "rgb" and isinstance(box := self._spaces[key], gym.spaces.Box)
        }

    def read(self, observations: Mapping[str, Tensor], key: str) -> Tensor:
        """The readings of a sensor, (B, …) as its space says.

        Raises:
            InputError: they are missing, or of another shape or type than their space.
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
        dtype = self.encoded[key].dtype
        if key in self._images and not x.is_floating_point() and str(x.dtype) != f"torch.{dtype}":
            raise InputError(
                f"{key!r} came as {str(x.dtype).removeprefix('torch.')} but its space says {dtype}; convert it "
                "in the environment (gymnasium.wrappers.TransformObservation) and give its space that dtype"
            )
        return x

    def zeros(self, sensor: Sensor, device: torch.device) -> Tensor:
        """A reading of zeros, (1, …), as `read` gives it."""
        space = self._spaces[sensor.key]
        shape = (int(space.n),) if isinstance(space, gym.spaces.Discrete) else space.shape or ()
        return torch.zeros(1, *shape, dtype=getattr(torch, sensor.dtype), device=device)

    def for_encoder(self, key: str, x: Tensor) -> Tensor:
        """Readings of live rows as `register_encoder` promises them.

        Raises:
            InputError: an image of floats is beyond its range, or was divided twice.
        """
        space = self._spaces[key]
        if key not in self._images:
            if isinstance(space, gym.spaces.Discrete) and x[:1].numel() == 1 < int(space.n):
                x = nn.functional.one_hot(x.reshape(len(x)).long(), int(space.n))
            return x.float()
        if x.is_floating_point():
            x = self._undivided(key, x.float())
        return x.permute(0, 2, 3, 1) if key in self._first else x

    def _undivided(self, key: str, x: Tensor) -> Tensor:
        """Images of floats in the dtype of their space."""
        dtype = getattr(torch, self.encoded[key].dtype)
        unit = 1.0 if dtype.is_floating_point or not (self.divided and _is_sb3_image(self._spaces[key])) else 255.0
        values = x if unit == 1.0 else x * unit
        if key in self._limits and not being_exported():
            self._look_at(key, values.detach(), unit, self._limits[key])
        if dtype.is_floating_point:
            return values
        return (values + 0.5).clamp_(0.0, torch.iinfo(dtype).max).to(dtype)  # the nearest

    def _look_at(self, key: str, values: Tensor, unit: float, limit: float) -> None:
        highest = float(values.amax())
        if highest > 1.01 * limit:
            raise InputError(
                f"{key!r} holds {highest / unit:g}, but as floats it lies in [0, {limit / unit:g}]; keep bytes as "
                "uint8 in Box(0, 255), or divide them by 255 in the environment and say Box(0, 1)"
            )
        dark = not self.encoded[key].dtype.startswith("float") and 0.0 < highest < 1.01
        if dark and bool(((values - values.round()).abs() > 1e-3).any()):
            raise InputError(
                f"{key!r} holds fractions of at most {highest:.3g} where its space says whole numbers to {limit:g}: it "
                "came as floats in [0, 1]; give (255 * x).round().astype(numpy.uint8), or say Box(0, 1) of floats"
            )
        if highest > 0.0:
            del self._limits[key]


def _encoded(sensor: Sensor, space: gym.Space) -> Sensor:
    """A sensor as its encoder reads it: images (H, W, C) in their own dtype, all else in float32."""
    shape = tuple(space.shape) if len(sensor.shape) == 3 and space.shape else sensor.shape
    if sensor.kind not in ("rgb", "depth"):
        return replace(sensor, shape=shape, dtype="float32")
    if len(shape) == 3 and not channels_last(shape):
        shape = (*shape[1:], shape[0])
    return replace(sensor, shape=shape, dtype="float32" if sensor.dtype.startswith("float") else sensor.dtype)


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


def _is_sb3_image(space: gym.Space) -> bool:
    """Whether SB3 takes it for an image, which it divides by 255: three axes of bytes that go from 0 to 255."""
    is_bytes = isinstance(space, gym.spaces.Box) and space.dtype == np.uint8 and len(space.shape) == 3
    return is_bytes and bool((space.low == 0).all() and (space.high == 255).all())  # pyright: ignore


def being_exported() -> bool:
    """Whether numbers must not be looked at, as torch writes down what is computed."""
    return torch.compiler.is_compiling() or torch.jit.is_tracing()  # pyright: ignore[reportPrivateImportUsage]
