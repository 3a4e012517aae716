"""What faults remember: readings of N environments, on the bits of any dtype."""

import torch
from torch import Tensor

_RECALLED = 128  # steps of an episode that `Moment.other` can recall; beyond them the last one stays


class Ring:
    """The last readings of one sensor in N environments."""

    def __init__(self, num: int, length: int) -> None:
        """The last `length` readings of `num` environments."""
        self._num, self._length, self._ring = num, length, None

    def push(self, reading: Tensor, rows: Tensor, step: Tensor) -> None:
        """Readings (n, …) of environments int64 (n,) at their control steps."""
        if self._ring is None:
            # untouched memory costs nothing: only the rows that are used
            self._ring = reading.new_empty(self._num, self._length, *reading.shape[1:])
        self._ring[rows, step % self._length] = reading

    def look(self, rows: Tensor, step: Tensor, age: Tensor) -> Tensor:
        """Readings of `age` control steps ago, never from before the episode."""
        assert self._ring is not None
        age = age.clamp(min=0, max=self._length - 1).minimum(step)
        return self._ring[rows, (step - age) % self._length]


class Recall:
    """The first readings of the present episode and of the one before, in N environments."""

    def __init__(self, num: int) -> None:
        """Nothing is known of `num` environments."""
        self._num, self._new, self._old = num, None, None
        self._count, self._old_count = torch.zeros(num, dtype=torch.int64), torch.zeros(num, dtype=torch.int64)

    def start(self, rows: Tensor) -> None:
        """Episodes begin: what was the present one is the one before."""
        if self._new is not None and self._old is not None:
            self._old[rows], self._old_count[rows] = self._new[rows], self._count[rows]
        self._count[rows] = 0

    def push(self, reading: Tensor, rows: Tensor, step: Tensor) -> None:
        """Readings (n, …) of environments int64 (n,) at their control steps."""
        if self._new is None:
            self._new = reading.new_zeros(self._num, _RECALLED, *reading.shape[1:])
            self._old = torch.zeros_like(self._new)
        fits = (step < _RECALLED).nonzero()[:, 0]
        self._new[rows[fits], step[fits]] = reading[fits]
        self._count[rows] = (step + 1).clamp(max=_RECALLED)

    def recall(self, rows: Tensor, step: Tensor, otherwise: Tensor) -> Tensor:
        """What the episode before read at these steps; `otherwise` where there was none."""
        assert self._old is not None
        count = self._old_count[rows]
        found = self._old[rows, step.minimum((count - 1).clamp(min=0))]
        return torch.where((count > 0).reshape(-1, *[1] * (found.ndim - 1)), found, otherwise)


def bits(x: Tensor) -> Tensor:
    """Torch cannot index unsigned 16-bit numbers, but the same bits as signed ones."""
    return x.view(torch.int16) if x.dtype == torch.uint16 else x


def unbits(x: Tensor, dtype: torch.dtype) -> Tensor:
    """The reading whose bits these are."""
    return x.view(torch.uint16) if dtype == torch.uint16 else x


def put_rows(x: Tensor, rows: Tensor, values: Tensor) -> Tensor:
    """A copy of x with other rows."""
    return unbits(bits(x).index_copy(0, rows, bits(values.to(x.dtype).contiguous())), x.dtype)
