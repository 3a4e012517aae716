"""Self-supervised pretraining: a masked autoencoder of pieces of a reading (MAE, He et al. 2022)."""

import math

import torch
from torch import Tensor, nn

from robofuse.policies.u2a.transformer import HEADS, WIDTH, Body, Layer, resized

HIDDEN = {"rgb": 0.75, "depth": 0.75, "window": 0.5, "vector": 0.5}  # share of the pieces, by kind of sensor
_NARROW = 64  # width of the decoder
_FLAT = 1e-3  # deviations below it are no signal


class Target:
    """Pieces as they are to be told: less their mean over the data, in units of their deviation.

    So predicting the mean of every piece has an error of 1. Deviations are those of a plane of images, of a column of a
    window, of each element of a vector.
    """

    def __init__(self, body: Body, pieces: Tensor) -> None:
        """Statistics of training data, (n, P, K)."""
        self.mean = pieces.mean(0)
        rest = pieces - self.mean
        if body.image:
            channels = len(body.unit)
            std = rest.unflatten(2, (-1, channels)).std((0, 1, 2)).repeat(body.size // channels)
        else:
            std = rest.std(0) if body.size == 1 else rest.std((0, 1))
        self.std = std.clamp(min=_FLAT)

    def __call__(self, pieces: Tensor) -> Tensor:
        """(n, P, K) to the same."""
        return (pieces - self.mean) / self.std


class MaskedAutoencoder(nn.Module):
    """Sees a part of the pieces, and tells the others; one layer decodes."""

    def __init__(self, body: Body) -> None:
        """A decoder for this body."""
        super().__init__()
        self.body, self.hidden = body, HIDDEN[body.kind]
        self.narrow = nn.Linear(WIDTH, _NARROW)
        self.mask_token = nn.Parameter(torch.randn(_NARROW) * 0.02)
        self.positions = nn.Parameter(torch.randn(math.prod(body.grid), _NARROW) * 0.02)
        self.layer = Layer(_NARROW, HEADS)
        self.out = nn.Sequential(nn.LayerNorm(_NARROW), nn.Linear(_NARROW, body.size))

    def forward(self, pieces: Tensor, target: Tensor, grid: tuple[int, ...], noise: Tensor) -> tuple[Tensor, Tensor]:
        """Squared errors, means over the hidden pieces: of the prediction (), and of predicting the mean ().

        Args:
            pieces: (n, P, K).
            target: (n, P, K), what to tell, 0 on the average.
            grid: of the pieces.
            noise: (n, P), random numbers; in each row, the pieces with the least are shown.
        """
        count = pieces.shape[1]
        shown = noise.argsort(1)[:, : max(1, round((1.0 - self.hidden) * count)), None]
        tokens = self.body.embedded(pieces, grid).gather(1, shown.expand(-1, -1, WIDTH))
        seen = torch.cat([self.body.class_token.expand(len(pieces), 1, -1), tokens], dim=1)
        latent = self.narrow(self.body(seen))
        places = shown.expand(-1, -1, _NARROW)
        full = self.mask_token.expand(len(pieces), count, -1).scatter(1, places, latent[:, 1:])
        full = torch.cat([latent[:, :1], full + resized(self.positions, self.body.grid, grid)], dim=1)
        told = self.out(self.layer(full)[:, 1:])
        hidden = torch.ones(pieces.shape[:2], device=pieces.device).scatter(1, shown[..., 0], 0.0)
        errors = ((told - target).square().mean(2), target.square().mean(2))
        wrong, trivial = ((error * hidden).sum() / hidden.sum() for error in errors)
        return wrong, trivial
