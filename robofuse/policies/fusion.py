"""Fusion: the tokens of all sensors, and which of them are live, to one feature vector.

One interface: tokens (B, M, D) float and available (B, M) bool, to (B, F). The token of a hidden sensor is its learned
mask token; a fusion may use it or leave it out.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn


class Concat(nn.Module):
    """All tokens side by side, mask tokens where sensors are hidden: F = M·D."""

    def __init__(self, sensors: int, token_dim: int) -> None:
        """No weights."""
        super().__init__()
        self.features = sensors * token_dim

    def forward(self, tokens: Tensor, available: Tensor) -> Tensor:
        """See the module."""
        return tokens.flatten(1)


class Sum(nn.Module):
    """Mean over the live tokens: F = D. MAD (Almuzairee et al. 2025) merges camera views so."""

    def __init__(self, sensors: int, token_dim: int) -> None:
        """No weights."""
        super().__init__()
        self.features = token_dim

    def forward(self, tokens: Tensor, available: Tensor) -> Tensor:
        """See the module."""
        live = available.to(tokens.dtype)[..., None]
        return (tokens * live).sum(1) / live.sum(1).clamp(min=1.0)


class SumAll(nn.Module):
    """Mean over all tokens, of live and of hidden sensors: F = D.

    With tokens that are estimated where a sensor is missing, it is the sum that U2A takes.
    """

    def __init__(self, sensors: int, token_dim: int) -> None:
        """No weights."""
        super().__init__()
        self.features = token_dim

    def forward(self, tokens: Tensor, available: Tensor) -> Tensor:
        """See the module."""
        return tokens.mean(1)


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
        """See the module."""
        readout = self.readout.expand(len(tokens), -1, -1)
        return self.norm(self.layer(torch.cat([readout, tokens + self.sensor], dim=1))[:, 0])


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
        """See the module."""
        gates = (tokens * self.weight).sum(-1) + self.bias
        # finite, so that a row in which everything is hidden gives the mean of the mask tokens and not NaN
        gates = gates.masked_fill(~available, torch.finfo(gates.dtype).min).softmax(dim=1)
        return (tokens * gates[..., None]).sum(1)


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
        """See the module."""
        mean, log_precision = (torch.einsum("bmd,mdf->bmf", tokens, self.weight) + self.bias).chunk(2, dim=-1)
        precision = log_precision.clamp(-8.0, 8.0).exp() * available.to(tokens.dtype)[..., None]
        total = 1.0 + precision.sum(1)
        return torch.cat([(precision * mean).sum(1) / total, total.log()], dim=-1)


Fusion = Callable[[int, int], nn.Module]
"""What makes a fusion: (sensors M, token size D) to a module, tokens (B, M, D) and available (B, M) to (B, F)."""
FUSIONS: dict[str, Fusion] = {
    "concat": Concat,
    "sum": Sum,
    "sum_all": SumAll,
    "attention": Attention,
    "gated": Gated,
    "product_of_experts": ProductOfExperts,
}
"""Fusions by name."""
