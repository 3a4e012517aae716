"""Fusion of Gaussians."""

import torch
from torch import Tensor, nn


class ProductOfExperts(nn.Module):
    """Each live token is a Gaussian over D features; they multiply with a standard normal prior: F = 2 D.

    The result is the mean and the logarithm of the precision of the product, as in "Making Sense of Vision and Touch"
    (Lee et al. 2019). Fewer sensors, less precision.
    """

    def __init__(self, sensors: int, token_dim: int) -> None:
        """One linear layer per sensor, to its mean and log-precision."""
        super().__init__()
        self.features = 2 * token_dim
        self.weight = nn.Parameter(torch.randn(sensors, token_dim, 2 * token_dim) * token_dim**-0.5)
        self.bias = nn.Parameter(torch.zeros(sensors, 2 * token_dim))

    def forward(self, tokens: Tensor, available: Tensor) -> Tensor:
        """See `robofuse.policies.fusion`."""
        mean, log_precision = (torch.einsum("bmd,mdf->bmf", tokens, self.weight) + self.bias).chunk(2, dim=-1)
        precision = log_precision.clamp(-8.0, 8.0).exp() * available.to(tokens.dtype)[..., None]
        total = 1.0 + precision.sum(1)
        return torch.cat([(precision * mean).sum(1) / total, total.log()], dim=-1)
