"""Further masks of rows that are learned from, for learners from a replay buffer."""

from collections.abc import Sequence

import torch
from torch import Tensor

from robofuse.dropout.laws import Dropout, Law, as_dropout
from robofuse.dropout.masker import Scheduled, check_bound
from robofuse.errors import InputError
from robofuse.tensors import Constants


class RowMasker(Scheduled):
    """Masks more sensors of the rows of a batch, anew at every call; a device is not waited for.

    Every row has its own draw; with `Dropout.shared`, all rows of a call have the same. `full` is the share of such
    draws in which nothing is masked; how long a draw lasts has no meaning here. Of what is live, one unit stays at
    least: if none would, it is one uniformly at random of those that are not always masked.

    Attributes:
        dropout: what to mask.
        keys: the M sensors, in the order of the columns.
    """

    def __init__(self, dropout: Dropout | Law | float, keys: Sequence[str]) -> None:
        """Binds the law.

        Args:
            dropout: what to mask, see `as_dropout`.
            keys: the sensors.

        Raises:
            InputError: the law does not fit the sensors, or is a process in time.
        """
        made = as_dropout(dropout)
        assert made is not None
        if made.law.stepwise:
            raise InputError(
                f"{type(made.law).__name__} is a process in time, and rows to learn from come from all times; take "
                "Rates or Empirical, with the same shares"
            )
        super().__init__(made)
        self.keys, self._calls = tuple(keys), 0
        self._bound = check_bound(made.law.bind(self.keys), self.keys)
        units = self._bound.units
        self._unit_of = Constants(
            torch.tensor([next(u for u, unit in enumerate(units) if k in unit) for k in self.keys])
        )
        self._always = Constants(torch.tensor([float(rate >= 1.0) for rate in self._bound.rates]))

    def draw(self, live: Tensor) -> Tensor:
        """Which of the live sensors stay, bool (B, M), from torch's random numbers."""
        self._calls += 1
        self._miss_progress(self._calls, "batches", "use robofuse.wrappers.DropoutProgress with SB3")
        device, units = live.device, len(self._bound.units)
        count = 1 if self.dropout.shared else len(live)
        numbers = torch.rand(count, 2 * units + 2, dtype=torch.float64, device=device)
        masked = self._bound.draw(numbers[:, units + 1 :], self._strength())
        if self.dropout.full:
            masked = masked & (numbers[:, :1] >= self.dropout.full)
        unit_of = self._unit_of.on(device)
        kept = live & ~masked.index_select(1, unit_of)
        order = (numbers[:, 1 : units + 1] + self._always.on(device)).index_select(1, unit_of)
        order = order.expand(len(live), -1).masked_fill(~live, 3.0)
        first = (order == order.amin(dim=1, keepdim=True)) & live
        return torch.where(kept.any(dim=1, keepdim=True), kept, first)
