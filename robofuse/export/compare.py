"""Whether an exported policy acts as in torch."""

from collections.abc import Iterator, Sequence
from itertools import product
from typing import cast

import gymnasium as gym
import numpy as np
import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.preprocessing import preprocess_obs
from stable_baselines3.common.vec_env import VecNormalize
from torch import nn

from robofuse.deploy import Policy as Deployed
from robofuse.policies import FusionActorCriticPolicy, Policy
from robofuse.policies.agents import Network
from robofuse.policies.extractor import Fused
from robofuse.sensors import AVAILABLE, Sensor
from robofuse.tensors import one_torch_thread

TOLERANCE = 1e-4
_MOST = 64  # masks to compare under


def worst_difference(policy: Policy, deployed: Deployed, rounds: int = 3, seed: int = 0) -> float:
    """The largest difference between torch's and ONNX's actions, in units of max(1, half the action's range).

    Of a Discrete it is how much less than the best the chosen logit is.

    Args:
        policy: the policy in torch.
        deployed: the policy in onnxruntime.
        rounds: observations per mask; for a policy that remembers, all of them are one episode.
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
                # torch's `available` has only the sensors that may be hidden; where none may be, there is none
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
    """Masks that the policy can act under, int8 (M,): all of them, or 64 random ones where there are more."""
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


def agent_difference(
    agent: BaseAlgorithm,
    deployed: Deployed,
    network: Network,
    normalise: VecNormalize | None = None,
    rounds: int = 3,
    seed: int = 0,
) -> float:
    """As `worst_difference`, of an agent of Stable-Baselines3; of a Discrete, in the values that it chooses by.

    Args:
        agent: the agent in torch.
        deployed: the same in onnxruntime.
        network: what its graph was made of.
        normalise: what normalised its observations.
        rounds: observations per mask.
        seed: of the observations.
    """
    generator, differences = np.random.default_rng(seed), list[float]()
    extractor, space = network.extractor, cast(gym.spaces.Dict, agent.observation_space)
    precise, extractor.mixed_precision = extractor.mixed_precision, False  # exported policies are in float32
    try:
        with one_torch_thread():
            for mask in (mask for mask in masks(deployed, generator) for _ in range(rounds)):
                readings = random_observation(deployed.sensors, generator)
                for key, known in network.normalised.items():  # around the mean, where they are not all clipped
                    readings[key] = (readings[key] + known.mean).astype(readings[key].dtype)
                live = [key for key, flag in zip(deployed.keys, mask, strict=True) if flag]
                action = deployed(readings | {AVAILABLE: mask})
                batch = {key: np.zeros((1, *(one.shape or ())), one.dtype) for key, one in space.spaces.items()}
                batch |= {key: x[None] for key, x in readings.items()}
                if normalise is not None:
                    batch = cast(dict[str, np.ndarray], normalise.normalize_obs(batch))
                if AVAILABLE in space.spaces:
                    batch[AVAILABLE] = extractor.tell(
                        torch.tensor([[key in live for key in extractor.told_of]])
                    ).numpy()
                differences.append(_agent_difference(agent, network, batch, action))
    finally:
        extractor.mixed_precision = precise
    return float(np.max(differences))


def _agent_difference(
    agent: BaseAlgorithm, network: Network, batch: dict[str, np.ndarray], action: np.ndarray
) -> float:
    if isinstance(agent.action_space, gym.spaces.Box):
        half = np.maximum(1.0, (agent.action_space.high - agent.action_space.low) / 2.0)
        return float(np.max(np.abs(agent.predict(batch, deterministic=True)[0][0] - action) / half))
    tensors = agent.policy.obs_to_tensor(batch)[0]
    plain = preprocess_obs(tensors, agent.observation_space, normalize_images=agent.policy.normalize_images)
    with torch.no_grad():  # all but the choice
        values = network.scores(network.extractor(cast(dict[str, torch.Tensor], plain)))[0]
    return float(values.max() - values[int(action)])
