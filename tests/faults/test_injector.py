"""When faults are there, and what they do to readings."""

from dataclasses import dataclass
from typing import ClassVar

import pytest
import torch
from breaking import SENSORS, STEPS, play, readings

from robofuse.faults import Fault, FaultEvent, Injector, Plan
from robofuse.sensors import Sensor


def parse(text):
    return Plan.parse(text, SENSORS)


def affected(text, n=200):
    """Where a fault of proprio is seen, or told of, bool (steps, n); there is no other sensor."""
    proprio = tuple(sensor for sensor in SENSORS if sensor.key == "proprio")
    injector, seen = Injector(Plan.parse(text, proprio), proprio, n, 3, 0.05), []
    injector.start(torch.arange(n), torch.arange(n))
    for step in range(STEPS):
        if step:
            injector.step()
        healthy = torch.full((n, 6), 0.5)
        arrived, told = injector.apply({"proprio": healthy})
        seen.append((arrived["proprio"] != healthy).any(1) | (told[:, 0] == 0))
    return torch.stack(seen)


def test_when():
    assert affected("proprio:offset").all()
    hit = affected("proprio:offset@4 for 3")
    assert hit[4:7].all() and not hit[:4].any() and not hit[7:].any()
    first = affected("proprio:offset@2..5").float().argmax(0)
    assert sorted(set(first.tolist())) == [2, 3, 4, 5]
    assert all(30 < (first == step).sum() < 70 for step in (2, 3, 4, 5))


def test_bursts_have_their_share_and_length():
    hit = affected("proprio:offset@0 in 3~6", n=2000)
    assert hit.float().mean() == pytest.approx(1 / 3, abs=0.03)
    ends, inside = (hit[:-1] & ~hit[1:]).sum(), hit[:-1].sum()
    assert float(inside / ends) == pytest.approx(3.0, abs=0.3)
    assert affected("proprio:intermittent(0.5)", n=2000).float().mean() == pytest.approx(0.45, abs=0.03)


def test_phases_are_waited_for():
    injector = Injector(parse("proprio:offset@contact/2"), SENSORS, 3, 0, 0.05, ("reach", "contact"))
    injector.start(torch.arange(3), torch.arange(3))
    phases = [[0, 0, 0], [0, 1, 0], [0, 1, 0], [0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 0, 0]]
    for step, phase in enumerate(phases):
        if step:
            injector.step()
        healthy = readings(step, 3)
        arrived, _ = injector.apply(healthy, phase=torch.tensor(phase))
        hit = (arrived["proprio"] != healthy["proprio"]).any(1).tolist()
        assert hit == [step >= 6, step >= 3, False]
    with pytest.raises(ValueError, match="'contact'.*phases: none"):
        Injector(parse("proprio:offset@contact"), SENSORS, 3, 0, 0.05)


@pytest.mark.parametrize("mark", ["!", "?", ""])
@pytest.mark.parametrize(("fault", "usual"), [("blackout", True), ("noise", False)])
def test_announced_or_not(fault, usual, mark):
    log = play(parse(f"rgb:{fault}@3{mark}"))
    expected = {"!": True, "?": False, "": usual}[mark]
    assert [bool((told[:, 3] == 0).all()) for _, _, told in log] == [expected and step >= 3 for step in range(STEPS)]


def test_what_is_hidden_already_is_left_alone():
    injector = Injector(parse("proprio:offset"), SENSORS, 4, 0, 0.05)
    injector.start(torch.arange(4), torch.arange(4))
    healthy, live = readings(0, 4), torch.ones(4, 4, dtype=torch.bool)
    live[1, 2] = False
    arrived, _ = injector.apply(healthy, live=live)
    assert (arrived["proprio"] != healthy["proprio"]).any(1).tolist() == [True, False, True, True]


def test_units():
    for healthy, arrived, _ in play(parse("force:bias(1, force=0, torque=0.1)")):
        change = arrived["force"] - healthy["force"]
        torch.testing.assert_close(change[..., 3:6].abs(), torch.full_like(change[..., 3:6], 0.1), atol=1e-5, rtol=0)
        assert not change[..., :3].any() and not change[..., 6:].any()
    for step, (healthy, arrived, _) in enumerate(play(parse("force:drift(0.5, force=2, torque=0)"))):
        newest = (arrived["force"] - healthy["force"])[:, -1, :3].abs()
        torch.testing.assert_close(newest, torch.full_like(newest, 0.5 * 2 * 0.05 * (step + 1)), atol=1e-4, rtol=0)
    for step, (_, arrived, _) in enumerate(log := play(parse("proprio:latency(1, seconds=0.2)"))):
        assert torch.equal(arrived["proprio"], log[max(step - 4, 0)][0]["proprio"])
    for step, (_, arrived, _) in enumerate(log := play(parse("depth:slow(0.2, seconds=1)@2"))):
        assert torch.equal(arrived["depth"], log[step if step < 2 else 2 + (step - 2) // 4 * 4][0]["depth"])
    for step, (_, arrived, _) in enumerate(log := play(parse("rgb:freeze@3 for 4"))):
        assert torch.equal(arrived["rgb"], log[2 if 3 <= step < 7 else step][0]["rgb"])
    for healthy, arrived, _ in play(parse("rgb:overexposure(1, stops=1)")):
        assert torch.equal(arrived["rgb"], (healthy["rgb"].int() * 2).clamp(max=255).to(torch.uint8))
    for healthy, arrived, _ in play(parse("depth:scale(0.5, share=0.2)")):
        ratio = arrived["depth"].float() / healthy["depth"].float()
        assert ((ratio - 1).abs() - 0.1).abs().max() < 2e-3
    spread = [
        (a["depth"].float() - h["depth"].float()) / h["depth"].float() ** 2 * 1e3
        for h, a, _ in play(parse("depth:noise"))
    ]
    assert torch.stack(spread).std() == pytest.approx(0.1, rel=0.03)


def test_faults_change_readings_in_the_order_of_the_plan():
    log = play(parse("proprio:offset+proprio:latency(1, seconds=0.1)"))
    for step, (_, arrived, _) in enumerate(log):
        late = max(step - 2, 0)
        moved = [x["proprio"] - log[t][0]["proprio"] for x, t in ((arrived, late), (log[0][1], 0))]
        torch.testing.assert_close(moved[0], moved[1], atol=1e-5, rtol=0)
        assert moved[0].abs().amin(1).max() > 0.01
    log = play(parse("rgb:freeze@5+rgb:latency(0.2, seconds=0.5)"))
    assert torch.equal(log[-1][1]["rgb"], log[4][0]["rgb"])  # a frozen camera does not thaw


def test_intermittent_reaches_its_share():
    assert affected("proprio:intermittent", n=2000).float().mean() == pytest.approx(0.9, abs=0.02)
    assert not play(parse("proprio:intermittent(0)+proprio:noise(0)"))[0][2].eq(0).any()


def test_large_images():
    sensor = Sensor("rgb", "rgb", (600, 600, 3), "uint8", "", 255.0, 20.0)
    injector = Injector(Plan.parse("rgb:noise(0.3)", (sensor,)), (sensor,), 2, 0, 0.05)
    injector.start(torch.arange(2), torch.arange(2))
    grey = torch.full((2, 600, 600, 3), 128, dtype=torch.uint8)
    spread = (injector.apply({"rgb": grey})[0]["rgb"].float() - 128.0).flatten(1)
    assert spread.std() == pytest.approx(0.09 * 255, rel=0.02)
    lines = spread.reshape(1200, -1)
    alike = torch.corrcoef(lines[::7])
    assert alike.fill_diagonal_(0).abs().max() < 0.2


def test_stale_is_the_episode_before():
    log = play(parse("rgb:stale"), episodes=2)
    for step in range(STEPS):
        assert torch.equal(log[step][1]["rgb"], log[0][0]["rgb"])  # nothing else is known
        assert torch.equal(log[STEPS + step][1]["rgb"], log[step][0]["rgb"])


def test_a_fault_that_changes_shapes_is_told_by_name():
    @dataclass(frozen=True)
    class Cropped(Fault):
        name: ClassVar[str] = "cropped"

        def apply(self, reading, moment):
            return reading[:, 1:]

    proprio = tuple(sensor for sensor in SENSORS if sensor.key == "proprio")
    injector = Injector(Plan((FaultEvent("proprio", Cropped()),)), proprio, 2, 0, 0.05)
    injector.start(torch.arange(2), torch.arange(2))
    size = proprio[0].shape[0]
    with pytest.raises(ValueError, match=rf"proprio:cropped .*\(2, {size - 1}\).*\(2, {size}\)"):
        injector.apply({"proprio": torch.zeros(2, size)})


def test_environments_with_plans_of_their_own_are_as_if_alone():
    plans = [parse("proprio:drift"), Plan(), parse("proprio:noise(0.5)@1+proprio:drift"), parse("rgb:freeze@1")]

    def play(plans):
        injector, seen = Injector(Plan(), SENSORS, len(plans), 4, 0.05), []
        numbers = torch.arange(len(plans))
        injector.start(numbers, torch.zeros_like(numbers), plans)
        for step in range(4):
            if step:
                injector.step()
            reading = {sensor.key: torch.full((len(plans), *sensor.shape), step + 1).float() for sensor in SENSORS}
            reading = {s.key: reading[s.key].int().to(getattr(torch, s.dtype)) for s in SENSORS}
            seen.append(injector.apply(reading)[0])
        return seen

    together = play(plans)
    for row, plan in enumerate(plans):
        for alone, all_ in zip(play([plan]), together, strict=True):
            assert all(torch.equal(alone[key][0], all_[key][row]) for key in alone)
