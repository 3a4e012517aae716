"""Logs of which sensors delivered: what can be read, and what is counted in it. The laws of `laws.py` are fitted to it.

A log has a row per control step, 1 where a sensor delivered and 0 where it was missing. Several robots may have been
logged side by side.
"""

import csv
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from torch import Tensor

from robofuse.checks import zeros_and_ones
from robofuse.errors import InputError

_NO_SENSORS = ("episode", "step", "time")  # columns of a CSV that are no sensors


class Log(NamedTuple):
    """Which sensors delivered.

    Attributes:
        available: bool (T, N, M), T control steps of N robots.
        keys: the M sensors.
        starts: bool (T, N), where episodes begin; the first step always does.
    """

    available: np.ndarray
    keys: tuple[str, ...]
    starts: np.ndarray


def as_log(available: Any, keys: Sequence[str], starts: Any = None) -> Log:  # noqa: ANN401
    """Checks and completes a log.

    Args:
        available: 0 and 1, (T, M), or (T, N, M) of N robots side by side: an array or a tensor.
        keys: the M sensors, in the order of the last axis.
        starts: bool (T,) or (T, N), where episodes begin; by default only in the first step.

    Raises:
        InputError: no rows, another shape, anything but 0 and 1, or names that are missing or there twice.
    """
    names = tuple(keys)
    if isinstance(keys, str) or not all(isinstance(key, str) for key in names) or len(set(names)) < len(names):
        raise InputError(f"keys must be the names of the log's sensors, each once, got {keys!r}")
    shown = _array(available)
    if shown.ndim not in (2, 3) or shown.shape[-1] != len(names) or not shown.size:
        raise InputError(
            f"a log of {len(names)} sensors ({', '.join(names)}) must have shape (T, {len(names)}) or (T, N, "
            f"{len(names)}) with a row at least, got {shown.shape}"
        )
    zeros_and_ones(shown, "the log")
    begins = np.zeros(shown.shape[:-1], bool) if starts is None else _array(starts)
    if begins.shape != shown.shape[:-1]:
        raise InputError(f"starts must have shape {shown.shape[:-1]}, a value per row of the log, got {begins.shape}")
    zeros_and_ones(begins, "starts")
    shown, begins = shown.reshape(len(shown), -1, len(names)) > 0, begins.reshape(len(shown), -1) > 0
    begins[0] = True
    return Log(shown, names, begins)


def read_log(path: str | Path) -> Log:
    """Reads a log.

    Args:
        path: a CSV file with a column of 0 and 1 for each sensor, named by its key, and a row for each control step; a
            column `episode` says by another value where the next one begins; `step` and `time` are not read. Or a file
            of `numpy.savez` with `available`, `keys` and, if there is more than one episode, `starts`, see `as_log`.

    Raises:
        InputError: no such file, or not such a log; the message says where.
    """
    path = Path(path).expanduser()
    try:
        return (_read_npz if path.suffix == ".npz" else _read_csv)(path)
    except (OSError, ValueError, KeyError) as error:  # InputError is a ValueError
        raise InputError(f"cannot read the log {path}: {' '.join(str(error).split())}") from None


def missing_share(log: Log) -> dict[str, float]:
    """The share of the rows in which each sensor is missing."""
    return dict(zip(log.keys, (~log.available).mean((0, 1)).tolist(), strict=True))


def missing_sets(log: Log) -> dict[tuple[str, ...], int]:
    """How many rows each set of missing sensors has, the most frequent first."""
    rows, counts = np.unique(~log.available.reshape(-1, len(log.keys)), axis=0, return_counts=True)
    found = {
        tuple(key for key, lost in zip(log.keys, row, strict=True) if lost): int(n)
        for row, n in zip(rows, counts, strict=True)
    }
    return dict(Counter(found).most_common())


def transitions(log: Log, units: Sequence[Sequence[str]]) -> np.ndarray:
    """How often sensors went from one state to another in a control step.

    Args:
        log: the log.
        units: sensors that are missing together; they must be so in every row.

    Returns:
        int64 (U, 2, 2): of each unit, from delivering (0) or missing (1), to the same.

    Raises:
        InputError: the sensors of a unit are not missing together, or no step follows another.
    """
    goes_on, found = ~log.starts[1:], []
    if not goes_on.any():
        raise InputError("no episode of this log has two steps, so it cannot tell how outages begin and end")
    for unit in units:
        lost = ~log.available[..., [log.keys.index(key) for key in unit]]
        apart = (lost != lost[..., :1]).any(-1)
        if apart.any():
            raise InputError(
                f"{', '.join(unit)} are a group, but in {apart.mean():.1%} of the log only some of them are missing; "
                "divide the group"
            )
        before, after = lost[:-1, :, 0][goes_on], lost[1:, :, 0][goes_on]
        found.append(np.bincount(2 * before + after, minlength=4).reshape(2, 2))
    return np.array(found, np.int64).reshape(len(found), 2, 2)


def _array(values: Any) -> np.ndarray:  # noqa: ANN401
    try:
        array = values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)
    except ValueError:
        raise InputError(f"the rows of a log must be equally long, got {values!r}") from None
    if array.dtype.kind not in "biuf":
        raise InputError(f"a log holds 0 and 1, got {array.dtype}")
    return array


def _read_npz(path: Path) -> Log:
    with np.load(path, allow_pickle=False) as arrays:
        keys = [str(key) for key in np.atleast_1d(arrays["keys"])]
        return as_log(arrays["available"], keys, arrays["starts"] if "starts" in arrays else None)


def _read_csv(path: Path) -> Log:
    with path.open(newline="", encoding="utf-8-sig") as file:
        lines = [line for line in csv.reader(file) if line]
    names = [name.strip() for name in lines[0]] if lines else []
    keys = [name for name in names if name not in _NO_SENSORS]
    if not keys or len(lines) < 2:
        raise InputError("it needs a line of sensors, such as depth,rgb, and a line of 0 and 1 for every control step")
    columns = [names.index(key) for key in keys]
    for number, line in enumerate(lines[1:], 2):
        if len(line) != len(names):
            raise InputError(f"line {number} has {len(line)} values, and there are {len(names)} columns")
        if not all(line[column].strip() in ("0", "1") for column in columns):
            raise InputError(f"line {number} holds {','.join(line[column] for column in columns)} where 0 and 1 belong")
    available = np.array([[int(line[column]) for column in columns] for line in lines[1:]], np.int8)
    if "episode" not in names:
        return as_log(available, keys)
    episode = [line[names.index("episode")].strip() for line in lines[1:]]
    return as_log(available, keys, [a != b for a, b in zip(episode, ["", *episode], strict=False)])
