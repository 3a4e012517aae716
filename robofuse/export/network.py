"""What a graph is made of: an extractor, what acts on its features, and how readings were normalised."""

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
from robofuse.policies import FusionActorCriticPolicy, FusionExtractor
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
    """What a graph is made of.

    Attributes:
        extractor: from readings and `available` to features (1, F).
        actor: from features, with a memory (1, F + H), to the action within its bounds.
        recurrent: the memory, if there is one.
        normalised: sensor → how its readings were normalised in training.
    """

    extractor: FusionExtractor
    actor: nn.Module
    recurrent: Recurrent | None = None
    normalised: Mapping[str, Statistics] = field(default_factory=dict)


def of_policy(policy: FusionActorCriticPolicy) -> Network:
    """Of a policy of `FusionPPO`."""
    return Network(policy.features_extractor, _Executed(policy), policy.recurrent if policy.memory else None)


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
    actor: Any = getattr(policy, "actor", None)
    if isinstance(policy, FusionActorCriticPolicy):
        if policy.memory or policy.frames:
            raise InputError("VecNormalize and a memory cannot be exported together; train with one of them")
        extractor, layers = policy.features_extractor, [_Executed(policy)]
    elif hasattr(policy, "lstm_actor"):
        raise InputError(
            "the LSTM of RecurrentPPO cannot be exported; what can is a memory of FusionPPO: "
            'policy_kwargs={"memory": 64}'
        )
    elif isinstance(policy, ActorCriticPolicy):
        extractor = policy.pi_features_extractor
        layers = [policy.mlp_extractor.policy_net, policy.action_net]
        if isinstance(space, gym.spaces.Box):
            layers += [nn.Tanh(), _Scaled(space)] if policy.squash_output else [_Shaped(space)]
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
        raise InputError(f"export does not know how a {type(policy).__name__} acts; it knows those of PPO, A2C, SAC, "
                         "TD3, DDPG, TQC, DQN and QR-DQN")  # fmt: skip
    if not isinstance(extractor, FusionExtractor):
        raise InputError(
            f"export is of agents with robofuse's FusionExtractor; this one has a {type(extractor).__name__}, which "
            "knows of no missing sensors: torch.onnx exports it"
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


class _Executed(nn.Module):
    def __init__(self, policy: FusionActorCriticPolicy) -> None:
        super().__init__()
        self.policy = policy
        self.train(policy.training)  # the mode that torch's exporter puts back

    def forward(self, features: Tensor) -> Tensor:
        out = cast(nn.Module, self.policy.action_net)(self.policy.actor(features))
        box = isinstance(self.policy.action_space, gym.spaces.Box)
        return self.policy.execute(out) if box else out.argmax(dim=1)


class _Shaped(nn.Module):
    """Clips to the bounds of a Box, in its shape."""

    low: Tensor
    high: Tensor

    def __init__(self, space: gym.spaces.Box) -> None:
        super().__init__()
        self.register_buffer("low", torch.tensor(space.low, dtype=torch.float32))
        self.register_buffer("high", torch.tensor(space.high, dtype=torch.float32))

    def forward(self, x: Tensor) -> Tensor:
        return torch.maximum(torch.minimum(x.reshape(1, *self.low.shape), self.high), self.low)


class _Scaled(_Shaped):
    """From [−1, 1] to the bounds of a Box."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(self.low + 0.5 * (x.reshape(1, *self.low.shape) + 1.0) * (self.high - self.low))


class _Expected(nn.Module):
    """The mean over quantiles."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.count = count

    def forward(self, x: Tensor) -> Tensor:
        return x.reshape(1, self.count, -1).mean(dim=1)


class _Best(nn.Module):
    """The choice of the largest value."""

    def forward(self, x: Tensor) -> Tensor:
        return x.argmax(dim=1)
