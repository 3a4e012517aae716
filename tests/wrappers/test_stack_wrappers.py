"""Stacks of delivered readings around other people's environments."""

import math
import warnings

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from looks import Looks, OneLook
from stable_baselines3.common.env_checker import check_env as check_sb3
from stable_baselines3.common.vec_env import DummyVecEnv

from robofuse.dropout import Independent
from robofuse.envs import SB3VecEnv
from robofuse.sensors import FADES
from robofuse.wrappers import SensorDropout, SensorStack, VecSensorDropout, VecSensorStack


def test_wrappers_pass_the_checkers_of_gymnasium_and_sb3():
    env = SensorStack(SensorDropout(Looks(), 0.3, seed=0), 3)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*different from the unwrapped version")
        check_env(env, skip_render_check=True)
    check_sb3(env, warn=False)
    assert env.observation_space["image"].shape == (20, 20, 3) and env.observation_space["available"].n == 3
    venv = VecSensorStack(SB3VecEnv("Reach", 2, renderer="gl", image_size=32, dropout=Independent(0.5)), 2)
    for _ in range(3):
        observation, *_ = venv.step(np.zeros((2, 5), np.float32)) if _ else (venv.reset(),)
        assert all(venv.observation_space[key].contains(x[0]) for key, x in observation.items())
    venv.close()


def test_the_vec_wrapper_stacks_as_the_single_one_does():
    single = SensorStack(SensorDropout(Looks(), Independent(0.5), seed=7), 2)
    venv = VecSensorStack(VecSensorDropout(DummyVecEnv([Looks]), Independent(0.5), seed=7), 2)
    venv.seed(7)
    a, b = single.reset(seed=7)[0], venv.reset()
    for step in range(2 * Looks.steps):
        assert all(np.array_equal(a[key], b[key][0]) for key in a), step
        action = np.zeros(1, np.float32)
        a, _, _, over, _ = single.step(action)
        b, _, dones, infos = venv.step(action[None])
        assert over == dones[0]
        if over:
            assert all(np.array_equal(a[key], infos[0]["terminal_observation"][key]) for key in a)
            a = single.reset()[0]
            break
    venv.close()


@pytest.mark.parametrize(
    ("make", "sentence"),
    [
        (lambda: SensorStack(Looks(), 0), "frames must be"),
        (lambda: SensorStack(Looks(), 2, ["lidar"]), "lidar"),
        (lambda: SensorStack(gym.make("CartPole-v1")), "keys of a Dict"),
        (lambda: SensorStack(SensorStack(Looks())), "already"),
        (lambda: SensorStack(gym.wrappers.TransformObservation(
            Looks(), lambda x: x, gym.spaces.Dict(image=Looks.observation_space["image"], n=gym.spaces.Discrete(3)))),
         "only arrays"),
    ],
)  # fmt: skip
def test_what_cannot_be_stacked_is_named(make, sentence):
    with pytest.raises(ValueError, match=sentence):
        make()


def test_environments_that_do_not_keep_their_word():
    class Short(gym.ObservationWrapper):
        def observation(self, observation):
            return {"state": observation["state"]}

    for wrap in (SensorStack, lambda env: VecSensorStack(DummyVecEnv([lambda: env]))):
        with pytest.raises((ValueError, KeyError), match="image"):
            wrap(Short(Looks())).reset()


def test_sensors_that_are_not_stacked_pass_as_they_are():
    env = SensorStack(OneLook(Looks()), 2, ["image"])
    env.reset(seed=1)
    for _ in range(3):
        observation = env.step(np.zeros(1, np.float32))[0]
    assert observation["state"].shape == (2,) and observation["freshness"].shape == (2,)
    assert observation["available"].tolist() == [1, 1, 1]  # freshness, image, state
    np.testing.assert_allclose(observation["freshness"], [0.0, math.exp(-3 / FADES)], rtol=1e-6)
