"""What faults remember: readings of N environments."""

import torch
from torch import Tensor

from robofuse.tensors import put, take

_RECALLED = 128  # steps of an episode that `Moment.other` can recall; beyond them the last one stays


class Held:
    """The last reading of one sensor before it broke."""

    def __init__(self, num_envs: int) -> None:
        """Nothing is known of `num_envs` environments."""
        self._num, self._last = num_envs, None
        self._fresh = torch.ones(num_envs, dtype=torch.bool)  # nothing was read in this episode

    def start(self, env_ids: Tensor) -> None:
        """Episodes begin."""
        self._fresh[env_ids] = True

    def push(self, readings: Tensor, places: Tensor, env_ids: Tensor, healthy: Tensor) -> None:
        """Readings at `places` are of environments `env_ids`; kept if healthy, or the first ones of their episode."""
        if self._last is None:
            self._last = readings.new_zeros(self._num, *readings.shape[1:])
        keep = (healthy | self._fresh[env_ids]).nonzero()[:, 0]
        if len(keep):
            put(self._last, env_ids[keep], take(readings, places[keep]))
            self._fresh[env_ids] = False

    def look(self, env_ids: Tensor) -> Tensor:
        """Readings (m, …)."""
        assert self._last is not None
        return take(self._last, env_ids)


class Ring:
    """The last readings of one sensor."""

    def __init__(self, num_envs: int, length: int) -> None:
        """The last `length` readings of `num_envs` environments."""
        self._num, self._length, self._ring = num_envs, length, None

    def push(self, readings: Tensor, places: Tensor, env_ids: Tensor, step: Tensor) -> None:
        """Readings at `places` are of environments `env_ids` at their control steps."""
        if self._ring is None:
            # untouched memory costs nothing: only the rows that are used
            self._ring = readings.new_empty(self._num * self._length, *readings.shape[1:])
        put(self._ring, env_ids * self._length + step % self._length, take(readings, places))

    def look(self, env_ids: Tensor, step: Tensor, age: Tensor) -> Tensor:
        """Readings of `age` control steps ago, never from before the episode."""
        assert self._ring is not None
        age = age.clamp(min=0, max=self._length - 1).minimum(step)
        return take(self._ring, env_ids * self._length + (step - age) % self._length)


class Recall:
    """The first readings of the present episode and of the one before."""

    def __init__(self, num_envs: int) -> None:
        """Nothing is known of `num_envs` environments."""
        self._num, self._both = num_envs, None
        self._now = torch.zeros(num_envs, dtype=torch.int64)  # which half is the present episode
        self._count = torch.zeros(num_envs, 2, dtype=torch.int64)

    def start(self, env_ids: Tensor) -> None:
        """Episodes begin: what was the present one is the one before."""
        self._now[env_ids] = 1 - self._now[env_ids]
        self._count[env_ids, self._now[env_ids]] = 0

    def push(self, readings: Tensor, places: Tensor, env_ids: Tensor, step: Tensor) -> None:
        """Readings at `places` are of environments `env_ids` at their control steps."""
        if self._both is None:
            self._both = readings.new_empty(self._num * 2 * _RECALLED, *readings.shape[1:])
        fits = (step < _RECALLED).nonzero()[:, 0]
        now = self._now[env_ids]
        put(self._both, ((env_ids * 2 + now) * _RECALLED + step)[fits], take(readings, places[fits]))
        self._count[env_ids, now] = (step + 1).clamp(max=_RECALLED)

    def look(self, env_ids: Tensor, step: Tensor, otherwise: Tensor) -> Tensor:
        """What the episode before read at these steps; `otherwise` where there was none."""
        assert self._both is not None
        old = 1 - self._now[env_ids]
        count = self._count[env_ids, old]
        known = (count > 0).nonzero()[:, 0]
        found = (env_ids * 2 + old) * _RECALLED + step.minimum(count - 1)
        otherwise = otherwise.clone()
        put(otherwise, known, take(self._both, found[known]))
        return otherwise
