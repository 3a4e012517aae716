"""Behaviour cloning: before PPO begins, the actor copies demonstrations, and the critic learns what they return."""

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from robofuse.demos.layout import Episode
from robofuse.demos.reader import check_fits, read
from robofuse.dropout import Dropout, Masker
from robofuse.dropout.apply import submasks
from robofuse.dropout.laws import check_names
from robofuse.envs import World
from robofuse.errors import InputError, StateError
from robofuse.policies import FusionActorCriticPolicy
from robofuse.policies.augment import Augmentation
from robofuse.policies.fusion.late import Late, calibrate
from robofuse.policies.generate import Completion
from robofuse.policies.registry import find_fusion
from robofuse.policies.regularisers import modulate
from robofuse.policies.rollouts import by_mask
from robofuse.policies.u2a.lora import adapter_dropout
from robofuse.sensors import AVAILABLE, PRIVILEGED, TRUTH
from robofuse.tensors import take
from robofuse.train.blending import Blending
from robofuse.train.build import augmentations, sensor_weights, world_options
from robofuse.train.config import Train
from robofuse.train.masking import make_dropout

_LR_FINAL = 0.05  # share of the learning rate that is left in the last batch
_DECAY = 0.02  # of weights, under AdamW
_ACTION, _RETURN = "_action", "_return"  # targets among the rows of a minibatch
_HELD_OUT, _MEASURED = 10, 2000  # every tenth demonstration is set apart if asked for; about so many rows are measured


class BehaviourCloning:
    """Demonstrations to copy.

    Sensors are masked in them as in the training, by the same law at its full strength, drawn anew in every pass, so
    that the copy works without them, too.

    Attributes:
        demos: the demonstrations.
        note: for the user, or empty.
    """

    def __init__(self, config: Train, world: World, complete: Completion | None = None) -> None:
        """Reads the folder `config.imitation.demos`.

        Args:
            config: of the training.
            world: its worlds.
            complete: paints what is masked in the rows to copy.

        Raises:
            InputError: no demonstrations, damaged ones, or of other sensors, another task, robot or camera; or the
                policy has a memory.
        """
        if config.network.memory != "none":
            raise InputError("--demos cannot be copied by a policy with --memory: demonstrations are read row by row")
        self._config, self._dropout = config, make_dropout(config.masking)
        options = world_options(config)
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
        weights = sensor_weights(config)
        check_names([*weights], [sensor.key for sensor in self._sensors], "--sensor-weights")
        self._factors = torch.tensor([weights.get(sensor.key, 1.0) for sensor in self._sensors] + [1.0])
        blending = config.imitation.blending
        if blending and not (known and config.learning.aux_coef):
            raise InputError(
                "--blending compares what tokens predict of the truth: it needs --aux-coef above 0 and demonstrations "
                "with `privileged` (robofuse record keeps it)"
            )
        if config.imitation.calibrate and find_fusion(config.network.fusion) is not Late:
            raise InputError(f"--calibrate is for --fusion late, got --fusion {config.network.fusion}")
        if config.imitation.calibrate and config.network.masked_as == "zeros":
            raise InputError("--calibrate asks each sensor alone, which --masked-as zeros cannot; take token")
        apart = blending > 0 or config.imitation.calibrate
        if apart and len(self._lengths) < _HELD_OUT:
            raise InputError(
                f"{'--blending' if blending else '--calibrate'} sets every {_HELD_OUT}th demonstration apart, and "
                f"there are only {len(self._lengths)}; record more"
            )
        self._complete = complete
        self._augmentation = Augmentation.named(self._sensors, augmentations(config))
        self._blending = Blending(len(self._factors)) if blending else None
        number = torch.repeat_interleave(torch.arange(len(self._lengths)), torch.tensor(self._lengths))
        held = (number % _HELD_OUT == _HELD_OUT - 1) & apart
        self._copied, self._held_out = (~held).nonzero()[:, 0], held.nonzero()[:, 0]

    def lose(self, shares: Mapping[str, float]) -> None:
        """Take sensors as never recorded in these shares of the demonstrations, at most one sensor in each.

        Masks come on top. Which demonstrations these are depends on the seed of the training.

        Raises:
            InputError: there is no such sensor; a share outside [0, 1], or more than 1 together.
        """
        keys, count = [sensor.key for sensor in self._sensors], len(self._lengths)
        check_names([*shares], keys, "lost sensors")
        if not all(0.0 <= share <= 1.0 for share in shares.values()) or sum(shares.values()) > 1.0 + 1e-9:
            raise InputError(f"shares of demonstrations must lie in [0, 1] and be 1 together at most, got {shares}")
        order = torch.randperm(count, generator=torch.Generator().manual_seed(self._config.seed))
        there, first = torch.ones(count, len(keys), dtype=torch.int8), 0
        for key, share in shares.items():
            last = min(first + round(share * count), count)
            there[order[first:last], keys.index(key)] = 0
            first = last
        lengths = torch.tensor(self._lengths)
        self._observation[AVAILABLE] = self._observation[AVAILABLE] & there.repeat_interleave(lengths, dim=0)

    def run(
        self, policy: FusionActorCriticPolicy, show: Callable[[str], None], stop: Callable[[], bool]
    ) -> dict[str, Any] | None:
        """Trains a policy to act as in the demonstrations.

        Neither torch's random numbers nor the optimizer of the training are touched, nor the deviation of the actions.

        Args:
            policy: to train.
            show: given a line after every pass.
            stop: asked after every pass.

        Returns:
            What was copied, for the card of the policy; None if it was stopped.
        """
        began, epochs = time.perf_counter(), self._config.imitation.demo_epochs
        devices = [policy.device] if policy.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices), adapter_dropout(policy):
            torch.manual_seed(self._config.seed)  # of masks drawn again, and of what adapters drop
            difference = self._run(policy, show, stop)
        if difference is None:
            return None
        by = self.demos.about.get("by") or {}
        return {
            "folder": str(self.demos.folder),
            "by": by.get("name"),
            "episodes": len(self.demos.episodes),
            "steps": self.demos.frames,
            "passes": epochs,
            "difference": [round(difference[0], 5), round(difference[-1], 5)],
            "seconds": round(time.perf_counter() - began, 1),
        }

    def _run(
        self, policy: FusionActorCriticPolicy, show: Callable[[str], None], stop: Callable[[], bool]
    ) -> list[float] | None:
        """The squared difference of the actions in every pass; None if it was stopped."""
        learning, epochs = self._config.learning, self._config.imitation.demo_epochs
        stretch = max(1, epochs // max(self._config.imitation.blending, 1))
        generator = torch.Generator().manual_seed(self._config.seed)
        batches = max(1, len(self._copied) // learning.batch_size)
        optimizer, decay = self._optimizer(policy, epochs * batches)
        policy.update_norms(self._returns.to(policy.device), self._truth(policy))
        policy.set_training_mode(True)
        difference: list[float] = []
        for epoch in range(epochs):
            losses = []
            for batch, action, returns in self._batches(epoch, batches, generator):
                total, squared, errors = self._loss(policy, batch, action, returns)
                optimizer.zero_grad()
                total.backward()
                if learning.modulation and errors is not None:
                    losses_of = {sensor.key: error for sensor, error in zip(self._sensors, errors, strict=False)}
                    modulate(policy.features_extractor, losses_of, learning.modulation, learning.modulation_noise)
                nn.utils.clip_grad_norm_(policy.parameters(), learning.max_grad_norm)
                optimizer.step()
                decay.step()
                losses.append(squared.detach())
            difference.append(float(torch.stack(losses).mean()))
            if not torch.tensor(difference[-1]).isfinite():
                raise StateError(f"copying {self.demos.folder} gave NaN or Inf; look at its readings, or lower --lr")
            show(f"demonstrations, pass {epoch + 1} of {epochs}: squared difference of actions {difference[-1]:.3f}")
            if stop():
                return None
            if self._blending is not None and (epoch + 1) % stretch == 0:
                self._blending.measure(*(self._head_errors(policy, rows) for rows in (self._copied, self._held_out)))
        if self._config.imitation.calibrate:
            self._calibrate(policy)
        optimizer.zero_grad()
        return difference

    def _optimizer(self, policy: FusionActorCriticPolicy, steps: int) -> tuple[Optimizer, LRScheduler]:
        lr = self._config.learning.lr
        if self._config.imitation.demo_optimizer == "adam":
            adam = torch.optim.Adam(policy.parameters(), lr=lr, eps=1e-5)
            return adam, torch.optim.lr_scheduler.LinearLR(adam, 1.0, _LR_FINAL, steps)
        adamw = torch.optim.AdamW(policy.parameters(), lr=lr, eps=1e-8, weight_decay=_DECAY)
        return adamw, torch.optim.lr_scheduler.LambdaLR(adamw, lambda step: polynomial(step / steps))

    def _loss(
        self, policy: FusionActorCriticPolicy, batch: dict[str, Tensor], action: Tensor, returns: Tensor
    ) -> tuple[Tensor, Tensor, Tensor | None]:
        """The loss of a minibatch, the squared difference of the actions in it, and the errors of the truth heads."""
        fused = policy.features_extractor.fuse(batch)
        target, learning, errors = policy.squashed(action), self._config.learning, None
        difference = (policy.mean_action(fused) - target).square().sum(1).mean()
        total = difference
        if learning.remask:
            masks = submasks(fused.available.repeat(learning.remask, 1), learning.remask_keep)
            again = policy.mean_action(policy.fuse_again(fused, masks, batch))
            further = (again - target.repeat(learning.remask, 1)).square().sum(1).mean()
            total = total + learning.remask_coef / learning.teacher_coef * further
        if PRIVILEGED in batch or not policy.truth_dim:
            worth = ((returns - policy.return_norm.mean) / policy.return_norm.std)[:, None]
            value = (policy.normalised_values(fused, batch) - worth).square().mean()
            total = total + learning.vf_coef * value
        if learning.aux_coef and policy.truth_dim and PRIVILEGED in batch:
            errors = policy.truth_heads(fused, policy.visible_truth(batch[PRIVILEGED]))
            factors = self._factors if self._blending is None else self._factors * self._blending.weights
            total = total + learning.aux_coef * (errors * factors.to(policy.device)).sum()
        further, _ = policy.regularisers(policy.features_extractor, fused, batch)
        return total + further, difference, errors

    @torch.no_grad()
    def _calibrate(self, policy: FusionActorCriticPolicy) -> None:
        """Fits how sure each sensor is to how wrong the actions are that it takes alone, where nothing was copied."""
        batch, rows = self._measured(policy, self._held_out)
        fused, wanted = policy.fuse(batch), policy.squashed(self._actions[rows].to(policy.device))
        errors = []
        for only in torch.eye(len(self._sensors), dtype=torch.bool, device=policy.device):
            alone = policy.mean_action(policy.fuse_again(fused, fused.available & only, batch))
            errors.append((alone - wanted).square().mean(1))
        fusion = policy.features_extractor.fusion
        assert isinstance(fusion, Late)
        calibrate(fusion, fused.tokens, fused.available, torch.stack(errors, dim=1))

    def _measured(self, policy: FusionActorCriticPolicy, rows: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        """Some of the rows, with all that was recorded, and their numbers."""
        chosen = rows[:: max(1, len(rows) // _MEASURED)]
        return {key: take(x, chosen).to(policy.device) for key, x in self._observation.items()}, chosen

    @torch.no_grad()
    def _head_errors(self, policy: FusionActorCriticPolicy, rows: Tensor) -> Tensor:
        """Losses (M + 1,) of the truth heads on some rows, with all that was recorded."""
        batch, _ = self._measured(policy, rows)
        fused = policy.features_extractor.fuse(batch)
        return policy.truth_heads(fused, policy.visible_truth(batch[PRIVILEGED])).cpu()

    def _batches(
        self, epoch: int, count: int, generator: torch.Generator
    ) -> Iterator[tuple[dict[str, Tensor], Tensor, Tensor]]:
        """Yields minibatches of observations, actions and returns, in random order; one pass."""
        shown, device, shared = self._observation[AVAILABLE], self._config.device, None
        if self._dropout is not None and self._dropout.shared:
            shared = self._minibatch_masks(self._dropout, epoch, count)
        else:
            shown = shown & self._masks(epoch)
        if self._config.learning.balance:
            weights = by_mask(shown[self._copied])
            order = torch.multinomial(weights, len(weights), replacement=True, generator=generator)
        else:
            order = torch.randperm(len(self._copied), generator=generator)
        for number, rows in enumerate(self._copied[order].chunk(count)):
            batch = {key: take(x, rows) for key, x in (self._observation | {AVAILABLE: shown}).items()}
            if shared is not None:
                batch[AVAILABLE] = batch[AVAILABLE] & shared[number]
            batch |= {_ACTION: self._actions[rows], _RETURN: self._returns[rows]}
            batch = {key: x.to(device) for key, x in batch.items()}
            if self._complete is not None:
                batch = self._complete(batch)
            if self._augmentation is not None:
                batch = self._augmentation(batch)
            yield batch, batch.pop(_ACTION), batch.pop(_RETURN)

    def _minibatch_masks(self, dropout: Dropout, epoch: int, count: int) -> Tensor:
        """Availability in this pass, int8 (count, M): one mask for all rows of a minibatch."""
        dropout = replace(dropout, shared=False)
        masker = Masker(dropout, [sensor.key for sensor in self._sensors], count, self._config.seed)
        masker.progress = 1.0
        masker.start(torch.arange(count), epoch * count + torch.arange(count))
        return masker.available

    def _masks(self, epoch: int) -> Tensor:
        """Availability in this pass, int8 (n, M), 0 = masked; every demonstration is an episode of the law."""
        count = len(self._lengths)
        masker = Masker(self._dropout, [sensor.key for sensor in self._sensors], count, self._config.seed)
        masker.progress = 1.0
        masker.start(torch.arange(count), epoch * count + torch.arange(count))
        drawn = [masker.available.clone()]
        for _ in range(max(self._lengths) - 1):
            masker.step()
            drawn.append(masker.available.clone())
        return torch.cat([masks[:length] for masks, length in zip(torch.stack(drawn, 1), self._lengths, strict=True)])

    def _truth(self, policy: FusionActorCriticPolicy) -> Tensor | None:
        return self._observation[PRIVILEGED].to(policy.device) if PRIVILEGED in self._observation else None

    def _observed(self, known: bool) -> dict[str, Tensor]:
        """The observations that the training's worlds would have given, key → (n, …); with the truth if it is known."""
        episodes, recorded = self.demos.episodes, [sensor.key for sensor in self.demos.sensors]
        keys = [sensor.key for sensor in self._sensors]
        found = {key: _joined(episodes, key) for key in recorded if key in keys}
        found |= {PRIVILEGED: _joined(episodes, PRIVILEGED)} if known else {}
        shown = _joined(episodes, AVAILABLE)
        if TRUTH in keys and TRUTH not in recorded:  # a sensor that never fails
            found[TRUTH], recorded = found[PRIVILEGED], [*recorded, TRUTH]
            shown = torch.cat([shown, torch.ones_like(shown[:, :1])], dim=1)
        return found | {AVAILABLE: shown[:, [recorded.index(key) for key in keys]]}


def polynomial(progress: float) -> float:
    """U2A's factor on the learning rate: a tenth in the first twentieth, then a fall from 1 by a power of 0.9."""
    return 0.1 if progress < 0.05 else max(1.0 - progress, 0.0) ** 0.9


def discounted(rewards: Tensor, gamma: float) -> Tensor:
    """Discounted returns (T,) of an episode with rewards (T,)."""
    found, ahead = torch.zeros_like(rewards), rewards.new_zeros(())
    for step in reversed(range(len(rewards))):
        ahead = rewards[step] + gamma * ahead
        found[step] = ahead
    return found


def _joined(episodes: tuple[Episode, ...], key: str) -> Tensor:
    return torch.cat([episode.observation[key] for episode in episodes])
