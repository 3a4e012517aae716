"""What a fault is: something that changes one sensor's readings, at a severity from 0 to 1; and when it is there."""

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields
from functools import cache, lru_cache
from math import inf
from typing import Any, ClassVar, get_args

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from robofuse.checks import whole
from robofuse.errors import InputError
from robofuse.rng import Stream, normal, offsets, uniform
from robofuse.sensors import Kind, Sensor

SMALLEST = 1e-6  # of severities and sizes; what divides by them stays finite as float32
_BANK = 1 << 20
_LAST = 999_999_999  # the largest control step
EVERY_KIND: tuple[Kind, ...] = get_args(Kind)


def number(default: float, low: float, high: float) -> Any:  # noqa: ANN401
    """A field of a fault: a number with its default and its range [low, high]; another value raises InputError."""
    return field(default=default, metadata={"range": (low, high)})


@dataclass(frozen=True)
class Fault:
    """A way in which a sensor breaks. A new one is a frozen dataclass with a name and `apply`.

    Its docstring says what severity 1 is, in physical units; between 0 and 1 its size is proportional unless the
    docstring says otherwise. At severity 0 nothing happens: `apply` is not called.

    Attributes:
        severity: 0, healthy, or from 1e-6 to 1, as bad as it gets.
        name: what plans call it.
        kinds: the kinds of sensors that can have it.
        announced: whether `available` shows it, unless a plan says otherwise.
        erases: whether nothing is left of the reading, so that no other fault can change it.
        history: how many seconds `FaultContext.past` can look back.
        holds: whether `apply` reads `FaultContext.before`.
        recalls: whether `apply` reads `FaultContext.other`.
        moves_camera: whether it has an `offset`, by which a World moves the camera; see `Knocked`.
    """

    severity: float = number(1.0, 0.0, 1.0)

    name: ClassVar[str] = ""
    kinds: ClassVar[tuple[Kind, ...]] = EVERY_KIND
    announced: ClassVar[bool] = False
    erases: ClassVar[bool] = False
    history: ClassVar[float] = 0.0
    holds: ClassVar[bool] = False
    recalls: ClassVar[bool] = False
    moves_camera: ClassVar[bool] = False

    def __post_init__(self) -> None:
        """Raises InputError for numbers that are not finite or out of their range."""
        for one in fields(self):
            value, (low, high) = getattr(self, one.name), one.metadata.get("range", (-inf, inf))
            if isinstance(value, bool) or not isinstance(value, int | float | np.number) or not np.isfinite(value):
                raise InputError(f"{one.name} of {self.name} must be a finite number, got {value!r}")
            if not low <= value <= high:
                raise InputError(f"{one.name} of {self.name} must lie in [{low:g}, {high:g}], got {value:g}")
            object.__setattr__(self, one.name, float(value))
        if 0.0 < self.severity < SMALLEST:
            raise InputError(f"severity of {self.name} must be 0 or at least {SMALLEST:g}, got {self.severity:g}")

    def apply(self, reading: Tensor, context: "FaultContext") -> Tensor:
        """Breaks readings (n, …) of the sensor's dtype; may change them in place. Returns the same shape and dtype."""
        raise NotImplementedError

    @classmethod
    def graded(cls, kind: Kind) -> bool:
        """Whether there is anything between severity 0 and 1 for this kind of sensor."""
        return True

    def offset(self, context: "FaultContext") -> tuple[Tensor, Tensor]:
        """Of faults that move the camera: shift [m] and turn [rad], (n, 3) each, in the camera's own frame."""
        raise NotImplementedError

    def bursts(self) -> tuple[float, float] | None:
        """Mean length of a burst and of the gap after it [control steps], if it comes in bursts by nature."""
        return None


@dataclass(frozen=True)
class FaultEvent:
    """One fault of one sensor, and when it is there.

    Attributes:
        sensor: key of the observation.
        fault: what happens to it.
        step: the control step at which it begins; with `phase`, how many steps after the phase was first reached.
        until: if given, the first step is drawn per episode, uniformly from `step` to `until`.
        phase: of the task, such as "contact"; the fault waits until it is reached. None for the episode's start.
        duration: control steps; None for the rest of the episode.
        bursts: mean lengths of a burst and of the gap after it [control steps], geometric, while the fault lasts; None
            for those that the fault has by nature.
        announced: whether `available` shows it; None for what is usual for the fault.
    """

    sensor: str
    fault: Fault
    step: int = 0
    until: int | None = None
    phase: str | None = None
    duration: int | None = None
    bursts: tuple[float, float] | None = None
    announced: bool | None = None

    def __post_init__(self) -> None:
        """Raises InputError for a value that has no meaning."""
        if not isinstance(self.sensor, str):
            raise InputError(f"sensor of a fault must be a key of the observation, got {self.sensor!r}")
        if not isinstance(self.fault, Fault):
            raise InputError(f"fault of {self.sensor!r} must be a robofuse.faults.Fault, got {self.fault!r}")
        what = f"of {self.sensor}:{self.fault.name}"
        whole(self.step, f"step {what}", 0, _LAST)
        if self.until is not None:
            whole(self.until, f"last first step {what}", self.step, _LAST)
        if self.duration is not None:
            whole(self.duration, f"duration {what}", 1, _LAST)
        if self.phase is not None and not isinstance(self.phase, str):
            raise InputError(f"phase {what} must be a name, got {self.phase!r}")
        if self.announced not in (None, True, False):
            raise InputError(f"announced {what} must be true or false, got {self.announced!r}")
        if self.bursts is not None:
            if self.fault.bursts() is not None:
                raise InputError(f"{self.fault.name} comes in bursts of its own; leave those {what} out")
            try:
                on, gap = (float(length) for length in self.bursts)
            except (TypeError, ValueError):
                raise InputError(f"bursts {what} are two lengths, of bursts and of gaps, got {self.bursts!r}") from None
            if not (1.0 <= on < inf and 1.0 <= gap < inf):
                raise InputError(f"bursts and gaps {what} must last at least 1 step on average, got {self.bursts}")
            object.__setattr__(self, "bursts", (on, gap))

    @property
    def is_announced(self) -> bool:
        """Whether `available` shows it."""
        return type(self.fault).announced if self.announced is None else self.announced

    def __str__(self) -> str:
        """As `Plan.parse` reads it."""
        given = [_number(self.fault.severity)] if self.fault.severity != 1.0 else []
        defaults = {field.name: field.default for field in fields(self.fault)}
        given += [
            f"{name}={_number(getattr(self.fault, name))}"
            for name, default in defaults.items()
            if name != "severity" and getattr(self.fault, name) != default
        ]
        text = f"{self.sensor}:{self.fault.name}" + (f"({', '.join(given)})" if given else "")
        first = str(self.step) + (f"..{self.until}" if self.until is not None else "")
        when = first if self.phase is None else self.phase if first == "0" else f"{self.phase}/{first}"
        if self.duration is not None:
            when += f" for {self.duration}"
        if self.bursts is not None:
            when += f" in {_number(self.bursts[0])}~{_number(self.bursts[1])}"
        text += f"@{when}" if when != "0" else ""
        return text + ("" if self.announced is None else "!" if self.announced else "?")

    def to_dict(self) -> dict[str, Any]:
        """As plain data, without the defaults."""
        found: dict[str, Any] = {"sensor": self.sensor, "fault": self.fault.name}
        given = {one.name: getattr(self.fault, one.name) for one in fields(self.fault)}
        found |= {one.name: given[one.name] for one in fields(self.fault) if given[one.name] != one.default}
        for one in fields(self)[2:]:
            value = getattr(self, one.name)
            if value != one.default:
                found[one.name] = list(value) if isinstance(value, tuple) else value
        return found


@dataclass(frozen=True, eq=False)
class FaultContext:
    """Where and when a fault changes n readings of one sensor, and all that may depend on it.

    Random numbers depend on (seed, episode, control step, sensor, fault) alone, never on n or on other faults.

    Attributes:
        sensor: whose readings they are.
        since: int64 (n,), control steps since the fault set in; 0 at its first reading.
        step: int64 (n,), control steps since the episode's start.
        dt: seconds of a control step.
    """

    sensor: Sensor
    since: Tensor
    step: Tensor
    dt: float
    _before: Callable[[], Tensor]
    _past: Callable[[Tensor], Tensor]
    _other: Callable[[Tensor], Tensor]
    _beside: Callable[[str], Tensor | None]
    _seed: int
    _episode: Tensor
    _salt: int  # tells the random numbers of faults apart

    @property
    def before(self) -> Tensor:
        """(n, …) of faults that hold: the last reading before it set in; the first one if there was none."""
        return self._before()

    def beside(self, key: str) -> Tensor | None:
        """(n, …) the healthy reading of another sensor at the same time; None if there is no such sensor."""
        return self._beside(key)

    def other(self) -> Tensor:
        """(n, …) what the sensor read at this step in the environment's previous episode; without one, `before`."""
        return self._other(self.before)

    def past(self, age: Tensor | int) -> Tensor:
        """Healthy readings (n, …) of some control steps ago, at most `Fault.history`; never from before the episode.

        `age` is int64 (n,) or one number [control steps]; 0 is the present reading.
        """
        return self._past(torch.as_tensor(age, device=self.step.device).expand(len(self.step)))

    def uniform(self, *shape: int, fixed: bool = False) -> Tensor:
        """`float32 (n, *shape)`, uniform in (0, 1); new at every step, or `fixed` for the episode."""
        return self._draw(uniform, shape, fixed)

    def normal(self, *shape: int, fixed: bool = False) -> Tensor:
        """`float32 (n, *shape)`, standard normal; new at every step, or `fixed` for the episode."""
        return self._draw(normal, shape, fixed)

    def sign(self, *shape: int) -> Tensor:
        """`float32 (n, *shape)`, −1 or 1, drawn per episode."""
        return torch.where(self.uniform(*shape, fixed=True) < 0.5, -1.0, 1.0)

    def some(self, share: float, count: int) -> Tensor:
        """Bool (n, count): this share of `count` elements, at least one, drawn per episode."""
        ranks = self.uniform(count, fixed=True).argsort(dim=1).argsort(dim=1)
        return ranks < max(1, round(share * count))

    def grain(self, *shape: int, fixed: bool = False) -> Tensor:
        """As `normal`, for whole images: stretches of a bank of a million numbers, as hashing each would take long."""
        place = self._place(fixed)
        lines = shape[0] if np.prod(shape) > _BANK // 8 else 1  # large images line by line, far from each other
        length = int(np.prod(shape)) // lines
        starts = _BANK - length
        spread = (place + torch.arange(lines, device=place.device) * 610_839_793) & (2**62 - 1)
        rows = _bank().as_strided((starts, length), (1, 1)).index_select(0, (spread % starts).flatten().cpu())
        return rows.to(self.step.device).reshape(-1, *shape)

    def blotches(self, height: int, width: int, size: int = 5, fixed: bool = False) -> Tensor:
        """As `grain`, float32 (n, height, width), but averaged over squares of `size` pixels; still standard normal."""
        bank = _blotched(width, size, max(_BANK // width, 2 * height))
        starts = len(bank) - height
        pieces = bank.as_strided((starts, height * width), (width, 1))
        found = pieces.index_select(0, (self._place(fixed)[:, 0] % starts).cpu())
        return found.to(self.step.device).reshape(-1, height, width)

    def _place(self, fixed: bool) -> Tensor:
        """Where in a bank, int64 (n, 1), from 0 to 2⁶² − 1."""
        return offsets(self._seed, Stream.FAULTS, self._episode, self._when(fixed), 1, self._salt + 2)

    def _draw(self, draw: Callable[..., Tensor], shape: Sequence[int], fixed: bool) -> Tensor:
        salt = self._salt + (1 if draw is normal else 0)
        numbers = draw(self._seed, Stream.FAULTS, self._episode, self._when(fixed), int(np.prod(shape)), salt)
        return numbers.float().reshape(-1, *shape)

    def _when(self, fixed: bool) -> Tensor | int:
        return (1 << 40) if fixed else self.step  # a step that no episode comes to


def salt_of(sensor: str, name: str, index: int) -> int:
    """Tells the random numbers of faults apart; `index` counts those of the same name on the same sensor."""
    return (zlib.crc32(f"{sensor}:{name}:{index}".encode()) << 2) + (1 << 40)


def _number(value: float) -> str:
    """The shortest text that is read as the same number."""
    short = f"{value:g}".replace("e+", "e")
    return short if float(short) == value else repr(value).replace("e+", "e")


@cache
def _bank() -> Tensor:
    return torch.randn(_BANK, generator=torch.Generator().manual_seed(0xFA017))


@lru_cache(maxsize=8)
def _blotched(width: int, size: int, rows: int) -> Tensor:
    """Standard normal numbers (rows, width), averaged over squares that go around at the borders."""
    white = torch.randn(1, 1, rows, width, generator=torch.Generator().manual_seed(0xB107C4))
    around = functional.pad(white, (size // 2, (size - 1) // 2) * 2, mode="circular")
    return size * functional.avg_pool2d(around, size, 1)[0, 0]
