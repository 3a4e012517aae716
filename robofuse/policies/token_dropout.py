"""Dropout of numbers within the network, to compare dropout of whole sensors with; off in eval mode."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from robofuse.errors import InputError

KINDS = ("standard", "feature", "attention")
NOISY = (
    "token_dropout would make the update see another network than the rollout did, which breaks PPO, A2C and their "
    "like; use it to copy demonstrations or a teacher (FusionPPO(policy_coef=0)) or with learners from a replay "
    "buffer, and robofuse.dropout for sensors"
)


class TokenDropout(nn.Module):
    """Drops numbers of the tokens on their way into the fusion, and scales what is left, in train mode.

    `standard`: every number of every token for itself (Srivastava et al. 2014). `feature`: one number of all tokens of
    a row at once, as a channel of a picture is dropped in all its places (Tompson et al. 2015). `attention`: weights
    of the fusion's attention (Vaswani et al. 2017). None of them knows of sensors, and mask tokens are dropped like
    others. Losses on tokens see them whole.

    Attributes:
        rates: kind → probability.
    """

    def __init__(self, rates: Mapping[str, float], fusion: nn.Module) -> None:
        """Sets the dropout of the fusion's attention.

        Args:
            rates: kind → probability.
            fusion: that follows.

        Raises:
            InputError: an unknown kind, a probability out of range, or no attention to drop weights of.
        """
        super().__init__()
        for kind, rate in rates.items():
            if kind not in KINDS:
                raise InputError(f"unknown token_dropout {kind!r}; kinds: {', '.join(KINDS)}")
            if isinstance(rate, bool) or not isinstance(rate, int | float) or not 0.0 <= rate < 1.0:
                raise InputError(f"token_dropout[{kind!r}] must lie in [0, 1), got {rate!r}")
        self.rates = {kind: float(rate) for kind, rate in rates.items()}
        heads = [part for part in fusion.modules() if isinstance(part, nn.MultiheadAttention)]
        if self.rates.get("attention") and not heads:
            raise InputError(
                "token_dropout['attention'] drops weights of torch.nn.MultiheadAttention, and this fusion has none; "
                "fusion='attention' has"
            )
        for part in heads:
            part.dropout = self.rates.get("attention", part.dropout)

    def forward(self, tokens: Tensor) -> Tensor:
        """(B, M, D) to the same."""
        if rate := self.rates.get("standard"):
            tokens = nn.functional.dropout(tokens, rate, self.training)
        if rate := self.rates.get("feature"):
            kept = nn.functional.dropout(torch.ones_like(tokens[:, :1]), rate, self.training)
            tokens = tokens * kept
        return tokens
