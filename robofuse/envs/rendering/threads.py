"""A renderer shares its worlds out among threads, each with a painter of its own.

A painter may have a process of its own too (`ProcessPainter`). Mesa, which is OpenGL in software, has one rasteriser a
process and a lock around it: two threads that draw small pictures are hardly faster than one. Two processes are.
"""

import atexit
import itertools
import json
import mmap
import os
import queue
import select
import subprocess
import sys
import tempfile
import threading
import weakref
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager, ExitStack, suppress
from functools import partial
from typing import Generic, Protocol, TypeVar

import mujoco
import numpy as np

from robofuse.envs.rendering.base import Painter, Pictures, Poses, Take, View
from robofuse.errors import InputError, StateError

# Seconds that a drawing process may need to start, and to answer; the latter plus one for every million pixels.
START_TIMEOUT, ANSWER_TIMEOUT = 120.0, 30.0

_numbers = itertools.count()


class ThreadedRenderer:
    """See `Renderer`: one painter a thread, each with a contiguous share of the worlds."""

    def __init__(
        self,
        name: str,
        factory: Callable[[], Painter],
        guard: Callable[[], AbstractContextManager],
        views: Sequence[View],
        poses: Poses,
        num_threads: int,
    ) -> None:
        """Makes the painters.

        Args:
            name: the renderer's name.
            factory: makes a painter, in its thread.
            guard: entered by the caller's thread while painters are made or paint.
            views: what a painter draws.
            poses: only its number of worlds is read here.
            num_threads: at least 1; more than there are worlds are not started.

        Raises:
            StateError: the factory could not make a painter.
        """
        self.name = name
        self._shapes = [(view.height, view.width) for view in views]
        self._num_envs = len(poses.geom_xpos)
        self._guard = guard
        with guard():
            self._workers = Workers(f"robofuse-{name}", min(num_threads, self._num_envs), factory)

    def start(self, take: Take, env_ids: np.ndarray | None = None) -> Callable[[], None]:
        """See `Renderer.start`."""
        if self._workers.closed:
            raise StateError(f"this {self.name} renderer is closed: make another one to draw again")
        chosen = np.arange(self._num_envs) if env_ids is None else self._checked(env_ids)

        def share(painter: Painter, first: int, end: int) -> None:
            painter.paint(chosen[first:end], lambda start, stop, drawn: take(first + start, first + stop, drawn))

        guarded = ExitStack()
        guarded.enter_context(self._guard())
        wait = self._workers.start(share, len(chosen))

        def finish() -> None:
            with guarded:
                wait()

        return finish

    def render(self, env_ids: np.ndarray | None = None) -> Pictures:
        """See `Renderer.render`."""
        n = self._num_envs if env_ids is None else len(env_ids)
        kept = [(np.empty((n, *shape, 3), np.uint8), np.empty((n, *shape), np.float32)) for shape in self._shapes]
        self.start(partial(copy_pictures, kept), env_ids)()
        return kept

    def close(self) -> None:
        """See `Renderer.close`."""
        self._workers.close()

    def _checked(self, env_ids: np.ndarray) -> np.ndarray:
        env_ids = np.asarray(env_ids)
        if env_ids.ndim != 1 or (env_ids.size and env_ids.dtype.kind not in "iu"):
            raise InputError(f"ids must be integers of shape (n,), got {env_ids.dtype} {env_ids.shape}")
        if env_ids.size and not (0 <= env_ids.min() and env_ids.max() < self._num_envs):
            raise IndexError(f"ids must lie in [0, {self._num_envs}), got {env_ids.min()} to {env_ids.max()}")
        return env_ids.astype(np.int64)


def copy_pictures(kept: Pictures, start: int, stop: int, drawn: Pictures) -> None:
    """A `Take` that keeps the pictures in arrays of its own."""
    for (rgb, depth), (pixels, metres) in zip(kept, drawn, strict=True):
        rgb[start:stop], depth[start:stop] = pixels, metres


class Closable(Protocol):
    """What a thread owns."""

    def close(self) -> None:
        """Release everything; called in the thread that made the object."""
        ...


T = TypeVar("T", bound=Closable)


class Workers(Generic[T]):
    """Named daemon threads, each with its own queue and its own object, because a GL context belongs to one thread.

    `ThreadPoolExecutor` would do but for the interpreter's exit: it joins its threads before exit handlers run, so what
    they own could no longer be released.

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
            BaseException: what the factory raised; the threads have ended by then.
        """
        self.closed = False
        self._process = os.getpid()
        self._queues: list[queue.SimpleQueue] = [queue.SimpleQueue() for _ in range(count)]
        made: list[Future[None]] = [Future() for _ in range(count)]
        threads = [
            threading.Thread(target=_work, args=(jobs, factory, own), name=f"{name}-{next(_numbers)}", daemon=True)
            for jobs, own in zip(self._queues, made, strict=True)
        ]
        for thread in threads:
            thread.start()
        try:
            _wait(made)
        except BaseException:
            _stop(self._queues, threads)
            raise
        self._end = weakref.finalize(self, _stop, self._queues, threads)
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
            Call it to wait until all slices are done; it raises what `function` raised, with its traceback.

        Raises:
            StateError: closed, or forked: threads do not live on in a child process.
        """
        if self.closed:
            raise StateError("these workers are closed")
        if self._process != os.getpid():
            raise StateError("made in another process: threads do not survive a fork, so make it in the child")
        count = min(len(self._queues), items)
        calls: list[Future[None]] = [Future() for _ in range(count)]
        for i, call in enumerate(calls):
            self._queues[i].put((call, function, items * i // count, items * (i + 1) // count))
        return lambda: _wait(calls)

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


def _wait(calls: list["Future[None]"]) -> None:
    """Until all are done; raises the error of the first that has one."""
    for call in calls:
        call.exception()
    for call in calls:
        call.result()


def _work(jobs: queue.SimpleQueue, factory: Callable[[], Closable], made: "Future[None]") -> None:
    """A thread's life: make its object, do jobs with it until told to stop, release it."""
    try:
        owned = factory()
    except BaseException as error:
        made.set_exception(error)
        return
    made.set_result(None)
    del factory, made
    while (job := jobs.get()) is not None:
        call, function, start, stop = job
        try:
            function(owned, start, stop)
        except BaseException as error:
            call.set_exception(error)
        else:
            call.set_result(None)
        # an idle thread must not keep anybody's arrays alive
        del job, call, function
    owned.close()


def _stop(queues: list[queue.SimpleQueue], threads: list[threading.Thread]) -> None:
    for jobs in queues:
        jobs.put(None)
    if threading.current_thread() not in threads:
        for thread in threads:
            thread.join(timeout=10.0)  # a driver that hangs must not keep the interpreter from ending


Layout = list[tuple[str, tuple[int, ...]]]  # dtype and shape of every array, one behind the other


class ProcessPainter:
    """See `Painter`: forwards to a painter in a process of its own, a program that calls `serve`.

    Worlds and pictures travel through shared memory, and a line of text says when; nothing is pickled, the process
    starts in half a second, needs no main guard in the user's script, and ends when its input does.
    """

    def __init__(
        self,
        program: str,
        environment: Mapping[str, str],
        model: mujoco.MjModel,
        views: tuple[View, ...],
        poses: Poses,
        slots: int,
    ) -> None:
        """Starts the process and waits until it can draw.

        Args:
            program: module to run.
            environment: variables to set for it.
            model: compiled model.
            views: what to draw.
            poses: live arrays to read from.
            slots: worlds drawn at a time.

        Raises:
            StateError: the process cannot draw.
        """
        self._poses, self._slots = poses, slots
        self._pixels = sum(view.height * view.width for view in views)
        layout: Layout = [(live.dtype.str, (slots, *live.shape[1:])) for live in poses]
        for view in views:
            layout += [("|u1", (slots, view.height, view.width, 3)), ("<f4", (slots, view.height, view.width))]
        with tempfile.TemporaryFile(dir="/dev/shm" if os.path.isdir("/dev/shm") else None) as file:
            file.truncate(_size(layout))
            arrays = _arrays(file.fileno(), layout)
            self._inputs, self._outputs = _split(arrays)
            binary = np.empty(mujoco.mj_sizeModel(model), np.uint8)
            mujoco.mj_saveModel(model, None, binary)
            header = {
                "memory": file.fileno(),
                "layout": layout,
                "views": [(view.camera, view.height, view.width) for view in views],
                "model": len(binary),
            }
            # its own session: Ctrl-C at a terminal is for the parent, which ends this one by closing its input
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", program],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                pass_fds=[file.fileno()],
                # it finds what this process finds, however that came about
                env={**os.environ, **environment, "PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path))},
                start_new_session=True,
            )
            self._ask(json.dumps(header).encode() + b"\n" + binary.tobytes(), b"ready\n", START_TIMEOUT)

    def paint(self, env_ids: np.ndarray, take: Take) -> None:
        """See `Painter.paint`; StateError if the process has ended, or does not answer in time."""
        for start in range(0, len(env_ids), self._slots):
            chosen = env_ids[start : start + self._slots]
            count = len(chosen)
            for slot, live in zip(self._inputs, self._poses, strict=True):
                slot[:count] = live[chosen]
            self._ask(b"%d\n" % count, b"done\n", ANSWER_TIMEOUT + 1e-6 * self._pixels * count)
            take(start, start + count, [(rgb[:count], depth[:count]) for rgb, depth in self._outputs])

    def close(self) -> None:
        """See `Painter.close`."""
        assert self._process.stdin is not None and self._process.stdout is not None
        with suppress(BrokenPipeError):  # what it did not live to read
            self._process.stdin.close()
        try:
            self._process.wait(timeout=5.0)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()

    def _ask(self, request: bytes, answer: bytes, timeout: float) -> None:
        process = self._process
        assert process.stdin is not None and process.stdout is not None
        with suppress(BrokenPipeError):  # it is gone: what follows says so
            process.stdin.write(request)
            process.stdin.flush()
        poll = select.poll()
        poll.register(process.stdout, select.POLLIN)
        if not poll.poll(1000.0 * timeout):
            process.kill()
            raise StateError(
                f"the process that draws, {process.pid}, has not answered for {timeout:.0f} s and was ended: it was "
                "stopped, or the machine is overloaded; make a new World"
            )
        if process.stdout.readline() != answer:
            raise StateError(f"the process that draws, {process.pid}, ended with status {process.wait(timeout=5.0)}")


def serve(make: Callable[[mujoco.MjModel, tuple[View, ...], Poses], Painter]) -> None:
    """The life of a drawing process: it draws what its standard input asks for, until that ends.

    Args:
        make: makes the painter of a model, its views and the poses.
    """
    requests, answers = sys.stdin.buffer, sys.stdout.buffer
    header = json.loads(requests.readline())
    model = mujoco.MjModel.from_binary_path("model.mjb", {"model.mjb": requests.read(header["model"])})
    inputs, outputs = _split(_arrays(header["memory"], header["layout"]))
    painter = make(model, tuple(View(*view) for view in header["views"]), Poses(*inputs))
    answers.write(b"ready\n")
    answers.flush()
    for request in requests:
        painter.paint(np.arange(int(request)), partial(copy_pictures, outputs))
        answers.write(b"done\n")
        answers.flush()
    painter.close()


def _split(arrays: list[np.ndarray]) -> tuple[list[np.ndarray], Pictures]:
    """What a drawing process reads, in the order of `Poses`, and what it writes, by view."""
    count = len(Poses._fields)
    return arrays[:count], list(zip(arrays[count::2], arrays[count + 1 :: 2], strict=True))


def _size(layout: Layout) -> int:
    return sum(_bytes(dtype, shape) for dtype, shape in layout)


def _bytes(dtype: str, shape: tuple[int, ...]) -> int:
    """Of one array, rounded up so that the next one is aligned."""
    return -(-int(np.prod(shape)) * np.dtype(dtype).itemsize // 64) * 64


def _arrays(descriptor: int, layout: Layout) -> list[np.ndarray]:
    memory, arrays, start = mmap.mmap(descriptor, _size(layout)), [], 0
    for dtype, shape in layout:
        arrays.append(np.frombuffer(memory, dtype, int(np.prod(shape)), start).reshape(shape))
        start += _bytes(dtype, shape)
    return arrays
