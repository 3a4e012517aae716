"""How a learner steps its environments: tensors straight from our worlds, arrays from any other `VecEnv`."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol, cast, overload, runtime_checkable

import numpy as np
import torch
from stable_baselines3.common.vec_env import VecEnv
from torch import Tensor

from robofuse.policies.modules import MEMORY
from robofuse.tensors import chosen, numbers_of, write

Rows = dict[str, Tensor]


class Stepped(Protocol):
    """What a step of N environments gave, as tensors; `robofuse.envs.Step` says what each is."""

    observation: Rows
    reward: Tensor
    truncated: Tensor
    success: Tensor
    ended: Tensor
    final_observation: Rows


@runtime_checkable
class TensorEnv(Protocol):
    """A `VecEnv` whose steps are tensors on its own device, such as `robofuse.envs.SB3VecEnv`.

    Attributes:
        max_steps: of an episode.
        by_mask: whether nobody is to look at which environments ended.
        finished: return float64 (N,) and length int64 (N,) of the episodes that the last step belonged to, so far.
    """

    max_steps: int
    by_mask: bool
    finished: tuple[Tensor, Tensor]

    def step_tensors(self, action: Tensor) -> Stepped:
        """Advances every environment; `action` (N, A) within the bounds."""
        ...

    def infos(self, step: Stepped) -> list[dict[str, Any]]:
        """What SB3 calls infos, of the last step."""
        ...


class Moved(NamedTuple):
    """What one step of N environments gave to a learner.

    Attributes:
        observation: key → (N, …).
        reward: (N,).
        ended: bool (N,).
        infos: of SB3, for callbacks.
    """

    observation: Any
    reward: Any
    ended: Any
    infos: Sequence[dict[str, Any]]


class Stepper:
    """Steps environments through one rollout.

    Attributes:
        timeouts: the episodes that ran out of time.
    """

    def __init__(self, env: VecEnv, steps: int) -> None:
        """For a rollout of `steps` steps."""
        # a wrapper has the attributes of what it wraps, but not its class
        self._tensors = cast(TensorEnv, env) if hasattr(type(env), "step_tensors") else None
        self._env, self._number = env, 0
        slots = 0
        if self._tensors is not None and self._tensors.by_mask:
            slots = -(-steps // self._tensors.max_steps)
        self.timeouts = TimeOuts(env.num_envs, slots)
        self._log: list[Tensor] = []
        self._finished: list[dict[str, Any]] = []

    def step(self, action: Tensor, memory: Tensor) -> Moved:
        """Advances every environment; `memory` (N, H) is what a policy remembers of the step."""
        number, self._number = self._number, self._number + 1
        if self._tensors is None:
            return self._step_arrays(number, action, memory)
        env = self._tensors
        step = env.step_tensors(action)
        late = step.truncated if env.by_mask else numbers_of(step.truncated)
        self.timeouts.add(number, late, {key: chosen(x, late) for key, x in step.final_observation.items()}, memory)
        self._log.append(torch.stack([x.double() for x in (step.ended, step.success, *env.finished)]))
        return Moved(step.observation, step.reward, step.ended, _Infos(lambda: env.infos(step)))

    def log(self) -> Tensor:
        """What `finished` reads, float64 (T, 4, N) on the environments' device; T is 0 where steps are arrays."""
        return torch.stack(self._log) if self._log else torch.zeros(0, 4, self._env.num_envs, dtype=torch.float64)

    def finished(self, log: Tensor) -> list[dict[str, Any]]:
        """The episodes that ended in the rollout, as SB3's infos; `log` is what the method of that name gave."""
        return self._finished + [
            {"episode": {"r": reward, "l": int(length)}, "is_success": bool(success)}
            for step in log.tolist()
            for ended, success, reward, length in zip(*step, strict=True)
            if ended
        ]

    def _step_arrays(self, number: int, action: Tensor, memory: Tensor) -> Moved:
        observation, reward, ended, infos = self._env.step(action.cpu().numpy())
        over = np.flatnonzero(ended).tolist()
        late = [index for index in over if infos[index].get("TimeLimit.truncated", False)]
        if late:
            last = [infos[index]["terminal_observation"] for index in late]
            rows = {key: torch.from_numpy(np.stack([one[key] for one in last])) for key in last[0]}
            self.timeouts.add(number, torch.tensor(late), rows, memory)
        self._finished += [infos[index] for index in over]
        return Moved(observation, reward, ended, infos)


class TimeOuts:
    """Last observations of episodes that ran out of time, whose values belong to their last rewards.

    Where environments are told by number, rows are kept as they come. Where they are told by mask, every environment
    has room for as many as can run out of time in a rollout; one that diverges more often loses the earlier ones.
    """

    def __init__(self, num_envs: int, slots: int) -> None:
        """There are none yet; `slots` is the room of every environment, 0 if they are told by number."""
        self._num_envs, self._slots = num_envs, slots
        self._rows: list[Rows] = []
        self._when: list[Tensor] = []  # the step of each
        self._env_ids: list[Tensor] = []
        self._count: Tensor | None = None  # of those that were told by mask

    def add(self, number: int, worlds: Tensor, last: Rows, memory: Tensor) -> None:
        """Adds those of a step.

        Args:
            number: of the step in the rollout.
            worlds: int64 (n,), or a mask bool (N,).
            last: key → (n, …), or (N, …).
            memory: (N, H), of all environments.
        """
        if memory.shape[1]:
            last = last | {MEMORY: chosen(memory, worlds.to(memory.device))}
        if worlds.dtype != torch.bool:
            if len(worlds):
                self._rows.append(last)
                self._when.append(torch.full_like(worlds, number))
                self._env_ids.append(worlds)
            return
        if self._count is None:
            self._count = torch.zeros_like(worlds, dtype=torch.int64)
            for _ in range(self._slots):
                self._rows.append({key: x.clone() for key, x in last.items()})
                self._when.append(torch.full_like(self._count, -1))
                self._env_ids.append(torch.arange(self._num_envs, device=worlds.device))
        for slot, (rows, when) in enumerate(zip(self._rows, self._when, strict=True)):
            here = worlds if self._slots == 1 else worlds & (self._count % self._slots == slot)
            for key, x in rows.items():
                write(x.view(torch.int16) if x.dtype == torch.uint16 else x, here, _indexable(last[key]))
            when.masked_fill_(here, number)
        self._count += worlds

    def add_values(self, rewards: Tensor, observation: Rows, value: Callable[[Rows], Tensor], gamma: float) -> Tensor:
        """Adds the discounted values of the last observations to the rewards.

        Args:
            rewards: (T, N), changed.
            observation: what all environments see now, key → (N, …), with the memory if there is one.
            value: observations to values (B,).
            gamma: the discount.

        Returns:
            Values (N,) of the present observation.
        """
        if not self._rows:
            return value(observation)
        device, count = rewards.device, self._num_envs
        parts = [{key: x.to(device) for key, x in rows.items()} for rows in self._rows]
        if self._slots:  # as large as the present ones: not all at once
            now, *values = (value(rows) for rows in (observation, *parts))
            late = torch.cat(values)
        else:
            both = value({key: torch.cat([x, *(rows[key] for rows in parts)]) for key, x in observation.items()})
            now, late = both[:count], both[count:]
        when, env_ids = (torch.cat(x).to(device) for x in (self._when, self._env_ids))
        places = when.clamp(min=0) * count + env_ids
        rewards.view(-1).index_add_(0, places, torch.where(when >= 0, gamma * late, 0.0))
        return now


class _Infos(Sequence[dict[str, Any]]):
    """A list of dictionaries that is made when somebody looks at it."""

    def __init__(self, make: Callable[[], list[dict[str, Any]]]) -> None:
        self._make, self._made = make, None

    @overload
    def __getitem__(self, index: int) -> dict[str, Any]: ...
    @overload
    def __getitem__(self, index: slice) -> list[dict[str, Any]]: ...
    def __getitem__(self, index: int | slice) -> Any:
        return self._list()[index]

    def __len__(self) -> int:
        return len(self._list())

    def _list(self) -> list[dict[str, Any]]:
        if self._made is None:
            self._made = self._make()
        return self._made


def _indexable(x: Tensor) -> Tensor:
    return x.view(torch.int16) if x.dtype == torch.uint16 else x
