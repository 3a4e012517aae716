"""Faults that a policy met in its training, and faults that are new to it."""

from collections.abc import Sequence

from robofuse.faults.mix import HELD_OUT, UNLEARNABLE
from robofuse.report.evaluation import Condition, Evaluation
from robofuse.report.findings import matrix
from robofuse.report.markup import DASH, Html, Section, csv_file, join, percent, points, safe, span, table, tag
from robofuse.stats import Estimate, bootstrap


def known(evaluations: Sequence[Evaluation]) -> Section | None:
    """Mean success over the faults that any of the policies met in training, and over the others.

    The faults are split alike for all policies, so that they can be compared.
    """
    met = [_met(one) for one in evaluations]
    if not any(met):
        return None
    trained = frozenset().union(*(some for some in met if some))
    common = [name for name in evaluations[0].conditions if all(name in one.conditions for one in evaluations)]
    split = {"met in training": _among(evaluations[0], common, trained, True)}
    split["new"] = _among(evaluations[0], common, trained, False)
    scenes = min(one.scenes for one in evaluations)
    rows, plain = [], []
    for one, some in zip(evaluations, met, strict=True):
        cells: list[Html] = []
        for title, names in split.items():
            mine = _mean(one, names, scenes)
            apart = _mean(one, names, scenes, evaluations[0]) if one is not evaluations[0] else None
            cells.append(_cell(mine, apart))
            plain.append((one.label, title, len(names), *(mine or ("", "", "")), *(apart or ("", "", ""))))
        count = "cannot be told" if some is None else f"{len(some)} faults" if some else "no faults"
        rows.append((one.label, count, *cells))
    head = ("policy", "trained on", *(f"{title} ({len(names)} conditions)" for title, names in split.items()))
    first = f" In brackets, where it differs: points from {evaluations[0].label}." if len(evaluations) > 1 else ""
    body = [
        tag(
            "p",
            "Training on faults is worth most where it helps against faults that were not in it. Mean success over the "
            "conditions, with 95 % intervals; announced deaths of whole sensors, against which sensor dropout trains, "
            "are not among them, nor readings that are not numbers, which only a monitor can keep from the network.",
        ),
        table(f"Mean success over {scenes} scenes.{first}", head, rows),
        _names("Met in training", sorted(trained)),
        _names("New", sorted({_kind(one) for one in _of(evaluations[0], split["new"])})),
        tag("p", f"What robofuse train --faults standard leaves out: {', '.join(sorted(HELD_OUT))}.", class_="note"),
    ]
    columns = ("policy", "faults", "conditions", "mean", "low", "high", "difference", "low", "high")
    return Section("known", "Faults of the training, and new ones", join(body), {"known.csv": csv_file(columns, plain)})


def _met(one: Evaluation) -> frozenset[str] | None:
    """Of the training's mix, such as `rgb:freeze`; None where it cannot be told."""
    found = one.record.get("trained_on")
    return frozenset(map(str, found)) if isinstance(found, list) else None


def _kind(condition: Condition) -> str:
    assert condition.event is not None
    return f"{condition.event[0]}:{condition.event[1]}"


def _of(one: Evaluation, names: Sequence[str]) -> list[Condition]:
    return [one.conditions[name] for name in names]


def _among(one: Evaluation, names: Sequence[str], trained: frozenset[str], inside: bool) -> list[str]:
    """Faults one at a time that `available` does not tell of."""
    single = [(c.name, c.event) for c in _of(one, names) if c.group == "fault" and c.event is not None]
    silent = [(name, f"{sensor}:{fault}", fault) for name, (sensor, fault, _, told) in single if told != "announced"]
    return [name for name, kind, fault in silent if fault not in UNLEARNABLE and (kind in trained) == inside]


def _mean(one: Evaluation, names: Sequence[str], scenes: int, beside: Evaluation | None = None) -> Estimate | None:
    """Mean success; minus that of another policy if there is one."""
    if not names:
        return None
    scores = matrix(_of(one, names), scenes)
    if beside is not None:
        scores = scores - matrix(_of(beside, names), scenes)
    return bootstrap(scores, lambda drawn: float(drawn.mean()), paired=True)


def _cell(mine: Estimate | None, apart: Estimate | None) -> Html:
    if mine is None:
        return safe(DASH)
    text = f"{percent(mine.value)} ({span(mine.low, mine.high)})"
    if apart is not None:
        text += f" [{points(apart.value)}: {span(apart.low, apart.high)}]"
    return safe(text)


def _names(title: str, names: Sequence[str]) -> Html:
    return tag("p", tag("b", f"{title}: "), ", ".join(names) or "none", ".")
