"""Re-masking in SB3's own algorithms, by a callback, on the toys."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from algorithms import WAYS, agent
from stable_baselines3 import A2C, PPO
from stable_baselines3.common.vec_env import DummyVecEnv
from toys import Line, view

from robofuse.dropout import Dropout, Independent
from robofuse.dropout.apply import submasks
from robofuse.policies import FusionActorCriticPolicy, FusionExtractor, FusionPPO, RemaskCallback
from robofuse.wrappers import VecSensorDropout

SHORT = {"n_steps": 16, "batch_size": 64, "n_epochs": 2}


class Ratios(PPO):
    """PPO that notes the largest |log-ratio| before each update."""

    def train(self):
        rows = next(iter(self.rollout_buffer.get(None)))
        actions = rows.actions.long().flatten() if isinstance(self.action_space, gym.spaces.Discrete) else rows.actions
        self.policy.set_training_mode(True)
        with torch.no_grad():
            _, log_prob, _ = self.policy.evaluate_actions(rows.observations, actions)
        self.errors = [*getattr(self, "errors", []), float((log_prob - rows.old_log_prob).abs().max())]
        super().train()


def make(name, **options):
    return agent(WAYS[name]._replace(make=Ratios), **(SHORT | options))


def observations(model):
    return next(iter(model.rollout_buffer.get(None))).observations


def outputs(model, hidden=()):
    """Means or log-probabilities at some places."""
    rng = np.random.default_rng(0)
    obs = {key: torch.as_tensor(x) for key, x in view(rng.uniform(-1, 1, 400), rng).items()}
    obs["available"] = torch.tensor([[key not in hidden for key in ("far", "near", "noise")]] * 400)
    with torch.no_grad():
        found = RemaskCallback._outputs(model.policy, RemaskCallback._fuse(model.policy, obs))
    return found.log_softmax(1) if found.shape[1] > 1 else found


def distances(model):
    """How far apart actions are with all sensors and with one less that tells something."""
    whole = outputs(model)
    return [float((outputs(model, [key]) - whole).square().mean() / whole.var(0).mean()) for key in ("far", "near")]


@pytest.mark.parametrize("name", ["PPO", "PPO discrete", "PPO, two extractors"])
def test_first_ratio_stays_one(name):
    model = make(name)
    model.learn(4 * 16 * 8, callback=RemaskCallback(passes=2))
    assert len(model.errors) == 4 and max(model.errors) < 1e-5
    assert model.logger.name_to_value["train/remask"] > 0.0


@pytest.mark.parametrize("name", ["PPO", pytest.param("PPO discrete", marks=pytest.mark.slow), "PPO, two extractors"])
def test_actions_come_together_and_those_under_all_sensors_stay(name):
    model, callback = make(name), RemaskCallback(masks=3, passes=40)
    callback.init_callback(model)
    model.learn(8 * 16 * 8)
    callback.on_rollout_end()
    apart, before = distances(model), outputs(model)
    callback.on_rollout_start()
    assert sum(distances(model)) < 0.75 * sum(apart), (apart, distances(model))
    moved = float((outputs(model) - before).square().mean() / before.var(0).mean())
    assert moved < 0.1, moved


def test_the_last_rollout_is_learned_from_too_and_none_twice():
    model, callback = make("PPO"), RemaskCallback(passes=3)
    calls = []
    callback.loss = lambda policy, obs, wanted, loss=callback.loss: (
        calls.append(len(obs["near"])),
        loss(policy, obs, wanted),
    )[1]
    for _ in range(2):
        model.learn(2 * 16 * 8, callback=callback, reset_num_timesteps=False)
    assert sum(calls) == 2 * 2 * 3 * 16 * 8


def test_a_critic_with_an_extractor_of_its_own_is_left_alone():
    model, callback = make("PPO, two extractors"), RemaskCallback()
    callback.init_callback(model)
    model.learn(16 * 8)
    callback.on_rollout_end()
    critic = model.policy.vf_features_extractor
    before = [[p.detach().clone() for p in part.parameters()] for part in (critic, model.policy.pi_features_extractor)]
    model.policy.set_training_mode(False)  # as SB3 has it there
    callback.on_rollout_start()
    changed = [
        any(not torch.equal(a, b) for a, b in zip(old, part.parameters(), strict=True))
        for old, part in zip(before, (critic, model.policy.pi_features_extractor), strict=True)
    ]
    assert changed == [False, True] and not model.policy.training


def test_algorithms_without_minibatches():
    model = agent(WAYS["A2C"])
    assert isinstance(model, A2C)
    model.learn(4 * 8 * 8, callback=RemaskCallback(passes=2))
    assert np.isfinite(model.logger.name_to_value["train/remask"])


def test_our_policy_in_the_algorithm_of_sb3():
    """Its mean is squashed, and its observations stay as they come."""
    env = VecSensorDropout(DummyVecEnv([Line] * 4), Dropout(Independent(0.4)), seed=0)
    model = Ratios(FusionActorCriticPolicy, env, n_steps=16, batch_size=32, n_epochs=2, seed=0, device="cpu")
    model.learn(3 * 16 * 4, callback=RemaskCallback())
    assert max(model.errors) < 1e-5
    policy, rows = model.policy, observations(model)
    with torch.no_grad():
        torch.manual_seed(0)
        found = RemaskCallback(1).loss(policy, rows)
        torch.manual_seed(0)
        fused = policy.fuse(rows)
        again = policy.fuse_again(fused, submasks(fused.available, 0.6), rows)
        expected = (policy.mean_action(again) - policy.mean_action(fused)).square().mean() / 2  # one mask of two
    torch.testing.assert_close(found, expected)


class Pictures(gym.Env):
    """Bytes in a picture, which SB3 transposes and divides by 255, and numbers; the action chooses nothing."""

    observation_space = gym.spaces.Dict(
        {"rgb": gym.spaces.Box(0, 255, (36, 36, 3), np.uint8), "state": gym.spaces.Box(-1, 1, (3,))}
    )
    action_space = gym.spaces.MultiDiscrete([3, 2])

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.left = 5
        return self.look(), {}

    def step(self, action):
        self.left -= 1
        return self.look(), 0.0, False, self.left == 0, {}

    def look(self):
        rgb = self.np_random.integers(0, 256, (36, 36, 3), np.uint8)
        return {"rgb": rgb, "state": self.np_random.uniform(-1, 1, 3).astype(np.float32)}


def test_pictures_and_several_choices():
    """The loss reads what the policy reads: its features are those that SB3 computes."""
    env = VecSensorDropout(DummyVecEnv([Pictures] * 2), Dropout(Independent(0.3)), seed=0)
    kwargs = {"features_extractor_class": FusionExtractor, "features_extractor_kwargs": {"token_dim": 16}}
    model = Ratios("MultiInputPolicy", env, n_steps=8, batch_size=8, n_epochs=1, policy_kwargs=kwargs, device="cpu")
    model.learn(32, callback=RemaskCallback(passes=2))
    assert max(model.errors) < 1e-5
    policy, rows = model.policy, observations(model)
    seen, extractor = [], policy.pi_features_extractor
    fuse = extractor.fuse
    extractor.fuse = lambda obs: (seen.append(fuse(obs)), seen[-1])[1]
    with torch.no_grad():
        found = RemaskCallback(1).loss(policy, rows)
        features = policy.extract_features(rows)
    assert torch.equal(seen[0].features, features) and float(found) > 0.0


def test_nothing_apart_nothing_to_learn():
    model = make("PPO")
    model.learn(16 * 8)
    assert float(RemaskCallback(keep=1.0).loss(model.policy, observations(model)).detach()) < 1e-12


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"masks": 0}, "masks must be"),
        ({"keep": 0.0}, "keep must lie in"),
        ({"keep": 1.5}, "keep must lie in"),
        ({"passes": 0}, "passes must be"),
        ({"coef": float("nan")}, "coef must be"),
        ({"batch_size": 0}, "batch_size must be"),
    ],
)
def test_numbers_out_of_range(options, message):
    with pytest.raises(ValueError, match=message):
        RemaskCallback(**options)


@pytest.mark.parametrize("name", ["SAC", "RecurrentPPO"])
def test_other_algorithms_are_refused(name):
    with pytest.raises(ValueError, match="is for PPO, A2C"):
        agent(WAYS[name]).learn(8, callback=RemaskCallback())


def test_what_cannot_be_masked_again_is_refused():
    with pytest.raises(ValueError, match="mask tokens"):
        agent(WAYS["PPO"], {"masked_as": "zeros"}).learn(8, callback=RemaskCallback())
    env = VecSensorDropout(DummyVecEnv([Line] * 2), Dropout(Independent(0.4)), seed=0)
    with pytest.raises(ValueError, match="mask tokens"):
        PPO("MultiInputPolicy", env, n_steps=8, batch_size=8).learn(8, callback=RemaskCallback())
    with pytest.raises(ValueError, match="FusionPPO"):
        FusionPPO(env=env, n_steps=8, batch_size=8).learn(8, callback=RemaskCallback())
