"""Draws the masks of N environments: which sensors each one may read at the present control step."""

import math
import warnings
from collections.abc import Sequence

import torch
from torch import Tensor

from robofuse.dropout.laws import ALWAYS_ALL, Bound, Dropout, Independent, Law, as_dropout, check_probability
from robofuse.errors import InputError
from robofuse.rng import Stream, check_seed, uniform
from robofuse.tensors import Worlds, by_number, chosen, numbers_of, on_cpu, write

# control steps whose random numbers are drawn at once on a CPU: hashing is slow for few numbers, quick for many
AHEAD = 32
PATIENCE = 1000  # episodes without news of progress before a schedule that waits for it complains
_FULL, _KEPT, _LENGTH, _LAW = range(4)  # the use of each random number of a step; the law has the rest
_NEVER = torch.iinfo(torch.int64).max


class Scheduled:
    """Masks whose strength follows the progress of training.

    Attributes:
        dropout: what to mask.
    """

    def __init__(self, dropout: Dropout) -> None:
        """Progress is 0 until it is set."""
        self.dropout = dropout
        self._progress, self._told = 0.0, False

    @property
    def progress(self) -> float:
        """Training progress in [0, 1]; what is set takes effect at the next draw."""
        return self._progress

    @progress.setter
    def progress(self, value: float) -> None:
        self._progress, self._told = check_probability(value, "dropout progress"), True

    def _strength(self) -> float:
        return self.dropout.schedule.strength(self._progress)

    def _miss_progress(self, count: int, what: str, remedy: str) -> None:
        """Warns once, after `count` draws, of a schedule that nobody tells."""
        if count <= PATIENCE or self._told or not self.dropout.schedule.varies:
            return
        self._told = True
        warnings.warn(
            f"{self.dropout.schedule} waits for training progress, which nobody has set in {count} {what}: {remedy}",
            stacklevel=4,
        )


class Masker(Scheduled):
    """The masks of N environments, a function of (seed, episode, control step) and of training progress.

    At least one unit of the law is always kept: where it would mask them all, one stays, uniformly at random among
    those that are not always masked (a `Markov` outage of everything keeps the same one until it is over).

    Shared masks are those of a single environment, which starts whenever all N start at once, with the lowest of their
    episode numbers; what starts alone takes part in the mask that there is.

    Attributes:
        dropout: what to mask.
        keys: the M sensors, in the order of `available`.
        seed: of the masks; to change it, set it and start an episode in every environment.
        available: int8 (N, M), 1 = delivering; overwritten by `start` and `step`.
    """

    def __init__(
        self,
        dropout: Dropout | Law | float | None,
        keys: Sequence[str],
        num_envs: int,
        seed: int = 0,
        device: torch.device | str = "cpu",
    ) -> None:
        """Everything is available until an episode starts.

        Args:
            dropout: what to mask, see `as_dropout`; None masks nothing and costs nothing.
            keys: the sensors, in the order of `available`.
            num_envs: N.
            seed: of the masks.
            device: of the masks; on another one than the CPU, drawing them looks at no number.

        Raises:
            InputError: the law does not fit the sensors, or would never leave any, or could never mask any.
        """
        self.keys, self.seed = tuple(keys), check_seed(seed)
        super().__init__(as_dropout(dropout) or Dropout(Independent(0.0)))
        self._idle = dropout is None
        self.available = torch.ones(num_envs, len(self.keys), dtype=torch.int8, device=device)
        self._begun = 0
        self._bound = check_bound(self.dropout.law.bind(self.keys), self.keys)
        units = self._bound.units
        unit_of = [next(u for u, unit in enumerate(units) if key in unit) for key in self.keys]
        self._unit_of = torch.tensor(unit_of, device=device)
        self._spare = torch.tensor([u for u, rate in enumerate(self._bound.rates) if rate < 1.0], device=device)
        rows = 1 if self.dropout.shared else num_envs  # that draw masks of their own
        self._drawn = self.available[:1].clone() if self.dropout.shared else self.available
        self._episode = torch.zeros(rows, dtype=torch.int64, device=device)
        self._elapsed = torch.zeros(rows, dtype=torch.int64, device=device)
        self._until = torch.full((rows,), _NEVER, device=device)  # when the next outage begins
        self._full = torch.zeros(rows, dtype=torch.bool, device=device)
        # what the law says, before one is kept
        self._masked = torch.zeros(rows, len(units), dtype=torch.bool, device=device)
        self._kept = torch.zeros(rows, dtype=torch.int64, device=device)
        self._tick = 0
        ahead = AHEAD if on_cpu(self._kept) else 1
        self._ahead = torch.zeros(rows, ahead, _LAW + len(units) + 1, dtype=torch.float64, device=device)

    def start(self, worlds: Tensor, episode: Tensor) -> None:
        """Begins the episodes with numbers `episode`, int64 (n,), in these environments, each named at most once.

        Where a mask, bool (N,), names them, no number is looked at.
        """
        if self._idle or not len(worlds):
            return
        worlds, episode = worlds.to(self.available.device), episode.to(self.available.device)
        self._begun += 0 if by_number(worlds) is None else len(worlds)
        remedy = "set dropout_progress (World) or set_progress (wrappers), or use DropoutProgress with SB3"
        self._miss_progress(self._begun, "episodes", remedy)
        if self.dropout.shared:
            worlds, episode = self._all_of(worlds), episode.min()[None]
            if on_cpu(worlds) and not worlds.any():
                return
        write(self._episode, worlds, episode)
        write(self._elapsed, worlds, 0)
        if self.dropout.every == "episode":
            numbers = self._numbers(episode, 0)
        else:
            numbers = self._look_ahead(worlds, self._tick)[0]
        write(self._full, worlds, numbers[:, _FULL] < self.dropout.full)
        self._draw(worlds, numbers, self._bound.draw(numbers[:, _LAW:], self._strength()))

    def step(self) -> None:
        """Every environment has advanced by a control step."""
        if self._idle or self.dropout.every == "episode":
            return
        self._elapsed += 1
        self._tick = (self._tick + 1) % self._ahead.shape[1]
        if self._tick == 0:
            self._look_ahead(None, 0)
        numbers = self._ahead[:, self._tick]
        if self.dropout.every == "outage":
            due = self._elapsed >= self._until
            if on_cpu(due):
                due = numbers_of(due)
                if not len(due):
                    return
                numbers = numbers[due]
            self._draw(due, numbers, self._bound.draw(numbers[:, _LAW:], self._strength()))
        elif self._bound.follow:
            self._draw(None, numbers, self._bound.follow(numbers[:, _LAW:], self._strength(), self._masked))
        else:
            self._draw(None, numbers, self._bound.draw(numbers[:, _LAW:], self._strength()))

    def _draw(self, worlds: Worlds, numbers: Tensor, masked: Tensor) -> None:
        """Turns what the law masks, bool (n, U), into masks."""
        blind = masked.all(dim=1)
        if not on_cpu(blind) or blind.any():
            kept = self._spare[(numbers[:, _KEPT] * len(self._spare)).long().clamp_(max=len(self._spare) - 1)]
            if self._bound.follow:  # the one that was left stays for as long as nothing else works
                goes_on = chosen(self._masked, worlds).all(dim=1) & (chosen(self._elapsed, worlds) > 0)
                kept = torch.where(goes_on, chosen(self._kept, worlds), kept)
                write(self._kept, worlds, kept)
            shown = ~masked | (blind[:, None] & (kept[:, None] == torch.arange(masked.shape[1], device=kept.device)))
        else:
            shown = ~masked
        if self._bound.follow:
            write(self._masked, worlds, masked)
        if self.dropout.full:
            full = numbers[:, _FULL] < self.dropout.full if self.dropout.shared else chosen(self._full, worlds)
            shown |= full[:, None]
        write(self._drawn, worlds, shown.index_select(1, self._unit_of).to(torch.int8))
        if self.dropout.shared:
            self.available.copy_(self._drawn.expand_as(self.available))
        if self.dropout.every == "outage":
            write(self._until, worlds, chosen(self._elapsed, worlds) + self._length(numbers[:, _LENGTH]))

    def _all_of(self, worlds: Tensor) -> Tensor:
        """Bool (1,), whether these are all environments."""
        if by_number(worlds) is None:
            return worlds.all()[None]
        return torch.full((1,), len(worlds) == len(self.available), device=worlds.device)

    def _length(self, numbers: Tensor) -> Tensor:
        """Geometric lengths of at least 1, int64 (n,)."""
        stay = 1.0 - 1.0 / self.dropout.outage_steps
        return torch.ones_like(numbers, dtype=torch.int64) if not stay else (numbers.log() / math.log(stay)).long() + 1

    def _numbers(self, episode: Tensor, step: Tensor | int) -> Tensor:
        return uniform(self.seed, Stream.DROPOUT, episode, step, self._ahead.shape[2])

    def _look_ahead(self, worlds: Worlds, tick: int) -> Tensor:
        """Random numbers of these environments from the present step to the end of the block, (steps, n, …)."""
        coming = torch.arange(self._ahead.shape[1] - tick, device=self.available.device)
        step = chosen(self._elapsed, worlds)[:, None] + coming
        episode = chosen(self._episode, worlds)[:, None].expand_as(step)
        numbers = self._numbers(episode.flatten(), step.flatten()).reshape(*step.shape, -1)
        write(self._ahead[:, tick:], worlds, numbers)
        return numbers.transpose(0, 1)


def check_bound(bound: Bound, keys: tuple[str, ...]) -> Bound:
    """The bound law, if it can mask something and leave something; else InputError."""
    named = sorted(key for unit in bound.units for key in unit)
    if named != sorted(keys) or len(bound.rates) != len(bound.units):
        raise InputError(f"the law's units {bound.units} must hold each sensor once and have a rate each: {keys}")
    if min(bound.rates) >= 1.0:
        raise InputError(f"the law masks {', '.join(keys)} always: {ALWAYS_ALL}")
    if len(bound.units) == 1 and bound.rates[0] > 0.0:
        together = "it is the only sensor" if len(keys) == 1 else "they are masked together"
        raise InputError(
            f"nothing of {', '.join(keys)} could ever be masked, since {together} and one is always kept; "
            "add sensors, divide the group, or leave dropout out"
        )
    return bound
