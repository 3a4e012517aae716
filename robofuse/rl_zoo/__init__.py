"""Hyperparameters for rl-baselines3-zoo: this package's extractor and masks, from the zoo's own command line.

The zoo takes a module for a hyperparameter file, so an installed robofuse needs no path:

    python -m rl_zoo3.train --gym-packages robofuse --algo ppo --env robofuse/Reach-v0 --conf-file robofuse.rl_zoo.ppo

`ppo`, `sac` and `tqc` have an entry for each environment of robofuse, and `default`, which the zoo takes for every
other one with a Dict observation. Nothing here imports the zoo (`pip install 'robofuse[rl-zoo]'`).
"""

from collections.abc import Mapping
from typing import Any

from robofuse.policies import FusionExtractor
from robofuse.registration import TASKS

HIDDEN = 0.3  # probability that a sensor is hidden while training


def entries(options: Mapping[str, Any], inside: bool) -> dict[str, dict[str, Any]]:
    """What the zoo reads under the name `hyperparams`: environment id, or `default` → options.

    Environments of robofuse hide sensors themselves (`env_kwargs`), so that the zoo's `enjoy` and its evaluations may
    be told otherwise; those of others are wrapped, wherever they are made.

    Args:
        options: of the algorithm, and the zoo's own (`n_envs`, `n_timesteps`); `policy_kwargs` are added to ours.
        inside: masks are drawn inside the extractor, for learners from a replay buffer; else by the environment.
    """

    def entry(place: Mapping[str, Any]) -> dict[str, Any]:
        # anew for each: the zoo and SB3 write into what they are given
        extractor = {"token_dim": 32, "dropout": HIDDEN if inside else 0.0}
        policy = {"features_extractor_class": FusionExtractor, "features_extractor_kwargs": extractor, "net_arch": [64]}
        policy_kwargs = {**policy, **options.get("policy_kwargs", {})}
        return {"policy": "MultiInputPolicy", **options, "policy_kwargs": policy_kwargs, **place}

    # of 0 for replay buffers: `available` must be observed, or enjoy could not hide anything
    wrapper = {"robofuse.dropout.VecSensorDropout": {"dropout": 0.0 if inside else HIDDEN}}
    scaled = {"env_wrapper": ["robofuse.rl_zoo.scales.TypicalScales"]}
    missing = {} if inside else {"env_kwargs": {"dropout": HIDDEN}}
    ours = {id: entry({**scaled, **missing}) for id in TASKS}
    return {**ours, "default": entry({"vec_env_wrapper": [wrapper]})}
