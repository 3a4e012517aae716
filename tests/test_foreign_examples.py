"""The scripts in `scripts/examples`: the extractor in environments of others."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

from robofuse.envs.rendering.gl import choose_opengl

FOLDER = Path(__file__).parents[1] / "scripts" / "examples"


def example(name):
    spec = importlib.util.spec_from_file_location(f"example_{name}", FOLDER / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def random_return(env, episodes):
    """Mean return of random actions."""
    env.reset()
    totals, running = [], np.zeros(env.num_envs)
    while len(totals) < episodes:
        _, rewards, dones, _ = env.step(np.stack([env.action_space.sample() for _ in range(env.num_envs)]))
        running += rewards
        totals += running[dones].tolist()
        running[dones] = 0.0
    return float(np.mean(totals))


@pytest.mark.slow
def test_fetch_takes_goals_and_masks():
    fetch = example("fetch")
    env = fetch.environment(count=1)
    assert env.observation_space["available"].shape == (3,)
    agent = fetch.train(env, 256)
    assert agent._n_updates > 0
    batch = agent.replay_buffer.sample(64, env)
    assert batch.observations["available"].all() and (batch.rewards == 0).any()  # hindsight
    means = fetch.evaluate(agent, env, 1)
    assert all(-50 <= mean <= 0 for mean in means.values())
    env.close()


@pytest.mark.slow
def test_fetch_reaches_without_proprioception():
    fetch = example("fetch")
    env = fetch.environment()
    random = random_return(fetch.environment(), 12)
    means = fetch.evaluate(fetch.train(env, 6000), env, 20)
    assert random < -40  # of −50; the optimum is a step or two, as the goal is within 15 cm
    assert means["all"] > -12 and means["without observation"] > -12


@pytest.mark.slow
def test_cheetah_with_a_camera(needs_gl, monkeypatch):
    needs_gl()
    monkeypatch.setenv("MUJOCO_GL", choose_opengl().backend)  # a process keeps the first that it loads
    camera = example("camera")
    env = camera.environment()
    assert env.observation_space["rgb"].shape == (32, 32, 3)
    random = random_return(env, 12)
    means = camera.evaluate(camera.train(env, 16000), env, 8)
    assert means["both"] > random + 10 and means["state alone"] > random + 10
    env.close()
