import gymnasium as gym
import gymnasium_robotics
import numpy as np
import pytest

from robofuse.wrappers import mend_gymnasium_robotics


def test_fetch_resets_and_steps_after_mending():
    gym.register_envs(gymnasium_robotics)
    mend_gymnasium_robotics()
    mend_gymnasium_robotics()
    env = gym.make("FetchPickAndPlace-v4")
    one, two = (env.reset(seed=3)[0]["observation"] for _ in range(2))
    assert np.array_equal(one, two) and not np.array_equal(one, env.reset(seed=4)[0]["observation"])
    assert not np.array_equal(env.step(env.action_space.high)[0]["observation"], one)
    env.close()


def test_it_says_what_is_missing(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "gymnasium_robotics.utils", None)
    with pytest.raises(RuntimeError, match=r"robofuse\[contrib\]"):
        mend_gymnasium_robotics()
