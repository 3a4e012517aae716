"""`robofuse budget`: which sensors to read, given how long an action may take or what the sensors may cost."""

import json
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Annotated, NamedTuple

import numpy as np
import tyro
from rich.console import Console
from rich.table import Table
from rich.text import Text

from robofuse import __version__
from robofuse.checks import at_least_zero, check_types, parse_numbers, whole
from robofuse.deploy.inputs import known
from robofuse.errors import InputError, StateError
from robofuse.evaluate.conditions import subsets
from robofuse.evaluate.folder import read_evaluation
from robofuse.evaluate.results import ConditionResult, Evaluation
from robofuse.evaluate.run import SEED, Evaluate, run_evaluate
from robofuse.evaluate.screen import change, percent, span
from robofuse.evaluate.timing import Call, Figures, eager_call, exported_call, one_core, take_turns
from robofuse.files import lock, write_atomic
from robofuse.machine import describe_machine, package_versions
from robofuse.play import fingerprint, load_trained
from robofuse.policies import Policy
from robofuse.tensors import one_torch_thread

TABLE, PICTURE = "budget.json", "budget.png"
_ROUNDS = 50  # in which the sets of sensors take turns
_BUSY = 1.25  # wall-clock over processor time, from which on others were at work

Live = tuple[str, ...]  # keys of the sensors that are read, in the order of `available`


@dataclass(frozen=True)
class Budget:
    """Which policy, and what may be spent.

    Attributes:
        policy: Name of a policy that comes with robofuse, or the path of one; it may be a file of `robofuse export`.
        ms: Milliseconds of one core that an action may take, by the median.
        max_cost: What the sensors that are read may cost together, in the unit of --cost.
        cost: What it costs to read a sensor, such as rgb=1.8 depth=2.5 in watts; those that are not named cost nothing.
        evaluation: Folder of `robofuse evaluate POLICY --conditions subsets`, which says how often the policy succeeds;
            without it, that is played first.
        episodes: Of each set of sensors, without --evaluation; they have the same scenes.
        seed: Of these scenes. Trainings use seeds below 1000; keep away from those.
        num_envs: Episodes simulated at a time.
        device: Of the network in these episodes: auto, cpu or cuda. Actions are timed on one core.
        calls: Actions that are timed with each set of sensors.
        out: Folder for the results, by default budget/POLICY. If it holds a part of the same evaluation, that part is
            kept and the rest is done.
    """

    policy: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="POLICY")]
    ms: float | None = None
    max_cost: float | None = None
    cost: tuple[str, ...] = ()
    evaluation: Path | None = None
    episodes: int = 200
    seed: int = SEED
    num_envs: int = 64
    device: str = "auto"
    calls: int = 1000
    out: Path | None = None

    @property
    def folder(self) -> Path:
        """Where the results go."""
        return self.out or Path("budget", Evaluate(self.policy).name)


class Subset(NamedTuple):
    """A set of sensors to read.

    Attributes:
        live: their keys.
        success: share of the episodes that succeed.
        ms: milliseconds that an action takes.
        cost: what reading them costs.
    """

    live: Live
    success: float
    ms: float
    cost: float = 0.0

    def dominates(self, other: "Subset") -> bool:
        """Whether it is at least as good as the other in success, time and cost, and better in one of them."""
        as_good = self.success >= other.success and self.ms <= other.ms and self.cost <= other.cost
        return as_good and self[1:] != other[1:]


def efficient(rows: Sequence[Subset]) -> list[bool]:
    """Which of them are Pareto-efficient: no other one dominates them."""
    return [not any(other.dominates(one) for other in rows) for one in rows]


def pick(rows: Sequence[Subset], ms: float | None = None, max_cost: float | None = None) -> Subset:
    """The set with the highest success within the budget; of equally good ones the fastest, then the cheapest.

    Success is the point estimate. As all sets have played the same scenes, the lower end of Wilson's interval puts them
    in the same order.

    Args:
        rows: at least one.
        ms: milliseconds that an action may take; None for any.
        max_cost: what the sensors may cost together; None for any.

    Raises:
        InputError: nothing fits; names the cheapest.
    """
    within = [one for one in rows if max_cost is None or one.cost <= max_cost]
    if not within:
        least = min(rows, key=lambda one: (one.cost, one.ms))
        raise InputError(f"nothing fits --max-cost {max_cost:g}: the cheapest is {_plus(least.live)}, {least.cost:g}")
    fitting = [one for one in within if ms is None or one.ms <= ms]
    if not fitting:
        least = min(within, key=lambda one: (one.ms, one.cost))
        among = "" if max_cost is None else f" of what fits --max-cost {max_cost:g}"
        raise InputError(f"nothing fits --ms {ms:g}: the cheapest{among} is {_plus(least.live)}, {least.ms:.3g} ms")
    return max(fitting, key=lambda one: (one.success, -one.ms, -one.cost, -len(one.live)))


def run_budget(config: Budget) -> int:
    """Times the policy with each set of sensors, plays it where needed, prints a table and writes the folder.

    Returns:
        Exit status: 0, or 130 if Ctrl-C ended the episodes early; the same command then goes on.

    Raises:
        InputError, StateError: options that do not fit, or nothing fits the budget; the message says what would.
    """
    check_types(config)
    whole(config.calls, "calls", 1)
    for option in ("ms", "max_cost"):
        if (value := getattr(config, option)) is not None:
            at_least_zero(value, f"--{option.replace('_', '-')}")
    policy, folder = load_trained(config.policy, device="cpu").policy, config.folder
    weights, prices = fingerprint(policy), _prices(config, policy.keys)
    console = Console(highlight=False, markup=False, soft_wrap=True)
    player = _player(policy)
    possible = [one for one in subsets(policy.keys) if {*player.required} <= {*one.live}]
    evaluation = None if config.evaluation is None else _read(config.evaluation, weights, config.policy)
    there = None if evaluation is None else _results(evaluation)
    sets = [one.live for one in possible if there is None or one.live in there]
    if not sets:
        raise InputError(
            f"{config.evaluation} has no condition in which sensors are missing from the start; "
            f"`robofuse evaluate {config.policy} --conditions subsets` plays them"
        )
    with lock(folder, "budget"):
        with one_core(), one_torch_thread():
            calls = {live: player.call([key for key in policy.keys if key not in live]) for live in sets}
            times = take_turns(calls, config.calls, min(_ROUNDS, config.calls))
        # rounded, so that 0.1 + 0.2 fits 0.3
        costs = {live: round(sum(prices.get(key, 0.0) for key in live), 9) for live in sets}
        rows = [Subset(live, 0.0, times[live]["cpu"]["p50"], costs[live]) for live in sets]
        pick(rows, config.ms, config.max_cost)  # if nothing fits, it is said before episodes are played for hours
        if evaluation is None:
            names = [one.name for one in possible] if player.required else ["subsets"]
            asked = Evaluate(
                config.policy,
                episodes=config.episodes,
                conditions=tuple(names),
                seed=config.seed,
                num_envs=config.num_envs,
                device=config.device,
                out=folder / "evaluation",
            )
            if status := run_evaluate(asked):
                return status
            evaluation = _read(folder / "evaluation", weights, config.policy)
        results = _results(evaluation)
        rows = sorted((one._replace(success=results[one.live].rate) for one in rows), key=lambda one: one.ms)
        asked_for = config.ms is not None or config.max_cost is not None
        chosen = pick(rows, config.ms, config.max_cost) if asked_for else None
        line = None if chosen is None else _line(config.policy, policy, chosen)
        _write(folder, config, player, evaluation, rows, times, line, chosen)
    console.width = max(console.width, 110)  # a narrow table would hide its figures
    console.print("", _table(rows, results, times, bool(prices), chosen), sep="\n")
    scenes = next(iter(results.values())).n
    console.print(
        f"ms: processor time of an action on one core, by {player.engine}; success in {scenes} scenes; * "
        "Pareto-efficient: no other set is as good in everything and better in something"
    )
    if len(sets) < len(possible):
        console.print(f"{len(possible) - len(sets)} of {len(possible)} sets of sensors are not in {evaluation.folder}")
    for note in filter(None, (player.note, _busy(times))):
        console.print(f"note: {note}", style="yellow")
    if chosen is not None:
        console.print(f"within the budget: {_plus(chosen.live)}; on the robot:\n  {line}", style="bold")
    console.print(f"wrote {folder}/: {TABLE}, {PICTURE}")
    return 0


class _Player(NamedTuple):
    """What is timed: by what, what to tell of it, the sensors it needs, and a call without some of the others."""

    engine: str
    note: str
    required: Sequence[str]
    call: Callable[[Collection[str]], Call]


def _player(policy: Policy) -> _Player:
    from robofuse.export.compare import random_observation
    from robofuse.export.make import describe, exported
    from robofuse.export.played import Played

    readings = random_observation(policy.sensors, np.random.default_rng(0))
    try:
        deployed = policy.deployed if isinstance(policy, Played) else exported(policy).deployed
    except (InputError, StateError) as error:
        required, note = describe(policy)["required"], f"timed in torch, as it cannot be exported here: {error}"
        return _Player("torch", note, required, lambda hidden: eager_call(policy, readings, hidden, required))
    return _Player("onnxruntime", "", deployed.required, lambda hidden: exported_call(deployed, readings, hidden))


def _prices(config: Budget, keys: Sequence[str]) -> dict[str, float]:
    prices = parse_numbers("--cost", "rgb=1.8", config.cost)
    for key, price in prices.items():
        known(key, keys)
        at_least_zero(price, f"--cost of {key}")
    if config.max_cost is not None and not prices:
        raise InputError("--max-cost needs what each sensor costs, such as --cost rgb=1.8 depth=2.5")
    return prices


def _read(folder: Path, weights: str | None, policy: str) -> Evaluation:
    evaluation = read_evaluation(folder)
    if weights is None or evaluation.record.policy.weights != weights:
        raise InputError(
            f"{folder} is not of {policy}: it was played with other weights; leave --evaluation out, or give the "
            f"folder of `robofuse evaluate {policy} --conditions subsets`"
        )
    if evaluation.record.monitor is not None:
        raise InputError(
            f"{folder} was played with a health monitor, which an exported policy does not have; evaluate without it"
        )
    return evaluation


def _busy(times: Mapping[Live, Figures]) -> str:
    slower = median(taken["wall"]["mean"] / taken["cpu"]["mean"] for taken in times.values())
    if slower < _BUSY:
        return ""
    return f"other programs were at work: by the clock an action took {slower:.1f} times as long on average"


def _line(name: str, policy: Policy, chosen: Subset) -> str:
    """What a robot's program says."""
    file = name if Path(name).suffix == ".onnx" else f"{policy.name}.onnx"  # the name that `robofuse export` gives
    off = [json.dumps(key) for key in policy.keys if key not in chosen.live]
    return f"Policy({json.dumps(file)}" + (f", off=({', '.join(off)}{',' if len(off) == 1 else ''}))" if off else ")")


def _plus(live: Live) -> str:
    return "+".join(live)


def _results(evaluation: Evaluation) -> dict[Live, ConditionResult]:
    """The conditions in which sensors are missing from the start, or none is, by the live ones."""
    return {one.live: one for one in reversed(evaluation.of("all", "missing"))}  # the first of a set, if there are two


def _table(
    rows: Sequence[Subset],
    results: Mapping[Live, ConditionResult],
    times: Mapping[Live, Figures],
    priced: bool,
    chosen: Subset | None,
) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("sensors that are read", no_wrap=True)
    for name in ("success", "95 %", "points vs all (95 %)", "ms", "99 %", *(("cost",) if priced else ()), ""):
        table.add_column(name, justify="right", no_wrap=True)
    for row, best in zip(rows, efficient(rows), strict=True):
        one, taken = results[row.live], times[row.live]["cpu"]
        table.add_row(
            Text(_plus(row.live)),
            percent(row.success),
            span(one.interval),
            change(one.change),
            f"{taken['p50']:.3f}",
            f"{taken['p99']:.3f}",
            *((f"{row.cost:g}",) if priced else ()),
            "*" if best else "",
            style="bold" if row is chosen else None,
        )
    return table


def _write(
    folder: Path,
    config: Budget,
    player: _Player,
    evaluation: Evaluation,
    rows: Sequence[Subset],
    times: Mapping[Live, Figures],
    line: str | None,
    chosen: Subset | None,
) -> None:
    from robofuse.evaluate.pareto import Priced, draw_budget

    results, best = _results(evaluation), efficient(rows)
    told = []
    for row, good in zip(rows, best, strict=True):
        one = results[row.live].to_dict()
        names = ("live", "n", "successes", "success", "success_low", "success_high", "difference", "difference_low")
        told.append(
            {name: one[name] for name in (*names, "difference_high")}
            | {"milliseconds": times[row.live], "cost": row.cost, "efficient": good, "chosen": row is chosen}
        )
    record = evaluation.record
    what = {
        "policy": config.policy,
        "weights": record.policy.weights,
        "evaluation": str(evaluation.folder),
        "seed": record.seed,
        "engine": player.engine,
        "calls": config.calls,
        "ms": config.ms,
        "max_cost": config.max_cost,
        "line": line,
        "note": player.note,
        "load": os.getloadavg()[0],
        "machine": describe_machine(),
        "versions": {"robofuse": __version__, **package_versions()},
    }
    write_atomic(folder / TABLE, json.dumps(what | {"sets": told}, indent=1, allow_nan=False) + "\n")
    points = [
        Priced(_plus(row.live), row.ms, row.success, results[row.live].interval, good, row is chosen)
        for row, good in zip(rows, best, strict=True)
    ]
    title = f"{Evaluate(config.policy).name}: success by the sensors that are read"
    subtitle = (
        f"{results[rows[0].live].n} scenes with 95 % intervals; an action on one core, median of {config.calls:,}"
    )
    write_atomic(folder / PICTURE, draw_budget(points, title, subtitle, config.ms))
