"""LeRobot's EnvHub and its evaluation, whose part is played here as LeRobot 0.6.1 does; it is not installed."""

import importlib.util
import re
from pathlib import Path
from types import SimpleNamespace

import gymnasium as gym
import numpy as np
import pytest
import torch

from robofuse.demos.layout import describe
from robofuse.envs import World
from robofuse.envs.lerobot import SEED, make_env
from robofuse.evaluate.run import SEED as EVALUATED

PAGE = Path(__file__).parents[2] / "docs" / "hub.md"
QUICK = {"task": "Reach", "robot": "gripper"}
BLIND = {**QUICK, "sensors": ("proprio", "force"), "privileged": True}
SEEING = {**QUICK, "image_size": 16, "cameras": ("scene", "wrist"), "privileged": True}
ROLLOUT = {"lerobot_new_rollout": True}  # as LeRobot marks each of its rollouts


def loaded(folder, **arguments):
    """What LeRobot makes of an `env.py`: suite → number of the task → vector environment."""
    spec = importlib.util.spec_from_file_location("hub_env_USER_NAME", folder / "env.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found = module.make_env(**arguments)
    if isinstance(found, gym.vector.VectorEnv):
        found = {found.spec.id if found.spec else "hub_env": {0: found}}
    return found


def seen(observation):
    """What a policy of LeRobot gets of an observation: float32 by LeRobot's names, colours (N, 3, H, W) in [0, 1]."""
    found = {}
    for camera, colours in observation.get("pixels", {}).items():
        _, height, width, channels = colours.shape
        assert colours.dtype == np.uint8 and channels < min(height, width)
        found[f"observation.images.{camera}"] = torch.from_numpy(colours).permute(0, 3, 1, 2).float() / 255.0
    names = {"agent_pos": "state"}
    for key, value in observation.items():
        if key != "pixels":
            found[f"observation.{names.get(key, key)}"] = torch.from_numpy(value).float()
    return found


def successes_of(infos, num_envs):
    """How LeRobot reads success: of the worlds that ended, if any did, else of all."""
    told = infos.get("final_info", infos).get("is_success", [False] * num_envs)
    return told.tolist() if hasattr(told, "tolist") else [bool(told)] * num_envs


def equal(a, b):
    return a.keys() == b.keys() and all(torch.equal(seen(a)[key], seen(b)[key]) for key in seen(a))


def test_observations_have_lerobots_layout():
    env = make_env(2, **SEEING)
    assert isinstance(env, gym.vector.VectorEnv) and env.spec.id == "robofuse/Reach-v0"
    observation, _ = env.reset(seed=[3, 4])
    for now in (observation, env.step(env.action_space.sample())[0]):
        assert env.observation_space.contains(now)
        assert env.single_observation_space.contains(
            {key: {k: x[1] for k, x in v.items()} if key == "pixels" else v[1] for key, v in now.items()}
        )
    world = World("Reach", 2, **{key: value for key, value in SEEING.items() if key != "task"}, seed=SEED)
    truth = {key: value.numpy() for key, value in world.reset(episode=3).items()}
    assert np.array_equal(observation["pixels"]["wrist"], truth["rgb_wrist"])
    assert observation["images.wrist_depth"].dtype == np.uint16
    assert np.array_equal(observation["images.wrist_depth"][:, 0], truth["depth_wrist"][..., 0])
    assert observation["agent_pos"].dtype == np.float32 and np.array_equal(observation["agent_pos"], truth["proprio"])
    assert np.array_equal(observation["environment_state"], truth["privileged"])
    # recordings have the same names, and pictures with the channel first once LeRobot has read them
    recorded = {one.name: one.shape for one in describe(world.sensors, "xyzab", world.privileged_names)}
    shown = {name: tuple(value.shape[1:]) for name, value in seen(observation).items()}
    for name, shape in recorded.items():
        if name.startswith("observation."):
            assert shown.pop(name) == ((shape[-1], *shape[:-1]) if "images" in name else shape), name
    assert not shown
    env.close()
    world.close()


def test_a_seed_is_the_number_of_an_episode():
    assert SEED == EVALUATED
    env, again = make_env(2, **BLIND), make_env(2, **BLIND)
    first, info = env.reset(seed=[7, 3], options=ROLLOUT)
    assert info["episode_number"].tolist() == [7, 3]
    action = np.full((2, 5), 0.3, np.float32)
    after = env.step(action)[0]
    again.reset(seed=0)
    assert equal(again.reset(seed=[7, 3])[0], first) and equal(again.step(action)[0], after)
    assert env.reset(seed=9)[1]["episode_number"].tolist() == [9, 10]
    assert env.reset()[1]["episode_number"].tolist() == [11, 12]
    for wrong in ([1], [1, -1], -1, [0.5, 1]):
        with pytest.raises(ValueError, match=r"seed|episode"):
            env.reset(seed=wrong)
    fresh = [make_env(1, **BLIND) for _ in range(2)]
    assert not equal(*(one.reset()[0] for one in fresh))
    for one in (env, again, *fresh):
        one.close()


def test_a_rollout_of_lerobot(tmp_path):
    """Its loop until every world has ended once: success by the script, a reset in the same step."""
    env = make_env(3, use_async_envs=True, **BLIND)
    observation, _ = env.reset(seed=[0, 1, 2], options=ROLLOUT)
    done, success, ends = np.zeros(3, bool), np.zeros(3, bool), 0
    steps = env.call("_max_episode_steps")[0]
    assert env.call("task_description") == env.call("task") == ("Reach",) * 3
    for _ in range(steps):
        observation, reward, terminated, truncated, infos = env.step(env.world.expert().numpy())
        assert reward.shape == (3,) and env.observation_space.contains(observation)
        success |= np.array(successes_of(infos, 3)) & ~done
        for index in np.flatnonzero(terminated | truncated):
            ends += 1
            last = infos["final_obs"][index]
            assert env.single_observation_space.contains(last)
            assert not np.array_equal(last["environment_state"], observation["environment_state"][index])
            assert infos["final_info"]["is_success"][index] == terminated[index]
        done |= terminated | truncated
        if done.all():
            break
    assert done.all() and success.all() and ends >= 3
    frames = env.call("render")
    assert len(frames) == 3 and frames[0].shape == (480, 640, 3) and frames[0].dtype == np.uint8
    env.close()


def test_options_configurations_and_faults():
    env = make_env(1, False, SimpleNamespace(task="Reach"), robot="gripper", sensors=("proprio", "force"),
                   instruction="touch the ball", faults="force:blackout!")  # fmt: skip
    observation, _ = env.reset(seed=[0])
    assert env.call("task_description") == ("touch the ball",) and env.get_attr("task") == ("Reach",)
    assert observation["available"].tolist() == [[0, 1]] and not observation["force"].any()
    assert "pixels" not in observation and "environment_state" not in observation
    with pytest.raises(AttributeError, match="envs"):
        env.get_attr("envs")
    env.close()
    with pytest.raises(ValueError, match="unknown task 'Juggle'"):
        make_env(task="Juggle")
    with pytest.raises(ValueError, match="n_envs"):
        make_env(0)


def test_the_snippet_of_the_page_is_an_env_py(tmp_path):
    (code,) = re.findall(r"```python\n(# env\.py\n.*?)```", PAGE.read_text(), flags=re.DOTALL)
    (tmp_path / "env.py").write_text(code)
    ((suite, tasks),) = loaded(tmp_path, n_envs=2, use_async_envs=False).items()
    assert suite == "robofuse/Grasp-v0" and list(tasks) == [0] and tasks[0].num_envs == 2
    env = tasks[0]
    observation, _ = env.reset(seed=[1000, 1001], options=ROLLOUT)
    assert {"observation.images.scene", "observation.images.wrist", "observation.state"} <= seen(observation).keys()
    env.step(env.action_space.sample())
    assert env.unwrapped.metadata["render_fps"] == 20
    env.close()
