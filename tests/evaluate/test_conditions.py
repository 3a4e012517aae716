"""Which conditions there are, under which names."""

import pytest
from lab import KEYS, Fake

from robofuse.errors import InputError
from robofuse.evaluate import Condition, grid, midway, missing, parse, parse_faults, singles, subsets
from robofuse.faults import Plan, blackout
from robofuse.faults.mix import SEVERITIES

SENSORS = Fake().sensors
FOUR = ("depth", "force", "proprio", "rgb")


def names(conditions):
    return [condition.name for condition in conditions]


def test_every_set_of_sensors_has_one_name():
    found = subsets(FOUR)
    assert len({condition.live for condition in found}) == len(set(names(found))) == 15
    assert names(found)[:6] == ["all", "no-depth", "no-force", "no-proprio", "no-rgb", "no-depth+force"]
    assert names(found)[-4:] == ["only-rgb", "only-proprio", "only-force", "only-depth"]
    assert all(parse([condition.name], FOUR, 15) == [condition] for condition in found)


def test_singles_are_all_each_removed_each_alone():
    assert names(singles(FOUR)) == ["all", *(f"no-{key}" for key in FOUR), *(f"only-{key}" for key in FOUR)]
    assert names(singles(("a", "b"))) == ["all", "no-a", "no-b"]
    assert names(singles(("a",))) == ["all"]


def test_conditions_say_from_when_a_sensor_is_missing():
    (condition,) = parse(["no-rgb+depth@20"], FOUR, 15)
    assert condition == Condition("no-depth+rgb@20", FOUR, Plan((blackout("depth", 20), blackout("rgb", 20))))
    assert condition.live == ("force", "proprio") and (condition.group, condition.onset) == ("midway", 20)
    assert names(midway(FOUR, 7)) == [f"no-{key}@7" for key in FOUR]
    assert parse(["none"], FOUR, 15)[0].live == ()


def test_groups_and_single_conditions_add_up_without_doubles():
    assert len(parse(["everything"], FOUR, 15)) == 19
    assert names(parse(["all", "only-proprio+rgb", "no-depth+force", "midway", "all"], FOUR, 9)) == [
        *("all", "no-depth+force", "no-depth@9", "no-force@9", "no-proprio@9", "no-rgb@9")
    ]


@pytest.mark.parametrize(
    "words, message, place",
    [
        (["sunshine"], "unknown condition 'sunshine'; groups: singles, subsets, midway, everything; expected all", 1),
        (["no-rgb@soon"], "expected a control step such as 20; got 'soon'", 8),
        (["no-smell"], "unknown sensor 'smell'; sensors: depth, force, proprio, rgb", 4),
        (["only-rgb+"], "expected a sensor; sensors: depth, force, proprio, rgb", 10),
        (["all", "no-rgb@3+depth"], "expected @ and a control step, or the end", 9),
        (["all@3"], "expected the end", 4),
    ],
)
def test_an_unknown_condition_is_told_with_those_there_are(words, message, place):
    with pytest.raises(InputError) as error:
        parse(words, FOUR, 15)
    assert message in str(error.value) and f"at character {place}:\n" in str(error.value), str(error.value)
    assert str(error.value).splitlines()[-1].index("^") == place + 1


def test_no_condition_is_an_error():
    with pytest.raises(InputError, match="no conditions; groups"):
        parse([], FOUR, 15)


def test_the_grid_has_every_fault_of_every_sensor():
    found = grid(SENSORS, 10)
    assert len({c.name for c in found}) == len(found)
    by_fault = {}
    for c in found:
        assert c.event is not None and c.onset == 10 and Condition.from_plan(KEYS, Plan.parse(c.name, SENSORS)) == c
        by_fault.setdefault((c.event.sensor, c.event.fault.name), []).append(c.event.fault.severity)
    assert {name for key, name in by_fault if key == "force"} >= {
        "bias",
        "drift",
        "deadaxis",
        "freeze",
        "nan",
        "blackout",
    }
    assert by_fault.pop(("force", "blackout")) == by_fault.pop(("proprio", "blackout")) == [1.0]
    assert all(tuple(severities) == SEVERITIES for severities in by_fault.values())
    assert not any(name == "stale" for _, name in by_fault)
    blackouts = [c for c in found if c.event.fault.name == "blackout"]
    assert not any(c.event.is_announced for c in blackouts) and blackouts[0].group == "fault"


def test_plans_of_missing_sensors_are_known_by_their_short_names():
    names = [c.name for c in parse_faults(["force:blackout", "force:blackout@3", "force:blackout@3?", ""], SENSORS, 9)]
    assert names == ["no-force", "no-force@3", "force:blackout@3?", "all"]


def test_a_misread_plan_points_at_the_place():
    with pytest.raises(ValueError, match="character 7"):
        parse_faults(["force:wobble"], SENSORS, 9)


def test_for_a_policy_with_fewer_sensors():
    both = Condition.from_plan(KEYS, Plan.parse("force:bias+proprio:noise@2", SENSORS))
    assert str(both.among(["proprio"]).plan) == "proprio:noise@2" and both.among(["proprio"]).name == both.name
    other = missing(KEYS, ["force"]).among(["proprio"])
    assert (other.name, other.group, len(other.plan)) == ("no-force", "missing", 0)
