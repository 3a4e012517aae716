"""Distillation: the action under fewer sensors is drawn to the teacher's, or to that under more sensors.

Encoders cost most of an update and do not depend on each other. So every row can be fused again under further masks,
from tokens that are there already: only fusion and actor run once more. This is the consistency loss of modality
dropout made dense. It is an auxiliary loss on the policy's mean and leaves PPO's ratio alone.
"""

import torch
from torch import Tensor


def submasks(available: Tensor, keep: float) -> Tensor:
    """Masks with fewer live sensors.

    Args:
        available: bool (B, M), which sensors are live.
        keep: probability that a live sensor stays so.

    Returns:
        bool (B, M), drawn from torch's random numbers. One sensor stays at least, where one is live.
    """
    chances = torch.rand(available.shape, device=available.device)
    kept = available & (chances < keep)
    likeliest = chances.masked_fill(~available, 2.0).argmin(dim=1, keepdim=True)
    one = torch.zeros_like(available).scatter_(1, likeliest, True) & available
    return torch.where(kept.any(dim=1, keepdim=True), kept, one)
