"""What faults cost: the same World, healthy and under one plan after the other, taking turns in one process."""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from robofuse.checks import whole
from scripts.bench.env import machine, turns

MIX = "mix"
_ACTIONS = 100


@dataclass(frozen=True)
class FaultBench:
    """How to measure what faults cost.

    Attributes:
        task: Task, as in `robofuse list`.
        robot: Robot, as in `robofuse list`.
        plans: What breaks, each measured; mix for another one in every episode, as in training.
        worlds: Simulations side by side.
        image_size: Pixels a side.
        renderer: Of the pictures.
        seconds: Measured time of each plan.
        rounds: Turns each takes within that time; the median counts.
        json: Also write the results here.
    """

    task: str = "Grasp"
    robot: str = "arm"
    plans: tuple[str, ...] = (
        "rgb:blackout@10",
        "rgb:freeze@10",
        "rgb:noise(0.5)+depth:noise(0.5)",
        "depth:holes(0.5)@10+force:drift(0.5)@10",
        "rgb,depth:latency(0.5)",
        "proprio:offset(0.5)+force:bias(0.5)",
        MIX,
    )
    num_envs: int = 64
    image_size: int = 64
    renderer: str = "gl"
    seconds: float = 6.0
    rounds: int = 5
    json: Path | None = None


def bench_faults(config: FaultBench) -> dict[str, Any]:
    """Measure, print a table, write JSON.

    Args:
        config: what to measure.

    Returns:
        What is written as JSON: `machine`, `config`, and under `plans` control steps per second by plan, `healthy` too.

    Raises:
        ValueError: a plan that cannot be read.
    """
    import numpy as np

    from robofuse.envs import World
    from robofuse.faults import Mix

    for name in ("num_envs", "rounds"):
        whole(getattr(config, name), name, 1)
    actions = np.random.default_rng(0).uniform(-1.0, 1.0, (_ACTIONS, config.num_envs, 5))
    worlds: dict[str, World] = {}
    contenders: dict[str, Callable[[], object]] = {}
    try:
        for plan in ("healthy", *config.plans):
            faults = {"healthy": None, MIX: partial(Mix.parse, ["standard"], 0.3)}.get(plan, plan)
            world = worlds[plan] = World(
                config.task,
                config.num_envs,
                robot=config.robot,
                renderer=config.renderer,
                image_size=config.image_size,
                faults=faults,
            )
            world.reset()
            contenders[plan] = _stepper(world, actions)
        with Progress(console=Console(stderr=True), transient=True) as progress:
            progress.add_task(f"measuring {len(contenders)} × {config.seconds:g} s", total=None)
            taken = turns(contenders, dict.fromkeys(contenders, config.num_envs), config.seconds, config.rounds)
    finally:
        for world in worlds.values():
            world.close()
    rates = {plan: median(values) for plan, values in taken.items()}
    table = Table("faults", "steps/s", "of healthy")
    for plan, rate in rates.items():
        table.add_row(plan, f"{rate:,.0f}", f"{rate / rates['healthy']:.0%}")
    Console().print(table)
    result = {"machine": machine(), "config": json.loads(json.dumps(asdict(config), default=str)), "plans": rates}
    if config.json is not None:
        config.json.write_text(json.dumps(result, indent=1) + "\n")
    return result


def _stepper(world: Any, actions: Any) -> Callable[[], object]:  # noqa: ANN401
    count = iter(range(1 << 60))
    return lambda: world.step(actions[next(count) % _ACTIONS])
