"""What the jobs of a study found, read from its folder alone: interquartile means, differences, intervals."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from robofuse.errors import InputError
from robofuse.evaluate.folder import csv_text
from robofuse.stats import Estimate, bootstrap, iqm, probability_of_improvement
from robofuse.study.declare import Job, Study, read_study
from robofuse.study.job import LOG
from robofuse.study.runner import JOBS, read_hardware, read_metrics
from robofuse.study.workers import last_line

ALL_TASKS = "all tasks"
Cells = dict[tuple[str, str], "Cell"]  # (method, metric) → its cell


class Cell(NamedTuple):
    """A metric of a method, over seeds.

    Attributes:
        scores: (seeds, tasks), a column unless over all tasks.
        seeds: of the rows.
        middle: the interquartile mean.
        low: lower end of its interval; None where one seed tells no interval.
        high: upper end.
        difference: mean over seeds of this method less the baseline with the same seed; None where no seed is common.
        improvement: probability that a run of this method is better than one of the baseline.
    """

    scores: np.ndarray
    seeds: tuple[int, ...]
    middle: float
    low: float | None
    high: float | None
    difference: Estimate | None = None
    improvement: Estimate | None = None


@dataclass(frozen=True)
class Results:
    """The finished jobs of a study.

    Attributes:
        study: its declaration, with all seeds that were asked for.
        runs: finished job → metrics.
        missing: job without results → the last line of its log, empty if it was not begun.
        hardware: processor → how many jobs ran on it; empty where it was not noted.
    """

    study: Study
    runs: Mapping[Job, Mapping[str, float]]
    missing: Mapping[Job, str]
    hardware: Mapping[str, int]

    @property
    def metrics(self) -> list[str]:
        """All that were measured, the score first."""
        found = dict.fromkeys(name for metrics in self.runs.values() for name in metrics)
        return sorted(found, key=lambda name: (name != self.study.score, [*found].index(name)))

    @property
    def tasks(self) -> list[str]:
        """Those of the study, and all of them together where there are several."""
        return [*self.study.tasks, *([ALL_TASKS] if len(self.study.tasks) > 1 else [])]

    def summaries(self) -> dict[tuple[str, str], Cells]:
        """(budget, task) → what was found there, if anything was."""
        found = {(budget, task): self.cells(budget, task) for budget in self.study.budgets for task in self.tasks}
        return {place: cells for place, cells in found.items() if cells}

    def cells(self, budget: str, task: str) -> Cells:
        """What was found for a budget and a task, or all of them; (method, metric) without a finished job are left out.

        Intervals are of the stratified bootstrap over seeds, 95 %. Over all tasks, only seeds that are finished for
        each of them count.
        """
        tasks = [*self.study.tasks] if task == ALL_TASKS and task not in self.study.tasks else [task]
        found: Cells = {}
        for metric in self.metrics:
            tables = {method: self._table(method, tasks, budget, metric) for method in self.study.methods}
            seeds, theirs = tables[self.study.baseline]
            sign = -1.0 if self.study.is_lower_better(metric) else 1.0
            for method, (own_seeds, scores) in tables.items():
                if not own_seeds:
                    continue
                middle = bootstrap(scores) if len(own_seeds) > 1 else None
                cell = Cell(scores, own_seeds, iqm(scores), *(middle[1:] if middle else (None, None)))
                common = [seed for seed in own_seeds if seed in seeds]
                if method != self.study.baseline and len(common) > 1:
                    pairs = [scores[own_seeds.index(seed)] - theirs[seeds.index(seed)] for seed in common]
                    cell = cell._replace(
                        difference=bootstrap(pairs, np.mean),
                        improvement=probability_of_improvement(sign * theirs, sign * scores),
                    )
                found[method, metric] = cell
        return found

    def _table(self, method: str, tasks: Sequence[str], budget: str, metric: str) -> tuple[tuple[int, ...], np.ndarray]:
        """Seeds that are finished for all of these tasks, and (seeds, tasks) of the metric."""
        by_task = [
            {
                job.seed: metrics[metric]
                for job, metrics in self.runs.items()
                if (job.method, job.task, job.budget) == (method, task, budget) and metric in metrics
            }
            for task in tasks
        ]
        seeds = tuple(sorted(set.intersection(*map(set, by_task))))
        return seeds, np.array([[scores[seed] for scores in by_task] for seed in seeds], dtype=np.float64)


def read_results(folder: Path) -> Results:
    """Read the folder of a study.

    Raises:
        InputError: there is no study, it is damaged, or none of its jobs is finished.
    """
    study = read_study(folder)
    runs, missing, hardware = dict[Job, Mapping[str, float]](), dict[Job, str](), Counter[str]()
    for job in study.jobs():
        metrics = read_metrics(folder / JOBS / job.name)
        if metrics is None:
            missing[job] = last_line(folder / JOBS / job.name / LOG)
        else:
            runs[job] = metrics
            hardware[read_hardware(folder / JOBS / job.name)] += 1
    if not runs:
        raise InputError(f"no job in {folder} is finished yet")
    return Results(study, runs, missing, hardware)


def runs_csv(results: Results) -> str:
    """A line per finished job with all its metrics."""
    names = results.metrics
    rows = [
        (job.method, job.task, job.budget, job.seed, *(metrics.get(name, "") for name in names))
        for job, metrics in results.runs.items()
    ]
    return csv_text(("method", "task", "budget", "seed", *names), rows)


def summary_csv(summaries: Mapping[tuple[str, str], Cells]) -> str:
    """A line per budget, task, method and metric: interquartile mean, difference from the baseline, and intervals."""
    rows = []
    for (budget, task), cells in summaries.items():
        for (method, metric), cell in cells.items():
            apart = [*(cell.difference or ("",) * 3), *(cell.improvement or ("",) * 3)]
            ends = ("" if end is None else end for end in (cell.low, cell.high))
            rows.append((budget, task, method, metric, len(cell.seeds), cell.middle, *ends, *apart))
    names = ("iqm", "difference", "improvement")
    columns = [f"{name}{end}" for name in names for end in ("", "_low", "_high")]
    return csv_text(("budget", "task", "method", "metric", "seeds", *columns), rows)
