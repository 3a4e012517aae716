"""Dropout of numbers within the network, to compare dropout of sensors with."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from algorithms import WAYS, agent
from sensing import SENSORS, SPACE, observe
from stable_baselines3 import A2C, PPO

from robofuse.envs import SB3VecEnv
from robofuse.policies import FusionActorCriticPolicy, FusionExtractor, FusionPPO, load
from robofuse.policies.saving import save
from robofuse.policies.token_dropout import TokenDropout
from robofuse.train import Train, run_train


def extractor_of(fusion="concat", **rates):
    torch.manual_seed(0)
    return FusionExtractor(SPACE, SENSORS, fusion=fusion, token_dim=16, token_dropout=rates)


def test_numbers_are_dropped_one_by_one_or_in_all_tokens_at_once():
    torch.manual_seed(0)
    tokens = torch.ones(500, 4, 16)
    standard = TokenDropout({"standard": 0.3}, torch.nn.Identity())(tokens)
    assert abs(float((standard == 0).double().mean()) - 0.3) < 0.01
    assert torch.allclose(standard[standard > 0], torch.tensor(1.0 / 0.7))
    feature = TokenDropout({"feature": 0.3}, torch.nn.Identity())(tokens)
    assert (feature == feature[:, :1]).all() and abs(float((feature == 0).double().mean()) - 0.3) < 0.02
    assert not (standard == standard[:, :1]).all()


@pytest.mark.parametrize(
    ("fusion", "rates"), [("concat", {"standard": 0.3}), ("gated", {"feature": 0.3}), ("attention", {"attention": 0.3})]
)
def test_it_is_noise_in_train_mode_alone(fusion, rates):
    extractor, plain, observation = extractor_of(fusion, **rates), extractor_of(fusion), observe(12)
    fused = extractor.fuse(observation)
    assert not torch.equal(fused.features, extractor(observation))
    torch.manual_seed(4)
    first = extractor(observation)
    torch.manual_seed(4)
    assert torch.equal(first, extractor(observation))
    assert torch.equal(fused.tokens, plain.fuse(observation).tokens)  # losses on tokens see them whole
    again = extractor.fuse_again(fused, fused.available).features
    assert not torch.equal(again, extractor.fuse_again(fused, fused.available).features)
    assert torch.equal(extractor.eval()(observation), plain.eval()(observation))
    assert extractor.train().to("meta")({key: x.to("meta") for key, x in observation.items()}).is_meta


def test_a_policy_file_is_that_of_the_network_without_it(tmp_path):
    torch.manual_seed(0)
    kwargs = {"sensors": SENSORS, "token_dim": 8, "fusion": "attention", "token_dropout": {"attention": 0.2}}
    action = gym.spaces.Box(np.float32([-1]), np.float32([1]))
    policy = FusionActorCriticPolicy(SPACE, action, lambda _: 1e-3, features_extractor_kwargs=kwargs)
    loaded, observation = load(save(policy, tmp_path / "p.safetensors", {}, {})), observe(6)
    assert loaded.network.features_extractor.token_dropout is None
    assert torch.equal(loaded.act(observation), policy.eval().act(observation))


NOISE = {"features_extractor_class": FusionExtractor, "features_extractor_kwargs": {"token_dropout": {"standard": 0.2}}}


def test_learners_from_rollouts_refuse_it_and_a_teacher_does_not():
    env = SB3VecEnv("Reach", 4, robot="gripper", sensors=("proprio", "force"), privileged=True, dropout=0.3)
    small = {"n_steps": 4, "batch_size": 8, "policy_kwargs": NOISE, "device": "cpu"}
    for make in (PPO, A2C):
        with pytest.raises(ValueError, match="breaks PPO"):
            make("MultiInputPolicy", env, policy_kwargs=NOISE)
    with pytest.raises(ValueError, match="breaks PPO"):
        PPO(FusionActorCriticPolicy, env, **small).learn(16)
    with pytest.raises(ValueError, match="breaks PPO"):
        FusionPPO(env=env, **small).learn(16)
    copying = FusionPPO(env=env, **small, teacher=lambda _: env.world.expert(), policy_coef=0.0, teacher_final=1.0)
    copying.learn(16)
    assert copying.logger.name_to_value["train/teacher"] > 0
    env.close()
    with pytest.raises(ValueError, match="--policy-coef 0"):
        run_train(Train("Reach").replace(token_dropout=("standard=0.1",)))


def test_learners_from_a_replay_buffer_have_it():
    extra = {"token_dropout": {"standard": 0.2}, "dropout": 0.0}
    model = agent(WAYS["SAC"], extra, learning_starts=72, train_freq=1, gradient_steps=1)
    model.learn(160)
    observation = {key: torch.as_tensor(x) for key, x in model.env.reset().items()}
    actor = model.policy.actor.features_extractor
    assert torch.equal(actor.eval()(observation), actor(observation))
    assert not torch.equal(actor.train()(observation), actor(observation))


@pytest.mark.parametrize(
    ("fusion", "rates", "message"),
    [
        ("concat", {"neurons": 0.1}, "kinds: standard, feature, attention"),
        ("concat", {"standard": 1.0}, r"\[0, 1\)"),
        ("concat", {"attention": 0.1}, "fusion='attention'"),
    ],
)
def test_refused(fusion, rates, message):
    with pytest.raises(ValueError, match=message):
        extractor_of(fusion, **rates)
