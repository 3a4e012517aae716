"""The baselines that most people write: a hidden sensor reads zero, and nothing tells, or the policy is told."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from sensing import SENSORS, SPACE, observe, spoil
from stable_baselines3 import PPO

from robofuse.policies import FUSIONS, FusionActorCriticPolicy, FusionExtractor, load
from robofuse.policies.saving import save
from robofuse.train import Train
from robofuse.train.build import make_env, make_model
from robofuse.wrappers import SensorDropout


def zero_filling(fusion="concat"):
    torch.manual_seed(0)
    return FusionExtractor(SPACE, SENSORS, fusion=fusion, token_dim=16, masked_as="zeros")


def zeroed(observation):
    """Zeros where `available` says hidden, and an `available` that says that all is there."""
    told = {key: x.clone() for key, x in observation.items()}
    for m, sensor in enumerate(SENSORS):
        told[sensor.key].numpy()[(observation["available"][:, m] == 0).numpy()] = 0
    return told | {"available": torch.ones_like(observation["available"])}


@pytest.mark.parametrize("fusion", FUSIONS)
def test_hidden_readings_are_zeros_that_are_taken_for_readings(fusion):
    extractor, observation = zero_filling(fusion), observe(20)
    features = extractor(spoil(observation))  # whatever a hidden array holds
    assert torch.equal(features, extractor(zeroed(observation)))
    assert not torch.allclose(features, extractor(observe(20, available=torch.ones(20, 4))))


def test_it_differs_from_tokens_only_in_that():
    torch.manual_seed(0)
    tokens, zeros = FusionExtractor(SPACE, SENSORS, token_dim=16), zero_filling()
    everything, some = observe(20, available=torch.ones(20, 4)), observe(20)
    assert torch.equal(tokens(everything), zeros(everything))
    assert not torch.allclose(tokens(some), zeros(some))
    assert torch.equal(zeros.fuse(some).available, some["available"] > 0)  # for the auxiliary losses


@pytest.mark.parametrize("masked_as", ["zeros", "flag"])
def test_a_policy_file_says_so(masked_as, tmp_path):
    torch.manual_seed(0)
    policy = FusionActorCriticPolicy(
        SPACE,
        gym.spaces.Box(np.float32([-1]), np.float32([1])),
        lambda _: 1e-3,
        features_extractor_kwargs={"sensors": SENSORS, "token_dim": 8, "masked_as": masked_as},
    )
    loaded = load(save(policy, tmp_path / "zeros.safetensors", {}, {}))
    assert loaded.network.features_extractor.masked_as == masked_as
    observation = observe(6, available=torch.tensor([[0, 1, 1, 0]]).expand(6, -1))
    action = loaded.act(observation)
    assert torch.equal(action, loaded.act(spoil(observation)))
    without = {key: x for key, x in observation.items() if key not in ("rgb", "depth")}
    assert torch.equal(action, loaded.act(without))


@pytest.mark.parametrize(("masked_as", "remask"), [("zeros", 0), ("flag", 1)])
def test_it_trains(masked_as, remask):
    options = dict(robot="gripper", sensors=("proprio", "force"), num_envs=4, n_steps=8, batch_size=16, teacher="none")
    config = Train("Reach").replace(
        **options, masked_as=masked_as, remask=remask, renderer="warp", device="cpu", threads=1
    )
    env = make_env(config)
    model = make_model(config, env)
    assert model.policy.features_extractor.masked_as == masked_as
    before = model.policy.features_extractor.mask_tokens.clone()
    model.learn(64)
    assert torch.equal(model.policy.features_extractor.mask_tokens, before)
    assert model.logger.name_to_value["train/first_ratio_error"] < 1e-5
    env.close()


def test_where_not_every_sensor_can_be_hidden():
    space = gym.spaces.Dict({**SPACE.spaces, "available": gym.spaces.MultiBinary(2)})
    extractor = FusionExtractor(space, SENSORS, masked_as="zeros", maskable=["rgb", "depth"])
    observation = observe(5, available=np.ones((5, 4))) | {"available": torch.tensor([[0, 1]]).expand(5, -1)}
    without = {**observation, "depth": torch.zeros_like(observation["depth"])}
    assert torch.equal(extractor(observation), extractor(without))


def flagged(fusion="concat", **options):
    torch.manual_seed(0)
    return FusionExtractor(SPACE, SENSORS, fusion=fusion, token_dim=16, masked_as="flag", **options)


@pytest.mark.parametrize("fusion", FUSIONS)
def test_zeros_with_a_flag(fusion):
    """A token per sensor as with zeros, and the fusion is told as with mask tokens."""
    extractor, observation = flagged(fusion), observe(20)
    fused = extractor.fuse(spoil(observation))
    assert torch.equal(fused.features, extractor(observation))
    as_zeros = zero_filling(fusion).fuse(observation)
    torch.testing.assert_close(fused.tokens, as_zeros.tokens)
    told = extractor.fusion(as_zeros.tokens, fused.available) + extractor.availability(fused.available.float())
    torch.testing.assert_close(fused.features, told)
    assert not torch.allclose(fused.features, as_zeros.features)


def test_zeros_with_a_flag_are_fused_again_and_learn_no_mask_token():
    extractor, observation = flagged(), observe(20, available=torch.ones(20, 4))
    fewer = torch.rand(20, 4, generator=torch.Generator().manual_seed(0)) < 0.5
    again = extractor.fuse_again(extractor.fuse(observation), fewer)
    torch.testing.assert_close(again.features, extractor(observation | {"available": fewer.to(torch.int8)}))
    again.features.sum().backward()
    assert extractor.mask_tokens.grad is None
    meta = flagged().to("meta")({key: x.to("meta") for key, x in observation.items()})
    assert meta.is_meta


def test_a_sensor_that_may_not_be_sent_is_zeros_with_a_flag():
    extractor, observation = flagged(), observe(5, available=torch.tensor([[0, 1, 1, 0]]).expand(5, -1))
    without = {key: x for key, x in observation.items() if key not in ("rgb", "depth")}
    assert torch.equal(extractor(without), extractor(observation))
    encoding = flagged(encode_masked=True)
    assert torch.equal(encoding(observation), extractor(observation))


def test_zeros_with_a_flag_under_sb3():
    """Its own policies make floats of bytes and put channels first; the stand-in is the same."""
    env = SensorDropout(Pictures(), 0.0)
    kwargs = {"features_extractor_class": FusionExtractor, "features_extractor_kwargs": {"masked_as": "flag"}}
    agent = PPO("MultiInputPolicy", env, n_steps=4, batch_size=4, policy_kwargs=kwargs, seed=0, device="cpu")
    observation, _ = env.reset(seed=0)
    observation["available"][:] = 0, 1
    dark = observation | {"image": np.zeros_like(observation["image"])}
    bright = observation | {"image": np.full_like(observation["image"], 255)}
    assert np.array_equal(agent.predict(dark, deterministic=True)[0], agent.predict(bright, deterministic=True)[0])
    extractor = agent.policy.features_extractor
    shown = {key: torch.as_tensor(x)[None] for key, x in dark.items()}
    shown["image"] = shown["image"].permute(0, 3, 1, 2).float() / 255.0
    torch.testing.assert_close(
        extractor.fuse(shown).tokens, extractor.fuse(shown | {"available": torch.ones(1, 2)}).tokens
    )


class Pictures(gym.Env):
    """A picture and two numbers."""

    observation_space = gym.spaces.Dict(
        image=gym.spaces.Box(0, 255, (24, 24, 3), np.uint8), state=gym.spaces.Box(-1, 1, (2,), np.float32)
    )
    action_space = gym.spaces.Box(-1, 1, (1,), np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return {"image": np.full((24, 24, 3), 100, np.uint8), "state": np.zeros(2, np.float32)}, {}


def test_no_other_way():
    with pytest.raises(ValueError, match="token, flag, zeros, estimate"):
        FusionExtractor(SPACE, SENSORS, masked_as="mean")
