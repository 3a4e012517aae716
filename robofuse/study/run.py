"""`robofuse study`: the grid of a study, its results and its page."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console

from robofuse.checks import whole
from robofuse.errors import InputError
from robofuse.files import lock
from robofuse.plugins import import_options, import_plugin
from robofuse.study.declare import Job, Study, check_seeds, read_study, write_study
from robofuse.study.job import LOG
from robofuse.study.registry import find_trial
from robofuse.study.report import PAGE, write_report
from robofuse.study.runner import JOBS, run_grid
from robofuse.study.screen import Screen, score_table
from robofuse.study.search import BEST, SEARCH, TRIED, check_search, search
from robofuse.study.studies import STUDIES
from robofuse.study.words import is_share, written
from robofuse.study.workers import OnRay, Processes, Workers


@dataclass(frozen=True)
class RunStudy:
    """Which study to run, and where.

    The same command goes on with what is not finished. Further seeds and methods may be added; jobs that are finished
    are not run again.

    Attributes:
        name: Of a study that comes along; see --list.
        file: A study of your own, as FILE.py:NAME of a `robofuse.study.Study`.
        out: The study's folder; by default runs/study-NAME.
        workers: Jobs at a time; 0 is as many as there are cores. The results do not depend on it.
        ray: Run the jobs on a Ray cluster; its address, auto, or local to start one here.
        retries: How often a job is run again after its worker has died.
        methods: Only these; by default all, and for --search the baseline.
        tasks: Only these.
        budgets: Only these.
        seeds: In place of the study's.
        report: Run nothing; make the page, its figures and tables again from the folder.
        search: Instead of the grid, try that many values of the study's space on top of one method, by Optuna.
        list: List the studies that come along.
    """

    name: Annotated[str, tyro.conf.Positional] = ""
    file: str = ""
    out: Path | None = None
    workers: int = 0
    ray: str = ""
    retries: int = 2
    methods: tuple[str, ...] = ()
    tasks: tuple[str, ...] = ()
    budgets: tuple[str, ...] = ()
    seeds: tuple[int, ...] = ()
    report: bool = False
    search: int = 0
    list: bool = False


def run_study(config: RunStudy) -> int:
    """Run a study, or list those there are.

    Returns:
        Exit status: 0, 1 if a job has failed, 130 after Ctrl-C, 143 after SIGTERM.

    Raises:
        InputError, StateError: options that do not fit, or a folder with another study; the message says what would.
    """
    console = Console(highlight=False, markup=False, soft_wrap=True)
    if config.list:
        for study in STUDIES.values():
            console.print(f"{study.name}: {study.title}. {study.question}")
        return 0
    if config.report and config.out and not (config.name or config.file):  # the folder tells which study it is
        return _report_only(console, config.out)
    study = find_study(config)
    folder = config.out or Path("runs", f"study-{study.name}")
    if config.report:
        return _report_only(console, folder, study.name)
    return run_declared(study, config, folder)


def run_declared(study: Study, config: RunStudy, folder: Path) -> int:
    """Run a study into a folder; what it is called in `config`, and whether to list, are not looked at.

    Returns, raises: as `run_study`.
    """
    console = Console(highlight=False, markup=False, soft_wrap=True)
    whole(config.retries, "retries", 0)
    whole(config.search, "search", 0)
    find_trial(study.trial)
    jobs, method = study.jobs(config.methods, config.tasks, config.budgets), ""
    if config.search:
        if len(config.methods) > 1:
            raise InputError(f"--search takes one of --methods, got {', '.join(config.methods)}")
        method = config.methods[0] if config.methods else study.baseline
        check_search(study, method)
    with lock(folder, "study"):
        workers = make_workers(config)
        try:
            write_study(folder, study)
            if config.search:
                return _search(console, config, study, method, folder, workers)
            return _grid(console, config, study, jobs, folder, workers)
        finally:
            workers.stop()


def _grid(console: Console, config: RunStudy, study: Study, jobs: Sequence[Job], folder: Path, workers: Workers) -> int:
    shown = f"{study.name}: {len(jobs)} jobs of the kind {study.trial}, {workers.count} at a time, in {folder}"
    console.print(shown, style="bold")
    with Screen(console, study) as screen:
        grid = run_grid(study, jobs, folder, workers, retries=config.retries, watch=screen.show)
    console.print(score_table(study, grid))
    if grid.metrics:
        _report(console, folder)
    if grid.status:
        left = f"{grid.left} of {len(jobs)} jobs are left"
        console.print(f"interrupted: {left}; the same command goes on from there", style="yellow")
    elif grid.failed:
        logs = f"{folder / JOBS}/…/{LOG}"
        console.print(f"{len(grid.failed)} of {len(jobs)} jobs failed, see {logs}; the same command tries them again")
    return grid.status or int(bool(grid.failed))


def _report(console: Console, folder: Path) -> None:
    page, *_ = [path for path in write_report(folder) if path.name == PAGE]
    console.print(f"wrote {page}, and its tables and figures beside it")


def _report_only(console: Console, folder: Path, name: str = "") -> int:
    """Of the study of this name; InputError if the folder holds another one."""
    found = read_study(folder).name
    if name and found != name:
        raise InputError(f"{folder} holds the study {found}, not {name}")
    with lock(folder, "study"):
        _report(console, folder)
    return 0


def _search(console: Console, config: RunStudy, study: Study, method: str, folder: Path, workers: Workers) -> int:
    shown = f"{study.name}: {config.search} trials of {', '.join(study.space)} on top of {method}, in {folder}"
    console.print(shown, style="bold")
    best, status = search(study, method, folder, workers, config.search, retries=config.retries, console=console)
    if best is None:
        console.print("no trial has ended")
        return status or 1
    options = ", ".join(
        f"{name} = {value:.4g}" if isinstance(value, float) else f"{name} = {value}"
        for name, value in best.options.items()
    )
    found = written(study.score, best.score) + (" %" if is_share(study.score) else "")
    console.print(f"best: trial {best.number} with {options}: {study.score} {found}")
    console.print(f"wrote {folder / SEARCH}: {TRIED} and {BEST}")
    return status


def find_study(config: RunStudy) -> Study:
    """The study that is asked for, by name or in a file; InputError lists what there is."""
    if bool(config.name) == bool(config.file):
        raise InputError(f"name one study, or give a --file; studies: {', '.join(STUDIES)}")
    if config.file:
        path, _, name = config.file.rpartition(":")
        if not path or not name.isidentifier():
            raise InputError(f"--file takes FILE.py:NAME, got {config.file}")
        module = import_plugin(path)
        study = getattr(module, name, None)
        if not isinstance(study, Study):
            there = [name for name, value in vars(module).items() if isinstance(value, Study)]
            raise InputError(f"--file {config.file}: no study of that name; {path} has {', '.join(there) or 'none'}")
    elif config.name in STUDIES:
        study = STUDIES[config.name]
    else:
        raise InputError(f"unknown study {config.name}; studies: {', '.join(STUDIES)}; yours: --file FILE.py:NAME")
    return replace(study, seeds=check_seeds(config.seeds)) if config.seeds else study


def make_workers(config: RunStudy) -> Workers:
    """Processes here, or a Ray cluster."""
    imports = shlex.split(import_options())
    return OnRay(config.ray, config.workers, imports) if config.ray else Processes(config.workers, imports)
