"""Injector.change: plans that change in the middle of an episode."""

import pytest
import torch
from breaking import SENSORS, STEPS, readings

from robofuse.faults import FaultEvent, Injector, Plan
from robofuse.faults.catalogue import faults_for

EVERY = [(sensor.key, name) for sensor in SENSORS for name in faults_for(sensor.kind)]


def parse(text):
    return Plan.parse(text, SENSORS)


def run(plans, n=3, changing=slice(None), episodes=2):
    """What arrives, [episode][step] → key → (n, …); `plans` maps steps to plans, of the environments `changing`."""
    injector, log = Injector(plans[0], SENSORS, n, 3, 0.05, cameras_move=True), []
    for episode in range(episodes):
        injector.start(torch.arange(n), torch.arange(n) + 10 * episode)
        log.append([])
        for step in range(STEPS):
            if step:
                if step - 1 in plans and step > 1:
                    env_ids = torch.arange(n)[changing]
                    injector.change(env_ids, [plans[step - 1]] * len(env_ids))
                injector.step()
            moved = torch.zeros(n, 6)
            for _, env_ids, *offset in injector.camera_offsets():
                moved[env_ids] += torch.cat(offset, dim=1)
            arrived, told = injector.apply(readings(step + 1000 * episode, n))
            log[-1].append({**arrived, "told": told, "affected": injector.affected.clone(), "moved": moved})
    return log


def same(a, b, keys):
    pairs = [(x[key], y[key]) for x, y in zip(a, b, strict=True) for key in keys]
    return all(torch.allclose(x.double(), y.double(), rtol=0, atol=0, equal_nan=True) for x, y in pairs)


@pytest.mark.parametrize(("key", "name"), EVERY)
def test_what_is_in_both_plans_goes_on_as_if_nothing_had_been(key, name):
    other = "proprio:blackout" if key != "proprio" else "rgb:blackout"
    alone, beside = parse(f"{key}:{name}@3"), parse(f"{other}@6+{key}:{name}@3")
    kept = run({0: alone})
    for changed in (run({0: alone, 5: beside, 8: alone}), run({0: alone, 5: beside, 8: alone}, changing=slice(1, 2))):
        for episode in range(2):
            assert same(kept[episode], changed[episode], (key, "moved"))
            dark = [step for step, x in enumerate(changed[episode]) if not x[other.split(":")[0]][1].any()]
            assert dark == [6, 7, 8]


@pytest.mark.parametrize(("key", "name"), EVERY)
def test_what_begins_at_the_next_step_is_what_a_plan_would_have_had_unless_it_remembers(key, name):
    kind = next(sensor.kind for sensor in SENSORS if sensor.key == key)
    fault = faults_for(kind)[name]
    new = Plan((FaultEvent(key, fault(), 5),))
    first, planned, healthy = (run(plans)[0] for plans in ({0: Plan(), 4: new}, {0: new}, {0: Plan()}))
    assert same(first[:5], healthy[:5], (key, "told", "affected"))
    assert same(first, planned, ("told", "affected", "moved"))
    if fault.holds or fault.history:  # knows nothing of before: its first reading is all that it can repeat
        assert same(first[5:6], healthy[5:6], (key,)) or name == "stuck"
        assert all(torch.isfinite(x[key].double()).all() for x in first)
    else:
        assert same(first, planned, (key,))


def test_a_delay_that_sets_in_repeats_the_first_reading_and_never_shows_what_was_not_read():
    (arrived, _), healthy = run({0: Plan(), 3: parse("depth:latency(1, seconds=0.2)@4")}), run({0: Plan()})[0]
    for step, now in enumerate(arrived):
        assert torch.equal(now["depth"], healthy[step if step < 4 else max(4, step - 4)]["depth"])


def test_another_severity_goes_on_with_what_it_is_about():
    log = run({0: parse("proprio:drift(0.5)@2"), 6: parse("proprio:drift(1)@2")})[0]
    mild, bad = (run({0: parse(f"proprio:drift({severity})@2")})[0] for severity in (0.5, 1))
    assert same(log[:7], mild[:7], ("proprio",)) and same(log[7:], bad[7:], ("proprio",))
    late = run({0: parse("rgb:latency(1, seconds=0.2)@2"), 8: parse("rgb:latency(0.5, seconds=0.2)@2")})[0]
    healthy = run({0: Plan()})[0]
    assert torch.equal(late[9]["rgb"], healthy[7]["rgb"]) and torch.equal(late[8]["rgb"], healthy[4]["rgb"])


def test_the_next_episode_breaks_as_at_first_and_other_environments_are_left_alone():
    plain, noise = parse("depth:noise@2"), parse("rgb:noise@4+rgb:freeze@9")
    kept, changed = run({0: plain}, episodes=2), run({0: plain, 3: noise}, changing=slice(0, 1), episodes=1)[0]
    keys = ("rgb", "depth", "proprio", "force")
    for step, now in enumerate(changed):
        for key in keys:
            assert torch.equal(now[key][1:], kept[0][step][key][1:])
        assert now["affected"][0].tolist() == [2 <= step < 4, False, False, step >= 4]
    injector = Injector(plain, SENSORS, 1, 3, 0.05)
    injector.start(torch.arange(1), torch.arange(1))
    injector.change(torch.arange(1), [noise])
    injector.start(torch.arange(1), torch.arange(1) + 10)
    for step in range(STEPS):
        if step:
            injector.step()
        arrived, _ = injector.apply(readings(step + 1000, 1))
        assert all(torch.equal(arrived[key][0], kept[1][step][key][0]) for key in keys)
