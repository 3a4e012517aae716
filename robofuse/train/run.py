"""`robofuse train`: a training in its folder, after that of its teacher; the loop is in `training.py`."""

import json
import os
import shlex
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, closing, contextmanager, nullcontext
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import torch
from rich.console import Console

from robofuse import __version__
from robofuse.errors import INTERRUPTED, InputError
from robofuse.files import lock, write_atomic
from robofuse.interrupts import Interrupt
from robofuse.machine import describe_machine, package_versions
from robofuse.plugins import import_options
from robofuse.policies.registry import find_encoder, find_fusion
from robofuse.policies.token_dropout import NOISY
from robofuse.policies.u2a.lora import count_weights
from robofuse.ranks import Ranks, join
from robofuse.train.build import (
    TEACHER,
    drawn_size,
    encoder_names,
    needs_teacher,
    resolve,
    teacher_config,
)
from robofuse.train.checkpoint import (
    BEST,
    FINAL,
    leftover,
)
from robofuse.train.config import CONFIG, Train
from robofuse.train.display import (
    CURVE,
    Display,
    validation_table,
)
from robofuse.train.masking import make_dropout
from robofuse.train.resume import check_changes, load_options
from robofuse.train.training import Training, kept_random_state

RUN = "run.json"  # a record of the starts of a run, for people


def run_train(config: Train) -> int:
    """Trains a policy, after its teacher if it is to have one of its own.

    Started by `torchrun`, all processes train one policy, each in `num_envs` worlds; the first one writes the files.

    Args:
        config: what to do; `load_options(folder)` to resume.

    Returns:
        Exit status: 0, 130 after Ctrl-C, 143 after SIGTERM. Both let it write a checkpoint first, at which all worlds
        begin new episodes: what is learned after resuming is as good, but not the same to the bit. It is the same
        after the process was killed.

    Raises:
        InputError: options, a folder or files with which it cannot train; says what would be right.
        StateError: it cannot go on, such as with a loss that became NaN.
    """
    config.check()
    make_dropout(config.masking)
    if config.network.token_dropout and config.learning.policy_coef:
        raise InputError(f"--token-dropout needs --policy-coef 0: {NOISY}")
    find_fusion(config.network.fusion)
    for encoder in encoder_names(config).values():
        find_encoder(encoder)
    with join(config.device) as ranks:
        return _run_ranks(config, ranks)


def _run_ranks(config: Train, ranks: Ranks) -> int:
    console = Console(highlight=False, markup=False, quiet=not ranks.first)
    stamp = time.strftime("%Y%m%d-%H%M%S")
    folder = config.resume or config.out or Path("runs", f"{config.task}-{config.robot}-{stamp}")
    folder = ranks.tell(folder)
    if ranks.first:
        _check_folder(config, folder)
    if config.resume is not None and (folder / FINAL).exists():
        console.print(f"{folder} is finished: all {config.steps:,} steps are done", soft_wrap=True)
        _print_next_commands(console, folder)
        return 0
    # torchrun sends on the Ctrl-C that its processes have had already
    patient = ranks.count > 1
    if patient and config.learning.modulation_noise:
        raise InputError("--modulation-noise would be other noise in every process, and their weights drift apart")
    interrupt = Interrupt(signal.SIGINT, signal.SIGTERM, patient=patient)
    process = _Process(ranks, console, interrupt)
    with process.lock(folder), interrupt:
        # again: another training may have been at work until now
        notes = _check_folder(config, folder) if ranks.first else []
        config, note = resolve(config.replace(out=folder, resume=None))
        with _torch_settings(config.threads or 1, config.deterministic, config.tf32):
            try:
                status = _train(config, folder, [*notes, *([note] if note else [])], process)
            except KeyboardInterrupt:  # the second one
                last = f"stopped at once; what the last checkpoint holds: {_resume_command(folder)}"
                console.print(last, soft_wrap=True)
                return INTERRUPTED
            except OSError as error:  # of a library that writes by itself, such as TensorBoard
                raise InputError(f"cannot write to {folder}: {error.strerror or error}") from None
        if not status:
            _print_next_commands(console, folder)
        return status


def _check_folder(config: Train, folder: Path) -> list[str]:
    """Checks that a training may begin in a folder, or go on; returns what is to be said of options that changed."""
    if config.resume is not None:
        return check_changes(load_options(folder), config)
    if (folder / CONFIG).exists():
        raise InputError(f"{folder} already holds a training; --resume {folder} to go on, or another --out")
    if left := leftover(folder):
        raise InputError(f"{folder} has {left} but no {CONFIG}, so it cannot be gone on with; give another --out")
    return []


class _Process(NamedTuple):
    """What a training shares with the trainings in it.

    Attributes:
        ranks: the processes that train together.
        console: of the first of them; those of the others are quiet.
        interrupt: whether to stop.
    """

    ranks: Ranks
    console: Console
    interrupt: Interrupt

    def lock(self, folder: Path) -> AbstractContextManager[object]:
        """Locks the folder of a training."""
        return lock(folder, "training") if self.ranks.first else nullcontext()

    @contextmanager
    def writing(self, folder: Path) -> Iterator[Path]:
        """The folder that this process writes to; what the other ranks write, nobody needs."""
        if self.ranks.first:
            yield folder
        else:
            with TemporaryDirectory() as own:
                yield Path(own)


def _train(config: Train, folder: Path, notes: list[str], process: _Process, run: Path | None = None) -> int:
    """Trains into a folder, which is locked; `run` is the one to resume, if it is another. Returns the exit status."""
    ranks, console, interrupt = process
    machine = {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": describe_machine()
        | ({"gpu": torch.cuda.get_device_name(config.device)} if config.device != "cpu" else {}),
        "versions": {"robofuse": __version__, **package_versions()},
    }
    to_go_on = f"to go on:\n  {_resume_command(run or folder)}"
    with process.writing(folder) as own, closing(Training(config, folder, machine, ranks, own)) as training:
        config, first_a_teacher = training.config, needs_teacher(training.config, folder)
        if not first_a_teacher:
            training.ask_teacher()  # one that is refused leaves no run behind
        write_atomic(own / CONFIG, json.dumps(config.to_dict(), indent=1) + "\n")
        if first_a_teacher:
            console.print("First a teacher, which knows the simulator's truth (--teacher none does without):")
            into = folder / TEACHER
            with process.lock(into), kept_random_state():
                status = _train(teacher_config(config, folder), into, [], process, run=folder)
            if status:
                return status
            if interrupt.asked:
                console.print(f"stopped; {to_go_on}", soft_wrap=True)
                return interrupt.status
            ranks.wait()  # until its files are there
            training.ask_teacher()
        record = _start_record(own, config, machine, training.state.step)
        for note in [*notes, *training.notes]:
            console.print(f"note: {note}", style="yellow", soft_wrap=True)
        console.print(_headline(config, training, folder, ranks), soft_wrap=True)
        with Display(console, config.steps, training.state.step, training.validator.conditions) as display:
            finished = training.run(display.show, lambda: interrupt.asked)
        state = training.state
        record["starts"][-1] |= {"ended_at_step": state.step, "finished": finished}
        write_atomic(own / RUN, json.dumps(record, indent=1) + "\n")
        if not finished:
            kept = ", a checkpoint is written" if state.step else ""
            done = f"stopped after {state.step:,} of {config.steps:,} steps"
            console.print(f"{done}{kept}; {to_go_on}", soft_wrap=True)
            return interrupt.status
        last, best = training.last_validation(), training.best_validation()
        if last and best[1]:
            console.print(validation_table(training.validator.conditions, best, (state.step, last)))
        console.print(
            f"trained {state.step:,} steps in {state.seconds:,.0f} s ({state.step / max(state.seconds, 1e-9):,.0f} "
            f"steps/s), validated for {state.validation_seconds:,.0f} s; curve: {folder / CURVE}",
            soft_wrap=True,
        )
    return 0


@contextmanager
def _torch_settings(threads: int, deterministic: bool, tf32: bool) -> Iterator[None]:
    """Sets torch's threads and how exact a GPU is; these, and its random numbers, are as before in the end."""
    products: Any = torch.backends.cuda.matmul
    convolutions: Any = torch.backends.cudnn
    before = torch.get_num_threads(), torch.get_deterministic_debug_mode()
    exact = products.allow_tf32, convolutions.allow_tf32, convolutions.benchmark
    torch.set_num_threads(threads)
    products.allow_tf32 = convolutions.allow_tf32 = tf32
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # cuBLAS wants it, before it is used first
        torch.use_deterministic_algorithms(True)
        convolutions.benchmark = False
    try:
        with kept_random_state():
            yield
    finally:
        torch.set_num_threads(before[0])
        torch.set_deterministic_debug_mode(before[1])
        products.allow_tf32, convolutions.allow_tf32, convolutions.benchmark = exact


def _resume_command(folder: Path) -> str:
    return f"robofuse train --resume {shlex.quote(str(folder))}{import_options()}"


def _headline(config: Train, training: Training, folder: Path, ranks: Ranks) -> str:
    scenes, sensors = config.scenes, training.env.world.sensors
    drawn = f", drawn at {drawn_size(config)}²," if drawn_size(config) > scenes.image_size else ""
    size = f" at {scenes.image_size}² pixels{drawn} from {scenes.renderer}" if len(sensors) else ""
    pictures = any(sensor.kind in ("rgb", "depth") for sensor in sensors)
    weights = count_weights(training.model.policy)
    since = f" from step {training.state.step:,} on" if training.state.step else ""
    return (
        f"{config.task} with the {config.robot}{since}: {config.steps:,} steps in {scenes.num_envs} worlds"
        f"{f' in each of {ranks.count} processes' if ranks.count > 1 else ''}, "
        f"sensors {', '.join(sensor.key for sensor in sensors)}{size if pictures else ''}, "
        f"dropout {config.masking.dropout}; {weights}, on {config.device}, "
        f"{config.threads} thread{'s' if config.threads != 1 else ''}; seed {config.seed}, into {folder}"
    )


def _print_next_commands(console: Console, folder: Path) -> None:
    file = folder / (BEST if (folder / BEST).exists() else FINAL)
    commands = (
        f"  robofuse {command} {shlex.quote(str(file))}{import_options()}" for command in ("evaluate", "replay")
    )
    console.print(f"best policy: {file}", *commands, sep="\n", soft_wrap=True)


def _start_record(folder: Path, config: Train, machine: dict[str, Any], step: int) -> dict[str, Any]:
    """`run.json` with one more start."""
    run: dict[str, Any] = {"format": 1, "seed": config.seed, "starts": []}
    if (folder / RUN).exists():
        try:
            run |= json.loads((folder / RUN).read_text())
        except (ValueError, TypeError):
            pass  # it only tells people what was
    command = shlex.join(["robofuse", *sys.argv[1:]]) if "train" in sys.argv[1:] else ""
    run["starts"].append({**machine, "command": command, "step": step, "options": config.to_dict()})
    write_atomic(folder / RUN, json.dumps(run, indent=1) + "\n")
    return run
