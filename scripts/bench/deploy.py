"""How long an action takes on one core: exported, and in torch, with all sensors and without some."""

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from robofuse.checks import whole
from robofuse.errors import InputError
from robofuse.evaluate.timing import CLOCKS, Call, eager_call, exported_call, one_core, take_turns
from scripts.bench.env import machine


@dataclass(frozen=True)
class DeployBench:
    """How to measure a policy on one core.

    Attributes:
        policy: A policy that comes along, a policy file, or a training's folder.
        calls: Actions of each contender with each set of sensors.
        rounds: Turns in which they are taken, all contenders with all sets of sensors in each.
        core: Which core.
        json: Also write the results here.
    """

    policy: str = "grasp"
    calls: int = 2000
    rounds: int = 50
    core: int = 0
    json: Path | None = None


def bench_deploy(config: DeployBench) -> dict[str, Any]:
    """Measure, print a table, write JSON.

    Contenders are given NumPy arrays and return an action. Torch: `robofuse.policies.Policy.act`, one thread. Exported:
    `robofuse.deploy.Policy` called with an observation, and `feed` of every live sensor with `act`. Beside the time on
    the clock there is the processor time, which others on the core do not add to, but for what they did to its caches.

    Args:
        config: what to measure.

    Returns:
        What is written as JSON: `machine`, `config`, and `rows`: hidden sensors, contender, and in milliseconds `p50`,
        `p99` and `mean` by `wall` and by `cpu`.

    Raises:
        ValueError: no such policy, core, or folder for the JSON.
        RuntimeError: onnx or onnxruntime is not installed.
    """
    from robofuse.deploy import Policy
    from robofuse.export.compare import random_observation
    from robofuse.export.make import exported
    from robofuse.policies import load
    from robofuse.tensors import one_torch_thread

    whole(config.calls, "calls", 1)
    whole(config.rounds, "rounds", 1, config.calls)
    if config.core not in os.sched_getaffinity(0):
        raise InputError(f"--core {config.core} may not be used; cores: {sorted(os.sched_getaffinity(0))}")
    if config.json is not None and not config.json.absolute().parent.is_dir():
        raise InputError(f"--json: there is no folder {config.json.absolute().parent}")
    eager = load(config.policy, device="cpu")
    with one_core(config.core), one_torch_thread():
        data = exported(eager).data
        deployed = Policy(data)
        readings = random_observation(deployed.sensors, np.random.default_rng(0))
        contenders: dict[tuple[tuple[str, ...], str], Call] = {}
        for hidden in _hidden(deployed):
            contenders[hidden, "torch"] = eager_call(eager, readings, hidden, deployed.required)
            contenders[hidden, "onnx"] = exported_call(deployed, readings, hidden)
            contenders[hidden, "onnx, fed"] = _fed(Policy(data), readings, hidden)
        taken = take_turns(contenders, config.calls, config.rounds)
    rows = [{"hidden": list(hidden), "contender": name, **times} for (hidden, name), times in taken.items()]
    Console().print(_table(rows))
    plain = json.loads(json.dumps(asdict(config), default=str))
    result = {"machine": machine(), "config": plain, "rows": rows}
    if config.json is not None:
        config.json.write_text(json.dumps(result, indent=1) + "\n")
    return result


def _hidden(deployed: Any) -> list[tuple[str, ...]]:  # noqa: ANN401
    """None, each that may be hidden, all pictures, and all but one."""
    free = [key for key in deployed.keys if key not in deployed.required]
    pictures = tuple(s.key for s in deployed.sensors if len(s.shape) == 3 and s.key in free)
    return list(dict.fromkeys([(), *((key,) for key in free), pictures, tuple(free[1:])]))


def _fed(policy: Any, readings: dict[str, np.ndarray], hidden: tuple[str, ...]) -> Call:  # noqa: ANN401
    live = {key: reading for key, reading in readings.items() if key not in hidden}
    clock = iter(range(1 << 60))

    def step() -> object:
        now = next(clock) / 20
        for key, reading in live.items():
            policy.feed(key, reading, now)
        return policy.act(now)

    return step


def _table(rows: list[dict[str, Any]]) -> Table:
    all_live = {row["contender"]: row["cpu"]["p50"] for row in rows if not row["hidden"]}
    title = "milliseconds an action takes on one core; cpu: without what others did meanwhile"
    table = Table("hidden", "contender", "p50", "p99", "cpu p50", "cpu p99", "of all live", title=title)
    for row in rows:
        table.add_row(
            "" if row["contender"] != "torch" else ", ".join(row["hidden"]) or "none",
            row["contender"],
            *(f"{row[clock][name]:.3f}" for clock in CLOCKS for name in ("p50", "p99")),
            f"{row['cpu']['p50'] / all_live[row['contender']]:.0%}",
        )
    return table
