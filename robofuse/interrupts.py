"""Ctrl-C: a long task stops at its next step, and keeps what is finished."""

import signal
import threading
from types import FrameType, TracebackType
from typing import Self


class Interrupt:
    """Catches signals while it is entered: the first one asks to stop, a second Ctrl-C raises KeyboardInterrupt.

    Attributes:
        status: exit status of a program that was asked to stop, else 0.
    """

    def __init__(self, *signals: signal.Signals, patient: bool = False) -> None:
        """`signals` ask to stop, by default Ctrl-C alone; if it is `patient`, a second one asks for the same."""
        self.status, self._patient = 0, patient
        self._signals, self._before = signals or (signal.SIGINT,), dict[signal.Signals, object]()

    @property
    def asked(self) -> bool:
        """Whether to stop."""
        return self.status != 0

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():  # elsewhere Python allows no handler
            self._before = {which: signal.signal(which, self._ask) for which in self._signals}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for which, handler in self._before.items():
            signal.signal(which, handler)  # pyright: ignore[reportArgumentType]

    def _ask(self, number: int, where: FrameType | None) -> None:
        if self.asked and number == signal.SIGINT and not self._patient:
            raise KeyboardInterrupt
        self.status = 128 + number
