"""What of an agent acts: an extractor, the layers on its features, and how readings were normalised."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, cast

import gymnasium as gym
import numpy as np
import torch
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.vec_env import VecNormalize
from torch import Tensor, nn

from robofuse.errors import InputError
from robofuse.policies.actor_critic import FusionActorCriticPolicy
from robofuse.policies.extractor import FusionExtractor
from robofuse.policies.modules import Recurrent


class Statistics(NamedTuple):
    """How readings of a sensor were normalised: (x − mean) / deviation, within ± limit.

    Attributes:
        mean: of the sensor's shape.
        deviation: of the sensor's shape, more than 0.
        limit: of what comes out.
    """

    mean: np.ndarray
    deviation: np.ndarray
    limit: float


@dataclass(frozen=True)
class Network:
    """What acts.

    Attributes:
        extractor: from readings and `available` to features (B, F).
        actor: from features, with a memory (B, F + H), to the action within its bounds.
        recurrent: the memory, if there is one.
        normalised: sensor → how its readings were normalised in training.
    """

    extractor: FusionExtractor
    actor: nn.Sequential
    recurrent: Recurrent | None = None
    normalised: Mapping[str, Statistics] = field(default_factory=dict)

    @property
    def scores(self) -> nn.Sequential:
        """The actor without its last layer where that has no gradient: clipping to bounds, or choosing the best."""
        cut = type(self.actor[-1]) in (_Clipped, _Best)
        return nn.Sequential(*list(self.actor)[:-1]) if cut else self.actor


def of_policy(policy: FusionActorCriticPolicy) -> Network:
    """Of a policy of `FusionPPO`."""
    recurrent = policy.recurrent if policy.memory else None
    return Network(policy.features_extractor, nn.Sequential(*_layers(policy)), recurrent)


def _layers(policy: FusionActorCriticPolicy) -> list[nn.Module]:
    space, layers = policy.action_space, [policy.actor, cast(nn.Module, policy.action_net)]
    return [*layers, nn.Tanh(), _Scaled(space)] if isinstance(space, gym.spaces.Box) else [*layers, _Best()]


def of_agent(agent: BaseAlgorithm, normalise: VecNormalize | None = None) -> Network:
    """Of an agent of Stable-Baselines3 or sb3-contrib.

    Args:
        agent: of PPO, A2C, TRPO, SAC, TD3, DDPG, TQC, CrossQ, DQN or QR-DQN.
        normalise: what normalised its observations in training.

    Raises:
        InputError: an agent of another kind, without `FusionExtractor`, with a memory, or with actions that are neither
            a Box nor Discrete; pictures that were normalised.
    """
    policy: Any = agent.policy
    space: Any = agent.action_space
    if not isinstance(agent.action_space, gym.spaces.Box | gym.spaces.Discrete):
        raise InputError(f"its actions are {space}; this takes a Box or Discrete")
    actor: Any = getattr(policy, "actor", None)
    if isinstance(policy, FusionActorCriticPolicy):
        if policy.memory or policy.frames:
            raise InputError(
                f"{type(agent).__name__} has a memory, and this takes agents that act on the present alone"
            )
        extractor, layers = policy.features_extractor, _layers(policy)
    elif hasattr(policy, "lstm_actor"):
        raise InputError(
            "the LSTM of RecurrentPPO cannot be taken apart; a memory of FusionPPO can be exported: "
            'policy_kwargs={"memory": 64}'
        )
    elif isinstance(policy, ActorCriticPolicy):
        extractor = policy.pi_features_extractor
        layers = [policy.mlp_extractor.policy_net, policy.action_net]
        if isinstance(space, gym.spaces.Box):
            layers += [nn.Tanh(), _Scaled(space)] if policy.squash_output else [_Clipped(space)]
        else:
            layers += [_Best()]
    elif hasattr(actor, "latent_pi"):
        extractor, layers = actor.features_extractor, [actor.latent_pi, actor.mu, nn.Tanh(), _Scaled(space)]
    elif hasattr(actor, "mu"):
        extractor, layers = actor.features_extractor, [actor.mu, _Scaled(space)]
    elif hasattr(policy, "quantile_net"):
        net = policy.quantile_net
        extractor, layers = net.features_extractor, [net.quantile_net, _Expected(net.n_quantiles), _Best()]
    elif hasattr(policy, "q_net"):
        extractor, layers = policy.q_net.features_extractor, [policy.q_net.q_net, _Best()]
    else:
        raise InputError(
            f"it is not known how a {type(policy).__name__} acts; known are those of PPO, A2C, SAC, TD3, DDPG, TQC, "
            "DQN and QR-DQN"
        )
    if not isinstance(extractor, FusionExtractor):
        raise InputError(
            f"this takes agents with robofuse's FusionExtractor; this one has a {type(extractor).__name__}, which "
            "knows of no missing sensors"
        )
    policy.set_training_mode(False)
    return Network(extractor, nn.Sequential(*layers).eval(), None, _statistics(extractor, normalise))


def _statistics(extractor: FusionExtractor, normalise: VecNormalize | None) -> dict[str, Statistics]:
    found = dict[str, Statistics]()
    if normalise is None or not normalise.norm_obs:
        return found
    told = normalise.obs_rms
    if not isinstance(told, dict):
        raise InputError("VecNormalize was not of Dict observations, and belongs to another agent")
    for key, moments in told.items():
        sensor = extractor.readings.encoded.get(key)
        if sensor is None:
            continue
        if sensor.kind in ("rgb", "depth") or moments.mean.shape != sensor.shape:
            raise InputError(
                f"VecNormalize has normalised {key!r}, {'a picture' if len(sensor.shape) == 3 else 'of another shape'};"
                " leave pictures to the extractor: norm_obs_keys=[…]"
            )
        found[key] = Statistics(moments.mean, np.sqrt(moments.var + normalise.epsilon), float(normalise.clip_obs))
    return found


class _Clipped(nn.Module):
    """Within the bounds of a Box, in its shape."""

    low: Tensor
    high: Tensor

    def __init__(self, space: gym.spaces.Box) -> None:
        super().__init__()
        self.register_buffer("low", torch.tensor(space.low, dtype=torch.float32))
        self.register_buffer("high", torch.tensor(space.high, dtype=torch.float32))

    def forward(self, x: Tensor) -> Tensor:
        return torch.maximum(torch.minimum(x.reshape(-1, *self.low.shape), self.high), self.low)


class _Scaled(_Clipped):
    """From [−1, 1] to the bounds of a Box."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(self.low + 0.5 * (x.reshape(-1, *self.low.shape) + 1.0) * (self.high - self.low))


class _Expected(nn.Module):
    """The mean over quantiles."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.count = count

    def forward(self, x: Tensor) -> Tensor:
        return x.reshape(len(x), self.count, -1).mean(dim=1)


class _Best(nn.Module):
    """The choice of the largest value."""

    def forward(self, x: Tensor) -> Tensor:
        return x.argmax(dim=1)
