"""The tokens of missing sensors, estimated by those that are there."""

from typing import Literal

import torch
from torch import Tensor, nn

Estimate = Literal["mean", "gated"]


class Estimates(nn.Module):
    """Puts what the live sensors say of a missing one in the place of its token (U2A).

    A live sensor has its own token. A missing one has the mean of what the live ones estimate; or, gated, their mean
    under weights that are learned for every pair (which sensor tells, of which), a softmax over those that are live.
    Where nothing is live, its learned mask token stands.
    """

    def __init__(self, sensors: int, how: Estimate) -> None:
        """For M sensors; without weights for `mean`, and beginning as it for `gated`."""
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(sensors, sensors)) if how == "gated" else None

    def forward(self, said: Tensor, available: Tensor, mask_tokens: Tensor) -> Tensor:
        """What every sensor says of every other to the tokens.

        Args:
            said: (B, M, M, D), what sensor s says of sensor t, its own token where s is t; zeros where s is not live.
            available: bool (B, M), which are live.
            mask_tokens: (M, D).

        Returns:
            (B, M, D).
        """
        live = available.to(said.dtype)[..., None]
        if self.logits is None:
            weights = live / live.sum(1, keepdim=True).clamp(min=1.0)
        else:
            # finite, so that a row without a live sensor gives no NaN, which its gradient would keep
            logits = self.logits.masked_fill(~available[..., None], torch.finfo(said.dtype).min)
            weights = logits.softmax(1)
        estimated = (weights[..., None] * said).sum(1)
        estimated = torch.where(available.any(1)[:, None, None], estimated, mask_tokens)
        own = said.diagonal(dim1=1, dim2=2).transpose(1, 2)
        return torch.where(available[..., None], own, estimated)
