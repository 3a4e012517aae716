"""What one control step of N worlds gives."""

from typing import NamedTuple

from torch import Tensor


class Step(NamedTuple):
    """What one control step of N worlds gave.

    Attributes:
        observation: key → (N, …); of worlds that ended, the first observation of their next episode.
        reward: float32 (N,), sum of `terms`.
        terminated: bool (N,), success.
        truncated: bool (N,), out of time, or diverged.
        success: bool (N,).
        terms: name → float32 (N,), weighted reward terms.
        ended: int64 (n,), worlds whose episode ended, ascending.
        final_observation: key → (n, …), the last observation of the episodes that ended, rows as in `ended`.
        episode: int64 (N,), numbers of the episodes that this step belonged to.
        errors: world → cause, for simulations that diverged; their final observation is the last healthy one, the very
            tensors of the step before: what a caller has written into those shows here.
    """

    observation: dict[str, Tensor]
    reward: Tensor
    terminated: Tensor
    truncated: Tensor
    success: Tensor
    terms: dict[str, Tensor]
    ended: Tensor
    final_observation: dict[str, Tensor]
    episode: Tensor
    errors: dict[int, str]
