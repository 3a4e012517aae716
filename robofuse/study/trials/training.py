"""The trial `train`: a whole training as `robofuse train` does it, PPO and all; judged by its last validation.

Its options are those of `robofuse train`. An attempt that was killed goes on from its last checkpoint.
"""

from collections.abc import Callable
from pathlib import Path

from robofuse.errors import InputError
from robofuse.study.registry import Kind, Options
from robofuse.study.trials.cloning import by_condition, from_json
from robofuse.train.build import needs_teacher, resolve
from robofuse.train.config import Train, preset
from robofuse.train.training import Training

RUN = "run"  # the training's folder, in that of the job


def check_training(config: Train) -> None:
    """InputError if `robofuse train` would refuse these options, or nothing would tell how good the policy is."""
    config.check()
    if not config.records.validate_every:
        raise InputError("the trial train is judged by its last validation; leave out --validate-every 0")


def run(options: Options, seed: int, folder: Path, report: Callable[[float], None]) -> dict[str, float]:
    """Trains one policy into `run` in the folder of the job.

    Args:
        options: of `robofuse train` by plain names; `preset` is quick unless it is given.
        seed: of the training.
        folder: of the job.
        report: told the share that is done.

    Returns:
        `success/…` by condition in closed loop, on scenes that are never trained on, `success/worst` and
        `success/alone`, see `cloning.py`; `steps`, `seconds` of training.

    Raises:
        InputError: options that `robofuse train` refuses, or a teacher that would have to be trained first.
    """
    config = preset(options.get("preset", "quick"))
    once = {"validate_every": options.get("steps", config.steps), "validation_episodes": 64}
    config = config.replace(**{"device": "cpu", "threads": 1, "seed": seed} | once | from_json(options))
    check_training(config)
    config, _ = resolve(config)
    if needs_teacher(config, folder):
        raise InputError("the trial train does not train a teacher first; give --teacher expert, none or a policy")
    training = Training(config, folder / RUN, {})
    try:
        training.ask_teacher()
        training.run(lambda status: report(min(status.step / config.steps, 1.0)), lambda: False)
        success, conditions = training.last_validation(), training.validator.conditions
        spent = {"steps": float(training.state.step), "seconds": training.state.seconds}
    finally:
        training.close()
    return by_condition(success, conditions) | spent


KIND = Kind(run)
