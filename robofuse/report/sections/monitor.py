"""The health monitor: what it finds, when, and whom it blames wrongly."""

from collections.abc import Sequence

from robofuse.report.evaluation import Evaluation
from robofuse.report.figures import draw_detection
from robofuse.report.findings import GRID
from robofuse.report.markup import (
    DASH,
    Html,
    Section,
    csv_file,
    details,
    file_name,
    join,
    number,
    percent,
    picture,
    table,
    tag,
)
from robofuse.report.watch import Watched, has_monitor, total, watch


def monitor(evaluations: Sequence[Evaluation]) -> Section | None:
    """Of every policy that one looked after."""
    body: list[Html] = []
    files: dict[str, bytes] = {}
    for index, one in enumerate(evaluations, start=1):
        if not has_monitor(one):
            continue
        if len(evaluations) > 1:
            body.append(tag("h3", one.label))
        name = file_name("monitor", str(index), one.label)
        rows = watch(one)
        body.append(_said(one, rows))
        severe = [(row.name, row.by_severity[1.0]) for row in rows if row.by_severity.get(1.0, (0, 0))[1]]
        if severe:
            severe.sort(key=lambda item: -item[1][0] / item[1][1])
            files[f"{name}.png"] = draw_detection([label for label, _ in severe], [counts for _, counts in severe])
            told = "; ".join(f"{label} {percent(found / affected, 0)}" for label, (found, affected) in severe)
            caption = "Share of the episodes in which a fault of severity 1 was found, with its 95 % interval."
            body.append(picture(files[f"{name}.png"], f"Faults found at severity 1: {told}.", caption))
        head = (
            "",
            *(f"found at {severity:g}" for severity in GRID),
            "median delay [steps]",
            "false alarms per 1,000 steps",
        )
        text = (
            "Found: share of the episodes that lasted beyond the onset of a fault of one sensor that is not announced. "
            "False alarms: switch-offs of healthy sensors, in brackets how many in how many control steps."
        )
        body.append(details("All figures", table(text, head, [_row(row) for row in rows])))
        files[f"{name}.csv"] = csv_file(
            ("what", "found", "struck", "delay", "false_alarms", "steps", "per_1000"),
            [(r.name, r.found, r.affected, r.delay, r.alarms, r.steps, r.per_thousand) for r in rows],
        )
    return Section("monitor", "Health monitor", join(body), files) if body else None


def _said(evaluation: Evaluation, rows: Sequence[Watched]) -> Html:
    everything = total(rows)
    parts = ["The monitor switches off sensors that it does not trust, and tells the policy."]
    if everything.affected:
        parts.append(
            f"Of {everything.affected:,} episodes with an unannounced fault of one sensor, it found the sensor "
            f"in {percent(everything.found / everything.affected)}, small severities included."
        )
    parts.append(f"Healthy sensors were switched off {_alarms(everything)} times per 1,000 control steps in all")
    quiet = next((row for row in rows if row.name == "all sensors well"), None)
    parts[-1] += f", {_alarms(quiet)} where nothing failed." if quiet else "."
    record = evaluation.record.get("monitor")
    aim = record.get("false_alarm_target") if isinstance(record, dict) else None
    if isinstance(aim, int | float):
        parts.append(f"It was calibrated for at most {1000 * aim:g}.")
    return tag("p", " ".join(parts))


def _row(row: Watched) -> tuple[object, ...]:
    found = [percent(a / b, 0) if b else DASH for a, b in (row.by_severity.get(s, (0, 0)) for s in GRID)]
    return (row.name, *found, number(row.delay, 1), _alarms(row))


def _alarms(row: Watched) -> str:
    return DASH if row.per_thousand is None else f"{row.per_thousand:.2f} ({row.alarms:,} in {row.steps:,})"
