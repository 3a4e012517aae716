"""Fusion by modulation: what the other sensors see scales and shifts each token."""

import torch
from torch import Tensor, nn

_FIRST = 0.1  # of weights, so that tokens are at first almost as they were


class FiLM(nn.Module):
    """Mean of the live tokens, each scaled and shifted by what the other live ones say: F = D.

    Feature-wise linear modulation (Perez et al. 2018), in all directions: token ← (1 + γ) · token + β, in which γ and β
    of a sensor are linear in the mean of what the others say. Where no other is live, they are constants.
    """

    others: Tensor

    def __init__(self, sensors: int, token_dim: int) -> None:
        """Per sensor one layer for what it says, and one for how it is modulated."""
        super().__init__()
        self.features = token_dim
        scale = token_dim**-0.5
        self.said = nn.Parameter(torch.randn(sensors, token_dim, token_dim) * scale)
        self.said_bias = nn.Parameter(torch.zeros(sensors, token_dim))
        self.weight = nn.Parameter(torch.randn(sensors, token_dim, 2 * token_dim) * _FIRST * scale)
        self.bias = nn.Parameter(torch.zeros(sensors, 2 * token_dim))
        self.register_buffer("others", 1.0 - torch.eye(sensors), persistent=False)

    def forward(self, tokens: Tensor, available: Tensor) -> Tensor:
        """See `robofuse.policies.fusion`."""
        live = available.to(tokens.dtype)
        modulated = self.modulated(tokens, live) * live[..., None]
        return modulated.sum(1) / live.sum(1, keepdim=True).clamp(min=1.0)

    def modulated(self, tokens: Tensor, live: Tensor) -> Tensor:
        """Tokens (B, M, D) after modulation, the same shape; `live` is 1 or 0, (B, M)."""
        said = nn.functional.elu(torch.einsum("bmd,mde->bme", tokens, self.said) + self.said_bias)
        heard = live[:, None] * self.others  # (B, M, M): by each, of each
        context = heard @ said / heard.sum(2, keepdim=True).clamp(min=1.0)
        scale, shift = (torch.einsum("bmd,mdf->bmf", context, self.weight) + self.bias).chunk(2, dim=-1)
        return (1.0 + scale) * tokens + shift
