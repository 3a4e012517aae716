"""A policy's parts for one observation, in operations that ONNX has.

The layers are the policy's own; only what surrounds them is written again, as `ImageEncoder` writes into buffers and
looks at values to save time, which a graph cannot follow. `robofuse.export` compares the result with the policy.
"""

from typing import Any, cast

import gymnasium as gym
import torch
from torch import Tensor, nn

from robofuse.errors import InputError
from robofuse.policies.actor_critic import FusionActorCriticPolicy
from robofuse.policies.encoders import SLOPE, ImageEncoder, VectorEncoder


def to_token(encoder: nn.Module) -> nn.Module:
    """A module from one reading as float32 (1, …), whatever its sensor's dtype, to its token (1, D).

    Raises:
        ValueError: an encoder that is not robofuse's.
    """
    if isinstance(encoder, ImageEncoder):
        return _Depth(encoder) if encoder.depth else _Image(encoder)
    if isinstance(encoder, VectorEncoder):
        return _Vector(encoder)
    raise InputError(f"export knows the encoders ImageEncoder and VectorEncoder, not {type(encoder).__name__}")


class _Image(nn.Module):
    def __init__(self, encoder: ImageEncoder) -> None:
        super().__init__()
        self.encoder = encoder
        self.train(encoder.training)  # the mode that torch's exporter puts back

    def forward(self, x: Tensor) -> Tensor:
        encoder = self.encoder
        planes = x.permute(0, 3, 1, 2) if encoder.last else x
        frames = [planes[:, 3 * k : 3 * k + 3] for k in range(encoder.middle.numel() - planes.shape[1])]
        saturations = [colours.amax(1, keepdim=True) - colours.amin(1, keepdim=True) for colours in frames]
        planes = torch.cat([planes, *saturations], dim=1)
        planes = planes * (1.0 / encoder.scale) - encoder.middle.view(-1, 1, 1)
        return encoder.head(encoder.convolutions(planes))


class _Depth(nn.Module):
    def __init__(self, encoder: ImageEncoder) -> None:
        super().__init__()
        self.encoder = encoder
        self.train(encoder.training)  # the mode that torch's exporter puts back

    def forward(self, x: Tensor) -> Tensor:
        encoder = self.encoder
        frames = x.permute(0, 3, 1, 2) if encoder.last else x
        depth = frames.reshape(-1, 1, *encoder.size) / encoder.scale
        seen = (depth > 0).float()
        dx = (depth[..., 1:] - depth[..., :-1]) * (seen[..., 1:] * seen[..., :-1])
        dy = (depth[..., 1:, :] - depth[..., :-1, :]) * (seen[..., 1:, :] * seen[..., :-1, :])
        dx, dy = ((d * SLOPE).clamp(-1.0, 1.0) for d in (dx, dy))
        none = torch.zeros_like(depth)
        dx, dy = torch.cat([none[..., :1], dx], dim=3), torch.cat([none[..., :1, :], dy], dim=2)
        planes = torch.cat([depth, dx, dy], dim=1).reshape(1, -1, *encoder.size)
        return encoder.head(encoder.convolutions(planes))


class _Asinh(torch.autograd.Function):
    """Asinh, for which ONNX has an operator and torch's exporter no translation."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:  # noqa: ANN401
        return torch.asinh(x)

    @staticmethod
    def symbolic(g: Any, x: Any) -> Any:  # noqa: ANN401
        return g.op("Asinh", x)


class _Vector(nn.Module):
    def __init__(self, encoder: VectorEncoder) -> None:
        super().__init__()
        self.encoder = encoder
        self.train(encoder.training)  # the mode that torch's exporter puts back

    def forward(self, x: Tensor) -> Tensor:
        encoder = self.encoder
        x = x.reshape(1, -1) / encoder.scale
        return encoder.layers(3.0 * _Asinh.apply(x / 3.0))


class Head(nn.Module):
    """Tokens (1, M, D) and which are read, bool (1, M), to the executed action, (1, …).

    With a memory, its state (1, H) comes in too, and goes out for the next step.
    """

    def __init__(self, network: FusionActorCriticPolicy) -> None:
        """Of that network: fusion, actor, and what brings its output to the bounds of the action."""
        super().__init__()
        self.network = network
        self.train(network.training)

    def forward(self, tokens: Tensor, read: Tensor, state: Tensor | None = None) -> Tensor | tuple[Tensor, Tensor]:
        """See the class."""
        network, extractor = self.network, self.network.features_extractor
        features = extractor.fusion(tokens, read) + extractor.availability(read.float())
        if state is not None:
            state = cast(Tensor, network.recurrent(features, state))
            features = torch.cat([features, state], dim=1)
        out = cast(nn.Module, network.action_net)(network.actor(features))
        action = network.execute(out) if isinstance(network.action_space, gym.spaces.Box) else out.argmax(dim=1)
        return action if state is None else (action, state)
