"""Low-rank adapters of frozen encoders (LoRA, Hu et al. 2021), and how many weights there are and learn."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn

from robofuse.policies.u2a.transformer import Attention, TransformerEncoder

Adapt = Literal["full", "lora", "frozen"]
RANK, ALPHA, DROPOUT = 1, 1.0, 0.1  # U2A's


class LoRALinear(nn.Linear):
    """A frozen linear layer plus α/rank · up(down(x)); it begins as the layer that it adapts, as `up` is zero.

    Attributes:
        share: of its inputs that are dropped while it trains; 0 under PPO, which acts and learns with one function.
    """

    def __init__(self, layer: nn.Linear) -> None:
        """Shares the weights of a layer, under the same names."""
        super().__init__(layer.in_features, layer.out_features, device="meta")
        self.weight, self.bias = layer.weight, layer.bias
        self.down = nn.Parameter(torch.randn(RANK, layer.in_features) * layer.in_features**-0.5)
        self.up = nn.Parameter(torch.zeros(layer.out_features, RANK))
        self.share = 0.0

    def forward(self, input: Tensor) -> Tensor:
        """(…, in) to (…, out)."""
        x = nn.functional.dropout(input, self.share, self.training) if self.share else input
        return super().forward(input) + ALPHA / RANK * (x @ self.down.T) @ self.up.T


def adapt_encoder(encoder: TransformerEncoder, how: Adapt) -> None:
    """Freezes the body of an encoder, but for its class token (`frozen`), with adapters on q, k, v and o (`lora`).

    Head, class token and mask tokens learn in any case.
    """
    if how == "full":
        return
    for name, weight in encoder.body.named_parameters():
        weight.requires_grad_(name == "class_token")
    if how == "lora":
        for part in [part for part in encoder.body.modules() if isinstance(part, Attention)]:
            part.q, part.k, part.v, part.o = (LoRALinear(layer) for layer in (part.q, part.k, part.v, part.o))


@contextmanager
def adapter_dropout(module: nn.Module, share: float = DROPOUT) -> Iterator[None]:
    """Within the block, the adapters of a module drop this share of their inputs while it is in train mode."""
    adapters = [part for part in module.modules() if isinstance(part, LoRALinear)]
    for part in adapters:
        part.share = share
    try:
        yield
    finally:
        for part in adapters:
            part.share = 0.0


class Weights(NamedTuple):
    """How many weights a network has, and how many of them learn."""

    total: int
    learnable: int

    def __str__(self) -> str:
        """In words."""
        if self.total == self.learnable:
            return f"{self.total:,} weights"
        return f"{self.total:,} weights, of which {self.learnable:,} learn ({self.learnable / self.total:.1%})"


def count_weights(module: nn.Module) -> Weights:
    """The numbers in all parameters of a module, each counted once."""
    sizes = [(x.numel(), x.requires_grad) for x in module.parameters()]
    return Weights(sum(size for size, _ in sizes), sum(size for size, learns in sizes if learns))
