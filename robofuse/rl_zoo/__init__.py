"""Hyperparameters for rl-baselines3-zoo: this package's extractor and masks, from the zoo's own command line.

The zoo takes a module for a hyperparameter file, so an installed robofuse needs no path:

    python -m rl_zoo3.train --gym-packages robofuse --algo ppo --env robofuse/Reach-v0 --conf-file robofuse.rl_zoo.ppo

`ppo`, `sac` and `tqc` have an entry for each environment of robofuse, and `default`, which the zoo takes for every
other one with a Dict observation. Nothing here imports the zoo (`pip install 'robofuse[rl-zoo]'`).
"""

from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np

from robofuse.errors import InputError
from robofuse.policies import FusionExtractor
from robofuse.registration import TASKS

MASKED = 0.3  # probability that a sensor is masked while training


def entries(options: Mapping[str, Any], inside: bool) -> dict[str, dict[str, Any]]:
    """Hyperparameters as the zoo reads them from `hyperparams`: environment id, or `default` → options.

    Environments of robofuse mask sensors themselves (`env_kwargs`), so that the zoo's `enjoy` and its evaluations can
    switch it off; other environments are wrapped.

    Args:
        options: of the algorithm, and the zoo's own (`n_envs`, `n_timesteps`); `policy_kwargs` are added to ours.
        inside: draw masks inside the extractor, for algorithms with a replay buffer; else in the environment.
    """

    def entry(kind: Mapping[str, Any]) -> dict[str, Any]:
        # one for each, as the zoo and SB3 write into what they are given
        extractor = {"token_dim": 32, "dropout": MASKED if inside else 0.0}
        policy = {"features_extractor_class": FusionExtractor, "features_extractor_kwargs": extractor, "net_arch": [64]}
        policy_kwargs = {**policy, **options.get("policy_kwargs", {})}
        return {"policy": "MultiInputPolicy", **options, "policy_kwargs": policy_kwargs, **kind}

    # 0 for replay buffers: `available` must be observed, or `enjoy` could not mask anything
    wrapper = {"robofuse.wrappers.VecSensorDropout": {"dropout": 0.0 if inside else MASKED}}
    scaled = {"env_wrapper": ["robofuse.rl_zoo.TypicalScales"]}
    masked = {} if inside else {"env_kwargs": {"dropout": MASKED}}
    ours = {id: entry({**scaled, **masked}) for id in TASKS}
    return {**ours, "default": entry({"vec_env_wrapper": [wrapper]})}


class TypicalScales(gym.ObservationWrapper[dict[str, Any], Any, dict[str, Any]], gym.utils.RecordConstructorArgs):
    """Divides vectors and windows by the typical scale of their sensor; pictures stay as they are.

    The zoo gives an extractor only the space, which has no scales. Your own code gives `FusionExtractor` the `sensors`
    instead. Unlike VecNormalize this keeps no running statistics, which masked readings would shift.
    """

    def __init__(self, env: gym.Env) -> None:
        """Wrap a robofuse environment; InputError for another one, which has no scales."""
        gym.utils.RecordConstructorArgs.__init__(self)
        gym.ObservationWrapper.__init__(self, env)
        world = getattr(env.unwrapped, "world", None)
        if world is None:
            raise InputError(
                f"{env.unwrapped} does not tell the scales of its sensors; take this wrapper for robofuse/… "
                "environments, and for others stable_baselines3's VecNormalize or units of the size of 1"
            )
        numbers = [sensor for sensor in world.sensors if sensor.kind in ("vector", "window")]
        self._scales = {sensor.key: np.asarray(sensor.scale, np.float32) for sensor in numbers}
        spaces = dict(env.observation_space.spaces)  # pyright: ignore[reportAttributeAccessIssue]
        for key, scale in self._scales.items():
            spaces[key] = gym.spaces.Box(spaces[key].low / scale, spaces[key].high / scale, dtype=np.float32)
        self.observation_space = gym.spaces.Dict(spaces)

    def observation(self, observation: dict[str, Any]) -> dict[str, Any]:
        """Readings in typical scales; float32 as before."""
        return {key: x / self._scales[key] if key in self._scales else x for key, x in observation.items()}
