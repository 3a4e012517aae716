"""In short: the verdict, and the key figures of every policy."""

import html
from collections.abc import Sequence

from robofuse.report.evaluation import Condition, Evaluation
from robofuse.report.findings import KEPT, Verdict, curves, judge
from robofuse.report.markup import DASH, Html, Section, csv_file, join, number, percent, safe, span, table, tag
from robofuse.stats import Violations, monotonicity_violations, retention, worst


def short(evaluations: Sequence[Evaluation], gaps: int) -> Section:
    """The verdict of each, and a table; `gaps` is how many things are missing."""
    verdicts = [judge(one) for one in evaluations]
    body = [
        tag("p", sentence(one, verdict), class_="verdict") for one, verdict in zip(evaluations, verdicts, strict=True)
    ]
    columns = [_figures(one, verdict) for one, verdict in zip(evaluations, verdicts, strict=True)]
    rows = [(name, *(column[name] for column in columns)) for name in columns[0]]
    labels = [one.label for one in evaluations]
    body.append(table("Key figures, with 95 % intervals in brackets.", ["", *labels], rows, "key"))
    body.append(
        tag(
            "p",
            "The worst of several measured figures lies on average a little below its true value. Intervals are "
            "Wilson's for a single success rate; for figures over several conditions, scenes were drawn anew for all "
            "conditions together (bootstrap, 2,000 draws). They tell what other scenes would have given, not what "
            "another training would have.",
            class_="note",
        )
    )
    if gaps:
        what = "one thing was" if gaps == 1 else f"{gaps} things were"
        body.append(tag("p", f"Mind that {what} not measured: ", tag("a", "what is missing", href="#missing"), "."))
    plain = [[html.unescape(cell).replace("\N{NO-BREAK SPACE}", " ") for cell in row] for row in rows]
    files = {"figures.csv": csv_file(["figure", *labels], plain)}
    return Section("short", "In short", join(body), files)


def sentence(evaluation: Evaluation, verdict: Verdict) -> Html:
    """The verdict on one policy."""
    name = tag("b", evaluation.label)
    clean = verdict.clean
    if clean is None:
        return join([name, " was not measured with all sensors, so there is nothing to compare failures with."], "")
    parts = [join([f"With all sensors, in {clean.n} scenes, ", name, " succeeds in ", _rate(clean)], "")]
    if verdict.dead is not None:
        lost = " and ".join(verdict.dead.dead_from)
        parts.append(join([f"without the sensor that it misses most, {lost}, in ", _rate(verdict.dead)], ""))
    if verdict.dying is not None:
        lost = " and ".join(f"{key} from step {step} on" for key, step in verdict.dying.dead_from.items())
        parts.append(
            join(["when a sensor dies on the way, in at worst ", _rate(verdict.dying), f", without {lost}"], "")
        )
    if verdict.kept is not None:
        count = round(verdict.kept.value * verdict.faults)
        parts.append(
            join(
                [
                    f"{count} of {verdict.faults} fault conditions (",
                    tag("b", percent(verdict.kept.value, 0)),
                    f"; {span(verdict.kept.low, verdict.kept.high, 0)}) leave it at least {percent(KEPT, 0)} of that",
                ],
                "",
            )
        )
    return join([join(parts, "; "), "."], "")


def subsets(evaluation: Evaluation) -> Violations:
    """Where fewer live sensors do better than more, all of it from the start."""
    some = [one for one in evaluation.of("all", "dead") if one.live]
    return monotonicity_violations({one.live: (one.won, one.n) for one in some})


def _rate(one: Condition) -> Html:
    return join([tag("b", percent(one.success)), f" ({span(*one.interval)})"], "")


def _figures(evaluation: Evaluation, verdict: Verdict) -> dict[str, Html]:
    clean = verdict.clean
    found = {"scenes": safe(evaluation.scenes), "all sensors": _cell(clean)}
    for name, one in (
        ("worst single sensor dead", verdict.dead),
        ("worst pair dead", verdict.pair),
        ("worst death on the way", verdict.dying),
    ):
        found[name] = _cell(one, one.name if one else "")
        kept = retention(one.success, clean.success) if one and clean else None
        found[f"{name}: retention"] = safe(percent(kept))
    kept, middle = verdict.kept, verdict.middle
    found[f"faults that leave {percent(KEPT, 0)} of it"] = (
        safe(DASH) if kept is None else safe(f"{percent(kept.value)} ({span(kept.low, kept.high)})")
    )
    found["interquartile mean over the faults"] = (
        safe(DASH) if middle is None else safe(f"{percent(middle.value)} ({span(middle.low, middle.high)})")
    )
    robust = {f"{key[0]}: {key[1]}": one.robustness for key, one in curves(evaluation).items()}
    known = {name: value for name, value in robust.items() if value is not None}
    found["relative robustness, mean over faults"] = safe(number(sum(known.values()) / len(known) if known else None))
    lowest = worst(known) if known else None
    found["relative robustness, worst fault"] = safe(f"{number(lowest.value)}, {lowest.name}" if lowest else DASH)
    violations = subsets(evaluation)
    found["pairs in which fewer sensors do better"] = safe(
        f"{len(violations.pairs)} significant, {violations.raw} at all, of {violations.compared}"
        if violations.compared
        else DASH
    )
    jolts = {f"{key[0]}: {key[1]}": one.jerk for key, one in curves(evaluation).items()}
    hard = {name: -value for name, value in jolts.items() if value is not None}
    jolt = worst(hard) if hard else None
    found["jerk at the onset, worst fault"] = safe(f"{number(-jolt.value, 1)} ×, {jolt.name}" if jolt else DASH)
    return found


def _cell(one: Condition | None, name: str = "") -> Html:
    if one is None:
        return safe(DASH)
    return safe(f"{percent(one.success)} ({span(*one.interval)})" + (f", {name}" if name else ""))
