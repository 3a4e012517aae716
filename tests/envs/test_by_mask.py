"""A World whose worlds begin by mask, as on a GPU: the same numbers as by number, and no look at one."""

import pytest
import torch
from helpers import BLIND, same
from stand_ins import MaskedBackend, MetaBackend, NothingIsSent, TorchBackend

from robofuse.dropout import Dropout, Independent, Markov, Subsets
from robofuse.envs import World
from robofuse.envs.rig import Timing
from robofuse.envs.tasks.reach import Reach
from robofuse.faults import Mix, Plan

CASES = {
    "plain": {},
    "masks per episode": {"dropout": 0.5},
    "masks per step": {"dropout": Dropout(Independent(0.4), every="step", full=0.2)},
    "outages": {"dropout": Dropout(Independent(0.5), every="outage", outage_steps=4)},
    "masks that follow": {"dropout": Dropout(Markov(0.4, 0.3), every="step")},
    "one of them": {"dropout": Dropout(Subsets())},
    "late sensors": {"timing": {"force": Timing(3, 2), "proprio": Timing(1, 1)}, "force_window": 25},
    "frozen": {"faults": "force:freeze@2..9 in 2~3", "dropout": 0.3},
    "late by a fault": {"faults": "proprio:latency@3"},
}


class Brief(Reach):
    """Runs out of time soon."""

    horizon = 1.0


def play(monkeypatch, kind, task=Brief, steps=24, **options):
    """Every tensor of every step, in worlds of which some succeed and some run out of time."""
    monkeypatch.setattr("robofuse.envs.world.make_backend", lambda _, device, *args: kind(*args))
    options = {"robot": "gripper", "sensors": BLIND, "privileged": True, "seed": 5, **options}
    world = World(task, 4, **options)
    trace = [world.reset()]
    for number in range(steps):
        action = world.expert()
        action[number % 3 :] *= 0.3
        step = world.step(action)
        trace += [step.observation, step.final_observation, step.terms]
        trace.append({"reward": step.reward, "ended": step.ended, "truncated": step.truncated, "episode": step.episode})
        trace[-1] |= {"affected": world.affected, "failure": step.failure, "elapsed": world.elapsed}
        if number == 14:
            trace.append(world.restart([3, 1], [70, 71]))
    world.close()
    return trace


SAME_WAY = ("masks per episode", "one of them", "late by a fault")  # as another case takes; left to the slow tests


@pytest.mark.parametrize(
    "case", [pytest.param(case, marks=pytest.mark.slow if case in SAME_WAY else []) for case in CASES]
)
def test_worlds_that_begin_by_mask_are_those_by_number(monkeypatch, case):
    there, here = (play(monkeypatch, kind, **CASES[case]) for kind in (TorchBackend, MaskedBackend))
    assert sum(int(one["ended"].sum()) for one in here if "ended" in one) >= 4
    for number, (a, b) in enumerate(zip(there, here, strict=True)):
        assert same(a, b), (number, [key for key in a if not torch.equal(a[key], b[key])])


def test_and_so_with_pictures_and_a_mix_of_faults(monkeypatch):
    plans = ("rgb:freeze@2", "depth:holes(0.5)@1..5 for 4", "rgb:knocked@4", "force:bias@contact")
    options = {
        "task": "Grasp",
        "sensors": ("rgb", "depth", "proprio", "force"),
        "cameras": ("scene", "wrist"),
        "image_size": 8,
        "render_size": 16,
        "dropout": 0.3,
        "faults": lambda sensors: Mix(tuple(Plan.parse(plan, sensors) for plan in plans), 0.9),
    }
    there, here = (play(monkeypatch, kind, **options) for kind in (TorchBackend, MaskedBackend))
    assert all(same(a, b) for a, b in zip(there, here, strict=True))


def test_a_world_that_fails_begins_again_by_mask(monkeypatch):
    monkeypatch.setattr("robofuse.envs.world.make_backend", lambda _, device, *args: MaskedBackend(*args))
    world = World("Reach", 3, robot="gripper", sensors=BLIND, seed=1)
    world.reset()
    before = world.step(world.expert()).observation
    world.backend.field("qvel")[1, 0] = float("nan")
    step = world.step(torch.zeros(3, 5))
    assert step.ended.tolist() == [False, True, False] and "BADQVEL" in world.cause(int(step.failure[1]))
    assert torch.equal(step.final_observation["proprio"][1], before["proprio"][1])
    assert all(x.float().isfinite().all() for x in step.observation.values())
    assert not world.step(world.expert()).failure.any() and world.episode.tolist() == [0, 4, 2]
    world.close()


@pytest.mark.parametrize(
    ("name", "case"),
    [
        pytest.param(name, case, marks=[] if name == "Grasp" or case == "plain" else pytest.mark.slow)
        for name in ("Reach", "Grasp")
        for case in CASES
        if "faults" not in CASES[case]
    ],
)
def test_a_step_looks_at_nothing_and_sends_nothing(monkeypatch, name, case):
    """Physics, pictures, noise, masks, rewards, and the resets of worlds that ended."""
    monkeypatch.setattr("robofuse.envs.world.make_backend", lambda _, device, *args: MetaBackend(*args))
    cameras = {"cameras": ("scene", "wrist"), "image_size": 8, "render_size": 16, "renderer": "warp"}
    sensors = ("rgb", "depth", "proprio", "force", "truth")
    world = World(name, 4, sensors=sensors, privileged=True, **cameras, **CASES[case])
    world.reset()
    action = torch.empty(4, 5, device="meta")
    world.step(action)  # constants are sent once
    with NothingIsSent():
        step = world.step(action)
        world.expert()
    tensors = [*step.observation.values(), *step.final_observation.values(), *step.terms.values()]
    assert {x.device.type for x in (*tensors, step.reward, step.ended, step.failure)} == {"meta"}
    assert step.observation["rgb_wrist"].shape == step.final_observation["rgb_wrist"].shape == (4, 8, 8, 3)
