"""The policy: an actor that reads sensors only, a critic that may know the simulator's truth."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast

import gymnasium as gym
import numpy as np
import torch
from stable_baselines3.common.distributions import DiagGaussianDistribution, Distribution
from stable_baselines3.common.policies import MultiInputActorCriticPolicy
from torch import Tensor, nn

from robofuse.checks import whole
from robofuse.errors import InputError
from robofuse.memory.stack import single_sensors, stacked_sensors
from robofuse.policies.extractor import Fused, FusionExtractor
from robofuse.policies.modules import MEMORY, Recurrent, RunningNorm, TruthHeads
from robofuse.policies.regularisers import Regularisers
from robofuse.policies.token_dropout import NOISY
from robofuse.sensors import PRIVILEGED
from robofuse.tensors import on_cpu

# Gauss–Hermite nodes and weights for the mean of a function of a standard normal variable
_NODES, _WEIGHTS = (torch.tensor(x, dtype=torch.float32) for x in np.polynomial.hermite_e.hermegauss(15))
_WEIGHTS = _WEIGHTS / math.sqrt(2.0 * math.pi)


class FusionActorCriticPolicy(MultiInputActorCriticPolicy):
    """Actor and critic over a `FusionExtractor`, for `FusionPPO` or any on-policy SB3 algorithm.

    **Actions.** In a Box, the network gives a Gaussian over u; the environment is given tanh(u), scaled to the bounds.
    Clipping instead would leave a mean beyond the bound without gradient: noise no longer changes what is executed.
    Rollouts store u and its Gaussian density. PPO stays exact: tanh is invertible and its Jacobian depends on u alone,
    so it cancels in the ratio π(u)/π_old(u). The entropy is that of the *executed* action, H(u) + E[log(1 − tanh² u)],
    the mean by quadrature; rewarding it pulls u away from saturation instead of pushing it there. Other action spaces
    are SB3's.

    **Critic.** If the space has `privileged`, the critic reads it beside the features, which it does not train. The
    actor never does, so `predict` works without that key. Values are learned in units of the running mean and
    standard deviation of the returns (`update_norms`).

    **Memory.** With `memory`, a recurrent unit of that width follows the fusion, and actor and critic read the features
    and what it remembers. Its state comes in with the observation, under `_memory`, as masks do, and goes out as
    `Fused.memory`: `FusionPPO` and `Policy.stateful` hand it on from step to step.

    **Images** stay in their native dtype: SB3's conversion of every observation to float is left out.
    """

    features_extractor: FusionExtractor
    _nodes: Tensor
    _weights: Tensor
    _low: Tensor
    _high: Tensor
    _visible_index: Tensor

    def __init__(
        self,
        observation_space: gym.spaces.Dict,
        action_space: gym.spaces.Space,
        lr_schedule: Callable[[float], float],
        net_arch: Sequence[int] = (128,),
        activation_fn: type[nn.Module] = nn.ELU,
        log_std_init: float = -0.7,
        features_extractor_class: type[FusionExtractor] = FusionExtractor,
        features_extractor_kwargs: dict[str, Any] | None = None,
        optimizer_kwargs: dict[str, Any] | None = None,
        visible: Sequence[int] | None = None,
        memory: int = 0,
        frames: int = 0,
        regularisers: Mapping[str, float] | None = None,
        **kwargs: Any,  # noqa: ANN401
    ) -> None:
        """As SB3's, but `net_arch` is a list of hidden widths, the same for actor and critic.

        `visible` are the entries of `privileged` that sensors can tell, for the auxiliary loss; by default all.
        `memory` is the width of the recurrent unit, 0 for none; only `FusionPPO` trains one. `frames` says that
        observations come through a `VecSensorStack` of so many, so that policy files tell; it changes nothing here.
        `regularisers` are losses on the tokens with their weights, see `regularisers.py`; only `FusionPPO` and
        behaviour cloning know them.

        Raises:
            InputError: infinite action bounds, use_sde, dropout inside the extractor, or `frames` without a stack.
        """
        if isinstance(action_space, gym.spaces.Box) and not action_space.is_bounded():
            raise InputError(f"actions need finite bounds, got {action_space}; wrap it with RescaleAction")
        if kwargs.get("use_sde"):
            raise InputError("FusionActorCriticPolicy has no state-dependent exploration; leave use_sde out")
        self._visible, self.memory = None if visible is None else list(visible), whole(memory, "memory", 0)
        self.frames = whole(frames, "frames", 0)
        self._regularisers = dict(regularisers or {})
        super().__init__(
            observation_space,
            action_space,
            lr_schedule,
            net_arch=list(net_arch),
            activation_fn=activation_fn,
            log_std_init=log_std_init,
            features_extractor_class=features_extractor_class,
            features_extractor_kwargs=features_extractor_kwargs,
            optimizer_kwargs={"eps": 1e-5, "fused": True} if optimizer_kwargs is None else optimizer_kwargs,
            **kwargs,
        )
        self._squash_output = isinstance(action_space, gym.spaces.Box)
        sensors = self.features_extractor.sensors
        if self.frames and tuple(s.shape for s in stacked_sensors(single_sensors(sensors, frames), frames)) != tuple(
            s.shape for s in sensors
        ):
            raise InputError(
                f"frames={frames} says that observations come through VecSensorStack(env, {frames}); they hold "
                f"{', '.join(f'{s.key} {s.shape}' for s in sensors)}"
            )

    def _build(self, lr_schedule: Callable[[float], float]) -> None:
        features, space = self.features_dim + self.memory, self.observation_space
        assert isinstance(space, gym.spaces.Dict) and isinstance(self.net_arch, list)
        # constants as buffers go to the device once, with the weights, and not at every use
        constants = {"_nodes": _NODES, "_weights": _WEIGHTS}
        if isinstance(self.action_space, gym.spaces.Box):
            constants |= {
                "_low": torch.as_tensor(self.action_space.low),
                "_high": torch.as_tensor(self.action_space.high),
            }
        for name, value in constants.items():
            self.register_buffer(name, value.clone(), persistent=False)
        truth = space.spaces.get(PRIVILEGED)
        self.truth_dim = int(np.prod(truth.shape)) if truth is not None and truth.shape is not None else 0
        if self.memory and MEMORY in space.spaces:
            raise InputError(f"{MEMORY!r} is the key of what a policy remembers; give that of the observation another")
        if self.memory:
            self.recurrent = Recurrent(self.features_dim, self.memory)
        self.actor = self._mlp(features, self.net_arch)
        latent = self.net_arch[-1] if self.net_arch else features
        if isinstance(self.action_dist, DiagGaussianDistribution):
            self.action_net, self.log_std = self.action_dist.proba_distribution_net(latent, self.log_std_init)
        else:
            self.action_net = self.action_dist.proba_distribution_net(latent)  # pyright: ignore[reportCallIssue]
        self.critic = self._mlp(features + self.truth_dim, self.net_arch)
        self.value_net = nn.Linear(self.net_arch[-1] if self.net_arch else features + self.truth_dim, 1)
        self.return_norm = RunningNorm(1)
        if self.truth_dim:
            self.truth_norm = RunningNorm(self.truth_dim)
            extractor = self.features_extractor
            self.visible = list(range(self.truth_dim)) if self._visible is None else self._visible
            self.register_buffer("_visible_index", torch.tensor(self.visible, dtype=torch.long), persistent=False)
            token_dim = extractor.mask_tokens.shape[1]
            self.truth_heads = TruthHeads(len(extractor.sensors), token_dim, features, len(self.visible))
        self.regularisers = Regularisers(self.features_extractor, self._regularisers)
        if self.ortho_init:
            parts: list[tuple[nn.Module, float]] = [
                (self.actor, math.sqrt(2)),
                (self.critic, math.sqrt(2)),
                (cast(nn.Module, self.action_net), 0.01),
                (self.value_net, 1.0),
            ]
            for module, gain in parts:
                module.apply(lambda part, gain=gain: self.init_weights(part, gain))
        self.optimizer = self.optimizer_class(self.parameters(), lr=lr_schedule(1), **self.optimizer_kwargs)  # pyright: ignore

    def _get_constructor_parameters(self) -> dict[str, Any]:  # of SB3's `save`
        own = {"visible": self._visible, "memory": self.memory, "frames": self.frames}
        own["regularisers"] = self._regularisers
        return super()._get_constructor_parameters() | own

    def fuse(self, obs: Mapping[str, Tensor], starts: Tensor | None = None) -> Fused:
        """Observation, key → (B, …), to what actor and critic read.

        Args:
            obs: rows; with a memory, its state before them under `_memory`, (B, H).
            starts: of rows that are T steps of E environments, the first step first: bool (T, E), where episodes begin;
                the state of the first step counts. By default all rows are one step.
        """
        fused = self.features_extractor.fuse(obs)
        if not self.memory:
            return fused
        if MEMORY not in obs:
            raise InputError(
                "this policy remembers, and needs what it remembers at every step: act by robofuse.policies.Policy "
                "(`stateful`), train by FusionPPO"
            )
        state = obs[MEMORY] if starts is None else obs[MEMORY][: starts.shape[1]]
        state = self.recurrent(fused.features, state, starts)
        return fused._replace(features=torch.cat([fused.features, state], dim=1), memory=state)

    def fuse_again(
        self, fused: Fused, available: Tensor, obs: Mapping[str, Tensor], starts: Tensor | None = None
    ) -> Fused:
        """What actor and critic would read if fewer sensors were live, `available` (K · B, M); no encoder runs.

        `obs` and `starts` are those that `fuse` was given. A memory holds what it held before the step: only the
        present readings are masked.
        """
        again = self.features_extractor.fuse_again(fused, available)
        if not self.memory:
            return again
        before = obs[MEMORY]
        if starts is not None:
            assert fused.memory is not None
            num_envs = starts.shape[1]
            before = torch.cat([before[:num_envs], fused.memory[:-num_envs]])
            before = before.masked_fill(starts.flatten()[:, None], 0.0)
        count = len(available) // len(fused.tokens)
        state = self.recurrent(again.features, before.repeat(count, 1))
        return again._replace(features=torch.cat([again.features, state], dim=1), memory=state)

    def forward(self, obs: Mapping[str, Tensor], deterministic: bool = False) -> tuple[Tensor, Tensor, Tensor]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Observation to (u (B, A), values (B, 1), log-density of u (B,)); see the class for what u is."""
        return self.choose(self.fuse(obs), obs, deterministic)

    def choose(
        self, fused: Fused, obs: Mapping[str, Tensor], deterministic: bool = False
    ) -> tuple[Tensor, Tensor, Tensor]:
        """`forward` from features that `fuse` gave."""
        distribution = self.distribution(fused)
        actions = distribution.get_actions(deterministic=deterministic)
        return actions, self._values(fused, obs), distribution.log_prob(actions)

    def evaluate_actions(self, obs: Mapping[str, Tensor], actions: Tensor) -> tuple[Tensor, Tensor, Tensor]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Observation and stored u to (values (B, 1), log-density of u (B,), entropy of the executed action (B,))."""
        if self.training:
            self.refuse_noise()
        fused = self.fuse(obs)
        distribution = self.distribution(fused)
        return self._values(fused, obs), distribution.log_prob(actions), self.entropy(distribution)

    def refuse_noise(self) -> None:
        """InputError if the network differs from call to call in train mode, for losses that compare with a rollout."""
        if self.features_extractor.token_dropout is not None:
            raise InputError(NOISY)

    def get_distribution(self, obs: Mapping[str, Tensor]) -> Distribution:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Distribution of u."""
        return self.distribution(self.fuse(obs))

    def predict_values(self, obs: Mapping[str, Tensor]) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Values (B, 1) in units of the reward."""
        return self._values(self.fuse(obs), obs)

    def _predict(self, observation: Mapping[str, Tensor], deterministic: bool = False) -> Tensor:  # pyright: ignore[reportIncompatibleMethodOverride]
        return self.get_distribution(observation).get_actions(deterministic=deterministic)

    def act(self, obs: Mapping[str, Tensor], deterministic: bool = True) -> Tensor:
        """Observation to actions within the environment's bounds, (B, …)."""
        with torch.no_grad():
            return self.act_fused(self.fuse(obs), deterministic)

    def act_fused(self, fused: Fused, deterministic: bool = True) -> Tensor:
        """`act` from features that `fuse` gave."""
        with torch.no_grad():
            if deterministic and isinstance(self.action_space, gym.spaces.Box):
                # the mean itself: torch makes no distribution of NaN, and says nothing of the sensor that has it
                return self.execute(cast(nn.Module, self.action_net)(self.actor(fused.features)))
            return self.execute(self.distribution(fused).get_actions(deterministic=deterministic))

    def execute(self, actions: Tensor) -> Tensor:
        """What the environment is given for u."""
        if not isinstance(self.action_space, gym.spaces.Box):
            return actions
        low, high = (x.to(actions.device) for x in (self._low, self._high))  # SB3 gives arrays, of the CPU
        scaled = low + 0.5 * (torch.tanh(actions).reshape(-1, *low.shape) + 1.0) * (high - low)
        return torch.maximum(torch.minimum(scaled, high), low)  # rounding may have gone one bit beyond

    def squashed(self, actions: Tensor) -> Tensor:
        """Actions within a Box's bounds to [−1, 1], where tanh(u) lives."""
        assert isinstance(self.action_space, gym.spaces.Box)
        return (2.0 * (actions - self._low) / (self._high - self._low) - 1.0).flatten(1)

    def unscale_action(self, scaled_action: np.ndarray) -> np.ndarray:
        """`execute` for arrays; SB3 calls it on a stored u when it collects and when it predicts."""
        return self.execute(torch.as_tensor(scaled_action)).numpy()

    def scale_action(self, action: np.ndarray) -> np.ndarray:
        """An executed action back to u."""
        assert isinstance(self.action_space, gym.spaces.Box)
        low, high = self.action_space.low, self.action_space.high
        return np.arctanh(np.clip(2.0 * (action - low) / (high - low) - 1.0, -0.999999, 0.999999))

    @torch.no_grad()
    def update_norms(self, returns: Tensor, truth: Tensor | None) -> None:
        """Adds the returns (n,) and privileged vectors (n, K) of a rollout to the running norms.

        The actor depends on neither, so PPO's ratio does not move.
        """
        self.return_norm.update(returns.reshape(-1, 1))
        if truth is not None and self.truth_dim:
            self.truth_norm.update(truth)

    def visible_truth(self, privileged: Tensor) -> Tensor:
        """What the auxiliary losses predict: the part of `privileged`, (B, …), that sensors can tell, normalised."""
        return self.truth_norm(privileged.float().flatten(1)).index_select(1, self._visible_index)

    def normalised_values(self, fused: Fused, obs: Mapping[str, Tensor]) -> Tensor:
        """Values (B, 1) in units of `return_norm`, which the value loss compares."""
        x = fused.features.detach() if self.truth_dim else fused.features
        if self.truth_dim:
            if PRIVILEGED not in obs:
                raise InputError("the critic needs `privileged` in the observation (World(privileged=True)) to train")
            x = torch.cat([x, self.truth_norm(obs[PRIVILEGED].float().flatten(1))], dim=1)
        return self.value_net(self.critic(x))

    def _values(self, fused: Fused, obs: Mapping[str, Tensor]) -> Tensor:
        return self.return_norm.inverse(self.normalised_values(fused, obs))

    def distribution(self, fused: Fused) -> Distribution:
        """Distribution of u, from features that `fuse` gave."""
        latent = self.actor(fused.features)
        if isinstance(self.action_dist, DiagGaussianDistribution) and not on_cpu(latent):
            mean = cast(nn.Module, self.action_net)(latent)  # as SB3's, without checks that wait for the device
            std = torch.ones_like(mean) * self.log_std.exp()
            self.action_dist.distribution = torch.distributions.Normal(mean, std, validate_args=False)
            return self.action_dist
        return self._get_action_dist_from_latent(latent)

    def mean_action(self, fused: Fused) -> Tensor:
        """Tanh of the mean of u, (B, A) in [−1, 1]: the action in a Box without noise, before it is scaled."""
        return torch.tanh(cast(nn.Module, self.action_net)(self.actor(fused.features)))

    def entropy(self, distribution: Distribution) -> Tensor:
        """Entropy (B,) of the executed action."""
        entropy = distribution.entropy()
        if entropy is None or not self.squash_output:
            return entropy if entropy is not None else torch.zeros(())
        normal = cast(torch.distributions.Normal, distribution.distribution)
        u = normal.mean[..., None] + normal.stddev[..., None] * self._nodes
        # log(1 − tanh² u) without overflow
        squeeze = 2.0 * (math.log(2.0) - u - nn.functional.softplus(-2.0 * u))
        return entropy + (squeeze * self._weights).sum(-1).sum(-1)

    def _mlp(self, size: int, widths: Sequence[int]) -> nn.Sequential:
        layers: list[nn.Module] = []
        for width in widths:
            layers += [nn.Linear(size, width), self.activation_fn()]
            size = width
        return nn.Sequential(*layers)
