"""The baseline that most people write: a hidden sensor reads zero, and nothing tells."""

import gymnasium as gym
import numpy as np
import pytest
import torch
from sensing import SENSORS, SPACE, observe, spoil

from robofuse.policies import FUSIONS, FusionActorCriticPolicy, FusionExtractor, load
from robofuse.policies.saving import save
from robofuse.train import Train
from robofuse.train.build import make_env, make_model


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


def test_a_policy_file_says_so(tmp_path):
    torch.manual_seed(0)
    policy = FusionActorCriticPolicy(
        SPACE,
        gym.spaces.Box(np.float32([-1]), np.float32([1])),
        lambda _: 1e-3,
        features_extractor_kwargs={"sensors": SENSORS, "token_dim": 8, "masked_as": "zeros"},
    )
    loaded = load(save(policy, tmp_path / "zeros.safetensors", {}, {}))
    assert loaded.network.features_extractor.masked_as == "zeros"
    observation = observe(6, available=torch.tensor([[0, 1, 1, 0]]).expand(6, -1))
    action = loaded.act(observation)
    assert torch.equal(action, loaded.act(spoil(observation)))
    without = {key: x for key, x in observation.items() if key not in ("rgb", "depth")}
    assert torch.equal(action, loaded.act(without))


def test_it_trains():
    options = dict(robot="gripper", sensors=("proprio", "force"), num_envs=4, n_steps=8, batch_size=16, teacher="none")
    config = Train("Reach").replace(**options, masked_as="zeros", remask=0, renderer="warp", device="cpu", threads=1)
    env = make_env(config)
    model = make_model(config, env)
    assert model.policy.features_extractor.masked_as == "zeros"
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


def test_no_third_way():
    with pytest.raises(ValueError, match="token, zeros"):
        FusionExtractor(SPACE, SENSORS, masked_as="mean")
