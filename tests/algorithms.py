"""The algorithms that the extractor is tested with, small enough to learn a toy in seconds."""

from typing import NamedTuple

import torch
from sb3_contrib import QRDQN, TQC, RecurrentPPO
from stable_baselines3 import A2C, DQN, PPO, SAC, TD3, HerReplayBuffer
from stable_baselines3.common.noise import NormalActionNoise
from stable_baselines3.common.vec_env import DummyVecEnv
from toys import GoalLine, Line

from robofuse.dropout import Dropout, Subsets
from robofuse.policies import FusionExtractor
from robofuse.wrappers import VecSensorDropout

ENVS, SHOWN = 8, 0.3  # environments side by side; episodes in which nothing is hidden


class Way(NamedTuple):
    """How to learn with one algorithm."""

    make: type
    steps: int
    options: dict
    policy: dict = {}  # noqa: RUF012
    discrete: bool = False
    replay: bool = True
    goals: bool = False


ON = {"n_steps": 32, "learning_rate": 3e-3, "gamma": 0.7}
OFF = {"learning_starts": 200, "buffer_size": 5000, "batch_size": 64, "learning_rate": 3e-3, "gamma": 0.7}
STEP = {"train_freq": 4, "gradient_steps": 8}
QUICKLY = {"exploration_fraction": 0.6, "target_update_interval": 200}
NOISE = NormalActionNoise([0.0], [0.3])
HER = {"gamma": 0.9, "replay_buffer_class": HerReplayBuffer, "replay_buffer_kwargs": {"n_sampled_goal": 3}}
LSTM = {"lstm_hidden_size": 16}
SMALL = {"n_quantiles": 8}

WAYS = {
    "PPO": Way(PPO, 8000, ON | {"batch_size": 64, "n_epochs": 6}, replay=False),
    "PPO discrete": Way(PPO, 8000, ON | {"batch_size": 64, "n_epochs": 6}, discrete=True, replay=False),
    "A2C": Way(A2C, 24000, ON | {"n_steps": 8, "normalize_advantage": True}, replay=False),
    "RecurrentPPO": Way(RecurrentPPO, 8000, ON | {"batch_size": 64, "n_epochs": 6}, LSTM, replay=False),
    "SAC": Way(SAC, 3000, OFF | STEP),
    "TD3": Way(TD3, 3000, OFF | STEP | {"action_noise": NOISE}),
    "TQC": Way(TQC, 3000, OFF | STEP | {"top_quantiles_to_drop_per_net": 1}, SMALL),
    "DQN": Way(DQN, 4000, OFF | STEP | QUICKLY, discrete=True),
    "QRDQN": Way(QRDQN, 4000, OFF | STEP | QUICKLY, SMALL, discrete=True),
    "SAC with HER": Way(SAC, 5000, OFF | STEP | HER | {"ent_coef": 0.02}, goals=True),
    "PPO, two extractors": Way(
        PPO, 8000, ON | {"batch_size": 64, "n_epochs": 6}, {"share_features_extractor": False}, replay=False
    ),
    "SAC, one extractor": Way(SAC, 3000, OFF | STEP, {"share_features_extractor": True}),
    "DQN with HER": Way(DQN, 8000, OFF | STEP | QUICKLY | HER, discrete=True, goals=True),
}


def environment(way):
    """With `available`; for learners from rollouts, with sensors missing."""
    base = DummyVecEnv([lambda: (GoalLine if way.goals else Line)(way.discrete)] * ENVS)
    return VecSensorDropout(base, 0.0 if way.replay else Dropout(Subsets(), full=SHOWN, every="step"), seed=0)


def agent(way, extractor=None, kind=FusionExtractor, seed=0, **options):
    """An agent of the algorithm with plain `policy_kwargs`, in an environment of its own."""
    torch.manual_seed(seed)
    kwargs = {"token_dim": 16} | ({"dropout": 0.3} if way.replay else {}) | (extractor or {})
    policy = {
        "features_extractor_class": kind,
        "features_extractor_kwargs": kwargs,
        "net_arch": [32],
        **way.policy,
        **options.pop("policy", {}),
    }
    name = "MultiInputLstmPolicy" if way.make is RecurrentPPO else "MultiInputPolicy"
    return way.make(name, environment(way), seed=seed, device="cpu", policy_kwargs=policy, **(way.options | options))
