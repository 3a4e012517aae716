"""What breaks, and when: so far blackouts, sensors that fall silent and say so."""

import re
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from robofuse.checks import whole

NEVER = torch.iinfo(torch.int64).max
_ITEM = re.compile(r"\s*(?P<sensor>[^\s@]*)\s*(?:@(?P<step>.*))?", re.DOTALL)


@dataclass(frozen=True)
class Blackout:
    """A sensor that delivers nothing from one control step of every episode on; `available` says so.

    Attributes:
        sensor: key of the observation.
        step: number of the first observation without it; 0 is the one that `reset` returns.
    """

    sensor: str
    step: int = 0

    def __post_init__(self) -> None:
        whole(self.step, f"step of the blackout of {self.sensor!r}", 0)


def parse_disable(text: str, keys: Sequence[str]) -> tuple[Blackout, ...]:
    """Blackouts from a line such as `rgb,depth@20`: no rgb at all, and no depth from control step 20 on.

    All sensors may be named. A policy then has its learned mask tokens to act on, the same at every step: worth a look
    as the floor below which no fault can push it.

    Args:
        text: sensors divided by commas, each with `@` and a control step or without; empty for none.
        keys: the sensors that exist.

    Returns:
        In the order of the text.

    Raises:
        ValueError: an unknown sensor, one named twice, or no number after the `@`; says at which character of the
            text (the first is 1), and what would be right.
    """
    blackouts: list[Blackout] = []
    places: dict[str, int] = {}
    start = 0
    for item in text.split(",") if text.strip() else ():
        match = _ITEM.match(item)
        assert match is not None  # everything in it is optional
        sensor, place = match["sensor"], start + match.start("sensor") + 1
        there = f"sensors: {', '.join(sorted(keys))}"
        if not sensor:
            raise ValueError(f"no sensor at character {place} of {text!r}; {there}")
        if match.end() < len(item):
            raise ValueError(f"expected a comma or @ at character {start + match.end() + 1} of {text!r}")
        if sensor not in keys:
            raise ValueError(f"unknown sensor {sensor!r} at character {place}; {there}")
        if sensor in places:
            raise ValueError(f"sensor {sensor!r} at character {place} is already named at character {places[sensor]}")
        step = match["step"]
        if step is not None and re.fullmatch(r"\s*[0-9]{1,9}\s*", step) is None:
            raise ValueError(
                f"expected a control step after the @ at character {start + match.start('step')}, such as "
                f"{sensor}@20; got {step.strip()!r}"
            )
        places[sensor] = place
        blackouts.append(Blackout(sensor, int(step or 0)))
        start += len(item) + 1
    return tuple(blackouts)


def dead_from(blackouts: Sequence[Blackout], keys: Sequence[str]) -> Tensor:
    """When each sensor falls silent: it delivers the observation of control step t if t < dead_from.

    Args:
        blackouts: in any order; of several of one sensor the earliest counts.
        keys: the sensors, in the order of `available`.

    Returns:
        int64 (M,), `NEVER` for sensors that stay alive.

    Raises:
        ValueError: a blackout of a sensor that is not among the keys.
    """
    steps = torch.full((len(keys),), NEVER)
    for blackout in blackouts:
        if blackout.sensor not in keys:
            raise ValueError(f"unknown sensor {blackout.sensor!r}; sensors: {', '.join(keys)}")
        index = list(keys).index(blackout.sensor)
        steps[index] = min(int(steps[index]), blackout.step)
    return steps
