"""A policy at work in N environments, step by step, with what it remembers."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from robofuse.checks import whole
from robofuse.errors import InputError
from robofuse.memory.stack import Stack
from robofuse.policies.extractor import Fused
from robofuse.policies.recurrent import MEMORY
from robofuse.tensors import integers

if TYPE_CHECKING:
    from robofuse.policies.policy import Policy


class StatefulPolicy:
    """A policy at work in N environments, and what it remembers of each."""

    def __init__(self, policy: "Policy", num_envs: int) -> None:
        """Episodes begin in all of them."""
        self.policy, self.num_envs = policy, whole(num_envs, "num", 1)
        keys = policy.keys
        self._stack = Stack(keys, keys, num_envs, policy.frames) if policy.frames else None
        self._memory = torch.zeros(num_envs, policy.network.memory, device=policy.network.device)

    def start(self, rows: Tensor | Sequence[int] | None = None) -> None:
        """New episodes begin in environments `rows`, int64 (n,), by default in all: nothing is remembered there."""
        rows = torch.arange(self.num_envs) if rows is None else integers(rows, "rows", self.num_envs).cpu()
        if self._stack is not None:
            self._stack.start(rows)
        self._memory = self._memory.index_fill(0, rows.to(self._memory.device), 0.0)

    def act(self, observation: Mapping[str, Tensor | np.ndarray], deterministic: bool = True) -> Tensor:
        """Actions of all environments for the next control step; as `Policy.act`, and to be called once per step.

        Raises:
            ValueError: as `Policy.act`, or another number of rows.
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
