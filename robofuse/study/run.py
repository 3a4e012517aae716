"""`robofuse study`: the grid of a study, its results and its page."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console

from robofuse.errors import InputError
from robofuse.files import lock
from robofuse.plugins import import_options, import_plugin
from robofuse.study.declare import Study, check_seeds, write_study
from robofuse.study.registry import find_trial
from robofuse.study.runner import run_grid
from robofuse.study.studies import STUDIES
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
        methods: Only these; by default all.
        tasks: Only these.
        budgets: Only these.
        seeds: In place of the study's.
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
    study = find_study(config)
    find_trial(study.trial)
    jobs = study.jobs(config.methods, config.tasks, config.budgets)
    folder = config.out or Path("runs", f"study-{study.name}")
    with lock(folder, "study"):
        write_study(folder, study)
        workers = make_workers(config)
        try:
            grid = run_grid(study, jobs, folder, workers, retries=config.retries)
        finally:
            workers.stop()
    for job, problem in grid.failed.items():
        console.print(f"failed: {job.name}: {problem}")
    return grid.status or int(bool(grid.failed))


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
    import shlex

    imports = shlex.split(import_options())
    return OnRay(config.ray, config.workers, imports) if config.ray else Processes(config.workers, imports)
