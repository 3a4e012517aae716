"""The arithmetic of worlds on torch tensors: NumPy's numbers, and on the meta device nothing looks at one."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from robofuse.envs.control import Robot
from robofuse.envs.noise import Noise, NoiseSource
from robofuse.envs.physics.backend import CpuBackend
from robofuse.envs.rig import Rig, Timing
from robofuse.envs.robot import resolve_robot
from robofuse.envs.scene import build
from robofuse.envs.tasks import resolve_task
from robofuse.rng import Stream, _torch_words, _words, normal, offsets, uniform

N, SUBSTEPS = 3, 10
ALL = torch.arange(N)


class TorchBackend(CpuBackend):
    """MuJoCo, whose arrays are tensors as those of a GPU would be."""

    def array(self, name):
        return self.field(name)


class MetaBackend:
    """Arrays of a device that has no numbers: whoever looks at one gets an error."""

    def __init__(self, model, num_envs, substeps):
        self._real = CpuBackend(model, num_envs, substeps, 1)
        self.model, self.num_envs = model, num_envs
        self.device, self.dtype = torch.device("meta"), torch.float32
        self.readings = torch.empty(num_envs, substeps, model.nsensordata, device="meta")

    def field(self, name):
        real = self._real.field(name)
        return torch.empty(real.shape, device="meta", dtype=self.dtype if real.is_floating_point() else real.dtype)

    array = field


def make(kind, robot="arm"):
    """A robot at home in N worlds, and a rig of its encoders and its force sensor, which is late."""
    model = resolve_robot(robot)
    backend = kind(build(model, resolve_task("Grasp").add_objects, []), N, SUBSTEPS)
    robot = Robot(model, backend)
    timing = {"force": Timing(update_interval=2, delay=1)}
    rig = Rig(backend, robot, (), ("proprio", "force"), "warp", Noise(), timing, 14, 0.05, 1)
    return backend, robot, rig


@pytest.mark.parametrize("name", ["arm", "gripper"])
def test_torch_computes_what_numpy_does(name):
    made = [make(kind, name) for kind in (CpuBackend, TorchBackend)]
    for backend, robot, _ in made:
        backend.reset(ALL)
        robot.reset(ALL)
        backend.commit(ALL)
        robot.settle(ALL)
    generator, episode = torch.Generator().manual_seed(0), torch.tensor([4, 5, 9])
    for step in range(30):
        action = 2.0 * torch.rand(N, 5, generator=generator, dtype=torch.float64) - 1.0
        if step % 3:
            action[:, 2] = -1.0  # far down, where joints come to the ends of their ranges
        elapsed, found = torch.full((N,), step), []
        rows = None if step % 2 else ALL[1:]
        for backend, robot, rig in made:
            read = rig.expose(3, episode, elapsed, rows)()
            robot.apply(action)
            targets = backend.field("ctrl").clone()
            assert backend.step() == {}
            robot.update()
            found.append([targets, robot.position, robot.yaw, robot.gap, *read.values()])
        for x, y in zip(*found, strict=True):
            assert torch.allclose(x, y, rtol=1e-12 if x.dtype == torch.float64 else 1e-6, atol=1e-12)


def test_nothing_looks_at_a_number():
    _, robot, rig = make(MetaBackend)
    here = ALL.to("meta")
    robot.reset(here)
    robot.settle(here)
    for rows in (None, here[1:]):
        robot.apply(torch.empty(N, 5, device="meta"))
        robot.update()
        read = rig.expose(3, here, here, rows)()
        assert {key: (x.device.type, len(x)) for key, x in read.items()} == {
            key: ("meta", N if rows is None else N - 1) for key in ("proprio", "force")
        }
    assert uniform(1, Stream.SCENE, here, here, 5).shape == normal(1, Stream.SCENE, here, 0, 5).shape == (N, 5)
    assert offsets(1, Stream.NOISE, here, here, ALL + 1).device.type == "meta"


@settings(max_examples=100, deadline=None)
@given(
    st.integers(0, 2**63 - 1),
    st.sampled_from(Stream),
    st.lists(st.integers(0, 2**62), min_size=1, max_size=5),
    st.integers(0, 2**40),
    st.integers(1, 6),
    st.integers(0, 99),
)
def test_random_words_are_the_same_bits(seed, stream, episodes, step, count, salt):
    episode = torch.tensor(episodes)
    steps = torch.arange(len(episodes)) + step
    for when, which in ((step, count), (steps, torch.arange(count) * 7 + 1)):
        numpy = _words(seed, stream, episode, when, which, salt)
        ours = _torch_words(seed, stream, episode, when, which, salt)
        assert np.array_equal(numpy.view(np.int64), ours.numpy())


def test_noise_is_the_same_in_both_kinds():
    numpy, torchs = (NoiseSource(Noise(), kind) for kind in (np.zeros(0), torch.zeros(0, dtype=torch.float64)))
    episode, step = torch.arange(5), torch.arange(5) * 3
    place, there = (source.offsets(1, episode, step, ["force"])["force"] for source in (numpy, torchs))
    assert np.array_equal(numpy.encoders(18, place), torchs.encoders(18, there).numpy())
    window, time = np.random.default_rng(0).normal(size=(5, 10, 8)), np.linspace(0, 9, 50).reshape(5, 10)
    swing = numpy.swing(1, episode)
    ours = torchs.wrench(torch.from_numpy(window), there, torchs.swing(1, episode), torch.from_numpy(time))
    np.testing.assert_allclose(ours.numpy(), numpy.wrench(window, place, swing, time), rtol=1e-14, atol=1e-14)


@pytest.mark.parametrize("size", [(16, 24), (400, 420)])  # large images take their noise line by line
@pytest.mark.parametrize("options", [{}, {"rgb": 40.0, "depth": 0.3}, {"rgb": 0.0}])
def test_noise_on_pictures_is_the_same_in_both_kinds(size, options):
    numpy, torchs = (NoiseSource(Noise(**options), kind) for kind in (np.zeros(0), torch.zeros(0)))
    images = np.random.default_rng(0).integers(0, 256, (3, *size, 3), np.uint8)
    metres = np.random.default_rng(1).uniform(0.0, 3.0, (3, *size)).astype(np.float32)
    metres[0, :5], metres[1, :5] = 0.0, 70.0  # no return, and too far
    rows = [source.offsets(2, ALL, ALL, ["rgb", "depth"]) for source in (numpy, torchs)]
    rgb, depth = np.empty_like(images), np.empty(metres.shape, np.uint16)
    numpy.rgb(images, rows[0]["rgb"], rgb)
    numpy.millimetres(metres, rows[0]["depth"], depth)
    assert np.array_equal(torchs.pictures(torch.from_numpy(images), rows[1]["rgb"]).numpy(), rgb)
    assert np.array_equal(torchs.distances(torch.from_numpy(metres), rows[1]["depth"]).numpy(), depth)
    assert (depth[0, :5] == 0).all() and (depth[1, :5] == 0).any()
