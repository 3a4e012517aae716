"""What sensor dropout and mask tokens buy: ours, the naive baselines and specialists, same teacher, budget and scenes.

python scripts/baselines.py runs/baselines --steps 500000 --specialists force+proprio+rgb depth+force+proprio

Started again with the same arguments it goes on where it stopped. Leaves comparison.csv beside the runs.
"""

import sys
from dataclasses import dataclass
from pathlib import Path

import tyro
from rich.console import Console

from robofuse.evaluate import ConditionResult, Evaluate, read_evaluation, run_evaluate
from robofuse.evaluate.conditions import missing
from robofuse.evaluate.screen import COMPARISON, Results, comparison_table
from robofuse.files import write_atomic
from robofuse.train import Train, run_train
from robofuse.train.build import teacher_config
from robofuse.train.config import CONFIG, load_options

VARIANTS = {
    "dropout": {},
    "no dropout": {"dropout": "none"},  # untrained mask tokens stand for what is missing
    "zero-filling": {"masked_as": "zeros"},  # the same dropout, but hidden sensors read zero and nothing tells
}


@dataclass(frozen=True)
class Baselines:
    """What to compare.

    Attributes:
        folder: For the runs and the table.
        robot: Robot, as in `robofuse list`.
        steps: Control steps of every training.
        teacher_steps: Control steps of the teacher that all of them share.
        seed: Of every training.
        specialists: Sets of sensors, joined by +; for each, a policy is trained that never had another one.
        episodes: Scenes of the evaluation.
        only: Of dropout, "no dropout" and zero-filling, those to train.
    """

    folder: tyro.conf.Positional[Path]
    robot: str = "arm"
    steps: int = 500_000
    teacher_steps: int = 600_000
    seed: int = 1
    specialists: tuple[str, ...] = ()
    episodes: int = 500
    only: tuple[str, ...] = tuple(VARIANTS)


def train(config: Train, folder: Path) -> None:
    """Begin or go on, to the end."""
    if (folder / CONFIG).exists():
        before = dict(load_options(folder).items())
        for name, value in config.items():
            if name in ("robot", "steps", "seed", "teacher_steps", "teacher", "sensors", "dropout", "masked_as"):
                if before[name] != value:
                    raise ValueError(f"{folder} was trained with {name} {before[name]}, not {value}; another folder")
        config = load_options(folder)
    status = run_train(config.replace(out=folder))
    if status:
        raise SystemExit(status)


def evaluate(run: Path, out: Path, episodes: int, conditions: tuple[str, ...]) -> Results:
    """Results by condition."""
    status = run_evaluate(Evaluate(str(run), episodes=episodes, conditions=conditions, out=out))
    if status:
        raise SystemExit(status)
    return read_evaluation(out).conditions


def main(asked: Baselines) -> None:
    """Train, evaluate, compare."""
    unknown = [name for name in asked.only if name not in VARIANTS]
    if unknown or not asked.only:
        raise SystemExit(f"error: --only takes {', '.join(VARIANTS)}; got {' '.join(unknown) or 'none'}")
    base = Train().replace(robot=asked.robot, steps=asked.steps, teacher_steps=asked.teacher_steps, seed=asked.seed)
    teacher = teacher_config(base, asked.folder)
    train(teacher, Path(str(teacher.out)))
    base = base.replace(teacher=str(teacher.out))
    results: dict[str, Results] = {}
    for name in asked.only:
        run = asked.folder / name.replace(" ", "-")
        train(base.replace(**VARIANTS[name]), run)
        results[name] = evaluate(run, run / "evaluation", asked.episodes, ("everything",))
    specialists: dict[str, ConditionResult] = {}
    for sensors in asked.specialists:
        run, keys = asked.folder / f"specialist-{sensors}", tuple(sensors.split("+"))
        train(base.replace(sensors=keys, dropout="none"), run)
        won = evaluate(run, run / "evaluation", asked.episodes, ("all",))["all"]
        everything = sorted(base.scenes.sensors)
        specialists[missing(everything, set(everything) - set(keys)).name] = won
    if specialists:
        results["specialist"] = specialists
    table, text = comparison_table(results)
    write_atomic(asked.folder / COMPARISON, text)
    console = Console(highlight=False)
    console.width = max(console.width, 40 * len(results) + 20)
    console.print(table)
    console.print(f"wrote {asked.folder / 'comparison.csv'}")


if __name__ == "__main__":
    try:
        main(tyro.cli(Baselines, description=__doc__))
    except (ValueError, RuntimeError) as error:
        sys.exit(f"error: {error}")
