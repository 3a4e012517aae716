"""Evaluating what several training seeds have given: a folder of trainings, and how surely each condition goes well."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from rich.table import Table
from rich.text import Text

from robofuse.errors import InputError
from robofuse.evaluate.figures import new_figure, to_png
from robofuse.evaluate.folder import csv_text
from robofuse.evaluate.results import ConditionResult
from robofuse.evaluate.screen import estimated, percent
from robofuse.stats import Estimate, bootstrap

SEEDS, SEEDS_PICTURE = "seeds.csv", "seeds.png"
_LEVELS = ("*", "*/run", "jobs/*/run")  # of trainings beside each other, and as a study or a sweep leaves them
_BEST, _FINAL, _CONFIG = "best.safetensors", "final.safetensors", "config.json"  # a finished training has the second
_SEED = re.compile(r"[_-]?seed[_-]?(\d+)$")

Results = Mapping[str, ConditionResult]


def trainings_in(folder: str) -> dict[str, Path]:
    """The policies of a folder of trainings, its own name of each → path; empty if it is no such folder.

    `robofuse train --seeds` and `robofuse sweep` leave such folders. Of each the best policy counts, or its last one if
    it was not validated.

    Raises:
        InputError: there is a single one, or some are not finished.
    """
    path = Path(folder).expanduser()
    if not path.is_dir() or any((path / name).is_file() for name in (_CONFIG, _BEST, "latest.safetensors")):
        return {}
    found, waiting = dict[str, Path](), list[str]()
    for level in _LEVELS:
        for run in sorted(path.glob(level)):
            name = run.parent.name if run.name == "run" else run.name
            if (run / _FINAL).is_file():
                found[name] = run / (_BEST if (run / _BEST).is_file() else _FINAL)
            elif (run / _CONFIG).is_file() or level.startswith("jobs"):
                waiting.append(name)
    if waiting:
        raise InputError(f"{folder}: {', '.join(waiting)} not finished; finish these trainings first")
    if len(found) == 1:
        raise InputError(f"{folder} holds one training; evaluate {next(iter(found.values())).parent}")
    return found


def by_method(names: Sequence[str]) -> dict[str, list[str]]:
    """What differs in nothing but its seed, together: `lr-0.1_Grasp_seed3` belongs to `lr-0.1_Grasp`."""
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(_SEED.sub("", name) or "seeds", []).append(name)
    return groups


def seeds_table(results: Mapping[str, Results]) -> tuple[Table, str]:
    """Success of each condition over the training seeds of each method.

    The interval is of the mean over trainings: it tells what other seeds would give on these scenes, and is no better
    than its few seeds (bootstrap over trainings, Agarwal et al. 2021).

    Returns:
        A table for the terminal, and the text of a CSV file with every training's success.
    """
    groups, rows = by_method([*results]), list[tuple]()
    table = Table("condition", box=None, pad_edge=False)
    for method, names in groups.items():
        table.add_column(f"{method}: mean over {len(names)}")
        table.add_column("lowest")
    for condition in next(iter(results.values())):
        cells = list[str]()
        for method, names in groups.items():
            rates = [results[name][condition].rate for name in names]
            over = _over(rates)
            ends = over[1:] if len(names) > 1 else ("", "")  # one seed tells no interval
            cells += [estimated(over) if len(names) > 1 else percent(over.value), percent(min(rates))]
            rows.append((condition, method, "mean", len(names), over.value, *ends))
            rows += [(condition, method, name, results[name][condition].n, rate, *results[name][condition].interval)
                     for name, rate in zip(names, rates, strict=True)]  # fmt: skip
        table.add_row(*map(Text, (condition, *cells)))
    return table, csv_text(("condition", "method", "training", "n", "success", "success_low", "success_high"), rows)


def draw_seeds(results: Mapping[str, Results]) -> bytes:
    """A PNG: a dot per training for each condition, with the mean and its interval over the trainings."""
    groups, conditions = by_method([*results]), [*next(iter(results.values()))]
    figure, axes = new_figure(7.0, 1.0 + 0.28 * len(conditions) * len(groups))
    labels, places = list[str](), list[float]()
    for number, condition in enumerate(conditions):
        for part, (method, names) in enumerate(groups.items()):
            rates = [100.0 * results[name][condition].rate for name in names]
            over, place = _over(rates), number * len(groups) + part + 0.4 * number
            axes.plot(rates, [place] * len(rates), "o", color=f"C{part}", alpha=0.35, markersize=5)
            axes.errorbar(over.value, place, xerr=[[over.value - over.low], [over.high - over.value]],
                          fmt="|", color=f"C{part}", capsize=3, markersize=11)  # fmt: skip
            labels.append(f"{condition} ({method})" if len(groups) > 1 else condition)
            places.append(place)
    axes.set_yticks(places, labels)
    axes.invert_yaxis()
    axes.set_xlim(-2, 102)
    axes.set_xlabel("success [%]: dots are trainings, bars their mean and 95 % interval", fontsize=8)
    return to_png(figure)


def _over(rates: Sequence[float]) -> Estimate:
    return bootstrap(np.array(rates)[:, None], np.mean)
