import gymnasium as gym
import pytest
from stable_baselines3 import PPO
from stable_baselines3.common.policies import MultiInputActorCriticPolicy
from toys import Line

from robofuse.policies import FusionActorCriticPolicy, FusionPPO

TINY = {"n_steps": 8, "batch_size": 8, "n_epochs": 1, "device": "cpu"}


@pytest.mark.parametrize("policy", ["MultiInputPolicy", "FusionPolicy", FusionActorCriticPolicy])
def test_the_arguments_of_sb3_are_taken(policy):
    model = FusionPPO(policy, Line(), **TINY)
    assert type(model.policy) is FusionActorCriticPolicy
    model.learn(8)


@pytest.mark.parametrize("policy", ["MlpPolicy", "CnnPolicy", MultiInputActorCriticPolicy])
def test_other_policies_are_refused_with_the_way_to_have_them(policy):
    with pytest.raises(ValueError, match="FusionPolicy or MultiInputPolicy.*features_extractor_class"):
        FusionPPO(policy, Line(), **TINY)
    PPO("MultiInputPolicy", Line(), **TINY)


def test_observations_must_be_a_dict():
    with pytest.raises(ValueError, match="Dict"):
        FusionPPO("MultiInputPolicy", gym.make("CartPole-v1"), **TINY)
