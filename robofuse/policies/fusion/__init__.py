"""Fusion: the tokens of all sensors, and which of them are live, to one feature vector.

One interface: tokens (B, M, D) float and available (B, M) bool, to (B, F). The token of a hidden sensor is its learned
mask token; a fusion may use it or leave it out.
"""

from collections.abc import Callable

from torch import nn

from robofuse.policies.fusion.attention import Attention
from robofuse.policies.fusion.experts import ProductOfExperts
from robofuse.policies.fusion.film import FiLM
from robofuse.policies.fusion.gated import Gated
from robofuse.policies.fusion.late import Late
from robofuse.policies.fusion.perceiver import Perceiver
from robofuse.policies.fusion.pooling import Concat, Sum, SumAll

Fusion = Callable[[int, int], nn.Module]
"""What makes a fusion: (sensors M, token size D) to a module, tokens (B, M, D) and available (B, M) to (B, F)."""
FUSIONS: dict[str, Fusion] = {
    "concat": Concat,
    "sum": Sum,
    "sum_all": SumAll,
    "attention": Attention,
    "gated": Gated,
    "product_of_experts": ProductOfExperts,
    "film": FiLM,
    "late": Late,
    "perceiver": Perceiver,
}
"""Fusions by name."""
