"""Every fault of the catalogue, through the injector."""

from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from breaking import SENSORS, STEPS, play, readings

from robofuse.errors import InputError
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


OWN_NUMBERS = [
    (kind, name, field)
    for kind, name in EVERY + [("rgb", "knocked")]
    for field in fields(faults_for(kind)[name])
    if field.name != "severity"
]


@pytest.mark.parametrize(("kind", "name", "field"), OWN_NUMBERS, ids=lambda x: getattr(x, "name", x))
def test_every_number_has_a_range_and_works_at_its_ends(kind, name, field):
    fault, (low, high) = faults_for(kind)[name], field.metadata["range"]
    assert low <= field.default <= high and np.isfinite([low, high]).all()
    for value in (low - abs(low) / 2 - 1e-3, high * 2, float("inf")):
        with pytest.raises(InputError, match=f"{field.name} of {name} must "):
            fault(**{field.name: value})
    sensor = BY_KIND[kind]
    for value in (low, high):
        event = FaultEvent(sensor.key, fault(**{field.name: value}))
        for _, arrived, _ in () if fault.moves_camera else play(Plan((event,)), n=2):
            assert arrived[sensor.key].float().isfinite().all()


@pytest.mark.parametrize("frames", [1, 2, 4])
@pytest.mark.parametrize("first", [False, True])
@pytest.mark.parametrize(("kind", "name"), [(kind, name) for kind, name in EVERY if kind in ("rgb", "depth")])
def test_stacked_pictures_are_broken_one_by_one(kind, name, frames, first):
    """Each picture of a stack is broken as it is alone, in either order of the axes."""
    if faults_for(kind)[name].recalls or name == "holes":  # looks at the colours of the same camera, where it has them
        return
    healthy = [readings(step, 2)[kind] for step in range(frames)]
    single = [broken_by(kind, name, picture) for picture in healthy]
    stack, expected = torch.cat([x.int() for x in healthy], 3), torch.cat([x.int() for x in single], 3)
    stack = stack.to(healthy[0].dtype)
    if first:
        stack, expected = stack.permute(0, 3, 1, 2).contiguous(), expected.permute(0, 3, 1, 2)
    assert torch.equal(broken_by(kind, name, stack).int(), expected)


def broken_by(kind, name, pictures):
    sensor = replace(BY_KIND[kind], shape=tuple(pictures.shape[1:]))
    injector = Injector(one(kind, name, 0.7), (sensor,), len(pictures), 3, 0.05)
    injector.start(torch.arange(len(pictures)), torch.arange(len(pictures)))
    return injector.apply({kind: pictures})[0][kind]


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_transparency_and_other_channels(dtype):
    sensor = replace(BY_KIND["rgb"], shape=(24, 28, 4), dtype=dtype)
    for channels in (2, 4, 5):
        sensor = replace(sensor, shape=(24, 28, channels))
        injector = Injector(one("rgb", "overexposure", 1.0), (sensor,), 1, 3, 0.05)
        injector.start(torch.arange(1), torch.arange(1))
        dim = torch.full((1, 24, 28, channels), 10).to(getattr(torch, dtype))
        bright = injector.apply({"rgb": dim})[0]["rgb"][0, 0, 0].round().tolist()
        assert bright == [80] * 3 + [10] if channels == 4 else bright == [80] * channels
