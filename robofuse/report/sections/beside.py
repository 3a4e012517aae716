"""Policies side by side: each beside the first, on the same scenes."""

from collections.abc import Sequence

from robofuse.report.compare import Change, Comparison, compare
from robofuse.report.evaluation import Evaluation
from robofuse.report.figures import draw_scatter
from robofuse.report.markup import (
    Html,
    Section,
    csv_file,
    details,
    file_name,
    join,
    percent,
    picture,
    points,
    span,
    table,
    tag,
)
from robofuse.stats import Estimate

_SHOWN = 6  # rows from either end


def beside(evaluations: Sequence[Evaluation]) -> Section | None:
    """Every other policy beside the first one."""
    body: list[Html] = []
    files: dict[str, bytes] = {}
    for index, other in enumerate(evaluations[1:], start=2):
        found = compare(evaluations[0], other)
        name = file_name("beside", str(index), other.label)
        if len(evaluations) > 2:
            body.append(tag("h3", f"{other.label} beside {evaluations[0].label}"))
        if not found.changes:
            body.append(tag("p", "They have no condition in common."))
            continue
        files[f"{name}.png"] = draw_scatter(found)
        alt = f"Success of {found.second} over success of {found.first}, a mark per condition; the figures are below."
        caption = (
            "A mark per condition: star all sensors, circle dead, square dying, cross fault. Above the line "
            f"{found.second} does better. Black: the interval of the difference leaves 0 out."
        )
        body += [_said(found), picture(files[f"{name}.png"], alt, caption)]
        rows = [_row(change) for change in found.changes]
        head = ("condition", "points (95 %)", found.first, found.second)
        sure = [row for row, change in zip(rows, found.changes, strict=True) if change.sure]
        if sure:
            shown = sure if len(sure) <= 2 * _SHOWN else [*sure[:_SHOWN], *sure[-_SHOWN:]]
            which = "" if len(shown) == len(sure) else f": the first and the last {_SHOWN} of {len(sure)}"
            text = f"Where the interval of the difference leaves 0 out, largest losses first{which}."
            body.append(table(text, head, shown))
        body.append(details(f"All {len(rows)} conditions", table("Largest losses first.", head, rows)))
        plain = [(c.condition, c.group, c.first, c.second, *c.difference) for c in found.changes]
        columns = ("condition", "group", found.first, found.second, "difference", "low", "high")
        files[f"{name}.csv"] = csv_file(columns, plain)
    return Section("beside", "Side by side", join(body), files) if body else None


def _said(found: Comparison) -> Html:
    better = sum(change.difference.low > 0 for change in found.changes)
    worse = sum(change.difference.high < 0 for change in found.changes)
    count = len(found.changes)
    parts = [
        f"On the same {found.scenes} scenes, {found.second} does better than {found.first} under {better} of {count} "
        f"conditions and worse under {worse}, counting only intervals that leave 0 out; about {count / 20:.0f} of them "
        "would do so by chance."
    ]
    if found.middle is not None:
        parts.append(
            f"Over {found.faults} fault conditions its interquartile mean is {_points(found.middle)} points from that "
            f"of {found.first}."
        )
    if found.effective is not None:
        parts.append(
            f"Its effective robustness is {_points(found.effective)} points: its mean success under these faults, "
            f"beyond what its success with all sensors lets one expect if they took the same share as of {found.first}."
        )
    if found.alone:
        names = ", ".join(found.alone[:6]) + (f" and {len(found.alone) - 6} more" if len(found.alone) > 6 else "")
        parts.append(f"Conditions that only one of them has are left out: {names}.")
    return tag("p", " ".join(parts))


def _row(change: Change) -> tuple[object, ...]:
    return (change.condition, _points(change.difference), percent(change.first), percent(change.second))


def _points(estimate: Estimate) -> str:
    return f"{points(estimate.value)} ({span(estimate.low, estimate.high)})"
