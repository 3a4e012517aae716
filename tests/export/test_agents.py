"""Agents of Stable-Baselines3 as ONNX: they act there as they do in torch, under every mask."""

import json

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.spaces import Box, Dict, Discrete
from sb3_contrib import QRDQN, TQC, RecurrentPPO
from stable_baselines3 import A2C, DDPG, DQN, PPO, SAC, TD3
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from robofuse.cli import main
from robofuse.deploy import Policy
from robofuse.errors import InputError
from robofuse.export import export
from robofuse.export.agents import Hints
from robofuse.export.compare import TOLERANCE, agent_difference
from robofuse.export.make import exported
from robofuse.policies import FusionExtractor, FusionPPO
from robofuse.policies.agents import of_agent
from robofuse.sensors import Entry
from robofuse.wrappers import SensorDropout

SPACE = Dict(
    arm=Box(-9, 9, (3,), np.float32),
    depth=Box(0, 65535, (24, 20, 1), np.uint16),
    rgb=Box(0, 255, (24, 20, 3), np.uint8),
    touch=Box(-np.inf, np.inf, (5, 2), np.float64),
)
ARM = Box(np.float32([-1, -0.5]), np.float32([1, 2]))


class Small(gym.Env):
    """Shows noise, and rewards nothing."""

    observation_space = SPACE

    def __init__(self, action=ARM):
        self.action_space = action

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.left = 8
        return self.look(), {}

    def step(self, action):
        self.left -= 1
        return self.look(), 0.0, False, self.left == 0, {"is_success": False}

    def look(self):
        g = self.np_random
        return {
            "arm": (5.0 + 0.1 * g.normal(size=3)).astype(np.float32),
            "depth": g.integers(0, 2000, (24, 20, 1)).astype(np.uint16),
            "rgb": g.integers(0, 256, (24, 20, 3)).astype(np.uint8),
            "touch": 20.0 * g.normal(size=(5, 2)),
        }


class Cameras(Small):
    """Says of its cameras alone whether they deliver."""

    observation_space = Dict(**SPACE, available=gym.spaces.MultiBinary(2))

    def look(self):
        return super().look() | {"available": np.ones(2, np.int8)}


def agent_of(make, action=ARM, env=None, **extractor):
    env = env or SensorDropout(Small(action), 0.3)
    options = {PPO: {"n_steps": 4, "batch_size": 4}, FusionPPO: {"n_steps": 4, "batch_size": 4}, A2C: {}}
    given = {"token_dim": 8, "kinds": {"touch": "window"}} | extractor
    policy = {"features_extractor_class": FusionExtractor, "features_extractor_kwargs": given, "net_arch": [16]}
    return make(
        "MultiInputPolicy", env, seed=0, device="cpu", policy_kwargs=policy, **options.get(make, {"buffer_size": 10})
    )


@pytest.mark.parametrize("make", [PPO, A2C, SAC, TD3, DDPG, TQC, FusionPPO], ids=lambda make: make.__name__)
def test_actions_agree_with_torch(make):
    agent = agent_of(make)
    made = exported(agent, Hints(rate=10.0))
    assert made.difference < 1e-5 and made.deployed.name == make.__name__.lower()
    assert made.deployed.keys == ("arm", "depth", "rgb", "touch") and made.deployed.required == ()
    assert [s.shape for s in made.deployed.sensors] == [(3,), (24, 20, 1), (24, 20, 3), (5, 2)]  # channels last
    assert {s.rate for s in made.deployed.sensors} == {10.0} and made.deployed.rate == 10.0
    observation = {key: x[0] for key, x in small_batch().items()}
    actions = [made.deployed({**observation, "available": mask}) for mask in ([1, 1, 1, 1], [1, 0, 0, 1])]
    assert not np.allclose(*actions)  # so that masks could be told apart
    told = [agent.predict({**observation, "available": np.int8(mask)}, deterministic=True)[0]
            for mask in ([1, 1, 1, 1], [1, 0, 0, 1])]  # fmt: skip
    np.testing.assert_allclose(actions, told, atol=1e-4)
    assert all((ARM.low <= a).all() and (a <= ARM.high).all() for a in actions)


def small_batch(seed=0):
    observation, _ = Small().reset(seed=seed)
    return {key: x[None] for key, x in observation.items()}


@pytest.mark.parametrize("make", [DQN, QRDQN, PPO, A2C], ids=lambda make: make.__name__)
def test_choices_agree_with_torch(make):
    agent = agent_of(make, Discrete(4))
    made = exported(agent, Hints(entries={"action": ["left", "right", "up", "down"]}))
    chosen = set()
    for seed in range(12):
        (observation,) = [{key: x[0] for key, x in small_batch(seed).items()}]
        mask = np.array([seed & 1, 1, (seed >> 1) & 1, (seed >> 2) & 1], np.int8)
        action = made.deployed(observation | {"available": mask})
        assert action == agent.predict(observation | {"available": mask}, deterministic=True)[0]
        chosen.add(int(action))
    assert made.deployed.entries["action"][1] == Entry("right")


def test_another_agent_is_told_apart():
    agent, other = agent_of(SAC), agent_of(SAC, token_dim=16)
    assert agent_difference(other, exported(agent).deployed, of_agent(other)) > TOLERANCE


def normalised(keys):
    return VecNormalize(DummyVecEnv([lambda: SensorDropout(Small(), 0.0)]), norm_obs_keys=keys)


@pytest.mark.parametrize("masked_as", ["token", "zeros"])
def test_the_normalisation_of_readings_is_in_the_graph(masked_as):
    env = normalised(["arm", "touch"])
    env.reset()
    for _ in range(30):
        env.step(np.zeros((1, 2), np.float32))
    agent = agent_of(SAC, env=env, masked_as=masked_as)
    made = exported(agent, Hints(env))
    assert made.difference < 1e-4
    observation = {key: x[0] for key, x in small_batch().items()}
    raw = made.deployed(observation)
    normal = env.normalize_obs({key: x for key, x in small_batch().items()})
    told = agent.predict({**{k: x[0] for k, x in normal.items()}, "available": np.ones(4, np.int8)}, deterministic=True)
    np.testing.assert_allclose(raw, told[0], atol=1e-4)
    assert np.abs(raw - exported(agent).deployed(observation)).max() > 0.01  # which forgot it


def test_normalised_pictures_are_refused():
    env = normalised(["arm", "depth"])
    with pytest.raises(InputError, match="has normalised 'depth', a picture"):
        exported(agent_of(SAC, env=env), Hints(env))


def test_what_cannot_be_exported_is_refused_in_words():
    env = SensorDropout(Small(), 0.3)
    plain = SAC("MultiInputPolicy", gym.wrappers.FilterObservation(Small(), ["arm"]), device="cpu", buffer_size=10)
    with pytest.raises(InputError, match=r"FusionExtractor; this one has a CombinedExtractor"):
        exported(plain)
    lstm = RecurrentPPO(
        "MultiInputLstmPolicy", env, n_steps=4, batch_size=4, device="cpu",
        policy_kwargs={"features_extractor_class": FusionExtractor, "lstm_hidden_size": 8},
    )  # fmt: skip
    with pytest.raises(InputError, match="LSTM of RecurrentPPO.*memory of FusionPPO"):
        exported(lstm)
    with pytest.raises(InputError, match="begin with 1"):
        exported(agent_of(PPO, Discrete(3, start=1)))


def test_without_available_it_has_not_learned_to_do_without():
    made = exported(agent_of(TD3, env=Small()))
    assert made.deployed.required == made.deployed.keys and made.difference < 1e-5


def test_keys_that_are_never_read_and_keys_that_never_fail():
    made = exported(agent_of(PPO, ignore=["rgb"]))
    assert made.deployed.keys == ("arm", "depth", "touch") and made.difference < 1e-5
    made = exported(agent_of(PPO, env=Cameras(), maskable=["depth", "rgb"]))
    assert made.deployed.required == ("arm", "touch") and made.difference < 1e-5


@pytest.mark.parametrize(
    "entries, said",
    [
        ({"wrist": ["a"]}, "tells of 'wrist'; there are arm, depth, rgb, touch, action"),
        ({"arm": ["a", "b"]}, "of 'arm' is .*not a list of 3"),
        ({"action": ["x", 3]}, "an entry of 'action' is 3, not a name"),
        ({"action": [{"name": "x", "size": "big"}, "y"]}, "an entry of 'action'"),
        ({"action": [{"unit": "m"}, "y"]}, "an entry of 'action'"),
        ({"action": "xy"}, "not a list of 2"),
    ],
)
def test_entries_that_do_not_fit_are_refused(entries, said):
    with pytest.raises(InputError, match=said):
        exported(agent_of(TD3), Hints(entries=entries))


def test_from_a_file_by_the_command(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    agent_of(SAC).save("mine.zip")
    told = {"action": [{"name": "x", "unit": "m", "size": 0.02, "about": "a step"}, "grip"]}
    (tmp_path / "entries.json").write_text(json.dumps(told))
    command = ["export", "mine.zip", "--algo", "sac", "--rate", "20", "--entries", "entries.json"]
    assert main(command) == 2
    assert "can run code hidden in it" in capsys.readouterr().err
    assert main([*command, "--trust"]) == 0
    said = capsys.readouterr().out
    assert "20 times a second" in said and "x, 1 = 0.02 m: a step" in said and "mine.onnx" in said
    policy = Policy("mine.onnx")
    assert policy.name == "mine" and policy.card["algorithm"] == "SAC"
    assert policy.entries["action"] == (Entry("x", "m", 0.02, "a step"), Entry("grip"))
    assert policy.timeouts["rgb"] == pytest.approx(0.125)
    (tmp_path / "entries.json").write_text("[1]")
    assert main([*command, "--trust"]) == 2
    assert "must be a mapping" in capsys.readouterr().err
    assert main(["export", "grasp", "--normalize", "some.pkl"]) == 2
    assert "is for agents" in capsys.readouterr().err


def test_an_agent_has_the_name_of_its_algorithm_by_default(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert export(agent_of(PPO)).name == "ppo.onnx"
