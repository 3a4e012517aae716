"""The monitor on made-up sensors: every check, recovery, files; and, slow, on the policy that comes along."""

import json
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import save_file

from robofuse.dropout import mask_sensors
from robofuse.envs import Step, World
from robofuse.files import write_tensors as write
from robofuse.monitor import CHECKS, Monitor, MonitoredPolicy, calibrate
from robofuse.monitor.features import filled_after, measure
from robofuse.monitor.health import health_tensors
from robofuse.monitor.monitor import MOST, PATIENCE
from robofuse.policies import load
from robofuse.sensors import AVAILABLE, Sensor
from robofuse.tensors import take

RGB = Sensor("camera", "rgb", (24, 24, 3), "uint8", "sRGB", 255.0, 20.0)
DEPTH = Sensor("depth", "depth", (24, 24, 1), "uint16", "mm", 1000.0, 20.0)
FORCE = Sensor("force", "window", (8, 4), "float32", "N", 10.0, 20.0, sample_rate=160.0)
JOINTS = Sensor("joints", "vector", (5,), "float32", "rad", 1.0, 20.0)
SENSORS = (RGB, DEPTH, FORCE, JOINTS)
KEYS = [sensor.key for sensor in SENSORS]
STEPS = 40


class Place:
    """Stands in for a World: a dot that two cameras see moves around, joints say where, and force how fast."""

    def __init__(self, num=16, slow=()):
        self.num_envs, self.sensors, self.auto_reset, self.max_steps = num, SENSORS, False, STEPS
        self.backend, self.affected = SimpleNamespace(device="cpu"), torch.zeros(num, len(SENSORS), dtype=torch.bool)
        self._seed = 0
        self._slow = slow  # sensors that deliver every second step

    def reset(self, seed=None):
        self._seed = self._seed if seed is None else seed
        self._random = torch.Generator().manual_seed(self._seed)
        self.episode, self.elapsed = torch.arange(self.num_envs), torch.zeros(self.num_envs, dtype=torch.int64)
        self._phase, self._rate = self._draw(2, 2)
        self._held = {}
        return self._read()

    def restart(self, env_ids, episodes, plans):
        self.elapsed, self.episode = self.elapsed.clone(), self.episode.clone()
        self.elapsed[env_ids], self.episode[env_ids] = 0, torch.tensor(episodes)
        phase, rate = self._draw(2, 2)
        self._phase[env_ids], self._rate[env_ids] = phase[env_ids], rate[env_ids]
        return {key: take(x, env_ids) for key, x in self._read().items()}

    def step(self, action):
        assert action.shape == (self.num_envs, 2)
        self.elapsed = self.elapsed + 1
        over, episode = self.elapsed == STEPS, self.episode
        observation = self._read()
        none = torch.zeros(self.num_envs, dtype=torch.bool)
        zero = torch.zeros(self.num_envs)
        return Step(observation, zero, none, over, none, {}, over, observation, episode, zero.long(), zero)

    def _draw(self, *shape):
        return torch.rand(shape[0], self.num_envs, shape[1], generator=self._random)

    def _noise(self, *shape):
        return torch.randn(self.num_envs, *shape, generator=self._random)

    def _read(self):
        angle = 6.3 * self._phase + (0.1 + 0.1 * self._rate) * self.elapsed[:, None]
        at, speed = 0.5 + 0.35 * angle.sin(), (0.1 + 0.1 * self._rate) * 0.35 * angle.cos()
        axis = torch.linspace(0, 1, 24)
        dot = torch.exp(-40 * ((axis[None, :, None] - at[:, 1, None, None]) ** 2 + (axis - at[:, :1, None]) ** 2))
        colour = 40 + 30 * axis[None, None, :, None] + 120 * dot[..., None] * torch.tensor([1.0, 0.6, 0.3])
        range_mm = 900 + 100 * axis[None, :, None, None] - 200 * dot[..., None]
        elements = torch.cat([at, speed, at.sum(1, keepdim=True)], dim=1)
        pull = torch.cat([20 * speed, 5 * at - 2.5], dim=1)[:, None].expand(-1, 8, -1)
        force = pull + 0.05 * self._noise(8, 4)
        force[..., -1].clamp_(min=0.0)
        observation = {
            "camera": (colour + 2 * self._noise(24, 24, 3)).clamp(0, 255).round().to(torch.uint8),
            "depth": (range_mm + 1.5 * self._noise(24, 24, 1)).round().int().to(torch.int16).view(torch.uint16),
            "force": force,
            "joints": elements + 1e-3 * self._noise(5),
        }
        for key in self._slow:
            old = self._held.get(key, observation[key])
            late = (self.elapsed % 2 == 1).reshape(-1, *[1] * (old.ndim - 1))
            self._held[key] = observation[key] = torch.where(late, old, observation[key])
        return {**observation, AVAILABLE: torch.ones(self.num_envs, len(SENSORS), dtype=torch.int8)}


class Still:
    """A policy that reads nothing, but looks at what it is given."""

    seen = None

    def act(self, observation):
        self.seen = observation
        return torch.zeros(len(observation[AVAILABLE]), 2)


@pytest.fixture(scope="module")
def monitor():
    return calibrate(Still(), Place(), episodes=96, false_alarms=2e-3, seed=1)


def play(monitor, breaks=None, steps=30, seed=77, num=16):
    """Verdicts (steps, N, M); `breaks(step, observation)` changes readings."""
    place, watch = Place(num), monitor.stateful(num)
    observation, verdicts = place.reset(seed), []
    for step in range(steps):
        if breaks:
            breaks(step, observation)
        verdicts.append(watch.step(observation))
        observation = place.step(torch.zeros(num, 2)).observation
    return torch.stack(verdicts)


def test_healthy_sensors_of_other_episodes_keep_their_trust(monitor):
    verdicts = play(monitor, steps=STEPS - 1, num=48)
    lost = ((verdicts[:-1] == 1) & (verdicts[1:] == 0)).sum()
    assert lost <= 2 * 2e-3 * (STEPS - 1) * 48  # twice the target: luck
    assert verdicts.float().mean() > 0.99
    held_out = monitor.card["held_out"]
    assert sum(held_out["false_alarms"].values()) <= max(2, 2 * 2e-3 * held_out["steps"])


def zero(x, state):
    return torch.zeros(x.shape).to(x.dtype)


def frozen(x, state):
    return state.setdefault("held", x)


def with_nan(x, state):
    x = x.clone()
    x.view(len(x), -1)[:, 1] = torch.nan
    return x


def with_infinity(x, state):
    x = x.clone()
    x.view(len(x), -1)[:, -1] = -torch.inf
    return x


def far(x, state):
    x = x.clone()
    x.view(len(x), -1)[:, 0] += 30.0
    return x


def below_its_stop(x, state):
    x = x.clone()
    x[:, 3, -1] = -0.01
    return x


def grainy(x, state):
    grain = 40 * torch.randn(x.shape, generator=torch.Generator().manual_seed(3))
    return (x.float() + grain).clamp(0, 255).to(x.dtype)


def half_stuck(x, state):
    held = state.setdefault("held", x.clone())
    return torch.cat([held[:, :2], x[:, 2:]], dim=1)


def of_another_environment(x, state):
    return (x.view(torch.int16).roll(1, 0).view(torch.uint16)) if x.dtype == torch.uint16 else x.roll(1, 0)


@pytest.mark.parametrize(
    ("key", "fault", "check", "within"),
    [(key, zero, "broken", 0) for key in KEYS]
    + [(key, frozen, "broken", 1) for key in KEYS]
    + [
        ("joints", with_nan, "broken", 0),
        ("force", with_infinity, "broken", 0),
        ("force", below_its_stop, "broken", 0),
        ("joints", far, "range", 0),
        ("camera", grainy, "texture", 2),
        ("joints", half_stuck, "repeats", 1),
        ("depth", of_another_environment, "others", 4),
        ("joints", of_another_environment, "others", 4),
    ],
)
def test_each_check_finds_what_it_is_for(monitor, key, fault, check, within):
    place, watch, state = Place(), monitor.stateful(16), {}
    m, observation, begin = KEYS.index(key), place.reset(7), 0 if check == "others" else 10
    for step in range(begin + within + 1):
        if step >= begin:
            observation[key] = fault(observation[key], state)
        verdict = watch.step(observation)
        if step == begin - 1:
            assert verdict.all()
        observation = place.step(torch.zeros(16, 2)).observation
    found = verdict[:, m] == 0
    assert found.float().mean() >= 0.8
    if check == "broken":
        assert found.all() and watch.broken[:, m].all()
    elif check != "others":
        assert (watch.level[found, m, CHECKS.index(check)] > monitor.limit).all()
    else:
        assert not watch.broken.any()
        assert (watch.level[found, m, :-1].amax(1) < watch.level[found, m, -1]).float().mean() > 0.5
    healthy = torch.arange(len(KEYS)) != m
    assert (verdict[:, healthy] == 0).float().mean() < 0.1


def test_what_recovers_is_trusted_again_after_a_while(monitor):
    def breaks(step, observation):
        if 5 <= step < 8:
            observation["joints"] = torch.full_like(observation["joints"], torch.nan)

    trusted = play(monitor, breaks)[:, :, KEYS.index("joints")]
    assert trusted[:5].all() and not trusted[5 : 8 + PATIENCE - 1].any()
    back = 5 + trusted[5:].argmax(0)
    assert (back <= 8 + PATIENCE + 3).float().mean() > 0.8


def test_patience_grows_with_every_relapse(monitor):
    watch = monitor.stateful(1)
    sound, broken = (torch.zeros(1, 4, dtype=torch.bool) for _ in range(2))
    broken[0, 3] = True
    live, old = ~sound, watch.trusted
    rows = torch.tensor([0])

    def steps_until_back():
        watch._settle(rows, live, watch.trusted[rows], broken)
        count = 0
        while not watch.trusted[0, 3]:
            watch._settle(rows, live, watch.trusted[rows], sound)
            count += 1
        return count

    assert old.all() and [steps_until_back() for _ in range(3)] == [PATIENCE, 2 * PATIENCE, 4 * PATIENCE]


def test_environments_do_not_know_of_each_other(monitor):
    def breaks(step, observation):
        if step >= 6:
            observation["depth"] = observation["depth"].clone()
            observation["depth"].view(torch.int16)[3] = 0

    broken, healthy = play(monitor, breaks), play(monitor)
    others = torch.arange(16) != 3
    assert torch.equal(broken[:, others], healthy[:, others])
    assert not broken[6:, 3, KEYS.index("depth")].any()


def test_rows_may_come_apart(monitor):
    place, whole, parts = Place(6), monitor.stateful(6), monitor.stateful(6)
    observation = place.reset(5)
    for _ in range(5):
        expected, verdict = whole.step(observation), torch.zeros(6, 4, dtype=torch.int8)
        for rows in (torch.tensor([4, 1]), torch.tensor([0, 2, 3, 5])):
            part = {
                key: x.view(torch.int16)[rows].view(torch.uint16) if x.dtype == torch.uint16 else x[rows]
                for key, x in observation.items()
            }
            verdict[rows] = parts.step(part, rows)
        assert torch.equal(verdict, expected)
        assert torch.allclose(parts.level, whole.level, atol=1e-3)
        observation = place.step(torch.zeros(6, 2)).observation


def test_a_new_episode_forgets(monitor):
    place, watch = Place(4), monitor.stateful(4)
    observation = place.reset(9)
    watch.step({**observation, "joints": torch.full((4, 5), torch.nan)})
    watch.start(torch.tensor([1, 2]))
    # the same readings again: in environments that go on they are frozen
    verdict = watch.step(observation)
    assert verdict[[1, 2]].all() and not verdict[[0, 3]].all(1).any()


def test_what_is_hidden_is_not_judged(monitor):
    place, watch = Place(4), monitor.stateful(4)
    observation = place.reset(9)
    for step in range(12):
        given = dict(observation)
        if 3 <= step < 8:
            live = torch.ones(4, 4, dtype=torch.int8)
            live[:, 3] = 0
            given = mask_sensors({**given, "joints": torch.full((4, 5), torch.nan)}, live, KEYS)
        verdict = watch.step(given)
        assert (verdict[:, 3] == (0 if 3 <= step < 8 else 1)).all()
        observation = place.step(torch.zeros(4, 2)).observation


@pytest.mark.slow
def test_a_sensor_that_delivers_seldom_may_repeat_itself():
    place = Place(slow=("camera", "joints"))
    monitor = calibrate(Still(), place, episodes=48, false_alarms=5e-3, seed=2)
    assert [int(health.longest) for health in monitor.healths] == [2, 0, 0, 2]
    watch, observation = monitor.stateful(16), place.reset(4)
    held = []
    for step in range(12):
        held.append(observation["joints"])
        verdict = watch.step({**observation, "joints": held[min(step, 6)]})
        if step <= 6:
            assert verdict[:, 3].float().mean() > 0.9
        observation = place.step(torch.zeros(16, 2)).observation
    # for two steps nobody could tell which of them lagged behind
    assert not verdict[:, 3].any() and verdict[:, 0].float().mean() > 0.6


def test_windows_are_not_judged_before_they_are_filled():
    assert filled_after(replace(FORCE, shape=(20, 4))) == 3 and filled_after(FORCE) == 1 and filled_after(RGB) == 0
    x = torch.randn(2, 1, 4).expand(-1, 8, -1)
    young = torch.tensor([True, False])
    measured, _ = measure(x, torch.full((2, 8, 4), torch.nan), FORCE, young)
    assert measured.features.isnan().all(1).tolist() == [True, False]


def test_the_policy_sees_what_is_trusted(monitor):
    place, still = Place(3), Still()
    policy, observation = MonitoredPolicy(still, monitor), place.reset(1)
    observation["joints"] = torch.full((3, 5), torch.inf)
    assert policy.act(observation).shape == (3, 2)
    assert still.seen[AVAILABLE].tolist() == [[1, 1, 1, 0]] * 3 == policy.available.tolist()
    assert not still.seen["joints"].any()
    policy.start(torch.arange(3))
    policy.act(place.step(torch.zeros(3, 2)).observation)
    assert still.seen[AVAILABLE].all()
    with pytest.raises(ValueError, match="watches 3 environments, got 2"):
        policy.act(Place(2).reset(1))


def test_files_keep_every_verdict(monitor, tmp_path):
    again = Monitor.load(monitor.save(tmp_path / "one.safetensors"))
    assert again.card == json.loads(json.dumps(monitor.card)) and again.sensors == monitor.sensors
    for one, other in zip(health_tensors(monitor.healths).items(), health_tensors(again.healths).items(), strict=True):
        assert one[0] == other[0] and torch.equal(one[1], other[1])
    place, watches = Place(4), (monitor.stateful(4), again.stateful(4))
    observation = place.reset(8)
    for _ in range(4):
        first, second = (watch.step(observation) for watch in watches)
        assert torch.equal(first, second) and torch.allclose(watches[0].level, watches[1].level, atol=1e-4)
        observation = place.step(torch.zeros(4, 2)).observation


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t, m: m.update(kind="policy"), "is no monitor"),
        (lambda t, m: m.update(sensors=[{"key": "a"}]), "does not describe a monitor"),
        (lambda t, m: m.update(sensors=m["sensors"] * 5), "length <= 6"),
        (lambda t, m: m.update(limit="high"), "does not describe a monitor"),
        (lambda t, m: t.pop("tails.own"), "tails.own must be floats"),
        (lambda t, m: t.pop("health.2.mean"), "lacks the statistics of sensor 2"),
        (lambda t, m: t.update({"health.1.white": torch.zeros(3, 3)}), r"health.1.white must be floats of shape"),
        (lambda t, m: t.update({"peers.moments": torch.full_like(t["peers.moments"], torch.nan)}), "is not finite"),
    ],
)
def test_files_of_strangers_are_refused(monitor, tmp_path, change, message):
    from robofuse.files import read_tensors as read

    tensors, meta = read(monitor.save(tmp_path / "good.safetensors"))
    change(tensors, meta)
    meta.pop("format")
    with pytest.raises(ValueError, match=message):
        Monitor.load(write(tmp_path / "bad.safetensors", tensors, meta))


def test_other_files_are_refused(tmp_path):
    save_file({"a": torch.zeros(2)}, tmp_path / "other.safetensors")
    with pytest.raises(ValueError, match="robofuse did not write it"):
        Monitor.load(tmp_path / "other.safetensors")
    torch.save({"a": 1}, tmp_path / "pickle.safetensors")
    with pytest.raises(ValueError, match="pickle"):
        Monitor.load(tmp_path / "pickle.safetensors")


def test_mistakes_are_named(monitor):
    watch, observation = monitor.stateful(4), Place(4).reset(1)
    with pytest.raises(ValueError, match="watches the sensor 'depth'"):
        watch.step({key: x for key, x in observation.items() if key != "depth"})
    with pytest.raises(ValueError, match="'joints' must have shape"):
        watch.step({**observation, "joints": torch.zeros(4, 6)})
    with pytest.raises(ValueError, match="available must have shape"):
        watch.step({**observation, AVAILABLE: torch.ones(4, 3)})
    place = Place()
    with pytest.raises(ValueError, match="false_alarms must lie between"):
        calibrate(Still(), place, episodes=16, false_alarms=0.0)
    with pytest.raises(ValueError, match="episodes must be an integer"):
        calibrate(Still(), place, episodes=3)
    place.sensors = tuple(replace(JOINTS, key=f"joints{i}") for i in range(MOST + 1))
    with pytest.raises(ValueError, match=f"up to {MOST} sensors"):
        calibrate(Still(), place, episodes=16)
    place = Place()
    place.auto_reset = True
    with pytest.raises(ValueError, match="auto_reset=False"):
        calibrate(Still(), place, episodes=16)


@pytest.mark.slow
def test_the_policy_that_comes_along_is_looked_after(needs_gl):
    from robofuse.play import load_trained, make_world

    needs_gl()
    trained = load_trained("grasp", device="cpu")
    world = make_world(trained, 32, 0)
    monitor = calibrate(trained.policy, world)
    assert tuple(sensor.key for sensor in load("grasp").sensors) == monitor.keys
    policy, onset, options = MonitoredPolicy(trained.policy, monitor), 15, trained.options

    def run(faults, num, steps):
        """Whom the policy trusts after each step, and which episodes go on: bool (T, N, 4), (T, N)."""
        place = World(num_envs=num, seed=4_000_000, auto_reset=False, **{**options, "faults": faults})
        policy.watch, observation, going = None, place.reset(), torch.ones(num, dtype=torch.bool)
        trusted, running = [], []
        for _ in range(steps):
            action = policy.act(observation)
            trusted.append(policy.available > 0)
            running.append(going.clone())
            result = place.step(action)
            going[result.ended] = False
            observation = result.observation
        place.close()
        return torch.stack(trusted), torch.stack(running)

    trusted, going = run(None, 100, 30)
    lost = (trusted[:-1] & ~trusted[1:])[going[1:]].sum() + (~trusted[0]).sum()
    assert lost <= 2 * 1e-3 * going.sum()  # twice the target: luck
    for fault in ("blackout", "freeze"):
        for m, key in enumerate(monitor.keys):
            trusted, going = run(f"{key}:{fault}@{onset}?", 20, onset + 3)
            assert going[-1].any() and (~trusted[-1, going[-1], m]).float().mean() >= 0.95, (key, fault)
    world.close()
