"""Sensors that fall silent and say so: the fault that policies are trained on."""

import re
from collections.abc import Sequence

from robofuse.errors import InputError
from robofuse.faults.common import Blackout
from robofuse.faults.event import FaultEvent
from robofuse.faults.plan import Plan

_ITEM = re.compile(r"\s*(?P<sensor>[^\s@]*)\s*(?:@(?P<step>.*))?", re.DOTALL)


def blackout(sensor: str, step: int = 0) -> FaultEvent:
    """A sensor that delivers nothing from one control step of every episode on.

    Args:
        sensor: its key.
        step: number of the first observation without it; 0 is what `reset` returns.

    Returns:
        What a `Plan` is made of.
    """
    return FaultEvent(sensor, Blackout(), step)


def parse_disable(text: str, keys: Sequence[str]) -> Plan:
    """Announced blackouts from a line such as `rgb,depth@20`: no rgb at all, and no depth from control step 20 on.

    All sensors may be named. A policy then has its learned mask tokens to act on, the same at every step: worth a look
    as the floor below which no fault can push it.

    Args:
        text: sensors divided by commas, each with `@` and a control step or without; empty for none.
        keys: the sensors that exist.

    Returns:
        Its strikes are in the order of the text.

    Raises:
        ValueError: an unknown sensor, one named twice, or no number after the `@`; says at which character of the
            text (the first is 1), and what would be right.
    """
    events: list[FaultEvent] = []
    places: dict[str, int] = {}
    start = 0
    for item in text.split(",") if text.strip() else ():
        match = _ITEM.match(item)
        assert match is not None  # everything in it is optional
        sensor, place = match["sensor"], start + match.start("sensor") + 1
        there = f"sensors: {', '.join(sorted(keys))}"
        if not sensor:
            raise InputError(f"no sensor at character {place} of {text!r}; {there}")
        if match.end() < len(item):
            raise InputError(f"expected a comma or @ at character {start + match.end() + 1} of {text!r}")
        if sensor not in keys:
            raise InputError(f"unknown sensor {sensor!r} at character {place}; {there}")
        if sensor in places:
            raise InputError(f"sensor {sensor!r} at character {place} is already named at character {places[sensor]}")
        step = match["step"]
        if step is not None and re.fullmatch(r"\s*[0-9]{1,9}\s*", step) is None:
            raise InputError(
                f"expected a control step after the @ at character {start + match.start('step')}, such as "
                f"{sensor}@20; got {step.strip()!r}"
            )
        places[sensor] = place
        events.append(blackout(sensor, int(step or 0)))
        start += len(item) + 1
    return Plan(tuple(events))
