"""Arguments of a wrong type are told in a sentence of ours, which names the argument."""

import numpy as np
import pytest
import torch
from helpers import BLIND, rest

from robofuse.envs import World
from robofuse.errors import InputError, StateError
from robofuse.faults import Plan, blackout


@pytest.mark.parametrize("name", ["sensors", "cameras", "timing", "faults", "dropout", "noise", "robot", "task"])
@pytest.mark.parametrize("value", [5, 5.0, [5], object()])
def test_wrong_types_name_the_argument(name, value):
    with pytest.raises(InputError, match=name.rstrip("s")):
        World(**{"task": "Reach", "num_envs": 1, "num_threads": 1, "sensors": BLIND, name: value})


def test_faults_may_be_nothing():
    for faults in (None, "", False):
        if faults is False:
            with pytest.raises(InputError, match="faults"):
                World("Reach", 1, sensors=BLIND, num_threads=1, faults=faults)
        else:
            World("Reach", 1, sensors=BLIND, num_threads=1, faults=faults).close()


@pytest.fixture
def world():
    world = World("Reach", 2, sensors=BLIND, num_threads=1)
    yield world
    world.close()


@pytest.mark.parametrize("index", ["a", 2, -1, 1.0, None, True])
def test_a_picture_is_of_a_world_by_number(world, index):
    world.reset(seed=0)
    with pytest.raises(InputError, match="index .*from 0 to 1"):
        world.picture(index)


def test_the_expert_needs_a_scene(world):
    with pytest.raises(StateError, match=r"call reset\(\) before expert"):
        world.expert()


@pytest.mark.parametrize("faults", ["proprio:freeze", [None], ["proprio:freeze"], 5, [5, 5]])
def test_restart_takes_plans(world, faults):
    world.reset(seed=0)
    with pytest.raises(InputError, match="faults must be"):
        world.restart([0], [0], faults)


def test_a_plan_that_does_not_fit_leaves_the_world_as_it_is(world):
    world.reset(seed=0)
    before = world.episode.clone()
    with pytest.raises(InputError, match="unknown sensor 'rgb'"):
        world.restart([0], [7], [Plan((blackout("rgb"),))])
    assert torch.equal(world.episode, before)


@pytest.mark.parametrize("dtype", [np.uint16, np.uint32, np.uint64, np.int8])
def test_episodes_may_be_any_integers(world, dtype):
    world.reset(seed=0)
    one = world.restart(np.array([1, 0], dtype), np.array([3, 4], dtype))
    two = world.restart([1, 0], [3, 4])
    assert all(torch.equal(one[key], two[key]) for key in one)


@pytest.mark.parametrize("episode", [2**62, 2**63 - 1, 2**63, 2**64, -1, 1.5, "a"])
def test_episodes_beyond_counting_are_refused(world, episode):
    world.reset(seed=0)
    for start in (lambda: world.restart([0], [episode]), lambda: world.reset(episode=episode)):
        with pytest.raises(InputError, match="episode"):
            start()
    world.step(rest(world))  # as if nothing had been


@pytest.mark.parametrize("seed", [-1, 2**63, 1.5, "a", True])
def test_seeds_are_whole(world, seed):
    with pytest.raises(InputError, match="seed"):
        world.reset(seed)
