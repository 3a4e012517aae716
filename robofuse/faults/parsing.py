"""Strikes from a line of text; errors say at which character."""

import re
from collections.abc import Iterator, Sequence
from typing import Any

from robofuse.errors import InputError
from robofuse.faults.catalogue import find_fault
from robofuse.faults.event import FaultEvent, contradiction, make_fault
from robofuse.sensors import Kind, Sensor

_ITEM = re.compile(
    r"""\s*(?P<sensors>[^:+@!?()]*)(?P<colon>:)?\s*(?P<fault>[^+@!?()\s]*)\s*
    (?P<call>\((?P<given>[^()]*)\))?\s*(?P<at>@(?P<when>[^+!?]*))?\s*(?P<told>[!?])?\s*""",
    re.VERBOSE,
)
_START = re.compile(
    r"""\s*(?:(?P<phase>[a-z_][a-z0-9_]*)(?:\s*/\s*(?P<after>\d{1,9}))?|(?P<step>\d{1,9}))\s*(?:\.\.\s*(?P<until>\d{1,9})\s*)?
    (?:\bfor\s+(?P<duration>\d{1,9})\s*)?(?:\bin\s+(?P<on>\d+(?:\.\d*)?(?:e\d+)?)\s*~\s*(?P<off>\d+(?:\.\d*)?(?:e\d+)?)\s*)?""",
    re.VERBOSE,
)


def parse(text: str, sensors: Sequence[Sensor]) -> tuple[FaultEvent, ...]:
    """The strikes of a line of text; arguments and errors as of `Plan.parse`."""
    events: list[tuple[FaultEvent, int]] = []
    start = 0
    while start < len(text) and text.strip():
        match = _ITEM.match(text, start)
        assert match is not None  # everything in it is optional
        if match.end() < len(text) and text[match.end()] != "+":
            raise Misread(text, match.end(), "expected + and another fault, or the end")
        for event, place in _events(text, match, sensors):
            for other, before in events:
                if problem := contradiction(other, event):
                    raise Misread(text, place, f"{problem} (the other at character {before + 1})")
            events.append((event, place))
        start = match.end() + 1
        if start == len(text):
            raise Misread(text, start - 1, "expected another fault after the +")
    return tuple(event for event, _ in events)


class Misread(InputError):
    """Points at a character of the text."""

    def __init__(self, text: str, place: int, what: str) -> None:
        """Says what was expected there."""
        super().__init__(f"{what}, at character {place + 1}:\n  {text}\n  {' ' * place}^")


def _events(text: str, match: re.Match[str], sensors: Sequence[Sensor]) -> Iterator[tuple[FaultEvent, int]]:
    """The strikes of one item, and where each one's sensor is."""
    kinds: dict[str, Kind] = {sensor.key: sensor.kind for sensor in sensors}
    there = f"sensors: {', '.join(kinds)}"
    if not match["sensors"]:
        raise Misread(text, match.start("sensors"), f"expected a sensor; {there}")
    place = match.start("sensors")
    for part in match["sensors"].split(","):
        key, at = part.strip(), place + len(part) - len(part.lstrip())
        place += len(part) + 1
        if key not in kinds:
            raise Misread(text, at, f"unknown sensor {key!r}; {there}")
        if not match["colon"]:
            raise Misread(text, match.end("sensors"), f"expected : and a fault after {key}")
        try:
            kind = find_fault(match["fault"], kinds[key])
        except ValueError as error:
            raise Misread(text, match.start("fault"), str(error)) from None
        try:
            fault = make_fault(kind, _arguments(match["given"] or ""))
        except ValueError as error:
            raise Misread(text, match.start("given"), str(error)) from None
        try:
            yield (
                FaultEvent(key, fault, **_when(match), announced={None: None, "!": True, "?": False}[match["told"]]),
                at,
            )
        except ValueError as error:
            raise Misread(text, match.start("when"), str(error)) from None


def _arguments(text: str) -> dict[str, float]:
    found: dict[str, float] = {}
    for part in text.split(",") if text.strip() else ():
        name, equals, value = part.rpartition("=")
        name = name.strip() if equals else "severity"
        if name in found:
            raise InputError(f"{name} is given twice")
        try:
            found[name] = float(value)
        except ValueError:
            raise InputError(f"expected a number, got {value.strip()!r}") from None
    return found


def _when(match: re.Match[str]) -> dict[str, Any]:
    if not match["at"]:
        return {}
    when = _START.fullmatch(match["when"])
    if when is None or not match["when"].strip():
        raise InputError("expected a step such as 20, 10..30, contact or contact/5, then for 15, then in 5~20")
    found: dict[str, Any] = {"step": int(when["step"] or when["after"] or 0), "phase": when["phase"]}
    found |= {name: int(when[name]) for name in ("until", "duration") if when[name]}
    if when["on"]:
        found["bursts"] = (float(when["on"]), float(when["off"]))
    return found
