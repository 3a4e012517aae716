"""Worlds and learning on one device, part by part: the first thing to run on a GPU, and the same on a CPU.

Every part holds the one before it, so the difference of two is what the later one adds.
"""

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, Literal

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from robofuse.checks import whole
from robofuse.errors import InputError, StateError
from robofuse.files import write_atomic

if TYPE_CHECKING:
    from robofuse.train import Train

# What was aimed at on one H100, for whole steps of Grasp with the arm, RGB-D at 64², and what others have reported.
GOALS = {"goal": 200_000, "Isaac Lab, RGB, RTX 5090": 85_441, "Playground + Madrona": 36_971}
PARTS = ("physics", "pictures", "world", "rollout", "update")
_SCENES = ("task", "robot", "image_size", "physics", "device")


@dataclass(frozen=True)
class DeviceBench:
    """What to measure.

    Attributes:
        task: Task, as in `robofuse list`.
        robot: Robot, as in `robofuse list`.
        num_envs: Numbers of worlds; by default 1,024 and 4,096 on a GPU, 16 on a CPU.
        image_size: Pixels a side.
        physics: warp, all on the device; mixed, MuJoCo on the CPU's cores and the rest there; mujoco, for --device cpu.
        device: auto, cpu or cuda.
        steps: Control steps of a turn and of a rollout.
        turns: Turns of each part; the median counts.
        batch_size: Rows of a minibatch; by default a quarter of a rollout.
        json: Also write the results here.
    """

    task: str = "Grasp"
    robot: str = "arm"
    num_envs: tuple[int, ...] = ()
    image_size: int = 64
    physics: Literal["warp", "mixed", "mujoco"] = "warp"
    device: str = "auto"
    steps: int = 16
    turns: int = 5
    batch_size: int | None = None
    json: Path | None = None


def bench_device(config: DeviceBench) -> dict[str, Any]:
    """Measure, print a table, write JSON.

    Args:
        config: what to measure.

    Returns:
        What is written as JSON: `machine`, `versions`, `config`, and `rows`, one for each number of worlds: control
        steps per second of `physics` alone, with `pictures` drawn and read, of the whole `world`, and of a `rollout`
        (acting, stepping, storing); rows per second of an `update`; `warm_up_s`, which is not in them; on CUDA the
        bytes of `memory` at most, and `waits`, how often a rollout with its update made the CPU wait for the GPU.

    Raises:
        InputError, StateError: what cannot be measured here; if memory does not suffice, how many worlds may fit.
    """
    import torch

    from robofuse.machine import describe_machine, package_versions

    options = _options(config)
    cuda = options.device != "cpu"
    result: dict[str, Any] = {
        "machine": dict(describe_machine()) | ({"gpu": torch.cuda.get_device_name(options.device)} if cuda else {}),
        "versions": package_versions(),
        "config": json.loads(json.dumps(asdict(config), default=str)),
        "rows": [],
    }
    counts = config.num_envs or ((1024, 4096) if cuda else (16,))
    with Progress(*Progress.get_default_columns(), console=Console(stderr=True)) as progress:
        measuring = progress.add_task("", total=len(counts) * (1 + config.turns))
        for count in counts:

            def tell(what: str, count: int = count) -> None:
                progress.update(measuring, description=f"{count:,} worlds: {what}", advance=1)

            result["rows"].append(_measured(options.replace(num_envs=count), config, result["rows"], tell))
            if config.json is not None:  # nothing measured is lost when interrupted
                write_atomic(config.json, json.dumps(result, indent=1) + "\n")
    console = Console()
    console.width = max(console.width, 120)  # a narrow table would hide its figures
    console.print(_table(result, options))
    return result


def _options(config: DeviceBench) -> "Train":
    """Options of `robofuse train`; refuses what would only fail later."""
    from robofuse.train import Train
    from robofuse.train.build import resolve

    for count in config.num_envs:
        whole(count, "--num-envs", 1)
    whole(config.steps, "--steps", 2)
    whole(config.turns, "--turns", 1)
    if config.batch_size is not None:
        whole(config.batch_size, "--batch-size", 2)
    if config.json is not None and not config.json.absolute().parent.is_dir():
        raise InputError(f"--json: there is no folder {config.json.absolute().parent}")
    given = {name: getattr(config, name) for name in _SCENES} | {
        "n_steps": config.steps,
        "epochs": 1,
        "teacher": "none",
    }
    options = Train().replace(**given, remask=0, replay_rows=0, threads=None, renderer="auto")
    options.check()
    options, _ = resolve(options)
    if options.scenes.physics == "mujoco" and options.device != "cpu":
        raise InputError("--physics mujoco is for --device cpu; on a GPU take warp or mixed")
    return options


def _measured(
    options: "Train", config: DeviceBench, before: list[dict[str, Any]], tell: Callable[[str], None]
) -> dict[str, Any]:
    """One row of the results; StateError, with how many worlds may fit, if memory does not suffice."""
    import torch

    count = options.scenes.num_envs
    try:
        return _row(options.replace(batch_size=config.batch_size or max(2, count * config.steps // 4)), config, tell)
    except (torch.OutOfMemoryError, RuntimeError) as error:
        if not isinstance(error, torch.OutOfMemoryError) and "out of memory" not in str(error).lower():
            raise
        fits = "less than that"
        if before and before[-1].get("memory"):
            room = torch.cuda.get_device_properties(options.device).total_memory
            fits = f"about {int(0.9 * room / before[-1]['memory'] * before[-1]['num_envs']):,}"
        raise StateError(f"{count:,} worlds do not fit into the memory of {options.device}; {fits} may") from error


def _row(options: "Train", config: DeviceBench, tell: Callable[[str], None]) -> dict[str, Any]:
    import torch
    from stable_baselines3.common.logger import Logger

    from robofuse.train.build import make_env, make_model

    cuda, count = options.device != "cpu", options.scenes.num_envs
    if cuda:
        torch.cuda.reset_peak_memory_stats(options.device)
    free = torch.cuda.mem_get_info(options.device)[0] if cuda else 0
    wait = torch.cuda.synchronize if cuda else lambda: None
    began = time.perf_counter()
    tell("warming up")
    env = make_env(options)
    try:
        model, world = make_model(options, env), env.world
        model.set_logger(Logger(None, []))
        _, callback = model._setup_learn(1 << 40)
        action = torch.zeros(count, 5, device=world.backend.device)

        def physics() -> None:
            world.robot.apply(action)
            world.backend.step()

        def pictures() -> None:
            physics()
            world.robot.update()
            world._read()()

        def rollout() -> None:
            model.collect_rollouts(env, callback, model.rollout_buffer, config.steps)

        calls: dict[str, tuple[Callable[[], object], int]] = {
            "physics": (physics, config.steps),
            "pictures": (pictures, config.steps),
            "world": (lambda: world.step(action), config.steps),
            "rollout": (rollout, 1),
            "update": (model.train, 1),
        }
        for call, _ in calls.values():
            call()
        world.reset()  # hands have been driven on without an end of their episodes
        wait()
        found: dict[str, Any] = {"num_envs": count, "warm_up_s": time.perf_counter() - began}
        rates: dict[str, list[float]] = {part: [] for part in calls}
        for _ in range(config.turns):
            tell("measuring")
            for part, (call, repeats) in calls.items():
                start = time.perf_counter()
                for _ in range(repeats):
                    call()
                wait()
                rates[part].append(count * config.steps / (time.perf_counter() - start))
            world.reset()
        found |= {part: median(values) for part, values in rates.items()}
        if cuda:
            used = free - torch.cuda.mem_get_info(options.device)[0]  # Warp allocates beside torch
            found |= {
                "memory": max(used, torch.cuda.max_memory_allocated(options.device)),
                "waits": _waits(rollout, model),
            }
        return found
    finally:
        env.close()


def _waits(rollout: Callable[[], None], model: Any) -> int:  # noqa: ANN401
    """How often a rollout with its update makes the CPU wait for the GPU, as torch notices it."""
    import warnings

    import torch

    torch.cuda.set_sync_debug_mode("warn")
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            rollout()
            model.train()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return sum("synchroniz" in str(warning.message) for warning in caught)


def _table(result: dict[str, Any], options: "Train") -> Table:
    scenes = options.scenes
    where = result["machine"].get("gpu", f"a CPU, {result['machine'].get('cores', '?')} cores")
    title = (
        f"{options.task} with the {options.robot}, RGB-D {scenes.image_size}², physics {scenes.physics}, on {where}: "
        "control steps per second of all worlds together, of an update rows per second"
    )
    told = "; ".join(f"{name}: {steps:,}" for name, steps in GOALS.items())
    table = Table(title=title, title_justify="left", caption=f"whole steps of 4,096 worlds at 64²: {told}")
    for name in ("worlds", *PARTS, "world of goal", "warm-up [s]", "memory [GiB]", "waits"):
        table.add_column(name, justify="right")
    for row in result["rows"]:
        table.add_row(
            f"{row['num_envs']:,}",
            *(f"{row[part]:,.0f}" for part in PARTS),
            f"{row['world'] / GOALS['goal']:.1%}",
            f"{row['warm_up_s']:.0f}",
            f"{row['memory'] / 2**30:.1f}" if "memory" in row else "–",
            str(row.get("waits", "not counted")),
        )
    return table
