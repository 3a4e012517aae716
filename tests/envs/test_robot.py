"""Robots against closed-form values: joints, hand, wrist wrench, fingertips; and a robot of the user's own."""

import math

import mujoco
import numpy as np
import pytest
import torch
from helpers import BLIND, rest

from robofuse.envs import ROBOTS, RobotModel, World

G = 9.81
JOINTS = {"arm": 7, "gripper": 4}


@pytest.fixture(params=["arm", "gripper"])
def world(request):
    world = World("Grasp", 3, robot=request.param, sensors=BLIND, noise=False, num_threads=1)
    world.reset(seed=1)
    yield world
    world.close()


def _hold(world, steps, gripper=1.0):
    for _ in range(steps):
        step = world.step(rest(world, gripper))
    return step.observation


def test_home_is_above_the_workspace_and_stays_there(world):
    start = world.robot.position.clone()
    assert torch.allclose(start[:, :2], world.robot.workspace[:2].expand(3, 2), atol=1e-4)
    _hold(world, 40)
    assert (world.robot.position - start).norm(dim=1).max() < 5e-4  # gravity is compensated


def test_proprioception_is_the_joints(world):
    names = world.robot.proprio_names
    for _ in range(10):
        observation = world.step(0.5 * torch.ones(3, 5)).observation
    for index in range(3):
        _, data = world.backend.snapshot(index)
        for name in world.robot.model.joints:
            joint = data.joint("robot/" + name)
            assert observation["proprio"][index, names.index(name)] == pytest.approx(joint.qpos[0], abs=1e-6)
            assert observation["proprio"][index, names.index(name + "_velocity")] == pytest.approx(
                joint.qvel[0], abs=1e-6
            )
        hand = data.site("robot/hand/grip").xpos - world.robot.workspace.numpy()
        start = names.index("hand_x")
        np.testing.assert_allclose(observation["proprio"][index, start : start + 3], hand, atol=1e-6)
        velocity = np.zeros(6)
        site = world.backend.model.site("robot/hand/grip").id
        mujoco.mj_objectVelocity(world.backend.model, data, mujoco.mjtObj.mjOBJ_SITE, site, velocity, 0)
        start = names.index("hand_vx")
        np.testing.assert_allclose(observation["proprio"][index, start : start + 3], velocity[3:], atol=1e-6)


def test_a_commanded_joint_reads_its_angle():
    """The servo's target is what the encoder reads, once it has settled and nothing pushes."""
    world = World("Reach", 1, sensors=BLIND, noise=False)
    world.reset(seed=0)
    target = torch.tensor([0.2, 0.3, -0.1, -2.2, 0.15, 2.3, 0.5], dtype=torch.float64)
    for _ in range(60):
        world.backend.field("ctrl")[0, :7] = target
        world.backend.step()
    world.robot.update()
    reading = world.robot.proprio(torch.tensor([0]), np.zeros((1, world.robot.num_encoders)))[0]
    assert torch.allclose(reading[:7].double(), target, atol=1e-3)
    world.close()


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_an_action_moves_the_hand_one_step_along_its_axis(world, axis):
    start = world.robot.position.clone()
    action = rest(world)
    action[:, axis] = 1.0 if axis < 2 else -1.0
    for _ in range(4):
        world.step(action)
    _hold(world, 10)
    moved = world.robot.position - start
    expected = torch.zeros(3, dtype=torch.float64)
    expected[axis] = 4 * world.robot.model.step * action[0, axis]
    assert (moved - expected).abs().max() < 1.5e-3


def test_yaw_turns_about_the_vertical_and_keeps_the_fingers_down(world):
    action = rest(world)
    action[:, 3] = 1.0
    for _ in range(4):
        world.step(action)
    _hold(world, 10)
    assert torch.allclose(world.robot.yaw, torch.full((3,), 4 * world.robot.model.yaw_step).double(), atol=5e-3)
    grip = world.backend.model.site("robot/hand/grip").id
    down = world.backend.field("site_xmat")[:, grip].reshape(-1, 3, 3)[:, :, 2]
    assert (down[:, 2] < -0.9999).all()


def test_gripper_opens_and_closes(world):
    _hold(world, 15, gripper=-1.0)
    assert world.robot.gap.max() < 1e-3
    _hold(world, 15, gripper=0.0)
    assert (world.robot.gap - 0.04).abs().max() < 1e-3
    _hold(world, 15, gripper=1.0)
    assert (world.robot.gap - 0.08).abs().max() < 1e-3


def test_the_hand_stays_in_its_box_and_above_the_table(world):
    for direction in ((1, 1, -1), (-1, -1, -1), (-1, 1, 1)):
        action = rest(world)
        action[:, :3] = torch.tensor(direction)
        for _ in range(30):
            world.step(action)
        offset = (world.robot.position - world.robot.workspace).abs()
        assert (offset[:, :2] < 0.22).all()
        assert (world.robot.position[:, 2] > -0.001).all() and (world.robot.position[:, 2] < 0.42).all()


def test_an_idle_wrist_reads_nothing(world):
    wrench = _hold(world, 30)["force"]
    assert wrench.shape == (3, 10, 8)
    assert wrench[..., :3].abs().max() < 0.02 and wrench[..., 3:6].abs().max() < 0.005
    assert wrench[..., 6:].abs().max() == 0.0


def test_a_known_weight_in_the_gripper_reads_m_g():
    world = World("Grasp", 8, sensors=BLIND, noise=False, auto_reset=False)
    world.reset(seed=3)
    for _ in range(60):
        step = world.step(world.expert())
    # the expert goes on holding; wait until nothing moves
    for _ in range(20):
        step = world.step(rest(world, gripper=-1.0))
    held = world.task._touching()[:, :2].all(dim=1)
    assert held.sum() >= 7
    mass = world.backend.parameter("body_mass")[:, world.task._body]
    force = step.observation["force"][:, -1, :3].double()
    axes = world.backend.field("site_xmat")[:, world.robot._wrist].reshape(-1, 3, 3)
    in_world = (axes @ force[..., None])[..., 0]
    down = torch.tensor([0.0, 0.0, -1.0], dtype=torch.float64) * mass[:, None] * G
    assert (in_world - down)[held].abs().max() < 0.05
    # with the fingers down the sensor's z axis points down: the load pulls along +z
    assert torch.allclose(force[held, 2], mass[held] * G, atol=0.05)
    # the fingers press on the block with equal forces, and torque is lever × load
    tips = step.observation["force"][held, -1, 6:]
    assert (tips > 5.0).all() and ((tips[:, 0] - tips[:, 1]).abs() < 1.0).all()
    world.close()


def test_a_push_on_the_hand_reads_as_that_push():
    """5 N sideways at the palm, whatever the servo does about it; the sensor's x axis is the world's at yaw 0."""
    world = World("Reach", 1, sensors=BLIND, noise=False)
    world.reset(seed=0)
    hand = world.backend.model.body("robot/hand/hand").id
    world.backend.field("xfrc_applied")[0, hand, 0] = 5.0
    wrench = _hold(world, 40)["force"][0, -1]
    assert wrench[0] == pytest.approx(5.0, abs=0.1) and wrench[1:3].abs().max() < 0.2
    assert world.robot.peak_force()[0] == pytest.approx(5.0, abs=0.1)
    world.close()


def test_the_peak_is_that_of_the_last_control_step():
    """Down onto the table for ever: the peak is never below what the window shows, and lasts no longer than it."""
    world = World("Reach", 2, sensors=BLIND, noise=False)
    world.reset(seed=0)
    down, most = torch.tensor([[0.0, 0.0, -1.0, 0.0, -1.0]] * 2), 0.0
    for _ in range(20):
        window = world.step(down).observation["force"]
        peak = world.robot.peak_force()
        assert torch.allclose(peak.float(), window[..., :3].norm(dim=2).amax(1), atol=1e-3)
        most = max(most, peak.max().item())
    assert most > 50.0
    world.close()


def test_joint_ranges_are_respected():
    world = World("Reach", 16, sensors=("proprio",), noise=False)
    world.reset(seed=0)
    low, high = world.robot._low, world.robot._high
    generator = torch.Generator().manual_seed(0)
    for k in range(40):
        if k % 8 == 0:
            action = torch.rand(16, 5, generator=generator).round() * 2 - 1
        world.step(action)
        servo = world.backend.field("ctrl")[:, world.robot._servos][:, :7].numpy()
        assert (servo >= low - 1e-9).all() and (servo <= high + 1e-9).all()
    world.close()


OWN = """
<mujoco>
  <compiler angle="radian"/>
  <default><geom contype="2" conaffinity="1"/><position inheritrange="1" dampratio="1" kp="3000"/></default>
  <worldbody>
    <body name="post" pos="0 0 0.1" gravcomp="1">
      <joint name="pan" axis="0 0 1" range="-2 2" armature="0.1"/>
      <geom type="capsule" fromto="0 0 0 0 0 0.3" size="0.04" mass="2"/>
      <body name="boom" pos="0 0 0.3" gravcomp="1">
        <joint name="out" type="slide" axis="1 0 0" range="0.1 0.7" armature="1"/>
        <geom type="capsule" fromto="-0.3 0 0 0 0 0" size="0.03" mass="1"/>
        <body name="mast" gravcomp="1">
          <joint name="down" type="slide" axis="0 0 -1" range="0 0.4" armature="1"/>
          <geom type="capsule" fromto="0 0 0 0 0 -0.05" size="0.02" mass="0.5"/>
          <body name="tool" quat="0 1 0 0" pos="0 0 -0.1" gravcomp="1">
            <joint name="turn" axis="0 0 1" range="-3 3" armature="0.1"/>
            <geom type="box" size="0.03 0.1 0.02" mass="0.3"/>
            <site name="wrist"/><site name="grip" pos="0 0 0.08"/>
            <body name="left" pos="0 0 0.05" gravcomp="1">
              <joint name="left_finger" type="slide" axis="0 1 0" range="0 0.04" armature="0.1"/>
              <geom name="left" type="box" size="0.01 0.004 0.04" pos="0 0.004 0" mass="0.05"/>
              <site name="left_tip" type="box" size="0.0105 0.0045 0.041" pos="0 0.004 0"/>
            </body>
            <body name="right" pos="0 0 0.05" quat="0 0 0 1" gravcomp="1">
              <joint name="right_finger" type="slide" axis="0 1 0" range="0 0.04" armature="0.1"/>
              <geom name="right" type="box" size="0.01 0.004 0.04" pos="0 0.004 0" mass="0.05"/>
              <site name="right_tip" type="box" size="0.0105 0.0045 0.041" pos="0 0.004 0"/>
            </body>
          </body>
        </body>
      </body>
    </body>
  </worldbody>
  <actuator>
    <position joint="pan"/><position joint="out"/><position joint="down"/><position joint="turn" kp="300"/>
    <position joint="left_finger" kp="1500" forcerange="-35 35"/>
    <position joint="right_finger" kp="1500" forcerange="-35 35"/>
  </actuator>
</mujoco>
"""
CRANE = RobotModel(name="crane", mjcf=OWN, joints=("pan", "out", "down", "turn"), home=(0.0, 0.4, 0.02, 0.0))


@pytest.mark.parametrize("task", ["Reach", "Grasp"])
def test_a_robot_of_ones_own_drops_into_every_task(task, tmp_path):
    path = tmp_path / "crane.xml"
    path.write_text(OWN)
    for mjcf in (OWN, path):
        model = RobotModel(name="crane", mjcf=mjcf, joints=CRANE.joints, home=CRANE.home)
        world = World(task, 16, robot=model, sensors=BLIND)
        world.reset(seed=0)
        won = torch.zeros(16, dtype=torch.bool)
        for _ in range(world.max_steps):
            won |= world.step(world.expert()).success
        assert won.float().mean() >= 0.9
        world.close()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"joints": ("pan", "out", "down", "twist")}, "has no joint 'twist'; joints: pan, out"),
        ({"grip_site": "claw"}, "has no site 'claw'; sites: wrist, grip"),
        ({"fingers": ("left_finger", "thumb")}, "has no joint 'thumb'"),
    ],
)
def test_a_missing_name_is_named(change, message):
    fields = {"name": "crane", "mjcf": OWN, "joints": CRANE.joints, "home": CRANE.home} | change
    with pytest.raises(ValueError, match=message):
        World("Reach", 1, robot=RobotModel(**fields), sensors=BLIND)


def test_a_joint_without_a_servo_is_named():
    broken = OWN.replace('<position joint="out"/>', '<motor joint="out"/>')
    with pytest.raises(ValueError, match="'out'.*<position> servo.* 0; .*: pan, down"):
        World("Reach", 1, robot=RobotModel("crane", broken, CRANE.joints, CRANE.home), sensors=BLIND)


def test_other_actuators_are_left_alone():
    """A tendon that happens to have the first joint's number, and a damper on a joint, are nobody's servo."""
    more = OWN.replace(
        "<actuator>",
        '<tendon><fixed name="t"><joint joint="pan" coef="0.001"/></fixed></tendon>'
        '<actuator><motor tendon="t"/><velocity joint="out" kv="0.1"/>',
    ).replace("</actuator>", '<velocity joint="pan" kv="0.1"/></actuator>')
    world = World("Reach", 1, robot=RobotModel("crane", more, CRANE.joints, CRANE.home), sensors=BLIND, noise=False)
    world.reset(seed=0)
    start = world.robot.position.clone()
    _hold(world, 20)
    assert (world.robot.position - start).norm() < 2e-3
    only_velocity = OWN.replace('<position joint="out"/>', '<velocity joint="out"/>')
    with pytest.raises(ValueError, match="'out'.*<position> servo"):
        World("Reach", 1, robot=RobotModel("crane", only_velocity, CRANE.joints, CRANE.home), sensors=BLIND)


def test_home_lies_within_the_joint_ranges():
    with pytest.raises(ValueError, match=r"'out' is 0.9.*\[0.1, 0.7\]"):
        World("Reach", 1, robot=RobotModel("crane", OWN, CRANE.joints, (0.0, 0.9, 0.02, 0.0)), sensors=BLIND)


def test_home_must_fit_the_joints():
    with pytest.raises(ValueError, match="4 joints but 2 home positions"):
        RobotModel("crane", OWN, CRANE.joints, (0.0, 0.0))


def test_the_arm_has_the_published_kinematics():
    """Denavit–Hartenberg parameters of the Panda (Franka Control Interface documentation), checked independently."""
    table = [(0, 0, 0.333), (0, -math.pi / 2, 0), (0, math.pi / 2, 0.316), (0.0825, math.pi / 2, 0)]
    table += [(-0.0825, -math.pi / 2, 0.384), (0, math.pi / 2, 0), (0.088, math.pi / 2, 0), (0, 0, 0.107)]
    model = ROBOTS["arm"].spec().compile()
    data = mujoco.MjData(model)
    rng = np.random.default_rng(0)
    for _ in range(20):
        q = rng.uniform(model.jnt_range[:7, 0], model.jnt_range[:7, 1])
        pose = np.eye(4)
        for (a, alpha, d), theta in zip(table, [*q, 0.0], strict=True):
            ca, sa, ct, s = math.cos(alpha), math.sin(alpha), math.cos(theta), math.sin(theta)
            pose = pose @ np.array(
                [[ct, -s, 0, a], [s * ca, ct * ca, -sa, -d * sa], [s * sa, ct * sa, ca, d * ca], [0, 0, 0, 1]]
            )
        data.qpos[:7] = q
        mujoco.mj_kinematics(model, data)
        np.testing.assert_allclose(data.site("hand/wrist").xpos, pose[:3, 3], atol=1e-6)
