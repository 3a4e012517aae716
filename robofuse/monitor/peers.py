"""What the other sensors say that a sensor should read."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

_QUADRATIC = 14  # components whose products are looked at too: the hand's place is no linear function of the joints
_TARGETS = 16
_RIDGE = 0.01
_CLIP = 6.0


@dataclass(frozen=True)
class Peers:
    """Second moments of all sensors' components together: by ridge regression, any subset predicts any sensor.

    Attributes:
        mean: (D,) of the inputs of all sensors, side by side.
        std: (D,).
        moments: float64 (D, D), of the standardised inputs.
        sizes: K of each sensor.
    """

    mean: Tensor
    std: Tensor
    moments: Tensor
    sizes: tuple[int, ...]
    _known: dict[tuple[int, int], tuple[Tensor, Tensor]] = field(default_factory=dict, compare=False, repr=False)

    @classmethod
    def fit(cls, latents: list[Tensor]) -> "Peers":
        """From healthy principal components, one (n, K) per sensor."""
        x = torch.cat([expand(latent) for latent in latents], dim=1).double()
        mean, std = x.mean(0), x.std(0).clamp(min=1e-3)
        z = (x - mean) / std
        return cls(mean.float(), std.float(), z.T @ z / len(z), tuple(latent.shape[1] for latent in latents))

    def inputs(self, latents: list[Tensor]) -> Tensor:
        """Principal components to standardised inputs, (n, D)."""
        return (torch.cat([expand(latent) for latent in latents], dim=1) - self.mean) / self.std

    def score(self, x: Tensor, sensor: int, vouching: int) -> Tensor:
        """How far a sensor is from what others predict, (n,), logarithms.

        Args:
            x: (n, D) of `inputs`.
            sensor: which is judged.
            vouching: which predict it, one bit for each; at least one.
        """
        slope, white = self._regression(sensor, vouching)
        columns = self._columns(vouching)
        return ((self._own(x, sensor) - x[:, columns] @ slope) @ white).square().mean(1).add(1e-2).log()

    def _regression(self, sensor: int, vouching: int) -> tuple[Tensor, Tensor]:
        if (sensor, vouching) not in self._known:
            rows, own = self._columns(vouching), self._places(sensor)[: self._targets(sensor)]
            among, towards = self.moments[rows][:, rows], self.moments[rows][:, own]
            ridge = _RIDGE * torch.eye(len(rows), dtype=among.dtype, device=among.device)
            slope = torch.linalg.solve(among + ridge, towards)
            left = self.moments[own][:, own] - slope.T @ towards - towards.T @ slope + slope.T @ among @ slope
            values, vectors = torch.linalg.eigh(left)
            white = vectors / (values.clamp(min=0.0) + _RIDGE).sqrt()
            self._known[sensor, vouching] = slope.float(), white.float()
        return self._known[sensor, vouching]

    def _own(self, x: Tensor, sensor: int) -> Tensor:
        start = self._start(sensor)
        return x[:, start : start + self._targets(sensor)]

    def _targets(self, sensor: int) -> int:
        return min(self.sizes[sensor], _TARGETS)

    def _start(self, sensor: int) -> int:
        return sum(width(size) for size in self.sizes[:sensor])

    def _places(self, sensor: int) -> Tensor:
        return self._start(sensor) + torch.arange(width(self.sizes[sensor]))

    def _columns(self, vouching: int) -> Tensor:
        return torch.cat([self._places(m) for m in range(len(self.sizes)) if vouching >> m & 1])


def expand(latent: Tensor) -> Tensor:
    """Components (n, K), and the products of the first of them."""
    latent = latent.clamp(-_CLIP, _CLIP)
    count = min(latent.shape[1], _QUADRATIC)
    first, second = torch.triu_indices(count, count, device=latent.device)
    return torch.cat([latent, latent[:, first] * latent[:, second]], dim=1)


def width(size: int) -> int:
    """Inputs that K components make."""
    count = min(size, _QUADRATIC)
    return size + count * (count + 1) // 2
