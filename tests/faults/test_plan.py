"""Plans: as text, as data, and what they refuse."""

import sys
import time

import pytest
from breaking import SENSORS
from hypothesis import given, settings
from hypothesis import strategies as st

from robofuse.errors import InputError
from robofuse.faults import FaultEvent, Mix, Plan, blackout, faults_for, parse_disable, parse_missing

KINDS = {sensor.key: sensor.kind for sensor in SENSORS}


def parse(text):
    return Plan.parse(text, SENSORS)


@pytest.mark.parametrize(
    ("text", "again"),
    [
        ("rgb:blackout@20+force:drift(0.5)", None),
        ("rgb:blackout@20 + force : drift( 0.5 ) ", "rgb:blackout@20+force:drift(0.5)"),
        ("force:bias(1, force=0, torque=0.1)", "force:bias(force=0, torque=0.1)"),
        (
            "rgb,depth:freeze@10..30 for 15 in 5~20?",
            "rgb:freeze@10..30 for 15 in 5~20?+depth:freeze@10..30 for 15 in 5~20?",
        ),
        ("depth:noise@0 for 5", None),
        ("depth:noise@0", "depth:noise"),
        ("rgb:noise(severity=0.25)@contact/3..9 for 2!", "rgb:noise(0.25)@contact/3..9 for 2!"),
        ("proprio:nan@contact", None),
        ("", ""),
    ],
)
def test_text_goes_round(text, again):
    plan = parse(text)
    assert str(plan) == (text if again is None else again)
    assert parse(str(plan)) == plan == Plan.from_dict(plan.to_dict(), SENSORS)


numbers = st.integers(0, 200)
events = st.builds(
    lambda key, pick, severity, step, until, phase, duration, bursts, told: FaultEvent(
        key,
        list(faults_for(KINDS[key]).values())[pick % len(faults_for(KINDS[key]))](severity),
        step,
        None if until is None else step + until,
        phase,
        duration,
        None if list(faults_for(KINDS[key]).values())[pick % len(faults_for(KINDS[key]))](1.0).bursts() else bursts,
        told,
    ),
    st.sampled_from(sorted(KINDS)),
    st.integers(0, 100),
    st.sampled_from([0.0, 0.125, 1.0]) | st.floats(1e-6, 1.0),
    numbers,
    st.none() | numbers,
    st.sampled_from([None, "contact", "in_hand2"]),
    st.none() | st.integers(1, 99),
    st.none() | st.tuples(st.floats(1.0, 1e9), st.sampled_from([1.0, 2.5, 1234567.0])),
    st.sampled_from([None, True, False]),
)


@settings(max_examples=200, deadline=None)
@given(events, st.sampled_from(["rgb", "depth", "force"]))
def test_any_plan_goes_round(event, other):
    plan = Plan(
        (event, *([FaultEvent(other, faults_for(KINDS[other])["latency"](0.5))] if other != event.sensor else []))
    )
    assert parse(str(plan)) == plan == Plan.from_dict(plan.to_dict(), SENSORS)


@pytest.mark.parametrize(
    ("text", "message", "place"),
    [
        ("rgbb:blackout", "'rgbb'; sensors: depth, force, proprio, rgb", 1),
        ("rgb:blackout+", "another fault", 13),
        ("rgb", "expected :", 4),
        ("rgb:explode", "'explode' for a sensor of kind rgb; faults: blackout, colourcast", 5),
        ("force:motionblur", "'motionblur' for a sensor of kind window; faults: bias", 7),
        ("rgb:noise(2)", "severity of noise must lie in [0, 1], got 2", 11),
        ("rgb:noise(1e-300)", "at least 1e-06, got 1e-300", 11),
        ("rgb:noise(loud=2)", "noise has no 'loud'; it has severity, deviation", 11),
        ("rgb:noise(x)", "expected a number, got 'x'", 11),
        ("rgb:noise(1, 1)", "severity is given twice", 11),
        ("rgb:noise@soon 5", "10..30, contact", 11),
        ("rgb:noise@30..10", "from 30 to 999999999, got 10", 11),
        ("rgb:noise)", "or the end", 10),
        (
            "rgb:blackout+rgb:noise",
            "nothing left to change while rgb:blackout lasts (the other at character 1)",
            14,
        ),
        ("rgb:blackout+rgb:noise@contact", "nothing left to change while rgb:blackout", 14),
        ("rgb:intermittent@3 in 5~5", "intermittent comes in bursts of its own", 18),
        ("proprio:quantisation(1, scales=0)", "scales of quantisation must lie in [1e-06, 1000]", 22),
        ("rgb:noise@5 + rgb:noise(0.5)@9", "(the other at character 1)", 15),
    ],
)
def test_mistakes_are_pointed_at(text, message, place):
    with pytest.raises(ValueError) as error:
        parse(text)
    assert message in str(error.value) and f"at character {place}:" in str(error.value), str(error.value)
    assert str(error.value).splitlines()[2].index("^") == place + 1


@pytest.mark.slow
def test_contradictions_are_found_among_thousands():
    text = "+".join(f"rgb:noise@{10 * step} for 10" for step in range(10_000))
    began = time.perf_counter()
    assert len(parse(text)) == 10_000
    for other in ("rgb:noise@50005 for 2", "rgb:blackout@70000", "rgb:blackout@contact+rgb:freeze@contact"):
        with pytest.raises(ValueError, match="overlaps with|has nothing left to change"):
            parse(f"{text}+{other}")
    assert time.perf_counter() - began < 30.0  # minutes when every pair is looked at


def contradict(first, second):
    """Whether two events contradict each other, said without a thought for speed."""
    if first.sensor != second.sensor or not first.fault.severity or not second.fault.severity:
        return False
    erases = [e.fault.erases and e.bursts is None and e.fault.bursts() is None for e in (first, second)]
    if first.fault.name != second.fault.name and not any(erases):
        return False
    if first.phase != second.phase:
        return any(event.phase is None and event.duration is None for event in (first, second))
    ends = [(e.step if e.until is None else e.until) + (e.duration or 10**9) for e in (first, second)]
    return first.step < ends[1] and second.step < ends[0]


few = st.integers(0, 4)
small_events = st.builds(
    lambda key, name, step, until, phase, duration: FaultEvent(
        key, faults_for("vector")[name](), step, None if until is None else step + until, phase, duration
    ),
    st.sampled_from("ab"),
    st.sampled_from(["blackout", "noise", "offset", "intermittent"]),
    few,
    st.none() | few,
    st.sampled_from([None, "contact", "lift"]),
    st.none() | st.integers(1, 3),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(small_events, min_size=2, max_size=4))
def test_a_plan_is_refused_if_any_two_of_its_events_contradict(several):
    refused = any(contradict(a, b) for index, b in enumerate(several) for a in several[:index])
    try:
        Plan(tuple(several))
    except InputError:
        assert refused
    else:
        assert not refused


@pytest.mark.parametrize(
    "make",
    [
        lambda: Plan("rgb:noise"),
        lambda: Plan(5),
        lambda: Plan((5,)),
        lambda: Plan.parse(5, SENSORS),
        lambda: Plan.parse("rgb:noise", 5),
        lambda: Plan.from_dict(5, SENSORS),
        lambda: Plan.from_yaml(5, SENSORS),
        lambda: parse("rgb:noise").check(5),
        lambda: parse("rgb:noise").check([5]),
        lambda: FaultEvent("rgb", faults_for("rgb")["noise"](), 10**30),
        lambda: Mix(5),
        lambda: Mix((Plan(),), "a"),
        lambda: Mix.parse("standard", 0.3, SENSORS),
        lambda: parse_missing(5, ("rgb",)),
    ],
)
def test_arguments_of_a_wrong_type_are_refused(make):
    with pytest.raises(InputError):
        make()


def test_what_does_not_meet_does_not_contradict():
    parse("rgb:blackout@0 for 5+rgb:noise@5")
    parse("rgb:noise@0 for 5+rgb:noise(0.5)@5")
    parse("rgb:blackout@0 in 5~5+rgb:noise")
    parse("rgb:blackout(0)+rgb:noise")
    parse("rgb:blackout@contact+rgb:noise@lift")


def test_plans_are_read_from_files(tmp_path):
    plan = parse("rgb:freeze@3+force:bias(0.5)@5..9?")
    for name in ("plan.yaml", "plan.yml"):
        (tmp_path / name).write_text(plan.yaml())
        assert Plan.read(str(tmp_path / name), SENSORS) == plan == Plan.read(str(plan), SENSORS)
    with pytest.raises(ValueError, match="none.yaml.*No such file"):
        Plan.read(str(tmp_path / "none.yaml"), SENSORS)


def test_yaml(monkeypatch):
    plan = parse("rgb:blackout@20!+force:bias(0.5, torque=2)@3..9 for 5 in 2~4")
    assert Plan.from_yaml(plan.yaml(), SENSORS) == plan
    for text, message in (
        ("a: 1", "a plan is a list of entries"),
        ("# broken\n- fault: blackout", "entry 1 of the plan, line 2 has no 'sensor'"),
        ("- {sensor: rgb, fault: noise}\n- {sensor: rgb, fault: noise, loud: 1}", "plan, line 2: noise has no 'loud'"),
        ("[", "this is not YAML"),
    ):
        with pytest.raises(ValueError, match=message):
            Plan.from_yaml(text, SENSORS)
    monkeypatch.setitem(sys.modules, "yaml", None)
    with pytest.raises(ValueError, match=r"pip install 'robofuse\[yaml\]'"):
        plan.yaml()


# --disable

KEYS = ("depth", "force", "proprio", "rgb")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ()),
        ("  ", ()),
        ("rgb", (blackout("rgb"),)),
        ("rgb,depth@20", (blackout("rgb"), blackout("depth", 20))),
        (" rgb @ 3 , force ", (blackout("rgb", 3), blackout("force"))),
        ("rgb@0", (blackout("rgb", 0),)),
        ("depth,force,proprio,rgb", tuple(blackout(key) for key in KEYS)),
    ],
)
def test_disable_is_read(text, expected):
    assert parse_disable(text, KEYS).events == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rgb,rgbb", "'rgbb'; sensors: depth, force, proprio, rgb, at character 5:"),
        (" camera", "'camera'; sensors: depth, force, proprio, rgb, at character 2:"),
        ("rgb,", "another sensor after the ,, at character 4:"),
        ("@20", "sensors: depth, force, proprio, rgb, at character 1:"),
        ("rgb,,depth", "sensors: depth, force, proprio, rgb, at character 5:"),
        ("rgb depth", "'rgb depth'; sensors: depth, force, proprio, rgb, at character 1:"),
        ("rgb@", "got '', at character 5:"),
        ("depth,rgb@-1", "got '-1', at character 11:"),
        ("rgb@1.5", "got '1.5'"),
        ("rgb@20s", "got '20s'"),
        ("rgb@²", "got '²'"),
        ("rgb@" + 30 * "9", "got '9999"),
        (
            "rgb@3,depth,rgb@5",
            "(the other at character 1), at character 13:",
        ),
    ],
)
def test_errors_of_disable_point_at_the_place(text, message):
    with pytest.raises(ValueError) as error:
        parse_disable(text, KEYS)
    assert message in str(error.value)


@given(st.lists(st.tuples(st.sampled_from(KEYS), st.integers(0, 999)), unique_by=lambda pair: pair[0]))
def test_disable_is_read_back(pairs):
    text = ", ".join(f"{sensor}@{step}" for sensor, step in pairs)
    assert parse_disable(text, KEYS).events == tuple(blackout(*pair) for pair in pairs)


@given(st.text(alphabet="rgbdepth@,0 9\n²-", max_size=12))
def test_any_text_of_disable_is_read_or_refused(text):
    try:
        assert all(event.sensor in KEYS for event in parse_disable(text, KEYS))
    except ValueError as error:
        assert "character" in str(error)


def test_blackouts_are_checked():
    with pytest.raises(ValueError, match="step of rgb:blackout .*-1"):
        blackout("rgb", -1)
    assert blackout("rgb").is_announced and str(blackout("rgb", 3)) == "rgb:blackout@3"
