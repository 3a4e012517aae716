"""`robofuse train`: its folder, what it says, and how it goes on after an interruption."""

import json
import shlex
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.markup import escape

from robofuse import __version__
from robofuse.checks import usable_cores
from robofuse.errors import InputError
from robofuse.files import lock, write_atomic
from robofuse.machine import describe_machine, package_versions
from robofuse.plugins import import_options
from robofuse.policies.registry import find_encoder, find_fusion
from robofuse.train.best import BEST, FINAL
from robofuse.train.build import TEACHER, make_dropout, own_encoders, settle, teacher_config, try_out, wants_teacher
from robofuse.train.changes import changes
from robofuse.train.checkpoint import left_behind
from robofuse.train.curve import CURVE
from robofuse.train.display import Display, Stop, validation_table
from robofuse.train.loop import Training, closing
from robofuse.train.options import Train, preset, spoken

CONFIG, RUN = "config.json", "run.json"


def defaults_for(arguments: Sequence[str]) -> Train:
    """The defaults that the arguments of a command begin with: those of its preset, or of the run that it resumes.

    Raises:
        ValueError: no such preset, or no such run.
    """
    run = spoken(arguments, "--resume")
    if run is not None:
        return recorded(Path(run))
    return preset(spoken(arguments, "--preset") or "default")


def recorded(folder: Path) -> Train:
    """The options of a run, ready to resume it.

    Raises:
        ValueError: the folder is not that of a run.
    """
    try:
        config = Train.from_dict(json.loads((folder / CONFIG).read_text()))
    except FileNotFoundError:
        raise InputError(f"{folder} is not the folder of a training: it has no {CONFIG}") from None
    except (TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{folder / CONFIG} cannot be read: {error}") from None
    return config.replace(resume=folder, out=folder)


def run_train(config: Train) -> int:
    """Train.

    Args:
        config: what to do; `recorded(folder)` to resume.

    Returns:
        Exit status: 0, 130 after Ctrl-C, 143 after SIGTERM; of an interrupted run, a checkpoint is then in the folder.

    Raises:
        ValueError, RuntimeError: what cannot be trained; the message says what would be right.
    """
    console = Console(highlight=False)
    config.check()
    make_dropout(config.hiding)
    find_fusion(config.network.fusion)
    for encoder in own_encoders(config).values():
        find_encoder(encoder)
    changed: list[str] = []
    if config.resume is not None:
        changed = changes(recorded(config.resume), config)
        folder = config.resume
        if (folder / FINAL).exists():
            console.print(f"{folder} is finished: all {config.steps:,} steps are done", soft_wrap=True, markup=False)
            _commands(console, folder)
            return 0
    else:
        folder = config.out or Path("runs", f"{config.task}-{config.robot}-{time.strftime('%Y%m%d-%H%M%S')}")
        if (folder / CONFIG).exists():
            raise InputError(f"{folder} already holds a training; --resume {folder} to go on, or another --out")
        if left := left_behind(folder):
            raise InputError(f"{folder} has {left} but no {CONFIG}, so it cannot be gone on with; give another --out")
    config, note = settle(config.replace(threads=config.threads or usable_cores(), out=folder, resume=None))
    threads, random = torch.get_num_threads(), torch.get_rng_state()
    torch.set_num_threads(config.threads or 1)
    try:
        taught = _teach(config, folder, console)
        return taught or _train(config, folder, [*changed, *([note] if note else [])], console)
    finally:
        torch.set_num_threads(threads)
        torch.set_rng_state(random)


def _teach(config: Train, folder: Path, console: Console) -> int:
    """Trains the teacher that a run is to have of its own, if it is not there yet."""
    if not wants_teacher(config) or config.learning.teacher != "auto" or (folder / TEACHER / FINAL).exists():
        return 0
    try_out(config)  # mistakes in the student's options are better told now
    folder.mkdir(parents=True, exist_ok=True)
    write_atomic(folder / CONFIG, json.dumps(config.to_dict(), indent=1) + "\n")
    console.print("First a teacher, which knows the simulator's truth (--teacher none does without):")
    return _train(teacher_config(config, folder), folder / TEACHER, [], console, run=folder)


def _train(config: Train, folder: Path, notes: list[str], console: Console, run: Path | None = None) -> int:
    """Trains into a folder; `run` is the one to resume, if that is another."""
    resume = f"robofuse train --resume {shlex.quote(str(run or folder))}{import_options()}"
    machine = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": describe_machine()
        | ({"gpu": torch.cuda.get_device_name(config.device)} if config.device != "cpu" else {}),
        "versions": {"robofuse": __version__, **package_versions()},
    }
    with lock(folder, "training"), Stop(console) as stop, closing(Training(config, folder, machine)) as training:
        write_atomic(folder / CONFIG, json.dumps(config.to_dict(), indent=1) + "\n")
        record = _start_record(folder, config, machine, training.place.step)
        for note in [*notes, *training.notes]:
            console.print(f"note: {note}", style="yellow", soft_wrap=True)
        console.print(_headline(config, training, folder), soft_wrap=True)
        with Display(console, config.steps, training.place.step, training.validator.conditions) as display:
            try:
                finished = training.run(display.show, stop)
            except KeyboardInterrupt:  # the second one
                last = f"stopped at once; what the last checkpoint holds: {resume}"
                console.print(last, soft_wrap=True, markup=False)
                return 130
        place = training.place
        record["starts"][-1] |= {"ended_at_step": place.step, "finished": finished}
        write_atomic(folder / RUN, json.dumps(record, indent=1) + "\n")
        if not finished:
            kept = ", a checkpoint is written" if place.step else ""
            console.print(
                f"stopped after {place.step:,} of {config.steps:,} steps{kept}; to go on:",
                f"  {resume}",
                sep="\n",
                soft_wrap=True,
                markup=False,
            )
            return stop.status
        last = training.last_validation()
        best = training.best_validation()
        if last and best[1]:
            console.print(validation_table(training.validator.conditions, best, (place.step, last)))
        speed = place.step / max(place.seconds, 1e-9)
        console.print(
            f"trained {place.step:,} steps in {place.seconds:,.0f} s ({speed:,.0f} steps/s), validated for "
            f"{place.validation_seconds:,.0f} s; curve: {folder / CURVE}",
            soft_wrap=True,
            markup=False,
        )
    if run is None:
        _commands(console, folder)
        return 0
    if stop.status:  # asked when there was nothing left to stop here; the student is not to begin
        console.print("stopped; to go on:", f"  {resume}", sep="\n", soft_wrap=True, markup=False)
    return stop.status


def _headline(config: Train, training: Training, folder: Path) -> str:
    scenes, sensors = config.scenes, training.env.world.sensors
    size = f" at {scenes.image_size}² pixels from {scenes.renderer}" if len(sensors) else ""
    pictures = any(sensor.kind in ("rgb", "depth") for sensor in sensors)
    weights = sum(x.numel() for x in training.model.policy.parameters())
    since = f" from step {training.place.step:,} on" if training.place.step else ""
    return (
        f"[bold]{config.task} with the {config.robot}[/]{since}: {config.steps:,} steps in {scenes.num_envs} worlds, "
        f"sensors {', '.join(sensor.key for sensor in sensors)}{size if pictures else ''}, "
        f"dropout {config.hiding.dropout}; {weights:,} weights on {config.device}, "
        f"{config.threads} thread{'s' if config.threads != 1 else ''}; seed {config.seed}, into {escape(str(folder))}"
    )


def _commands(console: Console, folder: Path) -> None:
    file = folder / (BEST if (folder / BEST).exists() else FINAL)
    commands = (
        f"  robofuse {command} {shlex.quote(str(file))}{import_options()}" for command in ("evaluate", "replay")
    )
    console.print(f"best policy: {file}", *commands, sep="\n", soft_wrap=True, markup=False)


def _start_record(folder: Path, config: Train, machine: dict[str, Any], step: int) -> dict[str, Any]:
    """`run.json` with one more start."""
    run: dict[str, Any] = {"format": 1, "seed": config.seed, "starts": []}
    if (folder / RUN).exists():
        try:
            run |= json.loads((folder / RUN).read_text())
        except ValueError:
            pass  # it only tells people what was
    command = shlex.join(["robofuse", *sys.argv[1:]]) if "train" in sys.argv[1:] else ""
    run["starts"].append({**machine, "command": command, "step": step, "options": config.to_dict()})
    write_atomic(folder / RUN, json.dumps(run, indent=1) + "\n")
    return run
