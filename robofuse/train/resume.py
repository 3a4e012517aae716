"""How a training goes on: its options, read again, and which of them may change."""

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from robofuse.errors import InputError
from robofuse.train.config import CONFIG, Train, preset


def split_defaults(arguments: Sequence[str]) -> tuple[Train, list[str]]:
    """Takes `--preset NAME` or `--resume FOLDER` out of the arguments of the command.

    Returns:
        The options that the preset or the run has, and the arguments that are left to change them.

    Raises:
        InputError: no such preset, or no such run.
    """
    parser = argparse.ArgumentParser("robofuse train", add_help=False, allow_abbrev=False)
    parser.add_argument("--preset", default="default")
    parser.add_argument("--resume", type=Path)
    first, rest = parser.parse_known_args(arguments)
    return preset(first.preset) if first.resume is None else load_options(first.resume), rest


def load_options(folder: Path) -> Train:
    """The options of a run, ready to resume it.

    Raises:
        InputError: the folder is not that of a run, or its options cannot be read.
    """
    try:
        config = Train.from_dict(json.loads((folder / CONFIG).read_text()))
    except FileNotFoundError:
        raise InputError(f"{folder} is not the folder of a training: it has no {CONFIG}") from None
    except (OSError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise InputError(f"{folder / CONFIG} cannot be read: {error}") from None
    return config.replace(resume=folder, out=folder)


# What may be changed when a run goes on: how it learns, and what does not matter to what it learns.
_LEARNING = "lr lr_schedule lr_final clip clip_final epochs ent_coef ent_final policy_coef aux_coef vf_coef"
TUNABLE = (*_LEARNING.split(), "max_grad_norm", "target_kl")
FREE = ("device", "threads", "deterministic", "tf32", "validate_every", "tracker", "project")
NOT_LEARNED = ("out", "resume", "preset")


def check_changes(before: Train, now: Train) -> list[str]:
    """Checks the options that were changed on resuming.

    Returns:
        A sentence for each.

    Raises:
        InputError: one of them may not change.
    """
    old, new = dict(before.items()), dict(now.items())
    changed = [name for name in new if old[name] != new[name] and name not in NOT_LEARNED]
    if "steps" in changed:
        raise InputError(
            f"--steps may not change on resuming ({old['steps']:,} to {new['steps']:,}): learning rate and dropout "
            "follow it from the first step on; start a new training"
        )
    fixed = fixed_options(changed)
    if fixed:
        raise InputError(
            f"a training cannot go on with these options changed: {describe_changes(fixed, old, new)}. Those that can: "
            f"{', '.join('--' + name.replace('_', '-') for name in (*TUNABLE, *FREE))}"
        )
    return [f"--{name.replace('_', '-')} changed from {old[name]} to {new[name]}" for name in changed]


def fixed_options(changed: list[str]) -> list[str]:
    """Those of the changed options that may not change when a run goes on."""
    return [name for name in changed if name not in (*TUNABLE, *FREE)]


def describe_changes(names: list[str], old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """The old and the new values of options, for a message."""
    return "; ".join(f"--{name.replace('_', '-')} was {old[name]}, now {new[name]}" for name in names)
