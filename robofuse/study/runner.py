"""Runs the jobs of a grid: those that are not finished, again where a worker died, and says what failed."""

import json
import os
import signal
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from robofuse.errors import InputError
from robofuse.files import write_atomic
from robofuse.interrupts import Interrupt
from robofuse.study.declare import Job, Study
from robofuse.study.job import JOB, PROGRESS, RESULT
from robofuse.study.registry import find_trial
from robofuse.study.workers import Workers, begin_log

JOBS, PREPARED = "jobs", "prepared"
_WAIT = 0.5  # seconds between two looks at the workers


@dataclass
class Grid:
    """How far the jobs of a study are.

    Attributes:
        jobs: all of them.
        metrics: of those that are finished.
        failed: why those that are given up have no results.
        running: those that run, and how far each is, from 0 to 1.
        again: how often a job was started again.
        status: exit status of a program that was asked to stop, else 0.
    """

    jobs: Sequence[Job]
    metrics: dict[Job, Mapping[str, float]] = field(default_factory=dict)
    failed: dict[Job, str] = field(default_factory=dict)
    running: dict[Job, float] = field(default_factory=dict)
    again: int = 0
    status: int = 0

    @property
    def left(self) -> int:
        """Jobs that have neither results nor failed."""
        return len(self.jobs) - len(self.metrics) - len(self.failed)


def run_grid(
    study: Study,
    jobs: Sequence[Job],
    folder: Path,
    workers: Workers,
    *,
    retries: int = 2,
    watch: Callable[[Grid], None] = lambda grid: None,
    where: str = JOBS,
) -> Grid:
    """Run the jobs that are not finished, and first what they share; returns when all have ended or failed.

    Ctrl-C and SIGTERM make it return early; the next call begins anew what had not ended.

    Args:
        study: that they belong to.
        jobs: of it.
        folder: of the study, which the caller has locked.
        workers: that run them; the caller stops them in the end.
        retries: how often a job is run again, after its worker has died or an error.
        watch: called at every change, and now and then.
        where: the folder of their folders, in that of the study.

    Raises:
        InputError: the folder of a job holds another one, or cannot be written.
    """
    grid, shares = Grid(jobs), find_trial(study.trial).prepare is not None
    folders, needed = dict[Path, Job](), dict[Path, list[Path]]()
    for job in jobs:
        path, shared = folder / where / job.name, folder / PREPARED / study.shared_name(job.task)
        told = {"trial": study.trial, "method": job.method, "task": job.task, "budget": job.budget, "seed": job.seed}
        _write_job(path, {**told, "prepared": os.path.relpath(shared, path) if shares else "", "options": job.options})
        if (found := read_metrics(path)) is not None:
            grid.metrics[job] = found
        elif mistakes := study.mistakes(job):
            grid.failed[job] = mistakes
        else:
            folders[path] = job
            if shares and read_metrics(shared) is None:
                _write_job(shared, {"trial": study.trial, "seed": None, "options": study.shared_options(job.task)})
                needed.setdefault(shared, []).append(path)
    with Interrupt(signal.SIGINT, signal.SIGTERM) as interrupt:
        run = _Run(grid, workers, retries, watch, interrupt)
        for shared, problem in run.work(needed, {}).items():
            for path in needed[shared]:
                grid.failed[folders.pop(path)] = f"what it needs could not be prepared: {problem}"
        run.work(folders, folders)
    grid.running.clear()
    grid.status = interrupt.status
    watch(grid)
    return grid


class _Run(NamedTuple):
    """What runs jobs, see `run_grid`."""

    grid: Grid
    workers: Workers
    retries: int
    watch: Callable[[Grid], None]
    interrupt: Interrupt

    def work(self, folders: Iterable[Path], jobs: Mapping[Path, Job]) -> dict[Path, str]:
        """Run what is in these folders, jobs of the grid if they are among `jobs`; returns why which have failed."""
        waiting, running = deque(folders), set[Path]()
        tries: dict[Path, int] = dict.fromkeys(waiting, 0)
        failed: dict[Path, str] = {}
        while (waiting or running) and not self.interrupt.asked:
            while waiting and len(running) < self.workers.count:
                path = waiting.popleft()
                tries[path] += 1
                begin_log(path, tries[path])
                self.workers.start(path)
                running.add(path)
            self.grid.running = {jobs[path]: _progress(path) for path in running if path in jobs}
            self.watch(self.grid)
            for path, problem, final in self.workers.ended(_WAIT):
                running.remove(path)
                found = read_metrics(path)
                if found is not None:  # whatever happened to the process after it had written them
                    if path in jobs:
                        self.grid.metrics[jobs[path]] = found
                elif final or tries[path] > self.retries:
                    times = f" (after {tries[path]} attempts)" if tries[path] > 1 else ""
                    failed[path] = f"{problem or f'it ended without a {RESULT}'}{times}"
                    if path in jobs:
                        self.grid.failed[jobs[path]] = failed[path]
                else:  # behind all others, so that the rest of the grid goes on
                    waiting.append(path)
                    self.grid.again += 1
        return failed


def read_metrics(folder: Path) -> dict[str, float] | None:
    """The results of a job, None if it is not finished; InputError if they are damaged."""
    path = folder / RESULT
    if not path.exists():
        return None
    try:
        return {name: float(value) for name, value in json.loads(path.read_text(encoding="utf-8"))["metrics"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path} is damaged: {error}; delete it to have the job run again") from None


def read_hardware(folder: Path) -> str:
    """The processor that a finished job ran on; empty if that was not noted."""
    try:
        machine = json.loads((folder / RESULT).read_text(encoding="utf-8"))["machine"]
        return f"{machine['cpu']}, {machine['cores']} cores"
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def _write_job(folder: Path, told: Mapping[str, object]) -> None:
    path = folder / JOB
    if not path.exists():
        write_atomic(path, json.dumps(told, indent=1) + "\n")
        return
    try:
        same = json.loads(path.read_text(encoding="utf-8")) == told
    except (OSError, ValueError):
        same = False
    if not same:
        raise InputError(f"{path} is damaged, or of another job; delete {folder}, or give another --out")


def _progress(folder: Path) -> float:
    try:
        return float((folder / PROGRESS).read_text())
    except (OSError, ValueError):
        return 0.0
