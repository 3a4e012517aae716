"""World.restart: any episode in any world, and the others untouched."""

import pytest
import torch
from helpers import BLIND, rest, same

from robofuse.envs import Timing, World
from robofuse.envs.tasks import Reach
from robofuse.tensors import numbers_of

SEEN = {"robot": "gripper", "image_size": 16, "seed": 3, "timing": {"force": Timing(2, 1), "depth": Timing(1, 2)}}


def _rows(observation, rows):
    return {key: value[rows] for key, value in observation.items()}


def _run(world, steps, scale=0.5):
    for k in range(steps):
        step = world.step(torch.full((world.num_envs, 5), scale * (-1) ** k))
    return step.observation


@pytest.mark.parametrize("auto_reset", [True, False])
def test_an_episode_is_the_same_to_the_bit_wherever_it_starts(auto_reset):
    world = World("Grasp", 4, auto_reset=auto_reset, privileged=True, **SEEN)
    world.reset()
    _run(world, 3)
    first = world.restart([3, 1], [41, 7])
    assert world.episode.tolist() == [0, 7, 2, 41] and world.elapsed.tolist() == [3, 0, 3, 0]
    later = _run(world, 3)
    for row, (env_id, episode) in enumerate([(3, 41), (1, 7)]):
        alone = World("Grasp", 1, privileged=True, **SEEN)
        assert same(alone.reset(episode=episode), _rows(first, [row]))
        assert same(_run(alone, 3), _rows(later, [env_id]))
        alone.close()
    world.close()


def test_other_worlds_go_on_as_if_nothing_had_been():
    a, b = (World("Grasp", 3, auto_reset=False, **SEEN) for _ in range(2))
    a.reset(), b.reset()
    kept = _run(a, 3)
    copy = {key: value.clone() for key, value in kept.items()}
    _run(b, 3)
    a.restart(torch.tensor([1]), torch.tensor([9]))
    assert same(kept, copy)  # what a caller holds stays what it was
    assert same(_rows(_run(a, 4), [0, 2]), _rows(_run(b, 4), [0, 2]))
    a.close(), b.close()


def test_a_queue_of_episodes_in_worlds_that_ended():
    world = World("Reach", 2, robot="gripper", sensors=BLIND, auto_reset=False)
    world.reset()
    world.restart([0, 1], [0, 1])
    waiting, ended = [2, 3, 4], []
    for _ in range(5 * world.max_steps):
        step = world.step(world.expert())
        for env_id in numbers_of(step.ended).tolist():
            ended.append(int(step.episode[env_id]))
            if waiting:
                world.restart([env_id], [waiting.pop(0)])
        if len(set(ended)) == 5:
            break
    assert set(ended) == {0, 1, 2, 3, 4}


def test_the_episodes_after_it_go_on_at_n():
    world = World("Reach", 2, robot="gripper", sensors=BLIND)
    world.reset()
    world.restart([1], [10])
    for _ in range(world.max_steps):
        world.step(rest(world))
    assert world.episode.tolist() == [2, 12]


def test_nothing_to_start():
    world = World("Reach", 2, robot="gripper", sensors=BLIND)
    world.reset()
    assert world.restart([], [])["proprio"].shape[0] == 0


class _Broken(Reach):
    """World 1's robot is nowhere, until it is mended."""

    broken = True

    def place(self, ids, u):
        super().place(ids, u)
        if self.broken:
            self.backend.field("qpos")[ids[ids == 1], 0] = float("nan")


@pytest.mark.parametrize("stepped", [True, False])
def test_a_world_that_failed_starts_afresh_without_a_word_about_the_past(stepped):
    task = _Broken()
    world = World(task, 2, robot="gripper", sensors=("proprio",), auto_reset=False)
    world.reset()
    if stepped:
        assert numbers_of(world.step(rest(world)).failure > 0).tolist() == [1]
    task.broken = False
    assert world.restart([1], [5])["proprio"].isfinite().all()
    assert not world.step(rest(world)).failure.any()


@pytest.mark.parametrize(
    ("env_ids", "episodes", "message"),
    [
        ([0, 3], [0, 1], r"env_ids must be a list of integers from 0 to 2, got \[0, 3\]"),
        ([-1], [0], "env_ids must be"),
        ([0.5], [0], "env_ids must be"),
        ([[0]], [0], "env_ids must be"),
        ([True, False, True], [0, 1], "env_ids must be"),
        (None, [0], "env_ids must be .* got None"),
        (["a"], [0], "env_ids must be"),
        ([0], [-1], "episodes must be"),
        ([0], [1 << 63], "episodes must be"),
        ([1, 1], [0, 1], r"as many episodes as different worlds, got \[1, 1\] and \[0, 1\]"),
        ([0, 1], [4], "as many episodes as different worlds"),
    ],
)
def test_bad_numbers_are_refused_and_nothing_starts(env_ids, episodes, message):
    world = World("Reach", 3, robot="gripper", sensors=BLIND)
    world.reset()
    world.step(rest(world))
    with pytest.raises(ValueError, match=message):
        world.restart(env_ids, episodes)
    assert world.episode.tolist() == [0, 1, 2] and world.elapsed.eq(1).all()


def test_restart_before_reset():
    with pytest.raises(RuntimeError, match="call reset"):
        World("Reach", 1, robot="gripper", sensors=BLIND).restart([0], [0])
