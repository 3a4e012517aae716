"""`robofuse suite`: policies of several tasks under one official set of failures, as one table, JSON and page.

What is scored is fixed here, so that others can report the same: tasks, sensors, scenes and conditions. It is all
played by `robofuse evaluate`, one folder per policy, so a suite goes on where it was interrupted, and parts of it may
be played on other machines: the numbers of a folder depend on its policy and on nothing beside it.
"""

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from statistics import fmean
from typing import Annotated, Any, Literal, NamedTuple

import msgspec
import tyro
from rich.console import Console
from rich.table import Table
from rich.text import Text

from robofuse import __version__
from robofuse.checks import check_types
from robofuse.errors import InputError, StateError
from robofuse.evaluate.conditions import midway, missing, parse_faults, subsets
from robofuse.evaluate.folder import csv_text, read_evaluation
from robofuse.evaluate.results import ConditionResult
from robofuse.evaluate.run import SEED, Evaluate, run_evaluate
from robofuse.evaluate.screen import DASH, percent, span
from robofuse.evaluate.seeds import trainings_in
from robofuse.faults import faults_for
from robofuse.faults.mix import HELD_OUT, SEVERITIES, UNLEARNABLE
from robofuse.files import lock, write_atomic
from robofuse.machine import describe_machine
from robofuse.play import fingerprint, load_trained
from robofuse.sensors import Sensor
from robofuse.stats import wilson

FORMAT = 1
TASKS = ("Grasp", "PegInsert", "Sort", "Stack", "Feel")
SENSORS = ("depth", "force", "proprio", "rgb")
ONSET = 10  # control step at which sensors die on the way, and faults set in
EPISODES = {"quick": 40, "full": 500}
RECORD, TABLE, PAGE = "suite.json", "suite.csv", "suite.html"
GROUPS = {
    "subsets": "every set of sensors, the others missing from the start",
    "midway": "each sensor missing from control step 10 on",
    "memory": "both cameras missing from control step 2 on",
    "outages": "each sensor in bursts of 10 steps with gaps of 20 on average, announced and not",
    "standard": "each fault that trainings may have met, from control step 10 on",
    "held out": "each fault that no training of ours meets, likewise",
    "pairs": "two sensors noisy or wrong at a time",
    "late": "all sensors late together",
}
"""The groups of conditions, and what fails in them."""
_OWN = ("noise", "timing")  # what a policy may not have brought to worlds of its own
_PAIRED = {"rgb": "rgb:noise(1)", "depth": "depth:holes(1)", "force": "force:bias(1)", "proprio": "proprio:offset(1)"}


@dataclass(frozen=True)
class Suite:
    """What to score, and how.

    Attributes:
        policies: One per task or several that differ in their training seeds: files, run folders, folders of trainings
            as `robofuse train --seeds` leaves them, or names of policies that come along. A policy knows its task.
        specialists: Policies that were trained without some sensors, to say what can be reached without them.
        baseline: Policies to put beside: trained without dropout, say. One or more per task.
        tier: quick, 40 scenes and faults at their severest; or full, 500 scenes and faults at four severities.
        tasks: Which of the official tasks; by default all. The others are shown as missing.
        out: Folder for the results; the same command goes on from what it holds.
        device: Of the networks: auto, cpu or cuda.
        ray: Play the policies side by side on a Ray cluster whose nodes all see --out: its address, auto, or local to
            start one here. The numbers are the same to the bit.
    """

    policies: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="POLICY [POLICY ...]")]
    specialists: tuple[str, ...] = ()
    baseline: tuple[str, ...] = ()
    tier: Literal["quick", "full"] = "quick"
    tasks: tuple[str, ...] = TASKS
    out: Path = Path("suite")
    device: str = "auto"
    ray: str = ""


class Entry(NamedTuple):
    """A policy that takes part.

    Attributes:
        name: its path or name.
        role: policies, specialists or baseline.
        task: that it was trained for.
        robot: that it was trained with.
        keys: its sensors, in alphabetical order.
        weights: their hash.
    """

    name: str
    role: str
    task: str
    robot: str
    keys: tuple[str, ...]
    weights: str | None


def conditions_of(sensors: Sequence[Sensor], tier: str) -> dict[str, tuple[str, str]]:
    """The official conditions.

    Args:
        sensors: of the policy, with their kinds.
        tier: quick or full.

    Returns:
        Condition → its group, and the text that `robofuse evaluate` knows it by.
    """
    keys = [sensor.key for sensor in sensors]
    found = {one.name: ("subsets", one.name) for one in subsets(keys)}
    found |= {one.name: ("midway", one.name) for one in midway(keys, ONSET)}
    blind = missing(keys, ["depth", "rgb"], 2)
    found[blind.name] = ("memory", blind.name)
    texts: dict[str, list[str]] = {"outages": [], "standard": [], "held out": []}
    for sensor in sensors:
        texts["outages"] += [f"{sensor.key}:blackout@0 in 10~20{told}" for told in "!?"]
        for name, kind in faults_for(sensor.kind).items():
            if name in UNLEARNABLE or kind.recalls:
                continue
            group = "held out" if name in HELD_OUT else "standard"
            severities = SEVERITIES if tier == "full" and kind.graded(sensor.kind) else SEVERITIES[-1:]
            texts[group] += [f"{sensor.key}:{name}({severity})@{ONSET}" for severity in severities]
    texts["pairs"] = [f"{_PAIRED[a]}@{ONSET}+{_PAIRED[b]}@{ONSET}" for a, b in combinations(sorted(_PAIRED), 2)]
    texts["late"] = ["+".join(f"{key}:latency({severity})@{ONSET}" for key in keys) for severity in (0.5, 1.0)]
    for group, several in texts.items():
        for text in several:
            (condition,) = parse_faults([text], sensors, ONSET)
            found.setdefault(condition.name, (group, text))
    return found


def run_suite(config: Suite) -> int:
    """Plays what is not played yet, writes the folder and prints the table.

    Returns:
        Exit status: 0, or 130 if Ctrl-C ended it early; all that was finished is then in the folder.

    Raises:
        InputError: a policy that does not take part, is there twice, or has other weights than what the folder holds of
            it; names it.
    """
    check_types(config)
    strange = [task for task in config.tasks if task not in TASKS]
    if strange or not config.tasks:
        raise InputError(f"the suite has the tasks {', '.join(TASKS)}; got --tasks {' '.join(config.tasks) or 'none'}")
    if not config.policies:
        raise InputError("name at least one policy: a file, a run folder, or one that comes along")
    entries = dict(_entries(config))
    folders = _folders(config.out, entries)
    asked = conditions_of(next(iter(entries.values())), config.tier)  # all but specialists have the same sensors
    jobs = {entry: _asked(config, entry, folder, asked) for entry, folder in folders.items()}
    console = Console(highlight=False, markup=False, soft_wrap=True)
    with lock(config.out, "suite"):
        if config.ray:
            console.print(f"{len(jobs)} policies on Ray")
            _play_on_ray(config.ray, list(jobs.values()))
        results: dict[Entry, Mapping[str, ConditionResult]] = {}
        for number, (entry, job) in enumerate(jobs.items(), 1):
            console.print(f"\n{number} of {len(jobs)}: {entry.name}, of {entry.role}, {entry.task}", style="bold")
            if status := run_evaluate(job):
                return status
            results[entry] = read_evaluation(folders[entry]).conditions
        groups = {name: group for name, (group, _) in asked.items()}
        scores = {task: score(task, results, groups) for task in TASKS if task in config.tasks}
        record = {
            **{"format": FORMAT, "version": __version__, "tier": config.tier, "episodes": EPISODES[config.tier]},
            **{"seed": SEED, "machine": dict(describe_machine()), "groups": GROUPS},
            "policies": [entry._asdict() for entry in entries],
            "missing_tasks": [task for task, found in scores.items() if not found],
            "tasks": {task: found for task, found in scores.items() if found},
            "over_all": over_all(scores),
        }
        write_atomic(config.out / RECORD, msgspec.json.format(msgspec.json.encode(record), indent=1))
        write_atomic(config.out / TABLE, _table_text(scores))
        write_atomic(config.out / PAGE, page(record))
    console.print(summary_table(scores))
    if record["missing_tasks"]:
        console.print(f"without a policy, and in no mean: {', '.join(record['missing_tasks'])}", style="yellow")
    console.print(f"wrote {config.out / RECORD}, {TABLE} and {PAGE}")
    return 0


def score(
    task: str, results: Mapping[Entry, Mapping[str, ConditionResult]], groups: Mapping[str, str]
) -> dict[str, Any]:
    """What the policies of one task have reached; empty if there are none.

    Args:
        task: its name.
        results: what each policy that takes part has reached, by condition; those of other tasks do not count.
        groups: condition → its group.
    """
    ours = [found for entry, found in results.items() if (entry.task, entry.role) == (task, "policies")]
    if not ours:
        return {}
    rows = {name: _over_seeds([found[name] for found in ours]) for name in ours[0]}
    clean = rows["all"]["success"]
    for row in rows.values():
        row["retention"] = row["success"] / clean if clean else None
    specialists = dict[str, list[float]]()
    for entry, found in results.items():
        if (entry.task, entry.role) == (task, "specialists"):
            name = missing(SENSORS, set(SENSORS) - set(entry.keys)).name
            specialists.setdefault(name, []).append(found["all"].rate)
    for name, rates in specialists.items():
        best = rows[name]["specialist"] = fmean(rates)
        rows[name]["share_of_specialist"] = rows[name]["success"] / best if best else None
    baseline = [found for entry, found in results.items() if (entry.task, entry.role) == (task, "baseline")]
    for name in rows if baseline else ():
        rows[name]["baseline"] = fmean(found[name].rate for found in baseline)

    def worst(count: int) -> dict[str, Any]:
        names = [missing(SENSORS, gone).name for gone in combinations(SENSORS, count)]
        name = min(names, key=lambda name: rows[name]["success"])
        return {"condition": name, **rows[name]}

    def shares(count: int) -> list[float]:
        names = [missing(SENSORS, gone).name for gone in combinations(SENSORS, count)]
        found = [rows[name].get("share_of_specialist") for name in names]
        return [share for share in found if share is not None]

    return {
        "seeds": len(ours),
        "clean": rows["all"],
        "worst_single": worst(1),
        "worst_pair": worst(2),
        "least_share_of_specialist": {
            "single": min(shares(1), default=None),
            "pair": min(shares(2), default=None),
        },
        "groups": {
            group: fmean(row["success"] for name, row in rows.items() if groups.get(name) == group)
            for group in GROUPS
            if any(groups.get(name) == group for name in rows)
        },
        "conditions": {name: {"group": groups.get(name, ""), **row} for name, row in rows.items()},
    }


def over_all(scores: Mapping[str, Mapping[str, Any]]) -> dict[str, float]:
    """Means over the tasks that have a policy."""
    found = [one for one in scores.values() if one]
    what = {name: [one[name]["success"] for one in found] for name in ("clean", "worst_single", "worst_pair")}
    what |= {group: [one["groups"][group] for one in found if group in one["groups"]] for group in GROUPS}
    return {name: fmean(values) for name, values in what.items() if values}


def summary_table(scores: Mapping[str, Mapping[str, Any]]) -> Table:
    """A column per task: success with all sensors, the worst sensor or pair missing, groups, and force peaks."""
    names = [group for group in GROUPS if group != "subsets"]
    heads, *lines = zip(*_lines(scores, names), strict=True)
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("", no_wrap=True)
    for head in heads:
        table.add_column(Text(head), justify="right")
    for what, line in zip(("clean (95 %)", "worst single", "worst pair", *names, "peak N (95 %)"), lines, strict=True):
        table.add_row(*map(Text, (what, *line)))
    return table


def page(record: Mapping[str, Any]) -> str:
    """The page, which loads nothing else: a summary, then every condition of every task."""
    from robofuse.evaluate.report import templates  # which loads jinja2

    names = [group for group in GROUPS if group != "subsets"]
    lines = list(_lines({task: record["tasks"].get(task, {}) for task in TASKS}, names))
    template = templates("robofuse.evaluate").get_template("suite.html")
    return template.render(record=record, names=names, lines=lines)


def _lines(scores: Mapping[str, Mapping[str, Any]], names: Sequence[str]) -> Iterator[list[str]]:
    for task, found in scores.items():
        if not found:
            yield [task, *[DASH] * (4 + len(names))]
            continue
        clean = found["clean"]
        worst = [found[which] for which in ("worst_single", "worst_pair")]
        yield [
            f"{task} ({found['seeds']} seed{'s' if found['seeds'] > 1 else ''})",
            f"{percent(clean['success'])} ({span((clean['low'], clean['high']), 0)})",
            *(f"{percent(one['success'])}, {one['condition']}" for one in worst),
            *(percent(found["groups"].get(name)) for name in names),
            f"{clean['peak_force']:.0f} ({clean['peak_force_95']:.0f})",
        ]
    if sum(bool(found) for found in scores.values()) > 1:
        means = over_all(scores)
        yield ["mean", *(percent(means.get(name)) for name in ("clean", "worst_single", "worst_pair", *names)), ""]


def _over_seeds(several: Sequence[ConditionResult]) -> dict[str, Any]:
    """Success over all episodes with Wilson's interval, each seed's, and force peaks."""
    won, n = sum(one.successes for one in several), sum(one.n for one in several)
    low, high = wilson(won, n)
    return {
        **{"success": won / n, "low": low, "high": high, "n": n, "by_seed": [one.rate for one in several]},
        **{name: fmean(getattr(one, name) for one in several) for name in ("peak_force", "peak_force_95")},
    }


def _entries(config: Suite) -> Iterator[tuple[Entry, tuple[Sensor, ...]]]:
    """The policies that take part, and their sensors; InputError for one that does not fit, or is there twice."""
    seen, robots = dict[str | None, str](), dict[str, tuple[str, str]]()
    for role in ("policies", "specialists", "baseline"):
        names: list[str] = []
        for name in getattr(config, role):
            names += [str(path) for path in trainings_in(name).values()] or [name]
        for name in names:
            trained = load_trained(name, device=config.device)
            task, keys = trained.options.get("task", "?"), tuple(trained.policy.keys)
            if task not in config.tasks:
                raise InputError(f"{name} is a policy of {task}; this suite has the tasks {', '.join(config.tasks)}")
            if strange := sorted(set(keys) - set(SENSORS)):
                raise InputError(f"{name} reads {', '.join(strange)}; the suite's sensors are {', '.join(SENSORS)}")
            if role != "specialists" and set(keys) != set(SENSORS):
                raise InputError(
                    f"{name} reads {', '.join(keys)} only, and the suite takes away {', '.join(SENSORS)}; a policy "
                    "that never had a sensor goes to --specialists"
                )
            if role == "specialists" and set(keys) == set(SENSORS):
                raise InputError(f"{name} has all sensors, and --specialists are policies that never had some of them")
            if changed := [name for name in _OWN if trained.options.get(name) not in (None, True, {})]:
                raise InputError(f"{name} was trained with {' and '.join(changed)} of its own; the suite's worlds have "
                                 "those that World has by default")  # fmt: skip
            robot = str(trained.options.get("robot", "arm"))
            other, whose = robots.setdefault(task, (robot, name))
            if robot != other:
                raise InputError(f"{name} has the robot {robot}, and {whose}, of the same task, {other}; compare like "
                                 "with like")  # fmt: skip
            weights = fingerprint(trained.policy)
            if weights in seen:
                raise InputError(f"{name} has the same weights as {seen[weights]}; name each policy once")
            seen[weights] = name
            yield Entry(name, role, task, robot, keys, weights), tuple(trained.policy.sensors)


def _folders(out: Path, entries: Iterable[Entry]) -> dict[Entry, Path]:
    """Where the results of each policy go: by its name, so that one with other weights is noticed and refused."""
    found = dict[Entry, Path]()
    for entry in entries:
        folder = (out / entry.role / entry.task / Evaluate(entry.name).name).resolve()
        if folder in found.values():
            raise InputError(f"two policies of {entry.task} are called {folder.name}; rename a folder")
        found[entry] = folder
    return found


def _asked(config: Suite, entry: Entry, folder: Path, asked: Mapping[str, tuple[str, str]]) -> Evaluate:
    """What of one policy is played; of specialists the condition without any failure."""
    common: dict[str, Any] = {"episodes": EPISODES[config.tier], "out": folder, "device": config.device}
    if entry.role == "specialists":
        return Evaluate(entry.name, conditions=("all",), **common)
    plain = ("subsets", "midway", "memory")
    names = tuple(text for group, text in asked.values() if group in plain)
    faults = tuple(text for group, text in asked.values() if group not in plain)
    return Evaluate(entry.name, conditions=names, faults=faults, onset=ONSET, **common)


def _play_on_ray(address: str, asked: Sequence[Evaluate]) -> None:
    """Plays evaluations on a Ray cluster, a fresh process each; StateError if Ray or the cluster is missing."""
    try:
        import ray
    except ImportError:
        raise StateError("--ray needs Ray: pip install 'robofuse[ray]'") from None
    cluster: Any = ray
    try:
        cluster.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise StateError(f"--ray {address}: {error}") from None
    try:
        play = cluster.remote(num_cpus=1, max_calls=1, max_retries=0)(run_evaluate)
        cluster.get([play.remote(one) for one in asked])
    except cluster.exceptions.RayError as error:
        *_, last = str(error).strip().splitlines() or [type(error).__name__]  # of a traceback, what names the error
        raise StateError(f"--ray {address}: {last.strip()}") from None
    finally:
        cluster.shutdown()


def _table_text(scores: Mapping[str, Mapping[str, Any]]) -> str:
    names = ("group", "success", "low", "high", "n", "retention", "specialist", "share_of_specialist", "baseline",
             "peak_force", "peak_force_95")  # fmt: skip
    rows = [
        (task, condition, *(row.get(name, "") for name in names))
        for task, found in scores.items()
        for condition, row in found.get("conditions", {}).items()
    ]
    return csv_text(("task", "condition", *names), rows)
