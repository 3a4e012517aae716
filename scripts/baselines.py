"""What each part of the method buys: ours, ours without a part, the naive baselines and specialists.

All have the same teacher, budget and scenes.

python scripts/baselines.py runs/baselines --preset default --specialists force+proprio+rgb depth+force+proprio
python scripts/baselines.py runs/ablation --only ours "no re-masking" "1 mask" "4 masks" "keep 0.4" "keep 0.8"

Started again with the same arguments it goes on where it stopped. Leaves comparison.csv beside the runs.
"""

import re
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
from robofuse.train.build import resolve
from robofuse.train.config import CONFIG, preset
from robofuse.train.resume import load_options

VARIANTS = {
    "ours": {},
    "no re-masking": {"remask": 0},
    "no dropout": {"dropout": "none", "remask": 0},  # untrained mask tokens stand for what is missing
    "zero-filling": {"masked_as": "zeros"},  # the same dropout, but masked sensors read zero and nothing tells
    "no replay": {"replay_rows": 0},
    "as many passes, no replay": {"replay_rows": 0, "epochs": 8},
    "imitation alone": {"policy_coef": 0.0, "ent_coef": 0.0},  # no PPO
    "own action only": {"remask_coef": 0.0, "remask_self": 3.0, "teacher_final": 0.0},
    "teacher's action only": {"remask_self": 0.0},
    "1 mask": {"remask": 1},
    "4 masks": {"remask": 4},
    "keep 0.4": {"remask_keep": 0.4},
    "keep 0.8": {"remask_keep": 0.8},
}


@dataclass(frozen=True)
class Baselines:
    """What to compare.

    Attributes:
        folder: For the runs and the table.
        preset: Options of all trainings, see `robofuse train --help`.
        robot: Robot, as in `robofuse list`; by default the preset's.
        steps: Control steps of every training; by default the preset's.
        seed: Of every training.
        specialists: Sets of sensors, joined by +; for each, a policy is trained that never had another one.
        episodes: Scenes of the evaluation.
        only: Those to train: ours, no re-masking, no dropout, zero-filling, no replay, "as many passes, no replay",
            imitation alone, own action only, teacher's action only, 1 mask, 4 masks, keep 0.4, keep 0.8.
    """

    folder: tyro.conf.Positional[Path]
    preset: str = "quick"
    robot: str | None = None
    steps: int | None = None
    seed: int = 1
    specialists: tuple[str, ...] = ()
    episodes: int = 500
    only: tuple[str, ...] = ("ours", "no re-masking", "no dropout", "zero-filling")


def train(config: Train, folder: Path) -> None:
    """Begin or go on, to the end."""
    if (folder / CONFIG).exists():
        before = dict(load_options(folder).items())
        for name, value in resolve(config)[0].items():
            if name in ("robot", "steps", "seed", "sensors", *(option for one in VARIANTS.values() for option in one)):
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
    given = {name: x for name, x in (("robot", asked.robot), ("steps", asked.steps)) if x is not None}
    base = preset(asked.preset).replace(**given, seed=asked.seed)
    results: dict[str, Results] = {}
    for name in asked.only:
        run = asked.folder / re.sub("[^a-z0-9.]+", "-", name)
        train(base.replace(**VARIANTS[name]), run)
        results[name] = evaluate(run, run / "evaluation", asked.episodes, ("everything",))
    specialists: dict[str, ConditionResult] = {}
    for sensors in asked.specialists:
        run, keys = asked.folder / f"specialist-{sensors}", tuple(sensors.split("+"))
        train(base.replace(sensors=keys, dropout="none", remask=0), run)
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
