"""Conditions, and the queue of episodes."""

import pytest
import torch
from lab import KEYS, WORLD, Fake

from robofuse.envs import World
from robofuse.evaluate import Condition, Job, midway, rollout, schedule, subsets

FOUR = ("depth", "force", "proprio", "rgb")


def names(conditions):
    return [condition.name for condition in conditions]


# conditions


# the queue


def play(num_envs, jobs, seed=5):
    world = World(num_envs=num_envs, seed=seed, auto_reset=False, **WORLD)
    fake = Fake(world)
    return rollout(fake, world, jobs), fake


JOBS = schedule([*subsets(KEYS), *midway(KEYS, 4)], range(3, 8))


@pytest.fixture(scope="module")
def played():
    return play(4, JOBS)


def test_results_come_in_the_order_of_the_jobs(played):
    results, _ = played
    assert [(r.condition, r.episode) for r in results] == [(j.condition.name, j.episode) for j in JOBS]


@pytest.mark.parametrize("num_envs", [1, 7, 40])
def test_results_do_not_depend_on_how_many_are_played_at_a_time(num_envs, played):
    jobs = JOBS if num_envs > 1 else JOBS[:10]
    assert play(num_envs, jobs)[0] == played[0][: len(jobs)]


def test_a_policy_fails_where_its_sensor_is_missing(played):
    outcome = {name: [r for r in played[0] if r.condition == name] for name in {r.condition for r in played[0]}}
    assert all(r.success and r.steps < 60 for name in ("all", "no-force", "no-force@4") for r in outcome[name])
    assert not any(r.success for r in outcome["no-proprio"])
    assert all(r.steps == 60 and not r.error for r in outcome["no-proprio"])
    for full, slow, late in zip(outcome["all"], outcome["no-force"], outcome["no-force@4"], strict=True):
        assert full.steps <= late.steps < slow.steps and full.reward != slow.reward


def test_what_is_hidden_and_when(played):
    """Every moment of the trace belongs to one of the conditions, and each was seen."""
    plans = [{event.sensor: event.step for event in c.plan} for c in subsets(KEYS) + midway(KEYS, 4)]
    limits, seen = {tuple(plan.get(key, 1000) for key in KEYS) for plan in plans}, set()
    for _, elapsed, _, observation in played[1].trace:
        for step, live, force, proprio in zip(
            elapsed.tolist(),
            observation["available"].tolist(),
            observation["force"],
            observation["proprio"],
            strict=True,
        ):
            fitting = {limit for limit in limits if [int(step < when) for when in limit] == live}
            assert fitting
            seen |= fitting if step == 4 else set()
            assert force.any() == bool(live[0]) and proprio.any() == bool(live[1])
    assert seen == limits


def test_an_episode_has_the_same_scene_under_every_condition(played):
    goals = {}
    for episode, _, goal, _ in played[1].trace:
        for number, place in zip(episode.tolist(), goal, strict=True):
            goals.setdefault(number, set()).add(tuple(place.tolist()))
    assert all(len(goals[number]) == 1 for number in range(3, 8))
    assert len(set.union(*(goals[number] for number in range(3, 8)))) == 5


def test_no_world_waits_while_there_are_jobs(played):
    results, fake = played
    work = sum(result.steps for result in results)
    assert work / 4 <= fake.calls <= work / 4 + 60


def test_progress_is_told_every_result_once():
    world = World(num_envs=3, auto_reset=False, **WORLD)
    told = []
    results = rollout(Fake(world), world, JOBS[:5], told.append)
    assert len(told) == 5 and all(episode in told for episode in results)
    assert rollout(Fake(world), world, []) == []


def test_a_simulation_that_diverges_is_a_failure_and_nobody_elses_business(played):
    world = World(num_envs=4, seed=5, auto_reset=False, **WORLD)
    fake = Fake(world)

    def spoil():
        world.backend.field("qvel")[1] = float("nan")

    fake.on_call = {3: spoil}
    results = rollout(fake, world, JOBS)
    broken = [index for index, result in enumerate(results) if result.error]
    assert broken == [1] and "BADQVEL" in results[1].error and not results[1].success and results[1].steps == 3
    assert 0.0 < (results[1].peak_force or 0.0) < 1000.0  # of the steps before
    assert results[:1] + results[2:] == played[0][:1] + played[0][2:]


class _Still:
    def __init__(self, action):
        self.action = action

    def act(self, observation):
        return self.action.expand(len(observation["available"]), 5)


def test_mistakes_are_told():
    jobs = [Job(Condition("all", KEYS), 0)]
    with pytest.raises(ValueError, match="auto_reset=False"):
        rollout(Fake(), World(**WORLD), jobs)
    world = World(auto_reset=False, **WORLD)
    with pytest.raises(ValueError, match="sensors rgb; .*force, proprio"):
        rollout(Fake(), world, [Job(Condition("all", ("rgb",)), 0)])
    with pytest.raises(ValueError, match="episode 0 under all"):
        rollout(_Still(torch.tensor(float("nan"))), world, jobs)
