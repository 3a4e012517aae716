"""What demonstrations buy: control steps to 90 % success with and without a warm start, same options, seed by seed.

python scripts/warm_start.py runs/warm --robot gripper --sensors truth --preset teacher --steps 200000

Started again with the same arguments it goes on where it stopped. Leaves warm-start.csv beside the runs.
"""

import csv
import io
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro
from rich.console import Console
from rich.table import Table

from robofuse.demos import Record, run_record
from robofuse.files import read_tensors as read
from robofuse.files import write_atomic
from robofuse.sensors import MODALITIES
from robofuse.train import Train, load_options, run_train
from robofuse.train.checkpoint import FINAL
from robofuse.train.config import CONFIG, preset
from robofuse.train.display import VALIDATION, read_rows


@dataclass(frozen=True)
class WarmStarts:
    """What to compare.

    Attributes:
        folder: For demonstrations, runs and the table.
        task: Task, as in `robofuse list`.
        robot: Robot, as in `robofuse list`.
        preset: Of the trainings, as in `robofuse train`.
        sensors: Out of rgb, depth, proprio and force; or truth, the simulator's.
        image_size: Pixels a side.
        steps: Control steps of every training.
        seeds: One pair of trainings for each.
        episodes: Demonstrations of the expert.
        noise: What is added to their actions, as in `robofuse record`.
        passes: Over the demonstrations.
        validate_every: Steps between validations.
        validation_episodes: Of each condition.
        threshold: Success with all sensors that is waited for.
        threads: Of every training, by default one per core.
    """

    folder: tyro.conf.Positional[Path]
    task: str = "Grasp"
    robot: str = "gripper"
    preset: str = "alone"
    sensors: tuple[str, ...] = MODALITIES
    image_size: int = 64
    steps: int = 200_000
    seeds: tuple[int, ...] = (0, 1, 2)
    episodes: int = 50
    noise: float = 0.2
    passes: int = 40
    validate_every: int = 10_000
    validation_episodes: int = 50
    threshold: float = 0.9
    threads: int | None = None


def demonstrate(asked: WarmStarts, seed: int) -> Path:
    """The demonstrations for a seed."""
    folder = asked.folder / f"demos-{seed}"
    seen = tuple(sensor for sensor in asked.sensors if sensor in MODALITIES) or ("proprio",)
    status = run_record(
        Record(task=asked.task, robot=asked.robot, sensors=seen, image_size=asked.image_size, seed=seed,
               episodes=asked.episodes, noise=asked.noise, out=folder)
    )  # fmt: skip
    if status:
        raise SystemExit(status)
    return folder


def train(asked: WarmStarts, seed: int, demos: str) -> Path:
    """Begin or go on, to the end."""
    folder = asked.folder / f"{'cold' if demos == 'none' else 'warm'}-{seed}"
    config = preset(asked.preset).replace(
        task=asked.task, robot=asked.robot, sensors=asked.sensors, image_size=asked.image_size, steps=asked.steps,
        seed=seed, demos=demos, demo_epochs=asked.passes, validate_every=asked.validate_every,
        validation_episodes=asked.validation_episodes, threads=asked.threads, out=folder,
    )  # fmt: skip
    if (folder / CONFIG).exists():
        config = same(load_options(folder), config)
    if status := run_train(config):
        raise SystemExit(status)
    return folder


def same(before: Train, now: Train) -> Train:
    """The run in the folder, if it was asked for the same."""
    old = dict(before.items())
    for name, value in now.items():
        if name not in ("out", "resume", "threads", "device", "renderer") and old[name] != value:
            raise ValueError(f"{before.resume} was trained with {name} {old[name]}, not {value}; another folder")
    return before


def outcome(run: Path, threshold: float) -> dict[str, Any]:
    """The first validated step with that success, and what the run took."""
    card = read(run / FINAL)[1]["card"]
    rows = read_rows(run / VALIDATION)
    reached = [int(row["step"]) for row in rows if float(row["all"]) >= threshold]
    shown = card["demonstrations"] or {}
    return {
        "run": run.name,
        "steps": reached[0] if reached else "",
        "first": rows[0]["all"],
        "last": rows[-1]["all"],
        "copying_seconds": shown.get("seconds", 0.0),
        "training_seconds": card["seconds"],
    }


def main(asked: WarmStarts) -> None:
    """Demonstrate, train in pairs, compare."""
    rows: list[dict[str, Any]] = []
    for seed in asked.seeds:
        demos = demonstrate(asked, seed)
        rows += [outcome(train(asked, seed, which), asked.threshold) for which in ("none", str(demos))]
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_atomic(asked.folder / "warm-start.csv", text.getvalue())
    table = Table("run", f"steps to {asked.threshold:.0%}", "first validation", "last", "copying [s]", "training [s]")
    for row in rows:
        table.add_row(*(str(value) for value in ({**row, "steps": row["steps"] or "never"}).values()))
    Console(highlight=False).print(table)


if __name__ == "__main__":
    try:
        main(tyro.cli(WarmStarts, description=__doc__))
    except (ValueError, RuntimeError) as error:
        sys.exit(f"error: {error}")
