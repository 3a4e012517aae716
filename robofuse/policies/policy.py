"""A policy that was loaded: it acts, step by step in N environments, and knows what it was trained for."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor

from robofuse.checks import whole
from robofuse.errors import InputError
from robofuse.memory.stack import Stack, single_sensors
from robofuse.policies.actor_critic import FusionActorCriticPolicy
from robofuse.policies.extractor import Fused
from robofuse.policies.modules import MEMORY
from robofuse.sensors import AVAILABLE, Sensor, order
from robofuse.tensors import integers


class Policy:
    """A policy that was loaded.

    Attributes:
        name: of the policy or its file.
        network: in eval mode.
        sensors: of the world, in the order of `available`.
        world: options of the `World` it was trained in, as plain JSON.
        card: how it was trained and how well it does, as plain JSON.
        frames: readings of each sensor that it reads at once, see `robofuse.memory.Stack`; 0 for the present one alone.
    """

    def __init__(
        self,
        network: FusionActorCriticPolicy,
        name: str,
        world: Mapping[str, Any] | None = None,
        card: Mapping[str, Any] | None = None,
    ) -> None:
        """Wraps a network, which is put into eval mode.

        Raises:
            InputError: it is no `FusionActorCriticPolicy`.
        """
        check_network(network)
        network.set_training_mode(False)
        self.network, self.name = network, name
        self.world, self.card = dict(world or {}), dict(card or {})
        self.frames = network.frames
        inner = network.features_extractor.sensors
        self.sensors: tuple[Sensor, ...] = single_sensors(inner, self.frames) if self.frames else inner

    @property
    def keys(self) -> tuple[str, ...]:
        """Keys of the sensors, in the order of `available`."""
        return tuple(sensor.key for sensor in self.sensors)

    @property
    def remembers(self) -> bool:
        """Whether its actions depend on earlier observations; then it acts by `stateful`."""
        return bool(self.frames or self.network.memory)

    def stateful(self, num_envs: int) -> "StatefulPolicy":
        """The policy in N environments side by side, step by step, with a memory of each if it has one."""
        return StatefulPolicy(self, num_envs)

    def act(self, observation: Mapping[str, Tensor | np.ndarray], deterministic: bool = True) -> Tensor:
        """Actions for N observations, of a policy without a memory; one with a memory acts by `stateful`.

        A sensor that is hidden in all rows may be missing altogether; `privileged` is not read. Deterministic actions
        neither use nor move torch's random numbers.

        Args:
            observation: key → (N, …) tensors or arrays, such as `World` gives.
            deterministic: the most likely action, or a sample.

        Returns:
            (N, A) within the bounds of the action space, on the device that the observation came from.

        Raises:
            InputError: a sensor is missing, or has another shape or type; or the policy remembers.
        """
        if self.remembers:
            raise InputError(
                f"policy {self.name!r} remembers what it saw; act step by step with actor = policy.stateful(N), "
                "actor.start(env_ids) where episodes begin, actor.act(observation)"
            )
        inputs = self.inputs(observation)
        came_from = next(iter(inputs.values())).device
        device = self.network.device
        with torch.no_grad():
            action = self.network.act({key: x.to(device) for key, x in inputs.items()}, deterministic)
        return action.to(came_from)

    def inputs(self, observation: Mapping[str, Tensor | np.ndarray]) -> dict[str, Tensor]:
        """What it reads of an observation, key → (N, …), as tensors; errors as of `act`."""
        inputs = {key: _tensor(observation[key]) for key in (*self.keys, AVAILABLE) if key in observation}
        if not inputs:
            raise InputError(f"policy {self.name!r} reads {', '.join(self.keys)}; the observation has none of them")
        self._check_shapes(inputs)
        missing = [key for key in self.keys if key not in inputs]
        if missing:
            available = inputs.get(AVAILABLE)
            live = torch.ones(1, len(self.keys), dtype=torch.bool) if available is None else available > 0
            if available is not None and not self.frames:
                live = self.network.features_extractor.available({AVAILABLE: available})
            for key in missing:
                if bool(live[:, self.keys.index(key)].any()):
                    given = ", ".join(key for key in observation if key != AVAILABLE)
                    raise InputError(f"policy {self.name!r} reads the sensor {key!r}; the observation has {given}")
        return inputs

    def check(
        self,
        sensors: Sequence[Sensor],
        renderer: str | None = None,
        allow_mismatch: bool = False,
        cameras: Sequence[Any] | None = None,
    ) -> None:
        """Whether a world delivers what the policy was trained with.

        Args:
            sensors: the world's.
            renderer: the world's, None if unknown.
            allow_mismatch: let the renderer differ.
            cameras: the world's (`World.cameras`), None if unknown.

        Raises:
            InputError: names the first thing that differs.
        """
        theirs = {sensor.key: sensor for sensor in order(sensors)}
        if self.keys != tuple(theirs):
            raise InputError(
                f"policy {self.name!r} was trained with the sensors {', '.join(self.keys)}; this world has "
                f"{', '.join(theirs) or 'none'}"
            )
        for ours in self.sensors:
            other = theirs[ours.key]
            for what in ("kind", "shape", "dtype", "scale", "rate", "latency"):
                before, now = getattr(ours, what), getattr(other, what)
                if before != now:
                    raise InputError(
                        f"policy {self.name!r} was trained with a sensor {ours.key!r} of {what} {before}; in this "
                        f"world it is {now}"
                    )
        known = [camera for camera in self.world.get("cameras") or () if isinstance(camera, Mapping)]
        for before, now in zip(known, cameras or (), strict=False):
            here = json.loads(json.dumps(asdict(now)))
            if dict(before) != here:
                raise InputError(f"policy {self.name!r} was trained with the camera {dict(before)}; here it is {here}")
        trained = self.world.get("renderer")
        pictures = any(sensor.kind in ("rgb", "depth") for sensor in self.sensors)
        if pictures and renderer is not None and trained is not None and renderer != trained and not allow_mismatch:
            raise InputError(
                f"policy {self.name!r} was trained with renderer {trained}, this world has {renderer}; pass "
                "allow_mismatch=True (--allow-mismatch) to go on all the same"
            )

    def _check_shapes(self, inputs: Mapping[str, Tensor]) -> None:
        spaces = self.network.observation_space
        assert isinstance(spaces, gym.spaces.Dict)
        rows = len(next(iter(inputs.values())))
        shapes = {key: space.shape or () for key, space in spaces.spaces.items()}
        if self.frames:
            shapes = {sensor.key: sensor.shape for sensor in self.sensors}
        for key, x in inputs.items():
            expected = (rows, *shapes.get(key, (len(self.sensors),)))
            if tuple(x.shape) != expected:
                shape = ", ".join(["N", *map(str, expected[1:])])
                raise InputError(f"policy {self.name!r} reads {key!r} of shape ({shape}), got {tuple(x.shape)}")
        for sensor in self.sensors:
            x = inputs.get(sensor.key)
            expected = np.dtype(sensor.dtype)
            if x is None or (x.is_floating_point() and expected.kind == "f"):
                continue
            if str(x.dtype) != f"torch.{expected.name}":  # metres taken for millimetres would look like nothing at all
                raise InputError(
                    f"policy {self.name!r} reads {sensor.key!r} as {expected.name} [{sensor.unit}], got {x.dtype}"
                )


class StatefulPolicy:
    """A policy that acts in N environments, and its memory of each. Made by `Policy.stateful`."""

    def __init__(self, policy: Policy, num_envs: int) -> None:
        """Episodes begin in all environments."""
        self.policy, self.num_envs = policy, whole(num_envs, "num_envs", 1)
        keys = policy.keys
        self._stack = Stack(keys, keys, num_envs, policy.frames) if policy.frames else None
        self._memory = torch.zeros(num_envs, policy.network.memory, device=policy.network.device)

    def start(self, env_ids: Tensor | Sequence[int] | None = None) -> None:
        """Episodes begin in environments `env_ids`, int64 (n,), by default in all; what they remember is dropped."""
        ids = torch.arange(self.num_envs) if env_ids is None else integers(env_ids, "env_ids", self.num_envs).cpu()
        if self._stack is not None:
            self._stack.start(ids)
        self._memory = self._memory.index_fill(0, ids.to(self._memory.device), 0.0)

    def act(self, observation: Mapping[str, Tensor | np.ndarray], deterministic: bool = True) -> Tensor:
        """Actions of all environments for the next control step; as `Policy.act`, and to be called once per step.

        Raises:
            InputError: as `Policy.act`, or another number of rows.
        """
        came_from = next((x.device for x in observation.values() if isinstance(x, Tensor)), torch.device("cpu"))
        return self.policy.network.act_fused(self.fuse(observation), deterministic).to(came_from)

    def fuse(self, observation: Mapping[str, Tensor | np.ndarray]) -> Fused:
        """What actor and critic read in the next control step; instead of `act`."""
        inputs, network = self.policy.inputs(observation), self.policy.network
        if len(next(iter(inputs.values()))) != self.num_envs:
            raise InputError(f"{self.num_envs} environments, got {len(next(iter(inputs.values())))} observations")
        if self._stack is not None:
            inputs = self._stack.push(inputs)
        inputs = {key: x.to(network.device) for key, x in inputs.items()}
        if network.memory:
            inputs[MEMORY] = self._memory
        with torch.no_grad():
            fused = network.fuse(inputs)
        self._memory = self._memory if fused.memory is None else fused.memory
        return fused


def _tensor(x: Tensor | np.ndarray) -> Tensor:
    if isinstance(x, Tensor):
        return x
    return torch.from_numpy(x if x.flags.writeable else x.copy())


def check_network(network: object) -> None:
    """InputError for a network that `Policy`, policy files and exports cannot take."""
    if not isinstance(network, FusionActorCriticPolicy):
        raise InputError(
            f"policies, their files and exports are of a FusionActorCriticPolicy, got a {type(network).__name__}; "
            "FusionPPO trains one, and so does stable_baselines3.PPO(FusionActorCriticPolicy, env)"
        )
