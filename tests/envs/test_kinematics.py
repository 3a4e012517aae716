"""Jacobians against MuJoCo's own; damped least squares against what it promises."""

import mujoco
import numpy as np
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
    point = site.xpos[None].copy()
    joints = [MODEL.joint(name).id for name in ARM.joints]
    return data, point, jacobian(point, data.xanchor[joints][None], data.xaxis[joints][None], None)


inside = st.lists(st.floats(0.05, 0.95), min_size=7, max_size=7).map(
    lambda u: MODEL.jnt_range[:7, 0] + np.array(u) * (MODEL.jnt_range[:7, 1] - MODEL.jnt_range[:7, 0])
)


@settings(max_examples=30, deadline=None)
@given(inside)
def test_jacobian_is_mujocos(q):
    data, point, ours = _arm(q)
    linear, angular = np.zeros((3, MODEL.nv)), np.zeros((3, MODEL.nv))
    mujoco.mj_jac(MODEL, data, linear, angular, point[0], MODEL.site_bodyid[MODEL.site(ARM.grip_site).id])
    np.testing.assert_allclose(ours[0], np.vstack([linear, angular])[:, :7], atol=1e-12)


def test_slides_move_along_their_axis():
    slides = np.array([True, False, True])
    ours = jacobian(np.array([[1.0, 0, 0]]), np.zeros((1, 3, 3)), np.eye(3)[None], slides)[0]
    assert ours[:, 0].tolist() == [1, 0, 0, 0, 0, 0]
    assert ours[:, 1].tolist() == [0, 0, -1, 0, 1, 0]  # y × x = −z
    assert ours[:, 2].tolist() == [0, 0, 1, 0, 0, 0]


@settings(max_examples=30, deadline=None)
@given(inside, st.lists(st.floats(-0.3, 0.3), min_size=6, max_size=6))
def test_step_stays_within_joint_ranges(q, error):
    _, _, ours = _arm(q)
    low, high = MODEL.jnt_range[:7].T
    position = np.array(q)[None]
    step = damped_step(ours, np.array([error]), position, low, high, np.array(ARM.home))
    reached = position + step
    assert (reached >= low - 1e-12).all() and (reached <= high + 1e-12).all()


def test_steps_converge_on_the_commanded_pose():
    q, (low, high) = np.array([ARM.home]), MODEL.jnt_range[:7].T
    target, axes = (ARM.home_pose()[0] + [0.08, -0.10, -0.12])[None], ARM.home_pose()[1][None]
    for _ in range(15):
        data, point, ours = _arm(q[0])
        now = data.site(ARM.grip_site).xmat.reshape(1, 3, 3)
        error = np.concatenate([target - point, rotation_error(axes, now)], axis=1)
        q = q + damped_step(ours, error, q, low, high, np.array(ARM.home))
    assert np.abs(error).max() < 1e-3


def test_others_take_over_when_a_joint_is_at_its_end():
    """Two parallel slides: one is at its end, the other has to make the whole way."""
    both, error, zero = np.zeros((1, 6, 2)), np.zeros((1, 6)), np.zeros((1, 2))
    both[0, 0], error[0, 0] = 1.0, 0.1
    low, high = np.array([-1.0, -1.0]), np.array([0.0, 1.0])
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
    start = ARM.home_pose()[1][None]
    error = rotation_error(mat.reshape(1, 3, 3) @ start, start)[0]
    np.testing.assert_allclose(error, vector * np.sinc(angle / np.pi), atol=1e-9)
