"""World.break_sensors: what breaks changes while an episode goes on."""

import pytest
import torch
from helpers import same

from robofuse.envs import World
from robofuse.faults import Plan

SEEN = {"robot": "gripper", "image_size": 16, "seed": 3, "auto_reset": False}
OFF = ("depth", "force")


def made(n=2, **options):
    world = World("Reach", n, **SEEN, **options)
    return world, world.reset()


def go(world, steps):
    for _ in range(steps):
        step = world.step(torch.full((world.num_envs, 5), 0.3))
    return step.observation


def test_a_sensor_is_off_in_the_next_observation_and_comes_back():
    world, first = made()
    keys = [sensor.key for sensor in world.sensors]
    go(world, 2)
    world.break_sensors(Plan.parse("depth,force:blackout", world.sensors), [1])
    seen = go(world, 1)
    assert seen["available"][0].all()
    assert dict(zip(keys, seen["available"][1].tolist(), strict=True)) == {key: key not in OFF for key in keys}
    assert not any(seen[key][1].any() for key in OFF) and all(seen[key][0].any() for key in OFF)
    assert first["available"].all()  # what a caller holds stays what it was
    world.break_sensors(Plan())
    assert go(world, 1)["available"].all() and not world.affected.any()
    world.close()


def test_the_physics_and_the_other_worlds_do_not_notice():
    (a, _), (b, _) = made(), made()
    a.break_sensors(Plan.parse("rgb:noise+rgb:knocked+proprio:nan", a.sensors), [0])
    broken, healthy = go(a, 4), go(b, 4)
    assert same({key: x[1] for key, x in broken.items()}, {key: x[1] for key, x in healthy.items()})
    assert torch.equal(a.backend.field("qpos"), b.backend.field("qpos"))
    assert bool(broken["proprio"][0].isnan().all()) and not torch.equal(broken["rgb"][0], healthy["rgb"][0])
    a.break_sensors(Plan(), [0])  # the camera, too, is back in its place
    assert same(go(a, 2), go(b, 2))
    a.close(), b.close()


def test_the_next_episode_breaks_as_the_world_was_made():
    world, _ = made(faults="depth:blackout")
    world.break_sensors(Plan.parse("rgb:blackout", world.sensors))
    assert not go(world, 1)["rgb"].any()
    world.restart([0], [5])
    seen = go(world, 1)
    assert seen["rgb"][0].any() and not seen["depth"][0].any()
    assert not seen["rgb"][1].any() and seen["depth"][1].any()
    world.close()


def test_what_has_no_meaning_is_refused():
    world = World("Reach", **SEEN)
    with pytest.raises(RuntimeError, match=r"call reset\(\) before break_sensors"):
        world.break_sensors(Plan())
    world.reset()
    with pytest.raises(ValueError, match="takes a robofuse.faults.Plan, got 'rgb:freeze'; Plan.parse"):
        world.break_sensors("rgb:freeze")
    with pytest.raises(ValueError, match="unknown phase 'lift'"):
        world.break_sensors(Plan.parse("rgb:freeze@lift", world.sensors))
    with pytest.raises(ValueError, match="env_ids must be a list of integers from 0 to 0"):
        world.break_sensors(Plan(), [1])
    world.close()
    with pytest.raises(RuntimeError, match="closed"):
        world.break_sensors(Plan())
