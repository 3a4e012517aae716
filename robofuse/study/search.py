"""Searching the options of a study with Optuna: every trial of the search is a method, its jobs are those of a grid.

Trials are asked for in batches of a fixed size, each by a sampler with a seed of its own, and told in the order of
their numbers: what is tried depends neither on the number of workers, nor on interruptions, nor on whether one search
was for 10 trials or for 6 and then for 4 more.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console

from robofuse.errors import InputError, StateError
from robofuse.evaluate.folder import csv_text
from robofuse.files import write_atomic
from robofuse.stats import iqm
from robofuse.study.declare import Job, Study, in_files
from robofuse.study.runner import Grid, run_grid
from robofuse.study.screen import Screen
from robofuse.study.workers import Workers

SEARCH, STORAGE, TRIED, BEST, SPACE = "search", "optuna.log", "trials.csv", "best.json", "space.json"
BATCH = 4  # trials that are asked for before one of them is told
_START = 8  # trials that are drawn at random before the sampler learns


class Best(NamedTuple):
    """The best trial of a search.

    Attributes:
        number: of the trial.
        score: interquartile mean over the seeds, tasks and budgets of the study.
        options: that were varied.
    """

    number: int
    score: float
    options: Mapping[str, Any]


def check_search(study: Study, method: str) -> None:
    """See that it can be searched.

    Raises:
        InputError: the study has no space, or no such method.
        StateError: Optuna is not installed; names the extra.
    """
    if not study.space:
        raise InputError(f"study {study.name} declares no space to search; give it space={{option: …}}")
    study.jobs([method])
    try:
        import optuna  # noqa: F401
    except ImportError:
        raise StateError("--search needs Optuna: pip install 'robofuse[search]'") from None


def search(
    study: Study,
    method: str,
    folder: Path,
    workers: Workers,
    count: int,
    *,
    retries: int = 2,
    console: Console,
) -> tuple[Best | None, int]:
    """Try values of the study's space on top of the options of a method; goes on with what is in the folder.

    Args:
        study: that can be searched, see `check_search`.
        method: its label.
        folder: of the study.
        workers: that run the jobs.
        count: trials in all.
        retries: how often a job is run again.
        console: shows how far the jobs of a batch are.

    Returns:
        The best trial, None if none has ended; and the exit status of a program that was asked to stop, else 0.

    Raises:
        InputError: the folder holds a search of another space.
    """
    import optuna
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend
    from optuna.trial import TrialState

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    where = Path(SEARCH, in_files(method))
    place = folder / where
    _check_space(place / SPACE, study)
    sign = "minimize" if study.is_lower_better(study.score) else "maximize"
    found = optuna.create_study(
        storage=JournalStorage(JournalFileBackend(str(place / STORAGE))),
        study_name=study.name,
        direction=sign,
        load_if_exists=True,
    )
    status = 0
    while not status:
        # of a batch that was interrupted, or is larger than what is left of the count, those come first that wait
        waiting, asked = found.get_trials(states=(TrialState.RUNNING,)), len(found.trials)
        if asked % BATCH or not waiting and asked < count:
            first = asked - asked % BATCH  # the sampler of a batch that was killed while it was asked for begins anew
            found.sampler = optuna.samplers.TPESampler(seed=first, n_startup_trials=_START, constant_liar=True)
            distributions = {name: _distribution(choice) for name, choice in study.space.items()}
            for _ in range(BATCH - asked % BATCH):
                found.ask(distributions)
            waiting = found.get_trials(states=(TrialState.RUNNING,))
        batch = [trial for trial in waiting if trial.number < count]
        if not batch:
            break
        tried = {f"trial {trial.number}": _values(study, trial.params) for trial in batch}
        base = study.methods[method]
        some = replace(study, methods={name: {**base, **options} for name, options in tried.items()}, baseline="")
        with Screen(console, some) as screen:
            grid = run_grid(some, some.jobs(), folder, workers, retries=retries, watch=screen.show, where=str(where))
        status = grid.status
        if not status:
            for trial in sorted(batch, key=lambda one: one.number):
                score = _score(some, grid, f"trial {trial.number}")
                state = TrialState.FAIL if score is None else TrialState.COMPLETE
                found.tell(trial.number, score, state=state)
    return _write(place, study, found.trials, sign == "minimize"), status


def _score(study: Study, grid: Grid, label: str) -> float | None:
    """Of a trial; None if one of its jobs has failed."""
    jobs = [job for job in grid.jobs if job.method == label]
    if any(job not in grid.metrics for job in jobs):
        return None
    return iqm([_metric(study, job, grid.metrics[job]) for job in jobs])


def _metric(study: Study, job: Job, metrics: Mapping[str, float]) -> float:
    if study.score not in metrics:
        raise InputError(f"{job.name} has not measured {study.score}; it has {', '.join(metrics)}")
    return metrics[study.score]


def _write(place: Path, study: Study, trials: Sequence[Any], lower: bool) -> Best | None:
    """Write all trials and the best one."""
    names = [*study.space]
    rows = [
        (trial.number, trial.state.name.lower(), "" if trial.value is None else trial.value,
         *(_values(study, trial.params).get(name, "") for name in names))
        for trial in trials if trial.state.is_finished()
    ]  # fmt: skip
    write_atomic(place / TRIED, csv_text(("trial", "state", study.score, *names), rows))
    ended = [trial for trial in trials if trial.value is not None and math.isfinite(trial.value)]
    if not ended:
        return None
    first = min(ended, key=lambda trial: (trial.value if lower else -trial.value, trial.number))
    best = Best(first.number, first.value, _values(study, first.params))
    write_atomic(place / BEST, json.dumps(best._asdict(), indent=1) + "\n")
    return best


def _distribution(choice: Sequence[Any]) -> Any:  # noqa: ANN401
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if choice[0] == "choice":
        return CategoricalDistribution([json.dumps(value) for value in choice[1]])  # Optuna keeps no lists
    kind = FloatDistribution if choice[0] == "float" else IntDistribution
    return kind(choice[1], choice[2], log=choice[3])


def _values(study: Study, params: Mapping[str, Any]) -> dict[str, Any]:
    """What Optuna has chosen, as options."""
    return {name: json.loads(value) if study.space[name][0] == "choice" else value for name, value in params.items()}


def _check_space(path: Path, study: Study) -> None:
    """Note the space and the seeds in the folder; InputError if it holds others."""
    told = {"space": study.space, "seeds": list(study.seeds), "score": study.score}
    if not path.exists():
        write_atomic(path, json.dumps(told, indent=1) + "\n")
        return
    try:
        old = json.loads(path.read_text(encoding="utf-8"))
        changed = [
            f"{key} {json.dumps(old[key])}, now {json.dumps(told[key])}" for key in told if old[key] != told[key]
        ]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} cannot be read: {error}") from None
    if changed:
        raise InputError(f"{path.parent} holds another search: {'; '.join(changed)}; give another --out")
