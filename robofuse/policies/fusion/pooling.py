"""Fusions without weights: tokens side by side, and means of tokens."""

from torch import Tensor, nn


class Concat(nn.Module):
    """All tokens side by side, mask tokens where sensors are hidden: F = M·D."""

    def __init__(self, sensors: int, token_dim: int) -> None:
        """No weights."""
        super().__init__()
        self.features = sensors * token_dim

    def forward(self, tokens: Tensor, available: Tensor) -> Tensor:
        """See `robofuse.policies.fusion`."""
        return tokens.flatten(1)


class Sum(nn.Module):
    """Mean over the live tokens: F = D. MAD (Almuzairee et al. 2025) merges camera views so."""

    def __init__(self, sensors: int, token_dim: int) -> None:
        """No weights."""
        super().__init__()
        self.features = token_dim

    def forward(self, tokens: Tensor, available: Tensor) -> Tensor:
        """See `robofuse.policies.fusion`."""
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
        """See `robofuse.policies.fusion`."""
        return tokens.mean(1)
