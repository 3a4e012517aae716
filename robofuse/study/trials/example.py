"""The trial `example`: least squares from two sensors, with and without dropout; ends in milliseconds.

It shows how a trial is written, and tries a machine or a cluster.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from robofuse.errors import InputError
from robofuse.study.registry import Kind, Options

_SENSORS = ("camera", "touch")


def run(options: Options, seed: int, folder: Path, report: Callable[[float], None]) -> dict[str, float]:
    """Predict a number from two noisy readings of it, each masked by a zero at the rate `dropout`.

    Returns:
        `error/all` and `error/-SENSOR`: root mean squared errors with all sensors, and without one.
    """
    count, rate = int(options.get("rows", 200)), float(options.get("dropout", 0.0))
    if not 0.0 <= rate < 1.0:
        raise InputError(f"dropout must lie in [0, 1), got {rate}")
    rng = np.random.default_rng(seed)
    noise = np.array([0.1, options.get("touch_noise", 0.3)])
    truth = rng.normal(size=(2, count))
    readings = truth[:, :, None] + noise * rng.normal(size=(2, count, 2))
    live = rng.random((count, 2)) >= rate
    weights = np.linalg.lstsq(readings[0] * live, truth[0], rcond=None)[0]
    report(0.5)
    masks = {"all": np.ones(2), **{f"-{key}": 1.0 - np.eye(2)[i] for i, key in enumerate(_SENSORS)}}
    (folder / "weights.txt").write_text(" ".join(f"{weight:.3f}" for weight in weights) + "\n")
    return {
        f"error/{name}": float(np.sqrt(np.mean((readings[1] * mask @ weights - truth[1]) ** 2)))
        for name, mask in masks.items()
    }


KIND = Kind(run, options=("rows", "dropout", "touch_noise"))
