"""Batched differential kinematics: Jacobians from joint axes, and damped least squares within joint ranges."""

import torch
from torch import Tensor

DAMPING = 0.03
POSTURE_GAIN = 0.1


def jacobian(point: Tensor, anchors: Tensor, axes: Tensor, slides: Tensor) -> Tensor:
    """Geometric Jacobian of a point at the end of a serial chain.

    Args:
        point: (N, 3) world position [m].
        anchors: (N, J, 3) world positions of the joints (MuJoCo's `xanchor`).
        axes: (N, J, 3) world directions of the joints (`xaxis`).
        slides: bool (J,), True for a slide joint, False for a hinge.

    Returns:
        (N, 6, J): rows are the linear velocity [m/s] and the angular velocity [rad/s] per unit joint speed.
    """
    linear = torch.linalg.cross(axes, point[:, None] - anchors)
    if slides.any():
        linear = torch.where(slides[:, None], axes, linear)
        axes = axes * ~slides[:, None]
    return torch.cat([linear, axes], dim=2).transpose(1, 2)


def rotation_error(target: Tensor, current: Tensor) -> Tensor:
    """Rotation vector (N, 3) [rad, world frame] that turns `current` to `target`, both (N, 3, 3); exact to first order.

    The sine of the angle stands for the angle, so errors near 180 degrees vanish; callers keep theirs below 90.
    """
    return 0.5 * torch.linalg.cross(current, target, dim=1).sum(dim=2)


def damped_step(
    jacobian: Tensor, error: Tensor, position: Tensor, low: Tensor, high: Tensor, posture: Tensor
) -> Tensor:
    """Joint displacement that reduces a pose error by damped least squares (Wampler 1986), within joint ranges.

    The error is solved for in full; what the task leaves free is drawn toward `posture`. Joints that would leave their
    range stop at its end, and the others take over what they can of the rest.

    Args:
        jacobian: (N, 6, J).
        error: (N, 6), [m, rad].
        position: (N, J) joint positions.
        low: (J,) ends of the ranges, −inf where there is none.
        high: (J,) likewise.
        posture: (J,) preferred joint positions.

    Returns:
        (N, J) displacement; position + displacement lies within [low, high].
    """
    pull = POSTURE_GAIN * (posture - position)
    step = _solve(jacobian, error, pull)
    reached = position + step
    outside = (reached < low) | (reached > high)
    if outside.any():
        stopped = torch.where(outside, reached.clamp(low, high) - position, 0.0)
        free = torch.where(outside[:, None], 0.0, jacobian)
        rest = error - (jacobian @ stopped[..., None])[..., 0]
        step = torch.where(outside, stopped, _solve(free, rest, torch.where(outside, 0.0, pull)))
    return (position + step).clamp(low, high) - position


def _solve(jacobian: Tensor, error: Tensor, pull: Tensor) -> Tensor:
    transposed = jacobian.transpose(1, 2)
    squared = jacobian @ transposed
    squared.diagonal(dim1=1, dim2=2).add_(DAMPING**2)
    # pull first, then the error that is left including what the pull caused: the projection without forming I − J⁺J
    left = error - (jacobian @ pull[..., None])[..., 0]
    return pull + (transposed @ torch.linalg.solve(squared, left[..., None]))[..., 0]
