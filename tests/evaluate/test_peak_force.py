"""The largest force on the wrist, by control step, by episode and by condition."""

import pytest
import torch
from helpers import BLIND

from robofuse.envs import World
from robofuse.evaluate.conditions import subsets
from robofuse.evaluate.results import ConditionResult, Episode, summarise
from robofuse.evaluate.rollout import Job, rollout
from robofuse.play import scripted


def test_an_episodes_peak_is_the_largest_of_its_steps():
    """The same scenes played by hand and by the loop, and other episodes in between do not show."""
    world = World("Grasp", 4, robot="gripper", sensors=BLIND, seed=3, auto_reset=False)
    world.reset()
    world.restart([0, 1, 2, 3], [0, 1, 2, 3])
    peaks, ended = torch.zeros(4), torch.zeros(4, dtype=torch.bool)
    while not ended.all():
        step = world.step(world.expert())
        assert torch.equal(step.peak_force, world.robot.peak_force().float())
        peaks = torch.where(ended, peaks, torch.maximum(peaks, step.peak_force))
        ended |= step.ended
    condition = subsets([sensor.key for sensor in world.sensors])[0]
    jobs = [Job(condition, number) for number in (0, 1, 2, 3, 0, 2)]
    episodes = rollout(scripted("expert", world), world, jobs)
    for job, episode in zip(jobs, episodes, strict=True):
        assert episode.peak_force == pytest.approx(float(peaks[job.episode]), abs=1e-3)
    assert 10.0 < peaks.min() < peaks.max() < 1000.0

    (row,) = summarise([ConditionResult.blank(condition)], episodes[:4])
    assert row.peak_force == pytest.approx(float(peaks.quantile(0.5)), abs=1e-2)
    assert row.peak_force <= (row.peak_force_95 or 0.0) <= float(peaks.max()) + 1e-3


def test_environments_of_others_have_no_peak():
    (condition,) = subsets(("a",))
    (row,) = summarise([ConditionResult.blank(condition)], [Episode("all", 0, True, 5, 1.0)])
    assert row.peak_force is None and row.peak_force_95 is None
