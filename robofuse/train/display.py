"""What people see of a training: a bar on a terminal, a line now and then elsewhere; and how it is asked to stop."""

import math
import signal
import threading
import time
from collections.abc import Sequence
from types import FrameType, TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn
from rich.table import Table

from robofuse.evaluate.conditions import Condition
from robofuse.train.loop import News
from robofuse.train.validation import alone, removed

_PREFIX = {"one removed": "no-", "one alone": "only-"}
_QUIET = 10.0  # seconds between lines where there is no terminal


class Display:
    """Shows news; a context manager."""

    def __init__(self, console: Console, steps: int, done: int, conditions: Sequence[Condition]) -> None:
        """Nothing is shown yet.

        Args:
            console: where to.
            steps: all of them.
            done: of them at the start.
            conditions: of the validations.
        """
        self._console, self._steps, self._conditions = console, steps, conditions
        self._start, self._said, self._from = time.monotonic(), -math.inf, done
        columns = (
            TextColumn("training"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f} %"),
            TextColumn("{task.description}"),
        )
        self._bar = Progress(*columns, console=console, disable=not console.is_terminal, transient=True)
        self._task = self._bar.add_task("", total=steps, completed=done)

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bar.stop()

    def show(self, news: News) -> None:
        """Of an update or a validation."""
        if news.validation is not None:
            self._console.print(self._validation(news), highlight=False, soft_wrap=True)
            return
        if news.note:
            self._bar.update(self._task, description=news.note)
            self._quietly(news.note)
            return
        success = "–" if math.isnan(news.success) else f"{news.success:.0%}"
        spent = time.monotonic() - self._start
        left = spent * (self._steps - news.step) / max(news.step - self._from, 1)
        text = f"success {success}, {news.speed:,.0f} steps/s, {_duration(left)} left"
        self._bar.update(self._task, completed=news.step, description=text)
        self._quietly(f"{news.step:,} of {self._steps:,} steps: {text}")

    def _quietly(self, text: str) -> None:
        """Now and then a line, where there is no terminal."""
        now = time.monotonic()
        if not self._console.is_terminal and now - self._said > _QUIET:
            self._said = now
            self._console.print(text, highlight=False, soft_wrap=True)

    def _validation(self, news: News) -> str:
        success = news.validation or {}
        parts = [f"all {success['all']:.0%}"]
        for title, names in (("one removed", removed(self._conditions)), ("one alone", alone(self._conditions))):
            told = [
                f"{name.partition('-')[2]} {success[name]:.0%}" for name in names if name.startswith(_PREFIX[title])
            ]
            if told:
                parts.append(f"{title}: {', '.join(told)}")
        return f"validation at {news.step:,}: {'; '.join(parts)}{'; kept as the best' if news.best else ''}"


def validation_table(
    conditions: Sequence[Condition], best: tuple[int, dict[str, float]], last: tuple[int, dict[str, float]]
) -> Table:
    """Success by condition, of the best and the last policy."""
    table = Table("sensors", f"best (step {best[0]:,})", f"last (step {last[0]:,})", title="validation")
    for condition in conditions:
        name = condition.name
        table.add_row(name, f"{best[1][name]:.0%}", f"{last[1][name]:.0%}")
    return table


class Stop:
    """Ctrl-C and SIGTERM: the first asks to stop after the update, a second Ctrl-C stops at once.

    Attributes:
        status: exit status of whoever was asked to stop, else 0.
    """

    def __init__(self, console: Console) -> None:
        """Does nothing until it is entered."""
        self._console, self.status = console, 0
        self._before: dict[int, object] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():  # elsewhere Python allows no handler
            self._before = {which: signal.signal(which, self._ask) for which in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for which, handler in self._before.items():
            signal.signal(which, handler)  # pyright: ignore[reportArgumentType]

    def __call__(self) -> bool:
        """Whether to stop."""
        return self.status != 0

    def _ask(self, number: int, where: FrameType | None) -> None:
        if self.status and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.status = 128 + number


def _duration(seconds: float) -> str:
    minutes = seconds / 60.0
    return f"{seconds:.0f} s" if minutes < 2 else f"{minutes:.0f} min" if minutes < 120 else f"{minutes / 60:.1f} h"
