"""Encoders of what only some robots have: scans and sound, labels, points; and networks that learned elsewhere."""

import math
from typing import cast

import torch
from torch import Tensor, nn

from robofuse.errors import InputError
from robofuse.sensors import Sensor

_SHORT = 32  # places along a line that are told apart at the end
_CLASSES = 1024
_SQUASHED = 3.0
_FARTHEST = 30.0  # scales; a scanner says Inf where nothing comes back
IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # mean and deviation of most networks for pictures


class ScanEncoder(nn.Module):
    """A scan of a lidar, or sound, to a token: convolutions along the line, each halving it, until it is short.

    (P,) is one line. Of (W, C) the longer axis is the line, and the other its channels: rings, microphones.
    """

    scale: Tensor

    def __init__(self, sensor: Sensor, token_dim: int) -> None:
        """Layers for this sensor's line, of at least 8 places."""
        super().__init__()
        shape = sensor.shape if len(sensor.shape) == 2 else (1, *sensor.shape)
        if len(shape) != 2 or max(shape) < 8:
            raise InputError(f"{sensor.key!r}: a scan is (P,) or (W, C), of 8 readings or more, got {sensor.shape}")
        self.register_buffer("scale", _scale(sensor), persistent=False)
        self.turned = len(sensor.shape) == 2 and shape[0] >= shape[1]
        channels, length = (shape[1], shape[0]) if self.turned else shape
        layers: list[nn.Module] = []
        width = 16
        while not layers or length > _SHORT:
            layers += [nn.Conv1d(channels, width, 5, 2, 2), nn.ReLU()]
            channels, length, width = width, (length + 1) // 2, min(2 * width, 64)
        self.layers = nn.Sequential(*layers, nn.Flatten(), *_head(channels * length, token_dim))

    def forward(self, x: Tensor) -> Tensor:
        """(n, …) float32 to (n, token_dim); Inf counts as far away."""
        x = _squashed((x / self.scale).clamp(-_FARTHEST, _FARTHEST))
        x = x.transpose(1, 2) if self.turned else x.reshape(len(x), -1, x.shape[-1])
        return self.layers(x)


class LabelEncoder(nn.Module):
    """A picture of labels, (H, W) or (H, W, 1), to a token: each label is a vector that is learned, then convolutions.

    Labels are whole numbers from 0 to the bound of the space, at most 1,023.
    """

    def __init__(self, sensor: Sensor, token_dim: int) -> None:
        """Layers for this sensor's size, at least 16×16, and its number of labels."""
        super().__init__()
        flat = len(sensor.shape) == 2 or (len(sensor.shape) == 3 and sensor.shape[-1] == 1)
        if not flat or min(sensor.shape[:2]) < 16:
            raise InputError(f"{sensor.key!r}: labels are (H, W) or (H, W, 1), from 16×16 on, got {sensor.shape}")
        # what is inferred of integers has their bound for a scale
        classes = int(torch.as_tensor(sensor.scale).max()) + 1
        if not 2 <= classes <= _CLASSES:
            raise InputError(
                f"{sensor.key!r}: labels are from 0 to {_CLASSES - 1} at most; let the space's bounds say how many "
                f"there are (its scale is {sensor.scale})"
            )
        self.labels = nn.Embedding(classes, 8)
        self.convolutions = nn.Sequential(
            nn.Conv2d(8, 16, 4, 4), nn.ReLU(), nn.Conv2d(16, 32, 3, 2, 1), nn.ReLU(), nn.Flatten()
        )
        height, width = sensor.shape[:2]
        with torch.no_grad():
            size = self.convolutions(torch.zeros(1, 8, height, width)).shape[1]
        self.head = nn.Sequential(*_head(size, token_dim))

    def forward(self, x: Tensor) -> Tensor:
        """(n, H, W) or (n, H, W, 1) to (n, token_dim); labels beyond the bounds count as the nearest."""
        labels = x.reshape(x.shape[:3]).long().clamp(0, self.labels.num_embeddings - 1)
        return self.head(self.convolutions(self.labels(labels).permute(0, 3, 1, 2)))


class PointEncoder(nn.Module):
    """A cloud of K points with F numbers each, (K, F), to a token, whatever their order: PointNet (Qi et al. 2017).

    The same two layers for every point, the largest of each number over all, and a layer. Where there are fewer points
    than K, repeat one.
    """

    scale: Tensor

    def __init__(self, sensor: Sensor, token_dim: int) -> None:
        """Layers for this sensor's numbers of a point."""
        super().__init__()
        if len(sensor.shape) != 2:
            raise InputError(f"{sensor.key!r}: points are (K, F), such as (256, 3), got {sensor.shape}")
        self.register_buffer("scale", _scale(sensor), persistent=False)
        self.each = nn.Sequential(nn.Linear(sensor.shape[1], 64), nn.ReLU(), nn.Linear(64, 128))
        self.head = nn.Sequential(*_head(128, token_dim))

    def forward(self, x: Tensor) -> Tensor:
        """(n, K, F) float32 to (n, token_dim)."""
        return self.head(self.each(_squashed(x / self.scale)).amax(1))


class Backbone(nn.Module):
    """A network that learned elsewhere, and a layer to the token.

    In a file of yours::

        @register_encoder("resnet18")
        def resnet18(sensor, token_dim):
            body = torchvision.models.resnet18(weights="DEFAULT")
            body.fc = torch.nn.Identity()
            return Backbone(sensor, token_dim, body)

    It stays in eval mode, so BatchNorm keeps its statistics and Dropout does nothing, whether its weights learn or not.
    """

    middle: Tensor
    unit: Tensor

    def __init__(
        self,
        sensor: Sensor,
        token_dim: int,
        body: nn.Module,
        frozen: bool = True,
        normalised: tuple[tuple[float, ...], tuple[float, ...]] = IMAGENET,
    ) -> None:
        """Takes a network.

        Args:
            sensor: pictures of three channels, or of one, which is repeated.
            token_dim: D.
            body: (n, 3, H, W) to (n, …) numbers, which are flattened.
            frozen: whether its weights stay as they are.
            normalised: mean and deviation of each channel, of pictures in [0, 1], as it was trained with.

        Raises:
            InputError: no picture, or a network that cannot read it.
        """
        super().__init__()
        if len(sensor.shape) != 3 or sensor.shape[2] not in (1, 3):
            raise InputError(f"{sensor.key!r}: a backbone reads pictures (H, W, 3) or (H, W, 1), got {sensor.shape}")
        height, width, channels = sensor.shape
        self.repeats, self.frozen = 3 // channels, frozen
        middle, deviation = (torch.tensor(numbers)[:, None, None] for numbers in normalised)
        self.register_buffer("middle", middle, persistent=False)
        self.register_buffer("unit", 1.0 / (float(cast(float, sensor.scale)) * deviation), persistent=False)
        self.register_buffer("offset", middle / deviation, persistent=False)
        self.body = body.eval().requires_grad_(not frozen)
        try:
            with torch.no_grad():
                size = math.prod(body(torch.zeros(1, 3, height, width)).shape[1:])
        except (RuntimeError, ValueError, TypeError) as error:
            raise InputError(f"{sensor.key!r}: the backbone cannot read (1, 3, {height}, {width}): {error}") from error
        self.head = nn.Sequential(*_head(size, token_dim))

    def train(self, mode: bool = True) -> "Backbone":
        """As of any module, but for the body."""
        super().train(mode)
        self.body.eval()
        return self

    def forward(self, x: Tensor) -> Tensor:
        """(n, H, W, C) in the camera's type to (n, token_dim)."""
        seen = x.float().permute(0, 3, 1, 2).repeat(1, self.repeats, 1, 1) * self.unit - cast(Tensor, self.offset)
        return self.head(self.body(seen).flatten(1))


def _head(size: int, token_dim: int) -> tuple[nn.Module, nn.Module]:
    return nn.Linear(size, token_dim), nn.LayerNorm(token_dim)


def _scale(sensor: Sensor) -> Tensor:
    """Of the last axis, or one for all; InputError unless it is positive."""
    scale = torch.as_tensor(sensor.scale, dtype=torch.float32)
    if not bool((scale > 0).all()):
        raise InputError(f"{sensor.key!r}: scales must be positive, got {sensor.scale}")
    return scale.clone()


def _squashed(x: Tensor) -> Tensor:
    """As `VectorEncoder` does."""
    return _SQUASHED * torch.asinh(x / _SQUASHED)
