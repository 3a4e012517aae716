"""Behaviour cloning into agents of Stable-Baselines3, with sensors masked."""

import foreign_envs
import gymnasium as gym
import numpy as np
import pytest
import torch
from sb3_contrib import QRDQN, TQC, RecurrentPPO
from stable_baselines3 import A2C, DDPG, DQN, PPO, SAC, TD3
from stable_baselines3.common.vec_env import DummyVecEnv
from toys import STRIDE

from robofuse.errors import InputError
from robofuse.policies import FusionExtractor, FusionPPO, clone
from robofuse.policies.agents import of_agent
from robofuse.wrappers import VecSensorDropout

KEYS = ("far", "near", "noise")


def rows(count=256, seed=0):
    """What the sensors say of places, and where to step from there."""
    g = np.random.default_rng(seed)
    env = foreign_envs.line()
    observations, actions = {key: [] for key in KEYS}, []
    for _ in range(count):
        observation, _ = env.reset(seed=int(g.integers(2**31)))
        for key in KEYS:
            observations[key].append(observation[key])
        actions.append(np.clip([-observation["near"][0] / STRIDE], -1.0, 1.0).astype(np.float32))
    return {key: np.stack(x) for key, x in observations.items()}, np.stack(actions)


class Choosing(gym.ActionWrapper):
    """Left, stay, right."""

    def __init__(self):
        super().__init__(foreign_envs.line())
        self.action_space = gym.spaces.Discrete(3)

    def action(self, action):
        return np.float32([action - 1.0])


class Many(gym.ActionWrapper):
    """Two choices at a time."""

    def __init__(self):
        super().__init__(foreign_envs.line())
        self.action_space = gym.spaces.MultiDiscrete([3, 2])


def agent_of(make, env=foreign_envs.line):
    sensed = VecSensorDropout(DummyVecEnv([env]), 0.0)
    own = {PPO: {"n_steps": 8, "batch_size": 8}, FusionPPO: {"n_steps": 8, "batch_size": 8}, A2C: {}}
    given = {"features_extractor_class": FusionExtractor, "features_extractor_kwargs": {"token_dim": 16}}
    given |= {"net_arch": [32]}
    return make(
        "MultiInputPolicy", sensed, device="cpu", seed=0, policy_kwargs=given, **own.get(make, {"buffer_size": 9})
    )


def errors(agent, masks, count=64):
    """Mean distance of actions to the expert's, on rows that were not learned from."""
    observations, actions = rows(count, seed=9)
    found = []
    for mask in masks:
        live = np.int8([key in mask for key in KEYS])
        batch = {key: x * live[i] for i, (key, x) in enumerate(observations.items())}
        acted = agent.predict(batch | {"available": np.tile(live, (count, 1))}, deterministic=True)[0]
        found.append(float(np.abs(acted.astype(float) - actions).mean()))
    return found


@pytest.mark.parametrize("make", [PPO, SAC, TD3, DDPG, TQC, A2C, FusionPPO], ids=lambda make: make.__name__)
def test_an_agent_copies_with_and_without_its_sensors(make):
    agent, told = agent_of(make), []
    before = errors(agent, [KEYS])
    last = clone(agent, *rows(), dropout=0.4, passes=60, learning_rate=5e-3, progress=lambda n, x: told.append((n, x)))
    assert [n for n, _ in told] == list(range(1, 61)) and told[-1][1] == last < told[0][1] / 2
    all_of_them, without_near, without_far, blind = errors(agent, [KEYS, ("far", "noise"), ("near",), ("noise",)])
    assert max(all_of_them, without_near, without_far) < 0.2 < before[0] and blind > 0.4


def test_without_dropout_it_leans_on_what_it_likes():
    agent = agent_of(TD3)
    clone(agent, *rows(), passes=60, learning_rate=5e-3)
    whole, *masked = errors(agent, [KEYS, ("far", "noise"), ("near", "noise")])
    assert whole < 0.1 and max(masked) > 0.2


@pytest.mark.parametrize("make", [DQN, QRDQN, PPO], ids=lambda make: make.__name__)
def test_choices_are_copied_by_cross_entropy(make):
    agent = agent_of(make, Choosing)
    observations, actions = rows()
    chosen = (np.sign(actions[:, 0]) + 1).astype(np.int64)
    clone(agent, observations, chosen, dropout=0.3, passes=40, learning_rate=5e-3)
    fresh, actions = rows(64, seed=9)
    acted = agent.predict(fresh | {"available": np.ones((64, 3), np.int8)}, deterministic=True)[0]
    assert (acted == np.sign(actions[:, 0]) + 1).mean() > 0.9


def test_the_same_seed_learns_the_same_and_moves_no_random_numbers():
    learned = []
    for _ in range(2):
        agent = agent_of(SAC)
        state = torch.get_rng_state()
        clone(agent, *rows(64), dropout=0.3, passes=2)
        assert torch.equal(state, torch.get_rng_state())
        learned.append(torch.cat([x.flatten() for x in agent.actor.parameters()]))
    assert torch.equal(*learned)


def test_targets_begin_where_the_copy_is():
    agent = agent_of(TD3)
    clone(agent, *rows(64), passes=2)
    for one, other in zip(agent.actor.parameters(), agent.actor_target.parameters(), strict=True):
        assert torch.equal(one, other)
    agent.learning_starts = 4
    agent.learn(12)  # and it goes on


def test_what_was_missing_in_the_recording_stays_missing():
    """Its numbers may be anything."""
    observations, actions = rows(64)
    available = np.ones((64, 3), np.int8)
    available[:, 1] = 0
    learned = []
    for near in (0.0, 5.0):
        agent = agent_of(TD3)
        clone(agent, {**observations, "near": np.full((64, 1), near, np.float32), "available": available}, actions,
              dropout=0.3, passes=2)  # fmt: skip
        learned.append(torch.cat([x.flatten() for x in agent.actor.parameters()]))
    assert torch.equal(*learned)


def test_what_does_not_fit_is_refused():
    agent, (observations, actions) = agent_of(SAC), rows(16)
    plain = SAC("MultiInputPolicy", DummyVecEnv([foreign_envs.line]), device="cpu", buffer_size=9)
    silent = SAC("MultiInputPolicy", DummyVecEnv([foreign_envs.line]), device="cpu", buffer_size=9,
                 policy_kwargs={"features_extractor_class": FusionExtractor})  # fmt: skip
    lstm = RecurrentPPO("MultiInputLstmPolicy", DummyVecEnv([foreign_envs.line]), n_steps=8, batch_size=8, device="cpu",
                        policy_kwargs={"features_extractor_class": FusionExtractor})  # fmt: skip
    for which, seen, done, options, message in (
        (agent, {"far": observations["far"]}, actions, {}, "reads 'near'; the observations have far"),
        (agent, observations, actions[:3], {}, "'far' has 16 rows, and there are 3 actions"),
        (agent, observations | {"near": np.zeros((16, 2), np.float32)}, actions, {}, "the agent reads"),
        (agent, observations, actions * np.nan, {}, "finite and within"),
        (agent, observations, 3 * actions, {}, "clip them"),
        (agent, observations, actions[:, 0], {}, r"must be \(N, 1\)"),
        (agent, observations, actions, {"passes": 0}, "passes"),
        (agent_of(DQN, Choosing), observations, np.zeros(16), {}, r"must be \(N,\) integers"),
        (plain, observations, actions, {}, "CombinedExtractor"),
        (silent, observations, actions, {"dropout": 0.3}, "no `available`"),
        (agent_of(PPO, Many), observations, np.zeros((16, 2), int), {}, "takes a Box or Discrete"),
        (lstm, observations, actions, {}, "LSTM"),
    ):
        with pytest.raises(InputError, match=message):
            clone(which, seen, done, **options)
    assert of_agent(agent).extractor is agent.actor.features_extractor
