"""How long actions take on one core: contenders take turns, and two clocks run, the wall's and the processor's."""

import os
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from rich.console import Console
from rich.progress import track

from robofuse.sensors import AVAILABLE

if TYPE_CHECKING:
    from robofuse.deploy import Policy as Deployed
    from robofuse.policies import Policy

Call = Callable[[], object]
Figures = dict[str, dict[str, float]]
Name = TypeVar("Name")
# processor time: others on the core do not add to it, but for what they did to its caches
CLOCKS: dict[str, Callable[[], float]] = {"wall": time.perf_counter, "cpu": time.thread_time}


@contextmanager
def one_core(core: int | None = None) -> Iterator[None]:
    """This thread, and those that it starts, on one core, by default the first that it may use; put back afterwards."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before) if core is None else core})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def eager_call(
    policy: "Policy", readings: Mapping[str, np.ndarray], hidden: Collection[str], required: Collection[str]
) -> Call:
    """An action in torch without the sensors `hidden`; `required` are those that `available` has no entry for."""
    batch = {key: x[None] for key, x in readings.items()}
    told = [key not in hidden for key in policy.keys if key not in required]
    if told:
        batch[AVAILABLE] = np.array([told], np.int8)
    act = policy.stateful(1).act if policy.remembers else policy.act
    return lambda: act(batch).numpy()


def exported_call(policy: "Deployed", readings: Mapping[str, np.ndarray], hidden: Collection[str]) -> Call:
    """An action in onnxruntime with the sensors `hidden` switched off."""
    robot = policy.fork()
    robot.off = tuple(hidden)
    return lambda: robot(readings)


def take_turns(contenders: Mapping[Name, Call], calls: int, rounds: int) -> dict[Name, Figures]:
    """Milliseconds per call by contender and clock: `p50`, `p99` and `mean`.

    Args:
        contenders: name → what is timed.
        calls: of each, at least as many as rounds.
        rounds: turns in which they are taken, all contenders in each, so that a busy spell meets all alike.
    """
    taken: dict[Name, list[tuple[float, ...]]] = {name: [] for name in contenders}
    for turn in track(range(rounds), "measuring", console=Console(stderr=True), transient=True):
        for name, act in contenders.items():
            act()  # the caches are the other's
            for _ in range(calls * (turn + 1) // rounds - calls * turn // rounds):
                before = [clock() for clock in CLOCKS.values()]
                act()
                taken[name].append(tuple(clock() - b for clock, b in zip(CLOCKS.values(), before, strict=True)))
    return {name: _figures(np.array(times) * 1e3) for name, times in taken.items()}


def _figures(times: np.ndarray) -> Figures:
    columns = zip(CLOCKS, times.T, strict=True)
    return {
        clock: {"p50": float(np.median(x)), "p99": float(np.percentile(x, 99)), "mean": float(x.mean())}
        for clock, x in columns
    }
