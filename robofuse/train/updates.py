"""What is said of an update: a row of numbers, or why it failed."""

import shlex
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from robofuse.policies import FusionPPO
from robofuse.sensors import AVAILABLE
from robofuse.train.checkpoint import Place
from robofuse.train.options import Train


def log_update(model: FusionPPO, place: Place, speed: float, before: Mapping[str, float]) -> None:
    """Add to what the update itself has logged, and write the row.

    Args:
        model: after the update.
        place: after it.
        speed: control steps per second of this update.
        before: `model.seconds` as it was before it.
    """
    log, recent = model.logger, list(model.ep_info_buffer or ())
    log.record("rollout/success", recent_success(model))
    log.record("rollout/return", float(np.mean([one["r"] for one in recent])) if recent else None)
    log.record("rollout/length", float(np.mean([one["l"] for one in recent])) if recent else None)
    log.record("rollout/available", float(model.rollout_buffer.stored[AVAILABLE].float().mean()))
    log.record("time/seconds", round(place.seconds, 3))
    log.record("time/validation_seconds", round(place.validation_seconds, 3))
    log.record("time/steps_per_second", round(speed, 1))
    everything = place.seconds + place.validation_seconds
    log.record("time/steps_per_second_with_validation", round(place.step / everything, 1))
    for part, total in model.seconds.items():
        log.record(f"time/{part}_seconds", round(total - before[part], 4))
    log.dump(place.step)


def recent_success(model: FusionPPO) -> float | None:
    """Success of the last episodes, None before any has ended."""
    recent = model.ep_success_buffer
    return float(np.mean(recent)) if recent else None


def not_finite(problem: str, config: Train, place: Place, folder: Path) -> str:
    """What went wrong in an update, and how to go on."""
    found = sorted(folder.glob("checkpoint-*.safetensors"))
    where = f"stopped in the update after step {place.step:,}: {problem}."
    if not found:
        return f"{where} There is no checkpoint yet; start again with such a change"
    after = ""
    if (folder.parent / "config.json").exists():  # it is the teacher of that run
        after = f", and then robofuse train --resume {shlex.quote(str(folder.parent))}"
    step, lr = int(found[-1].stem.partition("-")[2]), config.learning.lr / 2
    return (
        f"{where} The last checkpoint is of step {step:,}; unchanged, it would end here again. More carefully: "
        f"robofuse train --resume {shlex.quote(str(folder))} --lr {lr:g} --target-kl 0.02{after}"
    )
