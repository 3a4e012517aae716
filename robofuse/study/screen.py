"""What a study shows while it runs: a bar over the whole grid, the time left, and a table that fills."""

import math
import time
from types import TracebackType
from typing import Self

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from robofuse.study.declare import Study
from robofuse.study.runner import Grid
from robofuse.study.words import is_share, written

_PAUSE = 10.0  # seconds between lines where there is no terminal
_AGAIN = 0.5  # seconds between two pictures of a terminal


class Screen:
    """A table and a bar on a terminal, and a line now and then elsewhere; a context manager."""

    def __init__(self, console: Console, study: Study) -> None:
        """Nothing is shown yet."""
        self._console, self._study = console, study
        self._start, self._said, self._told = time.monotonic(), -math.inf, set[str]()
        self._before: float | None = None
        self._live = Live(console=console, auto_refresh=False, transient=True) if console.is_terminal else None

    def __enter__(self) -> Self:
        if self._live:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live:
            self._live.stop()

    def show(self, grid: Grid) -> None:
        """Show how far the grid is."""
        for job, problem in grid.failed.items():
            if job.name not in self._told:
                self._told.add(job.name)
                self._console.print(f"failed: {job.name}: {problem}", style="yellow")
        now = time.monotonic()
        if now - self._said < (_AGAIN if self._live else _PAUSE) and grid.left:
            return
        self._said = now
        done = len(grid.jobs) - grid.left + sum(grid.running.values())
        if self._before is None:
            self._before = done
        text = f"{len(grid.metrics)} of {len(grid.jobs)} jobs done"
        if grid.failed:
            text += f", {len(grid.failed)} failed"
        if grid.again:
            text += f", {grid.again} begun again"
        if grid.left and done > self._before:
            rest = (now - self._start) * (len(grid.jobs) - done) / (done - self._before)
            text += f", {_duration(rest)} left"
        if self._live:
            bar = ProgressBar(len(grid.jobs), done, width=40)
            self._live.update(Group(score_table(self._study, grid), bar, Text(text)), refresh=True)
        else:
            self._console.print(text)


def score_table(study: Study, grid: Grid) -> Table:
    """Finished jobs and the mean of the score, a line per method, a column per task."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("method", no_wrap=True)
    table.add_column("jobs", justify="right", no_wrap=True)
    tasks = list(dict.fromkeys(job.task for job in grid.jobs))
    unit = f"mean {study.score}{' [%]' if is_share(study.score) else ''}"
    for task in tasks:
        table.add_column(Text(f"{unit}, {task}" if task else unit), justify="right")
    for method in dict.fromkeys(job.method for job in grid.jobs):
        own = [job for job in grid.jobs if job.method == method]
        cells = []
        for task in tasks:
            found = [
                grid.metrics[job][study.score]
                for job in own
                if job.task == task and study.score in grid.metrics.get(job, {})
            ]
            cells.append(written(study.score, sum(found) / len(found)) if found else "")
        count = f"{sum(job in grid.metrics for job in own)}/{len(own)}"
        table.add_row(Text(method), count, *cells)
    return table


def _duration(seconds: float) -> str:
    minutes = seconds / 60.0
    return f"{seconds:.0f} s" if minutes < 2 else f"{minutes:.0f} min" if minutes < 120 else f"{minutes / 60:.1f} h"
