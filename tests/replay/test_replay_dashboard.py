"""The picture that a replay makes of a frame."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from replaying import SCENE, Witness, small_world

from robofuse.envs import World
from robofuse.faults import Plan, blackout
from robofuse.replay import canvas
from robofuse.replay.dashboard import HEIGHT, WIDTH, Cameras, Dashboard, Lights, Stage, nice_ticks
from robofuse.replay.frames import Frame, frames
from robofuse.sensors import Sensor

CREDITS = ("expert", "a test")


@pytest.fixture(scope="module")
def world():
    world = small_world()
    yield world
    world.close()


def frame_of(world, step, dead=(), noise=0, outcome="", scene=SCENE):
    rng = np.random.default_rng(noise)
    observation = {}
    for sensor in world.sensors:
        image = sensor.kind in ("rgb", "depth")
        value = rng.integers(0, 256, sensor.shape) if image else rng.normal(size=sensor.shape)
        observation[sensor.key] = value.astype(sensor.dtype)
    keys = [sensor.key for sensor in world.sensors]
    alive, since = {key: key not in dead for key in keys}, dict.fromkeys(dead, 0)
    return Frame(0, step, observation, alive, since, dict.fromkeys(world.task.weights, 0.1), 1.0, scene, outcome)


def test_what_a_dead_sensor_holds_is_not_drawn(world):
    keys = [sensor.key for sensor in world.sensors]
    one, other = (Dashboard(Stage.of(world), *CREDITS).draw(frame_of(world, 0, keys, noise)) for noise in (1, 2))
    assert np.array_equal(one, other)
    for key in keys:
        dead = [other for other in keys if other != key]
        one, other = (Dashboard(Stage.of(world), *CREDITS).draw(frame_of(world, 0, dead, noise)) for noise in (1, 2))
        assert not np.array_equal(one, other), key


def test_a_teacher_can_be_watched():
    world = World("Grasp", robot="gripper", sensors=("truth",), auto_reset=False, seed=7)
    dashboard, pictures = Dashboard(Stage.of(world), *CREDITS), []
    assert list(dashboard.lights.places) == ["truth"]
    for frame in frames(Witness(world), world, [(0, Plan((blackout("truth", 2),)))]):
        pictures.append(dashboard.draw(frame))
        if frame.step == 3:
            break
    x, y = dashboard.lights.places["truth"]
    lights = [picture[y - 3 : y + 4, x - 3 : x + 4] for picture in pictures]
    assert np.array_equal(lights[0], lights[1]) and not np.array_equal(lights[1], lights[2])
    assert (pictures[0][60:, 680:] != pictures[1][60:, 680:]).any()  # the curves
    world.close()


def test_the_outcome_is_shown(world):
    going, well, badly = (
        Dashboard(Stage.of(world), *CREDITS).draw(frame_of(world, 0, outcome=outcome, scene=SCENE + np.uint8(200)))
        for outcome in ("", "success", "out of time")
    )
    differs = (going != well).any(axis=2)
    rows, columns = np.nonzero(differs)
    assert rows.min() >= 460 and rows.max() < 540 and columns.min() >= 16 and columns.max() < 656
    assert (going != badly).any() and (well != badly).any()


def test_a_long_episode_scrolls(world):
    dashboard = Dashboard(Stage.of(world), *CREDITS)
    for step in (0, 50, 99, 150, 151):
        image = dashboard.draw(frame_of(world, step))
    assert image.shape == (HEIGHT, WIDTH, 3) and image.dtype == np.uint8


def cameras_of(count, size):
    height, width = size
    rgb = [Sensor(f"rgb_{i}", "rgb", (height, width, 3), "uint8", "", 255.0, 20.0) for i in range(count)]
    return rgb + [Sensor(f"depth_{i}", "depth", (height, width, 1), "uint16", "", 1000.0, 20.0) for i in range(count)]


@pytest.mark.parametrize("size", [(64, 64), (48, 64), (8, 300), (700, 300)])
@pytest.mark.parametrize("count", [1, 2, 3, 6])
def test_any_cameras_stay_in_their_place(count, size):
    sensors, box = cameras_of(count, size), canvas.Box(40, 30, 592, 310)
    cameras, lights = Cameras(sensors, box, box.height), Lights(sensors, canvas.Box(40, 400, 268, 152))
    assert cameras.height <= box.height
    image = np.full((600, 700, 3), 9, np.uint8)
    for dead in (False, True):
        alive, since = {s.key: not dead for s in sensors}, {s.key: 4_000 for s in sensors}
        observation = {s.key: np.full(s.shape, 77, s.dtype) for s in sensors}
        frame = Frame(0, 0, observation, alive, since, {}, 0.0, SCENE)
        cameras.draw(image, frame)
        lights.draw(image, frame)
    box.of(image)[:] = 9
    canvas.Box(40, 400, 268, 152).of(image)[:] = 9
    assert (image == 9).all()


@given(st.text(alphabet=st.characters(min_codepoint=32, max_codepoint=126), max_size=60), st.integers(30, 200))
def test_text_stays_within_its_width(text, width):
    image = np.zeros((40, 300, 3), np.uint8)
    taken = canvas.write(image, text, 50, 20, 11.0, width=width)
    columns = np.nonzero(image.any(axis=(0, 2)))[0]
    assert taken <= width
    assert not len(columns) or (columns.min() >= 48 and columns.max() <= 52 + width)


@given(st.floats(-1e4, 1e4), st.floats(1e-3, 1e4))
def test_ticks_are_round_and_enclose_the_range(low, extent):
    ticks = nice_ticks(low, low + extent)
    assert 2 <= len(ticks) <= 6
    assert ticks[0] <= low + 1e-5 * extent and ticks[-1] >= low + extent - 1e-5 * extent
    assert np.allclose(np.diff(ticks), ticks[1] - ticks[0])
    assert np.round(10.0 ** -np.floor(np.log10(ticks[1] - ticks[0]) + 1e-9) * (ticks[1] - ticks[0]), 6) in (1, 2, 5)
