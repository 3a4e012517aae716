"""Speed, measured side by side in one run, as steps per second and as ratios.

Every contender of one number of worlds and one image size takes turns within one process, so that a busy machine slows
all of them alike; each process is fresh, so that its peak memory is its own.
"""

import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from itertools import product
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.progress import Progress

from robofuse.checks import whole
from robofuse.errors import InputError
from robofuse.files import write_atomic
from scripts.bench.tables import bench_tables, best_processes

COMPARED_AT = 64  # worlds, beside SubprocVecEnv in one process


@dataclass(frozen=True)
class EnvBench:
    """How to measure environments.

    Attributes:
        task: Task, as in `robofuse list`.
        robot: Robot, as in `robofuse list`.
        worlds: Numbers of worlds.
        sizes: Image sizes, pixels a side.
        renderers: Renderers of a World.
        processes: Numbers of processes for SubprocVecEnv; the best counts.
        seconds: Measured time of each contender.
        rounds: Turns each contender takes within that time; the median counts.
        json: Also write the results here.
    """

    task: str = "Grasp"
    robot: str = "arm"
    num_envs: tuple[int, ...] = (1, 16, 64, 256)
    sizes: tuple[int, ...] = (64, 128)
    renderers: tuple[str, ...] = ("gl", "warp")
    processes: tuple[int, ...] = (1, 2, 4)
    seconds: float = 6.0
    rounds: int = 5
    json: Path | None = None


def bench_env(config: EnvBench) -> dict[str, Any]:
    """Measure, print tables, write JSON.

    Args:
        config: what to measure.

    Returns:
        What is written as JSON: `machine`, `config`, `worlds` (a row per renderer, size and number of worlds) and
        `subprocesses` (a row per quality, size and number of processes).
    """
    _check(config)
    base = {"task": config.task, "robot": config.robot, "seconds": config.seconds, "rounds": config.rounds}
    result: dict[str, Any] = {"machine": machine(), "config": json.loads(json.dumps(asdict(config), default=str))}
    result |= {"subprocesses": [], "worlds": []}

    def run(kind: str, job: dict[str, Any]) -> None:
        result[kind].append(_in_fresh_process(kind, base | job))
        if config.json is not None:  # nothing measured is lost when interrupted
            write_atomic(config.json, json.dumps(result, indent=1) + "\n")

    rivals = list(product(config.sizes, (True, False), config.processes))
    ours = list(product(config.sizes, config.renderers, config.num_envs))
    beside = min(config.num_envs, key=lambda count: abs(count - COMPARED_AT))
    console = Console()
    with Progress(*Progress.get_default_columns(), console=Console(stderr=True)) as progress:
        measuring = progress.add_task("measuring", total=len(rivals) + len(ours))
        for size, tuned, count in rivals:
            run("subprocesses", {"tuned": tuned, "size": size, "processes": count})
            progress.advance(measuring)
        for size, renderer, count in ours:
            job: dict[str, Any] = {"renderer": renderer, "size": size, "num_envs": count}
            if count == beside:
                job["rivals"] = {
                    "tuned" if tuned else "default": best_processes(result["subprocesses"], size, tuned)
                    for tuned in (True, False)
                }
            run("worlds", job)
            progress.advance(measuring)
    console.width = max(console.width, 180)  # a narrow table would hide its figures
    for table in bench_tables(result):
        console.print(table)
        console.print()
    return result


def measure_worlds(
    task: str,
    robot: str,
    renderer: str,
    size: int,
    num_envs: int,
    seconds: float,
    rounds: int,
    rivals: dict[str, int] | None = None,
) -> dict[str, Any]:
    """Measures a World and what it is compared with.

    Args:
        task: what is simulated.
        robot: likewise.
        renderer: of the World and of the floor.
        size: pixels a side.
        num_envs: worlds.
        seconds: for each contender.
        rounds: turns each contender takes.
        rivals: SubprocVecEnv too, `tuned` or `default` → number of processes.

    Returns:
        Control steps per second of `physics` alone, of physics and rendering (`floor`), of `World.step` (`world`), of
        our SB3VecEnv (`ours`), for one world of the environment that `gym.make` gives (`gym`), and of the rivals;
        `world_to_floor` and `ours_to_floor`, medians over the turns; `ms_per_step`, and memory in MiB.
    """
    import gymnasium as gym
    import numpy as np
    from stable_baselines3.common.vec_env import SubprocVecEnv

    from robofuse.envs.sb3 import SB3VecEnv
    from robofuse.registration import id_of
    from scripts.bench.rivals import Floor, Script, typical

    imported = _resident("VmRSS", os.getpid())
    env = SB3VecEnv(task, num_envs, robot=robot, renderer=renderer, image_size=size)
    env.reset()
    actions = np.random.default_rng(0).uniform(-1.0, 1.0, (100, num_envs, 5))
    script = Script(env.world, actions)
    memory = sum(_resident("VmHWM", pid) for pid in [os.getpid(), *_children()])
    floor = Floor(env.world.backend.model, script, size, renderer)
    env.reset()
    count = iter(range(1 << 60))
    contenders: dict[str, Callable[[], object]] = {
        "physics": floor.physics,
        "floor": floor.physics_and_render,
        "world": lambda: env.world.step(actions[next(count) % 100]),
        "ours": lambda: env.step(actions[next(count) % 100]),
    }
    others: list[Any] = []
    if num_envs == 1:
        single = gym.make(id_of(task), robot=robot, renderer=renderer, image_size=size)
        single.reset(seed=0)
        others.append(single)

        def step() -> None:
            _, _, terminated, truncated, _ = single.step(actions[next(count) % 100, 0])
            if terminated or truncated:
                single.reset()

        contenders["gym"] = step
    steps = dict.fromkeys(contenders, num_envs)
    for name, processes in (rivals or {}).items():
        other = SubprocVecEnv([typical(task, robot, size, name == "tuned")] * processes, start_method="spawn")
        other.reset()
        moves = np.random.default_rng(0).uniform(-1.0, 1.0, (processes, *(other.action_space.shape or ())))
        others.append(other)
        contenders[name], steps[name] = partial(other.step, moves), processes
    rates = turns(contenders, steps, seconds, rounds)
    for other in others:
        other.close()
    env.close()
    floor.close()
    found = {name: median(values) for name, values in rates.items()}
    for name in ("world", "ours"):  # turn by turn: whatever slows the machine slows both
        found[f"{name}_to_floor"] = median(x / least for x, least in zip(rates[name], rates["floor"], strict=True))
    return found | {"imported_mib": imported, "peak_mib": memory, "ms_per_step": 1e3 * num_envs / found["ours"]}


def measure_subprocesses(
    task: str, robot: str, tuned: bool, size: int, processes: int, seconds: float, rounds: int
) -> dict[str, Any]:
    """Steps per second of SubprocVecEnv over ordinary environments; memory of all processes in MiB."""
    import numpy as np
    from stable_baselines3.common.vec_env import SubprocVecEnv

    from scripts.bench.rivals import typical

    env = SubprocVecEnv([typical(task, robot, size, tuned)] * processes, start_method="spawn")
    env.reset()
    actions = np.random.default_rng(0).uniform(-1.0, 1.0, (64, processes, *(env.action_space.shape or ())))
    count = iter(range(1 << 60))
    contenders: dict[str, Callable[[], object]] = {"steps": lambda: env.step(actions[next(count) % 64])}
    rates = {"steps": median(turns(contenders, {"steps": processes}, seconds, rounds)["steps"])}
    children = [process.pid for process in env.processes]
    memory = sum(_resident("VmHWM", pid) for pid in [os.getpid(), *children])
    env.close()
    return rates | {"peak_mib": memory, "ms_per_step": 1e3 * processes / rates["steps"]}


def turns(
    contenders: dict[str, Callable[[], object]], steps: dict[str, int], seconds: float, rounds: int
) -> dict[str, list[float]]:
    """Control steps per second of each contender in each of its turns; a call makes `steps` of them."""
    rates: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, step in contenders.items():
            rates[name].append(steps[name] * _timed(step, seconds / rounds))
    return rates


def _timed(step: Callable[[], object], seconds: float) -> float:
    """Calls per second."""
    step()
    calls, start = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - start) < seconds:
        step()
        calls += 1
    return calls / elapsed


def _resident(field: str, pid: int) -> float:
    """`VmRSS` or `VmHWM` (peak) of a process [MiB]; NaN where there is no /proc."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return float("nan")
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith(field)), float("nan"))


def _children() -> list[int]:
    """Processes that this one has started, where /proc tells."""
    return [int(pid) for path in Path("/proc/self/task").glob("*/children") for pid in path.read_text().split()]


def _check(config: EnvBench) -> None:
    """Refuse what would only fail in a process further on; ValueError, or RuntimeError where OpenGL is missing."""
    from robofuse.envs.robot import resolve_robot
    from robofuse.envs.tasks import resolve_task
    from robofuse.registration import RENDERERS

    resolve_task(config.task)
    resolve_robot(config.robot)
    for name, low in (("num_envs", 1), ("sizes", 8), ("processes", 1), ("renderers", None)):
        values = getattr(config, name)
        if not values:
            raise InputError(f"{name} must not be empty")
        for value in values:
            if low is not None:
                whole(value, name, low)
            elif value not in RENDERERS:
                raise InputError(f"unknown renderer {value!r}; renderers: {', '.join(RENDERERS)}")
    whole(config.rounds, "rounds", 1)
    if config.seconds <= 0.0:
        raise InputError(f"seconds must be more than 0, got {config.seconds}")


def _in_fresh_process(kind: str, job: dict[str, Any]) -> dict[str, Any]:
    from robofuse.envs.rendering.gl import choose_opengl

    command = [sys.executable, "-m", "scripts.bench.measure", kind, json.dumps(job)]
    # an ordinary mujoco.Renderer does not look for what works, and fails where there is no screen
    backend = choose_opengl().backend
    root = Path(__file__).parents[2]
    done = subprocess.run(command, capture_output=True, text=True, cwd=root, env=os.environ | {"MUJOCO_GL": backend})
    if done.returncode:
        raise InputError(f"measuring {job} failed: {(done.stderr.strip().splitlines() or ['no message'])[-1]}")
    return job | json.loads(done.stdout.splitlines()[-1])


def machine() -> dict[str, Any]:
    """What it was measured on."""
    from robofuse.checks import usable_cores

    return {"platform": platform.platform(), "cores": usable_cores(), "python": platform.python_version()}
