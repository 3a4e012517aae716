"""Every fault of the catalogue, through the injector."""

import numpy as np
import pytest
import torch
from breaking import SENSORS, STEPS, play

from robofuse.faults import FaultEvent, Injector, Plan, faults_for

BY_KIND = {sensor.kind: sensor for sensor in SENSORS}
EVERY = [(kind, name) for kind in BY_KIND for name, fault in faults_for(kind).items() if not fault.moves_camera]


def one(kind, name, severity, **when):
    return Plan((FaultEvent(BY_KIND[kind].key, faults_for(kind)[name](severity), **when),))


def apart(a, b):
    x, y = a.double(), b.double()
    return float(torch.where(x.isfinite() & y.isfinite(), (x - y).abs(), 1000.0).mean())


@pytest.mark.parametrize(("kind", "name"), EVERY)
def test_it_reaches_its_sensor_and_no_other(kind, name):
    key, episodes = BY_KIND[kind].key, 2 if name == "stale" else 1
    log, changed = play(one(kind, name, 1.0, step=4), episodes=episodes), 0.0
    for index, (healthy, arrived, told) in enumerate(log):
        step = index % STEPS
        for other, x in arrived.items():
            assert x.shape == healthy[other].shape and x.dtype == healthy[other].dtype
            if other != key or step < 4:
                assert torch.equal(x, healthy[other])
        if step >= 4:
            changed += apart(arrived[key], healthy[key])
        silent = step >= 4 and name == "blackout"
        assert bool((told[:, [s.key for s in SENSORS].index(key)] == 0).all()) == silent or name == "intermittent"
        assert (told.sum(1) >= 3).all()
    assert changed > 0.0


@pytest.mark.parametrize(("kind", "name"), EVERY)
def test_severity_zero_is_nothing_and_more_is_worse(kind, name):
    key, means = BY_KIND[kind].key, []
    for severity in (0.0, 0.25, 0.5, 1.0):
        log = play(one(kind, name, severity), n=12, episodes=2 if name == "stale" else 1)[-STEPS:]
        means.append(np.mean([apart(arrived[key], healthy[key]) for healthy, arrived, _ in log]))
        if severity == 0.0:
            assert all(torch.equal(arrived[key], healthy[key]) for healthy, arrived, _ in log)
    assert means[0] == 0.0 and means[1] > 0.0
    if name == "blackout" or (name == "freeze" and kind in ("rgb", "depth")):
        assert means[1] == means[2] == means[3]
    else:
        assert means[1] <= means[2] * 1.02 and means[2] <= means[3] * 1.02 and means[3] > means[1] * 1.1, means


@pytest.mark.parametrize(("kind", "name"), EVERY)
def test_it_depends_on_seed_and_episode_alone(kind, name):
    if name == "stale":
        return
    plan = one(kind, name, 0.7, step=2)
    many, few, other = play(plan, n=5), play(plan, n=2, first=3), play(plan, n=5, seed=4)
    key, differs = BY_KIND[kind].key, False
    for (_, a, told), (_, b, told_b), (_, c, _) in zip(many, few, other, strict=True):
        same = a[key][3:].double().nan_to_num(7.0), b[key].double().nan_to_num(7.0)
        torch.testing.assert_close(*same, rtol=1e-6, atol=1e-6 if kind in ("vector", "window") else 1.0)
        assert torch.equal(told[3:], told_b)
        differs |= not torch.equal(a[key], c[key])
    fixed = {"blackout", "freeze", "latency", "slow", "saturation", "quantisation", "cutoff", "compression", "defocus"}
    assert differs != (name in fixed | {"overexposure", "underexposure"})


def test_holes_come_as_often_at_the_border_as_within():
    sensor = BY_KIND["depth"]
    injector = Injector(Plan.parse("depth:holes(0.6)", (sensor,)), (sensor,), 600, 1, 0.05)
    injector.start(torch.arange(600), torch.arange(600))
    flat = torch.full((600, *sensor.shape), 1000, dtype=torch.int32).to(torch.uint16)
    gone = (injector.apply({"depth": flat})[0]["depth"].int() == 0).float().mean(0)[..., 0]
    inner = gone[3:-3, 3:-3].mean()
    border = torch.cat([gone[0], gone[-1], gone[:, 0], gone[:, -1]]).mean()
    assert inner == pytest.approx(0.3, abs=0.02)  # 0.6 of the share of 0.5
    assert border == pytest.approx(float(inner), abs=0.02)
