"""Speed of learning, measured side by side in one process: FusionPPO and what people use today.

All contenders take turns, so that a busy machine slows all of them alike; medians count.
"""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rich.console import Console
from rich.progress import Progress

from robofuse.checks import whole
from robofuse.errors import InputError
from robofuse.files import write_atomic
from scripts.bench.tables import train_tables

if TYPE_CHECKING:
    from robofuse.train import Train

SMALLEST = 36  # pixels a side that NatureCNN can take


@dataclass(frozen=True)
class TrainBench:
    """How to measure learning.

    Attributes:
        task: Task, as in `robofuse list`.
        robot: Robot, as in `robofuse list`.
        worlds: Simulations side by side.
        image_size: Pixels a side, at least 36 (SB3's NatureCNN takes no less).
        renderer: Of the pictures: auto takes gl if it works here, else warp.
        n_steps: Control steps of each world between updates; by default as `robofuse train`.
        batch_size: Rows of a minibatch; by default as `robofuse train`.
        epochs: Passes over a rollout; by default as `robofuse train`.
        dropout: Probabilities of masking a sensor at which encoding live rows only is compared with encoding all.
        rollouts: Rollouts, each with its update, of one turn.
        turns: Turns of each contender; the median counts.
        device: Of the networks: auto, cpu or cuda.
        threads: For networks, physics and pictures; by default one per core.
        json: Also write the results here.
    """

    task: str = "Grasp"
    robot: str = "arm"
    num_envs: int = 64
    image_size: int = 64
    renderer: Literal["auto", "gl", "warp"] = "auto"
    n_steps: int | None = None
    batch_size: int | None = None
    epochs: int | None = None
    dropout: tuple[float, ...] = (0.0, 0.3, 0.6)
    rollouts: int = 2
    turns: int = 5
    device: str = "auto"
    threads: int | None = None
    json: Path | None = None


def bench_train(config: TrainBench) -> dict[str, Any]:
    """Measure, print tables, write JSON.

    Args:
        config: what to measure.

    Returns:
        What is written as JSON: `machine`, `versions`, `config`, `options` (those of `robofuse train`, without `auto`),
        `training` (samples per second, end to end), `memory` (bytes per stored step), `phases` (seconds of FusionPPO
        per rollout) and `live_rows` (a row per probability of dropout).

    Raises:
        ValueError, RuntimeError: what cannot be measured; the message says what would be right.
    """
    import torch

    from robofuse.machine import describe_machine, package_versions
    from scripts.bench.contenders import compare, live_rows

    options, note = _options(config)
    console = Console(highlight=False)
    if note:
        console.print(f"note: {note}", style="yellow", soft_wrap=True)
    result: dict[str, Any] = {
        "machine": dict(describe_machine()),
        "versions": package_versions(),
        "config": json.loads(json.dumps(asdict(config), default=str)),
        "options": options.to_dict(),
    }
    if options.device != "cpu":
        result["machine"]["gpu"] = torch.cuda.get_device_name()

    def keep(part: dict[str, Any]) -> None:
        result.update(part)
        if config.json is not None:  # nothing measured is lost when interrupted
            write_atomic(config.json, json.dumps(result, indent=1) + "\n")

    threads, random = torch.get_num_threads(), torch.get_rng_state()
    torch.set_num_threads(options.threads or 1)
    try:
        with Progress(*Progress.get_default_columns(), console=Console(stderr=True)) as progress:
            # a warm-up, and three contenders in every turn; two in those of live rows
            measuring = progress.add_task("", total=3 * (config.turns + 1) + 2 * len(config.dropout) * config.turns)

            def tell(what: str) -> Callable[[], None]:
                progress.update(measuring, description=what)
                return lambda: progress.advance(measuring)

            keep(compare(options, config.rollouts, config.turns, tell("learning")))
            rows: list[dict[str, Any]] = []
            for p in config.dropout:
                rows.append(live_rows(options, p, config.turns, tell(f"live rows, p = {p:g}")))
                keep({"live_rows": rows})
    finally:
        torch.set_num_threads(threads)
        torch.set_rng_state(random)
    console.width = max(console.width, 120)  # a narrow table would hide its figures
    for table in train_tables(result):
        console.print(table)
        console.print()
    return result


def _options(config: TrainBench) -> tuple["Train", str]:
    """Options of `robofuse train` without `auto`, and what to tell people; refuses what would only fail later."""
    from robofuse.checks import usable_cores
    from robofuse.train import Train
    from robofuse.train.build import resolve

    own = ("n_steps", "batch_size", "epochs")
    given = {name: getattr(config, name) for name in own if getattr(config, name) is not None}
    for name in ("task", "robot", "num_envs", "image_size", "renderer", "device"):
        given[name] = getattr(config, name)
    options = Train().replace(**given, threads=config.threads or usable_cores(), teacher="none")
    whole(config.image_size, "--image-size", SMALLEST)
    whole(config.rollouts, "--rollouts", 1)
    whole(config.turns, "--turns", 1)
    if config.threads is not None:
        whole(config.threads, "--threads", 1)
    for p in config.dropout:
        if not 0.0 <= p < 1.0:
            raise InputError(f"--dropout takes probabilities in [0, 1), got {p:g}")
    options.check()
    rows, batch = options.scenes.num_envs * options.learning.n_steps, options.learning.batch_size
    if rows % batch:
        raise InputError(
            f"--batch-size {batch} must divide the {rows} rows of a rollout ({options.scenes.num_envs} worlds × "
            f"{options.learning.n_steps} steps), so that all minibatches are full"
        )
    if config.json is not None and not config.json.absolute().parent.is_dir():
        raise InputError(f"--json: there is no folder {config.json.absolute().parent}")
    return resolve(options)
