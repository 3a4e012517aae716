"""A real camera's pictures become those of the simulated one: geometry, depth, calibrations, and what is refused."""

import json
import math
import sys
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from robofuse.deploy import Camera
from robofuse.deploy.calibration import Calibration
from robofuse.deploy.inputs import checked
from robofuse.envs import World
from robofuse.envs.cameras import CAMERAS, area_average
from robofuse.errors import InputError, StateError
from robofuse.sensors import Sensor

RGB = Sensor("rgb", "rgb", (64, 64, 3), "uint8", "sRGB", 255.0, 20.0)
DEPTH = Sensor("depth", "depth", (64, 64, 1), "uint16", "mm", 1000.0, 20.0)
PROPRIO = Sensor("proprio", "vector", (7,), "float32", "rad", 1.0, 20.0)
FOVY = 31.0
LENS: dict[str, Any] = {"fx": 560.0, "fy": 566.0, "cx": 331.5, "cy": 229.0, "width": 640, "height": 480}
BARREL = (-0.32, 0.14, 0.0008, -0.0011, -0.03)
MODELS = {
    "plumb_bob": BARREL,
    "rational_polynomial": (-0.2, 0.05, 0.001, -0.0005, 0.01, 0.1, 0.02, 0.003),
    "equidistant": (-0.01, 0.02, -0.004, 0.001),
}


def stand_in(sensors, world) -> Any:
    """What a Camera reads of a policy."""
    return SimpleNamespace(sensors=sensors, world=world)


def policy(size=64, first=False, **world):
    """One of square pictures, with channels last or first."""
    shapes = {one.key: (one.shape[2], size, size) if first else (size, size, one.shape[2]) for one in (DEPTH, RGB)}
    sensors = (replace(DEPTH, shape=shapes["depth"]), PROPRIO, replace(RGB, shape=shapes["rgb"]))
    return stand_in(sensors, {"cameras": [{"name": "scene", "fovy": FOVY}], **world})


def pinhole(size, factor, fovy=FOVY) -> dict[str, Any]:
    """A calibration that sees just what the simulated camera does, with `factor` times the pixels a side."""
    side = size * factor
    focal, middle = 0.5 * side / math.tan(math.radians(0.5 * fovy)), 0.5 * (side - 1)
    return {"fx": focal, "fy": focal, "cx": middle, "cy": middle, "width": side, "height": side}


def rays_of(lens):
    """The ray x / z, y / z that each pixel of a lens sees, (height, width, 2)."""
    matrix = np.array([[lens["fx"], 0, lens["cx"]], [0, lens["fy"], lens["cy"]], [0, 0, 1.0]])
    pixels = np.stack(np.meshgrid(np.arange(lens["width"]), np.arange(lens["height"])), -1).astype(float)
    undistort = cv2.fisheye.undistortPoints if lens.get("model") == "equidistant" else cv2.undistortPoints
    criteria = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 100, 1e-10)
    rays = undistort(pixels.reshape(-1, 1, 2), matrix, np.array(lens.get("distortion", BARREL)), criteria=criteria)
    return rays.reshape(pixels.shape)


@pytest.fixture(scope="module")
def views():
    """One scene: as a policy reads it, drawn at that size or averaged down to it; and a wider, larger picture of it."""

    def look(**options):
        world = World("Grasp", robot="gripper", sensors=("rgb", "depth"), noise=False, num_threads=1, **options)
        seen = {key: reading[0].numpy() for key, reading in world.reset(seed=3).items()}
        world.close()
        return seen

    wide = replace(CAMERAS["scene"], name="wide", fovy=48.0, size=(720, 960))
    seen, averaged = look(cameras=("scene", wide)), look(render_size=256)
    return SimpleNamespace(
        rgb=seen["rgb"],
        depth=seen["depth"],
        averaged_rgb=averaged["rgb"],
        averaged_depth=averaged["depth"],
        wide_rgb=seen["rgb_wide"],
        wide_depth=seen["depth_wide"],
    )


@pytest.fixture(scope="module")
def real(views):
    """Colours and depth of that scene through a lens that distorts, at 640×480."""
    focal = 360.0 / math.tan(math.radians(24.0))
    x, y = (focal * rays_of(LENS) + (479.5, 359.5)).astype(np.float32).transpose(2, 0, 1)
    return (
        cv2.remap(views.wide_rgb, x, y, cv2.INTER_LINEAR),
        cv2.remap(views.wide_depth, x, y, cv2.INTER_NEAREST),
    )


def smooth(picture, most):
    """Pixels (H, W) whose neighbours differ from each other by at most this, so that no edge is near."""
    channels = [picture[..., i].astype(float) for i in range(picture.shape[2])]
    square = np.ones((3, 3))
    return np.all([cv2.dilate(x, square) - cv2.erode(x, square) <= most for x in channels], axis=0)


def error(got, wanted, where=...):
    return np.abs(got.astype(float) - wanted.astype(float))[where].mean()


def cropped(picture):
    """By hand: the middle of the picture with the field of view of the simulated camera, averaged; the lens is left."""
    side = round(2 * LENS["fy"] * math.tan(math.radians(0.5 * FOVY)))
    top, left = (LENS["height"] - side) // 2, (LENS["width"] - side) // 2
    return cv2.resize(picture[top : top + side, left : left + side], (64, 64), interpolation=cv2.INTER_AREA)


def test_colours_are_those_that_the_simulated_camera_draws(views, real):
    got, flat = Camera(policy(), "rgb", **LENS, distortion=BARREL).rgb(real[0]), smooth(views.rgb, 16)
    assert got.dtype == np.uint8 and got.shape == views.rgb.shape and 0.8 < flat.mean() < 0.99
    # away from edges all that is left is rounding; at edges the simulated picture is compared that is averaged too
    assert error(got, views.rgb, flat) < 0.1
    assert error(got, views.averaged_rgb) < 0.2
    by_hand = cropped(real[0])
    assert error(by_hand, views.rgb, flat) > 10 * error(got, views.rgb, flat)
    assert error(by_hand, views.averaged_rgb) > 10 * error(got, views.averaged_rgb)


def test_depth_is_that_which_the_simulated_camera_draws(views, real):
    camera = Camera(policy(), "rgb", **LENS, distortion=BARREL)
    got, flat = camera.depth(real[1]), smooth(views.depth, 25)
    assert got.dtype == np.uint16 and got.shape == views.depth.shape and 0.5 < flat.mean() < 0.99
    # sampling without interpolation is off by up to half a pixel of the camera, of which 8 make one of the policy
    # (here 2 to 20 mm apart), but evenly to all sides; what is left is rounding to millimetres, and of the median
    assert error(got, views.depth, flat) < 0.6
    assert np.percentile(np.abs(got.astype(float) - views.depth), 98) < 5.0  # at edges too it is one of the surfaces
    assert error(cropped(real[1].astype(np.float32))[..., None], views.depth, flat) > 10 * error(got, views.depth, flat)


def test_where_the_simulated_camera_averages_across_edges_so_does_the_adapter(views, real):
    one, several = policy(), policy(render_size=256)
    median, mean = (Camera(x, "depth", **LENS, distortion=BARREL).depth(real[1]) for x in (one, several))
    assert error(mean, views.averaged_depth) < min(2.5, 0.7 * error(median, views.averaged_depth))
    assert error(median, views.depth) < min(2.5, 0.7 * error(mean, views.depth))


@pytest.mark.parametrize("factor", [1, 3, 8])
def test_a_camera_as_the_simulated_one_gives_the_average_that_a_world_gives(factor):
    random = np.random.default_rng(factor)
    colours = random.integers(0, 256, (16 * factor, 16 * factor, 3), np.uint8)
    depth = random.integers(1, 65536, (16 * factor, 16 * factor, 1)).astype(np.uint16)
    depth[random.random(depth.shape) < 0.5] = 0
    camera = Camera(policy(16, render_size=17), "rgb", **pinhole(16, factor))
    wanted = [area_average(torch.from_numpy(x[None]), factor)[0].numpy() for x in (colours, depth)]
    assert np.array_equal(camera.rgb(colours), wanted[0])
    assert np.array_equal(camera.depth(depth), wanted[1])


@pytest.mark.parametrize("name", MODELS)
def test_every_model_of_a_lens_is_undone(name):
    lens = LENS | {"distortion": MODELS[name], "model": name}
    camera = Camera(policy(32), "depth", **lens)
    focal = 16.0 / math.tan(math.radians(0.5 * FOVY))
    wanted = (np.arange(32) - 15.5) / focal
    for axis in (0, 1):  # depth that tells which ray a pixel sees: 1 mm is 0.001 of a ray's slope, a 58th of a pixel
        got = camera.depth((1.0 + rays_of(lens)[..., axis]).astype(np.float32))[..., 0] / 1000.0 - 1.0
        off = got - (wanted[None, :] if axis == 0 else wanted[:, None])
        assert np.abs(off).max() < 0.003 and abs(off.mean()) < 0.0002  # one is a pixel and a half of the camera


def test_a_lens_that_turns_back_does_not_show_what_it_cannot_see():
    """Far out its polynomial puts rays into the picture again."""
    lens: dict[str, Any] = {"fx": 125.0, "fy": 125.0, "cx": 79.5, "cy": 59.5, "width": 160, "height": 120}
    lens["distortion"] = (-0.5, 0.0, 0.0, 0.0)
    assert 0 < Calibration(**lens).project(np.array([[0.0, 1.3]]))[0, 1] < 120
    with pytest.raises(InputError, match="does not see .*° at the left"):
        Camera(policy(), "rgb", **lens, fovy=100.0)
    far = Camera(policy(), "rgb", **lens, fovy=100.0, borders=True).rgb(np.full((120, 160, 3), 200, np.uint8))
    rays = (np.arange(64) - 31.5) / (32.0 / math.tan(math.radians(50.0)))
    radius = np.hypot(*np.meshgrid(rays, rays))
    turns = 1.0 / math.sqrt(1.5)  # where r (1 - r² / 2) is largest
    assert (far[radius > turns + 0.05] == 0).all()
    assert (far[(radius < 0.4)] == 200).all()


def test_what_the_camera_does_not_see_is_told_in_degrees_or_left_black():
    narrow = pinhole(16, 8, fovy=25.0)
    with pytest.raises(InputError) as told:
        Camera(policy(16), "rgb", **narrow)
    found = str(told.value)
    assert "'rgb' sees 31.0° × 31.0°" in found and "borders=True" in found and "fovy=25." in found
    gaps = [float(found.split(f"° at the {side}")[0].split()[-1]) for side in ("left", "right", "top", "bottom")]
    assert np.allclose(gaps, 3.0, atol=0.4)  # up to a pixel of the camera is forgiven
    camera = Camera(policy(16), "rgb", **narrow, borders=True)
    colours, depth = camera.rgb(np.full((128, 128, 3), 9, np.uint8)), camera.depth(np.full((128, 128), 700, np.uint16))
    inside = np.zeros((16, 16), bool)
    inside[2:14, 2:14] = True  # tan 12.5° / tan 15.5° of 8 pixels is 6.4
    assert (colours[inside] == 9).all() and (colours[~inside] == 0).all()
    assert (depth[inside] == 700).all() and (depth[~inside] == 0).all()
    shifted: dict[str, Any] = pinhole(16, 8) | {"cx": 43.5}  # the principal point is 20 pixels from the middle
    with pytest.raises(InputError, match=r"does not see \d\.\d° at the left of it"):
        Camera(policy(16), "rgb", **shifted)
    with pytest.raises(InputError, match="not its middle; are cx and cy"):
        Camera(policy(16), "rgb", **{**shifted, "cx": 4000.0})


SHOTS = st.integers(0, 2**32 - 1)


@settings(max_examples=25, deadline=None)
@given(SHOTS, st.floats(0.0, 1.0), st.floats(-0.2, 0.2), st.floats(0.5, 6.0))
def test_a_depth_is_one_that_was_measured(seed, holes, k1, zoom):
    random = np.random.default_rng(seed)
    lens = {"fx": 30.0 * zoom, "fy": 31.0 * zoom, "cx": 40.0, "cy": 27.0, "width": 80, "height": 60}
    camera = Camera(policy(8), "depth", **lens, distortion=(k1, 0.0, 0.0, 0.0), borders=True)
    shot = random.integers(1, 65536, (60, 80)).astype(np.uint16)
    shot[random.random(shot.shape) < holes] = 0
    small = camera.depth(shot)
    assert small.shape == (8, 8, 1) and np.isin(small, np.append(shot, 0)).all()
    metres = np.where(shot > 0, shot / np.float64(1000.0), random.choice([np.nan, np.inf, -np.inf, -1.0, 0.0]))
    assert np.array_equal(camera.depth(metres), small)
    assert np.isin(camera.depth(shot, farthest=20.0), np.append(shot[shot <= 20_000], 0)).all()
    colours = random.integers(20, 90, (60, 80, 3), np.uint8)
    seen = camera.rgb(colours)
    assert set(np.unique(seen)) <= {0, *range(20, 90)}
    assert np.array_equal(camera.rgb(colours[..., ::-1], bgr=True), seen)


def test_at_an_edge_the_surface_that_fills_more_of_a_pixel_is_seen():
    shot = np.full((64, 64), 900, np.uint16)
    shot[:, :29] = 500  # the edge is 5 / 8 into a pixel
    assert Camera(policy(8), "depth", **pinhole(8, 8)).depth(shot)[0, :, 0].tolist() == [500] * 4 + [900] * 4
    mixed = Camera(policy(8, render_size=16), "depth", **pinhole(8, 8)).depth(shot)
    assert mixed[0, :, 0].tolist() == [500] * 3 + [650] + [900] * 4
    shot[:, :29] = 0
    half = Camera(policy(8, render_size=16), "depth", **pinhole(8, 8)).depth(shot)
    assert half[0, :, 0].tolist() == [0] * 4 + [900] * 4  # and no return is never mixed in
    tie = np.array([[900, 500, 0], [500, 900, 0], [0, 500, 900]], np.uint16)
    assert Camera(policy(1), "depth", **pinhole(1, 3)).depth(tie).item() == 500  # the nearer one


def test_no_return_has_many_forms_and_what_is_too_far_is_one():
    camera = Camera(policy(4), "depth", **pinhole(4, 1))
    shot = np.full((4, 4), 1.001, np.float32)
    shot[0] = np.nan, np.inf, -np.inf, -1.0
    shot[1] = 0.0, 0.0004, 65.6, 1.002
    wanted = np.full((4, 4), 1001)
    wanted[:2] = 0
    assert np.array_equal(camera.depth(shot, farthest=1.001)[..., 0], wanted)
    wanted[1, 3] = 1002
    assert np.array_equal(camera.depth(shot)[..., 0], wanted)
    assert np.array_equal(camera.depth(wanted.astype(np.uint16), farthest=1.001)[1], np.zeros((4, 1)))


@pytest.mark.parametrize("fill", [0, 1, 2, 3])
def test_holes_of_up_to_twice_as_many_pixels_are_filled_from_what_is_next_to_them(fill):
    camera = Camera(policy(64), "depth", **pinhole(64, 1))
    for width in (1, 2, 4, 5, 6, 9):
        for hole in (np.s_[20 : 20 + width, 20 : 20 + width], np.s_[:, 20 : 20 + width]):
            shot = np.full((64, 64), 900, np.uint16)
            shot[:, :20] = 500
            shot[hole] = 0
            got = camera.depth(shot, fill=fill)[..., 0]
            if width > 2 * fill:
                assert np.array_equal(got, shot)
            else:
                assert np.isin(got, (500, 900)).all() and np.array_equal(got[shot > 0], shot[shot > 0])
                assert got[30, 20] == 500 or hole[0] != np.s_[:]
    assert not camera.depth(np.zeros((64, 64), np.uint16), fill=9).any()


def test_channels_are_where_the_sensor_has_them_and_pictures_may_be_views():
    random = np.random.default_rng(0)
    colours, depth = random.integers(0, 256, (48, 48, 3), np.uint8), random.random((48, 48, 1), np.float32)
    last, first = (Camera(policy(16, first), "rgb", **pinhole(16, 3)) for first in (False, True))
    assert np.array_equal(first.rgb(colours), last.rgb(colours).transpose(2, 0, 1))
    assert np.array_equal(first.depth(depth), last.depth(depth[..., 0]).transpose(2, 0, 1))
    flipped = colours[::-1, :, ::-1].copy()[::-1]
    assert np.array_equal(last.rgb(flipped, bgr=True), last.rgb(colours))
    assert first.rgb(colours).flags.c_contiguous and last.rgb(colours, bgr=True).flags.c_contiguous


@pytest.mark.parametrize("first", [False, True])
def test_a_policy_takes_what_it_gives(first):
    small = policy(20, first)
    camera = Camera(small, "rgb", **LENS, distortion=np.array([BARREL]))
    assert camera.fovy == FOVY and camera.shape == (20, 20)
    depth, _, rgb = small.sensors
    checked(rgb, camera.rgb(np.zeros((480, 640, 3), np.uint8)))  # as feed does
    checked(depth, camera.depth(np.full((480, 640), 0.7, np.float32)))


def test_each_simulated_camera_has_its_own_field_of_view():
    lens = pinhole(64, 2, fovy=40.0)
    sensors = [replace(RGB, key=key) for key in ("rgb", "rgb_wrist", "image")]
    cameras = ["top", {"fovy": 3.0}, {"name": "wrist", "fovy": 75.0}, {"name": "scene", "fovy": 31.0}]
    several = stand_in(sensors, {"cameras": cameras})
    assert Camera(several, "rgb", **lens).fovy == 31.0
    assert Camera(several, "rgb", **lens, fovy=20.0).fovy == 20.0
    with pytest.raises(InputError, match="'rgb_wrist' sees 75.0°"):
        Camera(several, "rgb_wrist", **lens)
    with pytest.raises(InputError, match="field of view of 'image'.*fovy=…"):
        Camera(several, "image", **lens)
    assert Camera(several, "image", **lens, fovy=25.0).fovy == 25.0
    for odd in (None, 3, "x", [3], [{"name": "scene"}]):
        with pytest.raises(InputError, match="does not tell the field of view"):
            Camera(stand_in(sensors, {"cameras": odd}), "rgb", **lens)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"key": "lidar"}, "unknown sensor 'lidar'.*depth, proprio, rgb"),
        ({"key": "proprio"}, "'proprio' is a vector.*pictures: depth, rgb"),
        ({"policy": 3}, "robofuse.deploy.Policy, got a int"),
        ({"fx": 0.0}, "fx must be .* above 0, got 0.0; .* never calibrated"),
        ({"cy": float("nan")}, "cy must be .* got nan"),
        ({"width": 640.0}, "width must be an integer"),
        ({"model": "fisheye"}, "unknown model.*'fisheye'.*equidistant"),
        ({"distortion": (0.1, 0.2)}, r"distortion of plumb_bob is 0 or 4 or 5 numbers, got \(0.1, 0.2\)"),
        ({"distortion": "none"}, "distortion of plumb_bob"),
        ({"distortion": 3}, "distortion of plumb_bob"),
        ({"fovy": 180.0}, "fovy must lie between 0 and 180 degrees, got 180.0"),
        ({"fovy": "31"}, "fovy .*got '31'"),
        ({"fovy": 176.0, "borders": True, "width": 8000, "fx": 7000.0, "fy": 7000.0}, "smaller pictures"),
    ],
)
def test_bad_cameras_are_named(change, sentence):
    options = {"policy": policy(), "key": "rgb", **LENS, **change}
    with pytest.raises(InputError, match=sentence):
        Camera(options.pop("policy"), options.pop("key"), **options)


@pytest.mark.parametrize(
    ("method", "picture", "sentence"),
    [
        ("rgb", [[1]], "NumPy array.*list.*numpy.asarray"),
        ("rgb", np.zeros((480, 640, 4), np.uint8), r"\(480, 640, 3\), got \(480, 640, 4\); .*x\[..., :3\]"),
        ("rgb", np.zeros((640, 480, 3), np.uint8), "rows come first"),
        ("rgb", np.zeros((3, 480, 640), np.uint8), "channels come last"),
        ("rgb", np.zeros((720, 1280, 3), np.uint8), "the size that was calibrated"),
        ("rgb", np.zeros((480, 640, 3), np.float32), r"uint8.*got float32; .*255 \* x"),
        ("rgb", np.zeros((480, 640, 3), np.uint16), "uint8.*got uint16"),
        ("depth", np.zeros((480, 640, 3), np.uint16), r"\(480, 640\), got .*x\[..., 0\]"),
        (
            "depth",
            np.zeros((480, 640), np.int32),
            r"uint16 millimetres or float32 metres.*int32; x.astype\(numpy.uint16\)",
        ),
        ("depth", np.zeros((480, 640), np.float16), r"got float16; x.astype\(numpy.float32\)"),
        ("depth", np.zeros(3, np.uint16), r"got \(3,\)"),
    ],
)
def test_bad_pictures_are_named(method, picture, sentence):
    camera = Camera(policy(), "rgb", **LENS)
    with pytest.raises(InputError, match=sentence):
        getattr(camera, method)(picture)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"farthest": 0.0}, "farthest.*0.0"),
        ({"farthest": "1"}, "farthest.*'1'"),
        ({"fill": -1}, "fill.*-1"),
        ({"fill": 1.5}, "fill.*1.5"),
    ],
)
def test_bad_options_of_depth_are_named(options, sentence):
    with pytest.raises(InputError, match=sentence):
        Camera(policy(), "rgb", **LENS).depth(np.zeros((480, 640), np.uint16), **options)


ROS = """\
image_width: 640
image_height: 480
camera_name: narrow
camera_matrix:
  rows: 3
  cols: 3
  data: [560.0, 0., 331.5, 0., 566.0, 229.0, 0., 0., 1.]
distortion_model: plumb_bob
distortion_coefficients:
  rows: 1
  cols: 5
  data: [-0.32, 0.14, 8e-4, -0.0011, -3e-2]
rectification_matrix:
  rows: 3
  cols: 3
  data: [1., 0., 0., 0., 1., 0., 0., 0., 1.]
"""


def test_calibrations_of_ros_are_read_and_json_is_the_same(tmp_path):
    (tmp_path / "camera.yaml").write_text(ROS)
    (tmp_path / "camera.json").write_text(json.dumps(yaml.safe_load(ROS)))
    wanted = Calibration(**LENS, distortion=(-0.32, 0.14, 8e-4, -0.0011, -3e-2))
    for name in ("camera.yaml", "camera.json"):
        camera = Camera.read(tmp_path / name, policy(), "depth")
        assert camera.calibration == wanted and camera.key == "depth"
    with pytest.raises(InputError, match="does not see"):
        Camera.read(tmp_path / "camera.json", policy(), "depth", fovy=48.0)
    assert Camera.read(str(tmp_path / "camera.json"), policy(), "depth", fovy=48.0, borders=True).fovy == 48.0


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("image_width: 640\n", "", "image_width is missing"),
        ("640", "wide", "image_width is 'wide', not a number"),
        ("640", "640.5", "width must be an integer.*640.5"),
        ("640", "true", "image_width is True, not a number"),
        ("camera_matrix:", "matrix:", "camera_matrix.data is missing"),
        ("560.0, 0., ", "560.0, ", "camera_matrix.data is 8 numbers, too few"),
        ("560.0, 0., ", "560.0, 0., 0., ", "camera_matrix.data is more than 9"),
        ("560.0, 0., ", "560.0, 2., ", "camera_matrix.data is .*not fx, 0, cx"),
        ("560.0", "0.0", "fx must be .* above 0"),
        ("560.0", ".nan", "camera_matrix.data is nan, not finite"),
        ("plumb_bob", "kannala", "unknown model of distortion 'kannala'; models: plumb_bob"),
        ("plumb_bob", "equidistant", "distortion of equidistant is 4 numbers"),
        ("[-0.32, 0.14, 8e-4, -0.0011, -3e-2]", "none", "distortion_coefficients.data is 'none', not a list"),
        ("image_width: 640\n", "image_width: [\n", "is not YAML as ROS writes it"),
        ("image_width: 640\n", "%YAML:1.0\n---\n", "OpenCV's own files are not"),
    ],
)
def test_bad_calibrations_are_named_with_file_and_field(tmp_path, old, new, sentence):
    assert old in ROS
    path = tmp_path / "camera.yaml"
    path.write_text(ROS.replace(old, new, 1))
    with pytest.raises(InputError, match=f"^{path}.*{sentence}") as told:
        Camera.read(path, policy(), "rgb")
    assert "\n" not in str(told.value)


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=3),
    lambda x: st.lists(x, max_size=3) | st.dictionaries(st.text(max_size=3), x, max_size=3),
    max_leaves=4,
)
FIELDS = ("image_width", "image_height", "camera_matrix", "distortion_model", "distortion_coefficients")


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(FIELDS), st.booleans(), JSON)
def test_strange_files_are_refused_and_nothing_else_happens(tmp_path_factory, field, within, value):
    plain = yaml.safe_load(ROS)
    plain[field] = {"data": value} if within else value
    path = tmp_path_factory.getbasetemp() / "strange.json"
    path.write_text(json.dumps(plain))
    try:
        Calibration.read(path)
    except InputError as error:
        assert "strange.json" in str(error) and len(str(error)) < 400


def test_files_that_are_none_are_named(tmp_path):
    (tmp_path / "camera.json").write_bytes(b"\xff{")
    (tmp_path / "list.json").write_text("[1]")
    (tmp_path / "cut.json").write_text('{"image_width": 6')
    (tmp_path / "deep.json").write_text("[" * 100_000)
    for name, sentence in [
        ("none.yaml", "there is no file .*none.yaml; ROS"),
        ("camera.xml", ".yaml or .json, not .*camera.xml"),
        ("camera.json", "camera.json cannot be read"),
        ("list.json", "list.json: camera_matrix.data is missing"),
        ("cut.json", "cut.json is not JSON"),
        ("deep.json", "deep.json is not JSON"),
    ]:
        with pytest.raises(InputError, match=sentence):
            Camera.read(tmp_path / name, policy(), "rgb")


def test_missing_packages_are_named(tmp_path, monkeypatch):
    (tmp_path / "camera.yaml").write_text(ROS)
    monkeypatch.setitem(sys.modules, "yaml", None)
    with pytest.raises(StateError, match="pip install pyyaml; or write the same as .json"):
        Camera.read(tmp_path / "camera.yaml", policy(), "rgb")
    monkeypatch.setitem(sys.modules, "cv2", None)
    with pytest.raises(StateError, match="pip install opencv-python"):
        Camera(policy(), "rgb", **LENS)
