"""Stacks of delivered readings, policies that remember, and that nothing hidden is ever remembered."""

import math
import warnings

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env
from hypothesis import given, settings
from hypothesis import strategies as st
from looks import Looks, OneLook
from stable_baselines3.common.env_checker import check_env as check_sb3

from robofuse.dropout import Independent
from robofuse.envs.sb3 import SB3VecEnv
from robofuse.memory import Stack, single_sensors, stacked_sensors
from robofuse.sensors import FADES, Sensor
from robofuse.wrappers import SensorDropout, SensorStack, VecSensorDropout, VecSensorStack

KEYS = ("depth", "image", "state")
SHAPES = {"depth": ((3, 4, 1), np.uint16), "image": ((3, 8, 8), np.uint8), "state": ((2,), np.float32)}


def reading(rng, n):
    found = {k: (rng.random((n, *shape)) * 50 + 1).astype(dtype) for k, (shape, dtype) in SHAPES.items()}
    return {k: torch.from_numpy(x) for k, x in found.items()}


def expected(history, key, frames):
    """Readings and ages by the definition: the last delivered ones, oldest first; history is [(reading, live)]."""
    got = [(x[key], len(history) - 1 - t) for t, (x, live) in enumerate(history) if live[key]][-frames:]
    shape, dtype = SHAPES[key]
    missing = [(torch.zeros(shape, dtype=torch.from_numpy(np.zeros(1, dtype)).dtype), None)] * (frames - len(got))
    parts = missing + got
    axis = 0 if key == "image" else -1
    return (
        np.concatenate([x.numpy() for x, _ in parts], axis),
        [0.0 if age is None else math.exp(-age / FADES) for _, age in parts],
    )


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 3), st.integers(1, 4), st.integers(0, 2**30))
def test_a_stack_holds_the_last_delivered_readings_of_each_episode(frames, num, seed):
    rng = np.random.default_rng(seed)
    stack = Stack(KEYS, KEYS, num, frames)
    histories = [[] for _ in range(num)]
    for _ in range(12):
        begins = np.flatnonzero(rng.random(num) < 0.2)
        stack.start(torch.from_numpy(begins))
        for i in begins:
            histories[i] = []
        rows = np.sort(rng.permutation(num)[: rng.integers(1, num + 1)]) if rng.random() < 0.3 else np.arange(num)
        given_ = reading(rng, len(rows))
        live = torch.from_numpy((rng.random((len(rows), 3)) < 0.6).astype(np.int8))
        before = {k: x.clone() for k, x in given_.items()}
        found = stack.push(given_ | {"available": live}, torch.from_numpy(rows))
        assert all(torch.equal(given_[k].view(torch.uint8), before[k].view(torch.uint8)) for k in given_)
        for n, i in enumerate(rows):
            histories[i].append(({k: x[n] for k, x in given_.items()}, dict(zip(KEYS, live[n].tolist(), strict=True))))
            wanted = [expected(histories[i], key, frames) for key in KEYS]
            for key, (stacked, _) in zip(KEYS, wanted, strict=True):
                np.testing.assert_array_equal(found[key][n].numpy(), stacked)
            np.testing.assert_allclose(found["freshness"][n], sum((ages for _, ages in wanted), []), rtol=1e-6)
            ever = [int(ages[-1] > 0) for _, ages in wanted]
            assert found["available"][n].tolist() == [ever[0], 1, ever[1], ever[2]]  # depth, freshness, image, state


def test_what_a_stack_gives_is_never_changed_later():
    stack, rng = Stack(KEYS, KEYS, 2, 2), np.random.default_rng(0)
    first = stack.push(reading(rng, 2))
    kept = {k: x.clone() for k, x in first.items()}
    stack.start(torch.tensor([0]))
    stack.push(reading(rng, 2))
    stack.push(reading(rng, 1), torch.tensor([1]))
    assert all(torch.equal(first[k].float(), kept[k].float()) for k in kept)


def test_a_hidden_reading_is_never_remembered():
    stack, rng = Stack(KEYS, KEYS, 2, 2), np.random.default_rng(0)
    other = Stack(KEYS, KEYS, 2, 2)
    for step in range(6):
        given_, live = reading(rng, 2), torch.tensor([[step == 0, 1, 0], [1, step % 2, 0]], dtype=torch.int8)
        noise = {k: torch.where(live[:, m].view(-1, *[1] * (x.ndim - 1)) > 0, x.float(), 77.0).to(x.dtype)
                 for m, (k, x) in enumerate(given_.items())}  # fmt: skip
        a, b = stack.push(given_ | {"available": live}), other.push(noise | {"available": live})
        assert all(torch.equal(a[k].float(), b[k].float()) for k in a)


def test_sensors_of_a_stack_and_back():
    sensors = (
        Sensor("depth", "depth", (8, 8, 1), "uint16", "mm", 1000.0, 20.0),
        Sensor("proprio", "vector", (3,), "float32", "rad", (1.0, 2.0, 3.0), 20.0),
    )
    several = stacked_sensors(sensors, 2)
    assert [s.key for s in several] == ["depth", "freshness", "proprio"]
    assert [s.shape for s in several] == [(8, 8, 2), (4,), (6,)]
    assert several[2].scale == (1.0, 2.0, 3.0) * 2
    assert single_sensors(several, 2) == sensors


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
    from stable_baselines3.common.vec_env import DummyVecEnv

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


def test_sensors_that_are_not_stacked_pass_as_they_are():
    env = SensorStack(OneLook(Looks()), 2, ["image"])
    env.reset(seed=1)
    for _ in range(3):
        observation = env.step(np.zeros(1, np.float32))[0]
    assert observation["state"].shape == (2,) and observation["freshness"].shape == (2,)
    assert observation["available"].tolist() == [1, 1, 1]  # freshness, image, state
    np.testing.assert_allclose(observation["freshness"], [0.0, math.exp(-3 / FADES)], rtol=1e-6)
