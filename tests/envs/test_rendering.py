import os
import subprocess
import sys
from pathlib import Path

import mujoco
import numpy as np
import pytest

from robofuse.envs.rendering import RENDERERS, Poses, View, make_renderer
from robofuse.envs.rendering.threads import Workers

ROOT = Path(__file__).parents[2]
WORLDS = 7
VIEWS = [View("side", 48, 64), View("above", 32, 32)]
TOP = 0.2  # height of the fixed box's upper face; the camera above it hangs at 1 m
SCENE = """
<mujoco>
  <statistic extent="1"/>
  <visual>
    <map znear="0.01" zfar="10"/>
    <headlight ambient=".4 .4 .4" diffuse=".15 .15 .15" specular="0 0 0"/>
  </visual>
  <worldbody>
    <light type="directional" pos="0 0 2" dir="-.35 .25 -.9" ambient=".05 0 0" diffuse=".5 .5 .5" specular="0 0 0"/>
    <camera name="above" pos="0 0 1" fovy="45"/>
    <camera name="side" pos=".8 -.2 .5" xyaxes=".24 .97 0 -.5 .12 .86" fovy="45"/>
    <geom name="table" type="box" pos="0 0 -.01" size=".4 .4 .01" rgba=".5 .4 .3 1"/>
    <geom name="fixed" type="box" pos="0 0 .1" size=".05 .05 .1" rgba=".9 .2 .1 1"/>
    <geom name="round" type="capsule" pos="-.1 .15 .1" euler="90 20 0" size=".04 .1" rgba=".8 .8 .9 1"/>
    <geom name="ball" type="sphere" pos=".1 .15 .04" size=".04" rgba=".2 .8 .9 1"/>
    <geom name="hidden" type="box" group="3" pos="0 0 .6" size=".1 .1 .1"/>
    <body name="block" pos=".12 -.12 .03">
      <freejoint/>
      <geom name="block" type="box" size=".03 .03 .03"/>
      <site name="mark" size=".1"/>
    </body>
  </worldbody>
</mujoco>
"""


def scene(worlds=WORLDS, xml=SCENE):
    model = mujoco.MjModel.from_xml_string(xml)
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    source = {"geom_size": model, "geom_rgba": model}
    poses = Poses(*(np.repeat(getattr(source.get(f, data), f)[None], worlds, axis=0) for f in Poses._fields))
    rng = np.random.default_rng(0)
    block = model.geom("block").id
    poses.geom_xpos[:, block, 0] += rng.uniform(-0.05, 0.05, worlds)
    poses.geom_size[:, block] = rng.uniform(0.02, 0.05, (worlds, 3))
    poses.geom_rgba[:, block, :3] = rng.uniform(0, 1, (worlds, 3))
    return model, poses


def open_renderer(name, model, poses, views=VIEWS, num_threads=2):
    try:
        return make_renderer(name, model, views, poses, num_threads)
    except RuntimeError as error:
        if name == "gl" and "MUJOCO_GL" not in os.environ:
            pytest.skip(f"no OpenGL here: {error}")
        raise


@pytest.fixture(scope="module", params=list(RENDERERS))
def drawn(request):
    """A renderer, its scene, and what it drew."""
    model, poses = scene()
    renderer = open_renderer(request.param, model, poses)
    yield renderer, model, poses, renderer.render()
    renderer.close()


def assert_same(one, other):
    for pair, twin in zip(one, other, strict=True):
        for array, same in zip(pair, twin, strict=True):
            np.testing.assert_array_equal(array, same)


def test_shapes_and_types(drawn):
    *_, pictures = drawn
    assert [(rgb.shape, rgb.dtype) for rgb, _ in pictures] == [
        ((WORLDS, v.height, v.width, 3), np.dtype(np.uint8)) for v in VIEWS
    ]
    assert [(depth.shape, depth.dtype) for _, depth in pictures] == [
        ((WORLDS, v.height, v.width), np.dtype(np.float32)) for v in VIEWS
    ]
    assert all(array.flags.c_contiguous for pair in pictures for array in pair)


def test_a_known_distance_is_read_to_a_millimetre(drawn):
    *_, pictures = drawn
    depth = pictures[1][1]
    np.testing.assert_allclose(depth[:, 15:17, 15:17], 1 - TOP, atol=1e-3)


def test_a_miss_is_zero_and_black_and_up_is_up(drawn):
    *_, pictures = drawn
    rgb, depth = pictures[0]
    assert (depth[:, 0] == 0).all() and (rgb[:, 0] == 0).all()
    assert (depth[:, 40, 24:40] > 0).all() and (rgb[:, 40, 24:40] > 0).all()
    assert (depth[:, 40, 32] < depth[:, 20, 32]).all()  # what is near stands below what is far


def test_each_world_has_its_own_size_and_colour(drawn):
    _, model, poses, pictures = drawn
    block = model.geom("block").id
    rgb, depth = pictures[1]
    for world in range(WORLDS):
        x, y = poses.geom_xpos[world, block, :2]
        top = poses.geom_xpos[world, block, 2] + poses.geom_size[world, block, 2]
        # the pinhole of the camera above: 32 pixels over 45 degrees
        focal = 16 / np.tan(np.radians(22.5)) / (1 - top)
        row, column = int(16 - y * focal), int(16 + x * focal)
        assert depth[world, row, column] == pytest.approx(1 - top, abs=1e-3)
        light = rgb[world, row, column] / (255 * poses.geom_rgba[world, block, :3])
        assert light == pytest.approx([0.05 + light[1], light[1], light[1]], abs=0.08)


def test_a_subset_is_rows_of_the_whole(drawn):
    renderer, *_, pictures = drawn
    for ids in ([3], [5, 0, 2], [6, 6, 1], list(range(WORLDS))[::-1]):
        assert_same(renderer.render(np.array(ids)), [(rgb[ids], depth[ids]) for rgb, depth in pictures])
    empty = renderer.render(np.array([], dtype=int))
    assert [array.shape[0] for pair in empty for array in pair] == [0] * 4


def test_what_was_drawn_stays(drawn):
    renderer, model, poses, pictures = drawn
    before = [(rgb.copy(), depth.copy()) for rgb, depth in pictures]
    block = model.geom("block").id
    poses.geom_xpos[:, block, 2] += 0.1
    moved = renderer.render()
    poses.geom_xpos[:, block, 2] -= 0.1
    assert_same(pictures, before)
    assert (moved[1][1] != pictures[1][1]).any()
    assert_same(renderer.render(), before)


def test_neither_threads_nor_turns_nor_the_number_of_worlds_matter(drawn, monkeypatch):
    renderer, model, poses, pictures = drawn
    from robofuse.envs.rendering import gl, ray

    monkeypatch.setattr(ray, "SLOTS", 2)
    monkeypatch.setattr(gl, "CHUNK", 2)
    alone = open_renderer(renderer.name, model, poses, num_threads=1)
    assert_same(alone.render(), pictures)
    alone.close()
    single = open_renderer(renderer.name, model, Poses(*(array[4:5] for array in poses)), num_threads=3)
    assert_same(single.render(), [(rgb[4:5], depth[4:5]) for rgb, depth in pictures])
    single.close()


def test_an_infinite_floor_is_the_same_from_every_camera():
    floor = SCENE.replace('type="box" pos="0 0 -.01" size=".4 .4 .01"', 'type="plane" size="0 0 1"')
    model, poses = scene(1, floor)
    for name in RENDERERS:
        both, one = open_renderer(name, model, poses), open_renderer(name, model, poses, VIEWS[:1])
        both.render()
        assert_same(both.render()[:1], one.render())
        both.close()
        one.close()


def test_ids_are_checked(drawn):
    renderer = drawn[0]
    with pytest.raises(IndexError, match=r"\[0, 7\)"):
        renderer.render(np.array([7]))
    with pytest.raises(IndexError):
        renderer.render(np.array([-1]))
    with pytest.raises(ValueError, match="integers"):
        renderer.render(np.ones(WORLDS, dtype=bool))


@pytest.mark.parametrize("name", RENDERERS)
def test_close(name):
    model, poses = scene(2)
    renderer = open_renderer(name, model, poses)
    renderer.render()
    renderer.close()
    renderer.close()
    with pytest.raises(RuntimeError, match="closed"):
        renderer.render()


def flat(depth, rgb, other):
    """Pixels whose eight neighbours lie on the same surface, in depth and in colour."""
    steady = (depth > 0) & (other > 0)
    for dy in (-1, 0, 1):
        for dx in (-1, 0, 1):
            moved = np.roll(depth, (dy, dx), axis=(1, 2)), np.roll(rgb.astype(int), (dy, dx), axis=(1, 2))
            steady &= (np.abs(depth - moved[0]) < 0.02) & (np.abs(rgb - moved[1]).max(axis=-1) < 12)
    steady[:, [0, -1]] = steady[:, :, [0, -1]] = False
    return steady


def test_the_renderers_agree():
    model, poses = scene()
    views = [View("side", 96, 128), View("above", 64, 64)]
    pair = [open_renderer(name, model, poses, views) for name in ("gl", "warp")]
    gl, warp = (renderer.render() for renderer in pair)
    for (rgb, depth), (other_rgb, other_depth) in zip(gl, warp, strict=True):
        assert ((depth > 0) != (other_depth > 0)).mean() < 0.002
        inside = flat(depth, rgb, other_depth)
        assert inside.mean() > 0.25
        assert np.abs(depth - other_depth)[inside].max() < 1e-3
        difference = np.abs(rgb.astype(int) - other_rgb)[inside]
        assert difference.mean() < 1.0 and np.percentile(difference, 99) <= 2
    for renderer in pair:
        renderer.close()


def test_what_is_wrong_is_named():
    model, poses = scene(2)
    with pytest.raises(ValueError, match="'filament'; renderers: warp, gl"):
        make_renderer("filament", model, VIEWS, poses, 1)
    with pytest.raises(ValueError, match="'below'; cameras: above, side"):
        make_renderer("warp", model, [View("below", 8, 8)], poses, 1)
    with pytest.raises(ValueError, match="geom_size must have shape"):
        make_renderer("warp", model, VIEWS, poses._replace(geom_size=poses.geom_size[:1]), 1)
    with pytest.raises(ValueError, match="num_threads"):
        make_renderer("warp", model, VIEWS, poses, 0)
    with pytest.raises(ValueError, match="at least one view"):
        make_renderer("warp", model, [], poses, 1)


def test_no_opengl_says_what_to_do(monkeypatch):
    from robofuse.envs.rendering import gl

    monkeypatch.setattr(gl, "_LIBRARIES", {"egl": ("libnone.so",), "osmesa": ("libnone.so",)})
    monkeypatch.delenv("MUJOCO_GL", raising=False)
    search = gl.choose_opengl.__wrapped__
    with pytest.raises(RuntimeError, match=r"osmesa: libnone.*apt-get install libosmesa6.*renderer=\"warp\""):
        search()
    monkeypatch.setenv("MUJOCO_GL", "vulkan")
    with pytest.raises(RuntimeError, match="MUJOCO_GL=vulkan"):
        search()


def test_glfw_without_a_screen_is_an_error_and_not_a_hang(monkeypatch):
    from robofuse.envs.rendering import gl

    monkeypatch.setenv("MUJOCO_GL", "glfw")
    for screen in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(screen, raising=False)
    with pytest.raises(RuntimeError, match="glfw: .*warp"):
        gl.choose_opengl.__wrapped__()


@pytest.mark.slow
def test_the_interpreter_ends_quietly_when_nobody_closed():
    for name in RENDERERS:
        open_renderer(name, *scene(1)).close()  # skips where it cannot work
    code = """
from test_rendering import *
drawn = [make_renderer(name, *scene()[:1], VIEWS, scene()[1], 2) for name in RENDERERS]
for renderer in drawn:
    renderer.render()
"""
    env = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), str(Path(__file__).parent), str(ROOT / "tests")])}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, env=env)
    # Warp's C++ says so itself where there is no CUDA driver; a busy machine makes us say that we compile
    expected = ("CUDA driver", "robofuse: compiling the ray tracer")
    said = [line for line in done.stderr.splitlines() if not any(text in line for text in expected)]
    assert (done.returncode, said, done.stdout) == (0, [], "")


class Owned:
    made = 0
    closed = 0

    def __init__(self):
        Owned.made += 1

    def close(self):
        Owned.closed += 1


def test_workers_reraise_and_go_on():
    workers = Workers("test", 3, Owned)
    seen = np.zeros(10, int)

    def work(owned, start, stop):
        if start == 3:
            raise KeyError("three")
        seen[start:stop] += 1

    with pytest.raises(KeyError, match="three") as caught:
        workers.start(work, 10)()
    assert caught.traceback[-1].name == "work"
    workers.start(lambda owned, start, stop: seen.__setitem__(slice(start, stop), 5), 10)()
    assert (seen == 5).all()
    workers.close()
    assert (Owned.made, Owned.closed) == (3, 3)


def test_a_factory_that_fails_is_heard():
    def fail():
        raise OSError("no luck")

    with pytest.raises(OSError, match="no luck"):
        Workers("test", 2, fail)
