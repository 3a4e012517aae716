"""Several policies on the same scenes, side by side."""

import csv
import io
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from rich.table import Table

from robofuse.evaluate.folder import EPISODES
from robofuse.stats import Estimate, bootstrap, paired_difference, probability_of_improvement, wilson

Episodes = Mapping[str, list[bool]]  # condition → success by scene
COMPARISON = "comparison.csv"
_MANY = 40  # conditions; a longer table says less than one of their groups


def read_successes(folder: Path) -> dict[str, list[bool]]:
    """Success by condition and scene, from the folder of a complete evaluation."""
    found: dict[str, list[bool]] = {}
    with (folder / EPISODES).open(newline="") as lines:
        for row in csv.DictReader(lines):
            found.setdefault(row["condition"], []).append(row["success"] == "1")
    return found


def compare(results: Mapping[str, Episodes], groups: Mapping[str, str] | None = None) -> tuple[Table, str]:
    """Success of each policy with its interval, and by how much the first differs from it, scene by scene.

    Args:
        results: policy → its episodes; all of them on the same scenes. A condition that a policy lacks stays empty.
        groups: condition → its group; if there are many conditions, the table is one of groups.

    Returns:
        A table for the terminal, and the text of a CSV file.

    Raises:
        ValueError: of a condition that two policies share, they have not played as many scenes.
    """
    first, *_ = results
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    columns = ("success", "success_low", "success_high", "difference", "difference_low", "difference_high")
    writer.writerow(("condition", "policy", "n", *columns))
    table = _table(results)
    for condition, ours in results[first].items():
        cells = []
        for name in results:
            theirs = results[name].get(condition)
            if theirs is None:
                cells.append("")
                continue
            rate, (low, high) = sum(theirs) / len(theirs), wilson(sum(theirs), len(theirs))
            apart = paired_difference(theirs, ours)
            writer.writerow(
                (condition, name, len(theirs), rate, low, high, *(apart if name != first else ("", "", "")))
            )
            cells.append(f"{rate:.1%} ({low:.1%} to {high:.1%})")
            if name != first:
                cells[-1] += f"\n{first} {_apart(apart)}"
        table.add_row(condition, *cells)
    return (_overview(results, groups) if groups and len(results[first]) > _MANY else table), text.getvalue()


def _overview(results: Mapping[str, Episodes], groups: Mapping[str, str]) -> Table:
    """Mean success by group of conditions; of the others also how probably an episode of the first goes better."""
    first, *others = results
    common = [name for name in results[first] if all(name in theirs for theirs in results.values())]
    table = _table(results)
    for group in dict.fromkeys(groups[name] for name in common):
        names = [name for name in common if groups[name] == group]
        scores = {policy: np.array([theirs[name] for name in names], float).T for policy, theirs in results.items()}
        cells = []
        for policy, table_of in scores.items():
            mean = bootstrap(table_of, np.mean, paired=True)
            cells.append(f"{mean.value:.1%} ({mean.low:.1%} to {mean.high:.1%})")
            if policy in others:
                apart = bootstrap(scores[first] - table_of, np.mean, paired=True)
                better = probability_of_improvement(table_of, scores[first])
                cells[-1] += f"\n{first} {_apart(apart)}, better with probability {better.value:.2f}"
        table.add_row(f"{group} ({len(names)})", *cells)
    return table


def _table(policies: Iterable[str]) -> Table:
    table = Table("condition")
    for name in policies:
        table.add_column(name, justify="right")
    return table


def _apart(estimate: Estimate) -> str:
    return f"{estimate.value:+.1%} ({estimate.low:+.1%} to {estimate.high:+.1%})"
