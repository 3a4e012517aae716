"""Running mean and variance of a stream of batches, as buffers that travel with the weights."""

import torch
from torch import Tensor, nn


class RunningNorm(nn.Module):
    """Normalises vectors by the mean and standard deviation of all that `update` has seen.

    Batches are merged by Chan, Golub and LeVeque's parallel formula (1983).
    """

    mean: Tensor
    var: Tensor
    count: Tensor

    def __init__(self, size: int) -> None:
        """Mean 0, variance 1, nothing seen."""
        super().__init__()
        self.register_buffer("mean", torch.zeros(size))
        self.register_buffer("var", torch.ones(size))
        self.register_buffer("count", torch.zeros(()))

    @torch.no_grad()
    def update(self, batch: Tensor, memory: float = 1e6) -> None:
        """Takes in a batch (n, size); at most `memory` earlier rows count, so that old ones fade."""
        n, mean, var = float(len(batch)), batch.float().mean(0), batch.float().var(0, unbiased=False)
        old = self.count.clamp(max=memory)
        total, delta = old + n, mean - self.mean
        self.var.copy_((self.var * old + var * n + delta.square() * old * n / total) / total)
        self.mean.add_(delta * n / total)
        self.count.copy_(total)

    @property
    def std(self) -> Tensor:
        """(size,), at least 1e-4."""
        return self.var.sqrt().clamp(min=1e-4)

    def forward(self, x: Tensor) -> Tensor:
        """Normalised and clipped to ±5."""
        return ((x - self.mean) / self.std).clamp(-5.0, 5.0)

    def inverse(self, x: Tensor) -> Tensor:
        """Back to the stream's own scale."""
        return x * self.std + self.mean
