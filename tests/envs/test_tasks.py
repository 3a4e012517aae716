"""Tasks: solvable by their experts, honest about success, rewards that add up."""

import numpy as np
import pytest
import torch
from helpers import BLIND, rest

from robofuse.envs import TASKS, World
from robofuse.registration import CAMERAS, ROBOTS
from robofuse.registration import TASKS as IDS

ALL = sorted(TASKS)


def _expert_rate(task, robot, scenes, seed):
    world = World(task, scenes, robot=robot, sensors=BLIND, seed=seed)
    world.reset()
    first, won = torch.ones(scenes, dtype=torch.bool), torch.zeros(scenes, dtype=torch.bool)
    for _ in range(world.max_steps):
        step = world.step(world.expert())
        assert not step.failure.any()
        won |= step.success & first
        first[step.ended] = False
    assert not first.any()
    return won.float().mean().item()


# as slow tests, so that each task and each robot is played once
SLOW = [("Reach", "arm"), ("Grasp", "gripper"), *((task, "arm") for task in ("Feel", "PegInsert", "Sort", "Stack"))]


@pytest.mark.parametrize(
    ("task", "robot"),
    [
        pytest.param(task, robot, marks=pytest.mark.slow if (task, robot) in SLOW else ())
        for task in ALL
        for robot in ("arm", "gripper")
    ],
)
def test_the_expert_solves_it(task, robot):
    assert _expert_rate(task, robot, 40, seed=20) >= 0.95


@pytest.mark.slow
@pytest.mark.parametrize("robot", ["arm", "gripper"])
@pytest.mark.parametrize("task", ALL)
def test_the_expert_solves_a_thousand_scenes(task, robot):
    assert _expert_rate(task, robot, 1000, seed=1) >= (0.99 if task == "Reach" else 0.97)


@pytest.mark.parametrize("task", ALL)
def test_doing_nothing_and_flailing_do_not_succeed(task):
    world = World(task, 50, sensors=BLIND)
    world.reset(seed=0)
    generator = torch.Generator().manual_seed(0)
    lucky = 0
    for _ in range(world.max_steps):
        action = torch.rand(50, 5, generator=generator) * 2 - 1
        action[:25] = rest(world)[:25]
        success = world.step(action).success
        assert not success[:25].any()
        lucky += int(success.sum())
    assert lucky <= 1


@pytest.mark.parametrize("task", ALL)
def test_reward_is_the_sum_of_its_documented_terms(task):
    world = World(task, 4, sensors=BLIND)
    world.reset(seed=0)
    names = tuple(world.task.weights)
    for name in names:
        assert f"`{name}`" in type(world.task).__doc__
    for _ in range(60):
        action = world.expert()
        step = world.step(action)
        assert tuple(step.terms) == names
        assert torch.allclose(step.reward, sum(step.terms.values()))
        assert torch.allclose(step.terms["effort"], -world.task.weights["effort"] * action.square().sum(1).float())
        assert torch.equal(step.terms["success"] > 0, step.success)


def test_what_grasp_looks_at_is_live():
    world = World("Grasp", 2, privileged=True, sensors=("proprio",))
    lift, half = (world.privileged_names.index(name) for name in ("lift", "half_z"))
    body, geom = (getattr(world.backend.model, kind)("block").id for kind in ("body", "geom"))
    sizes = []
    for start in (world.reset, lambda: world.restart([0, 1], [3, 8]), lambda: world.reset(seed=5)):
        for look in (start, lambda: world.step(rest(world)).observation):
            seen = look()["privileged"]
            size, height = world.backend.parameter("geom_size")[:, geom, 2], world.backend.field("xpos")[:, body, 2]
            assert torch.equal(seen[:, half], size.float())
            assert torch.equal(seen[:, lift], (height - size).float())
        sizes += size.tolist()
    assert len(set(sizes)) == 6  # every episode has a block of its own


def look_for_red(world):
    """Where the red cube is, found by its colour, world by world."""
    backend, found = world.backend, []
    for i in range(world.num_envs):
        colours = {n: backend.parameter("geom_rgba")[i, backend.model.geom(f"block_{n}").id] for n in (0, 1)}
        (red,) = [n for n, colour in colours.items() if colour[0] > 2 * colour[2]]
        found.append(backend.field("xpos")[i, backend.model.body(f"block_{red}").id])
    return torch.stack(found)


def test_only_colour_tells_what_to_sort():
    """Which cube and which tray is red varies in all four ways alike, and nothing else differs with it."""
    world = World("Sort", 400, sensors=("proprio",))
    world.reset(seed=3)
    red, tray = world.task._red(), world.task._red_tray()
    share = torch.bincount(2 * red + tray, minlength=4) / 400
    assert (share - 0.25).abs().max() < 0.08
    sizes = world.backend.parameter("geom_size")[:, world.task._geoms]
    assert torch.equal(sizes[:, 0], sizes[:, 1])
    places = world.task._places - world.robot.workspace
    for number in (0, 1):  # where a cube lies says nothing of its colour
        cubes = places[:, number]
        assert (cubes[red == 0].mean(0) - cubes[red == 1].mean(0)).abs().max() < 0.012


def first_offset(world):
    """The first three lengths of the privileged state, by names in the model, world by world (N, 3)."""
    model, places = world.backend.model, world.backend.field("xpos")

    def at(body):
        return places[:, model.body(body).id]

    up = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)
    match world.task.name:
        case "Sort":
            return look_for_red(world) - world.robot.position
        case "PegInsert":  # from the peg's end to the hole's opening
            return at("socket") - (at("peg") - 0.035 * up)
        case "Feel":  # the plate is taken 1 cm above its middle
            return at("plate") + 0.01 * up - world.robot.position
        case name:
            return at("ball" if name == "Reach" else "block") - world.robot.position


def look_again(world):
    """What the sensors read after something was put elsewhere."""
    world.backend.commit(torch.arange(world.num_envs))
    world.robot.update()
    return world._read()()


@pytest.mark.parametrize("robot", ["gripper", "arm"])
def test_no_camera_tells_where_the_hole_is(robot):
    world = World("PegInsert", 4, robot=robot, sensors=("rgb", "depth"), image_size=48, noise=False)
    before = world.reset(seed=2)
    world.task._places[:, world.task._mocap[0], :2] += torch.tensor([[0.004, -0.009], [-0.006, 0.003]]).repeat(2, 1)
    after = look_again(world)
    assert all(torch.equal(before[key], after[key]) for key in ("rgb", "depth"))
    world.task._places[:, world.task._mocap[1], 0] += 0.01
    assert not torch.equal(look_again(world)["rgb"], after["rgb"])  # where the cover is they do tell


def test_torque_tells_on_which_edge_of_the_hole_the_peg_stands():
    """Held straight down on the rim: it does not slip in by itself, and what the rim pushes up turns the wrist."""
    world = World("PegInsert", 64, robot="gripper", sensors=("force",), noise=False, auto_reset=False)
    world.reset(seed=5)
    task = world.task
    for _ in range(60):
        action = world.expert()
        action[-task._offset()[:, 2] < 0.002, :2] = 0.0
        step = world.step(action)
    offset = task._offset()[:, :2]
    outside = (offset.abs() > 0.0025).all(dim=1)
    assert outside.sum() >= 8 and not step.success[outside].any()
    assert (task._offset()[outside, 2] < 0.002).all()
    force = step.observation["force"][outside].double().mean(1)
    assert (force[:, 2] < -20.0).all()  # the socket pushes up; z points down
    # of the torque about the wrist, what a force at the peg's end explains is taken off
    lever = 0.1034 + 0.06
    about_x, about_y = force[:, 3] + lever * force[:, 1], force[:, 4] - lever * force[:, 0]
    for about, off in ((about_x, -offset[outside, 1]), (about_y, -offset[outside, 0])):
        assert torch.equal(about.sign(), off.sign()) and (about.abs() > 0.1).all()


def test_a_peg_that_was_pushed_too_hard_does_not_succeed():
    world = World("PegInsert", 8, robot="gripper", sensors=BLIND, privileged=True, auto_reset=False)
    world.reset(seed=1)
    spoilt, force = (world.task.privileged_names.index(name) for name in ("spoilt", "force"))
    highest = torch.zeros(8)
    for step_number in range(world.max_steps):
        action = world.expert()
        if step_number < 25:  # onto the socket with all the servo has
            action[:, 2] = -1.0
        step = world.step(action)
        highest = torch.maximum(highest, step.final_observation["privileged"][:, force])
        assert torch.equal(step.final_observation["privileged"][:, spoilt] > 0, highest > 80.0)
        assert not (step.success & (highest > 80.0)).any()
    assert (highest > 80.0).any()


def test_shelves_on_a_line_of_sight_look_alike_but_for_depth():
    world = World("Stack", 6, robot="gripper", sensors=("rgb", "depth"), image_size=64, noise=False)
    world.reset(seed=0)
    u = torch.full((6, world.task.draws), 0.5, dtype=torch.float64)
    u[:, 4] = torch.linspace(0.02, 0.98, 6)
    with world.backend.begin(torch.arange(6)) as env_ids:
        world.robot.reset(env_ids)
        world.task.place(env_ids, u)
    shown = look_again(world)
    assert (world.task._shelf[-1] - world.task._shelf[0]).norm() > 0.25
    rgb, depth = shown["rgb"].int(), shown["depth"].to(torch.int32)
    other = ((rgb - rgb[:1]).abs().amax(dim=3) > 12).float().mean((1, 2))
    assert other.max() < 0.01  # the shelf is 4 % of the picture
    nearer = depth[0] - depth[5]
    assert (nearer > 150).float().mean() > 0.03


@pytest.mark.parametrize("robot", ["gripper", "arm"])
def test_no_camera_sees_the_hand_that_feels(robot):
    world = World("Feel", 3, robot=robot, sensors=("rgb", "depth"), image_size=48, noise=False, auto_reset=False)
    first = world.reset(seed=4)
    assert not torch.equal(first["rgb"][0], first["rgb"][1])  # but where the box is
    for _ in range(24):
        step = world.step(world.expert())
        assert all(torch.equal(step.observation[key], first[key]) for key in ("rgb", "depth"))
    assert (world.task._lifted() > 0.01).all()


@pytest.mark.parametrize("task", ALL)
def test_privileged_state_is_what_its_names_say(task):
    world = World(task, 3, privileged=True, sensors=("proprio",))
    observation = world.reset(seed=0)
    assert observation["privileged"].shape == (3, len(world.privileged_names))
    names = list(world.privileged_names)
    assert len(world.task.privileged_scale) == len(world.task.privileged_names)
    assert set(world.task.visible_names) <= set(world.task.privileged_names)
    start = next(i for i, name in enumerate(names) if name.endswith("_dx"))
    assert torch.allclose(observation["privileged"][:, start : start + 3].double(), first_offset(world))
    blind = World(task, 3, sensors=("proprio",))
    assert "privileged" not in blind.reset(seed=0) and "privileged" not in blind.observation_space.spaces


def test_privileged_grasp_state_is_the_blocks():
    world = World("Grasp", 5, privileged=True, sensors=("proprio",))
    truth = world.reset(seed=0)["privileged"].double()
    names = list(world.task.privileged_names)
    size = world.backend.parameter("geom_size")[:, world.task._geom]
    assert torch.allclose(truth[:, [names.index(f"half_{a}") for a in "xyz"]], size)
    mass = world.backend.parameter("body_mass")[:, world.task._body]
    assert torch.allclose(truth[:, names.index("mass")], mass)
    truth = world.step(rest(world)).observation["privileged"]
    assert truth[:, names.index("lift")].abs().max() < 1e-3 and truth[:, names.index("touch_table")].eq(1).all()


def test_blocks_vary_as_documented():
    world = World("Grasp", 1000, sensors=("proprio",))
    world.reset(seed=0)
    half = world.backend.parameter("geom_size")[:, world.task._geom]
    mass = world.backend.parameter("body_mass")[:, world.task._body]
    friction = world.backend.parameter("geom_friction")[:, world.task._geom, 0]
    spot = world.backend.field("xpos")[:, world.task._body] - world.robot.workspace
    axes = world.backend.field("xmat")[:, world.task._body].reshape(-1, 3, 3)
    yaw = torch.atan2(axes[:, 1, 0], axes[:, 0, 0])
    for values, low, high in (
        (half, 0.015, 0.025),
        (mass, 0.05, 0.2),
        (friction, 0.7, 1.2),
        (spot[:, :2], -0.1, 0.1),
        (yaw, -np.pi, np.pi),
    ):
        assert values.min() >= low and values.max() <= high
        assert values.max() - values.min() > 0.98 * (high - low)
    # inertia of a solid box
    inertia = world.backend.parameter("body_inertia")[:, world.task._body]
    assert torch.allclose(inertia[:, 0], mass / 3 * (half[:, 1] ** 2 + half[:, 2] ** 2))
    colour = world.backend.parameter("geom_rgba")[:, world.task._geom, :3]
    assert (colour.max(dim=1).values - colour.min(dim=1).values).min() > 0.25  # never the grey of robot or table


def test_lifting_without_holding_is_no_success():
    """A block that hangs in the air, high enough for long enough, but in nobody's fingers."""
    world = World("Grasp", 2, sensors=BLIND)
    world.reset(seed=0)
    qpos, qvel = world.backend.field("qpos"), world.backend.field("qvel")
    spot = world.task._qpos
    for _ in range(40):
        qpos[:, spot + 2], qvel[:, world.task._dof : world.task._dof + 6] = 0.2, 0.0
        step = world.step(rest(world))
    assert not step.success.any() and step.terms["lift"].eq(0).all() and step.terms["hold"].eq(0).all()


def test_success_needs_half_a_second():
    world = World("Grasp", 8, sensors=BLIND, privileged=True)
    world.reset(seed=0)
    lift, held = (world.task.privileged_names.index(name) for name in ("lift", "held"))
    high = torch.zeros(8, dtype=torch.int64)
    for _ in range(world.max_steps):
        step = world.step(world.expert())
        final = step.final_observation["privileged"]
        high = torch.where(final[:, lift] >= 0.10, high + 1, torch.zeros_like(high))
        assert (high[step.success] >= 10).all() and (final[step.success, held] == 1.0).all()
        if step.success.any():
            return
    raise AssertionError("the expert never succeeded")


def test_the_light_registry_says_what_the_real_ones_say():
    """`import robofuse` reads names from a table without loading the modules; here both are at hand."""
    from robofuse.envs.cameras import CAMERAS as REAL_CAMERAS
    from robofuse.envs.robot import ROBOTS as REAL_ROBOTS

    assert [f"robofuse/{name}-v0" for name in TASKS] == list(IDS)
    assert list(REAL_ROBOTS) == list(ROBOTS)
    assert list(REAL_CAMERAS) == list(CAMERAS)


def test_truth_is_the_privileged_vector_as_a_sensor():
    world = World("Grasp", 4, sensors=("truth", "proprio"), privileged=True, noise=False)
    observation = world.reset(seed=3)
    assert [sensor.key for sensor in world.sensors] == ["proprio", "truth"]
    assert torch.equal(observation["truth"], observation["privileged"])
    assert torch.equal(observation["truth"][:, -26:], observation["proprio"])
    alone = World("Grasp", 4, sensors=("truth",), noise=False)
    assert torch.equal(alone.reset(seed=3)["truth"], observation["truth"])
    step = alone.step(alone.expert())
    assert torch.equal(step.observation["truth"], world.step(world.expert()).observation["truth"])
