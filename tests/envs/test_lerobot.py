"""Tasks as LeRobot's EnvHub calls them.

LeRobot itself cannot be installed beside this torch, so what it does is retold.
"""

import importlib.util
import re
import warnings
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from robofuse.demos.layout import describe
from robofuse.envs.lerobot import LeRobotEnv, make_env
from robofuse.errors import InputError

SMALL = {"robot": "gripper", "image_size": 16, "renderer": "warp"}


def preprocessed(observation):
    """The names that LeRobot gives, as its `preprocess_observation` does; arrays as they are."""
    found = {}
    for camera, picture in observation["pixels"].items():
        _, height, width, channels = picture.shape
        assert channels < height and channels < width and picture.dtype == np.uint8
        found[f"observation.images.{camera}"] = picture
    found["observation.state"] = observation["agent_pos"].astype(np.float32)
    for key, x in observation.items():
        if key not in ("pixels", "agent_pos"):
            assert isinstance(x, np.ndarray)
            found[f"observation.{key}"] = x.astype(np.float32)
    return found


def test_names_are_those_of_the_recordings():
    env = make_env(2, task="Grasp", **SMALL)
    observation, _ = env.reset(seed=[3, 4], options={"lerobot_new_rollout": True})
    names = preprocessed(observation)
    world = env.envs[0]._inner.world
    recorded = {feature.name for feature in describe(world.sensors, "xyz")}
    assert {*names} == recorded - {"action", "next.reward", "next.success"}
    assert names["observation.images.scene"].shape == (2, 16, 16, 3)
    assert names["observation.images.scene_depth"].max() > 100  # millimetres
    env.close()


def test_it_is_an_environment():
    env = LeRobotEnv("Reach", robot="gripper", sensors=("proprio", "force"))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*Box observation space (min|max)imum value is.*")  # forces have no bound
        check_env(env, skip_render_check=True)
    assert env._max_episode_steps > 10 and env.task == "Reach" and len(env.task_description) > 10
    env.close()


def test_a_rollout_as_lerobot_does_it():
    """Seeds for each, until all have been done once; success from `is_success`."""
    env = make_env(3, task="Reach", robot="gripper", sensors=("proprio",))
    done, steps, successes = np.zeros(3, bool), 0, []
    assert list(env.call("task_description"))[0] == list(env.call("task_description"))[2]
    longest = env.call("_max_episode_steps")[0]
    one, _ = env.reset(seed=[7, 8, 9], options={"lerobot_new_rollout": True})
    assert not np.array_equal(one["agent_pos"][0], one["agent_pos"][1])
    while not done.all():
        _, _, terminated, truncated, info = env.step(env.action_space.sample())
        assert "final_info" not in info
        successes.append(info["is_success"].tolist())
        done, steps = done | terminated | truncated, steps + 1
    assert steps <= longest and isinstance(successes[0][0], bool)
    again, _ = env.reset(seed=[7, 8, 9])
    assert np.array_equal(one["agent_pos"], again["agent_pos"])
    env.close()


@pytest.mark.slow  # processes
def test_each_in_a_process_of_its_own():
    env = make_env(2, True, task="Reach", robot="gripper", sensors=("proprio",))
    plain = make_env(2, task="Reach", robot="gripper", sensors=("proprio",))
    seen = [one.reset(seed=[1, 2])[0]["agent_pos"] for one in (env, plain)]
    np.testing.assert_array_equal(*seen)
    env.close(), plain.close()


def test_the_file_of_the_documentation_is_one_that_lerobot_can_load(tmp_path):
    page = (Path(__file__).parents[2] / "docs/hub.md").read_text()
    (code,) = [code for code in re.findall(r"```python\n(.*?)```", page, re.S) if "make_env" in code]
    (tmp_path / "env.py").write_text(code)
    spec = importlib.util.spec_from_file_location("hub_env", tmp_path / "env.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    env = module.make_env(n_envs=2, use_async_envs=False)
    assert isinstance(env, gym.vector.VectorEnv) and env.num_envs == 2
    assert "pixels" in env.single_observation_space.spaces
    env.close()


def test_what_does_not_fit_is_refused():
    with pytest.raises(InputError, match="n_envs"):
        make_env(0)
    with pytest.raises(InputError, match="Juggle"):
        make_env(task="Juggle")

    class Config:
        task = "Reach"

    env = make_env(1, False, Config, robot="gripper", sensors=("proprio",))
    assert env.call("task") == ("Reach",)
    env.close()
