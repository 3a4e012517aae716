"""A policy on a robot: no torch, sensors that go stale, bad input, bad files."""

import json
import subprocess
import sys
import threading
import time
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from exporting import MASKS, PROPRIO, SENSORS, make, observe
from hypothesis import given, settings
from hypothesis import strategies as st

from robofuse.deploy import Blind, OutOfOrder, Policy, Status
from robofuse.deploy.model import describe, seal
from robofuse.deploy.watchdog import Watchdog
from robofuse.errors import InputError
from robofuse.export.agents import Hints
from robofuse.export.make import exported
from robofuse.policies.saving import save

ROOT = Path(__file__).parents[2]
KEYS = tuple(sensor.key for sensor in SENSORS)


@pytest.fixture(scope="module")
def data():
    return exported(make()).data


@pytest.fixture
def policy(data):
    return Policy(data)


def feed(policy, stamp, *keys):
    for key in keys or KEYS:
        policy.feed(key, observe()[key], stamp)


def expected(policy, *live):
    return policy(observe() | {"available": [key in live for key in policy.keys]})


ALONE = """
import sys
class Only:
    # of what is not in the standard library, this and nothing else
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top not in {"robofuse", "numpy", "onnxruntime", *sys.stdlib_module_names}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Only())
import numpy as np
from robofuse.deploy import Policy
policy = Policy(sys.argv[1])
readings = np.load(sys.argv[2])
for key in readings:
    policy.feed(key, readings[key], 5.0)
print(policy.act(5.01).tolist())
for name in ("torch", "gymnasium", "mujoco", "stable_baselines3", "safetensors", "onnx", "scipy"):
    assert name not in sys.modules, name
"""


def test_it_runs_where_there_is_nothing_but_numpy_and_onnxruntime(data, policy, tmp_path):
    (tmp_path / "one.onnx").write_bytes(data)
    np.savez(tmp_path / "readings.npz", **observe())
    command = [sys.executable, "-c", ALONE, str(tmp_path / "one.onnx"), str(tmp_path / "readings.npz")]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.stderr == "" and done.stdout.strip() == str(policy(observe()).tolist())


def test_a_sensor_is_stale_after_its_latency_and_two_and_a_half_periods(policy):
    assert policy.timeouts == {"depth": 0.3, "force": 0.025, "proprio": 0.125, "rgb": 0.125}
    feed(policy, 10.0)
    for now, live in [(10.0, KEYS), (10.02, KEYS), (10.03, ("depth", "proprio", "rgb")), (10.2, ("depth",))]:
        assert np.array_equal(policy.act(now), expected(policy, *live)), now
        assert tuple(key for key, state in policy.status(now).items() if state.live) == live
    assert policy.status(10.2)["rgb"] == Status(False, pytest.approx(0.2), "stale: 0.2 s old, timeout 0.125 s")
    feed(policy, 10.25, "rgb")  # and it comes back
    assert np.array_equal(policy.act(10.25), expected(policy, "depth", "rgb"))


def test_what_was_never_fed_is_hidden_and_nothing_at_all_is_refused(policy):
    with pytest.raises(Blind, match="rgb: never fed"):
        policy.act(0.0)
    feed(policy, 0.0, "proprio")
    assert np.array_equal(policy.act(0.0), expected(policy, "proprio"))
    with pytest.raises(Blind, match="depth: never fed.*proprio: .*1 s.*0.125 s"):
        policy.act(1.0)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_reading_that_is_no_number_hides_its_sensor_until_a_better_one(policy, bad):
    feed(policy, 1.0)
    reading = observe()["proprio"]
    policy.feed("proprio", np.where(np.arange(7) == 3, np.float32(bad), reading), 1.01)
    assert np.array_equal(policy.act(1.01), expected(policy, "depth", "force", "rgb"))
    assert policy.status(1.01)["proprio"].why == "its last reading holds NaN or Inf"
    policy.feed("proprio", reading, 1.02)
    assert np.array_equal(policy.act(1.02), expected(policy, *KEYS))


def test_timeouts_can_be_chosen(data):
    policy = Policy(data, timeouts={"force": 1.0, "rgb": float("inf")})
    feed(policy, 0.0)
    assert np.array_equal(policy.act(0.9), expected(policy, "force", "rgb"))
    assert policy.status(1e6)["rgb"].live and not policy.status(1e6)["force"].live


def test_a_reading_is_copied_and_the_next_takes_its_place(policy):
    camera = observe()["rgb"].copy()
    policy.feed("rgb", camera, 0.0)
    camera[:] = 0  # drivers write the next picture into the same buffer
    assert np.array_equal(policy.act(0.0), expected(policy, "rgb"))
    policy.feed("rgb", camera, 0.0)
    assert not np.array_equal(policy.act(0.0), expected(policy, "rgb"))


def test_reset_forgets_readings_and_their_clock(policy):
    feed(policy, 100.0)
    policy.reset()
    feed(policy, 1.0, "rgb")
    assert np.array_equal(policy.act(1.0), expected(policy, "rgb"))


def test_calling_it_is_apart_from_what_was_fed(policy):
    feed(policy, 3.0)
    before = policy.act(3.0)
    for mask in MASKS:
        live = [key for key, flag in zip(KEYS, mask, strict=True) if flag]
        part = {key: observe(1)[key] for key in live}  # hidden sensors may be missing
        whole = observe(1) | {"available": mask}
        assert np.array_equal(policy(part | {"available": mask}), policy(whole))
        assert np.array_equal(policy(whole | {"available": mask.astype(bool)}), policy(whole))
    assert np.array_equal(policy(observe(1)), policy(observe(1) | {"available": MASKS[0]}))
    assert np.array_equal(policy.act(3.0), before)


def test_a_strange_array_of_a_hidden_sensor_is_not_looked_at(policy):
    flags = {"available": [1, 1, 0, 1]}
    assert np.array_equal(policy(observe() | flags | {"proprio": "?"}), policy(observe() | flags))


def test_views_of_other_memory_orders_are_the_same_reading(policy):
    turned = np.asfortranarray(observe()["rgb"])
    assert np.array_equal(policy(observe() | {"rgb": turned}), policy(observe()))


def test_readings_come_from_other_threads(policy):
    stop, actions = threading.Event(), set()
    feed(policy, 0.0)

    def camera():
        while not stop.is_set():
            for seed in (0, 1):
                policy.feed("rgb", observe(seed)["rgb"], 0.0)

    thread = threading.Thread(target=camera)
    thread.start()
    for _ in range(200):
        actions.add(policy.act(0.0).tobytes())
    stop.set()
    thread.join()
    allowed = {policy(observe() | {"rgb": observe(seed)["rgb"]}).tobytes() for seed in (0, 1)}
    assert actions <= allowed  # never half of one picture and half of another


def test_of_several_feeders_of_one_sensor_the_latest_reading_stays(policy, monkeypatch):
    """One is held up between looking at the stamp before and storing, as any thread may be."""
    copied, overtaken = threading.Event(), threading.Event()

    def held_up(reading):
        if reading.flat[0] == 1:
            copied.set()
            assert overtaken.wait(5)
        return True

    monkeypatch.setattr("robofuse.deploy.watchdog.finite", held_up)
    refused = []

    def slow():
        try:
            policy.feed("rgb", np.ones((20, 24, 3), np.uint8), 1.0)
        except OutOfOrder as error:
            refused.append(str(error))

    thread = threading.Thread(target=slow)
    thread.start()
    assert copied.wait(5)
    policy.feed("rgb", observe()["rgb"], 2.0)
    overtaken.set()
    thread.join()
    assert refused and policy.status(2.0)["rgb"].age == 0.0
    assert np.array_equal(policy.act(2.0), expected(policy, "rgb"))


def test_without_now_the_clock_is_asked_after_the_readings_were_taken(policy, monkeypatch):
    """Else a control loop that is held up would stop at a reading that came meanwhile."""
    feed(policy, 5.0, "proprio")

    def late():
        feed(policy, 6.0, "rgb")  # the driver's thread has its turn while the clock is asked
        return 5.01

    monkeypatch.setattr("time.monotonic", late)
    assert np.array_equal(policy.act(), expected(policy, "proprio"))
    monkeypatch.setattr("time.monotonic", lambda: 6.0)
    assert np.array_equal(policy.act(), expected(policy, "rgb")) and policy.status()["rgb"] == Status(True, 0.0)


def test_a_frame_that_was_overtaken_is_told_apart_from_a_mistake(policy):
    feed(policy, 1.0, "rgb")
    with pytest.raises(OutOfOrder, match="0.1 s"):
        policy.feed("rgb", np.zeros((20, 24, 3), np.uint8), 0.9)
    assert np.array_equal(policy.act(1.0), expected(policy, "rgb"))  # the newer one stays
    with pytest.raises(ValueError, match="shape") as mistake:
        policy.feed("rgb", np.zeros((24, 20, 3), np.uint8), 0.9)
    assert not isinstance(mistake.value, OutOfOrder)


@pytest.mark.parametrize(
    ("key", "reading", "sentence"),
    [
        ("lidar", 0, "'lidar'.*depth, force, proprio, rgb"),
        ("privileged", 0, "'privileged'.*leave it out"),
        ("proprio", [0.0] * 7, "'proprio'.*list.*numpy.asarray"),
        ("proprio", np.zeros(7), r"'proprio'.*\[rad\].*x.astype\(numpy.float32\)"),
        (
            "depth",
            np.ones((20, 24, 1), np.float32),
            r"uint16 \[mm\].*1000 \* x",
        ),
        ("rgb", np.ones((20, 24, 3), np.float32), r"uint8 \[sRGB\].*255 \* x"),
        ("rgb", np.zeros((24, 20, 3), np.uint8), r"\(20, 24, 3\).*\(24, 20, 3\); .*Camera makes 20×24 pixels"),
        ("rgb", np.zeros((1, 20, 24, 3), np.uint8), r"\(1, 20, 24, 3\).*x\[0\]"),
    ],
)
def test_bad_readings_are_named_however_they_come(policy, key, reading, sentence):
    feed(policy, 0.0)
    before = policy.act(0.0)
    with pytest.raises(ValueError, match=sentence):
        policy(observe() | {key: reading})
    with pytest.raises(ValueError, match=sentence):
        policy.feed(key, reading, 0.1)
    assert np.array_equal(policy.act(0.0), before)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"proprio": None}, "'proprio'.*'available'"),
        ({"proprio": np.full(7, np.nan, np.float32)}, "'proprio'.*NaN"),
        (
            {"available": [1, 1, 1]},
            "'available'.*depth, force, proprio, rgb",
        ),
        ({"available": [1, 1, 1, 2]}, r"\[1, 1, 1, 2\]"),
        ({"available": ["yes"] * 4}, "must hold 0 or 1"),
    ],
)
def test_bad_observations_are_named(policy, change, sentence):
    observation = {key: x for key, x in (observe() | change).items() if x is not None}
    with pytest.raises(ValueError, match=sentence):
        policy(observation)


def test_bad_stamps_are_named_and_change_nothing(policy):
    feed(policy, 5.0)
    before = policy.act(5.0)
    with pytest.raises(ValueError, match="'rgb'.*0.5 s"):
        policy.feed("rgb", np.zeros((20, 24, 3), np.uint8), 4.5)
    with pytest.raises(ValueError, match="'rgb'.*None"):
        policy.feed("rgb", observe()["rgb"], None)
    for stamp in (float("nan"), "now"):
        with pytest.raises(ValueError, match="'rgb'.*finite"):
            policy.feed("rgb", observe()["rgb"], stamp)
        with pytest.raises(ValueError, match="now.*finite"):
            policy.act(stamp)
    assert np.array_equal(policy.act(5.0), before)


def test_a_stamp_of_the_future_hides_its_sensor_until_the_clock_is_right_again(policy):
    feed(policy, 10.0)
    policy.feed("rgb", observe()["rgb"], 1e6)  # the camera's clock jumped, for one frame
    assert np.array_equal(policy.act(10.0), expected(policy, "depth", "force", "proprio"))
    state = policy.status(10.0)["rgb"]
    assert not state.live and "1e+06 s after now" in state.why and "one clock" in state.why
    feed(policy, 10.05)  # a correct frame, long before that stamp, is no longer out of order
    assert np.array_equal(policy.act(10.05), expected(policy, *KEYS))
    with pytest.raises(OutOfOrder):
        policy.feed("rgb", observe()["rgb"], 10.0)


def test_a_sensor_whose_clock_stays_ahead_stays_hidden(policy):
    for step in range(5):
        now = step / 20
        feed(policy, now, "depth", "force", "proprio")
        policy.feed("rgb", observe()["rgb"], now + 100.0)
        assert np.array_equal(policy.act(now), expected(policy, "depth", "force", "proprio"))


def test_the_robots_own_clock_may_be_set_back(policy):
    feed(policy, 100.0)
    with pytest.raises(Blind, match="depth: .*90 s"):
        policy.act(10.0)
    feed(policy, 10.0)
    assert np.array_equal(policy.act(10.0), expected(policy, *KEYS))


def play_at(policy, rate, steps=40, late=0.06):
    """The camera delivers at another rate than in training, a bit late; in how many control steps it is hidden."""
    hidden = 0
    for step in range(steps):
        now = step / 20
        feed(policy, now, "depth", "force", "proprio")
        taken = int(rate * (now - late)) / rate
        if taken > -policy.status(now)["rgb"].age + now:
            policy.feed("rgb", observe()["rgb"], taken)
        hidden += step > 5 and not policy.status(now)["rgb"].live
    return hidden


def test_a_slower_sensor_than_in_training_is_told_with_the_timeout_that_it_needs(data, caplog):
    assert play_at(Policy(data, timeouts={"force": 0.1}), 10.0) > 5
    (told,) = caplog.records
    assert told.name == "robofuse.deploy" and told.levelname == "WARNING"
    assert "'rgb' arrives at 10 Hz" in told.message and "trained with 20 Hz" in told.message
    assert "timeouts={'rgb': 0.25}" in told.message
    caplog.clear()
    assert play_at(Policy(data, timeouts={"force": 0.1, "rgb": 0.25}), 10.0) == 0
    assert play_at(Policy(data, timeouts={"force": 0.1}), 20.0) == 0
    assert not caplog.records


def test_clocks_may_differ_by_the_skew(data, policy):
    feed(policy, 5.0)
    assert np.array_equal(policy.act(4.995), expected(policy, *KEYS))
    strict = Policy(data, skew=0.0)
    feed(strict, 5.0)
    with pytest.raises(Blind, match="0.005 s"):
        strict.act(4.995)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"timeouts": {"lidar": 1.0}}, "'lidar'.*depth"),
        ({"timeouts": {"rgb": 0.0}}, "timeout of 'rgb'.*0.0"),
        ({"timeouts": {"rgb": float("nan")}}, "timeout of 'rgb'.*nan"),
        ({"skew": -1.0}, "skew.*-1.0"),
        ({"timeouts": 5}, "timeouts.*5"),
        ({"timeouts": {"rgb": True}}, "timeout of 'rgb'.*True"),
        ({"threads": 0}, "threads.*256.*got 0"),
        ({"threads": 10**6}, "threads.*256.*1000000"),
    ],
)
def test_bad_options_are_named(data, options, sentence):
    with pytest.raises(ValueError, match=sentence):
        Policy(data, **options)


def test_where_no_rate_is_known_a_timeout_must_be_said():
    unknown = [replace(PROPRIO, rate=0.0)]
    with pytest.raises(ValueError, match="timeouts={'proprio': "):
        Watchdog(unknown, {}, 0.0).feed("proprio", observe()["proprio"], 0.0)
    watchdog = Watchdog(unknown, {"proprio": 2.0}, 0.0)
    watchdog.feed("proprio", observe()["proprio"], 0.0)
    assert watchdog.look(2.0)[0]["proprio"].live and not watchdog.look(2.1)[0]["proprio"].live


def test_a_policy_that_cannot_do_without_a_sensor_does_not_act_without_it():
    policy = exported(make(maskable=["depth", "force", "rgb"])).deployed
    feed(policy, 0.0, "depth", "rgb")
    with pytest.raises(Blind, match="'small'.*proprio: never fed"):
        policy.act(0.0)
    with pytest.raises(ValueError, match="'small'.*proprio"):
        expected(policy, "rgb")
    feed(policy, 0.0, "proprio")
    assert np.array_equal(policy.act(0.0), expected(policy, "depth", "proprio", "rgb"))


@pytest.mark.parametrize("flags", MASKS[1:-1])
def test_switched_off_is_hidden_to_the_bit_whatever_is_fed(policy, flags):
    robot, seen = policy.fork(), observe()
    robot.off = off = tuple(key for key, flag in zip(KEYS, flags, strict=True) if not flag)
    hidden = policy(seen | {"available": flags})
    garbage = dict.fromkeys(off, "?")  # not even looked at
    assert robot(seen | garbage | {"available": MASKS[0]}).tobytes() == hidden.tobytes()
    assert robot({key: x for key, x in seen.items() if key not in off}).tobytes() == hidden.tobytes()
    for key, reading in (seen | garbage).items():
        robot.feed(key, reading, 1.0)
    assert robot.act(1.0).tobytes() == hidden.tobytes()
    assert all(robot.status(1.0)[key] == Status(False, float("inf"), "switched off") for key in off)


def test_sensors_are_switched_off_and_on_between_actions(policy):
    feed(policy, 0.0)
    policy.off = {"rgb"}
    assert np.array_equal(policy.act(0.0), expected(policy, "depth", "force", "proprio"))
    assert policy.status(0.1)["rgb"] == Status(False, 0.1, "switched off")
    feed(policy, 1.0)  # the driver goes on
    other = policy.fork()
    policy.off = ()
    assert not policy.status(1.0)["rgb"].live and "stale" in policy.status(1.0)["rgb"].why
    feed(policy, 1.0, "rgb")
    assert np.array_equal(policy.act(1.0), expected(policy, *KEYS))
    feed(other, 1.0)
    assert other.off == ("rgb",) and np.array_equal(other.act(1.0), expected(policy, "depth", "force", "proprio"))
    other.off = ("depth", "force", "proprio")
    with pytest.raises(Blind, match="depth: switched off.*rgb: never fed"):
        other.act(1.0)


def test_sensors_are_switched_by_another_thread(policy):
    stop, actions = threading.Event(), set()
    feed(policy, 0.0)
    allowed = {expected(policy, *KEYS).tobytes(), expected(policy, "force", "proprio").tobytes()}

    def switch():
        while not stop.is_set():
            policy.off = ("depth", "rgb")
            policy.off = ()

    thread = threading.Thread(target=switch)
    thread.start()
    deadline, count = time.monotonic() + 10.0, 0
    while time.monotonic() < deadline and (len(actions) < 2 or count < 300):
        actions.add(policy.act(0.0).tobytes())
        count += 1
    stop.set()
    thread.join()
    assert actions == allowed  # both, and never one sensor off and the other on


def test_what_cannot_be_switched_off_is_told_and_changes_nothing(data):
    made = exported(make(maskable=["depth", "force", "rgb"]))
    policy = made.deployed
    policy.off = ("rgb",)
    for off, sentence in [
        (["lidar"], "unknown sensor 'lidar'.*depth, force"),
        (["rgb", "proprio"], "'small' was not trained to do without proprio; what can be .*: depth, force, rgb"),
        ("depth", "off must be a collection.*'depth'"),
        (3, "off must be a collection.*3"),
    ]:
        with pytest.raises(ValueError, match=sentence):
            policy.off = off
    assert policy.off == ("rgb",)
    with pytest.raises(ValueError, match="without proprio"):
        Policy(made.data, off=["proprio"])
    with pytest.raises(ValueError, match="leave at least one of depth, force, proprio, rgb"):
        Policy(data, off=KEYS)


def test_files_that_are_none_of_ours_are_refused(data, tmp_path):
    model = onnx.load_from_string(data)
    del model.metadata_props[:]
    model.producer_name = "pytorch"
    files = {
        "foreign.onnx": (model.SerializeToString(), ".*robofuse export POLICY"),
        "empty.onnx": (b"", "is no exported policy"),
        "flipped.onnx": (data[:5000] + bytes([data[5000] ^ 1]) + data[5001:], "is damaged or was changed"),
        "longer.onnx": (data + b"\x00", "is damaged or was changed"),
    }
    for length in (100, 5000, len(data) - 80, len(data) - 1):
        files[f"{length}.onnx"] = data[:length], "is cut off"
    for name, (content, sentence) in files.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=f"{name} {sentence}"):
            Policy(tmp_path / name)
    with pytest.raises(ValueError, match=".*robofuse export POLICY"):
        Policy(save(make().network, tmp_path / "policy.safetensors"))
    with pytest.raises(ValueError, match="none.onnx"):
        Policy(tmp_path / "none.onnx")


@pytest.mark.parametrize(
    ("name", "value", "error", "sentence"),
    [
        ("format", "3", RuntimeError, "format 3"),
        ("sensors", "[{}]", ValueError, "does not describe a policy"),
        ("sensors", "(", ValueError, "does not describe a policy"),
        ("world", None, ValueError, "does not describe a policy"),
        ("world", "3", ValueError, "world is 3, not a mapping"),
        ("name", "[1]", ValueError, r"name is \[1\], not text"),
        ("format", "true", ValueError, "format is True"),
        ("required", '["lidar"]', ValueError, "required is .*lidar"),
        ("required", '"rgb"', ValueError, "required is 'rgb'"),
        ("action", "{}", ValueError, "action is {}"),
        ("action", '{"n": 3}', ValueError, "its graph gives .*action"),
        ("action", '{"low": [0, 0], "high": [1]}', ValueError, "action is"),
        ("action", '{"low": [0, "a"], "high": [1, 1]}', ValueError, "action is"),
        ("action", '{"low": [0, 0, 0], "high": [1, 1, 1]}', ValueError, "its graph gives .*action"),
        ("card", "[" * 100_000, ValueError, "does not describe a policy"),
        ("sensors", "[]", ValueError, "sensors is"),
        ("sensors", json.dumps([asdict(sensor) for sensor in SENSORS[1:]]), ValueError, "its graph reads"),
    ],
)
def test_files_of_another_robofuse_or_of_strangers_are_refused(data, policy, name, value, error, sentence):
    model = onnx.load_from_string(data)
    properties = {entry.key: entry.value for entry in model.metadata_props} | {f"robofuse.{name}": value}
    properties = {key: text for key, text in properties.items() if text is not None}
    with pytest.raises(error, match=sentence):
        describe(properties, policy._session, "it")


@pytest.mark.parametrize("field", ["key", "kind", "shape", "dtype", "unit", "scale", "rate", "latency", "sample_rate"])
def test_sensors_of_strangers_are_refused_or_make_sense(data, policy, field):
    model = onnx.load_from_string(data)
    properties = {entry.key: entry.value for entry in model.metadata_props}
    sensible = {"unit": str, "rate": int, "latency": int, "sample_rate": int, "scale": int}
    for value in (None, True, 3, -1, 1e400, 2**70, "x", [], [3], [10**9] * 3, {}, {"a": 1}):
        plain = [asdict(sensor) for sensor in SENSORS]
        plain[2][field] = value
        properties["robofuse.sensors"] = json.dumps(plain)
        fits = isinstance(value, sensible.get(field, ())) and value in (3, 2**70, "x")
        if fits or (field == "scale" and value == [3]):
            describe(properties, policy._session, "it")
            continue
        with pytest.raises(ValueError, match="it does not describe a policy") as refused:
            describe(properties, policy._session, "it")
        assert "\n" not in str(refused.value) and len(str(refused.value)) < 400


def test_what_this_onnxruntime_cannot_run_is_said(data):
    model = onnx.load_from_string(data)
    model.opset_import[0].version = 999
    model.metadata_props[-1].value = "0" * 64
    with pytest.raises(RuntimeError, match=r"onnxruntime [\d.]+ "):
        Policy(seal(model.SerializeToString()))


def test_a_missing_onnxruntime_is_named(data, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(RuntimeError, match=r"pip install 'robofuse\[deploy\]'"):
        Policy(data)


def test_a_policy_that_remembers_says_when_it_is_called_at_another_rate(caplog):
    for memory, rate, warns in ((8, 20.0, True), (8, 0.0, False), (0, 20.0, False)):
        policy = Policy(exported(make(memory=memory), Hints(rate=rate)).data)
        for period in (0.05, 0.03):
            policy.reset()
            for step in range(20):
                policy.feed("rgb", observe()["rgb"], step * period)
                policy.act(step * period)
            said = [one.getMessage() for one in caplog.records]
            assert len(said) == (warns and period == 0.03)
            assert all("33.3 times a second" in one and "trained with 20" in one for one in said)
        caplog.clear()


def samples_of(rate, seconds, start=10.0):
    """Samples (2,) that hold their own stamps."""
    stamps = start + np.arange(round(rate * seconds)) / rate
    return [(np.float32([stamp, -stamp]), float(stamp)) for stamp in stamps]


def window_of(watchdog, now):
    return watchdog.look(now)[1]["force"][0]


@pytest.fixture
def watchdog():
    force = replace(SENSORS[1], shape=(10, 2), rate=20.0, sample_rate=200.0)
    return Watchdog([force], {}, 0.01)


def test_single_samples_make_the_window_that_a_driver_of_windows_would_feed(watchdog):
    samples = samples_of(200.0, 0.2)
    for count, (sample, stamp) in enumerate(samples, 1):
        watchdog.feed("force", sample, stamp)
        held = [x for x, _ in samples[max(0, count - 10) : count]]
        np.testing.assert_array_equal(window_of(watchdog, stamp), [held[0]] * (10 - len(held)) + held)


@pytest.mark.parametrize("rate", [50.0, 100.0, 333.0, 1000.0, 4000.0])
def test_a_window_is_spaced_as_in_training_whatever_the_rate_of_the_samples(watchdog, rate, caplog):
    samples = samples_of(rate, 0.3)
    for sample, stamp in samples:
        watchdog.feed("force", sample, stamp)
    times, stamp = window_of(watchdog, samples[-1][1])[:, 0], samples[-1][1]
    np.testing.assert_allclose(times, stamp - np.arange(9, -1, -1) / 200.0, atol=0.5 / rate + 1e-5)
    (said,) = [one.getMessage() for one in caplog.records]
    assert f"at {rate:.3g} Hz" in said and "trained with 200 Hz" in said
    assert ("more than once" if rate < 200.0 else "faster than 100 Hz") in said


@settings(deadline=None, max_examples=60)
@given(st.lists(st.floats(0.0, 0.05), min_size=1, max_size=60))
def test_a_window_holds_the_samples_nearest_in_time(gaps):
    force = replace(SENSORS[1], shape=(10, 2), rate=20.0, sample_rate=200.0)
    watchdog, stamp, fed = Watchdog([force], {}, 0.01), 1.0, []
    for gap in gaps:
        stamp += gap
        fed = [one for one in fed if one < stamp] + [stamp]
        watchdog.feed("force", np.float32([stamp, 0.0]), stamp)
    fed = [one for one in fed if one >= stamp - 0.0475]
    wanted = stamp - np.arange(9, -1, -1) / 200.0
    nearest = np.abs(np.array(fed)[None] - wanted[:, None]).min(axis=1)
    np.testing.assert_allclose(np.abs(window_of(watchdog, stamp)[:, 0] - wanted), nearest, atol=1e-6)


def test_lost_samples_and_gaps(watchdog):
    samples = samples_of(200.0, 0.2)
    for i, (sample, stamp) in enumerate(samples):
        if i % 4:
            watchdog.feed("force", sample, stamp)
    times = window_of(watchdog, samples[-1][1])[:, 0]
    np.testing.assert_allclose(times, samples[-1][1] - np.arange(9, -1, -1) / 200.0, atol=0.0051)
    watchdog.feed("force", np.float32([1.0, 2.0]), 20.0)  # after a long silence it has only ever read one value
    np.testing.assert_array_equal(window_of(watchdog, 20.0), [[1.0, 2.0]] * 10)


def test_samples_out_of_order_or_of_another_clock(watchdog, caplog):
    for sample, stamp in samples_of(200.0, 0.1):
        watchdog.feed("force", sample, stamp)
    with pytest.raises(OutOfOrder):
        watchdog.feed("force", np.zeros(2, np.float32), 10.0)
    with pytest.raises(InputError, match="float32"):
        watchdog.feed("force", np.zeros(2), 10.1)
    watchdog.feed("force", np.float32([7.0, 7.0]), 99.0)
    assert not watchdog.look(10.1)[0]["force"].live  # of the future
    watchdog.feed("force", np.float32([8.0, 8.0]), 10.11)
    np.testing.assert_array_equal(window_of(watchdog, 10.11), [[8.0, 8.0]] * 10)
    watchdog.feed("force", np.ones((10, 2), np.float32), 10.12)  # a whole window
    watchdog.feed("force", np.float32([9.0, 9.0]), 10.125)
    np.testing.assert_array_equal(window_of(watchdog, 10.125), [[9.0, 9.0]] * 10)
    assert not caplog.records
    watchdog.feed("force", np.float32([np.nan, 9.0]), 10.13)
    assert "NaN" in watchdog.look(10.13)[0]["force"].why
    watchdog.reset()
    watchdog.feed("force", np.float32([1.0, 1.0]), 3.0)
    np.testing.assert_array_equal(window_of(watchdog, 3.0), np.ones((10, 2)))


def test_unevenly_spaced_samples_are_told_of(watchdog, caplog):
    stamp = 0.0
    for i in range(30):
        stamp += 0.001 if i % 2 else 0.009
        watchdog.feed("force", np.zeros(2, np.float32), stamp)
    (said,) = [one.getMessage() for one in caplog.records]
    assert "unevenly" in said


def test_samples_of_a_sensor_of_unknown_rate_stand_as_they_came():
    force = replace(SENSORS[1], rate=0.0, sample_rate=0.0)
    watchdog = Watchdog([force], {"force": 1.0}, 0.01)
    for i in range(5):
        watchdog.feed("force", np.float32([i, i]), float(i))
        np.testing.assert_array_equal(window_of(watchdog, i)[:, 0], np.maximum([i - 2, i - 1, i], 0))
