"""Gradient blending: sensors that still learn something that holds weigh more than those that learn by heart."""

import torch
from torch import Tensor

_LEAST = 1e-3  # of a gain: a sensor that has not gained keeps a little weight, and may gain later


class Blending:
    """Weights of the losses of heads, of which each reads one sensor or all (Wang et al. 2020).

    In a stretch of training a head's loss on held-out rows falls by G, and the gap between held-out and training rows
    grows by O. Its weight in the next stretch is proportional to G / O², the optimum for independent gradients.

    Attributes:
        weights: (K,), with mean 1.
    """

    def __init__(self, heads: int) -> None:
        """All weigh the same until the second measurement."""
        self.weights = torch.ones(heads)
        self._before: tuple[Tensor, Tensor] | None = None

    def measure(self, training: Tensor, held_out: Tensor) -> None:
        """Takes the losses (K,) of the heads on rows that are learned from, and on rows that are not."""
        if self._before is not None:
            gain = (self._before[1] - held_out).clamp(min=_LEAST)
            overfit = (held_out - training) - (self._before[1] - self._before[0])
            weights = gain / overfit.square().clamp(min=_LEAST**2)
            weights = weights.clamp(max=1e3 * weights.median())  # one gap of about 0 would take everything
            self.weights = weights / weights.mean()
        self._before = training, held_out
