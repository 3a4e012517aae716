"""Draws the masks of N environments: which sensors each one may read at the present control step."""

import math
import warnings
from collections.abc import Sequence

import torch
from torch import Tensor

from robofuse.dropout.laws import ALWAYS_ALL, Bound, Dropout, Independent, Law, as_dropout, check_probability
from robofuse.errors import InputError
from robofuse.rng import Stream, check_seed, uniform
from robofuse.tensors import on_cpu

AHEAD = 32  # control steps whose random numbers are drawn at once: hashing is slow for few numbers, quick for many
PATIENCE = 1000  # episodes without news of progress before a schedule that waits for it complains
_FULL, _KEPT, _LENGTH, _LAW = range(4)  # the use of each random number of a step; the law has the rest
_NEVER = torch.iinfo(torch.int64).max


class Masker:
    """The masks of N environments, a function of (seed, episode, control step) and of training progress.

    At least one unit of the law is always kept: where it would mask them all, one stays, uniformly at random among
    those that are not always masked (a `Markov` outage of everything keeps the same one until it is over).

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
        self.dropout = as_dropout(dropout) or Dropout(Independent(0.0))
        self._idle = dropout is None
        self.available = torch.ones(num_envs, len(self.keys), dtype=torch.int8, device=device)
        self._progress, self._told, self._begun = 0.0, False, 0
        self._bound = _checked(self.dropout.law.bind(self.keys), self.keys)
        units = self._bound.units
        unit_of = [next(u for u, unit in enumerate(units) if key in unit) for key in self.keys]
        self._unit_of = torch.tensor(unit_of, device=device)
        self._spare = torch.tensor([u for u, rate in enumerate(self._bound.rates) if rate < 1.0], device=device)
        self._episode = torch.zeros(num_envs, dtype=torch.int64, device=device)
        self._elapsed = torch.zeros(num_envs, dtype=torch.int64, device=device)
        self._until = torch.full((num_envs,), _NEVER, device=device)  # when the next outage begins
        self._full = torch.zeros(num_envs, dtype=torch.bool, device=device)
        # what the law says, before one is kept
        self._masked = torch.zeros(num_envs, len(units), dtype=torch.bool, device=device)
        self._kept = torch.zeros(num_envs, dtype=torch.int64, device=device)
        self._tick = 0
        self._ahead = torch.zeros(AHEAD, num_envs, _LAW + len(units) + 1, dtype=torch.float64, device=device)

    @property
    def progress(self) -> float:
        """Training progress in [0, 1]; what is set takes effect at the next draw."""
        return self._progress

    @progress.setter
    def progress(self, value: float) -> None:
        self._progress, self._told = check_probability(value, "dropout progress"), True

    def start(self, env_ids: Tensor, episode: Tensor) -> None:
        """Begins the episodes with numbers `episode` in environments `env_ids`, both int64 (n,), each at most once."""
        if self._idle or not len(env_ids):
            return
        env_ids, episode = env_ids.to(self.available.device), episode.to(self.available.device)
        self._begun += len(env_ids)
        if self._begun > PATIENCE and not self._told and self.dropout.schedule.varies:
            self._told = True
            warnings.warn(
                f"{self.dropout.schedule} waits for training progress, which nobody has set in {self._begun} episodes: "
                "set dropout_progress (World) or set_progress (wrappers), or use DropoutProgress with SB3",
                stacklevel=2,
            )
        self._episode[env_ids], self._elapsed[env_ids] = episode, 0
        if self.dropout.every == "episode":
            numbers = self._numbers(episode, 0)
        else:
            numbers = self._look_ahead(env_ids, self._tick)[0]
        self._full[env_ids] = numbers[:, _FULL] < self.dropout.full
        self._draw(env_ids, numbers, self._bound.draw(numbers[:, _LAW:], self._strength()))

    def step(self) -> None:
        """Every environment has advanced by a control step."""
        if self._idle or self.dropout.every == "episode":
            return
        self._elapsed += 1
        self._tick = (self._tick + 1) % AHEAD
        if self._tick == 0:
            self._look_ahead(torch.arange(len(self._elapsed), device=self.available.device), 0)
        numbers = self._ahead[self._tick]
        if self.dropout.every == "outage":
            due = self._elapsed >= self._until
            if not on_cpu(due):  # all are drawn, and those put back that are not due: nobody looks how many
                before, until = self.available.clone(), self._until.clone()
                self._draw(slice(None), numbers, self._bound.draw(numbers[:, _LAW:], self._strength()))
                self.available.copy_(torch.where(due[:, None], self.available, before))
                self._until.copy_(torch.where(due, self._until, until))
            elif len(env_ids := due.nonzero()[:, 0]):
                numbers = numbers[env_ids]
                self._draw(env_ids, numbers, self._bound.draw(numbers[:, _LAW:], self._strength()))
        elif self._bound.follow:
            self._draw(slice(None), numbers, self._bound.follow(numbers[:, _LAW:], self._strength(), self._masked))
        else:
            self._draw(slice(None), numbers, self._bound.draw(numbers[:, _LAW:], self._strength()))

    def _draw(self, env_ids: Tensor | slice, numbers: Tensor, masked: Tensor) -> None:
        """Turns what the law masks, bool (n, U), into masks."""
        blind = masked.all(dim=1)
        if not on_cpu(blind) or blind.any():
            kept = self._spare[(numbers[:, _KEPT] * len(self._spare)).long().clamp_(max=len(self._spare) - 1)]
            if self._bound.follow:  # the one that was left stays for as long as nothing else works
                goes_on = self._masked[env_ids].all(dim=1) & (self._elapsed[env_ids] > 0)
                self._kept[env_ids] = kept = torch.where(goes_on, self._kept[env_ids], kept)
            shown = ~masked | (blind[:, None] & (kept[:, None] == torch.arange(masked.shape[1], device=kept.device)))
        else:
            shown = ~masked
        if self._bound.follow:
            self._masked[env_ids] = masked
        if self.dropout.full:
            shown |= self._full[env_ids, None]
        self.available[env_ids] = shown.index_select(1, self._unit_of).to(torch.int8)
        if self.dropout.every == "outage":
            self._until[env_ids] = self._elapsed[env_ids] + self._length(numbers[:, _LENGTH])

    def _length(self, numbers: Tensor) -> Tensor:
        """Geometric lengths of at least 1, int64 (n,)."""
        stay = 1.0 - 1.0 / self.dropout.outage_steps
        return torch.ones_like(numbers, dtype=torch.int64) if not stay else (numbers.log() / math.log(stay)).long() + 1

    def _strength(self) -> float:
        return self.dropout.schedule.strength(self._progress)

    def _numbers(self, episode: Tensor, step: Tensor | int) -> Tensor:
        return uniform(self.seed, Stream.DROPOUT, episode, step, self._ahead.shape[2])

    def _look_ahead(self, env_ids: Tensor, tick: int) -> Tensor:
        """Random numbers of these environments from the present step to the end of the block, (steps, n, …)."""
        coming = torch.arange(AHEAD - tick, device=self.available.device)[:, None]
        step = self._elapsed[env_ids] + coming
        numbers = self._numbers(self._episode[env_ids].expand_as(step).flatten(), step.flatten())
        numbers = numbers.reshape(*step.shape, -1)
        self._ahead[tick:, env_ids] = numbers
        return numbers


def _checked(bound: Bound, keys: tuple[str, ...]) -> Bound:
    """The bound law, if it can mask something and leave something."""
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
