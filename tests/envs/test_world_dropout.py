"""Sensor dropout in worlds, and in Gymnasium's and SB3's views of them."""

import warnings

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env
from helpers import BLIND, rest, same
from masks import EVERY, law_and_pace, masks_of
from stable_baselines3.common.vec_env import VecExtractDictObs

from robofuse.dropout import Dropout, Independent, Linear, Markov, mask_sensors
from robofuse.envs import SB3VecEnv, World
from robofuse.envs.tasks import Reach
from robofuse.wrappers import tell_progress

WORLD_PLANS = [Dropout(Independent(0.5), every, outage_steps=3) for every in EVERY] + [Dropout(Markov(0.3, 0.3))]


class Short(Reach):
    """Episodes of eight steps."""

    horizon = 0.4


OPTIONS = {"robot": "gripper", "sensors": BLIND, "image_size": 16, "privileged": True, "seed": 4}


def mask_of(plan, episode, steps=8, keys=("force", "proprio")):
    return masks_of(plan, [episode], steps, seed=4, keys=keys)[:, 0]


@pytest.mark.parametrize("plan", WORLD_PLANS, ids=law_and_pace)
def test_worlds_hide_sensors_and_nothing_else_changes(plan):
    seeing = {"sensors": (*BLIND, "depth", "rgb")} if plan.every == "step" else {}  # pictures take longer
    plain = World(Short(), 3, **OPTIONS | seeing)
    world = World(Short(), 3, dropout=plan, **OPTIONS | seeing)
    keys = tuple(sensor.key for sensor in world.sensors)
    a, b, hidden = plain.reset(), world.reset(), 0
    actions = torch.Generator().manual_seed(0)
    for _ in range(18):
        for row in range(3):
            mask = mask_of(plan, int(world.episode[row]), keys=keys)[int(world.elapsed[row])]
            assert torch.equal(b["available"][row], mask)
        expected = mask_sensors(a, b["available"], keys)
        assert same(b, expected)
        hidden += int((b["available"] == 0).sum())
        action = torch.rand(3, 5, generator=actions) * 2 - 1
        episode = world.episode.clone()
        x, y = plain.step(action), world.step(action)
        assert torch.equal(x.reward, y.reward) and torch.equal(x.ended, y.ended)
        if y.ended.any():
            for index in y.ended.nonzero()[:, 0].tolist():
                mask = mask_of(plan, int(episode[index]), keys=keys)[8]
                assert torch.equal(y.final_observation["available"][index], mask)
            assert same(y.final_observation, mask_sensors(x.final_observation, y.final_observation["available"], keys))
        a, b = x.observation, y.observation
    assert hidden
    plain.close()
    world.close()


@pytest.mark.parametrize("plan", WORLD_PLANS, ids=law_and_pace)
def test_gymnasium_and_sb3_see_the_masks_of_the_world(plan):
    single = gym.make("robofuse/Reach-v0", **{**OPTIONS, "task": Short(), "dropout": plan})
    vector = gym.make_vec("robofuse/Reach-v0", 2, **{**OPTIONS, "task": Short(), "dropout": plan})
    sb3 = SB3VecEnv(Short(), 2, dropout=plan, **OPTIONS)
    a, b, c = single.reset()[0], vector.reset()[0], sb3.reset()
    for step in range(1, 9):
        action = np.zeros((2, 5), np.float32)
        a, _, _, over, _ = single.step(action[0])
        b, _, _, _, info = vector.step(action)
        c, _, _, infos = sb3.step(action)
        if step < 8:
            for observation in (a, b["available"][0], c["available"][0]):
                mask = observation["available"] if isinstance(observation, dict) else observation
                assert np.array_equal(mask, mask_of(plan, 0)[step])
    assert over and np.array_equal(a["available"], mask_of(plan, 0)[8])
    for row in range(2):
        assert np.array_equal(info["final_obs"][row]["available"], mask_of(plan, row)[8])
        assert np.array_equal(infos[row]["terminal_observation"]["available"], mask_of(plan, row)[8])
        assert np.array_equal(b["available"][row], mask_of(plan, row + 2)[0])
        assert np.array_equal(c["available"][row], mask_of(plan, row + 2)[0])
    for env in (single, vector, sb3):
        env.close()


def test_restart_plays_the_masks_of_the_episode():
    plan = WORLD_PLANS[2]
    world = World(Short(), 2, dropout=plan, **OPTIONS)
    world.reset()
    world.step(rest(world))
    assert torch.equal(world.restart([1], [9])["available"][0], mask_of(plan, 9)[0])
    observation = world.step(rest(world)).observation["available"]
    assert torch.equal(observation, torch.stack([mask_of(plan, 0)[2], mask_of(plan, 9)[1]]))
    world.close()


def test_progress_reaches_worlds():
    options = {**OPTIONS, "dropout": Dropout(schedule=Linear())}
    single, vector = gym.make("robofuse/Reach-v0", **options), gym.make_vec("robofuse/Reach-v0", 2, **options)
    sb3 = SB3VecEnv("Reach", 2, **options)
    single.get_wrapper_attr("set_progress")(0.25)
    vector.unwrapped.set_progress(0.25)
    sb3.set_attr("dropout_progress", 0.25)
    for env in (single.unwrapped, vector.unwrapped, sb3):
        assert env.world.dropout_progress == 0.25
    assert sb3.get_attr("dropout_progress") == [0.25, 0.25]
    assert tell_progress(VecExtractDictObs(sb3, "force"), 0.5) and sb3.world.dropout_progress == 0.5
    with pytest.raises(NotImplementedError, match="dropout_progress"):
        sb3.set_attr("task", None)
    for env in (single, vector, sb3):
        env.close()


def test_gymnasiums_checker_with_dropout():
    env = gym.make("robofuse/Reach-v0", **{**OPTIONS, "dropout": 0.5})
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*Box observation space (min|max)imum value is.*infinity.*")
        check_env(env.unwrapped, skip_render_check=True)
    env.close()


@pytest.mark.parametrize(("dropout", "message"), [("a", "probability"), ({"rgb": 1}, "probability"), (1.0, "every")])
def test_worlds_refuse(dropout, message):
    with pytest.raises(ValueError, match=message):
        World("Reach", robot="gripper", sensors=BLIND, dropout=dropout)
