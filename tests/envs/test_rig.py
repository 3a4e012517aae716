"""Sensors: cameras against closed-form distances, noise against its stated size, timing against its definition."""

import numpy as np
import pytest
import torch
from helpers import BLIND, rest

from robofuse.envs import Camera, Noise, Timing, World
from robofuse.envs.noise import NoiseSource
from robofuse.envs.rig import DelayLine

RENDERERS = ["warp", "gl"]
ABOVE = Camera("above", (0.0, 0.0, 0.9), (0.0, 0.0, 0.0), 30.0)


@pytest.fixture(params=RENDERERS)
def renderer(request, needs_gl):
    if request.param == "gl":
        needs_gl()
    return request.param


def _clear_view(renderer, noise, size=33):
    """A block right below a camera, the arm out of the way to the side."""
    world = World("Grasp", 2, cameras=(ABOVE,), renderer=renderer, noise=noise, image_size=size)
    world.reset(seed=0)
    qpos, block = world.backend.field("qpos"), world.task._qpos
    qpos[:, 0] = 2.0
    half = world.backend.parameter("geom_size")[:, world.task._geom]
    upright = torch.tensor([1.0, 0.0, 0.0, 0.0]).double().expand(2, 4)
    spot = torch.cat([world.robot.workspace[:2].expand(2, 2), half[:, 2:]], dim=1)
    qpos[:, block : block + 7] = torch.cat([spot, upright], dim=1)
    world.backend.commit(torch.arange(2))
    world.robot.update()
    return world, half


def test_a_box_at_a_known_distance_reads_its_depth(renderer):
    world, half = _clear_view(renderer, noise=False, size=99)
    depth = world._rig.expose(0, world.episode, world.elapsed)()["depth_above"][..., 0].int()
    middle = depth[:, 49, 49]
    expected = 1000.0 * (0.9 - 2.0 * half[:, 2])
    assert (middle - expected).abs().max() <= 1.0
    # the table around it: distance along the axis, not along the ray
    for row, column in ((6, 6), (6, 90), (90, 49)):
        assert (depth[:, row, column] - 900).abs().max() <= 1
    # as large as it is: its top face's area follows from pixel size × distance
    pixel = 2.0 * np.tan(np.radians(15.0)) / 99 * (0.9 - 2.0 * half[:, 2])
    covered = (depth < 890).sum(dim=(1, 2)) * pixel.square()
    assert torch.allclose(covered, 4.0 * half[:, 0] * half[:, 1], rtol=0.10)
    world.close()


def test_colour_is_the_blocks(renderer):
    world, _ = _clear_view(renderer, noise=False)
    rgb = world._rig.expose(0, world.episode, world.elapsed)()["rgb_above"][:, 16, 16].float()
    own = world.backend.parameter("geom_rgba")[:, world.task._geom, :3]
    shade = rgb / 255.0 / own.clamp(min=0.05)
    bright = own > 0.2
    assert shade[bright].min() > 0.5 and shade[bright].max() <= 1.05
    for index in range(2):  # one shade for all channels
        assert shade[index][bright[index]].std(unbiased=False) < 0.03
    world.close()


def test_both_renderers_see_the_same_grasp(needs_gl):
    """In the real scene, through the real cameras, with the hand at the block: 1 mm and a few shades."""
    needs_gl()
    views = {}
    for name in RENDERERS:
        world = World("Grasp", 4, cameras=("scene", "wrist", "front"), renderer=name, noise=False, seed=2)
        world.reset()
        for _ in range(18):
            observation = world.step(world.expert()).observation
        views[name] = observation
        world.close()
    for camera in ("", "_wrist", "_front"):
        a, b = (views[name]["depth" + camera][..., 0].int() for name in RENDERERS)
        rgb, other = (views[name]["rgb" + camera].int() for name in RENDERERS)
        # silhouettes: where a neighbour's depth or colour jumps, a pixel may fall to either side
        edge = torch.zeros_like(a, dtype=torch.bool)
        for image, jump in ((a, 8), (rgb.sum(-1), 12)):
            for axis in (1, 2):
                bends = image.diff(dim=axis, n=2).abs() > jump
                for low in (0, 1, 2):
                    edge.narrow(axis, low, bends.shape[axis]).logical_or_(bends)
        inside = ~edge & (a > 0) & (b > 0)
        assert inside.float().mean() > 0.4
        assert (a - b).abs()[inside].max() <= 1
        difference = (rgb - other).abs()[inside].float()
        assert difference.mean() < 1.0 and difference.max() <= 3


def test_a_miss_is_zero(renderer):
    sky = Camera("sky", (0.0, 0.0, 0.5), (1.0, 0.0, 1.5), 30.0)
    world = World("Reach", 1, cameras=(sky,), renderer=renderer, image_size=16)
    observation = world.reset(seed=0)
    assert observation["depth_sky"].eq(0).all()
    world.close()


def test_the_wrist_camera_moves_with_the_hand(renderer):
    world = World("Reach", 1, cameras=("wrist", "front"), renderer=renderer, image_size=32, noise=False)
    first = world.reset(seed=0)
    for _ in range(5):
        down = rest(world)
        down[:, 2] = -1.0
        last = world.step(down).observation
    change = {key: (first[key].int() - last[key].int()).abs().float().mean() for key in ("depth_wrist", "depth_front")}
    assert change["depth_wrist"] > 20 and change["depth_front"] > 1
    world.close()


def test_camera_noise_has_its_stated_size(renderer):
    world, _ = _clear_view(renderer, noise=Noise(rgb=3.0, depth=0.004))
    exact, _ = _clear_view(renderer, noise=False)
    clean = exact._rig.expose(0, exact.episode, exact.elapsed)()
    errors, colours = [], []
    for step in range(30):
        noisy = world._rig.expose(0, world.episode, torch.full((2,), step))()
        errors.append(noisy["depth_above"].float() - clean["depth_above"].float())
        colours.append(noisy["rgb_above"].float() - clean["rgb_above"].float())
    distance = clean["depth_above"].float() / 1000.0
    # σ = 0.004 d² metres, plus rounding to a millimetre
    scaled = torch.stack(errors)[:, distance > 0] / 1000.0 / distance[distance > 0].square()
    assert scaled.std() == pytest.approx(0.004, rel=0.03) and abs(scaled.mean()) < 1e-4
    inside = (clean["rgb_above"] > 20) & (clean["rgb_above"] < 235)
    spread = torch.stack(colours)[:, inside]
    assert spread.std() == pytest.approx(3.0, rel=0.03) and abs(spread.mean()) < 0.05
    # white in time and space: two moments, and neighbouring pixels, are unrelated
    a, b = (torch.stack(errors)[i].flatten().numpy() for i in (0, 1))
    assert abs(np.corrcoef(a, b)[0, 1]) < 0.1
    world.close(), exact.close()


def test_noise_saturates_and_keeps_misses():
    source = NoiseSource(Noise(rgb=40.0, depth=0.5), np.zeros(0))
    place = np.arange(4) * 12345
    for value in (0, 255):
        image = np.full((4, 32, 32, 3), value, np.uint8)
        source.rgb(image, place, image)
        # one half of the noise is cut off, and nothing wraps around to the other end
        assert (image == value).mean() == pytest.approx(0.5, abs=0.02)
        assert np.abs(image.astype(int) - value).max() < 40 * 6
    misses = np.ones((4, 8, 8, 1), np.uint16)
    source.millimetres(np.zeros((4, 8, 8), np.float32), place, misses)
    assert (misses == 0).all()
    far = np.ones((1, 1, 4), np.uint16)
    NoiseSource(Noise.off(), np.zeros(0)).millimetres(
        np.array([[[70.0, 65.0, 65.535, 0.0014]]], np.float32), place[:1], far
    )
    assert far.tolist() == [[[0, 65000, 65535, 1]]]


def test_force_noise_bias_and_encoders_have_their_stated_size():
    noise = Noise(rgb=0, depth=0, encoder=1.0, force=0.2, torque=0.01, bias=0.5, bias_period=60.0)
    options = {"sensors": BLIND, "seed": 5}
    noisy, exact = World("Reach", 200, noise=noise, **options), World("Reach", 200, noise=False, **options)
    a, b = noisy.reset(), exact.reset()
    forces, joints = [], []
    for _ in range(10):
        a, b = noisy.step(rest(noisy)).observation, exact.step(rest(exact)).observation
        forces.append((a["force"] - b["force"]).double())
        joints.append((a["proprio"] - b["proprio"]).double())
    error = torch.stack(forces)  # (steps, worlds, window, 8)
    white = error - error.mean(dim=(0, 2), keepdim=True)
    assert white[..., :3].std() == pytest.approx(0.2, rel=0.05)
    assert white[..., 3:6].std() == pytest.approx(0.01, rel=0.05)
    bias = error.mean(dim=(0, 2))
    assert bias[:, :3].std() == pytest.approx(0.5, rel=0.15) and bias[:, 3:6].std() == pytest.approx(0.01, rel=0.15)
    assert (a["force"][..., 6:] >= 0).all()
    angles = torch.stack(joints)
    assert angles[..., :7].std() == pytest.approx(5e-4, rel=0.05)
    assert angles[..., 9:16].std() == pytest.approx(5e-3, rel=0.05)
    # the hand is where the noisy joints say: the same error as the Jacobian makes of theirs
    moved = (torch.from_numpy(exact.robot._jacobian[:, :3]) @ angles[-1][:, :7, None])[..., 0]
    assert torch.allclose(angles[-1][:, 18:21], moved, atol=1e-5)


def test_the_slow_bias_is_slow_and_different_from_episode_to_episode():
    world = World("Reach", 2, noise=Noise(0, 0, 0, force=0, torque=0, bias=1.0), sensors=("force",), seed=1)
    exact = World("Reach", 2, noise=False, sensors=("force",), seed=1)
    world.reset(), exact.reset()
    bias = []
    for _ in range(50):
        biased, true = (one.step(rest(one)).observation["force"] for one in (world, exact))
        bias.append((biased - true)[:, -1])
    track = torch.stack(bias)[:, :, :6]
    assert (track[1:] - track[:-1]).abs().max() < 0.02
    assert (track[-1] - track[0]).abs().max() > 0.05
    assert not torch.allclose(track[:, 0], track[:, 1], atol=0.05)


@pytest.mark.parametrize("window", [1, 4, 10, 25])
def test_a_force_window_is_the_last_readings(window):
    world = World("Grasp", 2, sensors=("force",), noise=False, force_window=window)
    history = [world.reset(seed=0)["force"][:, -1:]]
    assert world.sensors[0].shape == (window, 8)
    for _ in range(5):
        action = torch.rand(2, 5) * 2 - 1
        observation = world.step(action).observation["force"]
        history.append(torch.from_numpy(world.robot.wrench()).float())
    whole = torch.cat([history[0].expand(2, window, 8), *history[1:]], dim=1)
    assert torch.equal(observation, whole[:, -window:])


def test_force_readings_come_at_200_hz():
    """A push that begins between two control steps shows within the window as a change from one reading to the next."""
    world = World("Reach", 1, sensors=("force",), noise=False)
    world.reset(seed=0)
    for _ in range(5):
        world.step(rest(world))
    world.backend.field("xfrc_applied")[0, world.backend.model.body("robot/hand/hand").id, 2] = -20.0
    window = world.step(rest(world)).observation["force"][0, :, 2]
    assert window.unique().numel() == 10 and (window[1:] - window[:-1]).abs().max() > 0.5


def _deliveries(timing, readings):
    line = DelayLine(timing, 1)
    return [int(line.pass_on(torch.tensor([[value]]), torch.tensor([k]), torch.tensor([0]))) for k, value in readings]


def test_late_and_seldom_sensors():
    steps = list(enumerate(range(100, 108)))
    assert _deliveries(Timing(1, 0), steps) == [100, 101, 102, 103, 104, 105, 106, 107]
    assert _deliveries(Timing(1, 2), steps) == [100, 100, 100, 101, 102, 103, 104, 105]
    assert _deliveries(Timing(3, 0), steps) == [100, 100, 100, 103, 103, 103, 106, 106]
    assert _deliveries(Timing(2, 1), steps) == [100, 100, 101, 101, 103, 103, 105, 105]
    # a new episode starts afresh
    assert _deliveries(Timing(1, 2), [*steps[:3], (0, 7), (1, 8), (2, 9), (3, 10)]) == [100, 100, 100, 7, 7, 7, 8]


def test_timing_reaches_the_observation():
    options = {"noise": False, "image_size": 16, "seed": 0}
    plain = World("Grasp", 2, **options)
    late = World("Grasp", 2, timing={"depth": Timing(delay=2), "proprio": Timing(update_interval=4)}, **options)
    a, b = [plain.reset()], [late.reset()]
    for _ in range(9):
        action = torch.rand(2, 5) * 2 - 1
        a.append(plain.step(action).observation)
        b.append(late.step(action).observation)
    for k in range(10):
        assert torch.equal(b[k]["rgb"], a[k]["rgb"])
        assert torch.equal(b[k]["depth"], a[max(k - 2, 0)]["depth"])
        assert torch.equal(b[k]["proprio"], a[k - k % 4]["proprio"])
    sensors = {sensor.key: sensor for sensor in late.sensors}
    assert sensors["depth"].latency == pytest.approx(0.1) and sensors["proprio"].rate == pytest.approx(5.0)
    assert sensors["force"].rate == pytest.approx(20.0) and sensors["force"].sample_rate == pytest.approx(200.0)
    plain.close(), late.close()


@pytest.mark.parametrize("values", [{"update_interval": 0}, {"delay": -1}, {"update_interval": 1.5}])
def test_impossible_timing(values):
    with pytest.raises(ValueError, match=f"{next(iter(values))} must be an integer of at least"):
        Timing(**values)


@pytest.mark.parametrize("values", [{"force": float("nan")}, {"rgb": -1.0}, {"bias_period": 0.0}, {"depth": "much"}])
def test_impossible_noise(values):
    with pytest.raises(ValueError, match=f"Noise.{next(iter(values))} must be"):
        Noise(**values)


def test_large_images_have_noise_too():
    source = NoiseSource(Noise(), np.zeros(0))
    images = np.full((2, 700, 600, 3), 128, np.uint8)
    source.rgb(images, np.array([5, 2**61]), images)
    assert images.std() == pytest.approx(2.0, rel=0.03)
    lines = images.reshape(2, 700, -1).astype(float) - 128.0
    for a, b in ((lines[0, 0], lines[0, 1]), (lines[0, 0], lines[1, 0]), (lines[0, 3], lines[1, 650])):
        assert abs(np.corrcoef(a, b)[0, 1]) < 0.1
    depth = np.zeros((1, 700, 600), np.uint16)
    source.millimetres(np.ones((1, 700, 600), np.float32), np.array([7]), depth)
    assert depth.std() == pytest.approx(1.5, rel=0.05)


def test_a_sensors_noise_does_not_depend_on_the_others():
    options = {"image_size": 16, "seed": 3}
    first = World("Grasp", 2, cameras=("scene", "top"), **options)
    second = World("Grasp", 2, cameras=("top", "scene"), sensors=("rgb", "force"), **options)
    a, b = first.reset(), second.reset()
    for key in ("rgb", "rgb_top", "force"):
        assert torch.equal(a[key], b[key])
    first.close(), second.close()


def test_scales_are_typical():
    """Divided by its scale, what a healthy episode delivers is of the order of one."""
    world = World("Grasp", 16, image_size=16)
    world.reset(seed=0)
    seen = {sensor.key: [] for sensor in world.sensors}
    for _ in range(40):
        observation = world.step(world.expert()).observation
        for sensor in world.sensors:
            scaled = observation[sensor.key].double() / torch.tensor(sensor.scale).double()
            seen[sensor.key].append(scaled.abs().reshape(-1, scaled.shape[-1]).amax(dim=0))
    for key, values in seen.items():  # the largest value of every element over the episodes
        largest = torch.stack(values).amax(dim=0)
        assert largest.min() > 0.02 and largest.max() < 20.0, (key, largest)
    world.close()
