"""Dead sensors: every set of live ones as a heat map, and deaths on the way."""

from collections.abc import Sequence
from itertools import combinations

from robofuse.report.evaluation import Condition, Evaluation
from robofuse.report.figures import draw_heat, shade
from robofuse.report.markup import (
    DASH,
    Html,
    Section,
    csv_file,
    file_name,
    join,
    percent,
    points,
    safe,
    span,
    table,
    tag,
)
from robofuse.report.sections.short import subsets
from robofuse.stats import paired_difference, retention


def dead(evaluations: Sequence[Evaluation]) -> Section | None:
    """Sensors that are announced dead, of every policy."""
    body: list[Html] = []
    files: dict[str, bytes] = {}
    for index, one in enumerate(evaluations, start=1):
        silenced = one.of("all", "dead", "dying")
        if not silenced:
            continue
        if len(evaluations) > 1:
            body.append(tag("h3", one.label))
        name = file_name("dead", str(index), one.label)
        heat, files[f"{name}.png"] = _heat(one)
        body += [heat, _violations(one)]
        if dying := one.of("dying"):
            head = ("condition", "success", "95 % interval", "retention", "points against all sensors (95 %)")
            rows = [(condition.name, *_against(condition, one.clean)) for condition in dying]
            body.append(table("Sensors that die on the way, from the step after @ on.", head, rows))
        head = ("condition", "live", "n", "successes", "success", "low", "high")
        plain = [(c.name, "+".join(sorted(c.live)), c.n, c.won, c.success, *c.interval) for c in silenced]
        files[f"{name}.csv"] = csv_file(head, plain)
    if not body:
        return None
    what = "The policy is told which sensors are dead, and does not read them."
    return Section("dead", "Dead sensors", join([tag("p", what), *body]), files)


def _heat(evaluation: Evaluation) -> tuple[Html, bytes]:
    """As a table, which a phone can show, and as a picture, for the files."""
    cells = {one.live: one for one in evaluation.of("all", "dead")}
    keys = evaluation.keys
    side = tuple(key for key in keys if key.split("_")[0] in ("rgb", "depth"))
    if not side or len(side) == len(keys):
        side = tuple(keys[: len(keys) // 2])
    head = tuple(key for key in keys if key not in side)
    # what was never played takes no room
    down = [some for some in _sets(side) if any(some == live & {*side} for live in cells)]
    along = [some for some in _sets(head) if any(some == live & {*head} for live in cells)]
    rows = [(_names(a), *(_cell(cells.get(a | b)) if a | b else tag("td") for b in along)) for a in down]
    text = (
        "Success [%] and its 95 % interval by the sensors that are alive, the others dead from the start. Dark is good."
    )
    picture = draw_heat([[cells.get(a | b) for b in along] for a in down], [*map(_names, down)], [*map(_names, along)])
    return table(text, ["live", *map(_names, along)], rows, "heat"), picture


def _cell(one: Condition | None) -> Html:
    if one is None:
        return tag("td", "not played", class_="none")
    colour, ink = shade(one.success)
    numbers = tag("b", f"{100 * one.success:.0f}"), tag("small", span(*one.interval, digits=0))
    return tag("td", *numbers, style=f"background:{colour};color:{ink}")


def _violations(evaluation: Evaluation) -> Html:
    found = subsets(evaluation)
    if not found.compared:
        return Html()
    said = (
        f"Of {found.compared} pairs of a set and a larger one around it, the smaller one did better in {found.raw}, "
        f"significantly in {len(found.pairs)} (Fisher's exact test, 5 % of false findings put up with)"
    )
    pairs = [
        f"{_names(pair.fewer)} beats {_names(pair.more)} by {points(pair.gain).lstrip('+')} points"
        for pair in found.pairs[:5]
    ]
    return tag("p", said, ": " + "; ".join(pairs) if pairs else "", ".")


def _against(one: Condition, clean: Condition | None) -> tuple[object, ...]:
    success = (percent(one.success), span(*one.interval))
    if clean is None:
        return (*success, DASH, DASH)
    change = paired_difference([e.success for e in clean.episodes], [e.success for e in one.episodes])
    gap = safe(f"{points(change.value)} ({span(change.low, change.high)})")
    return (*success, percent(retention(one.success, clean.success)), gap)


def _sets(keys: Sequence[str]) -> list[frozenset[str]]:
    return [frozenset(some) for count in range(len(keys), -1, -1) for some in combinations(keys, count)]


def _names(some: frozenset[str]) -> str:
    return " + ".join(sorted(some)) or "none of them"
