"""How soon a switch of a live replay acts, and how many frames a second there are, with and without a browser."""

import json
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack, closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from robofuse.errors import InputError, StateError
from robofuse.files import write_atomic
from robofuse.replay.live import Live, Moment
from robofuse.replay.page import Page
from scripts.bench.env import machine

_WARM_UP = 3.0  # seconds that do not count
# counts the pictures of the readings as the page gets them
_COUNT = """() => {
  window.pictures = 0;
  new MutationObserver(() => { window.pictures += 1; })
    .observe(document.body, {subtree: true, attributes: true, attributeFilter: ["src"]});
}"""


@dataclass(frozen=True)
class LiveBench:
    """How to measure a live replay, in real time.

    Attributes:
        policy: A policy that comes along, a policy file, or a training's folder.
        seconds: How long, of each row.
        browser: Executable of a Chromium that looks at the page on this machine, as a second row; needs playwright.
        seed: Of the scenes, and of when which switch is thrown.
        json: Also write the results here.
    """

    policy: str = "grasp"
    seconds: float = 30.0
    browser: Path | None = None
    seed: int = 0
    json: Path | None = None


def bench_live(config: LiveBench) -> dict[str, Any]:
    """Measure, print a table, write JSON.

    Switches of the page are thrown at random times, about four a second. What counts is the time from the callback of
    the switch until the policy is given the first observation in which the sensor is off, or on again.

    Args:
        config: what to measure.

    Returns:
        What is written as JSON: `machine`, `config`, and `rows`: `browser`, `switches`, `delay_ms` (`p50`, `p95` and
        `max`), `frames_per_second` while an episode goes on, `frame_ms` (likewise, from frame to frame), and of a
        browser `pictures_per_second`, those that it got.

    Raises:
        InputError: no such policy, browser, or folder for the JSON.
        StateError: viser or playwright is not installed.
    """
    if not config.seconds >= 1.0:
        raise InputError(f"--seconds must be at least 1, got {config.seconds:g}")
    if config.browser is not None and not config.browser.is_file():
        raise InputError(f"--browser: there is no {config.browser}")
    if config.json is not None and not config.json.absolute().parent.is_dir():
        raise InputError(f"--json: there is no folder {config.json.absolute().parent}")
    rows = [_measure(config, browser) for browser in dict.fromkeys((None, config.browser))]
    console = Console()
    console.width = max(console.width, 120)  # a narrow table would hide its figures
    console.print(_table(rows))
    plain = json.loads(json.dumps(asdict(config), default=str))
    result = {"machine": machine(), "config": plain, "rows": rows}
    if config.json is not None:
        write_atomic(config.json, json.dumps(result, indent=1) + "\n")
    return result


class _Watcher:
    """Writes down when what was seen."""

    def __init__(self, page: Page) -> None:
        self._page, self._last = page, 0.0
        self.frames: list[float] = []  # seconds since the one before, of the same episode
        self.waiting: dict[str, tuple[bool, float]] = {}
        self.delays: list[float] = []

    def show(self, moment: Moment) -> None:
        now = time.perf_counter()
        if moment.frame.step:
            self.frames.append(now - self._last)
        self._last = now
        for key, (on, since) in list(self.waiting.items()):
            if moment.frame.on[key] == on:
                self.delays.append(now - since)
                del self.waiting[key]
        self._page.show(moment)


def _measure(config: LiveBench, browser: Path | None) -> dict[str, Any]:
    from robofuse.play import open_setup

    with ExitStack() as stack:
        setup = open_setup(config.policy, 1, config.seed, {})
        stack.callback(setup.world.close)
        page = stack.enter_context(Page("127.0.0.1", 0, setup.name))
        watcher = _Watcher(page)
        live = Live(setup.policy, setup.world, watcher.show)
        page.open(live)
        thread = threading.Thread(target=live.run, daemon=True)
        thread.start()
        stack.callback(thread.join)
        stack.callback(live.stop)
        tab = None if browser is None else stack.enter_context(closing(_open_tab(stack, browser, page.url)))
        time.sleep(_WARM_UP)
        pictures = 0 if tab is None else tab.evaluate("window.pictures")
        first, began = len(watcher.frames), time.perf_counter()
        _throw_switches(config, page, watcher, list(live.sensors), began + config.seconds)
        seconds = time.perf_counter() - began
        frames = np.array(watcher.frames[first:])
        row: dict[str, Any] = {"browser": browser is not None, "switches": len(watcher.delays)}
        row |= {"delay_ms": _spread(watcher.delays), "frame_ms": _spread(frames)}
        row["frames_per_second"] = 1.0 / float(frames.mean())
        if tab is not None:
            row["pictures_per_second"] = (tab.evaluate("window.pictures") - pictures) / seconds
        return row


def _spread(seconds: Sequence[float] | np.ndarray) -> dict[str, float]:
    """Milliseconds."""
    p50, p95, most = (float(1e3 * x) for x in np.percentile(seconds, (50, 95, 100)))
    return {"p50": p50, "p95": p95, "max": most}


def _throw_switches(config: LiveBench, page: Page, watcher: _Watcher, keys: list[str], end: float) -> None:
    rng = np.random.default_rng(config.seed)
    while time.perf_counter() < end:
        time.sleep(rng.uniform(0.15, 0.35))
        key = keys[rng.integers(len(keys))]
        if key not in watcher.waiting:
            off = not page.kill[key].value
            watcher.waiting[key] = not off, time.perf_counter()
            page.kill[key].value = off  # viser calls back, as after a click


def _open_tab(stack: ExitStack, browser: Path, url: str) -> Any:  # noqa: ANN401
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        raise StateError("--browser needs playwright: pip install playwright") from None
    chromium = stack.enter_context(sync_playwright()).chromium
    arguments = ["--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--ignore-gpu-blocklist"]
    tab = stack.enter_context(closing(chromium.launch(executable_path=str(browser), args=arguments))).new_page()
    tab.goto(url)
    tab.wait_for_selector("canvas")
    tab.evaluate(_COUNT)
    return tab


def _table(rows: list[dict[str, Any]]) -> Table:
    title = "a live replay: ms from a switch to the observation that shows it, and from frame to frame (p50, p95, max)"
    table = Table("browser", "switches", "switch", "frame", "frames/s", "pictures/s", title=title)
    for row in rows:
        spreads = [", ".join(f"{x:.0f}" for x in row[name].values()) for name in ("delay_ms", "frame_ms")]
        got = f"{row['pictures_per_second']:.1f}" if "pictures_per_second" in row else ""
        who = "on this machine" if row["browser"] else "none"
        table.add_row(who, str(row["switches"]), *spreads, f"{row['frames_per_second']:.1f}", got)
    return table
