import pytest
from hypothesis import given
from hypothesis import strategies as st

from robofuse.faults import blackout, parse_disable

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
def test_text_is_read(text, expected):
    assert parse_disable(text, KEYS).events == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rgb,rgbb", "unknown sensor 'rgbb'; sensors: depth, force, proprio, rgb, at character 5:"),
        (" camera", "unknown sensor 'camera'; sensors: depth, force, proprio, rgb, at character 2:"),
        ("rgb,", "expected another sensor after the ,, at character 4:"),
        ("@20", "expected a sensor; sensors: depth, force, proprio, rgb, at character 1:"),
        ("rgb,,depth", "expected a sensor; sensors: depth, force, proprio, rgb, at character 5:"),
        ("rgb depth", "unknown sensor 'rgb depth'; sensors: depth, force, proprio, rgb, at character 1:"),
        ("rgb@", "expected a control step such as 20; got '', at character 5:"),
        ("depth,rgb@-1", "got '-1', at character 11:"),
        ("rgb@1.5", "got '1.5'"),
        ("rgb@20s", "got '20s'"),
        ("rgb@²", "got '²'"),
        ("rgb@" + 30 * "9", "expected a control step such as 20; got '9999"),
        (
            "rgb@3,depth,rgb@5",
            "the same fault of the same sensor (the other at character 1), at character 13:",
        ),
    ],
)
def test_error_points_at_the_place(text, message):
    with pytest.raises(ValueError) as error:
        parse_disable(text, KEYS)
    assert message in str(error.value)


@given(st.lists(st.tuples(st.sampled_from(KEYS), st.integers(0, 999)), unique_by=lambda pair: pair[0]))
def test_what_is_written_is_read_back(pairs):
    text = ", ".join(f"{sensor}@{step}" for sensor, step in pairs)
    assert parse_disable(text, KEYS).events == tuple(blackout(*pair) for pair in pairs)


@given(st.text(alphabet="rgbdepth@,0 9\n²-", max_size=12))
def test_any_text_is_read_or_refused(text):
    try:
        assert all(event.sensor in KEYS for event in parse_disable(text, KEYS))
    except ValueError as error:
        assert "character" in str(error)


def test_blackouts_are_checked():
    with pytest.raises(ValueError, match="step of rgb:blackout must be an integer from 0 to 999999999, got -1"):
        blackout("rgb", -1)
    assert blackout("rgb").is_announced and str(blackout("rgb", 3)) == "rgb:blackout@3"
