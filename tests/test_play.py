"""The episode loop, and what it plays with."""

import json
from itertools import count

import numpy as np
import pytest
import torch
from lab import WORLD, Fake

from robofuse import play as module
from robofuse.envs import World
from robofuse.envs.cameras import resolve
from robofuse.faults import Plan, blackout
from robofuse.play import (
    NOT_FINITE,
    SCRIPTS,
    Trained,
    fingerprint,
    load_trained,
    make_world,
    play,
    policy_title,
    scripted,
)
from robofuse.policies import FusionActorCriticPolicy
from robofuse.policies.saving import save


def small(num_envs, **options):
    return World(num_envs=num_envs, auto_reset=False, **(WORLD | {"seed": 5} | options))


# the loop


def test_every_job_is_played_once_from_its_beginning_to_its_end():
    world = small(3)
    steps = list(play(Fake(world), world, [(episode, Plan()) for episode in range(7)]))
    lengths, ends = dict.fromkeys(range(7), 0), []
    for step in steps:
        for env_id, job in step.jobs.items():
            assert int(step.episode[env_id]) == job and int(step.elapsed[env_id]) == lengths[job]
            assert (env_id in step.began) == (lengths[job] == 0)
            lengths[job] += 1
        ends += step.ended
        assert all(step.jobs[end.env_id] == end.job and lengths[end.job] == end.steps for end in step.ended)
    assert sorted(end.job for end in ends) == list(range(7))
    assert all(end.success and not end.error for end in ends)
    work = sum(end.steps for end in ends)
    assert len(steps) <= work / 3 + max(end.steps for end in ends)  # no world waits while there are jobs


def test_a_world_without_a_job_is_idle():
    world = small(3)
    policy = Fake(world)
    policy.act = lambda observation: torch.ones(3, 5)
    steps = list(play(policy, world, [(0, Plan())]))
    assert all(list(step.jobs) == [0] and not step.action[1:].any() and step.action[0].all() for step in steps)
    assert list(play(policy, world, [])) == []


def test_the_queue_may_be_endless_and_is_read_as_worlds_get_free():
    world, taken = small(2), []
    jobs = ((taken.append(number) or number, None) for number in count())
    for step in play(Fake(world), world, jobs):
        assert len(taken) == 2 + sum(1 for number in taken if number > 1)
        if any(end.job == 2 for end in step.ended):
            break
    assert taken[:3] == [0, 1, 2] and len(taken) < 8


def test_a_job_without_a_plan_is_under_the_faults_of_the_world():
    world = small(1, faults="force:blackout@2")
    own, none = (
        [int(step.available[0, 0]) for step in play(Fake(world), world, [(0, plan)])] for plan in (None, Plan())
    )
    assert own == [int(step < 2) for step in range(len(own))] and all(none)


def test_what_is_yielded_is_what_the_policy_was_given():
    world = small(2)
    policy = Fake(world)
    plan = Plan((blackout("proprio", 2),))
    steps = list(play(policy, world, [(0, plan), (1, Plan())]))
    for step, (_, elapsed, _, observation) in zip(steps, policy.trace, strict=True):
        assert torch.equal(step.elapsed, elapsed)
        assert all(torch.equal(step.observation[key], observation[key]) for key in observation)
        assert torch.equal(step.affected[0], torch.tensor([False, int(elapsed[0]) >= 2]))
        assert bool(step.trusted.all()) and step.picture is None


def test_an_action_that_is_not_finite_ends_its_episode_alone():
    world = small(2)
    policy = Fake(world)
    act = policy.act

    def broken(observation):
        action = act(observation)
        action[0, 2] = torch.nan if policy.calls == 4 else action[0, 2]
        return action

    policy.act = broken
    steps = list(play(policy, world, [(episode, Plan()) for episode in range(3)]))
    (end,) = steps[3].ended
    assert end == (0, 0, 3, False, NOT_FINITE) and bool(steps[3].action[0].isnan().any())
    assert steps[4].jobs == {0: 2, 1: 1} and steps[4].began == [0]
    assert [end.error for step in steps[4:] for end in step.ended] == ["", ""]


def test_pictures_are_of_the_world_before_each_step():
    world = small(1)
    steps = list(play(Fake(world), world, [(2, Plan())], pictures=True))
    world.reset()
    world.restart([0], [2])
    for step in steps:
        assert np.array_equal(step.picture, world.picture())
        world.step(step.action)
    world.close()


def test_worlds_that_reset_by_themselves_are_refused():
    with pytest.raises(ValueError, match="World.auto_reset=False"):
        next(play(Fake(), World(**WORLD), [(0, None)]))


# scripts and names


@pytest.mark.parametrize("name", SCRIPTS)
def test_scripts_act(name):
    world = small(2)
    world.reset(episode=0)
    action = scripted(name, world, 1).act({})
    assert action.shape == (2, 5) and action.abs().max() <= 1.0
    world.close()


def test_random_actions_have_a_seed():
    world = small(2)
    first, same, other = (scripted("random", world, seed).act({}) for seed in (1, 1, 2))
    assert torch.equal(first, same) and not torch.equal(first, other)
    world.close()


@pytest.mark.parametrize(
    ("name", "expected"),
    [("grasp", "grasp"), ("runs/a/best.safetensors", "a-best"), ("runs/a.1", "a.1"), ("x/b.safetensors", "b")],
)
def test_a_policy_has_a_name_that_tells_it_apart(name, expected):
    assert policy_title(name) == expected


# trained policies and their worlds


def test_a_world_such_as_the_file_describes():
    fake = Fake(
        sensors=["rgb"],
        cameras=[{"name": "low", "position": [0.5, 0.0, 0.1], "size": [8, 10]}],
        noise={"rgb": 0.0},
        timing={"rgb_low": {"delay": 1}},
        privileged=True,
        num_envs=9,
    )
    fake.keys = ("rgb_low",)
    policies_world = {key: value for key, value in fake.world.items() if key not in module._OWN}
    world = make_world(Trained(fake, policies_world), 2, 1)
    assert world.num_envs == 2 and world.reset()["rgb_low"].shape == (2, 8, 10, 3) and not world.auto_reset
    world.close()
    fake.keys = ("depth", "rgb_low")
    with pytest.raises(ValueError, match="other sensors"):
        make_world(Trained(fake, policies_world), 2, 1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"gravity": 1.0}, "'gravity'.*task, robot, sensors"),
        ({"noise": {"rgbd": 1.0}}, "noise.*{'rgbd': 1.0}.*rgb, depth"),
        ({"timing": {"force": {"late": 1}}}, "timing of force.*'late': 1}.*update_interval, delay"),
        ({"timing": [1]}, r"timing.*\[1\]"),
        ({"cameras": [{"place": 1}]}, "camera.*{'place': 1}"),
        ({"sensors": 5}, "sensors.*5"),
    ],
)
def test_what_a_file_says_of_its_world_is_checked(options, message):
    fake = Fake(**options)
    with pytest.raises(ValueError, match=message):
        make_world(Trained(fake, fake.world), 1, 1)


def test_a_policy_without_pictures_takes_any_renderer(policy_without_pictures):
    assert load_trained(policy_without_pictures, renderer="gl").options["renderer"] == "gl"
    with pytest.raises(ValueError, match="'crayon'"):
        load_trained(policy_without_pictures, renderer="crayon")


@pytest.fixture
def policy_without_pictures(tmp_path):
    world = make_world(Trained(fake := Fake(), fake.world), 1, 1)
    network = FusionActorCriticPolicy(
        world.observation_space,
        world.action_space,
        lambda _: 0.0,
        net_arch=[8],
        features_extractor_kwargs={"sensors": world.sensors, "token_dim": 8},
    )
    world.close()
    return str(save(network, tmp_path / "blind.safetensors", fake.world))


def test_weights_have_a_fingerprint():
    fake = Fake()
    assert fingerprint(fake) is None
    fake.network = torch.nn.Linear(2, 1)
    before = fingerprint(fake)
    assert len(before) == 64 and fingerprint(fake) == before
    with torch.no_grad():
        fake.network.bias += 1e-6
    assert fingerprint(fake) != before


def test_where_gl_does_not_work_warp_draws_and_it_is_told(monkeypatch):
    def no_gl(*_, **__):
        raise RuntimeError("no library")

    assert load_trained("grasp").options["renderer"] == "gl"
    monkeypatch.setattr("robofuse.envs.World", no_gl)
    trained = load_trained("grasp")
    assert trained.options["renderer"] == "warp" and "does not work here (no library)" in trained.note


def test_a_policy_files_options_make_its_world(tmp_path):
    from robofuse.train import Train
    from robofuse.train.build import world_options

    told = json.loads(
        json.dumps(world_options(Train("Reach").replace(robot="gripper", image_size=20, renderer="warp")))
    )
    world = World(**told)
    assert [vars(camera) for camera in world.cameras] == [vars(camera) for camera in resolve(("scene",), 20)]
    world.close()
    with pytest.raises(ValueError, match="camera"):
        World(**told | {"cameras": [{"name": "scene", "place": 1}]})
