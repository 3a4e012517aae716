"""How far an exported policy is from the one it was made of, over random observations and all masks."""

from collections.abc import Iterator, Sequence
from itertools import product
from typing import cast

import gymnasium as gym
import numpy as np
import torch
from torch import nn

from robofuse.deploy import Policy as Deployed
from robofuse.policies import FusionActorCriticPolicy, Policy
from robofuse.policies.extractor import Fused
from robofuse.sensors import AVAILABLE, Sensor
from robofuse.tensors import one_torch_thread

_MOST = 64  # masks that are tried at most


def worst_difference(policy: Policy, deployed: Deployed, rounds: int = 3, seed: int = 0) -> float:
    """The largest difference between torch's and ONNX's actions, in units of max(1, half the action's range).

    Of a Discrete, how much less than the best the chosen logit is.

    Args:
        policy: the one in torch.
        deployed: made of it.
        rounds: observations per mask; to a policy that remembers, all of them are one episode.
        seed: of the observations.
    """
    generator, differences = np.random.default_rng(seed), []
    network, env_ids = policy.network, policy.stateful(1)
    precise = network.features_extractor.mixed_precision
    deployed.reset()
    network.features_extractor.mixed_precision = False  # exported policies are in float32
    try:
        with one_torch_thread():
            for mask in (mask for mask in masks(deployed, generator) for _ in range(rounds)):
                readings = random_observation(deployed.sensors, generator)
                action = deployed(readings | {AVAILABLE: mask})
                # torch's `available` is of the sensors that may be hidden only; a policy of which none may has none
                told = [flag for flag, key in zip(mask, deployed.keys, strict=True) if key not in deployed.required]
                observation = {**readings, AVAILABLE: np.array(told, np.int8)} if told else readings
                fused = env_ids.fuse({key: x[None] for key, x in observation.items()})
                differences.append(_difference(network, fused, action))
    finally:
        network.features_extractor.mixed_precision = precise
        deployed.reset()
    return float(np.max(differences))  # NaN, if there is one


def random_observation(sensors: Sequence[Sensor], generator: np.random.Generator) -> dict[str, np.ndarray]:
    """Readings without `available`: noise of the sensor's dtype and scale, with gaps in depth."""
    found = {}
    for sensor in sensors:
        dtype = np.dtype(sensor.dtype)
        if dtype.kind in "ui":
            most = int(generator.choice([40, 2000, np.iinfo(dtype).max]))
            x = generator.integers(0, min(most, np.iinfo(dtype).max), sensor.shape, dtype, endpoint=True)
            gaps = generator.random(sensor.shape) < 0.1
            found[sensor.key] = np.where(gaps & (sensor.kind == "depth"), 0, x).astype(dtype)
        else:
            spread = float(generator.choice([0.1, 1.0, 10.0]))
            x = generator.normal(0.0, spread, sensor.shape) * np.asarray(sensor.scale)
            found[sensor.key] = x.astype(dtype)
    return found


def masks(deployed: Deployed, generator: np.random.Generator) -> Iterator[np.ndarray]:
    """Values of `available` that the policy can act under, int8 (M,): all, or 64 random ones where there are more."""
    fixed = np.array([key in deployed.required for key in deployed.keys])
    free = int((~fixed).sum())
    every = product((1, 0), repeat=free) if 2**free <= _MOST else generator.integers(0, 2, (_MOST, free))
    for flags in every:
        mask = np.ones(len(fixed), np.int8)
        mask[~fixed] = flags
        yield mask


def _difference(network: FusionActorCriticPolicy, fused: Fused, action: np.ndarray) -> float:
    space = network.action_space
    with torch.no_grad():
        if isinstance(space, gym.spaces.Box):
            half = np.maximum(1.0, (space.high - space.low) / 2.0)
            return float(np.max(np.abs(network.act_fused(fused)[0].cpu().numpy() - action) / half))
        logits = cast(nn.Module, network.action_net)(network.actor(fused.features))[0]
        return float(logits.max() - logits[int(action)])
