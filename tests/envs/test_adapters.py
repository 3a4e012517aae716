"""Gymnasium and Stable-Baselines3 see the same World, and their own checkers are content with it."""

import warnings

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env
from stable_baselines3 import PPO
from stable_baselines3.common.env_checker import check_env as sb3_check_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import VecNormalize

import robofuse  # noqa: F401  # registers the ids
from robofuse.envs import SB3VecEnv, World
from robofuse.registration import TASKS

IDS = sorted(TASKS)
TINY = {"image_size": 16}


@pytest.fixture(params=["warp", "gl"])
def renderer(request, needs_gl):
    if request.param == "gl":
        needs_gl()
    return request.param


@pytest.mark.parametrize("id", IDS)
def test_gymnasiums_checker(id, renderer):
    env = gym.make(id, renderer=renderer, render_mode="rgb_array", image_size=16)
    with warnings.catch_warnings():
        # vectors of joint angles and forces have no bounds worth naming
        warnings.filterwarnings("ignore", message=".*Box observation space (min|max)imum value is.*infinity.*")
        check_env(env.unwrapped, skip_render_check=True)  # it would open a window; pictures are tested below
    env.close()


@pytest.mark.parametrize("id", IDS)
def test_sb3s_checker(id, renderer):
    env = gym.make(id, renderer=renderer, image_size=36)
    with warnings.catch_warnings():
        # SB3's own extractor flattens uint16 depth and windows, and says so; robofuse brings one that does not
        warnings.filterwarnings("ignore", message=".*your observation depth is an image but its `dtype` is .uint16.*")
        warnings.filterwarnings("ignore", message=".*observation space depth is an image but the upper and lower.*")
        warnings.filterwarnings("ignore", message=".*Your observation force has an unconventional shape.*")
        sb3_check_env(env.unwrapped)
    env.close()


def _row(observation, index):
    return {key: value[index] for key, value in observation.items()}


def _equal(a, b):
    return a.keys() == b.keys() and all(np.array_equal(a[key], b[key]) for key in a)


@pytest.mark.parametrize("id", [IDS[0], *(pytest.param(id, marks=pytest.mark.slow) for id in IDS[1:])])
def test_single_vector_and_sb3_agree_to_the_bit(id):
    """Three doors to the same worlds: episodes 0, 1, 2 of seed 9, the same actions, through their ends and beyond."""
    singles = [gym.make(id, image_size=16) for _ in range(3)]
    vector, sb3 = gym.make_vec(id, num_envs=3, image_size=16), SB3VecEnv(id, 3, image_size=16, seed=9)
    a = [env.reset(seed=9, options={"episode": k})[0] for k, env in enumerate(singles)]
    b, info = vector.reset(seed=9)
    c = sb3.reset()
    assert info["episode_number"].tolist() == [0, 1, 2]
    assert [info["episode_number"] for info in sb3.reset_infos] == [0, 1, 2]
    actions = np.random.default_rng(0)
    ended = 0
    for _ in range(101):
        for k in range(3):
            assert _equal(a[k], _row(b, k)) and _equal(a[k], _row(c, k))
        action = actions.uniform(-1, 1, (3, 5)).astype(np.float32)
        b, rewards, terminated, truncated, infos = vector.step(action)
        c, sb3_rewards, dones, sb3_infos = sb3.step(action)
        assert np.array_equal(rewards, sb3_rewards) and np.array_equal(terminated | truncated, dones)
        for k, env in enumerate(singles):
            a[k], reward, over, late, info = env.step(action[k])
            assert reward == rewards[k] and over == terminated[k] and late == truncated[k]
            assert info["is_success"] == infos["is_success"][k] == sb3_infos[k]["is_success"]
            for name, value in info["reward_terms"].items():
                assert value == infos["reward_terms"][name][k] == sb3_infos[k]["reward_terms"][name]
            if over or late:
                ended += 1
                assert _equal(a[k], infos["final_obs"][k]) and infos["_final_obs"][k]
                assert _equal(a[k], sb3_infos[k]["terminal_observation"])
                assert sb3_infos[k]["TimeLimit.truncated"] == (late and not over)
                assert sb3_infos[k]["episode"]["l"] == env.unwrapped.world.elapsed[0]
                assert info["episode_number"] == infos["episode_number"][k] == sb3_infos[k]["episode_number"]
                assert infos["final_info"]["is_success"][k] == over
                number = int(vector.unwrapped.world.episode[k])
                a[k], info = env.reset(options={"episode": number})
                assert info["episode_number"] == number
    assert ended >= 3
    for env in (*singles, vector, sb3):
        env.close()
        env.close()


def test_an_unseeded_env_differs_from_run_to_run_and_a_seeded_one_does_not():
    def first(**options):
        env = gym.make("robofuse/Reach-v0", sensors=("proprio",), privileged=True, **options)
        start = env.reset()[0]["privileged"]
        env.close()
        return start

    assert not np.array_equal(first(), first())
    assert np.array_equal(first(seed=3), first(seed=3))


@pytest.mark.slow
def test_pictures_for_people(renderer):
    env = gym.make("robofuse/Grasp-v0", renderer=renderer, render_mode="rgb_array", image_size=16)
    env.reset(seed=0)
    picture = env.render()
    assert picture.shape == (480, 640, 3) and picture.dtype == np.uint8 and picture.std() > 20
    for _ in range(3):
        env.step(np.array([1, 1, -1, 0, 1], np.float32))
    assert (env.render() != picture).mean() > 0.02
    env.close()
    vector = gym.make_vec("robofuse/Reach-v0", num_envs=2, renderer=renderer, render_mode="rgb_array", image_size=16)
    vector.reset(seed=0)
    a, b = vector.render()
    assert a.shape == (480, 640, 3) and not np.array_equal(a, b)
    vector.close()
    sb3 = SB3VecEnv("Reach", 2, renderer=renderer, render_mode="rgb_array", **TINY)
    sb3.reset()
    assert sb3.render().shape == (960, 640, 3)
    sb3.close()


def test_a_window_needs_a_display(monkeypatch):
    monkeypatch.delenv("DISPLAY", raising=False)
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    env = gym.make("robofuse/Reach-v0", render_mode="human", sensors=("proprio",))
    with pytest.raises(RuntimeError, match='render_mode="human" needs a display'):
        env.reset()
    env.close()
    with pytest.raises(ValueError, match="for a window, make a single one"):
        gym.make_vec("robofuse/Reach-v0", num_envs=2, render_mode="human", sensors=("proprio",))


def test_bad_calls_say_what_is_wrong():
    env = gym.make("robofuse/Reach-v0", sensors=("proprio",)).unwrapped
    with pytest.raises(ValueError, match="seed .*'x'.* str"):
        env.reset(seed="x")
    env.reset(seed=0)
    with pytest.raises(ValueError, match=r"action .*\(5,\).*\(4,\)"):
        env.step(np.zeros(4))
    with pytest.raises(ValueError, match="world 0.* nan .*index 0"):
        env.step(np.array([np.nan, 0, 0, 0, 0]))
    for _ in range(60):
        env.step(np.zeros(5))
    with pytest.raises(RuntimeError, match="the episode has ended; call reset"):
        env.step(np.zeros(5))
    env.close()
    with pytest.raises(RuntimeError, match="this World is closed"):
        env.reset()
    with pytest.raises(ValueError, match="render_mode 'ansi'.*rgb_array, human"):
        SB3VecEnv("Reach", 1, render_mode="ansi", sensors=("proprio",))
    sb3 = SB3VecEnv("Reach", 1, sensors=("proprio",))
    with pytest.raises(NotImplementedError, match="share one World"):
        sb3.set_attr("seed", 1)
    with pytest.raises(AttributeError):
        sb3.get_attr("no_such_thing")
    with pytest.raises(NotImplementedError, match="'reset' per world.*picture"):
        sb3.env_method("reset")
    with pytest.raises(ValueError, match="single environment"):
        SB3VecEnv("Reach", 1, render_mode="human", sensors=("proprio",))
    with pytest.raises(TypeError, match="auto_reset"):
        SB3VecEnv("Reach", 1, auto_reset=False, sensors=("proprio",))
    fresh = gym.make("robofuse/Reach-v0", sensors=("proprio",))
    with pytest.raises(ValueError, match="option 'episod'.* episode"):
        fresh.reset(options={"episod": 3})
    with pytest.raises(ValueError, match="episode must be an integer from 0"):
        fresh.reset(options={"episode": -1})


def test_a_diverged_world_says_so_in_every_info():
    vector = gym.make_vec("robofuse/Grasp-v0", num_envs=2, sensors=("proprio",))
    sb3, single = SB3VecEnv("Grasp", 2, sensors=("proprio",)), gym.make("robofuse/Grasp-v0", sensors=("proprio",))
    vector.reset(seed=0), sb3.reset(), single.reset(seed=0)
    for world in (vector.unwrapped.world, sb3.world, single.unwrapped.world):
        world.backend.field("qvel")[-1, world.task._dof] = np.nan
    action = np.zeros((2, 5), np.float32)
    *_, truncated, infos = vector.step(action)
    assert truncated.tolist() == [False, True] and "BADQVEL" in infos["sim_error"][1]
    _, _, dones, infos = sb3.step(action)
    assert dones.tolist() == [False, True] and "BADQVEL" in infos[1]["sim_error"] and "sim_error" not in infos[0]
    assert infos[1]["TimeLimit.truncated"]
    *_, truncated, info = single.step(action[0])
    assert truncated and "BADQVEL" in info["sim_error"]
    assert not single.reset()[1].get("sim_error")


@pytest.mark.slow
def test_ppo_trains_on_it_and_sees_its_episodes():
    """Plain SB3, nothing of ours but the env: buffers, normalisation, evaluation and the success log work."""
    env = VecNormalize(SB3VecEnv("Reach", 8, sensors=("proprio", "force"), privileged=True), norm_obs=False)
    agent = PPO("MultiInputPolicy", env, n_steps=64, batch_size=128, n_epochs=1, seed=0, device="cpu")
    agent.learn(1024)
    assert len(agent.ep_info_buffer) >= 8 and len(agent.ep_success_buffer) >= 8
    assert all(1 <= episode["l"] <= 60 for episode in agent.ep_info_buffer)
    mean, _ = evaluate_policy(agent, env, n_eval_episodes=8)
    assert np.isfinite(mean)
    env.close()


def test_sb3_seed_and_options_are_taken_at_the_next_reset():
    env = SB3VecEnv("Reach", 2, sensors=("proprio",), privileged=True)
    env.seed(5)
    env.set_options({"episode": 7})
    world = World("Reach", 2, seed=5, sensors=("proprio",), privileged=True)
    assert np.array_equal(env.reset()["privileged"], world.reset(episode=7)["privileged"].numpy())
    assert env.get_attr("num_envs") == [2, 2] and env.env_is_wrapped(gym.wrappers.TimeLimit) == [False, False]
    assert env.env_method("picture", indices=[1])[0].shape == (480, 640, 3)
    env.close()
