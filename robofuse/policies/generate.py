"""Depth from colour: a rival of dropout, which paints the missing picture instead of doing without it.

Cross-modal generation stands or falls with what the one sensor can tell of the other; colour tells shapes and places,
so depth, seen by a fixed camera, can be guessed. It costs a network's pass wherever depth is missing.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn

from robofuse.errors import InputError
from robofuse.policies.planes import millimetres
from robofuse.sensors import AVAILABLE, DEPTH_LIMIT_MM, Sensor, channels_last
from robofuse.tensors import take

if TYPE_CHECKING:
    from robofuse.policies.policy import Policy

_BATCH = 128


class DepthFromColour(nn.Module):
    """A picture of colour to one of depth, by a U-Net of three scales (Ronneberger et al. 2015).

    Attributes:
        scale: millimetres that are 1 inside.
    """

    def __init__(self, rgb: Sensor, depth: Sensor, width: int = 16) -> None:
        """For pictures of one camera.

        Args:
            rgb: of shape (H, W, 3), H and W multiples of 4.
            depth: of shape (H, W, 1).
            width: channels of the finest scale.

        Raises:
            InputError: pictures of other shapes, or stacked ones.
        """
        super().__init__()
        height, size = rgb.shape[0], rgb.shape[1]
        if not channels_last(rgb.shape) or rgb.shape[2] != 3 or depth.shape != (height, size, 1):
            raise InputError(
                f"depth is painted from colour (H, W, 3) as (H, W, 1), got {rgb.key!r} {rgb.shape} and {depth.key!r} "
                f"{depth.shape}"
            )
        if height % 4 or size % 4:
            raise InputError(f"depth is painted in multiples of 4 pixels, got {height}×{size}")
        assert isinstance(depth.scale, int | float)
        self.scale = float(depth.scale)
        self.fine, self.middle, self.coarse = _twice(3, width), _twice(width, 2 * width), _twice(2 * width, 4 * width)
        self.up_middle, self.up_fine = _twice(6 * width, 2 * width), _twice(3 * width, width)
        self.last = nn.Conv2d(width, 1, 1)

    def forward(self, rgb: Tensor) -> Tensor:
        """(n, H, W, 3) uint8 to depth (n, H, W, 1) in units of `scale`."""
        x = rgb.permute(0, 3, 1, 2).float() / 127.5 - 1.0
        fine = self.fine(x)
        middle = self.middle(nn.functional.max_pool2d(fine, 2))
        coarse = self.coarse(nn.functional.max_pool2d(middle, 2))
        x = self.up_middle(torch.cat([middle, _double(coarse)], dim=1))
        x = self.up_fine(torch.cat([fine, _double(x)], dim=1))
        return self.last(x).permute(0, 2, 3, 1)

    def loss(self, rgb: Tensor, depth: Tensor) -> Tensor:
        """Mean absolute error in units of `scale`, over pixels with a return."""
        wanted = millimetres(depth)
        seen = wanted > 0
        return ((self(rgb) - wanted / self.scale).abs() * seen).sum() / seen.sum().clamp_min(1)

    @torch.no_grad()
    def paint(self, rgb: Tensor) -> Tensor:
        """(n, H, W, 3) uint8 to depth in millimetres, uint16 (n, H, W, 1)."""
        said = (self(rgb) * self.scale).round().clamp(0, DEPTH_LIMIT_MM)
        return said.to(torch.int32).to(torch.uint16)


def learn_depth(
    rgb: Tensor,
    depth: Tensor,
    network: DepthFromColour,
    *,
    passes: int = 2,
    seed: int = 0,
    report: Callable[[float], None] = lambda share: None,
) -> DepthFromColour:
    """Fits a network to recorded pictures, and returns it in eval mode.

    Args:
        rgb: uint8 (n, H, W, 3).
        depth: uint16 (n, H, W, 1), of the same moments.
        network: fresh.
        passes: over all pictures.
        seed: of their order.
        report: told the share that is done.
    """
    generator = torch.Generator().manual_seed(seed)
    seen = millimetres(depth[:: max(1, len(depth) // 100)])
    with torch.no_grad():  # it begins with what is usual
        network.last.weight.zero_()
        cast(Tensor, network.last.bias).fill_(seen[seen > 0].mean() / network.scale)
    steps = passes * -(-len(rgb) // _BATCH)
    adam = torch.optim.Adam(network.parameters(), lr=2e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(adam, 2e-3, total_steps=steps)
    done = 0
    for _ in range(passes):
        for rows in torch.randperm(len(rgb), generator=generator).split(_BATCH):
            loss = network.loss(take(rgb, rows), take(depth, rows))
            adam.zero_grad()
            loss.backward()
            adam.step()
            schedule.step()
            done += 1
            report(done / steps)
    return network.eval().requires_grad_(False)


class Completion:
    """Paints depth wherever it is masked and colour is not, and says that it is there."""

    def __init__(self, network: DepthFromColour, keys: Sequence[str], rgb: str = "rgb", depth: str = "depth") -> None:
        """For observations of the sensors `keys`, in the order of `available`."""
        self.network, self.rgb, self.depth = network, rgb, depth
        self._from, self._to = keys.index(rgb), keys.index(depth)

    def __call__(self, rows: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Observations key → (n, …), to fresh ones; rows in which colour is masked too stay as they are."""
        found, available = dict(rows), rows[AVAILABLE].clone()
        missing = ((available[:, self._to] == 0) & (available[:, self._from] > 0)).nonzero()[:, 0]
        if len(missing):
            painted = found[self.depth].clone()
            painted.view(torch.int16)[missing] = self.network.paint(take(rows[self.rgb], missing)).view(torch.int16)
            available[missing, self._to] = 1
            found |= {self.depth: painted, AVAILABLE: available}
        return found


class Completed:
    """Acts on completed observations."""

    def __init__(self, policy: "Policy", complete: Completion) -> None:
        """For a policy without a memory."""
        self._policy, self._complete = policy, complete

    def act(self, observation: Mapping[str, Tensor]) -> Tensor:
        """Actions (N, A), see `Policy.act`."""
        return self._policy.act(self._complete(observation))


def _twice(channels: int, width: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(channels, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, width, 3, padding=1), nn.ReLU()
    )


def _double(x: Tensor) -> Tensor:
    return nn.functional.interpolate(x, scale_factor=2.0, mode="nearest")
