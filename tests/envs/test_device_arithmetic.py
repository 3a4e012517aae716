"""The arithmetic of worlds on torch tensors: NumPy's numbers, and on the meta device nothing looks at one."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from stand_ins import MetaBackend, NothingIsSent, TorchBackend

from robofuse.arrays import columns
from robofuse.envs import Camera
from robofuse.envs.control import Robot, checked
from robofuse.envs.noise import Noise, NoiseSource
from robofuse.envs.observer import Truth
from robofuse.envs.physics.backend import CpuBackend
from robofuse.envs.rig import Mount, Rig, Timing, _rotation
from robofuse.envs.robot import resolve_robot
from robofuse.envs.scene import build
from robofuse.envs.tasks import TASKS, resolve_task
from robofuse.envs.tasks.task import outcome
from robofuse.rng import Stream, _torch_words, _words, normal, offsets, uniform

N, SUBSTEPS = 3, 10
ALL, EPISODES = torch.arange(N), torch.tensor([4, 5, 9])


class SingleBackend:
    """The worlds of another backend, in 32 bits as a GPU would have them; what is written to `ctrl` goes nowhere."""

    def __init__(self, real):
        self._real, self._ctrl = real, real.field("ctrl").float()
        self.model, self.num_envs = real.model, real.num_envs
        self.device, self.dtype = real.device, torch.float32

    @property
    def readings(self):
        return self._real.readings.float()

    def field(self, name):
        return self._ctrl if name == "ctrl" else self._real.field(name).float()

    array = field


def make(kind, robot="arm"):
    """A robot at home in N worlds, and a rig of its encoders and its force sensor, which is late."""
    model = resolve_robot(robot)
    backend = kind(build(model, resolve_task("Grasp").add_objects, []), N, SUBSTEPS)
    return backend, *equip(backend, model)


def equip(backend, model):
    """A robot and a rig that read a backend."""
    robot = Robot(model, backend)
    timing = {"force": Timing(update_interval=2, delay=1)}
    rig = Rig(backend, robot, (), ("proprio", "force"), "warp", Noise(), timing, 14, 0.05, 1)
    return robot, rig


def go_home(backend, robot):
    """All worlds begin, the hand at home."""
    with backend.begin(ALL) as here:
        robot.reset(here)
    robot.settle(ALL)


def moves(seed):
    """Thirty random actions (N, 5), often far down, where joints come to the ends of their ranges, and their steps."""
    generator = torch.Generator().manual_seed(seed)
    for step in range(30):
        action = 2.0 * torch.rand(N, 5, generator=generator, dtype=torch.float64) - 1.0
        if step % 3:
            action[:, 2] = -1.0
        yield action, torch.full((N,), step)


@pytest.mark.parametrize("name", ["arm", "gripper"])
def test_torch_computes_what_numpy_does(name):
    made = [make(kind, name) for kind in (CpuBackend, TorchBackend)]
    for backend, robot, _ in made:
        go_home(backend, robot)
    for step, (action, elapsed) in enumerate(moves(0)):
        found = []
        rows = None if step % 2 else ALL[1:]
        for backend, robot, rig in made:
            read = rig.expose(3, EPISODES, elapsed, rows)()
            robot.apply(action)
            targets = backend.field("ctrl").clone()
            backend.step()
            assert not backend.failure.any()
            robot.update()
            found.append([targets, robot.position, robot.yaw, robot.gap, *read.values()])
        for x, y in zip(*found, strict=True):
            assert torch.allclose(x, y, rtol=1e-12 if x.dtype == torch.float64 else 1e-6, atol=1e-12)


@pytest.mark.parametrize("name", ["arm", "gripper"])
def test_32_bits_compute_what_64_do(name):
    backend, robot, rig = make(CpuBackend, name)
    single = SingleBackend(backend)
    other, others_rig = equip(single, robot.model)
    go_home(backend, robot)
    other.settle(ALL)
    for step, (action, elapsed) in enumerate(moves(1)):
        read, others = (one.expose(3, EPISODES, elapsed)() for one in (rig, others_rig))
        for key, x in read.items():
            assert torch.allclose(x, others[key], rtol=1e-5, atol=1e-5), (step, key)
        robot.apply(action)
        other.apply(action)
        assert torch.allclose(backend.field("ctrl").float(), single.field("ctrl"), rtol=0, atol=1e-5), step
        backend.step()
        robot.update()
        other.update()
        assert torch.allclose(robot.position.float(), other.position, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", ["arm", "gripper"])
def test_nothing_looks_at_a_number_or_sends_one(name):
    _, robot, rig = make(MetaBackend, name)
    here, action = ALL.to("meta"), torch.empty(N, 5, device="meta")

    def live(rows):
        robot.reset(here)
        robot.settle(here)
        robot.apply(checked(action, N, action.device))
        robot.update()
        robot.proprio(rows, None)
        read = rig.expose(3, here, here, rows)()
        assert {key: (x.device.type, len(x)) for key, x in read.items()} == {
            key: ("meta", N if rows is None else N - 1) for key in ("proprio", "force")
        }
        assert uniform(1, Stream.SCENE, here, here, 5).shape == normal(1, Stream.SCENE, here, 0, 5).shape == (N, 5)
        assert offsets(1, Stream.NOISE, here, here, here + 1).device.type == "meta"

    live(None)  # constants may be sent once
    with NothingIsSent():
        for rows in (None, here[1:]):
            live(rows)


@pytest.mark.parametrize("name", sorted(TASKS))
def test_tasks_and_the_truth_are_computed_without_a_look(name):
    task, model, here = resolve_task(name), resolve_robot("arm"), ALL.to("meta")
    backend = MetaBackend(build(model, task.add_objects, []), N, SUBSTEPS)
    robot = Robot(model, backend)
    task.bind(backend, robot)
    robot.settle(here)
    truth = Truth(task, robot, 0.05)
    with NothingIsSent():
        task.place(here, torch.empty(N, task.draws, device="meta"))
        task.begin(here)
        task.update()
        success, terms = outcome(task, torch.empty(N, 5, device="meta"))
        assert {x.device.type for x in (success, task.expert(), *terms.values())} == {"meta"}
        for rows in (None, here[1:]):
            assert truth.read(rows).shape == (N if rows is None else N - 1, len(truth.names))


def test_pictures_are_made_noisy_without_a_look():
    source, here = NoiseSource(Noise(), torch.empty(0, device="meta")), ALL.to("meta")
    with NothingIsSent():
        for size in ((16, 24), (400, 420)):
            rgb = source.pictures(torch.empty(N, *size, 3, dtype=torch.uint8, device="meta"), here)
            depth = source.distances(torch.empty(N, *size, device="meta"), here)
            assert (rgb.dtype, rgb.shape, depth.dtype, depth.shape) == (
                *(torch.uint8, (N, *size, 3)),
                *(torch.uint16, (N, *size)),
            )


def test_cameras_move_without_a_look():
    camera = Camera("above", (0.0, 0.0, 0.9), (0.0, 0.0, 0.0), 30.0, size=(16, 16))
    scene = build(resolve_robot("gripper"), resolve_task("Reach").add_objects, [camera])
    mount, here = Mount(MetaBackend(scene, N, SUBSTEPS), ["above"]), ALL.to("meta")
    with NothingIsSent():
        mount.offset_camera(0, here[1:], torch.empty(N - 1, 3, device="meta"), torch.empty(N - 1, 3, device="meta"))
        mount.place(None)
        with mount.moved():
            pass


def test_rotations_in_closed_form_are_the_matrix_exponential():
    turns = (
        torch.randn(200, 3, generator=torch.Generator().manual_seed(0)).double() * torch.logspace(-9, 0.5, 200)[:, None]
    )
    turns[0] = 0.0
    assert torch.allclose(_rotation(turns, False), _rotation(turns, True), rtol=0, atol=1e-14)


def test_columns_are_views_where_they_can_be():
    for example in (np.zeros((2, 9)), torch.zeros(2, 9)):
        assert columns([2, 3, 4], example) == slice(2, 5)
        assert (example[:, columns([4, 2, 7], example)].shape) == (2, 3)
    assert columns([4, 2, 7], torch.empty(0, device="meta")).device.type == "meta"


def test_what_is_no_number_reaches_the_physics_of_a_device(monkeypatch):
    """Nobody looks, so it is passed on, and infinity does not become an end of the range."""
    monkeypatch.setattr("robofuse.envs.control.on_cpu", lambda x: False)
    action = torch.tensor([[0.5, 2.0, float("inf"), -float("inf"), float("nan")]])
    passed = checked(action, 1, torch.device("cpu"))
    assert passed[0, :2].tolist() == [0.5, 1.0] and passed[0, 2:].isnan().all()


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
