"""Jacobians against MuJoCo's own; damped least squares against what it promises."""

import mujoco
import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from robofuse.envs.control import damped_step, jacobian, rotation_error
from robofuse.envs.robot import ROBOTS

ARM = ROBOTS["arm"]
MODEL = ARM.spec().compile()


def _arm(q):
    data = mujoco.MjData(MODEL)
    data.qpos[:7] = q
    mujoco.mj_forward(MODEL, data)
    site = data.site(ARM.grip_site)
    point = torch.tensor(site.xpos)[None]
    joints = [MODEL.joint(name).id for name in ARM.joints]
    ours = jacobian(
        point, torch.tensor(data.xanchor[joints])[None], torch.tensor(data.xaxis[joints])[None], torch.zeros(7).bool()
    )
    return data, point, ours


inside = st.lists(st.floats(0.05, 0.95), min_size=7, max_size=7).map(
    lambda u: MODEL.jnt_range[:7, 0] + np.array(u) * (MODEL.jnt_range[:7, 1] - MODEL.jnt_range[:7, 0])
)


@settings(max_examples=30, deadline=None)
@given(inside)
def test_jacobian_is_mujocos(q):
    data, point, ours = _arm(q)
    linear, angular = np.zeros((3, MODEL.nv)), np.zeros((3, MODEL.nv))
    mujoco.mj_jac(MODEL, data, linear, angular, point[0].numpy(), MODEL.site_bodyid[MODEL.site(ARM.grip_site).id])
    np.testing.assert_allclose(ours[0].numpy(), np.vstack([linear, angular])[:, :7], atol=1e-12)


def test_slides_move_along_their_axis():
    axes = torch.eye(3, dtype=torch.float64)[None]
    slides = torch.tensor([True, False, True])
    ours = jacobian(torch.tensor([[1.0, 0, 0]]).double(), torch.zeros(1, 3, 3).double(), axes, slides)[0]
    assert ours[:, 0].tolist() == [1, 0, 0, 0, 0, 0]
    assert ours[:, 1].tolist() == [0, 0, -1, 0, 1, 0]  # y × x = −z
    assert ours[:, 2].tolist() == [0, 0, 1, 0, 0, 0]


@settings(max_examples=30, deadline=None)
@given(inside, st.lists(st.floats(-0.3, 0.3), min_size=6, max_size=6))
def test_step_stays_within_joint_ranges(q, error):
    _, _, ours = _arm(q)
    low, high = (torch.tensor(MODEL.jnt_range[:7, side]) for side in (0, 1))
    position = torch.tensor(q)[None]
    step = damped_step(ours, torch.tensor([error]).double(), position, low, high, torch.tensor(ARM.home).double())
    reached = position + step
    assert (reached >= low - 1e-12).all() and (reached <= high + 1e-12).all()


def test_steps_converge_on_the_commanded_pose():
    q, (low, high) = torch.tensor([ARM.home]).double(), (torch.tensor(MODEL.jnt_range[:7, side]) for side in (0, 1))
    target = torch.tensor(ARM.home_pose()[0] + [0.08, -0.10, -0.12])[None]
    axes = torch.tensor(ARM.home_pose()[1])[None]
    for _ in range(15):
        data, point, ours = _arm(q[0].numpy())
        now = torch.tensor(data.site(ARM.grip_site).xmat.reshape(1, 3, 3))
        error = torch.cat([target - point, rotation_error(axes, now)], dim=1)
        q = q + damped_step(ours, error, q, low, high, torch.tensor(ARM.home).double())
    assert error.abs().max() < 1e-3


def test_others_take_over_when_a_joint_is_at_its_end():
    """Two parallel slides: one is at its end, the other has to make the whole way."""
    both = torch.zeros(1, 6, 2, dtype=torch.float64)
    both[0, 0] = 1.0
    error = torch.zeros(1, 6, dtype=torch.float64)
    error[0, 0] = 0.1
    low, high = torch.tensor([-1.0, -1.0]).double(), torch.tensor([0.0, 1.0]).double()
    zero = torch.zeros(1, 2, dtype=torch.float64)
    step = damped_step(both, error, zero, low, high, zero[0])
    assert step[0, 0] == 0.0
    assert abs(step[0, 1] - 0.1) < 1e-3


@settings(max_examples=30, deadline=None)
@given(st.floats(-0.2, 0.2), st.floats(-0.2, 0.2), st.floats(-0.2, 0.2))
def test_rotation_error_is_the_rotation_vector(x, y, z):
    vector, quat, mat = np.array([x, y, z]), np.zeros(4), np.zeros(9)
    angle = np.linalg.norm(vector)
    mujoco.mju_axisAngle2Quat(quat, vector / max(angle, 1e-12), angle)
    mujoco.mju_quat2Mat(mat, quat)
    start = torch.tensor(ARM.home_pose()[1])[None]
    error = rotation_error(torch.tensor(mat.reshape(1, 3, 3)) @ start, start)[0].numpy()
    np.testing.assert_allclose(error, vector * np.sinc(angle / np.pi), atol=1e-9)
