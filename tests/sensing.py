"""Observations of four sensors, for the tests of policies."""

import numpy as np
import torch

from robofuse.sensors import Sensor, observation_space

SENSORS = (
    Sensor("depth", "depth", (24, 28, 1), "uint16", "mm", 1000.0, 20.0),
    Sensor("force", "window", (4, 3), "float32", "N", (10.0, 10.0, 1.0), 20.0),
    Sensor("proprio", "vector", (5,), "float32", "rad", 1.0, 20.0),
    Sensor("rgb", "rgb", (24, 28, 3), "uint8", "", 255.0, 20.0),
)


SPACE = observation_space(SENSORS, privileged=6)
# options of an extractor whose encoders estimate missing tokens
ESTIMATES = {"encoders": dict.fromkeys(("depth", "rgb", "vector", "window"), "transformer"), "masked_as": "estimate"}


def observe(batch, seed=0, available=None):
    rng = np.random.default_rng(seed)
    depth = torch.from_numpy(rng.integers(0, 2000, (batch, 24, 28, 1)).astype(np.uint16))
    if available is None:
        available = rng.random((batch, 4)) < 0.5
        available[:, 2] |= ~available.any(1)
    return {
        "depth": depth,
        "force": torch.from_numpy(rng.normal(size=(batch, 4, 3)).astype(np.float32)),
        "proprio": torch.from_numpy(rng.normal(size=(batch, 5)).astype(np.float32)),
        "rgb": torch.from_numpy(rng.integers(0, 256, (batch, 24, 28, 3), dtype=np.uint8)),
        "available": torch.as_tensor(available, dtype=torch.int8),
        "privileged": torch.from_numpy(rng.normal(size=(batch, 6)).astype(np.float32)),
    }


def spoil(observation, seed=1):
    """Whatever a hidden sensor holds, replaced: NaN, other bytes, the largest depth."""
    spoiled, rng = {key: x.clone() for key, x in observation.items()}, np.random.default_rng(seed)
    for m, sensor in enumerate(SENSORS):
        hidden = (observation["available"][:, m] == 0).numpy()
        x = spoiled[sensor.key].numpy()
        x[hidden] = np.nan if x.dtype.kind == "f" else rng.integers(0, np.iinfo(x.dtype).max, x[hidden].shape)
    return spoiled
