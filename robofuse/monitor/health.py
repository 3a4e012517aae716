"""What healthy readings look like, each sensor by itself and beside the others, and how far from that a reading is."""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields

import torch
from torch import Tensor

from robofuse.monitor.features import Measured, content_size, picture
from robofuse.sensors import Sensor

OWN = ("repeats", "range", "statistics", "texture")
_RIDGE = 0.03  # of a feature's variance: directions in which healthy readings vary less are not to be trusted
_LATENT = 32
_PICTURE = 0.1  # of the typical deviation of its features, a picture's least: in a corner where nothing has happened
_VECTOR = 0.01  # in all episodes something may yet; but an element of a vector may be that steady for good
_NEAR = 0.1  # deviations from the middle that are usual whatever was seen
_OFTEN = 0.02  # of the readings: noise never is at its least so often, a force clipped at 0 is
_NOWHERE = 1e6
_TOP = 4.0  # the same of uncorrelated ones

_QUADRATIC = 14  # components whose products are looked at too: the hand's place is no linear function of the joints
_TARGETS = 16
_PEERS_RIDGE = 0.01
_CLIP = 6.0


@dataclass(frozen=True)
class Health:
    """What one healthy sensor's readings look like; all tensors float32.

    Attributes:
        mean: (F,) of the features.
        std: (F,).
        white: (F, F), from standardised features to uncorrelated ones of variance 1 or less.
        fine: (T, T), the same of the texture alone, which varies less from scene to scene.
        middle: (F,), median of the features.
        below: (F,), how far they came below it.
        above: (F,), how far they came above it.
        top: (F,), the largest that uncorrelated ones were.
        latent: (F, K), from standardised features to their principal components of variance 1.
        weight: (R,), how surprising it is that an element is repeated; they sum to 1.
        longest: (), control steps that a healthy reading may stay the same.
        flat: (), 1 if it may be flat.
        stop: (E,), what `Measured.ends` cannot go below: there is a stop where healthy readings often are to the bit.
    """

    mean: Tensor
    std: Tensor
    white: Tensor
    fine: Tensor
    middle: Tensor
    below: Tensor
    above: Tensor
    top: Tensor
    latent: Tensor
    weight: Tensor
    longest: Tensor
    flat: Tensor
    stop: Tensor

    @classmethod
    def fit(cls, measured: Measured, runs: Tensor, sensor: Sensor) -> "Health":
        """From n healthy readings; `runs` int64 (n,), for how many steps each has been the same."""
        x = measured.features.double()
        mean = x.nanmean(0).nan_to_num()
        var = (x - mean).square().nanmean(0).nan_to_num()
        least = (_PICTURE if picture(sensor) else _VECTOR) * var.mean().sqrt()
        std = (var + least.square()).sqrt().clamp(min=1e-6)
        z = ((x - mean) / std).nan_to_num()
        values, vectors = torch.linalg.eigh(z.T @ z / len(z))
        white = vectors / (values.clamp(min=0.0) + _RIDGE).sqrt()
        kept = values.argsort(descending=True)[:_LATENT]
        latent = vectors[:, kept] / values[kept].clamp(min=_RIDGE).sqrt()
        texture = z[:, content_size(sensor) :]
        least_fine, rough = torch.linalg.eigh(texture.T @ texture / len(z))
        fine = rough / (least_fine.clamp(min=0.0) + _RIDGE).sqrt()
        middle = x.nanmedian(0).values.nan_to_num()
        seen = torch.where(x.isfinite(), x, middle)
        below, above = ((part + _NEAR * std) for part in (middle - seen.amin(0), seen.amax(0) - middle))
        top = (z @ white).abs().amax(0).clamp(min=_TOP)
        # of a sensor that delivers seldom, only what repeats within new deliveries
        rate = measured.repeats.double()[~measured.same].mean(0) if bool((~measured.same).any()) else x.new_ones(1)
        surprise = -torch.log(rate.clamp(1e-4, 0.9999))
        longest = runs.max() + (runs.max() > 0)
        reach = (middle, below, above, top)
        weight = surprise / surprise.sum()
        parts = (mean, std, white, fine, *reach, latent, weight, longest, measured.flat.any(), _stops(measured.ends))
        return cls(*(part.float() for part in parts))

    @classmethod
    def shapes(cls, features: int, repeats: int, sensor: Sensor) -> dict[str, tuple[int, ...]]:
        """The shape of each tensor."""
        f, k, t = features, min(features, _LATENT), features - content_size(sensor)
        ends = 0 if picture(sensor) else 2 * sensor.shape[-1]
        sizes = ((f,), (f,), (f, f), (t, t), (f,), (f,), (f,), (f,), (f, k), (repeats,), (), (), (ends,))
        return {field.name: size for field, size in zip(fields(cls), sizes, strict=True)}

    def standardise(self, measured: Measured) -> Tensor:
        """Features in standard deviations, (n, F); 0 where there are none."""
        return ((measured.features - self.mean) / self.std).nan_to_num(0.0, 0.0, 0.0).clamp(-1e3, 1e3)

    def scores(self, measured: Measured, z: Tensor) -> Tensor:
        """How unusual readings are, (n, 4), logarithms, in the order of `OWN`; `z` of `standardise`."""
        white = z @ self.white
        off = (measured.features - self.middle).nan_to_num(0.0, 0.0, 0.0)
        beyond = (torch.where(off < 0.0, -off / self.below, off / self.above)).amax(1)
        furthest = beyond.maximum((white.abs() / self.top).amax(1))
        repeats = torch.where(measured.same, 0.0, measured.repeats @ self.weight)
        fine = (z[:, -len(self.fine) :] @ self.fine).square().mean(1)
        return torch.stack([repeats, furthest, white.square().mean(1), fine], dim=1).add(1e-2).log()

    def broken(self, measured: Measured, run: Tensor) -> Tensor:
        """What needs no statistics, bool (n,): not finite, flat, beyond a stop, or the same for longer than ever."""
        beyond = (measured.ends < self.stop).any(1)
        return ~measured.finite | (measured.flat & (self.flat == 0)) | beyond | (run > self.longest)


def _stops(ends: Tensor) -> Tensor:
    least = ends.amin(0)
    return torch.where((ends == least).float().mean(0) > _OFTEN, least, -_NOWHERE)


def health_tensors(healths: Sequence[Health]) -> dict[str, Tensor]:
    """The tensors of all of them by name."""
    return {f"health.{m}.{f.name}": getattr(h, f.name) for m, h in enumerate(healths) for f in fields(h)}


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

        `x` (n, D) is of `inputs`; `vouching` says which sensors predict, one bit for each, at least one.
        """
        slope, white = self._regression(sensor, vouching)
        columns = self._columns(vouching)
        return ((self._own(x, sensor) - x[:, columns] @ slope) @ white).square().mean(1).add(1e-2).log()

    def _regression(self, sensor: int, vouching: int) -> tuple[Tensor, Tensor]:
        if (sensor, vouching) not in self._known:
            rows, own = self._columns(vouching), self._inputs_of(sensor)[: self._targets(sensor)]
            among, towards = self.moments[rows][:, rows], self.moments[rows][:, own]
            ridge = _PEERS_RIDGE * torch.eye(len(rows), dtype=among.dtype, device=among.device)
            slope = torch.linalg.solve(among + ridge, towards)
            left = self.moments[own][:, own] - slope.T @ towards - towards.T @ slope + slope.T @ among @ slope
            values, vectors = torch.linalg.eigh(left)
            white = vectors / (values.clamp(min=0.0) + _PEERS_RIDGE).sqrt()
            self._known[sensor, vouching] = slope.float(), white.float()
        return self._known[sensor, vouching]

    def _own(self, x: Tensor, sensor: int) -> Tensor:
        start = self._start(sensor)
        return x[:, start : start + self._targets(sensor)]

    def _targets(self, sensor: int) -> int:
        return min(self.sizes[sensor], _TARGETS)

    def _start(self, sensor: int) -> int:
        return sum(width(size) for size in self.sizes[:sensor])

    def _inputs_of(self, sensor: int) -> Tensor:
        return self._start(sensor) + torch.arange(width(self.sizes[sensor]))

    def _columns(self, vouching: int) -> Tensor:
        return torch.cat([self._inputs_of(m) for m in range(len(self.sizes)) if vouching >> m & 1])


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
