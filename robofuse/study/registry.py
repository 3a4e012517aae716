"""What a trial is, and trials by name."""

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from robofuse.checks import check_name
from robofuse.errors import InputError

Options = Mapping[str, Any]
Trial = Callable[[Options, int, Path, Callable[[float], None]], Mapping[str, float]]
"""(options, seed, folder, report) → metrics; see `Kind`."""


@dataclass(frozen=True)
class Kind:
    """A kind of trial: what one job of a study does.

    Attributes:
        run: does the job, in a process of its own with one thread, and returns finite numbers by name, such as
            `success/all` and `success/-rgb`. It is given the options as plain JSON, with `prepared`, the folder that
            `prepare` has filled, if there is one; the seed; the folder of the job, which still holds what an earlier
            attempt wrote that was killed; and a function to tell its progress, from 0 to 1. The same options and seed
            must give the same numbers. An InputError fails the job at once; after any other error, and after its
            process has died, it is run again.
        prepare: makes what all jobs of a task share, once, in the folder that it is given; its options are the study's
            base with those of the task.
        options: the names that it takes; empty if it checks them itself.
        about: what a job does with these options, in sentences for the page, such as how many episodes it is judged by.
    """

    run: Trial
    prepare: Callable[[Options, Path], None] | None = None
    options: tuple[str, ...] = ()
    about: Callable[[Options], str] = lambda options: ""


TRIALS: dict[str, Kind | str] = {
    "clone": "robofuse.study.trials.cloning:KIND",
    "example": "robofuse.study.trials.example:KIND",
    "train": "robofuse.study.trials.training:KIND",
    "sequence": "robofuse.study.trials.sequences:KIND",
}
"""Kinds of trials by name; those of robofuse as `module:name`, as they are imported only by jobs that need them."""


def register_trial(name: str, kind: Kind) -> Kind:
    """Make a kind of trial known under a name, for `Study(trial=name)`, and return it.

    Raises:
        InputError: not a name, or another kind has it.
    """
    check_name(name, kind, TRIALS, "trial")
    TRIALS[name] = kind
    return kind


def find_trial(name: str) -> Kind:
    """The kind of trial of this name; InputError lists what there is."""
    if name not in TRIALS:
        raise InputError(
            f"unknown trial {name!r}; trials: {', '.join(TRIALS)}; make yours known by robofuse.study.register_trial "
            "in the file that is given by --file or --import"
        )
    kind = TRIALS[name]
    if isinstance(kind, str):
        module, _, attribute = kind.partition(":")
        kind = getattr(importlib.import_module(module), attribute)
    assert isinstance(kind, Kind)
    return kind
