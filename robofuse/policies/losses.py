"""What FusionPPO minimises, and what it says when that is not a number."""

from typing import TYPE_CHECKING

import torch
from gymnasium import spaces
from torch import Tensor

from robofuse.errors import StateError
from robofuse.policies.actor_critic import FusionActorCriticPolicy
from robofuse.policies.rollouts import Batch
from robofuse.sensors import PRIVILEGED

if TYPE_CHECKING:
    from robofuse.policies.ppo import FusionPPO


def losses(model: "FusionPPO", batch: Batch, clip: float) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """The loss on a minibatch: PPO's, the teacher's advice while it lasts, and the auxiliary losses.

    Args:
        model: its weights of the parts, policy and teacher.
        batch: B rows.
        clip: PPO's clip range.

    Returns:
        The loss, the ratios (B,) detached, and the parts by name, detached.

    Raises:
        RuntimeError: an observation, and so the features, hold NaN or Inf.
    """
    policy, obs = model.policy, batch.observations
    advantages = batch.advantages
    if model.normalize_advantage:
        advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-8)
    fused = policy.fuse(obs, batch.starts)
    if not bool(fused.features.isfinite().all()):
        raise StateError(not_finite(policy, obs, {"features": fused.features.sum()}))
    distribution = policy.distribution(fused)
    actions = batch.actions
    if isinstance(model.action_space, spaces.Discrete):
        actions = actions.long().flatten()
    log_ratio = distribution.log_prob(actions) - batch.old_log_prob
    ratio = log_ratio.exp()
    surrogate = -torch.min(advantages * ratio, advantages * ratio.clamp(1.0 - clip, 1.0 + clip)).mean()
    entropy = policy.entropy(distribution).mean()
    target = ((batch.returns - policy.return_norm.mean) / policy.return_norm.std)[:, None]
    value = (policy.normalised_values(fused, obs) - target).square().mean()
    loss = surrogate - model.entropy_weight() * entropy + model.vf_coef * value
    parts = {"policy_loss": surrogate, "value_loss": value, "entropy": entropy}
    weight = model.teacher_weight()
    if weight and model.teacher is not None:
        advice = policy.squashed(model.teacher(obs[PRIVILEGED].float()))
        apart = (torch.tanh(distribution.mode()) - advice).square().sum(1).mean()
        loss = loss + weight * apart
        parts["teacher"] = apart
    if model.aux_coef and policy.truth_dim:
        truth = policy.truth_norm(obs[PRIVILEGED].float().flatten(1))[:, policy.visible]
        errors = policy.truth_heads(fused, truth)
        loss = loss + model.aux_coef * errors.sum()
        names = [*(sensor.key for sensor in policy.features_extractor.sensors), "fused"]
        parts |= {f"aux/{name}": error for name, error in zip(names, errors, strict=True)}
    with torch.no_grad():
        parts["approx_kl"] = (ratio - 1.0 - log_ratio).mean()
        parts["clip_fraction"] = ((ratio - 1.0).abs() > clip).float().mean()
    return loss, ratio.detach(), {name: part.detach() for name, part in parts.items()}


def not_finite(policy: FusionActorCriticPolicy, obs: dict[str, Tensor], parts: dict[str, Tensor]) -> str:
    """What to tell people of a loss, gradient or action that is NaN or Inf."""
    extractor = policy.features_extractor
    for sensor, live in zip(extractor.sensors, extractor.available(obs).unbind(1), strict=True):
        x = obs[sensor.key]
        if x.is_floating_point() and not bool(torch.isfinite(x[live]).all()):
            return (
                f"observation {sensor.key!r} holds NaN or Inf where it is live; look at the environment (weights "
                "unchanged)"
            )
    broken = [name for name, part in parts.items() if not bool(torch.isfinite(part))] or ["the gradient"]
    return (
        f"{', '.join(broken)} became NaN or Inf; the weights were not touched. Try a lower learning rate, "
        "a smaller clip range, or target_kl"
    )
