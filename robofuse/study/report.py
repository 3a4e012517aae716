"""The page of a study, its figures and tables, made from its folder alone."""

from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from robofuse import __version__
from robofuse.errors import InputError
from robofuse.files import write_atomic
from robofuse.study.declare import in_files
from robofuse.study.registry import find_trial
from robofuse.study.results import Cells, Results, read_results, runs_csv, summary_csv
from robofuse.study.words import (
    Table,
    chance_of,
    difference_of,
    differences_table,
    group_of,
    groups_of,
    is_share,
    key_table,
    methods_with,
    metrics_table,
    middle_of,
    options_table,
    place_of,
)

PAGE, TEXT, RUNS, SUMMARY, FIGURES = "report.html", "report.md", "runs.csv", "summary.csv", "figures"
SCORE = "methods"  # the file of the figure of the score
STATISTICS = (
    "Interquartile means over seeds, with 95 % intervals of the stratified bootstrap (Agarwal et al. 2021). "
    "Differences are means over the seeds that both have, seed by seed; ▲ better and ▼ worse where their interval "
    "leaves 0 out. P(better) is the probability that a run of the method is better than one of the baseline, ties "
    "counting half, and its interval."
)


class Figure(NamedTuple):
    """A file, its content, and what it shows in words."""

    file: str
    png: bytes
    words: str


class Place(NamedTuple):
    """What the page shows of one budget and one task.

    Attributes:
        name: in words, empty where there is one only.
        sentence: the best score there.
        tables: key figures, and the group of metrics that the score is in.
        more: tables of all other metrics, and differences.
        figures: of the score, and of its group.
        others: of the other groups.
    """

    name: str
    sentence: str
    tables: list[Table]
    more: list[Table]
    figures: list[Figure]
    others: list[Figure]


def write_report(folder: Path) -> list[Path]:
    """Write the page, the same as Markdown, figures and tables into the folder of a study; returns the files.

    Raises:
        InputError: there is no study, none of its jobs is finished, or the folder cannot be written.
    """
    results = read_results(folder)
    summaries = results.summaries()
    places = [_place(results, budget, task, cells) for (budget, task), cells in summaries.items()]
    curves = _curves(results, summaries)
    files: dict[str, bytes | str] = {
        RUNS: runs_csv(results),
        SUMMARY: summary_csv(summaries),
        **{f"{FIGURES}/{one.file}": one.png for place in places for one in (*place.figures, *place.others)},
        **{f"{FIGURES}/{one.file}": one.png for one in curves},
        TEXT: markdown(results, places),
        PAGE: page(results, places, curves),
    }
    return [write_atomic(folder / name, content) for name, content in files.items()]


def _place(results: Results, budget: str, task: str, cells: Cells) -> Place:
    from robofuse.study.figures import draw_methods, draw_score

    study, name = results.study, place_of(budget, task)
    measured = dict.fromkeys(metric for _, metric in cells)
    groups = groups_of(metric for metric in results.metrics if metric in measured)  # the score is the first of all
    figures = dict[str, Figure]()
    for group, metrics in groups.items():
        png = draw_methods(cells, methods_with(study, cells, metrics), metrics, study.baseline)
        words = ", ".join(part for part in (group or "other metrics", name) if part)
        figures[group] = Figure(_file(group or "other", task, budget), png, words)
    shown = list[Figure]()
    if methods := methods_with(study, cells, [study.score]):
        words = ", ".join(part for part in (study.score, name) if part)
        shown.append(Figure(_file(SCORE, task, budget), draw_score(cells, methods, study), words))
    main = groups.pop(group_of(study.score), [])
    if len(main) > 1:
        shown.append(figures.pop(group_of(study.score)))
    tables = [key_table(results, cells, name)] + ([metrics_table(study, cells, main, name)] if len(main) > 1 else [])
    more = [differences_table(study, cells, main, name)] if len(main) > 1 else []
    for metrics in groups.values():
        more += [metrics_table(study, cells, metrics, name), differences_table(study, cells, metrics, name)]
    return Place(
        name, best(results, cells), tables, [table for table in more if table.rows], shown, [*figures.values()]
    )


def _curves(results: Results, summaries: Mapping[tuple[str, str], Cells]) -> list[Figure]:
    """The score over the budgets, for every task; none for more methods than lines can be told apart."""
    from robofuse.study.figures import MOST_LINES, draw_budgets

    study, found = results.study, list[Figure]()
    if len(study.budgets) < 2 or len(study.methods) > MOST_LINES:
        return found
    for task in results.tasks:
        if by_budget := {one: summaries[one, task] for one in study.budgets if (one, task) in summaries}:
            words = ", ".join(part for part in (f"{study.score} over budgets", task) if part)
            png = draw_budgets(by_budget, [*study.methods], study.score)
            found.append(Figure(_file("budgets", task), png, words))
    return found


def best(results: Results, cells: Cells) -> str:
    """In a sentence, which method has the best score, and how sure that is beside the baseline."""
    study, score = results.study, results.study.score
    found = {method: cells[method, score] for method in study.methods if (method, score) in cells}
    if not found:
        return f"No finished job has measured {score}."
    sign = -1.0 if study.is_lower_better(score) else 1.0
    unit, points = (" %", " points") if is_share(score) else ("", "")
    first = max(found, key=lambda method: sign * found[method].middle)
    text = f"{first} has the best {score}: {middle_of(score, found[first], unit)}"
    if study.baseline not in found:
        return f"{text}; the baseline {study.baseline} has no finished job."
    if first == study.baseline:
        return f"{text}; it is the baseline."
    text += f"; the baseline {study.baseline} has {middle_of(score, found[study.baseline], unit)}"
    if found[first].difference is None:
        return f"{text}. One seed in common tells no interval."
    apart, chance = difference_of(study, score, found[first], points), chance_of(found[first])
    return f"{text}. Difference, seed by seed: {apart}; probability of improvement {chance}."


def markdown(results: Results, places: list[Place]) -> str:
    """The tables for a page of documentation."""
    study = results.study
    parts = [f"# {study.title}", "", study.question, "", measured(results), "", STATISTICS, ""]
    for place in places:
        parts += [f"## {place.name}", ""] if place.name else []
        parts += [place.sentence, "", *(table.markdown() for table in (*place.tables, *place.more))]
    parts += [options_table(study).markdown()]
    if results.missing:
        parts += [missing_table(results).markdown()]
    return "\n".join(parts)


def measured(results: Results) -> str:
    """What was done how often, and on which hardware, in sentences."""
    study = results.study
    seeds = ", ".join(map(str, study.seeds))
    about = ""
    with suppress(InputError):  # a kind of trial that this program does not know
        about = find_trial(study.trial).about(study.base)
    hardware = "; ".join(f"{name or 'not noted'} ({count} jobs)" for name, count in results.hardware.items())
    parts = (f"{len(results.runs)} jobs of the kind {study.trial}, with the seeds {seeds}.", about)
    return " ".join(part for part in (*parts, f"Hardware: {hardware}.") if part)


def missing_table(results: Results) -> Table:
    """Jobs without results."""
    rows = [(job.name, line or "not begun, or it said nothing") for job, line in results.missing.items()]
    return Table("Jobs without results", ("job", "last line of its log"), rows)


def page(results: Results, places: list[Place], curves: list[Figure]) -> str:
    """The page, which loads nothing else."""
    from robofuse.evaluate.report import templates
    from robofuse.evaluate.sections import Picture

    return (
        templates("robofuse.study", "robofuse.evaluate")
        .get_template("study.html")
        .render(
            study=results.study,
            places=places,
            curves=curves,
            picture=lambda figure: Picture(figure.png, figure.words),
            options=options_table(results.study),
            missing=missing_table(results),
            statistics=STATISTICS,
            measured=measured(results),
            done=len(results.runs),
            made=f"Written by robofuse {__version__} on {datetime.now(UTC):%Y-%m-%d}.",
            beside=f"{RUNS}, {SUMMARY}, {TEXT} and {FIGURES}/",
        )
    )


def _file(*parts: str) -> str:
    return "_".join(in_files(part) for part in parts if part) + ".png"
