"""Fusion by a transformer layer."""

import torch
from torch import Tensor, nn


class Attention(nn.Module):
    """One pre-norm transformer layer over a readout token, live tokens and mask tokens; the readout is the result.

    Mask tokens take part: from the other sensors they may gather an estimate of what is missing.
    """

    def __init__(self, sensors: int, token_dim: int) -> None:
        """Four heads if they divide D, else one."""
        super().__init__()
        self.features = token_dim
        self.readout = nn.Parameter(torch.randn(1, 1, token_dim) * token_dim**-0.5)
        self.sensor = nn.Parameter(torch.randn(1, sensors, token_dim) * token_dim**-0.5)
        heads = 4 if token_dim % 4 == 0 else 1
        self.layer = nn.TransformerEncoderLayer(
            token_dim, heads, 2 * token_dim, dropout=0.0, batch_first=True, norm_first=True
        )
        self.norm = nn.LayerNorm(token_dim)

    def forward(self, tokens: Tensor, available: Tensor) -> Tensor:
        """See `robofuse.policies.fusion`."""
        readout = self.readout.expand(len(tokens), -1, -1)
        return self.norm(self.layer(torch.cat([readout, tokens + self.sensor], dim=1))[:, 0])
