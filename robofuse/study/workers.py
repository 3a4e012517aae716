"""Where jobs run: processes of this machine, or through Ray those of a cluster."""

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, NamedTuple, Protocol

from robofuse.checks import usable_cores, whole
from robofuse.errors import StateError
from robofuse.study.job import BLAMED, LOG, ONE_THREAD, main

_GRACE = 5.0  # seconds that a stopped job has to end by itself
_POLL = 0.02
_ATTEMPT = "--- attempt"


class Ended(NamedTuple):
    """How a job ended.

    Attributes:
        folder: of the job.
        problem: why it has no results; empty if it has.
        final: whether it would end in the same way again.
    """

    folder: Path
    problem: str = ""
    final: bool = False


class Workers(Protocol):
    """Runs jobs, several at a time."""

    count: int

    def start(self, folder: Path) -> None:
        """Start the job of a folder."""
        ...

    def ended(self, wait_s: float) -> list[Ended]:
        """Jobs that have ended since the last call; waits up to `wait_s` seconds for the first."""
        ...

    def stop(self) -> None:
        """End all jobs that run."""
        ...


class Processes:
    """Processes of this machine, a fresh one per job."""

    def __init__(self, count: int = 0, imports: Sequence[str] = ()) -> None:
        """`count` at a time, by default as many as there are usable cores; `imports` are `--import` options of each."""
        self.count = whole(count, "workers", 0) or usable_cores()
        self._imports, self._running = list(imports), dict[Path, subprocess.Popen[bytes]]()

    def start(self, folder: Path) -> None:
        """See `Workers`."""
        command = [sys.executable, "-m", "robofuse.study.job", str(folder), *self._imports]
        with _open_log(folder) as log:
            self._running[folder] = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **ONE_THREAD},
                start_new_session=True,  # Ctrl-C comes to the runner alone, which ends the jobs
            )

    def ended(self, wait_s: float) -> list[Ended]:
        """See `Workers`."""
        until = time.monotonic() + wait_s
        while True:
            done = [folder for folder, process in self._running.items() if process.poll() is not None]
            if done or time.monotonic() >= until:
                return [self._end_of(folder) for folder in done]
            time.sleep(_POLL)

    def _end_of(self, folder: Path) -> Ended:
        process = self._running.pop(folder)
        _signal(process, signal.SIGKILL)  # what it has started and left behind
        if process.stdin:
            process.stdin.close()
        status = process.returncode
        said = last_line(folder / LOG)
        if status < 0:
            known = -status in signal.valid_signals()
            name = signal.Signals(-status).name if known else f"signal {-status}"
            return Ended(folder, f"killed by {name}" + (f"; its last line: {said}" if said else ""))
        return _ended(folder, status, said)

    def stop(self) -> None:
        """See `Workers`."""
        for process in self._running.values():
            _signal(process, signal.SIGTERM)
        until = time.monotonic() + _GRACE
        for process in self._running.values():
            with suppress(subprocess.TimeoutExpired):
                process.wait(max(until - time.monotonic(), 0.0))
            _signal(process, signal.SIGKILL)
            process.wait()
            if process.stdin:
                process.stdin.close()
        self._running.clear()


class OnRay:
    """A Ray cluster, of which every node sees the study's folder under the same path; a fresh process per job."""

    def __init__(self, address: str, count: int = 0, imports: Sequence[str] = ()) -> None:
        """Connect to a cluster, or start one here.

        Args:
            address: of the cluster; `local` starts one on this machine, `auto` finds one that runs.
            count: jobs at a time, by default as many as the cluster has cores.
            imports: `--import` options of each job.

        Raises:
            StateError: Ray is not installed; names the extra. Or there is no cluster.
        """
        try:
            import ray
        except ImportError:
            raise StateError("--ray needs Ray: pip install 'robofuse[ray]'") from None
        self._ray: Any = ray
        try:
            ray.init(
                address=address, runtime_env={"env_vars": ONE_THREAD}, log_to_driver=False, logging_level=logging.ERROR
            )
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise StateError(f"--ray {address}: {error}") from None
        self.count = whole(count, "workers", 0) or max(int(ray.cluster_resources().get("CPU", 1)), 1)
        # a process that has done a job is not used again; who runs it again when it dies is the runner
        self._run = ray.remote(num_cpus=1, max_calls=1, max_retries=0)(run_on_ray)
        self._imports, self._running = list(imports), dict[Any, Path]()

    def start(self, folder: Path) -> None:
        """See `Workers`."""
        self._running[self._run.remote(str(folder.resolve()), self._imports)] = folder

    def ended(self, wait_s: float) -> list[Ended]:
        """See `Workers`."""
        if not self._running:
            return []
        running = list(self._running)
        done, _ = self._ray.wait(running, num_returns=1, timeout=wait_s)
        return [self._end_of(one) for one in done]

    def _end_of(self, one: object) -> Ended:
        folder = self._running.pop(one)
        said = last_line(folder / LOG)
        try:
            status = self._ray.get(one)
        except self._ray.exceptions.RayError as error:
            *_, last = str(error).strip().splitlines() or [""]  # of a traceback, the line that names the error
            problem = last.strip() or type(error).__name__
            return Ended(folder, problem + (f"; its last line: {said}" if said else ""))
        return _ended(folder, status, said)

    def stop(self) -> None:
        """See `Workers`."""
        for one in self._running:
            self._ray.cancel(one, force=True)
        self._running.clear()
        self._ray.shutdown()


def run_on_ray(folder: str, imports: list[str]) -> int:
    """Do a job in a process of Ray, whose output goes to the job's log meanwhile; returns the exit status."""
    if not Path(folder).is_dir():
        raise FileNotFoundError(f"this node does not see {folder}; --out must be on a disk that all nodes share")
    with _open_log(Path(folder)) as log:
        before = [os.dup(descriptor) for descriptor in (1, 2)]
        for descriptor in (1, 2):
            os.dup2(log.fileno(), descriptor)
        try:
            return main([folder, *imports])
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            for descriptor, kept in zip((1, 2), before, strict=True):
                os.dup2(kept, descriptor)
                os.close(kept)


def _ended(folder: Path, status: int, said: str) -> Ended:
    if status == 0:
        return Ended(folder)
    return Ended(folder, said or f"ended with status {status} and said nothing", status == BLAMED)


def begin_log(folder: Path, attempt: int) -> None:
    """Say in the job's log which attempt begins."""
    with _open_log(folder) as log:
        log.write(f"{_ATTEMPT} {attempt}\n".encode())


def _open_log(folder: Path) -> IO[bytes]:
    return (folder / LOG).open("ab")


def last_line(path: Path, most: int = 300) -> str:
    """The last line that the last attempt wrote into a log, its first `most` characters; empty if it wrote none."""
    with suppress(OSError), path.open("rb") as file:
        file.seek(max(file.seek(0, os.SEEK_END) - 10_000, 0))
        lines = [line.strip() for line in file.read().decode(errors="replace").splitlines() if line.strip()]
        last = lines[-1][:most] if lines else ""
        return "" if last.startswith(_ATTEMPT) else last.removeprefix("error: ")
    return ""


def _signal(process: subprocess.Popen[bytes], which: signal.Signals) -> None:
    """To the process and all that it has started, in its session."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, which)
