"""A monitor: what the readings of all healthy sensors look like, and from where on they are suspicious."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor

from robofuse.errors import InputError
from robofuse.files import read_tensors, write_tensors
from robofuse.monitor.features import Measured
from robofuse.monitor.health import OWN, Health
from robofuse.monitor.health import tensors as health_tensors
from robofuse.monitor.peers import Peers, width
from robofuse.monitor.watch import Watch
from robofuse.sensors import Sensor

CHECKS = (*OWN, "others")
"""What a monitor looks for, by name; `others` is whether a sensor says what the others let one expect."""
RARE = 0.02  # share of healthy scores above 0
MOST = 6  # sensors: each subset that can vouch for another has a threshold of its own
_LEAST, _MOST_SCORE = -3.0, 20.0


@dataclass(frozen=True)
class Tails:
    """Where the rare scores begin and how fast they thin out: (score − begin) / thin is above x with chance RARE e⁻ˣ.

    Attributes:
        own: (2, M, 4), begin and thin of each sensor's own checks.
        others: (2, M, 2^M), of each sensor, by the bits of those that vouch.
        lasting: (2, M, 5), of the scores that last.
    """

    own: Tensor
    others: Tensor
    lasting: Tensor


@dataclass(frozen=True)
class Monitor:
    """Says which sensors are to be trusted; made by `calibrate`.

    Attributes:
        sensors: that it watches, in the order of `available`.
        healths: what each one's healthy readings look like.
        peers: what they have to do with each other.
        tails: puts all scores on one scale.
        limit: the score above which a sensor is suspicious.
        card: how it was calibrated, as plain JSON.
    """

    sensors: tuple[Sensor, ...]
    healths: tuple[Health, ...]
    peers: Peers
    tails: Tails
    limit: float
    card: dict[str, Any] = field(default_factory=dict)

    @property
    def keys(self) -> tuple[str, ...]:
        """Keys of the sensors."""
        return tuple(sensor.key for sensor in self.sensors)

    def stateful(self, num_envs: int) -> Watch:
        """Watches `num_envs` environments, each at the start of an episode."""
        return Watch(self, num_envs)

    def latents(self, measured: Sequence[Measured]) -> list[Tensor]:
        """Principal components of each sensor's features, (n, K)."""
        return [h.standardise(x) @ h.latent for h, x in zip(self.healths, measured, strict=True)]

    def own(self, measured: Sequence[Measured]) -> tuple[Tensor, list[Tensor]]:
        """Scores (n, M, 4) of each sensor's own checks, and `latents`."""
        scores, latents = [], []
        for health, found in zip(self.healths, measured, strict=True):
            z = health.standardise(found)
            scores.append(health.scores(found, z))
            latents.append(z @ health.latent)
        return _scaled(torch.stack(scores, dim=1), self.tails.own), latents

    def others(self, inputs: Tensor, judged: Tensor, vouch: Tensor) -> Tensor:
        """Scores of each judged sensor against those that vouch, (n, M); −1 where nobody does."""
        bits = 1 << torch.arange(len(self.sensors))
        result = torch.full(judged.shape, -1.0)
        for m in range(len(self.sensors)):
            pattern = ((vouch * bits).sum(1) & ~(1 << m)) * judged[:, m]
            for vouching in pattern.unique().tolist():
                if vouching:
                    rows = (pattern == vouching).nonzero()[:, 0]
                    score = self.peers.score(inputs[rows], m, vouching)
                    result[rows, m] = _scaled(score, self.tails.others[:, m, vouching])
        return result

    def lasting(self, scores: Tensor, checks: slice) -> Tensor:
        """Scores that last (n, M, C) of some checks, on the common scale."""
        return _scaled(scores, self.tails.lasting[..., checks])

    def save(self, path: str | Path) -> Path:
        """Write a `.safetensors` file."""
        peers = {"peers.mean": self.peers.mean, "peers.std": self.peers.std, "peers.moments": self.peers.moments}
        tails = {f"tails.{name}": getattr(self.tails, name) for name in ("own", "others", "lasting")}
        meta = {"kind": "monitor", "sensors": [asdict(sensor) for sensor in self.sensors], "limit": self.limit}
        return write_tensors(path, {**health_tensors(self.healths), **peers, **tails}, {**meta, "card": self.card})

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a file that `save` made.

        Raises:
            ValueError: no such file, or no monitor; the message says what is wrong.
        """
        tensors, meta = read_tensors(path)
        if meta.get("kind") != "monitor":
            raise InputError(f"{path} is no monitor: robofuse wrote it, but for something else; see Monitor.save")
        try:
            sensors = tuple(_sensor(plain) for plain in meta["sensors"])
            limit, card = float(meta["limit"]), dict(meta["card"])
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"{path} does not describe a monitor: {error!r}") from None
        if not 1 <= len(sensors) <= MOST:
            raise InputError(f"{path} does not describe a monitor: it has {len(sensors)} sensors")
        healths = tuple(_health(path, tensors, m, sensor) for m, sensor in enumerate(sensors))
        sizes = tuple(health.latent.shape[1] for health in healths)
        many, inputs = len(sensors), sum(map(width, sizes))
        shapes = {"peers.mean": (inputs,), "peers.std": (inputs,), "peers.moments": (inputs, inputs)}
        shapes |= {
            "tails.own": (2, many, len(OWN)),
            "tails.others": (2, many, 1 << many),
            "tails.lasting": (2, many, len(CHECKS)),
        }
        t = {name: _checked(path, tensors, name, shape) for name, shape in shapes.items()}
        peers = Peers(t["peers.mean"], t["peers.std"], t["peers.moments"].double(), sizes)
        tails = Tails(t["tails.own"], t["tails.others"], t["tails.lasting"])
        return cls(sensors, healths, peers, tails, limit, card)


def _scaled(scores: Tensor, tail: Tensor) -> Tensor:
    return ((scores - tail[0]) / tail[1]).clamp(_LEAST, _MOST_SCORE)


def _sensor(plain: Mapping[str, Any]) -> Sensor:
    known = dict(plain)
    known["shape"] = tuple(int(size) for size in known["shape"])
    if isinstance(known["scale"], list):
        known["scale"] = tuple(float(scale) for scale in known["scale"])
    return Sensor(**known)


def _health(path: str | Path, tensors: Mapping[str, Tensor], m: int, sensor: Sensor) -> Health:
    mean, weight = (tensors.get(f"health.{m}.{name}") for name in ("mean", "weight"))
    if mean is None or weight is None:
        raise InputError(f"{path} does not describe a monitor: it lacks the statistics of sensor {m}")
    shapes = Health.shapes(mean.numel(), weight.numel(), sensor)
    return Health(**{name: _checked(path, tensors, f"health.{m}.{name}", shape) for name, shape in shapes.items()})


def _checked(path: str | Path, tensors: Mapping[str, Tensor], name: str, shape: tuple[int, ...]) -> Tensor:
    tensor = tensors.get(name)
    if tensor is None or tuple(tensor.shape) != shape or not tensor.is_floating_point():
        found = "nothing" if tensor is None else f"{tensor.dtype} {tuple(tensor.shape)}"
        raise InputError(f"{path} does not describe a monitor: {name} must be floats of shape {shape}, got {found}")
    if not bool(tensor.isfinite().all()):
        raise InputError(f"{path} does not describe a monitor: {name} is not finite")
    return tensor
