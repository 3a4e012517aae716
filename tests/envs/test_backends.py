"""One contract for all physics: states, derived fields, readings, resets, parameters of single worlds, errors.

mujoco_warp runs on Warp's CPU device, in 32 bits. Its kernels take half a minute to compile, once per machine.
"""

from functools import partial

import mujoco
import numpy as np
import pytest
import torch

from robofuse.envs import World
from robofuse.envs.physics.backend import CpuBackend
from robofuse.envs.physics.staged import StagedBackend
from robofuse.envs.physics.warp_backend import WarpBackend
from robofuse.envs.rendering import FIXED, MOVING, Poses, View, make_renderer
from robofuse.envs.robot import resolve_robot
from robofuse.envs.scene import TIMESTEP, build
from robofuse.envs.tasks import resolve_task

N, SUBSTEPS = 3, 10
# how far off a backend may be from MuJoCo after a control step: of positions [m, rad], velocities, readings [N, N·m]
EXACT, FLOAT32 = (0.0, 0.0, 0.0), (1e-5, 1e-4, 1e-3)
BACKENDS = [
    pytest.param((CpuBackend, EXACT), id="mujoco"),
    pytest.param((partial(StagedBackend, device="cpu"), FLOAT32), id="staged"),
    pytest.param((WarpBackend, FLOAT32), id="warp", marks=pytest.mark.slow),
]
POSES = ("xpos", "xmat", "site_xpos", "site_xmat", "geom_xpos", "geom_xmat", "cam_xpos", "cam_xmat", "subtree_com")
DERIVED = (*POSES, "light_xpos", "light_xdir", "xanchor", "xaxis")


@pytest.fixture(scope="module")
def scene():
    return build(resolve_robot("arm"), resolve_task("Grasp").add_objects, [])


@pytest.fixture(params=BACKENDS)
def backend(request, scene):
    kind, tolerance = request.param
    made = kind(scene, N, SUBSTEPS)
    made.tolerance = tolerance
    return made


ALL = torch.arange(N)


def block(backend):
    """Addresses of the block: body, geom, first position, first velocity."""
    m = backend.model
    return m.body("block").id, m.geom("block").id, int(m.joint("block").qposadr[0]), int(m.joint("block").dofadr[0])


def place(backend, height=0.2, env_ids=ALL):
    """The arm at home, and blocks of half 15, 20, 25 mm and 50, 100, 150 g in the air beside the hand."""
    body, geom, q, _ = block(backend)
    home = torch.tensor(resolve_robot("arm").home, dtype=backend.dtype)
    with backend.begin(env_ids) as here:
        qpos, ctrl = backend.field("qpos"), backend.field("ctrl")
        qpos[here, : len(home)], ctrl[here, : len(home)] = home, home
        spot = torch.tensor([0.3, 0.4, height], dtype=backend.dtype)
        qpos[here, q : q + 3] = spot
        size = (0.015 + 0.005 * here).to(backend.dtype)
        mass = (0.05 + 0.05 * here).to(backend.dtype)
        backend.parameter("geom_size")[here, geom] = size[:, None].expand(-1, 3)
        backend.parameter("body_mass")[here, body] = mass
        backend.parameter("body_inertia")[here, body] = (mass * 2.0 / 3.0 * size**2)[:, None].expand(-1, 3)
    return failures(backend)


def failures(backend):
    """World → why it failed."""
    return {world: backend.cause(failure) for world, failure in enumerate(backend.failure.tolist()) if failure}


def step(backend):
    backend.step()
    return failures(backend)


def reference(backend, steps, control):
    """The same worlds by MuJoCo, one after the other: states and readings after `steps` control steps."""
    found = []
    for world in range(N):
        model, data = backend.snapshot(world)
        readings = np.zeros((SUBSTEPS, model.nsensordata))
        for _ in range(steps):
            data.ctrl[:] = control
            for substep in range(SUBSTEPS):
                mujoco.mj_step(model, data)
                readings[substep] = data.sensordata
        found.append((data.qpos.copy(), data.qvel.copy(), readings.copy()))
    return [np.stack(x) for x in zip(*found, strict=True)]


def test_worlds_begin_in_the_models_default_state(backend):
    assert torch.allclose(
        backend.field("qpos").double(), torch.from_numpy(backend.model.qpos0).expand(N, -1), atol=1e-7
    )
    assert backend.field("qvel").eq(0).all() and backend.field("ctrl").eq(0).all()
    assert backend.readings.shape == (N, SUBSTEPS, backend.model.nsensordata)
    assert {backend.field(name).dtype for name in ("qpos", "xpos", "ctrl")} == {backend.dtype}


def test_derived_fields_follow_what_was_written(backend):
    assert place(backend) == {}
    for world in range(N):
        _, data = backend.snapshot(world)
        for name in DERIVED:
            expected = torch.from_numpy(np.asarray(getattr(data, name)))
            found = backend.field(name)[world].double()
            assert found.shape == expected.shape, name
            assert torch.allclose(found, expected, atol=1e-6), name
        sensors = torch.from_numpy(data.sensordata)
        assert torch.allclose(backend.readings[world].double(), sensors.expand(SUBSTEPS, -1), atol=1e-4)


def test_a_step_is_mujocos(backend):
    place(backend, height=0.026)
    control = backend.field("ctrl")[0].double().numpy() + 0.05
    expected = reference(backend, 6, control)
    backend.field("ctrl")[:] = torch.from_numpy(control)
    for _ in range(6):
        assert step(backend) == {}
    found = backend.field("qpos"), backend.field("qvel"), backend.readings
    for x, y, tolerance in zip(found, expected, backend.tolerance, strict=True):
        np.testing.assert_allclose(x.double().numpy(), y, rtol=0, atol=tolerance)


def test_positions_are_those_after_the_step(backend):
    place(backend)
    for _ in range(3):
        backend.step()
    for world in range(N):
        _, data = backend.snapshot(world)
        for name in POSES:
            expected = torch.from_numpy(np.asarray(getattr(data, name)))
            assert torch.allclose(backend.field(name)[world].double(), expected, atol=1e-6), name


def test_views_stay_where_they_are(backend):
    place(backend)
    names = ("qpos", "xpos", "ctrl", "sensordata")
    before = {name: backend.field(name).data_ptr() for name in names}
    before |= {"mass": backend.parameter("body_mass").data_ptr(), "readings": backend.readings.data_ptr()}
    old = backend.field("xpos").clone()
    backend.step()
    place(backend, env_ids=ALL[1:])
    after = {name: backend.field(name).data_ptr() for name in names}
    after |= {"mass": backend.parameter("body_mass").data_ptr(), "readings": backend.readings.data_ptr()}
    assert after == before and not torch.equal(backend.field("xpos"), old)


def test_a_free_fall_in_closed_form(backend):
    place(backend, height=0.3)
    _, _, q, dof = block(backend)
    steps = 2
    for _ in range(steps):
        backend.step()
    n, g = steps * SUBSTEPS, 9.81
    speed = -g * TIMESTEP * n
    fallen = 0.5 * g * TIMESTEP**2 * n * (n + 1)  # the position follows the new speed
    assert torch.allclose(backend.field("qvel")[:, dof + 2].double(), torch.tensor(speed).double(), atol=1e-4)
    assert torch.allclose(backend.field("qpos")[:, q + 2].double(), torch.tensor(0.3 - fallen).double(), atol=1e-5)


def test_worlds_have_parameters_of_their_own(backend):
    """Blocks lie as high as they are large, and press on the table as heavily as they weigh."""
    place(backend, height=0.026)
    body, _, q, _ = block(backend)
    for _ in range(15):
        backend.step()
    for world in range(N):
        model, data = backend.snapshot(world)
        assert float(backend.field("qpos")[world, q + 2]) == pytest.approx(0.015 + 0.005 * world, abs=5e-4)
        force = sum(_normal_force(model, data, i) for i in range(data.ncon) if body in _bodies(model, data, i))
        assert force == pytest.approx(9.81 * (0.05 + 0.05 * world), rel=0.02)


def _bodies(model, data, contact):
    return {int(model.geom_bodyid[geom]) for geom in data.contact[contact].geom}


def _normal_force(model, data, contact):
    force = np.zeros(6)
    mujoco.mj_contactForce(model, data, contact, force)
    return force[0]


def test_friction_is_each_worlds_own(backend):
    """Blocks that slide come to rest after v² / (2 μ g)."""
    _, geom, q, dof = block(backend)
    table = backend.model.geom("table").id
    place(backend, height=0.026)
    mu = torch.tensor([0.3, 0.6, 0.9], dtype=backend.dtype)
    backend.parameter("geom_friction")[:, geom, 0] = mu
    backend.parameter("geom_friction")[:, table, 0] = 0.1  # the larger of the two counts
    backend.commit(ALL)
    for _ in range(10):
        backend.step()
    start, speed = backend.field("qpos")[:, q].clone(), 0.5
    backend.field("qvel")[:, dof] = speed
    for _ in range(20):
        backend.step()
    slid = (backend.field("qpos")[:, q] - start).double()
    assert torch.allclose(slid, speed**2 / (2 * mu.double() * 9.81), rtol=0.15)


def test_a_reset_leaves_the_other_worlds_alone(backend, scene):
    def play(restart):
        place(backend, height=0.026)
        for number in range(8):
            if restart and number == 4:
                place(backend, env_ids=ALL[1:2])
            backend.step()
        return [backend.field(name).clone() for name in ("qpos", "qvel", "xpos")] + [backend.readings.clone()]

    for alone, beside in zip(play(False), play(True), strict=True):
        assert torch.equal(alone[[0, 2]], beside[[0, 2]]) and not torch.equal(alone[1], beside[1])


def test_a_reset_forgets(backend):
    def play():
        place(backend, height=0.026)
        for _ in range(4):
            backend.step()
        return backend.field("qpos").clone(), backend.readings.clone()

    first, again = play(), play()
    assert all(torch.equal(x, y) for x, y in zip(first, again, strict=True))


@pytest.mark.parametrize("name", ["qpos", "qvel"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e20])
def test_a_diverged_world_is_named_and_disturbs_no_other(backend, name, value):
    def play(broken):
        place(backend, height=0.026)
        backend.step()
        if broken:
            backend.field(name)[1, block(backend)[2 if name == "qpos" else 3]] = value
        errors = step(backend)
        return errors, backend.field("qpos").clone()

    (_, well), (errors, sick) = play(False), play(True)
    assert list(errors) == [1] and "NaN, Inf or huge" in errors[1]
    assert torch.equal(well[[0, 2]], sick[[0, 2]])
    assert place(backend, height=0.026, env_ids=ALL[1:2]) == {}
    assert step(backend) == {} and backend.field("qpos").isfinite().all()


def test_a_control_that_is_nan_is_told(backend):
    place(backend)
    backend.step()
    backend.field("ctrl")[1, 2] = float("nan")
    errors = step(backend)
    assert list(errors) == [1] and "BADCTRL: NaN" in errors[1].replace("mjWARN_", "")
    assert place(backend, env_ids=ALL[1:2]) == {} and step(backend) == {}


def test_a_scene_that_is_not_finite_is_refused(backend):
    place(backend)
    backend.field("qpos")[2, block(backend)[2]] = float("nan")
    backend.commit(ALL)
    assert list(failures(backend)) == [2]
    assert place(backend) == {}


def test_a_snapshot_is_the_world(backend):
    place(backend, height=0.026)
    for _ in range(3):
        backend.step()
    model, data = backend.snapshot(2)
    _, again = backend.snapshot(1, data)
    assert again is data and data.qpos[block(backend)[2]] == pytest.approx(float(backend.field("qpos")[1, -7]))
    assert model.body_mass[block(backend)[0]] == pytest.approx(0.15)


@pytest.mark.slow
def test_too_many_contacts_are_told_by_world(scene, monkeypatch):
    from robofuse.envs.physics import warp_backend

    monkeypatch.setattr(warp_backend, "_CONSTRAINTS", 8)
    backend = WarpBackend(scene, N, SUBSTEPS)
    place(backend, height=0.026, env_ids=ALL)
    for _ in range(3):
        errors = step(backend)
        if errors:
            break
    assert errors and all("no room" in cause for cause in errors.values())


@pytest.mark.slow
def test_what_mujoco_warp_cannot_vary_or_simulate_is_named(scene):
    backend = WarpBackend(scene, N, SUBSTEPS)
    with pytest.raises(ValueError, match="jnt_type"):
        backend.parameter("jnt_type")
    plugin = mujoco.MjModel.from_xml_string(
        '<mujoco><option solver="PGS"/><worldbody><body><freejoint/><geom size="1"/></body></worldbody></mujoco>'
    )
    with pytest.raises(ValueError, match="mujoco_warp cannot simulate.*PGS"):
        WarpBackend(plugin, N, SUBSTEPS)


def test_unknown_physics():
    with pytest.raises(ValueError, match="unknown physics 'bullet'; physics: auto, mujoco, warp"):
        World("Reach", 1, physics="bullet")


def worlds(num, robot="arm", **options):
    """The same task by both physics."""
    options = {"robot": robot, "num_envs": num, "auto_reset": False, "seed": 1_000_000, **options}
    return [World("Grasp", physics=physics, **options) for physics in ("mujoco", "warp")]


@pytest.mark.slow
def test_a_world_is_the_same_on_both():
    """The expert grasps, a camera is stuck, sensors are masked: what both deliver agrees, step by step, to the end."""
    options = {"image_size": 16, "dropout": 0.3, "faults": "rgb:freeze@5", "privileged": True}
    made = worlds(4, sensors=("rgb", "depth", "proprio", "force"), **options)
    seen = [world.reset() for world in made]
    for _ in range(made[0].max_steps):
        for key, x in seen[0].items():
            y = seen[1][key]
            assert x.dtype == y.dtype and x.shape == y.shape
            if key == "available":
                assert torch.equal(x, y)
            elif key in ("rgb", "depth"):  # a ray beside an edge may hit or miss
                assert ((x.float() - y.float()).abs() > 3.0).float().mean() < 0.01, key
            elif key == "proprio":
                assert torch.allclose(x, y, atol=5e-3)
        action = made[0].expert()
        steps = [world.step(action) for world in made]
        seen = [step.observation for step in steps]
        assert torch.equal(steps[0].success, steps[1].success)
        assert torch.allclose(steps[0].reward, steps[1].reward, atol=0.05)
        if steps[0].success.any():
            break
    assert steps[0].success.any()
    for world in made:
        world.close()


@pytest.mark.slow
def test_worlds_drawn_elsewhere_than_their_physics(monkeypatch):
    """MuJoCo on the CPU, and the rest where a GPU would be, cameras that faults move included."""
    options = {"image_size": 16, "cameras": ("scene", "wrist"), "dropout": 0.3, "faults": "rgb:knocked@3..6", "seed": 2}
    made = [World("Grasp", 4, **options)]
    monkeypatch.setattr("robofuse.envs.world.make_backend", lambda _, place, *args: StagedBackend(*args[:3], place))
    made.append(World("Grasp", 4, **options))
    seen, ends = [world.reset() for world in made], 0
    for _ in range(made[0].max_steps):
        assert torch.equal(*(x["available"] for x in seen))
        for key in ("rgb", "rgb_wrist", "depth", "depth_wrist"):
            a, b = (x[key].float() for x in seen)
            assert ((a - b).abs() > 3.0).float().mean() < 0.01, key
        assert torch.allclose(*(x["proprio"] for x in seen), atol=5e-3)
        action = made[0].expert()
        steps = [world.step(action) for world in made]
        seen, ends = [step.observation for step in steps], ends + int(steps[0].ended.sum())
        assert torch.equal(steps[0].ended, steps[1].ended)
    assert ends >= 4
    for world in made:
        world.close()


def successes(world):
    """How many of the worlds' episodes the expert solves."""
    world.reset()
    won, going = torch.zeros(world.num_envs, dtype=torch.bool), torch.ones(world.num_envs, dtype=torch.bool)
    for _ in range(world.max_steps):
        step = world.step(world.expert())
        won |= step.success & going
        going &= ~(step.success | step.truncated)
        if not going.any():
            break
    return int(won.sum())


@pytest.mark.slow
def test_pictures_drawn_where_the_physics_is_are_the_same():
    """As the renderer on the host draws them from the same poses; a camera that a fault moves is back afterwards."""
    world = World("Grasp", 3, physics="warp", cameras=("scene", "wrist"), image_size=(20, 24), noise=False, seed=4)
    backend, observation = world.backend, world.reset()
    poses = Poses(
        *(backend.field(name).numpy() for name in MOVING), *(backend.parameter(name).numpy() for name in FIXED)
    )
    views = [View("scene", 20, 24), View("wrist", 20, 24)]
    renderer = make_renderer("warp", backend.model, views, poses, 1)
    rows = torch.arange(3)
    for step in range(8):
        for key, (rgb, depth) in zip(("", "_wrist"), renderer.render(), strict=True):
            assert np.array_equal(observation[f"rgb{key}"].numpy(), rgb)
            millimetres = np.rint(1000.0 * depth).astype(np.uint16)[..., None]
            assert np.array_equal(observation[f"depth{key}"].numpy(), millimetres)
        if step == 5:
            before = backend.field("cam_xpos").clone()
            world._rig.offset_camera("rgb", rows, torch.full((3, 3), 0.05), torch.full((3, 3), 0.1))
            moved = world._rig.expose(0, world.episode, world.elapsed)()
            assert not torch.equal(moved["rgb"], observation["rgb"])
            assert torch.equal(moved["rgb_wrist"], observation["rgb_wrist"])
            assert torch.equal(backend.field("cam_xpos"), before)
        observation = world.step(world.expert()).observation
    world.close(), renderer.close()


@pytest.mark.slow
def test_the_expert_grasps_on_both():
    assert [successes(world) for world in worlds(16, sensors=("proprio",))] == [16, 16]


@pytest.mark.slow
@pytest.mark.parametrize("robot", ["arm", "gripper"])
def test_the_expert_solves_two_hundred_scenes_on_both(robot):
    assert all(
        count >= 0.97 * 200 for count in (successes(world) for world in worlds(200, robot, sensors=("proprio",)))
    )


@pytest.mark.slow
def test_episodes_follow_each_other_on_mujoco_warp():
    """Automatic resets, one world at a time; and the same again, to the bit."""

    def play():
        world = World("Reach", 3, robot="gripper", sensors=("proprio", "force"), physics="warp", seed=3)
        seen = [world.reset()]
        for _ in range(70):
            seen.append(world.step(world.expert()).observation)
        return seen, world.episode.tolist()

    (first, episodes), (again, _) = play(), play()
    assert min(episodes) >= 3
    assert all(torch.equal(a[key], b[key]) for a, b in zip(first, again, strict=True) for key in a)
