"""A small transformer per sensor: its class token is the sensor's, its mask tokens estimate the other sensors'."""

import math
from typing import cast

import torch
from torch import Tensor, nn

from robofuse.errors import InputError
from robofuse.policies.planes import SLOPE, middle_and_unit, millimetres, saturated, slopes
from robofuse.sensors import Sensor

PATCH = 8  # pixels a side
WIDTH, LAYERS, HEADS, MLP = 96, 3, 4, 2  # of every encoder, so that pretrained weights fit everywhere


class Attention(nn.Module):
    """Multi-head attention whose four linear layers are apart, so that each can be adapted."""

    def __init__(self, width: int, heads: int) -> None:
        """Heads of equal width."""
        super().__init__()
        self.heads = heads
        self.q, self.k, self.v, self.o = (nn.Linear(width, width) for _ in range(4))

    def forward(self, x: Tensor, read: Tensor | None = None) -> Tensor:
        """(n, T, width) to the same, by attention to `read`, (n, S, width); by default to itself."""
        read = x if read is None else read
        parts = ((self.q, x), (self.k, read), (self.v, read))
        q, k, v = (part(given).unflatten(2, (self.heads, -1)).transpose(1, 2) for part, given in parts)
        return self.o(nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class Layer(nn.Module):
    """A pre-norm transformer layer without dropout, which would differ between PPO's acting and its learning."""

    def __init__(self, width: int, heads: int) -> None:
        """The hidden layer is twice as wide."""
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.mlp = nn.Sequential(nn.Linear(width, MLP * width), nn.GELU(), nn.Linear(MLP * width, width))

    def forward(self, x: Tensor) -> Tensor:
        """(n, T, width) to the same."""
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class Body(nn.Module):
    """What is pretrained of an encoder: pieces of a reading, their embedding and positions, and the layers.

    A piece is a patch of 8×8 pixels (ViT, Dosovitskiy et al. 2021), with the planes that `planes.py` makes; a step of a
    window; or an element of a vector, which has an embedding of its own (Gorishniy et al. 2021). Vectors and windows
    are divided by the sensor's scale and squashed beyond 3 of it.

    Attributes:
        grid: numbers of pieces along each axis.
        size: K, numbers in a piece.
    """

    middle: Tensor
    unit: Tensor

    def __init__(self, sensor: Sensor) -> None:
        """Layers for this sensor's shape."""
        super().__init__()
        self.kind, self.depth = sensor.kind, sensor.kind == "depth"
        self.image = sensor.kind in ("rgb", "depth")
        if self.image:
            middle, unit = middle_and_unit(sensor)
            self.scale = float(cast(float, sensor.scale))
            self.grid: tuple[int, ...] = tuple(-(-side // PATCH) for side in sensor.shape[:2])
            self.size = PATCH * PATCH * len(unit)
        else:
            scale = torch.as_tensor(sensor.scale, dtype=torch.float32).broadcast_to(sensor.shape).contiguous()
            if not bool((scale > 0).all()):
                raise InputError(f"{sensor.key!r}: scales must be positive, got {sensor.scale}")
            middle, unit = torch.zeros(()), 1.0 / scale
            window = sensor.kind == "window" and len(sensor.shape) == 2
            self.grid, self.size = ((sensor.shape[0],), sensor.shape[1]) if window else ((max(scale.numel(), 1),), 1)
        self.register_buffer("middle", middle, persistent=False)
        self.register_buffer("unit", unit, persistent=False)
        pieces = math.prod(self.grid)
        own = pieces if self.size == 1 else 1  # embeddings: the elements of a vector mean different things
        self.embedding = nn.Parameter(torch.randn(own, self.size, WIDTH) * self.size**-0.5)
        self.positions = nn.Parameter(torch.randn(pieces, WIDTH) * 0.02)
        self.class_token = nn.Parameter(torch.randn(1, WIDTH) * 0.02)
        self.layers = nn.Sequential(*(Layer(WIDTH, HEADS) for _ in range(LAYERS)))
        self.norm = nn.LayerNorm(WIDTH)

    def pieces(self, x: Tensor) -> Tensor:
        """Readings (n, …) in the sensor's dtype to pieces (n, P, K), scaled."""
        if not self.image:
            x = x.reshape(len(x), *self.unit.shape) * self.unit
            return (3.0 * torch.asinh(x / 3.0)).reshape(len(x), -1, self.size)
        seen = slopes(millimetres(x), self.scale / SLOPE) if self.depth else saturated(x)
        return patches(seen * self.unit - self.middle)

    def embedded(self, pieces: Tensor, grid: tuple[int, ...] | None = None) -> Tensor:
        """Pieces (n, P, K) to tokens with their positions, (n, P, width); `grid` of images of another size."""
        if len(self.embedding) > 1:
            tokens = pieces * self.embedding[:, 0]
        else:
            tokens = pieces @ self.embedding[0]
        return tokens + (self.positions if grid is None else resized(self.positions, self.grid, grid))

    def forward(self, tokens: Tensor) -> Tensor:
        """(n, T, width) to the same, normalised."""
        return self.norm(self.layers(tokens))


class TransformerEncoder(nn.Module):
    """One sensor to its token, and to estimates of the other sensors' tokens (U2A).

    A class token and one mask token for every other sensor go through the layers with the reading's pieces. What comes
    out goes through one head to tokens of size D: the class token's is the sensor's own, a mask token's is what this
    reading tells of the other sensor. See `FusionExtractor(masked_as="estimate")`, which asks for them.

    Attributes:
        body: what `robofuse pretrain` pretrains.
    """

    def __init__(self, sensor: Sensor, token_dim: int) -> None:
        """An encoder that estimates nothing yet; the head is but a norm if D is the body's width, 96."""
        super().__init__()
        self.sensor, self.body = sensor, Body(sensor)
        self.mask_tokens = nn.Parameter(torch.zeros(0, WIDTH))
        project = nn.Identity() if token_dim == WIDTH else nn.Linear(WIDTH, token_dim)
        self.head = nn.Sequential(project, nn.LayerNorm(token_dim))

    def estimate(self, others: int) -> None:
        """Gives it mask tokens for so many other sensors."""
        self.mask_tokens = nn.Parameter(torch.randn(others, WIDTH) * 0.02)

    def tokens(self, x: Tensor) -> Tensor:
        """(n, …) in the sensor's dtype to (n, 1 + others, D): its own token, then the estimates."""
        return self.said(self.body.pieces(x))

    def said(self, pieces: Tensor) -> Tensor:
        """`tokens` from pieces (n, P, K)."""
        asked = torch.cat([self.body.class_token, self.mask_tokens])
        given = self.body.embedded(pieces)
        out = self.body(torch.cat([asked.expand(len(given), -1, -1), given], dim=1))
        return self.head(out[:, : len(asked)])

    def forward(self, x: Tensor) -> Tensor:
        """(n, …) in the sensor's dtype to (n, D), its own token."""
        return self.tokens(x)[:, 0]


def own_at(tokens: Tensor, place: int) -> Tensor:
    """Tokens (n, M, D), a sensor's own first and the others' in order, in the order of all sensors."""
    return torch.cat([tokens[:, 1 : place + 1], tokens[:, :1], tokens[:, place + 1 :]], dim=1)


def patches(image: Tensor) -> Tensor:
    """(n, H, W, C) to patches (n, P, 64·C) of 8×8 pixels, row by row; zeros beyond the edges."""
    n, height, width, _ = image.shape
    image = nn.functional.pad(image, (0, 0, 0, -width % PATCH, 0, -height % PATCH))
    rows, columns = image.shape[1] // PATCH, image.shape[2] // PATCH
    return (
        image.unflatten(2, (columns, PATCH)).unflatten(1, (rows, PATCH)).transpose(2, 3).reshape(n, rows * columns, -1)
    )


def resized(positions: Tensor, old: tuple[int, ...], new: tuple[int, ...]) -> Tensor:
    """Positions (P, width) of a grid for another one, interpolated, as is usual for ViT."""
    if old == new:
        return positions
    plane = positions.T.reshape(1, -1, *old)
    mode = "bilinear" if len(old) == 2 else "linear"
    return nn.functional.interpolate(plane, size=new, mode=mode, align_corners=False)[0].flatten(1).T
