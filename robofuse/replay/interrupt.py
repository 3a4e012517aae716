"""Ctrl-C that lets a video be finished."""

import signal
import threading
from types import FrameType, TracebackType
from typing import Self


class Interrupt:
    """The first Ctrl-C asks to stop at the next picture; a second one interrupts as usual.

    Attributes:
        asked: whether there was one.
    """

    def __init__(self) -> None:
        """Does nothing until it is entered."""
        self.asked, self._before = False, None

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():  # elsewhere Python allows no handler
            self._before = signal.signal(signal.SIGINT, self._ask)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._before is not None:
            signal.signal(signal.SIGINT, self._before)

    def _ask(self, number: int, where: FrameType | None) -> None:
        if self.asked:
            raise KeyboardInterrupt
        self.asked = True
