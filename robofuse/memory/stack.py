"""The last readings that every sensor delivered, and how old they are."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from robofuse.checks import whole, zeros_and_ones
from robofuse.errors import InputError
from robofuse.sensors import AVAILABLE, FADES, FRESHNESS, Sensor, channels_last, order
from robofuse.tensors import put, take

_NEVER = -1


class Stack:
    """The last K readings that every sensor delivered in each of N environments.

    A usual stack of frames holds the last K control steps, so K steps after a camera has failed it holds nothing but
    what a broken camera shows. This one holds, sensor by sensor, the last K readings that were *delivered* (`available`
    1) in this episode: what was seen before the failure stays, and what was masked or unavailable never comes in. In
    what it gives, a sensor is available if it has delivered at all, and `freshness` tells how old each reading is:
    exp(−age / 10 control steps), 1 for what was delivered just now, 0 where there is none (its reading is zeros).
    """

    def __init__(self, keys: Sequence[str], sensors: Sequence[str], num_envs: int, frames: int = 2) -> None:
        """Nothing is remembered yet.

        Args:
            keys: sensors to stack, in alphabetical order.
            sensors: all keys, in the order of `available`; those not to be stacked pass as they are.
            num_envs: N.
            frames: K, readings of each sensor; 1 holds the last one.

        Raises:
            InputError: K or N below 1, or no such sensor.
        """
        self.keys, self.frames, self.num_envs = tuple(keys), whole(frames, "frames", 1), whole(num_envs, "num_envs", 1)
        unknown = [key for key in self.keys if key not in sensors]
        if unknown or not self.keys:
            raise InputError(f"no sensor {', '.join(unknown) or 'to stack'}; sensors: {', '.join(sensors)}")
        self._sensors = tuple(sensors)
        self._columns = [self._sensors.index(key) for key in self.keys]
        # the column of `freshness`, which is one more sensor for what reads the stack
        self._freshness_at = sum(key < FRESHNESS for key in self._sensors)
        self._held: dict[str, Tensor] = {}
        self._age = torch.full((num_envs, len(self.keys), self.frames), _NEVER)  # oldest first

    def start(self, env_ids: Tensor | None = None) -> None:
        """New episodes begin in environments `env_ids`, int64 (n,), by default all: they forget."""
        env_ids = torch.arange(self.num_envs) if env_ids is None else env_ids.cpu()
        self._age[env_ids] = _NEVER
        for held in self._held.values():
            put(held, env_ids.to(held.device), torch.zeros_like(held[: len(env_ids)]))

    def push(self, observation: Mapping[str, Tensor], env_ids: Tensor | None = None) -> dict[str, Tensor]:
        """Takes in what one control step delivered, and gives what is remembered.

        Args:
            observation: key → (n, …), not changed. Without `available` all sensors deliver. A sensor that
                delivers nowhere may be missing.
            env_ids: int64 (n,), environments, each at most once; by default all, n = N.

        Returns:
            Fresh tensors: for the stacked sensors their last K readings, oldest first, along the last axis (channels of
            images; of images (C, H, W) the first axis); `freshness`, float32 (n, sensors · K); `available`, int8
            (n, M + 1), with `freshness`, which always delivers, in its alphabetical place; the rest as it is.
        """
        env_ids = torch.arange(self.num_envs) if env_ids is None else env_ids.cpu()
        given = observation.get(AVAILABLE)
        live = torch.ones(len(env_ids), len(self._sensors), dtype=torch.bool) if given is None else given.cpu() > 0
        if live.shape != (len(env_ids), len(self._sensors)):
            raise InputError(
                f"`available` must have shape ({len(env_ids)}, {len(self._sensors)}), one entry for each of "
                f"{', '.join(self._sensors)}, got {tuple(live.shape)}"
            )
        if given is not None:
            zeros_and_ones(given, "`available`")
        delivered = live[:, self._columns]
        age = self._aged(self._age[env_ids], delivered)
        self._age[env_ids] = age
        found = dict(observation)
        for m, key in enumerate(self.keys):
            if key in observation or key in self._held:
                found[key] = self._pushed(key, observation.get(key), env_ids, delivered[:, m])
        device = next(iter(found.values())).device
        fresh = torch.exp(-age.float() / FADES).masked_fill_(age == _NEVER, 0.0)
        found[FRESHNESS] = fresh.flatten(1).to(device)
        shown = live.to(torch.int8)
        shown[:, self._columns] = (age[..., -1] != _NEVER).to(torch.int8)
        always = torch.ones(len(env_ids), 1, dtype=torch.int8)
        shown = torch.cat([shown[:, : self._freshness_at], always, shown[:, self._freshness_at :]], dim=1)
        found[AVAILABLE] = shown.to(device)
        return found

    def _aged(self, age: Tensor, delivered: Tensor) -> Tensor:
        older = torch.where(age == _NEVER, age, age + 1)
        shifted = torch.cat([older[..., 1:], torch.zeros_like(older[..., :1])], dim=2)
        return torch.where(delivered[..., None], shifted, older)

    def _pushed(self, key: str, x: Tensor | None, env_ids: Tensor, delivered: Tensor) -> Tensor:
        """The stack (n, …) of a sensor with its new readings in it; also kept."""
        if x is None:
            if bool(delivered.any()):
                raise InputError(f"the sensor {key!r} is missing, and `available` says that it delivers")
            return take(self._held[key], env_ids.to(self._held[key].device))
        axis = 1 + stacking_axis(tuple(x.shape[1:]))
        if key not in self._held:
            shape = list(x.shape)
            shape[0], shape[axis] = self.num_envs, shape[axis] * self.frames
            self._held[key] = torch.zeros(shape, dtype=x.dtype, device=x.device)
        held, some = self._held[key], env_ids.to(x.device)
        live = delivered.nonzero()[:, 0].to(x.device)
        if len(live):
            before = take(held, some[live])
            new = torch.empty_like(before)
            _shift(new, before, x if len(live) == len(x) else take(x, live), axis)
            put(held, some[live], new)
        return take(held, some)


def _shift(target: Tensor, before: Tensor, x: Tensor, axis: int) -> None:
    """`target` = `before` with `x` put in at the end of `axis` and the oldest dropped."""
    if x.dtype == torch.uint16:  # torch has few operations for it, and the same bits as int16 do
        target, before, x = (part.view(torch.int16) for part in (target, before, x))
    size = x.shape[axis]
    kept = before.shape[axis] - size
    target.narrow(axis, 0, kept).copy_(before.narrow(axis, size, kept))
    target.narrow(axis, kept, size).copy_(x)


def stacked_sensors(sensors: Sequence[Sensor], frames: int) -> tuple[Sensor, ...]:
    """What a policy behind a `Stack` of K `frames` reads: these sensors with K readings each, and `freshness`."""
    found = [_resized(sensor, whole(frames, "frames", 1)) for sensor in sensors]
    rate = max(sensor.rate for sensor in sensors)
    return order([*found, Sensor(FRESHNESS, "vector", (len(found) * frames,), "float32", "", 1.0, rate)])


def single_sensors(sensors: Sequence[Sensor], frames: int) -> tuple[Sensor, ...]:
    """The sensors in front of a `Stack` of K `frames`, from those behind it: the inverse of `stacked_sensors`."""
    return order(_resized(sensor, 1, frames) for sensor in sensors if sensor.key != FRESHNESS)


def stacking_axis(shape: tuple[int, ...]) -> int:
    """The axis along which readings of this shape are stacked: the last, of images (C, H, W) the first."""
    return 0 if len(shape) == 3 and not channels_last(shape) else len(shape) - 1


def _resized(sensor: Sensor, times: int, by: int = 1) -> Sensor:
    """The sensor with so many `times` as many channels, or so many times fewer (`by`)."""
    axis, scale = stacking_axis(sensor.shape), sensor.scale
    shape = tuple(n * times // by if i == axis else n for i, n in enumerate(sensor.shape))
    if isinstance(scale, tuple):
        scale = scale * times if by == 1 else scale[: len(scale) // by]
    return replace(sensor, shape=shape, scale=scale)
