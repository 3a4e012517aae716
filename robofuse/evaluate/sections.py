"""The sections of the report: each collects what its macro in `templates/sections.html` shows, and files beside it."""

import base64
import json
import shlex
from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import TYPE_CHECKING, Any, NamedTuple

from robofuse.evaluate.findings import (
    KEPT,
    Change,
    Curve,
    Verdict,
    Watched,
    compare,
    curves,
    hardest,
    judge,
    kind_of,
    mean_success,
    not_measured,
    replay_command,
    seen_and_new,
    total,
    violations,
    watch,
    when,
)
from robofuse.evaluate.folder import csv_text
from robofuse.evaluate.results import ConditionResult, Evaluation, Event
from robofuse.evaluate.screen import DASH, change, estimated, number, percent, points, span
from robofuse.faults.mix import HELD_OUT, SEVERITIES

if TYPE_CHECKING:
    from markupsafe import Markup

_SCENES = 10  # hard ones that are listed
_CHANGES = 6  # from either end of the comparison
_CARD = ("steps", "seconds", "updates", "date", "validation_episodes", "algorithm")  # what the page says of a training
_OPTIONS = ("task", "robot", "seed", "preset", "steps")
_GROUPS = ("masking", "failures", "network")
Films = Mapping[tuple[str, int], tuple[bytes, bool] | str]  # (label, scene) → a film and its success, or why not


class Section(NamedTuple):
    """A part of the page: its macro and anchor, its heading, what the macro shows, files beside the page."""

    name: str
    title: str
    data: dict[str, Any]
    files: dict[str, bytes]


class Picture(NamedTuple):
    """A PNG that is part of the page, and what it shows, in words."""

    png: bytes
    alt: str

    @property
    def source(self) -> str:
        """As an address."""
        return f"data:image/png;base64,{base64.b64encode(self.png).decode()}"

    @property
    def width(self) -> int:
        """In pixels of a page, which are 1/96 inch."""
        from robofuse.evaluate.figures import DPI

        return round(int.from_bytes(self.png[16:20], "big") * 96 / DPI)


def sections_of(evaluations: Sequence[Evaluation], films: Films) -> list[Section]:
    """Every section that has something to say; `films` are of hard scenes."""
    gaps = [not_measured(one) for one in evaluations]
    sections = [
        _short(evaluations, sum(map(len, gaps))),
        _sensors(evaluations),
        _faults(evaluations),
        _seen(evaluations),
        _beside(evaluations),
        _monitor(evaluations),
        _scenes(evaluations, films),
        Section("missing", "What is missing", {"gaps": gaps}, {}),
        Section("method", "How it was measured", {"facts": _facts(evaluations)}, {}),
    ]
    return [section for section in sections if section is not None]


def _rate(one: ConditionResult | None, name: str = "") -> str:
    """Success and its interval."""
    return DASH if one is None else f"{percent(one.rate)} ({span(one.interval)})" + (f", {name}" if name else "")


def _code(text: object) -> "Markup":
    from markupsafe import Markup

    return Markup("<code>{}</code>").format(text)


def _csv(head: Sequence[str], rows: Sequence[Sequence[object]]) -> bytes:
    return csv_text(head, rows).encode("utf-8", "replace")


def _file_name(*words: object) -> str:
    """A name without what file systems or shells stumble over."""
    return "-".join(
        "".join(c if c.isascii() and c.isalnum() else "-" for c in str(word)[:60]).strip("-") for word in words
    )


def _short(evaluations: Sequence[Evaluation], gaps: int) -> Section:
    """The verdict of each, and a table; `gaps` is how many things are missing."""
    verdicts = [judge(one) for one in evaluations]
    columns = [_key_figures(one, verdict) for one, verdict in zip(evaluations, verdicts, strict=True)]
    rows = [(name, *(column[name] for column in columns)) for name in columns[0]]
    labels = [one.label for one in evaluations]
    plain = [[cell.replace("\N{NO-BREAK SPACE}", " ") for cell in row] for row in rows]
    data = {"verdicts": list(zip(labels, verdicts, strict=True)), "kept": KEPT, "rows": rows, "gaps": gaps}
    return Section("short", "In short", data, {"figures.csv": _csv(["figure", *labels], plain)})


def _key_figures(evaluation: Evaluation, verdict: Verdict) -> dict[str, str]:
    clean = verdict.clean
    found = {"scenes": str(evaluation.scenes), "all sensors": _rate(clean)}
    for name, one in (
        ("worst single sensor missing", verdict.single),
        ("worst pair missing", verdict.pair),
        ("worst failure on the way, announced", verdict.midway),
    ):
        found[name] = _rate(one, one.condition if one else "")
        found[f"{name}: retention"] = percent(one.retention if one else None)
    found[f"faults that leave {percent(KEPT, 0)} of it"] = estimated(verdict.kept)
    found["interquartile mean over the faults"] = estimated(verdict.middle)
    named = {kind_of(event).replace(":", ": "): curve for event, curve in curves(evaluation).items()}
    robust = {name: value for name, curve in named.items() if (value := curve.robustness) is not None}
    found["relative robustness, mean over faults"] = number(fmean(robust.values()) if robust else None)
    lowest = min(robust, key=lambda name: robust[name], default="")
    found["relative robustness, worst fault"] = f"{number(robust[lowest])}, {lowest}" if robust else DASH
    pairs = violations(evaluation)
    found["pairs in which fewer sensors do better"] = (
        f"{len(pairs.pairs)} significant, {pairs.raw} at all, of {pairs.compared}" if pairs.compared else DASH
    )
    jolts = {name: value for name, curve in named.items() if (value := curve.jerk) is not None}
    jolt = max(jolts, key=lambda name: jolts[name], default="")
    found["jerk at the onset, worst fault"] = f"{number(jolts[jolt], 1)} ×, {jolt}" if jolts else DASH
    return found


def _sensors(evaluations: Sequence[Evaluation]) -> Section | None:
    """Sensors that are missing, announced: every set of live ones as a heat map, and failures on the way."""
    from robofuse.evaluate.figures import draw_heatmap, heat_grid, shade

    policies, files = [], {}
    head = ("condition", "live", "n", "successes", "success", "low", "high")
    for index, one in enumerate(evaluations, start=1):
        some = one.of("all", "missing", "midway")
        if not some:
            continue
        name = _file_name("sensors", index, one.label)
        picture = draw_heatmap(some, one.keys, f"{one.label}: success by live sensors", f"{one.scenes} scenes")
        files |= {f"{name}.png": picture} if picture else {}
        rows = [(c.condition, "+".join(sorted(c.live)), c.n, c.successes, c.rate, *c.interval) for c in some]
        files[f"{name}.csv"] = _csv(head, rows)
        midway = [
            (c.condition, percent(c.rate), span(c.interval), percent(c.retention), change(c.change))
            for c in one.of("midway")
        ]
        heat = heat_grid(some, one.keys)
        policies.append({"label": one.label, "grid": heat, "violations": violations(one), "midway": midway})
    return Section("sensors", "Missing sensors", {"policies": policies, "shade": shade}, files) if policies else None


def _faults(evaluations: Sequence[Evaluation]) -> Section | None:
    """Faults by severity, of all policies: a small panel for every fault of every sensor, and the figures."""
    from robofuse.evaluate.figures import draw_curve, draw_legend

    if not any(one.of("fault") for one in evaluations):
        return None
    found, labels = [curves(one) for one in evaluations], [one.label for one in evaluations]
    events = list(dict.fromkeys(event for some in found for event in some))
    onsets = {event.onset for event in events}
    same = len(onsets) == 1  # then it need not be said of each
    files: dict[str, bytes] = {}
    if len(labels) > 1:
        files["legend.png"] = draw_legend(labels)
    panels: dict[str, list[dict[str, Any]]] = {}
    single = []
    for event in events:
        lines = [(index, some[event]) for index, some in enumerate(found) if event in some]
        if all(len(curve.points) == 1 for _, curve in lines):
            cells = [_at_one_severity(some.get(event)) for some in found]
            single.append((kind_of(event).replace(":", ": ") + when(event), *cells))
            continue
        word = ["announced"] if event.announced else []
        name = _file_name("curve", event.sensor, event.fault, "" if event.onset is None else event.onset, *word)
        png = files[f"{name}.png"] = draw_curve([(index, curve.line) for index, curve in lines])
        robust = " / ".join(number(curve.robustness) for _, curve in lines)
        panel = {"picture": Picture(png, _in_words(event, lines, labels)), "fault": event.fault, "robust": robust}
        panels.setdefault(event.sensor, []).append(panel | {"when": when(event, onset=not same)})
    combined = [
        [
            (c.condition, percent(c.rate), span(c.interval), percent(c.retention))
            for c in sorted(one.of("fault"), key=lambda one: one.rate)
            if c.event is None
        ]
        for one in evaluations
    ]
    files["curves.csv"] = _curves_csv(evaluations, found)
    data = {
        "onset": onsets.pop() if same else None,
        "legend": Picture(files["legend.png"], "Legend: " + ", ".join(labels)) if len(labels) > 1 else None,
        "panels": panels,
        "single": single,
        "policies": list(zip(labels, map(_curve_rows, found), combined, strict=True)),
        "severities": [f"at {severity:g}" for severity in SEVERITIES],
    }
    return Section("faults", "Faults by severity", data, files)


def _at_one_severity(curve: Curve | None) -> str:
    if curve is None:
        return DASH
    ((severity, one),) = curve.points.items()
    return _rate(one) + ("" if severity == 1 else f" at {severity:g}")


def _in_words(event: Event, lines: Sequence[tuple[int, Curve]], labels: Sequence[str]) -> str:
    told = []
    for index, curve in lines:
        rates = ", ".join(f"{percent(one.rate, 0)} at {severity:g}" for severity, one in curve.line.items())
        told.append(f"{labels[index]} {rates}")
    return f"{event.fault} of {event.sensor}{when(event)}, success by severity: {'; '.join(told)}."


def _curve_rows(some: Mapping[Event, Curve]) -> list[tuple[str, ...]]:
    rows = []
    for event, curve in sorted(some.items(), key=lambda item: (item[0].sensor, item[1].severest.rate)):
        rates = [percent(curve.points[s].rate) if s in curve.points else DASH for s in SEVERITIES]
        last = (span(curve.severest.interval), percent(curve.severest.retention), number(curve.robustness))
        jerk = DASH if curve.jerk is None else f"{curve.jerk:.1f} ×"
        rows.append((kind_of(event).replace(":", ": ") + when(event), *rates, *last, jerk))
    return rows


def _curves_csv(evaluations: Sequence[Evaluation], found: Sequence[Mapping[Event, Curve]]) -> bytes:
    head = ("policy", "sensor", "fault", "onset", "announced", "severity", "n", "successes", "success", "low", "high")
    rows = []
    for one, some in zip(evaluations, found, strict=True):
        for event, curve in some.items():
            told = (event.sensor, event.fault, event.onset, "announced" if event.announced else "not announced")
            for severity, point in curve.line.items():
                row = (one.label, *told, severity, point.n, point.successes, point.rate, *point.interval)
                rows.append((*row, curve.robustness, curve.jerk))
    return _csv((*head, "relative_robustness", "jerk_ratio"), rows)


def _seen(evaluations: Sequence[Evaluation]) -> Section | None:
    """Mean success over the faults that any of the policies met in training, and over the others.

    The faults are split alike for all policies, so that they can be compared.
    """
    seen = [one.record.seen_faults for one in evaluations]
    if not any(seen):
        return None
    trained = frozenset().union(*(some for some in seen if some))
    split = seen_and_new(evaluations, trained)
    titles = {True: "met in training", False: "new"}
    scenes = min(one.scenes for one in evaluations)
    rows, plain = [], []
    for one, some in zip(evaluations, seen, strict=True):
        cells = []
        for inside, conditions in split.items():
            names = [condition.condition for condition in conditions]
            mine = mean_success(one, names, scenes) if names else None
            apart = mean_success(one, names, scenes, evaluations[0]) if names and one is not evaluations[0] else None
            cells.append(estimated(mine) + (f" [{points(apart.value)}: {span(apart)}]" if apart else ""))
            plain.append((one.label, titles[inside], len(names), *(mine or ("", "", "")), *(apart or ("", "", ""))))
        count = "cannot be told" if some is None else f"{len(some)} faults" if some else "no faults"
        rows.append((one.label, count, *cells))
    data = {
        "head": ("policy", "trained on", *(f"{titles[inside]} ({len(split[inside])} conditions)" for inside in split)),
        "rows": rows,
        "scenes": scenes,
        "first": evaluations[0].label if len(evaluations) > 1 else None,
        "seen": sorted(trained),
        "new": sorted({kind_of(one.event) for one in split[False] if one.event}),
        "held_out": sorted(HELD_OUT),
    }
    head = ("policy", "faults", "conditions", "mean", "low", "high", "difference", "low", "high")
    return Section("seen", "Faults of the training, and new ones", data, {"seen.csv": _csv(head, plain)})


def _beside(evaluations: Sequence[Evaluation]) -> Section | None:
    """Every other policy beside the first one, on the same scenes."""
    from robofuse.evaluate.figures import draw_scatter

    others, files = [], {}
    for index, other in enumerate(evaluations[1:], start=2):
        found = compare(evaluations[0], other)
        name = _file_name("beside", index, other.label)
        if found.changes:
            files[f"{name}.png"] = draw_scatter(found)
            columns = ("condition", "group", found.first, found.second, "difference", "low", "high")
            plain = [(c.condition, c.group, c.first, c.second, *c.difference) for c in found.changes]
            files[f"{name}.csv"] = _csv(columns, plain)
        sure = [change for change in found.changes if change.sure]
        shown = sure if len(sure) <= 2 * _CHANGES else [*sure[:_CHANGES], *sure[-_CHANGES:]]
        alt = f"Success of {found.second} over success of {found.first}, a mark per condition; the figures are below."
        others.append(
            {
                "found": found,
                "better": sum(change.difference.low > 0 for change in sure),
                "sure": len(sure),
                "shown": list(map(_change_row, shown)),
                "rows": list(map(_change_row, found.changes)),
                "picture": Picture(files[f"{name}.png"], alt) if found.changes else None,
            }
        )
    return Section("beside", "Side by side", {"others": others, "ends": _CHANGES}, files) if others else None


def _change_row(one: Change) -> tuple[str, ...]:
    return (one.condition, change(one.difference), percent(one.first), percent(one.second))


def _monitor(evaluations: Sequence[Evaluation]) -> Section | None:
    """The health monitor of every policy that had one: what it finds, when, and which healthy sensors it blames."""
    from robofuse.evaluate.figures import draw_detection

    policies, files = [], {}
    for index, one in enumerate(evaluations, start=1):
        if one.record.monitor is None:
            continue
        rows, picture = watch(one), None
        name = _file_name("monitor", index, one.label)
        severe = [(row.name, row.by_severity[1.0]) for row in rows if row.by_severity.get(1.0, (0, 0))[1]]
        if severe:
            severe.sort(key=lambda item: -item[1][0] / item[1][1])
            names, counts = zip(*severe, strict=True)
            png = files[f"{name}.png"] = draw_detection(names, counts)
            told = "; ".join(f"{label} {percent(found / affected, 0)}" for label, (found, affected) in severe)
            picture = Picture(png, f"Faults found at severity 1: {told}.")
        aim = one.record.monitor.get("false_alarm_target")
        policies.append(
            {
                "label": one.label,
                "total": total(rows),
                "alarms": _alarms(total(rows)),
                "quiet": next((_alarms(row) for row in rows if row.name == "all sensors well"), None),
                "aim": f"{1000 * aim:g}" if isinstance(aim, int | float) else None,
                "picture": picture,
                "rows": list(map(_monitor_row, rows)),
            }
        )
        head = ("what", "found", "affected", "delay", "false_alarms", "steps", "per_1000")
        plain = [(r.name, r.found, r.affected, r.delay, r.alarms, r.steps, r.per_thousand) for r in rows]
        files[f"{name}.csv"] = _csv(head, plain)
    data = {"policies": policies, "severities": [f"found at {severity:g}" for severity in SEVERITIES]}
    return Section("monitor", "Health monitor", data, files) if policies else None


def _monitor_row(row: Watched) -> tuple[str, ...]:
    found = [percent(a / b, 0) if b else DASH for a, b in (row.by_severity.get(s, (0, 0)) for s in SEVERITIES)]
    return (row.name, *found, number(row.delay, 1), _alarms(row))


def _alarms(row: Watched) -> str:
    return DASH if row.per_thousand is None else f"{row.per_thousand:.2f} ({row.alarms:,} in {row.steps:,})"


def _scenes(evaluations: Sequence[Evaluation], films: Films) -> Section | None:
    """The scenes that fail first, of every policy, with videos if they were asked for."""
    policies, files = [], {}
    for index, one in enumerate(evaluations, start=1):
        worst_scenes = hardest(one, _SCENES)
        if not worst_scenes:
            continue
        name = _file_name("scenes", index, one.label)
        rows, shown = [], []
        for hard in worst_scenes:
            least = hard.failed[0]
            count = f"{len(hard.failed)} of {len(one.conditions) - 1}"
            command = _code(shlex.join(replay_command(one, hard)))
            rows.append((f"scene {hard.scene}", count, f"{least.condition} ({percent(least.rate, 0)})", command))
            film = films.get((one.label, hard.scene))
            if isinstance(film, tuple):
                files[f"{name}-{hard.scene}.mp4"] = film[0]
                source = f"data:video/mp4;base64,{base64.b64encode(film[0]).decode()}"
                shown.append({"hard": hard, "source": source, "success": film[1]})
            elif film is not None:
                shown.append({"hard": hard, "problem": film})
        monitored = one.record.monitor is not None
        policies.append({"label": one.label, "rows": rows, "films": shown, "monitored": monitored})
        plain = [(hard.scene, len(hard.failed), " ".join(c.condition for c in hard.failed)) for hard in worst_scenes]
        files[f"{name}.csv"] = _csv(("scene", "failed", "conditions"), plain)
    return Section("scenes", "Scenes that fail first", {"policies": policies}, files) if policies else None


def _facts(evaluations: Sequence[Evaluation]) -> list[tuple[object, ...]]:
    """Command, scenes, machine, versions, and what is known of the policy: a row each, a column per policy."""
    facts = [_facts_of(one) for one in evaluations]
    names = list(dict.fromkeys(name for some in facts for name in some))
    return [(name, *(some.get(name, DASH) for some in facts)) for name in names]


def _facts_of(one: Evaluation) -> dict[str, object]:
    record = one.record
    world = {name: value for name, value in record.world.items() if name not in ("task", "robot", "sensors")}
    facts: dict[str, object] = {
        "command": _code(record.command),
        "folder": _code(one.folder),
        "task and robot": " with the ".join(
            str(record.world[name]) for name in ("task", "robot") if name in record.world
        ),
        "sensors": ", ".join(one.keys),
        "world": _line(world),
        "seed of the scenes": record.seed,
        "scenes": f"{one.scenes} of {record.episodes} asked for, under {len(one.conditions)} conditions",
        "note": record.note,
        "device": record.device,
        "written": record.written,
        "took": f"{record.seconds / 60:.1f} minutes",
        "machine": _line(record.machine),
        "versions": _line(record.versions),
        "monitor": _line(record.monitor or {}),
        "weights": _code((record.policy.weights or DASH)[:16]),
        "training, from its card": _line(_training(record.policy.card)),
    }
    return {name: fact for name, fact in facts.items() if fact != ""}


def _training(card: Mapping[str, Any]) -> dict[str, Any]:
    """What a card says of the training."""
    options, teacher = (part if isinstance(part := card.get(name), Mapping) else {} for name in ("options", "teacher"))
    found = {name: card[name] for name in _CARD if name in card}
    found |= {f"option {name}": options[name] for name in _OPTIONS if name in options}
    for group in _GROUPS:
        if isinstance(options.get(group), Mapping):
            found |= {f"{group}.{name}": value for name, value in options[group].items()}
    return found | {f"teacher.{name}": value for name, value in teacher.items()}


def _line(some: Mapping[str, Any]) -> str:
    """A dictionary as a line of text."""
    return "; ".join(f"{k} {v if isinstance(v, str) else json.dumps(v, ensure_ascii=False)}" for k, v in some.items())
