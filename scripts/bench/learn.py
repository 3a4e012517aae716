"""Wall-clock time until a policy succeeds with all sensors, and with any one of them missing; curves over seeds.

Contenders train one after the other, seed by seed. Each leaves a file when it is finished; the same command goes on.
"""

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from rich.console import Console

from robofuse.checks import whole
from robofuse.errors import InputError, StateError
from robofuse.files import lock, write_atomic
from scripts.bench.tables import learn_table
from scripts.bench.train import SMALLEST

if TYPE_CHECKING:
    from robofuse.train import Train
    from scripts.bench.curves import Point

Contender = Literal["ours", "no-remask", "no-dropout", "zeros", "sb3"]
_UNMASKED = {"dropout": "none", "rates": (), "remask": 0}
_CHANGES: dict[str, dict[str, Any]] = {
    "ours": {},
    "no-remask": {"remask": 0},
    "no-dropout": _UNMASKED,
    "zeros": {"masked_as": "zeros", "remask": 0},
    "sb3": _UNMASKED | {"teacher": "none", "masked_as": "zeros"},
}
_FREE = ("contenders", "seeds", "out", "threads")  # may change when a benchmark goes on


@dataclass(frozen=True)
class LearnBench:
    """What to train, and how to measure it.

    Attributes:
        contenders: ours, the preset as it stands; no-remask, without further masks while learning; no-dropout, nothing
            masked in training; zeros, masked sensors read zero and nothing tells so; sb3, Stable-Baselines3's PPO
            with CombinedExtractor in the same worlds, nothing masked, without a teacher.
        preset: Of `robofuse train`.
        task: Task, as in `robofuse list`; by default the preset's.
        robot: Robot, as in `robofuse list`; by default the preset's.
        steps: Control steps of each training; by default the preset's.
        seeds: Trainings of each contender, with seeds 0, 1, …
        episodes: Of each condition in each validation.
        validate_every: Control steps between validations.
        num_envs: Worlds side by side; by default the preset's.
        render_size: Pixels a side at which cameras draw at least; by default the preset's.
        threads: For networks, physics and pictures; by default one per core.
        out: Folder of the results and of all trainings.
    """

    contenders: tuple[Contender, ...] = ("ours", "no-remask", "no-dropout", "zeros", "sb3")
    preset: str = "quick"
    task: str | None = None
    robot: str | None = None
    steps: int | None = None
    seeds: int = 5
    episodes: int = 64
    validate_every: int = 15_000
    num_envs: int | None = None
    render_size: int | None = None
    threads: int | None = None
    out: Path = Path("runs/bench-learn")


def bench_learn(config: LearnBench) -> dict[str, Any]:
    """Train all, print a table, write `learn.json`, `learn.csv` and `learn.png`.

    Args:
        config: what to train.

    Returns:
        What is written as JSON: `config`, `times` (see `curves.times`), and `runs`, each with `contender`, `seed`,
        `machine`, `versions`, `options` and `curve`.

    Raises:
        InputError: options that cannot be used, or a folder that holds results of others.
        StateError: it was interrupted; the same command goes on.
    """
    console = Console(highlight=False, soft_wrap=True)
    options = {name: _options(config, name) for name in config.contenders}
    if "no-remask" in options and "ours" in options and not options["ours"].learning.remask:
        console.print(f"note: --preset {config.preset} has --remask 0, so no-remask is ours and left out")
        del options["no-remask"]
    jobs = [(name, seed) for seed in range(config.seeds) for name in options]
    with lock(config.out, "benchmark"):
        _check_folder(config)
        for number, (name, seed) in enumerate(jobs, start=1):
            path = config.out / f"{name}-{seed}.json"
            if path.exists():
                continue
            console.rule(f"{name}, seed {seed} ({number} of {len(jobs)})")
            _run(name, options[name].replace(seed=seed), config.out, path)
            _summarise(config, jobs)  # what is there so far
        result = _summarise(config, jobs)
    console.width = max(console.width, 120)
    console.print(learn_table(result))
    console.print(f"curves: {config.out / 'learn.png'}; all numbers: {config.out / 'learn.json'} and learn.csv")
    return result


def _options(config: LearnBench, contender: str) -> "Train":
    """Options of a contender's training, without `auto`; refuses what would only fail later."""
    from robofuse.train.build import resolve
    from robofuse.train.config import preset

    for name in ("seeds", "episodes", "validate_every"):
        whole(getattr(config, name), f"--{name.replace('_', '-')}", 1)
    if not config.contenders:
        raise InputError("--contenders: name one at least")
    same = ("task", "robot", "steps", "num_envs", "render_size", "threads")
    given = {name: getattr(config, name) for name in same if getattr(config, name) is not None}
    options = preset(config.preset).replace(
        **_CHANGES[contender],
        **given,
        validate_every=config.validate_every,
        validation_episodes=config.episodes,
        validate_alone=False,
    )
    if contender == "sb3":  # NatureCNN takes no smaller pictures
        options = options.replace(image_size=max(options.scenes.image_size, SMALLEST))
    options.check()
    if len(options.scenes.sensors) < 2:
        raise InputError(f"--preset {config.preset} has one sensor alone, of which none can be missing")
    return resolve(options)[0]


def _check_folder(config: LearnBench) -> None:
    """Writes the options into the folder, or checks that they are those of the results that it holds."""
    path = config.out / "config.json"
    plain = json.loads(json.dumps(asdict(config), default=str))
    fixed = {name: value for name, value in plain.items() if name not in _FREE}
    if not (path.exists() and any(config.out.glob("*-[0-9]*"))):  # nothing was begun
        write_atomic(path, json.dumps(fixed, indent=1) + "\n")
        return
    before = json.loads(path.read_text())
    other = [
        field.name for field in fields(config) if field.name in fixed and before.get(field.name) != fixed[field.name]
    ]
    if other:
        name = other[0]
        raise InputError(
            f"{config.out} holds results with --{name.replace('_', '-')} {before.get(name)}, now {fixed[name]}; "
            "give another --out"
        )


def _run(contender: str, options: "Train", out: Path, path: Path) -> None:
    """Trains, or goes on, and writes the result."""
    from robofuse.machine import describe_machine, package_versions

    curve = _train_sb3(options) if contender == "sb3" else _train(options, out / path.stem)
    result = {
        "contender": contender,
        "seed": options.seed,
        "machine": describe_machine(),
        "versions": package_versions(),
        "options": options.to_dict(),
        "curve": [point._asdict() for point in curve],
    }
    write_atomic(path, json.dumps(result, indent=1) + "\n")


def _train(options: "Train", folder: Path) -> list["Point"]:
    from robofuse.files import read_tensors
    from robofuse.train import run_train
    from robofuse.train.checkpoint import FINAL
    from robofuse.train.config import CONFIG
    from robofuse.train.resume import load_options

    if run_train(load_options(folder) if (folder / CONFIG).exists() else options.replace(out=folder)):
        raise StateError("stopped; the same command goes on from here")
    teacher = read_tensors(folder / FINAL)[1]["card"]["teacher"] or {}
    return read_curve(folder, sum(teacher.get(name) or 0.0 for name in ("seconds", "validation_seconds")))


def read_curve(folder: Path, teacher: float) -> list["Point"]:
    """The validations of a run, of which the teacher took so many seconds."""
    from robofuse.train.display import SPENT, VALIDATION, read_rows
    from scripts.bench.curves import Point

    return [
        Point(
            int(row["step"]),
            teacher,
            float(row[SPENT[0]]),
            float(row[SPENT[1]]),
            {name: float(rate) for name, rate in row.items() if name == "all" or name.startswith("no-")},
        )
        for row in read_rows(folder / VALIDATION)
    ]


def _train_sb3(options: "Train") -> list["Point"]:
    import torch

    from robofuse.interrupts import Interrupt
    from scripts.bench.contenders import learn_sb3

    threads, random = torch.get_num_threads(), torch.get_rng_state()
    torch.set_num_threads(options.threads or 1)
    try:
        with Interrupt() as interrupt:
            curve = learn_sb3(options, lambda: interrupt.asked)
    finally:
        torch.set_num_threads(threads)
        torch.set_rng_state(random)
    if curve is None:
        raise StateError("stopped; the same command begins this training again, and keeps those that are finished")
    return curve


def _summarise(config: LearnBench, jobs: Sequence[tuple[str, int]]) -> dict[str, Any]:
    """Reads all results that are there, and writes JSON, CSV and PNG."""
    from scripts.bench.curves import WORST, Point, draw, times

    found = [config.out / f"{name}-{seed}.json" for name, seed in jobs]
    runs = [json.loads(path.read_text()) for path in found if path.exists()]
    curves: dict[str, dict[int, list[Point]]] = {name: {} for name, _ in jobs if name in {r["contender"] for r in runs}}
    for run in runs:
        curves[run["contender"]][run["seed"]] = [Point(**point) for point in run["curve"]]
    plain = json.loads(json.dumps(asdict(config), default=str))
    result = {"config": plain, "times": times(curves, config.episodes), "runs": runs}
    write_atomic(config.out / "learn.json", json.dumps(result, indent=1) + "\n")
    rows = [
        {
            "contender": name,
            "seed": seed,
            "step": point.step,
            "seconds": round(point.seconds, 3),
            "teacher_seconds": point.teacher,
            "training_seconds": point.training,
            "validation_seconds": point.validation,
            WORST: point.rate(WORST),
            **point.success,
        }
        for name, by_seed in curves.items()
        for seed, curve in by_seed.items()
        for point in curve
    ]
    text = io.StringIO()
    writer = csv.DictWriter(text, list(dict.fromkeys(name for row in rows for name in row)), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_atomic(config.out / "learn.csv", text.getvalue())
    draw(curves, f"learning with --preset {config.preset}", config.out / "learn.png")
    return result
