"""Rollouts as tensors on the training device, every observation in the dtype it came in."""

from collections.abc import Iterator
from typing import NamedTuple

import gymnasium as gym
import numpy as np
import torch
from stable_baselines3.common.buffers import DictRolloutBuffer
from torch import Tensor

from robofuse.policies.modules import MEMORY
from robofuse.sensors import AVAILABLE
from robofuse.tensors import put, take

TEACHER_ACTION = "_teacher"  # the key under which the teacher's action is stored with the observation


class Batch(NamedTuple):
    """Rows of a rollout.

    Attributes:
        observations: key → (B, …), native dtypes.
        actions: (B, A), as stored by the policy.
        old_log_prob: (B,).
        advantages: (B,).
        returns: (B,).
        starts: bool (T, E), where episodes begin; only of a policy with a memory. Its rows are T steps of E
            environments, the first step first.
    """

    observations: dict[str, Tensor]
    actions: Tensor
    old_log_prob: Tensor
    advantages: Tensor
    returns: Tensor
    starts: Tensor | None = None


class TensorRolloutBuffer(DictRolloutBuffer):
    """SB3's Dict rollout buffer with tensors inside.

    SB3 keeps arrays on the CPU, copies the whole rollout once more before the first epoch, and makes floats of every
    minibatch. Here a step is stored on the training device as it is, and minibatches are gathered straight from that.
    """

    def reset(self) -> None:
        """Start a new rollout in the same memory."""
        shape = (self.buffer_size, self.n_envs)
        if not hasattr(self, "stored"):
            assert isinstance(self.observation_space, gym.spaces.Dict)
            self.stored = {
                key: torch.zeros(*shape, *(space.shape or ()), dtype=_dtype(space.dtype), device=self.device)
                for key, space in self.observation_space.spaces.items()
            }
            self.action_store = torch.zeros(*shape, self.action_dim, device=self.device)
            self.scalars = torch.zeros(6, *shape, device=self.device)
        self.reward, self.start, self.value, self.log_prob, self.advantage, self.target = self.scalars
        self.pos, self.full = 0, False

    def add_column(self, key: str, size: int) -> None:
        """Also store `key`, float32 (N, size), of every step's observation.

        If it is the recurrent state before the step (`_memory`), minibatches are whole environments.
        """
        self.stored[key] = torch.zeros(self.buffer_size, self.n_envs, size, device=self.device)

    def add(self, obs, action, reward, episode_start, value, log_prob) -> None:  # noqa: ANN001
        """Store one step of all environments; arrays or tensors."""
        for key, store in self.stored.items():
            put(store, self.pos, torch.as_tensor(obs[key]).reshape(store.shape[1:]))
        self.action_store[self.pos] = torch.as_tensor(action).reshape(self.n_envs, -1)
        self.reward[self.pos] = torch.as_tensor(reward)
        self.start[self.pos] = torch.as_tensor(episode_start)
        self.value[self.pos] = value.flatten()
        self.log_prob[self.pos] = log_prob
        self.pos += 1
        self.full = self.pos == self.buffer_size

    @torch.no_grad()
    def compute_returns_and_advantage(self, last_values: Tensor, dones: np.ndarray) -> None:
        """Generalised advantage estimation (Schulman et al. 2016), as SB3's, on tensors."""
        running = torch.zeros(self.n_envs, device=self.device)
        next_value, goes_on = (
            last_values.flatten(),
            1.0 - torch.as_tensor(dones, dtype=torch.float32, device=self.device),
        )
        for step in reversed(range(self.buffer_size)):
            delta = self.reward[step] + self.gamma * next_value * goes_on - self.value[step]
            running = delta + self.gamma * self.gae_lambda * goes_on * running
            self.advantage[step] = running
            next_value, goes_on = self.value[step], 1.0 - self.start[step]
        self.target.copy_(self.advantage + self.value)

    @property
    def values(self) -> np.ndarray:
        """(steps, envs), which SB3's logging reads."""
        return self.value.cpu().numpy()

    @values.setter
    def values(self, _: object) -> None: ...

    @property
    def returns(self) -> np.ndarray:
        """(steps, envs), which SB3's logging reads."""
        return self.target.cpu().numpy()

    @returns.setter
    def returns(self, _: object) -> None: ...

    def minibatches(self, batch_size: int, generator: torch.Generator | None = None) -> Iterator[Batch]:
        """All rows once, in random order, `batch_size` at a time; a last batch of one row is left out.

        With a memory, a minibatch is whole environments: as many as fit into `batch_size`, at least one.
        """
        total = self.buffer_size * self.n_envs
        flat = {key: store.flatten(0, 1) for key, store in self.stored.items()}
        actions, scalars = self.action_store.flatten(0, 1), self.scalars.flatten(1)
        columns = MEMORY in self.stored
        order = torch.randperm(self.n_envs if columns else total, generator=generator, device=self.device)
        for chosen in order.split(max(1, batch_size // self.buffer_size) if columns else batch_size):
            first = torch.arange(0, total, self.n_envs, device=self.device)
            rows = (first[:, None] + chosen).flatten() if columns else chosen
            if len(rows) == 1:
                continue  # its advantage has no standard deviation
            _, _, _, log_prob, advantage, target = scalars[:, rows]
            starts = self.start[:, chosen] > 0.5 if columns else None
            observations = {key: take(x, rows) for key, x in flat.items()}
            yield Batch(observations, actions[rows], log_prob, advantage, target, starts)

    def bytes_per_step(self) -> int:
        """Bytes held per stored environment step."""
        held = [*self.stored.values(), self.action_store, self.scalars]
        return sum(x.numel() * x.element_size() for x in held) // (self.buffer_size * self.n_envs)


class Replay:
    """Rows of past rollouts, from which losses learn that do not depend on the policy that acted.

    DAgger (Ross et al. 2011) fits the teacher's actions in all states that the student has come to so far, not only in
    the last ones. Earlier rows are cheap: simulating a step costs several times as much as learning from it again.
    """

    def __init__(self, capacity: int) -> None:
        """Keeps the last `capacity` rows."""
        self.capacity, self.size, self._next = capacity, 0, 0
        self._stored: dict[str, Tensor] = {}

    def add(self, buffer: TensorRolloutBuffer) -> None:
        """Copies all rows of a rollout; the oldest make room."""
        count = buffer.buffer_size * buffer.n_envs
        kept = min(count, self.capacity)
        places = (self._next + torch.arange(kept, device=buffer.device)) % self.capacity
        for key, store in buffer.stored.items():
            rows = store.flatten(0, 1)[count - kept :]
            if key not in self._stored:
                self._stored[key] = torch.empty(self.capacity, *rows.shape[1:], dtype=rows.dtype, device=rows.device)
            put(self._stored[key], places, rows)
        self._next = (self._next + kept) % self.capacity
        self.size = min(self.size + kept, self.capacity)

    def clear(self) -> None:
        """Forgets all rows."""
        self.size = self._next = 0

    def minibatches(self, rows: int, batch_size: int, balance: bool = False) -> Iterator[dict[str, Tensor]]:
        """Minibatches of observations, key → (batch_size, …), about `rows` in all, drawn with replacement.

        All rows are equally likely; with `balance`, all sets of live sensors among them are.
        """
        device = next(iter(self._stored.values())).device
        weights = by_mask(self._stored[AVAILABLE][: self.size]) if balance and AVAILABLE in self._stored else None
        for _ in range(rows // batch_size):
            if weights is None:
                chosen = torch.randint(self.size, (batch_size,), device=device)
            else:
                chosen = torch.multinomial(weights, batch_size, replacement=True)
            yield {key: take(x, chosen) for key, x in self._stored.items()}


def by_mask(available: Tensor) -> Tensor:
    """Weights (n,) of rows with masks (n, M), which sum to 1 over the rows of each mask."""
    _, which, counts = torch.unique(available, dim=0, return_inverse=True, return_counts=True)
    return 1.0 / counts.float()[which]


def _dtype(dtype: np.dtype | type | None) -> torch.dtype:
    return torch.as_tensor(np.zeros(1, dtype or np.float32)).dtype
