"""Behaviour cloning: before PPO begins, the actor copies demonstrations, and the critic learns what they return."""

import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from robofuse.demos.episode import Episode
from robofuse.demos.fitting import check_fits
from robofuse.demos.reader import read
from robofuse.dropout import Dropout, Masker
from robofuse.envs import World
from robofuse.errors import StateError
from robofuse.policies import FusionActorCriticPolicy
from robofuse.sensors import AVAILABLE, PRIVILEGED, TRUTH
from robofuse.tensors import take
from robofuse.train.options import Train

_LEAST = 0.05  # share of the learning rate that is left in the last batch


class WarmStart:
    """Demonstrations that fit a training.

    Sensors are hidden in them as in the training, by the same law at its full strength, drawn anew in every pass: what
    is copied is to hold without sensors, too.

    Attributes:
        demos: what was read.
        note: what people should know of it, or empty.
    """

    def __init__(self, config: Train, world: World, options: dict[str, Any], dropout: Dropout | None) -> None:
        """Reads the folder.

        Args:
            config: of the training.
            world: its worlds.
            options: what a policy file would say of them.
            dropout: what is hidden in them.

        Raises:
            ValueError: no demonstrations, damaged ones, or of other sensors, another task, robot or camera.
        """
        self._config, self._dropout = config, dropout
        self.demos = read(config.imitation.demos)
        self._sensors, told = world.sensors, self.demos.about.get("world") or {}
        known = any(PRIVILEGED in episode.observation for episode in self.demos.episodes)
        check_fits(self.demos, world, options)
        renderers = told.get("renderer", options["renderer"]), options["renderer"]
        self.note = ""
        if renderers[0] != renderers[1] and any(sensor.kind in ("rgb", "depth") for sensor in self._sensors):
            self.note = f"demonstrations have pictures of {renderers[0]}, the training of {renderers[1]}"
        self._observation = self._observed(known)
        self._lengths = [len(episode) for episode in self.demos.episodes]
        self._actions = torch.cat([episode.action for episode in self.demos.episodes])
        self._returns = torch.cat([discounted(one.reward, config.learning.gamma) for one in self.demos.episodes])

    def run(
        self, policy: FusionActorCriticPolicy, tell: Callable[[str], None], stop: Callable[[], bool]
    ) -> dict[str, Any] | None:
        """Copy.

        Neither torch's random numbers nor the optimizer of the training are touched, nor the deviation of the actions.

        Args:
            policy: to train.
            tell: given a line after every pass.
            stop: asked after every pass.

        Returns:
            What the card of the policy says of it; None if it was stopped.
        """
        began, learning, epochs = time.perf_counter(), self._config.learning, self._config.imitation.demo_epochs
        generator = torch.Generator().manual_seed(self._config.seed)
        optimizer = torch.optim.Adam(policy.parameters(), lr=learning.lr, eps=1e-5)
        batches = max(1, len(self._actions) // learning.batch_size)
        decay = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, _LEAST, epochs * batches)
        policy.update_norms(self._returns.to(policy.device), self._truth(policy))
        policy.set_training_mode(True)
        apart: list[float] = []
        for epoch in range(epochs):
            losses = []
            for batch, action, returns in self._batches(epoch, batches, generator):
                total, difference = self._loss(policy, batch, action, returns)
                optimizer.zero_grad()
                total.backward()
                nn.utils.clip_grad_norm_(policy.parameters(), learning.max_grad_norm)
                optimizer.step()
                decay.step()
                losses.append(difference.detach())
            apart.append(float(torch.stack(losses).mean()))
            if not torch.tensor(apart[-1]).isfinite():
                raise StateError(f"copying {self.demos.folder} gave NaN or Inf; look at its readings, or lower --lr")
            tell(f"demonstrations, pass {epoch + 1} of {epochs}: squared difference of actions {apart[-1]:.3f}")
            if stop():
                return None
        optimizer.zero_grad()
        by = self.demos.about.get("by") or {}
        return {
            "folder": str(self.demos.folder),
            "by": by.get("name"),
            "episodes": len(self.demos.episodes),
            "steps": self.demos.frames,
            "passes": epochs,
            "difference": [round(apart[0], 5), round(apart[-1], 5)],
            "seconds": round(time.perf_counter() - began, 1),
        }

    def _loss(
        self, policy: FusionActorCriticPolicy, batch: dict[str, Tensor], action: Tensor, returns: Tensor
    ) -> tuple[Tensor, Tensor]:
        """What is minimised, and of that the squared difference of the actions."""
        fused = policy.features_extractor.fuse(batch)
        mean = policy.distribution(fused).mode()
        apart = (torch.tanh(mean) - policy.squashed(action)).square().sum(1).mean()
        total = apart
        if PRIVILEGED in batch or not policy.truth_dim:
            target = ((returns - policy.return_norm.mean) / policy.return_norm.std)[:, None]
            value = (policy.normalised_values(fused, batch) - target).square().mean()
            total = total + self._config.learning.vf_coef * value
        if self._config.learning.aux_coef and policy.truth_dim and PRIVILEGED in batch:
            truth = policy.truth_norm(batch[PRIVILEGED].flatten(1))[:, policy.visible]
            total = total + self._config.learning.aux_coef * policy.truth_heads(fused, truth).sum()
        return total, apart

    def _batches(
        self, epoch: int, count: int, generator: torch.Generator
    ) -> Iterator[tuple[dict[str, Tensor], Tensor, Tensor]]:
        """Observations, actions and returns, in random order; a pass."""
        shown, device = self._observation[AVAILABLE] & self._masks(epoch), self._config.device
        for rows in torch.randperm(len(self._actions), generator=generator).chunk(count):
            batch = {key: take(x, rows) for key, x in (self._observation | {AVAILABLE: shown}).items()}
            batch = {key: x.to(device) for key, x in batch.items()}
            yield batch, self._actions[rows].to(device), self._returns[rows].to(device)

    def _masks(self, epoch: int) -> Tensor:
        """What is hidden in this pass, int8 (n, M), 0 = hidden: every demonstration is an episode of the law."""
        many = len(self._lengths)
        masker = Masker(self._dropout, [sensor.key for sensor in self._sensors], many, self._config.seed)
        masker.progress = 1.0
        masker.start(torch.arange(many), epoch * many + torch.arange(many))
        drawn = [masker.available.clone()]
        for _ in range(max(self._lengths) - 1):
            masker.step()
            drawn.append(masker.available.clone())
        return torch.cat([masks[:length] for masks, length in zip(torch.stack(drawn, 1), self._lengths, strict=True)])

    def _truth(self, policy: FusionActorCriticPolicy) -> Tensor | None:
        return self._observation[PRIVILEGED].to(policy.device) if PRIVILEGED in self._observation else None

    def _observed(self, known: bool) -> dict[str, Tensor]:
        """What the training's worlds would have observed, key → (n, …); with the truth if that is known."""
        episodes, recorded = self.demos.episodes, [sensor.key for sensor in self.demos.sensors]
        keys = [sensor.key for sensor in self._sensors]
        found = {key: _joined(episodes, key) for key in recorded if key in keys}
        found |= {PRIVILEGED: _joined(episodes, PRIVILEGED)} if known else {}
        shown = _joined(episodes, AVAILABLE)
        if TRUTH in keys and TRUTH not in recorded:  # a sensor that never fails
            found[TRUTH], recorded = found[PRIVILEGED], [*recorded, TRUTH]
            shown = torch.cat([shown, torch.ones_like(shown[:, :1])], dim=1)
        return found | {AVAILABLE: shown[:, [recorded.index(key) for key in keys]]}


def discounted(rewards: Tensor, gamma: float) -> Tensor:
    """Returns (T,) of an episode with rewards (T,); after its end there is nothing to be had."""
    found, ahead = torch.zeros_like(rewards), rewards.new_zeros(())
    for step in reversed(range(len(rewards))):
        ahead = rewards[step] + gamma * ahead
        found[step] = ahead
    return found


def _joined(episodes: tuple[Episode, ...], key: str) -> Tensor:
    return torch.cat([episode.observation[key] for episode in episodes])
