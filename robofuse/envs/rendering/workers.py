"""A few threads that each own an object made in that thread, because a GL context belongs to one thread.

`concurrent.futures` would do but for the interpreter's exit: it joins its threads before exit handlers run, so what
they own could no longer be released.
"""

import atexit
import itertools
import os
import queue
import threading
import weakref
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

from robofuse.errors import StateError

_numbers = itertools.count()


class Closable(Protocol):
    """What a thread owns."""

    def close(self) -> None:
        """Release everything; called in the thread that made the object."""
        ...


T = TypeVar("T", bound=Closable)


class _Call:
    """One round of jobs that somebody waits for."""

    def __init__(self, jobs: int) -> None:
        self.error: BaseException | None = None
        self._open = jobs
        self._lock = threading.Lock()
        self._done = threading.Event()

    def finish(self, error: BaseException | None) -> None:
        with self._lock:
            self.error = self.error or error
            self._open -= 1
            if not self._open:
                self._done.set()

    def wait(self) -> None:
        self._done.wait()
        if self.error is not None:
            try:
                raise self.error
            finally:
                self.error = None  # the traceback refers to this frame: do not keep each other alive


def _serve(jobs: queue.SimpleQueue, factory: Callable[[], Closable], made: _Call) -> None:
    """A thread's life: make its object, do jobs with it until told to stop, release it."""
    try:
        owned = factory()
    except BaseException as error:
        made.finish(error)
        return
    made.finish(None)
    del factory, made
    while (job := jobs.get()) is not None:
        call, function, start, stop = job
        try:
            function(owned, start, stop)
        except BaseException as error:
            call.finish(error)
        else:
            call.finish(None)
        # an idle thread must not keep anybody's arrays alive
        del job, call, function
    owned.close()


def _stop(queues: list[queue.SimpleQueue], threads: list[threading.Thread]) -> None:
    for jobs in queues:
        jobs.put(None)
    if threading.current_thread() not in threads:
        for thread in threads:
            thread.join(timeout=10.0)  # a driver that hangs must not keep the interpreter from ending


class Workers(Generic[T]):
    """Named daemon threads, each with its own queue and its own object.

    Attributes:
        closed: whether `close` has been called.
    """

    def __init__(self, name: str, count: int, factory: Callable[[], T]) -> None:
        """Starts the threads and waits until each has made its object.

        Args:
            name: the threads are called `name-<number>`.
            count: threads.
            factory: called once in each thread.

        Raises:
            BaseException: whatever the factory raised first; the threads have ended by then.
        """
        self.closed = False
        self._process = os.getpid()
        queues: list[queue.SimpleQueue] = [queue.SimpleQueue() for _ in range(count)]
        made = _Call(count)
        threads = [
            threading.Thread(target=_serve, args=(jobs, factory, made), name=f"{name}-{next(_numbers)}", daemon=True)
            for jobs in queues
        ]
        for thread in threads:
            thread.start()
        self._queues = queues
        try:
            made.wait()
        except BaseException:
            _stop(queues, threads)
            raise
        self._end = weakref.finalize(self, _stop, queues, threads)
        # Exit handlers run last in, first out, and MuJoCo's EGL module registers one as it makes its first context:
        # ours must come after, to free contexts while EGL still lives. A finalizer's own handler could be earlier.
        self._end.atexit = False
        atexit.register(self._end)

    def start(self, function: Callable[[T, int, int], None], items: int) -> Callable[[], None]:
        """Begin to call `function(object, start, stop)` on contiguous slices of range(items), one a thread.

        Args:
            function: works on its slice with the thread's own object.
            items: how many there are; with fewer than threads, some threads stay idle.

        Returns:
            Call it to wait until all slices are done; it raises what `function` raised first, with its traceback.

        Raises:
            RuntimeError: closed, or forked: threads do not live on in a child process.
        """
        if self.closed:
            raise StateError("these workers are closed")
        if self._process != os.getpid():
            raise StateError("made in another process: threads do not survive a fork, so make it in the child")
        count = min(len(self._queues), items)
        if not count:
            return lambda: None
        call = _Call(count)
        for i, jobs in enumerate(self._queues[:count]):
            jobs.put((call, function, items * i // count, items * (i + 1) // count))
        return call.wait

    def close(self) -> None:
        """Release every object in its thread and end the threads; may be called again."""
        if self.closed:
            return
        self.closed = True
        atexit.unregister(self._end)
        if self._process == os.getpid():
            self._end()
        else:
            self._end.detach()
