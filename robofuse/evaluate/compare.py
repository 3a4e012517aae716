"""Several policies on the same scenes, side by side."""

import csv
import io
from collections.abc import Mapping
from pathlib import Path

from rich.table import Table

from robofuse.evaluate.folder import EPISODES
from robofuse.stats import paired_difference, wilson

Episodes = Mapping[str, list[bool]]  # condition → success by scene
COMPARISON = "comparison.csv"


def read_successes(folder: Path) -> dict[str, list[bool]]:
    """Success by condition and scene, from the folder of a complete evaluation."""
    found: dict[str, list[bool]] = {}
    with (folder / EPISODES).open(newline="") as lines:
        for row in csv.DictReader(lines):
            found.setdefault(row["condition"], []).append(row["success"] == "1")
    return found


def compare(results: Mapping[str, Episodes]) -> tuple[Table, str]:
    """Success of each policy with its interval, and by how much the first differs from it, scene by scene.

    Args:
        results: policy → its episodes; all of them on the same scenes. A condition that a policy lacks stays empty.

    Returns:
        A table for the terminal, and the text of a CSV file.

    Raises:
        ValueError: of a condition that two policies share, they have not played as many scenes.
    """
    first, *others = results
    table, text = Table(), io.StringIO()
    table.add_column("condition")
    for name in results:
        table.add_column(name, justify="right")
    writer = csv.writer(text, lineterminator="\n")
    columns = ("success", "success_low", "success_high", "difference", "difference_low", "difference_high")
    writer.writerow(("condition", "policy", "n", *columns))
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
                cells[-1] += f"\n{first} {apart.value:+.1%} ({apart.low:+.1%} to {apart.high:+.1%})"
        table.add_row(condition, *cells)
    return table, text.getvalue()
