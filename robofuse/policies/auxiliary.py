"""Auxiliary losses: what each token, and the fused features, must tell about the simulator's truth."""

import torch
from torch import Tensor, nn

from robofuse.policies.extractor import Fused


class TruthHeads(nn.Module):
    """Predicts the normalised privileged vector from every sensor's token and from the features.

    Pixels get a dense, supervised signal (where is the object?) long before the reward says anything, and no sensor's
    encoder can go to sleep because another one suffices. The heads are thrown away at deployment.
    """

    def __init__(self, sensors: int, token_dim: int, features: int, truth: int) -> None:
        """One small network per sensor and one for the features."""
        super().__init__()
        self.tokens = nn.ModuleList(nn.Linear(token_dim, truth) for _ in range(sensors))
        self.features = nn.Sequential(nn.Linear(features, 64), nn.ELU(), nn.Linear(64, truth))

    def forward(self, fused: Fused, truth: Tensor) -> Tensor:
        """Huber losses (M + 1,): per sensor over the rows where it is live (0 if there is none), then fused.

        Huber's and not squared: speeds at a contact have tails that would drown the rest.

        Args:
            fused: of a batch of B rows.
            truth: (B, K), normalised.
        """
        losses = []
        for m, head in enumerate(self.tokens):
            live = fused.available[:, m].float()
            errors = _error(head(fused.tokens[:, m]), truth).mean(1)
            losses.append((errors * live).sum() / live.sum().clamp(min=1.0))
        losses.append(_error(self.features(fused.features), truth).mean())
        return torch.stack(losses)


def _error(prediction: Tensor, truth: Tensor) -> Tensor:
    return nn.functional.smooth_l1_loss(prediction, truth, reduction="none")
