"""Cameras draw at one size, the policy reads another: the average of the pixels."""

import cv2
import gymnasium as gym
import numpy as np
import pytest
import torch
from helpers import rest, same

from robofuse.envs import Camera, SB3VecEnv, World
from robofuse.envs.cameras import area_average
from robofuse.errors import InputError

SMALL = {"robot": "gripper", "image_size": 16, "seed": 3, "num_threads": 1}


def averaged(depth, factor):
    """Depth (H, W, 1) averaged in plain Python."""
    height, width = depth.shape[0] // factor, depth.shape[1] // factor
    out = np.zeros((height, width, 1), np.uint16)
    for y in range(height):
        for x in range(width):
            block = depth[y * factor : (y + 1) * factor, x * factor : (x + 1) * factor].ravel().tolist()
            returns = [value for value in block if value]
            if returns and 2 * len(returns) >= len(block):
                out[y, x] = round(sum(returns) / len(returns))
    return out


def played(num_envs, episode, steps=3, **options):
    """The observations of a few steps, and the world, closed."""
    world = World("Grasp", num_envs, **{**SMALL, **options})
    seen = [world.reset(episode=episode)]
    seen += [world.step(rest(world, -1.0)).observation for _ in range(steps)]
    world.close()
    return seen, world


@pytest.fixture(params=["cpu", "elsewhere"])
def averages(request, monkeypatch):
    """`area_average` of arrays, by either of its ways."""
    if request.param == "elsewhere":
        monkeypatch.setattr("robofuse.envs.cameras.on_cpu", lambda x: False)
    return lambda pictures, factor: area_average(torch.from_numpy(pictures), factor).numpy()


@pytest.mark.parametrize("factor", [1, 2, 3, 4, 6, 16])
def test_colours_are_as_of_opencv_and_depth_by_hand(factor, averages):
    random = np.random.default_rng(factor)
    rgb = random.integers(0, 256, (3, 4 * factor, 6 * factor, 3), np.uint8)
    depth = random.integers(1, 65536, (3, 4 * factor, 6 * factor, 1)).astype(np.uint16)
    depth[random.random(depth.shape) < 0.5] = 0
    for one, small in zip(rgb, averages(rgb, factor), strict=True):
        assert np.array_equal(small, cv2.resize(one, (6, 4), interpolation=cv2.INTER_AREA))
    for one, small in zip(depth, averages(depth, factor), strict=True):
        assert np.array_equal(small, averaged(one, factor))


def test_no_return_is_not_averaged_with_returns(averages):
    depth = np.array([[1000, 0, 1000, 0], [0, 1003, 0, 0], [0, 0, 5, 6], [0, 0, 7, 8]], np.uint16)
    assert averages(depth[None, ..., None], 2)[0, ..., 0].tolist() == [[1002, 0], [0, 6]]


def test_there_is_no_limit_on_how_many_pictures_are_averaged(averages):
    rgb = np.arange(1024, dtype=np.uint16).astype(np.uint8)[:, None, None, None] * np.ones((1, 64, 64, 3), np.uint8)
    assert np.array_equal(averages(rgb, 2), rgb[:, :32, :32])


@pytest.mark.parametrize("noise", [True, False])
@pytest.mark.parametrize("renderer", ["warp", "gl"])
def test_what_is_read_is_the_average_of_what_is_drawn(renderer, noise, needs_gl):
    if renderer == "gl":
        needs_gl()
    large, _ = played(1, 0, image_size=64, renderer=renderer, noise=noise)
    small, world = played(1, 0, render_size=64, renderer=renderer, noise=noise)
    shapes = {sensor.key: sensor.shape for sensor in world.sensors}
    assert (shapes["rgb"], shapes["depth"]) == ((16, 16, 3), (16, 16, 1))
    assert world.observation_space["rgb"].shape == (16, 16, 3)
    assert world.cameras[0].size == (16, 16)
    for whole, part in zip(large, small, strict=True):
        rgb = cv2.resize(whole["rgb"][0].numpy(), (16, 16), interpolation=cv2.INTER_AREA)
        assert np.array_equal(part["rgb"][0].numpy(), rgb) and part["rgb"].dtype == torch.uint8
        assert np.array_equal(part["depth"][0].numpy(), averaged(whole["depth"][0].numpy(), 4))
        assert all(torch.equal(part[key], whole[key]) for key in ("proprio", "force", "available"))


def test_the_same_size_changes_nothing():
    assert all(same(a, b) for a, b in zip(played(2, 0)[0], played(2, 0, render_size=16)[0], strict=True))


def test_pictures_do_not_depend_on_how_many_worlds_there_are_or_on_threads():
    options = {"render_size": 48, "faults": "rgb:noise@1+depth:holes@1", "cameras": ("scene", "wrist")}
    whole, _ = played(5, 0, num_threads=2, **options)
    for episode in (0, 3):
        alone, _ = played(1, episode, **options)
        for many, one in zip(whole, alone, strict=True):
            assert all(torch.equal(many[key][episode : episode + 1], one[key]) for key in one)


def test_faults_break_what_is_drawn():
    large, _ = played(1, 0, image_size=64, faults="rgb:noise+depth:holes")
    small, _ = played(1, 0, render_size=64, faults="rgb:noise+depth:holes")
    for whole, part in zip(large, small, strict=True):
        rgb = cv2.resize(whole["rgb"][0].numpy(), (16, 16), interpolation=cv2.INTER_AREA)
        assert np.array_equal(part["rgb"][0].numpy(), rgb)
        assert np.array_equal(part["depth"][0].numpy(), averaged(whole["depth"][0].numpy(), 4))


def test_masked_cameras_read_zero():
    seen, world = played(8, 0, 0, render_size=32, dropout=0.5)
    keys = [sensor.key for sensor in world.sensors]
    for key in ("rgb", "depth"):
        live = seen[0]["available"][:, keys.index(key)].bool()
        assert torch.equal(seen[0][key].float().flatten(1).any(1), live) and 0 < live.sum() < 8
    seen, _ = played(2, 0, render_size=32, faults="rgb:blackout")
    assert not seen[-1]["rgb"].any() and seen[-1]["depth"].any()


def test_episodes_that_end_and_restart_are_averaged_too():
    world = World("Reach", 2, render_size=32, **SMALL)
    world.reset()
    first = world.restart([1], [7])
    assert first["rgb"].shape == (1, 16, 16, 3)
    while not (step := world.step(rest(world))).ended.any():
        pass
    assert step.final_observation["depth"].shape[1:] == (16, 16, 1) == step.observation["depth"].shape[1:]
    world.close()


@pytest.mark.parametrize(
    ("size", "options", "words"),
    [
        (24, {}, "whole multiple of image_size"),
        (8, {}, "whole multiple of image_size"),
        ((32, 16), {}, "same in rows and columns"),
        (32, {"cameras": (Camera("own", (0.0, 0.0, 0.6), size=(16, 24)),)}, "camera 'own'"),
        (4096, {}, "render_size must be one integer"),
        ("large", {}, "render_size must be one integer"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(size, options, words):
    with pytest.raises(InputError, match=words):
        World("Reach", 1, render_size=size, **SMALL, **options)


def test_oblong_pictures():
    seen, _ = played(1, 0, image_size=(16, 24), render_size=(32, 48))
    assert seen[0]["rgb"].shape == (1, 16, 24, 3)


def test_adapters_take_it():
    options = {"robot": "gripper", "image_size": 16, "render_size": 32}
    single, batch = gym.make("robofuse/Reach-v0", **options), SB3VecEnv("Reach", 2, **options)
    assert single.observation_space["rgb"].shape == (16, 16, 3)
    assert single.observation_space.contains(single.reset(seed=0)[0])
    assert batch.reset()["depth"].shape == (2, 16, 16, 1)
    single.close()
    batch.close()
