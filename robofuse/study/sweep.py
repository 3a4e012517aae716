"""`robofuse sweep`, and `robofuse train --seeds`: one training many times, as a study that is declared on the spot."""

import itertools
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from robofuse.errors import InputError
from robofuse.study.declare import Study, in_files
from robofuse.study.run import RunStudy, run_declared
from robofuse.study.trials.training import check_training
from robofuse.train.config import Train, preset

_NOT_SWEPT = ("seed", "out", "resume", "preset")
_BETWEEN = re.compile(r"(?P<low>[^.]+(?:\.\d+)?)\.\.(?P<high>[^:]+)(?P<log>:log)?")


@dataclass(frozen=True)
class Sweep:
    """Over what to train. All other options are those of `robofuse train`.

    The same command goes on with what is not finished; further seeds and values may be added.

    Attributes:
        seeds: Of the trainings; each combination has all of them.
        vary: Options of the training and what they may be: remask=0,2 or fusion=concat,film, of which every combination
            is tried; with --trials also ranges, p=0.1..0.5 or lr=1e-4..1e-3:log. Lists are joined by +.
        trials: By Optuna, so many combinations, the next ones near to what has gone well; 0 tries all.
        score: What is maximised by --trials and shown first: success/worst, the worst single sensor missing; or
            success/all, and others that the page has.
        out: Folder, by default runs/sweep-TASK-ROBOT.
        workers: Trainings at a time, each on one core; 0 is one per core. The results do not depend on it.
        ray: Train on a Ray cluster; its address, auto, or local to start one here.
        retries: How often a training goes on again after its process has died.
    """

    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    vary: tuple[str, ...] = ()
    trials: int = 0
    score: str = "success/worst"
    out: Path | None = None
    workers: int = 0
    ray: str = ""
    retries: int = 2


def run_sweep(sweep: Sweep, config: Train) -> int:
    """Train, validate, and write a page with intervals over the seeds.

    Args:
        sweep: what to vary.
        config: the training.

    Returns:
        Exit status, as of `run_study`.

    Raises:
        InputError: options that do not fit; the message says what would.
    """
    study = declare(sweep, config)
    folder = sweep.out or Path("runs", in_files(f"sweep-{config.task}-{config.robot}"))
    how = RunStudy(
        out=folder, workers=sweep.workers, ray=sweep.ray, retries=sweep.retries, search=sweep.trials,
        methods=(study.baseline,) if sweep.trials else (),
    )  # fmt: skip
    return run_declared(study, how, folder)


def declare(sweep: Sweep, config: Train) -> Study:
    """The study that a sweep is: its methods are the combinations, or with trials its space the ranges."""
    for option in ("out", "resume"):
        if getattr(config, option) is not None:
            raise InputError(f"--{option} of a training has no meaning in a sweep, which has a folder for all")
    before = dict(preset(config.preset).items())
    base = {name: value for name, value in config.items() if name not in _NOT_SWEPT and value != before[name]}
    base |= {"preset": config.preset, "task": config.task, "robot": config.robot}
    asked = dict(_asked(one, config) for one in sweep.vary)
    if sweep.trials and not asked:
        raise InputError("--trials needs options to --vary, such as lr=1e-4..1e-3:log")
    methods: dict[str, dict[str, Any]] = {}
    if not sweep.trials:
        for name, space in asked.items():
            if space[0] != "choice":
                raise InputError(f"--vary {name}: a range is for --trials; name values, such as {name}=0.1,0.3")
        for values in itertools.product(*(space[1] for space in asked.values())):
            chosen = dict(zip(asked, values, strict=True))
            methods[", ".join(f"{name}={_written(value)}" for name, value in chosen.items())] = chosen
    for chosen in methods.values():
        _check(config, chosen)
    return Study(
        name="sweep",
        title=f"Trainings of {config.task} with the {config.robot}",
        question="How surely does this training do without each sensor, over seeds?",
        trial="train",
        methods=methods or {"": {}},
        base=json.loads(json.dumps(base, default=str)),
        seeds=sweep.seeds,
        score=sweep.score,
        space=asked if sweep.trials else {},
    )


def _asked(text: str, config: Train) -> tuple[str, Sequence[Any]]:
    """An option and its space, as `Study.space` has it."""
    name, _, values = text.partition("=")
    name = name.strip().lstrip("-").replace("-", "_")
    known = dict(config.items())
    if name not in known or name in _NOT_SWEPT or not values:
        raise InputError(f"--vary takes OPTION=VALUE,VALUE or OPTION=LOW..HIGH of robofuse train, got {text!r}")
    between = _BETWEEN.fullmatch(values)
    if between:
        try:
            low, high = json.loads(between["low"]), json.loads(between["high"])
        except ValueError:
            raise InputError(f"--vary {text}: a range is of numbers, such as {name}=0.1..0.5") from None
        kind = "int" if isinstance(known[name], int) and not isinstance(known[name], bool) else "float"
        return name, [kind, low, high, bool(between["log"])]
    read = [_read(value, known[name]) for value in values.split(",")]
    for value in read:
        _check(config, {name: value})
    return name, ["choice", read]


def _read(text: str, like: Any) -> Any:  # noqa: ANN401
    if isinstance(like, tuple):
        return [_read(part, "") for part in text.split("+") if part]
    try:
        return json.loads(text.lower() if text in ("True", "False") else text)
    except ValueError:
        return text


def _written(value: Any) -> str:  # noqa: ANN401
    return "+".join(map(str, value)) if isinstance(value, list) else str(value)


def _check(config: Train, chosen: Mapping[str, Any]) -> None:
    """InputError if a training would refuse these options."""
    options = {name: tuple(value) if isinstance(value, list) else value for name, value in chosen.items()}
    check_training(config.replace(**options))
