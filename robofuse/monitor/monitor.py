"""A monitor: what healthy readings look like, and from where on others are suspicious; who is trusted at each step.

`Monitor` holds what calibration has learned, `Watch` judges environments step by step, and `MonitoredPolicy` acts on
what is trusted alone.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any, Self

import msgspec
import torch
from torch import Tensor

from robofuse.dropout import mask_sensors
from robofuse.errors import InputError
from robofuse.files import read_tensors, write_tensors
from robofuse.memory.stateful import StatefulPolicy, stateful
from robofuse.monitor.features import Measured, filled_after, measure
from robofuse.monitor.health import OWN, Health, Peers, health_tensors, width
from robofuse.play import Actor
from robofuse.sensors import AVAILABLE, Sensor
from robofuse.tensors import one_torch_thread

CHECKS = (*OWN, "others")
"""What a monitor looks for, by name; `others` is whether a sensor says what the others let one expect."""
RARE = 0.02  # share of healthy scores above 0
MOST = 6  # sensors: each subset that can vouch for another has a threshold of its own
_LEAST, _MOST_SCORE = -3.0, 20.0
FADE = 0.3  # weight of the newest score in the lasting one
PATIENCE = 10  # control steps without suspicion, until a sensor is trusted again
_LONGEST = 80  # patience doubles with every time that a sensor comes back and goes again, up to this
_ALONE = len(OWN)  # checks that need no other sensor; one more does
_REST = -1.0  # score of what says nothing


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

    def stateful(self, num_envs: int) -> "Watch":
        """Watches `num_envs` environments, each at the start of an episode."""
        return Watch(self, num_envs)

    def own(self, measured: Sequence[Measured]) -> tuple[Tensor, list[Tensor]]:
        """Scores (n, M, 4) of each sensor's own checks, and principal components of its features, (n, K)."""
        scores, latents = [], []
        for health, found in zip(self.healths, measured, strict=True):
            z = health.standardise(found)
            scores.append(health.scores(found, z))
            latents.append(z @ health.latent)
        return _scaled(torch.stack(scores, dim=1), self.tails.own), latents

    def others(self, inputs: Tensor, judged: Tensor, vouch: Tensor) -> Tensor:
        """Scores of each judged sensor against those that vouch, (n, M); −1 where none does."""
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
        """Writes a `.safetensors` file."""
        peers = {"peers.mean": self.peers.mean, "peers.std": self.peers.std, "peers.moments": self.peers.moments}
        tails = {f"tails.{name}": getattr(self.tails, name) for name in ("own", "others", "lasting")}
        meta = {"kind": "monitor", "sensors": [asdict(sensor) for sensor in self.sensors], "limit": self.limit}
        return write_tensors(path, {**health_tensors(self.healths), **peers, **tails}, {**meta, "card": self.card})

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Reads a file that `save` made. InputError says why it is none."""
        tensors, meta = read_tensors(path)
        if meta.get("kind") != "monitor":
            raise InputError(f"{path} is no monitor: robofuse wrote it, but for something else; see Monitor.save")
        try:
            about = msgspec.convert(meta, _About)
        except msgspec.ValidationError as error:
            raise InputError(f"{path} does not describe a monitor: {error}") from None
        sensors = about.sensors
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
        return cls(sensors, healths, peers, tails, about.limit, about.card)


class Watch:
    """Watches N environments; call `step` once for every control step of an environment.

    Attributes:
        monitor: what healthy readings look like.
        trusted: bool (N, M), the last verdict; of unavailable sensors, the one before.
        level: float32 (N, M, C), how suspicious each sensor was in each check (`robofuse.monitor.CHECKS`) at its last
            step; above `monitor.limit` is suspicious.
        broken: bool (N, M), whether it was not finite, flat, frozen or beyond what it can read.
    """

    def __init__(self, monitor: Monitor, num_envs: int) -> None:
        """All environments are at an episode's start."""
        self.monitor, self._num, shape = monitor, num_envs, (num_envs, len(monitor.sensors))
        self._before = {s.key: torch.full((num_envs, *s.shape), torch.nan) for s in monitor.sensors}
        self._filled = torch.tensor([filled_after(sensor) for sensor in monitor.sensors])
        self.trusted, self.broken = torch.ones(shape, dtype=torch.bool), torch.zeros(shape, dtype=torch.bool)
        self.level = torch.full((*shape, _ALONE + 1), _REST)
        self._run, self._calm = torch.zeros(shape, dtype=torch.int64), torch.zeros(shape, dtype=torch.int64)
        self._patience = torch.full(shape, PATIENCE)
        self._lasting = torch.full((*shape, _ALONE + 1), _REST)
        self._age = torch.zeros(num_envs, dtype=torch.int64)

    def start(self, env_ids: Tensor) -> None:
        """New episodes begin in environments `env_ids`, int64 (n,): all sensors are trusted, nothing is remembered."""
        self.trusted[env_ids], self.broken[env_ids], self.level[env_ids] = True, False, _REST
        self._run[env_ids], self._calm[env_ids], self._patience[env_ids], self._lasting[env_ids] = 0, 0, PATIENCE, _REST
        self._age[env_ids] = 0
        for before in self._before.values():
            before[env_ids] = torch.nan

    @torch.no_grad()
    @one_torch_thread()
    def step(self, observation: Mapping[str, Tensor], env_ids: Tensor | None = None) -> Tensor:
        """Judges the readings of one control step.

        Args:
            observation: key → (n, …), and `available` (n, M), without which all are; what is not available is not
                judged.
            env_ids: int64 (n,), the environments they come from; all by default.

        Returns:
            int8 (n, M), 1 where a sensor is available and trusted.

        Raises:
            InputError: a sensor is missing, or a reading has another shape.
        """
        # indexing copies, which takes longer than all else
        which: Tensor | slice = slice(None) if env_ids is None else env_ids
        env_ids = torch.arange(self._num) if env_ids is None else env_ids
        self._check(observation, len(env_ids))
        live = torch.ones(len(env_ids), len(self.monitor.sensors), dtype=torch.bool)
        if AVAILABLE in observation:
            live = observation[AVAILABLE].cpu() > 0.5
        measured = []
        for m, sensor in enumerate(self.monitor.sensors):
            before = self._before[sensor.key]
            young = self._age[env_ids] < self._filled[m]
            found, now = measure(observation[sensor.key].cpu(), before[which], sensor, young)
            if not bool(live[:, m].all()):  # a gap is no change
                now = now.masked_fill(~live[:, m].reshape(-1, *[1] * (now.ndim - 1)), torch.nan)
            before[which] = now
            measured.append(found)
        return self.judge(measured, live, env_ids)

    def judge(self, measured: list[Measured], live: Tensor, env_ids: Tensor) -> Tensor:
        """As `step`, of readings that are measured already."""
        monitor, old = self.monitor, self.trusted[env_ids]
        self._age[env_ids] += 1
        same = torch.stack([found.same for found in measured], dim=1) & live
        run = self._run[env_ids] = torch.where(same, self._run[env_ids] + 1, 0)
        pairs = zip(monitor.healths, measured, run.unbind(1), strict=True)
        broken = torch.stack([health.broken(found, held) for health, found, held in pairs], dim=1) & live
        sound = live & ~broken
        own, latents = monitor.own(measured)
        own = own.masked_fill(~sound[..., None], _REST)
        lasting = self._lasting[env_ids]
        recent = torch.where(sound[..., None], lasting[..., :_ALONE].lerp(own, FADE), lasting[..., :_ALONE])
        level = own.maximum(monitor.lasting(recent, slice(0, _ALONE))).masked_fill(~sound[..., None], _REST)
        alone = (level > monitor.limit).any(2)  # suspicious by itself
        inputs = monitor.peers.inputs(latents)
        vouch = sound & old & ~alone
        others = monitor.others(inputs, sound, vouch)
        last = torch.where(sound, lasting[..., _ALONE].lerp(others, FADE), lasting[..., _ALONE])
        distance = others.maximum(monitor.lasting(last[..., None], slice(_ALONE, _ALONE + 1))[..., 0]).masked_fill(
            ~sound, _REST
        )
        unlike = distance > monitor.limit
        accused = self._accuse(inputs, vouch, unlike & vouch, distance)
        last = torch.where(unlike & vouch & ~accused, _REST, last)  # its evidence was another sensor's fault
        suspicious = broken | alone | accused | (unlike & ~vouch & ~old)
        self._lasting[env_ids] = torch.cat([recent, last[..., None]], dim=2)
        self.level[env_ids], self.broken[env_ids] = torch.cat([level, distance[..., None]], dim=2), broken
        return self._settle(env_ids, live, old, suspicious)

    def _accuse(self, inputs: Tensor, vouch: Tensor, unlike: Tensor, distance: Tensor) -> Tensor:
        """Of sensors that contradict each other, the one without which the others agree best; bool (n, M)."""
        accused = torch.zeros_like(vouch)
        rows = unlike.any(1).nonzero()[:, 0]
        if not len(rows):
            return accused
        left = torch.full((len(rows), vouch.shape[1]), torch.inf)  # the worst disagreement without each
        for m in range(vouch.shape[1]):
            rest = vouch[rows].clone()
            rest[:, m] = False
            left[:, m] = self.monitor.others(inputs[rows], rest, rest).masked_fill(~rest, _REST).amax(1)
        # of two that contradict each other, the one that is further from what the other says
        left = left.clamp(min=0.0) - 0.1 * distance[rows]
        accused[rows, left.masked_fill(~vouch[rows], torch.inf).argmin(1)] = True
        return accused

    def _settle(self, env_ids: Tensor, live: Tensor, old: Tensor, suspicious: Tensor) -> Tensor:
        calm, patience = self._calm[env_ids], self._patience[env_ids]
        calm = torch.where(live, torch.where(suspicious, 0, calm + 1), calm)
        lost = old & suspicious
        back = ~old & live & (calm >= patience)
        self._patience[env_ids] = torch.where(back, (2 * patience).clamp(max=_LONGEST), patience)
        self._calm[env_ids] = calm
        self.trusted[env_ids] = (old & ~lost) | back
        return (self.trusted[env_ids] & live).to(torch.int8)

    def _check(self, observation: Mapping[str, Tensor], n: int) -> None:
        for sensor in self.monitor.sensors:
            if sensor.key not in observation:
                given = ", ".join(key for key in observation if key != AVAILABLE)
                raise InputError(f"this monitor watches the sensor {sensor.key!r}; the observation has {given}")
            if tuple(observation[sensor.key].shape) != (n, *sensor.shape):
                raise InputError(
                    f"{sensor.key!r} must have shape {(n, *sensor.shape)}, got {tuple(observation[sensor.key].shape)}"
                )
        shape = (n, len(self.monitor.sensors))
        if AVAILABLE in observation and tuple(observation[AVAILABLE].shape) != shape:
            raise InputError(f"available must have shape {shape}, got {tuple(observation[AVAILABLE].shape)}")


class MonitoredPolicy:
    """Masks what the monitor does not trust, then acts. It remembers: call `act` once for every control step.

    Attributes:
        watch: says what is trusted; None before the first `act`.
        available: int8 (N, M), what the policy was shown at the last step; None before the first.
    """

    def __init__(self, policy: Actor, monitor: Monitor) -> None:
        """Wraps a policy; the environments are the rows of its first observation."""
        self.policy, self.monitor = policy, monitor
        self.watch: Watch | None = None
        self._stateful: StatefulPolicy | None = None
        self.available: Tensor | None = None

    def start(self, env_ids: Tensor) -> None:
        """New episodes begin in environments int64 (n,): nothing is remembered of them."""
        if self.watch is not None and self._stateful is not None:
            self.watch.start(env_ids)
            self._stateful.start(env_ids)

    def act(self, observation: dict[str, Tensor]) -> Tensor:
        """Actions (N, A) for the next control step of all environments.

        Raises:
            InputError: another number of rows than before, or a sensor is missing.
        """
        n = len(observation[self.monitor.keys[0]])
        if self.watch is None or self._stateful is None:
            self.watch, self._stateful = self.monitor.stateful(n), stateful(self.policy, n)
        if n != len(self.watch.trusted):
            raise InputError(f"this policy watches {len(self.watch.trusted)} environments, got {n} observations")
        self.available = self.watch.step(observation)
        device = observation[self.monitor.keys[0]].device
        with torch.no_grad():
            return self._stateful.act(mask_sensors(observation, self.available.to(device), self.monitor.keys))


def _scaled(scores: Tensor, tail: Tensor) -> Tensor:
    return ((scores - tail[0]) / tail[1]).clamp(_LEAST, _MOST_SCORE)


class _About(msgspec.Struct):
    """What a monitor's file says beside its tensors."""

    sensors: Annotated[tuple[Sensor, ...], msgspec.Meta(min_length=1, max_length=MOST)]
    limit: float
    card: dict[str, Any]


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
