"""An exported policy in simulated worlds, so that what runs on the robot is what was evaluated."""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from robofuse.checks import whole
from robofuse.deploy import Policy as Deployed
from robofuse.deploy.inputs import announced, finite
from robofuse.errors import InputError
from robofuse.policies import Policy
from robofuse.sensors import AVAILABLE
from robofuse.tensors import integers

SUFFIX = ".onnx"


class Played(Policy):
    """A file of `robofuse export`, with the interface of the policies that `robofuse.policies.load` gives.

    It has no `network`: onnxruntime runs it, on the CPU, one row after another, as its graph has a batch of one.

    Attributes:
        deployed: the policy that a robot would run.
        digest: SHA-256 of the file.
    """

    def __init__(self, path: str | Path, device: str = "auto") -> None:
        """Read a file; `device` is auto or cpu.

        Raises:
            InputError: no such file, it is cut off or damaged, or another device.
            StateError: onnxruntime is not installed or too old.
        """
        if device not in ("auto", "cpu"):
            raise InputError(f"{path} is an exported policy, which runs on the CPU: device auto or cpu, not {device!r}")
        self.deployed = Deployed(path)
        self.digest = hashlib.sha256(Path(path).read_bytes()).hexdigest()
        self.name, self.sensors = self.deployed.name, self.deployed.sensors
        self.world, self.card = self.deployed.world, self.deployed.card

    @property
    def remembers(self) -> bool:
        """Whether its actions depend on earlier observations; then it acts by `stateful`."""
        return self.deployed.remembers

    def stateful(self, num_envs: int) -> "StatefulPlayed":  # pyright: ignore[reportIncompatibleMethodOverride]
        """The policy in N environments side by side, step by step, with a memory of each if it has one."""
        return StatefulPlayed(self, num_envs)

    def act(self, observation: Mapping[str, Tensor | np.ndarray], deterministic: bool = True) -> Tensor:
        """Actions for N observations; NaN where an available sensor holds NaN or Inf, as with torch.

        Args:
            observation: key → (N, …) tensors or arrays, as of `World`.
            deterministic: must be True, as files hold no distribution.

        Returns:
            (N, A) within the bounds of the action space, on the device that the observation came from.

        Raises:
            InputError: a sensor is missing, has another shape or type, or is hidden though the policy cannot do without
                it; or the policy remembers.
        """
        if not deterministic:
            raise InputError(f"the exported policy {self.name!r} has no distribution; use the file it was made of")
        if self.remembers:
            raise InputError(f"policy {self.name!r} remembers what it saw; act step by step with policy.stateful(N)")
        return self._by_row([self.deployed] * len(next(iter(observation.values()))), observation)

    def _by_row(self, robots: Sequence[Deployed], observation: Mapping[str, Tensor | np.ndarray]) -> Tensor:
        """Actions, row by row, one by each robot."""
        wanted = {key: x for key, x in observation.items() if key in (*self.keys, AVAILABLE)}
        if not wanted:
            raise InputError(f"policy {self.name!r} reads {', '.join(self.keys)}; the observation has none of them")
        first = next(iter(wanted.values()))
        plain = {key: x.cpu().numpy() if isinstance(x, Tensor) else x for key, x in wanted.items()}
        rows = [self._one(robot, {key: x[row] for key, x in plain.items()}) for row, robot in enumerate(robots)]
        return torch.from_numpy(np.stack(rows)).to(first.device if isinstance(first, Tensor) else "cpu")

    def _one(self, robot: Deployed, observation: dict[str, np.ndarray]) -> np.ndarray:
        live = [key for key, flag in zip(self.keys, announced(observation, self.keys), strict=True) if flag]
        if all(finite(observation[key]) for key in live if key in observation):
            return robot(observation)
        return np.full(np.shape(self.deployed.action["low"]), np.nan, np.float32)


class StatefulPlayed:
    """An exported policy that acts in N environments, each with a memory of its own; as `Policy.stateful`."""

    def __init__(self, policy: Played, num_envs: int) -> None:
        """New episodes begin in all environments."""
        self.policy, self.num_envs = policy, whole(num_envs, "num_envs", 1)
        self._robots = [policy.deployed.fork() for _ in range(num_envs)]

    def start(self, env_ids: Tensor | Sequence[int] | None = None) -> None:
        """Forget everything in environments `env_ids`, int64 (n,), by default in all, where new episodes begin."""
        every = range(self.num_envs)
        for env_id in every if env_ids is None else integers(env_ids, "env_ids", self.num_envs).tolist():
            self._robots[env_id].reset()

    def act(self, observation: Mapping[str, Tensor | np.ndarray]) -> Tensor:
        """Actions of all environments for the next control step; errors as of `Played.act`."""
        given = len(next(iter(observation.values())))
        if given != self.num_envs:
            raise InputError(f"{self.num_envs} environments, got {given} observations")
        return self.policy._by_row(self._robots, observation)
