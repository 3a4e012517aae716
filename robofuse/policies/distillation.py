"""Distillation: the action under fewer sensors is drawn to the teacher's, or to that under more sensors.

Encoders cost most of an update and do not depend on each other. So every row can be fused again under further masks,
from tokens that are there already: only fusion and actor run once more. This is the consistency loss of modality
dropout made dense. It is an auxiliary loss on the policy's mean and leaves PPO's ratio alone.
"""

from copy import copy
from typing import Any, cast

import gymnasium as gym
import numpy as np
import torch
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.distributions import kl_divergence
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.preprocessing import preprocess_obs
from torch import Tensor, nn

from robofuse.checks import whole
from robofuse.dropout.apply import submasks
from robofuse.errors import InputError
from robofuse.policies.actor_critic import FusionActorCriticPolicy
from robofuse.policies.extractor import Fused, FusionExtractor
from robofuse.policies.rollouts import TensorRolloutBuffer


class RemaskCallback(BaseCallback):
    """Makes PPO, A2C and their like in SB3 act alike under fewer sensors: after every update, on the rollout's rows.

    Every row is fused again under further masks, and the action there is drawn to the one that the update has left
    under all live sensors: by the squared difference of the means in a Box, by the divergence of the distributions
    elsewhere. The latter action is held by the same loss: else both would grow together, as a masked sensor damps what
    the rest says. All this happens between an update and the next rollout, so the algorithm's loss is as it was, and
    PPO's first ratio stays 1. If actor and critic share their extractor, as they do by default, the critic feels it
    too, and learns on.

    It takes the policy's optimizer, at its present learning rate. `FusionPPO` has `remask=...` for the same.
    """

    def __init__(
        self, masks: int = 2, keep: float = 0.6, passes: int = 1, coef: float = 1.0, batch_size: int | None = None
    ) -> None:
        """Give it to `learn(callback=...)`.

        Args:
            masks: further masks for every row.
            keep: probability that a live sensor stays live in such a mask.
            passes: over the rows of a rollout.
            coef: weight of the loss.
            batch_size: rows of a minibatch; by default the algorithm's, or all rows where it has none.

        Raises:
            InputError: one of them out of range.
        """
        super().__init__()
        self.masks, self.passes = whole(masks, "masks", 1), whole(passes, "passes", 1)
        self.batch_size = None if batch_size is None else whole(batch_size, "batch_size", 1)
        if not 0.0 < keep <= 1.0:
            raise InputError(f"keep must lie in (0, 1], got {keep}")
        if not 0.0 <= coef < float("inf"):
            raise InputError(f"coef must be a finite number of at least 0, got {coef}")
        self.keep, self.coef = keep, coef
        self._rows: dict[str, np.ndarray] | None = None  # of the last rollout; nothing is copied

    def _init_callback(self) -> None:
        policy, buffer = self.model.policy, getattr(self.model, "rollout_buffer", None)
        if isinstance(buffer, TensorRolloutBuffer):
            raise InputError("FusionPPO masks again in its own update: FusionPPO(remask=2), without this callback")
        if buffer is None or not isinstance(policy, ActorCriticPolicy) or hasattr(policy, "lstm_actor"):
            raise InputError(
                f"RemaskCallback is for PPO, A2C and others that learn from rollouts without a recurrent unit, got "
                f"{type(self.model).__name__}"
            )
        extractor = policy.pi_features_extractor
        if not isinstance(extractor, FusionExtractor) or extractor.masked_as == "zeros":
            raise InputError(
                "RemaskCallback needs a policy with mask tokens: policy_kwargs={'features_extractor_class': "
                "FusionExtractor}, without masked_as='zeros'"
            )

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        self._rows = cast(Any, self.model).rollout_buffer.observations

    def _on_rollout_start(self) -> None:
        self._learn()

    def _on_training_end(self) -> None:
        self._learn()

    def _learn(self) -> None:
        """`passes` over the rows of the last rollout, if they were not learned from yet."""
        rows, self._rows = self._rows, None
        if rows is None:
            return
        policy, buffer = cast(ActorCriticPolicy, self.model.policy), cast(Any, self.model).rollout_buffer
        # arrays are (steps, environments, …) before the first epoch of an update, (rows, …) after it
        flat = {key: x.reshape(-1, *buffer.obs_shape[key]) for key, x in rows.items()}
        total = len(next(iter(flat.values())))
        size = self.batch_size or getattr(self.model, "batch_size", None) or total

        def batch(chosen: Tensor) -> dict[str, Tensor]:
            return {key: buffer.to_torch(x[chosen.numpy()]) for key, x in flat.items()}

        with torch.no_grad():
            wanted = torch.cat(
                [self._outputs(policy, self._fuse(policy, batch(some))) for some in torch.arange(total).split(size)]
            )
        training, losses = policy.training, list[Tensor]()
        policy.set_training_mode(True)
        for _ in range(self.passes):
            for chosen in torch.randperm(total).split(size):
                loss = self.loss(policy, batch(chosen), wanted[chosen.to(wanted.device)])
                policy.optimizer.zero_grad()
                (self.coef * loss).backward()
                nn.utils.clip_grad_norm_(policy.parameters(), getattr(self.model, "max_grad_norm", float("inf")))
                policy.optimizer.step()
                losses.append(loss.detach())
        policy.set_training_mode(training)
        self.logger.record("train/remask", float(torch.stack(losses).mean()))

    def loss(self, policy: ActorCriticPolicy, obs: dict[str, Tensor], wanted: Tensor | None = None) -> Tensor:
        """How far actions are from those that are wanted, under all live sensors and under further masks.

        Args:
            policy: with a `FusionExtractor`.
            obs: key → (B, …), as a rollout buffer gives them.
            wanted: (B, K), what the layer `action_net` gave under all live sensors; by default what it gives now.

        Returns:
            The mean over B rows, each under the sensors that are live and under `masks` further masks.
        """
        fused = self._fuse(policy, obs)
        extractor = cast(FusionExtractor, policy.pi_features_extractor)
        again = extractor.fuse_again(fused, submasks(fused.available.repeat(self.masks, 1), self.keep))
        found = self._outputs(policy, fused), self._outputs(policy, again)
        wanted = (found[0] if wanted is None else wanted).detach().repeat(1 + self.masks, 1)
        return _difference(policy, torch.cat(found), wanted).mean()

    @staticmethod
    def _fuse(policy: ActorCriticPolicy, obs: dict[str, Tensor]) -> Fused:
        """What the actor reads, with its tokens; the critic may have an extractor of its own."""
        if not isinstance(policy, FusionActorCriticPolicy):  # which takes observations as they come
            plain = preprocess_obs(obs, policy.observation_space, normalize_images=policy.normalize_images)
            obs = cast(dict[str, Tensor], plain)
        return cast(FusionExtractor, policy.pi_features_extractor).fuse(obs)

    @staticmethod
    def _outputs(policy: ActorCriticPolicy, fused: Fused) -> Tensor:
        """Means or logits, (B, K)."""
        own = isinstance(policy, FusionActorCriticPolicy)
        actor = policy.actor if own else policy.mlp_extractor.forward_actor
        return policy.action_net(actor(fused.features))


def _difference(policy: ActorCriticPolicy, found: Tensor, wanted: Tensor) -> Tensor:
    """(B, …) from two times means or logits (B, K)."""
    if isinstance(policy.action_space, gym.spaces.Box):
        if isinstance(policy, FusionActorCriticPolicy):
            found, wanted = torch.tanh(found), torch.tanh(wanted)
        return (found - wanted).square()
    # copies: SB3 has one object, whose contents it replaces
    first, second = (copy(policy.action_dist).proba_distribution(action_logits=x) for x in (wanted, found))  # pyright: ignore
    return kl_divergence(first, second).reshape(len(found), -1).sum(1)
