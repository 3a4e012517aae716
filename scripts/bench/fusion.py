"""What every fusion costs: its parameters, and milliseconds a row to learn and to act, side by side."""

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.progress import track
from rich.table import Table

from robofuse.checks import whole
from robofuse.errors import InputError
from scripts.bench.env import machine


@dataclass(frozen=True)
class FusionBench:
    """How to measure fusions.

    Attributes:
        sensors: Tokens of a row.
        token_dim: Numbers of a token.
        rows: Rows of a minibatch.
        rounds: Turns of each fusion; the median counts.
        threads: Of torch.
        json: Also write the results here.
    """

    sensors: int = 4
    token_dim: int = 64
    rows: int = 400
    rounds: int = 50
    threads: int = 1
    json: Path | None = None


def bench_fusion(config: FusionBench) -> dict[str, Any]:
    """Measure, print a table, write JSON. All fusions take turns.

    Args:
        config: what to measure.

    Returns:
        What is written as JSON: `machine`, `config`, and `rows`: fusion, `parameters`, `features`, and in milliseconds
        a row of a minibatch `learn` (forward and backward), and `act`, one row alone (forward). A hidden layer of 128
        over the features, which the actor has in any case, is counted and measured with it.

    Raises:
        InputError: a number out of range, or no folder for the JSON.
    """
    import torch
    from torch import nn

    from robofuse.policies import FUSIONS

    for name in ("sensors", "token_dim", "rows", "rounds", "threads"):
        whole(getattr(config, name), f"--{name.replace('_', '-')}", 1)
    if config.json is not None and not config.json.absolute().parent.is_dir():
        raise InputError(f"--json: there is no folder {config.json.absolute().parent}")
    torch.manual_seed(0)
    tokens = torch.randn(config.rows, config.sensors, config.token_dim, requires_grad=True)
    available = torch.rand(config.rows, config.sensors) < 0.7
    available[0] = True
    heads, contenders = {}, dict[tuple[str, str], Callable[[], object]]()
    for name, make in FUSIONS.items():
        fusion: Any = make(config.sensors, config.token_dim)
        heads[name] = head = nn.ModuleList([fusion, nn.Linear(fusion.features, 128)])

        def forward(rows: int, head: Any = head) -> torch.Tensor:  # noqa: ANN401
            return head[1](head[0](tokens[:rows], available[:rows])).square().mean()

        contenders[name, "learn"] = lambda forward=forward: forward(config.rows).backward()
        contenders[name, "act"] = torch.no_grad()(lambda forward=forward: forward(1))
    threads = torch.get_num_threads()
    torch.set_num_threads(config.threads)
    try:
        taken = _turns(contenders, config.rounds)
    finally:
        torch.set_num_threads(threads)
    rows = [
        {
            "fusion": name,
            "parameters": sum(weight.numel() for weight in head.parameters()),
            "features": head[0].features,
            "learn": taken[name, "learn"] / config.rows,
            "act": taken[name, "act"],
        }
        for name, head in heads.items()
    ]
    Console().print(_table(config, rows))
    result = {"machine": machine(), "config": json.loads(json.dumps(asdict(config), default=str)), "rows": rows}
    if config.json is not None:
        config.json.write_text(json.dumps(result, indent=1) + "\n")
    return result


def _turns(contenders: dict[tuple[str, str], Callable[[], object]], rounds: int) -> dict[tuple[str, str], float]:
    """The median of the milliseconds that a call takes, by contender."""
    taken: dict[tuple[str, str], list[float]] = {name: [] for name in contenders}
    for _ in track(range(rounds), "measuring", console=Console(stderr=True), transient=True):
        for name, call in contenders.items():
            call()  # the caches are the other's
            began = time.perf_counter()
            call()
            taken[name].append(1e3 * (time.perf_counter() - began))
    return {name: median(times) for name, times in taken.items()}


def _table(config: FusionBench, rows: list[dict[str, Any]]) -> Table:
    title = f"{config.sensors} tokens of {config.token_dim}, minibatches of {config.rows}, with a hidden layer of 128"
    table = Table("fusion", "parameters", "features", "ms a row to learn", "ms to act", title=title)
    for row in rows:
        numbers = (f"{row['parameters']:,}", str(row["features"]), f"{row['learn']:.4f}", f"{row['act']:.3f}")
        table.add_row(row["fusion"], *numbers)
    return table
