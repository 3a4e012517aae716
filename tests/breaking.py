"""Four sensors, what they read, and what arrives of it under a plan, for tests of faults."""

import functools

import numpy as np
import torch

from robofuse.faults import Injector
from robofuse.sensors import Sensor

SENSORS = (
    Sensor("depth", "depth", (24, 28, 1), "uint16", "mm", 1000.0, 20.0),
    Sensor("force", "window", (10, 8), "float32", "N", (10.0,) * 3 + (1.0,) * 3 + (20.0,) * 2, 20.0, 0.0, 200.0),
    Sensor("proprio", "vector", (6,), "float32", "rad", (1.0, 2.0, 0.5, 1.0, 1.0, 1.0), 20.0),
    Sensor("rgb", "rgb", (24, 28, 3), "uint8", "", 255.0, 20.0),
)
STEPS = 12


@functools.cache
def readings(step, n, first=0):
    """What n healthy sensors read at a step; each environment its own. Drawn once: nobody may write into them."""
    out = {sensor.key: [] for sensor in SENSORS}
    for world in range(first, first + n):
        rng = np.random.default_rng([step, world])
        ramp = np.linspace(400, 900, 24)[:, None] + np.linspace(0, 60, 28)[None, :] + 8 * (step % 100)
        ramp[8:14, 10:16] -= 60
        out["depth"].append((ramp + rng.normal(size=ramp.shape)).astype(np.uint16)[..., None])
        out["rgb"].append((rng.integers(60, 100, (24, 28, 3)) + 8 * (step % 100)).astype(np.uint8))
        out["proprio"].append((0.5 * (step % 100) + rng.normal(size=6)).astype(np.float32))
        out["force"].append((step % 100 + 3 * rng.normal(size=(10, 8))).astype(np.float32))
    return {key: torch.from_numpy(np.stack(x)) for key, x in out.items()}


def play(plan, n=5, seed=3, episodes=1, first=0):
    """[(healthy, arrived, told)] by step, of every environment."""
    injector, log = Injector(plan, SENSORS, n, seed, 0.05), []
    for episode in range(episodes):
        injector.start(torch.arange(n), torch.arange(first, first + n) + 100 * episode)
        for step in range(STEPS):
            if step:
                injector.step()
            healthy = readings(step + 1000 * episode, n, first)
            kept = {key: x.clone() for key, x in healthy.items()}
            arrived, told = injector.apply(healthy)
            assert all(torch.equal(kept[key], x) for key, x in healthy.items())  # what came in is as it was
            log.append((kept, arrived, told))
    return log
