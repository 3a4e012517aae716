"""Faults by severity: a small panel for every fault of every sensor, and the figures."""

from collections.abc import Sequence

from robofuse.report.evaluation import Condition, Evaluation
from robofuse.report.figures import draw_curve, draw_legend
from robofuse.report.findings import GRID, Curve, curves
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
    span,
    table,
    tag,
)
from robofuse.stats import retention

_Key = tuple[str, str, str, str]


def faults(evaluations: Sequence[Evaluation]) -> Section | None:
    """All but announced deaths, of every policy."""
    found = [curves(one) for one in evaluations]
    if not any(one.of("fault") for one in evaluations):
        return None
    body = [
        tag(
            "p",
            "Success [%] against the severity of the fault, with 95 % intervals; severity 0 is the success with all "
            "sensors well. Unless it says “announced”, the policy is not told. R is the relative robustness: the area "
            "under the curve, as a share of what it would be if the fault cost nothing.",
        )
    ]
    files: dict[str, bytes] = {}
    labels = [one.label for one in evaluations]
    keys = list(dict.fromkeys(key for some in found for key in some))
    onsets = {key[2] for key in keys}
    same = len(onsets) == 1  # then it need not be said of each
    if same:
        body.append(tag("p", f"All of them set in at control step {onsets.pop()}."))
    if len(labels) > 1:
        files["legend.png"] = draw_legend(labels)
        body.append(picture(files["legend.png"], "Legend: " + ", ".join(labels)))
    for sensor in dict.fromkeys(key[0] for key in keys):
        panels = []
        for key in [key for key in keys if key[0] == sensor]:
            lines = [(index, some[key]) for index, some in enumerate(found) if key in some]
            if any(len(curve.points) > 1 for _, curve in lines):
                name = file_name("curve", *key[:3], *([key[3]] if key[3] == "announced" else [])) + ".png"
                files[name] = draw_curve(lines)
                panels.append(picture(files[name], _alt(key, lines, labels), _caption(key, lines, same)))
        if panels:
            body += [tag("h3", sensor), tag("div", join(panels), class_="panels")]
    single = [key for key in keys if all(len(some[key].points) == 1 for some in found if key in some)]
    if single:
        rows = [(f"{key[0]}: {key[1]}{_when(key)}", *(_single(some.get(key)) for some in found)) for key in single]
        body.append(table("Faults that were played at one severity only.", ["fault", *labels], rows))
    for one, some in zip(evaluations, found, strict=True):
        if some:
            body.append(details(f"All figures of {one.label}", _figures(some)))
        if others := [condition for condition in one.of("fault") if condition.event is None]:
            body.append(_combined(one, others))
    files["curves.csv"] = _csv(evaluations, found)
    return Section("faults", "Faults by severity", join(body), files)


def _caption(key: _Key, lines: Sequence[tuple[int, Curve]], brief: bool) -> Html:
    when = _when((*key[:2], "", key[3])) if brief else _when(key)
    robust = [number(curve.robustness) for _, curve in lines]
    return join([tag("b", key[1]), when, Html("<br>"), f"R {' / '.join(robust)}"], "")


def _single(curve: Curve | None) -> str:
    if curve is None:
        return DASH
    ((severity, one),) = curve.points.items()
    return f"{percent(one.success)} ({span(*one.interval)})" + ("" if severity == 1 else f" at {severity:g}")


def _when(key: _Key) -> str:
    when = f" from step {key[2]}" if key[2] else ""
    return when + (", announced" if key[3] == "announced" else "")


def _alt(key: _Key, lines: Sequence[tuple[int, Curve]], labels: Sequence[str]) -> str:
    told = []
    for index, curve in lines:
        points = {0.0: curve.clean, **curve.points} if curve.clean else curve.points
        rates = ", ".join(f"{percent(one.success, 0)} at {severity:g}" for severity, one in points.items())
        told.append(f"{labels[index]} {rates}")
    return f"{key[1]} of {key[0]}{_when(key)}, success by severity: {'; '.join(told)}."


def _figures(some: dict[_Key, Curve]) -> Html:
    rows = []
    ordered = sorted(some.items(), key=lambda item: (item[0][0], item[1].points[max(item[1].points)].success))
    for key, curve in ordered:
        severest = curve.points[max(curve.points)]
        kept = retention(severest.success, curve.clean.success) if curve.clean else None
        rates = [percent(curve.points[s].success) if s in curve.points else DASH for s in GRID]
        jerk = DASH if curve.jerk is None else f"{curve.jerk:.1f} ×"
        low_high = span(*severest.interval)
        rows.append(
            (f"{key[0]}: {key[1]}{_when(key)}", *rates, low_high, percent(kept), number(curve.robustness), jerk)
        )
    severities = [f"at {severity:g}" for severity in GRID]
    head = ("fault", *severities, "95 % interval at the severest", "retention there", "R", "jerk at the onset there")
    text = (
        "Success by severity. Jerk: how abruptly the policy acts in the step in which the fault sets in, as a multiple "
        "of that with all sensors well."
    )
    return table(text, head, rows)


def _combined(evaluation: Evaluation, others: Sequence[Condition]) -> Html:
    clean = evaluation.clean
    rows = [
        (
            one.name,
            percent(one.success),
            span(*one.interval),
            percent(retention(one.success, clean.success) if clean else None),
        )
        for one in sorted(others, key=lambda one: one.success)
    ]
    head = ("faults", "success", "95 % interval", "retention")
    return table(f"{evaluation.label}: several faults at a time.", head, rows)


def _csv(evaluations: Sequence[Evaluation], found: Sequence[dict[_Key, Curve]]) -> bytes:
    head = ("policy", "sensor", "fault", "onset", "announced", "severity", "n", "successes", "success", "low", "high")
    rows = []
    for one, some in zip(evaluations, found, strict=True):
        for key, curve in some.items():
            points = {0.0: curve.clean, **curve.points} if curve.clean else curve.points
            robust, jerk = curve.robustness, curve.jerk
            for severity, point in points.items():
                shared = (one.label, *key, severity, point.n, point.won, point.success, *point.interval)
                rows.append((*shared, "" if robust is None else robust, "" if jerk is None else jerk))
    return csv_file((*head, "relative_robustness", "jerk_ratio"), rows)
