"""Fusion by gates."""

import torch
from torch import Tensor, nn


class Gated(nn.Module):
    """Weighted mean of the live tokens; each sensor's gate reads its own token, a hidden one's is −∞: F = D.

    Gates as in SimMLM (ICCV 2025).
    """

    def __init__(self, sensors: int, token_dim: int) -> None:
        """One linear gate per sensor."""
        super().__init__()
        self.features = token_dim
        self.weight = nn.Parameter(torch.zeros(sensors, token_dim))
        self.bias = nn.Parameter(torch.zeros(sensors))

    def forward(self, tokens: Tensor, available: Tensor) -> Tensor:
        """See `robofuse.policies.fusion`."""
        gates = (tokens * self.weight).sum(-1) + self.bias
        # finite, so that a row in which everything is hidden gives the mean of the mask tokens and not NaN
        gates = gates.masked_fill(~available, torch.finfo(gates.dtype).min).softmax(dim=1)
        return (tokens * gates[..., None]).sum(1)
