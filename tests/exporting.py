"""Small policies and observations for the tests of export and deploy."""

from itertools import product

import gymnasium as gym
import numpy as np
import torch

from robofuse.policies import FusionActorCriticPolicy, Policy
from robofuse.sensors import AVAILABLE, Sensor, observation_space
from robofuse.tensors import one_torch_thread

DEPTH = Sensor("depth", "depth", (20, 24, 1), "uint16", "mm", 1000.0, 10.0, 0.05)
FORCE = Sensor("force", "window", (3, 2), "float32", "N", (10.0, 20.0), 100.0)
PROPRIO = Sensor("proprio", "vector", (7,), "float32", "rad", (0.1, 2.0, 3.0, 1.0, 1.0, 1.0, 0.7), 20.0)
RGB = Sensor("rgb", "rgb", (20, 24, 3), "uint8", "sRGB", 255.0, 20.0)
SENSORS = (DEPTH, FORCE, PROPRIO, RGB)
MASKS = [np.array(mask, np.int8) for mask in product((1, 0), repeat=4)]
CAMERA = {"name": "scene", "fovy": 31.0}


def make(sensors=SENSORS, action=None, name="small", available=True, memory=0, **extractor):
    """A policy with weights as if it were trained."""
    space = observation_space(sensors, privileged=3)
    if not available:
        del space.spaces[AVAILABLE]
    if "maskable" in extractor:
        space.spaces[AVAILABLE] = gym.spaces.MultiBinary(len(extractor["maskable"]))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        network = FusionActorCriticPolicy(
            space,
            gym.spaces.Box(np.float32([-1, -0.5]), np.float32([1, 2])) if action is None else action,
            lambda _: 1e-3,
            net_arch=[16],
            memory=memory,
            features_extractor_kwargs={"sensors": sensors, "token_dim": 8, "fusion": "gated"} | extractor,
        )
        with torch.no_grad():
            network.action_net.weight.normal_()
            for name_, weight in network.features_extractor.named_parameters():
                if name_.startswith("fusion.") and weight.ndim == 2:
                    weight.add_(0.3 * torch.randn_like(weight))
    return Policy(network, name, {"task": "Reach", "cameras": [CAMERA]}, {"steps": 7})


def observe(seed=0, sensors=SENSORS):
    g = np.random.default_rng(seed)
    found = {
        "rgb": g.integers(0, 256, RGB.shape, np.uint8),
        "depth": (g.integers(0, 65536, DEPTH.shape) * (g.random(DEPTH.shape) < 0.8)).astype(np.uint16),
        "proprio": g.normal(size=7).astype(np.float32),
        "force": (10 * g.normal(size=(3, 2))).astype(np.float32),
    }
    return {sensor.key: found[sensor.key] for sensor in sensors}


def spoilt(observation, mask):
    """The same with NaN, or the largest number there is, wherever the mask hides."""
    found = {}
    for (key, x), live in zip(sorted(observation.items()), mask, strict=True):
        found[key] = x if live else np.full_like(x, np.nan if x.dtype.kind == "f" else np.iinfo(x.dtype).max)
    return found


def by_torch(policy, observation, mask=None):
    batch = {key: x[None] for key, x in observation.items()}
    if mask is not None:
        batch[AVAILABLE] = mask[None]
    with one_torch_thread():
        return policy.act(batch)[0].numpy()
