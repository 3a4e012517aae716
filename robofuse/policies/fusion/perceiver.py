"""Fusion by cross-attention: a few learned latents read the pieces of all tokens."""

import math

import torch
from torch import Tensor, nn

from robofuse.policies.u2a.transformer import Attention, Layer

WIDTH, LATENTS, HEADS = 64, 8, 4
_PIECE = 32  # numbers, as many as an image encoder has channels


def piece_width(token_dim: int) -> int:
    """Numbers K in a piece of a token of D: the largest divisor of D that divides 32, so 32 for its multiples."""
    return math.gcd(token_dim, _PIECE)


class Perceiver(nn.Module):
    """Eight latents attend to the pieces of all tokens, then to each other; their mean is the result: F = 64.

    After the Perceiver (Jaegle et al. 2021). A token of D numbers is read as D / K pieces of K, see `piece_width`. With
    the encoder `patches` a picture's pieces are the places of its last convolution, so where something is seen stays
    where it is until the sensors have met. Pieces are embedded by a layer per sensor; embeddings for the sensor and for
    the place in the token are added. A masked sensor's pieces are those of its mask token.
    """

    def __init__(self, sensors: int, token_dim: int) -> None:
        """A layer of cross-attention and one of self-attention."""
        super().__init__()
        self.features, self.piece = WIDTH, piece_width(token_dim)
        self.embedding = nn.Parameter(torch.randn(sensors, self.piece, WIDTH) * self.piece**-0.5)
        self.sensor = nn.Parameter(torch.randn(sensors, 1, WIDTH) * 0.1)
        self.position = nn.Parameter(torch.randn(token_dim // self.piece, WIDTH) * 0.1)
        self.latents = nn.Parameter(torch.randn(1, LATENTS, WIDTH) * WIDTH**-0.5)
        self.norms = nn.ModuleList(nn.LayerNorm(WIDTH) for _ in range(3))
        self.cross = Attention(WIDTH, HEADS)
        self.layer = Layer(WIDTH, HEADS)

    def forward(self, tokens: Tensor, available: Tensor) -> Tensor:
        """See `robofuse.policies.fusion`."""
        asking, read, last = self.norms
        pieces = torch.einsum("bmpk,mkw->bmpw", tokens.unflatten(2, (-1, self.piece)), self.embedding)
        pieces = (pieces + self.sensor + self.position).flatten(1, 2)
        latents = self.latents.expand(len(tokens), -1, -1)
        latents = latents + self.cross(asking(latents), read(pieces))
        return last(self.layer(latents)).mean(1)
