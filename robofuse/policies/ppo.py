"""PPO whose rollouts stay tensors on the training device, with auxiliary losses on the tokens.

Read `FusionPPO.collect_rollouts` (act, step, store), then `train` and `loss`; the buffer is in `rollouts.py`.
"""

import math
import time
import warnings
from collections.abc import Mapping
from typing import Any, cast

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3 import PPO
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.type_aliases import GymEnv, Schedule
from stable_baselines3.common.utils import FloatSchedule, obs_as_tensor
from stable_baselines3.common.vec_env import VecEnv
from torch import Tensor, nn

from robofuse.checks import whole
from robofuse.dropout.apply import submasks
from robofuse.dropout.laws import check_names
from robofuse.errors import InputError, StateError
from robofuse.policies.actor_critic import FusionActorCriticPolicy
from robofuse.policies.augment import Augmentation
from robofuse.policies.extractor import Fused
from robofuse.policies.modules import MEMORY
from robofuse.policies.regularisers import gradient_norms, modulate
from robofuse.policies.rollouts import TEACHER_ACTION, Batch, Replay, TensorRolloutBuffer
from robofuse.policies.stepping import Stepper
from robofuse.policies.teacher import Advice, Teacher
from robofuse.ranks import Ranks
from robofuse.sensors import PRIVILEGED, infer_sensors
from robofuse.tensors import Constants, on_cpu


class FusionPPO(PPO):
    """Stable-Baselines3's PPO for observations of images and vectors: its arguments, callbacks, logger and file format.

    What differs: rollouts are tensors in native dtypes (`TensorRolloutBuffer`); images are not transposed and not
    converted before the encoders; values are learned in units of the returns; and if observations have `privileged`,
    every token and the fused features learn to predict it (`aux_coef`; 0 turns that off).

    Attributes:
        policy: a `FusionActorCriticPolicy`.
        ranks: the processes that train together, each with environments of its own; by default this one is alone.
        seconds: time spent since `learn` began: act, simulate (the environment's step), learn.
    """

    policy_aliases = {"FusionPolicy": FusionActorCriticPolicy, "MultiInputPolicy": FusionActorCriticPolicy}
    policy: FusionActorCriticPolicy  # pyright: ignore[reportIncompatibleVariableOverride]
    rollout_buffer: TensorRolloutBuffer  # pyright: ignore[reportIncompatibleVariableOverride]
    _memory: Tensor  # (N, H), the recurrent state before the next step; H is 0 without a memory
    _unread: tuple[Stepper, Tensor] | None  # of the last rollout: how episodes ended, and whether actions were finite

    def __init__(
        self,
        policy: str | type[FusionActorCriticPolicy] = "FusionPolicy",
        env: GymEnv | str | None = None,
        learning_rate: Any = 7e-4,  # noqa: ANN401
        n_steps: int = 25,
        batch_size: int = 400,
        n_epochs: int = 3,
        gamma: float = 0.96,
        gae_lambda: float = 0.95,
        clip_range: Any = 0.2,  # noqa: ANN401
        ent_coef: float | Schedule = 0.003,
        policy_coef: float = 1.0,
        aux_coef: float = 2.0,
        sensor_weights: Mapping[str, float] | None = None,
        modulation: float = 0.0,
        modulation_noise: bool = False,
        teacher: Advice | None = None,
        teacher_coef: float = 3.0,
        teacher_until: float = 0.6,
        teacher_final: float = 0.0,
        remask: int = 0,
        remask_keep: float = 0.6,
        remask_coef: float = 3.0,
        remask_self: float = 0.3,
        replay_rows: int = 0,
        replay_passes: float = 4.0,
        balance: bool = False,
        augment: Mapping[str, float] | None = None,
        **kwargs: Any,  # noqa: ANN401
    ) -> None:
        """As SB3's PPO, with defaults for dozens of worlds and short episodes.

        Args:
            policy: "FusionPolicy" or, as SB3 calls it, "MultiInputPolicy"; or a subclass of `FusionActorCriticPolicy`.
            env: anything SB3 takes, with Dict observations.
            learning_rate: number, or function of the remaining progress (1 to 0).
            n_steps: steps per environment and rollout.
            batch_size: rows per minibatch.
            n_epochs: passes over a rollout.
            gamma: discount.
            gae_lambda: λ of generalised advantage estimation.
            clip_range: number, or function of the remaining progress.
            ent_coef: weight of the entropy of the executed action; number, or function of the remaining progress.
            policy_coef: weight of PPO's clipped objective; at 0, with `ent_coef` 0, what is left is imitation of the
                teacher (DAgger).
            aux_coef: weight of each auxiliary loss (one per token, one on the features). At 2, image tokens know after
                20,000 steps where the block is (Huber loss 0.16 of 0.37 for knowing nothing); at 0.2 they do not after
                140,000 (0.28): the noise of PPO's gradient drowns it.
            sensor_weights: sensor → factor on the auxiliary loss of its token; 1 for those that are not named.
            modulation: α of gradient modulation, see `regularisers.modulate`; 0 for none. It compares the auxiliary
                losses of the tokens.
            modulation_noise: add noise to the modulated gradients (OGM-GE).
            teacher: what knows the simulator's truth. Its action is a target for the mean of the student's action in
                every state that the student comes to, beside PPO's loss, which goes on where the truth cannot be seen
                (kickstarting, Schmitt et al. 2018; the states are the student's own, as in DAgger, Ross et al. 2011).
                It is asked once, when the step is taken, and its action is stored with the observation.
            teacher_coef: weight of the squared difference of the actions, at the start.
            teacher_until: share of the training after which that weight has fallen linearly to its last value.
            teacher_final: share of that weight that is left then, to the end.
            remask: further masks under which every row is fused again; 0 for none. See `distillation.py`.
            remask_keep: probability that a live sensor stays live in such a mask.
            remask_coef: weight of the squared difference to the teacher's action there; falls with `teacher_coef`.
            remask_self: weight of the squared difference to the policy's own action under all live sensors there;
                rises from 0 as the teacher's weight falls.
            replay_rows: rows of past rollouts that are kept for the teacher's and the auxiliary losses; 0 for none.
            balance: draw past rows so that all masks among them are seen equally often, whatever the law of dropout.
            augment: changes of the past rows that are learned from, such as {"shift": 2, "mixup": 0.4}, see
                `augment.py`; PPO's own rows stay as they acted.
            replay_passes: how often, on the average, a row is learned from in this way, beside PPO's own passes, while
                the teacher has weight.
            **kwargs: see SB3's PPO (target_kl, vf_coef, max_grad_norm, tensorboard_log, seed, device, …).

        Raises:
            InputError: another policy, clip_range_vf, or a teacher that does not fit the environment.
        """
        known = (
            policy in self.policy_aliases if isinstance(policy, str) else issubclass(policy, FusionActorCriticPolicy)
        )
        if not known:
            raise InputError(
                f"FusionPPO trains a FusionActorCriticPolicy, which it calls {' or '.join(self.policy_aliases)}, got "
                f"{policy!r}; other policies take the extractor in stable_baselines3.PPO, by policy_kwargs="
                "{'features_extractor_class': FusionExtractor}"
            )
        if kwargs.get("clip_range_vf") is not None:
            raise InputError("FusionPPO does not clip values (clip_range_vf): they are learned in units of the returns")
        self.ranks = Ranks()
        self.policy_coef = policy_coef
        self.aux_coef, self.sensor_weights, self.modulation = aux_coef, dict(sensor_weights or {}), modulation
        self.modulation_noise = modulation_noise
        self.teacher, self.teacher_coef = teacher, teacher_coef
        self.teacher_until, self.teacher_final = teacher_until, teacher_final
        for name, value, most in (
            ("policy_coef", policy_coef, math.inf),
            ("aux_coef", aux_coef, math.inf),
            ("modulation", modulation, math.inf),
            *((f"sensor_weights[{key!r}]", weight, math.inf) for key, weight in (sensor_weights or {}).items()),
            ("teacher_final", teacher_final, 1.0),
            ("remask_coef", remask_coef, math.inf),
            ("remask_self", remask_self, math.inf),
            ("replay_passes", replay_passes, math.inf),
        ):
            if not 0.0 <= value <= most:
                raise InputError(f"{name} must lie in [0, {most:g}], got {value}")
        if not 0.0 < remask_keep <= 1.0:
            raise InputError(f"remask_keep must lie in (0, 1], got {remask_keep}")
        self.remask, self.remask_keep = whole(remask, "remask", 0), remask_keep
        self.remask_coef, self.remask_self, self.replay_passes = remask_coef, remask_self, replay_passes
        self.replay_rows, self.replay, self.balance = whole(replay_rows, "replay_rows", 0), None, balance
        self.augment = dict(augment or {})
        self.seconds = {"act": 0.0, "simulate": 0.0, "learn": 0.0}
        kwargs.setdefault("rollout_buffer_class", TensorRolloutBuffer)
        super().__init__(
            policy,
            env,  # pyright: ignore[reportArgumentType]
            learning_rate=learning_rate,
            n_steps=n_steps,
            batch_size=batch_size,
            n_epochs=n_epochs,
            gamma=gamma,
            gae_lambda=gae_lambda,
            clip_range=clip_range,
            ent_coef=ent_coef,  # pyright: ignore[reportArgumentType]
            **kwargs,
        )

    def _setup_model(self) -> None:
        if not isinstance(self.observation_space, spaces.Dict):
            infer_sensors(self.observation_space)  # its error says how to make a Dict
        super()._setup_model()
        if not callable(self.clip_range):
            self.clip_range = FloatSchedule(self.clip_range)
        self._memory, self._unread = torch.zeros(self.n_envs, self.policy.memory, device=self.device), None
        keys = [sensor.key for sensor in self.policy.features_extractor.sensors]
        check_names([*self.sensor_weights], keys, "sensor_weights")
        if self.modulation_noise and not self.modulation:
            raise InputError("modulation_noise is added to modulated gradients; give modulation above 0")
        if self.modulation and not (self.aux_coef and self.policy.truth_dim):
            raise InputError(
                "modulation compares what tokens predict of `privileged`; it needs aux_coef above 0 and an environment "
                "that gives `privileged`"
            )
        weights = [self.sensor_weights.get(key, 1.0) for key in keys]
        self._aux_weights = Constants(torch.tensor([*weights, 1.0]))
        self.replay = Replay(self.replay_rows) if self.replay_rows else None
        self._augmentation = Augmentation.named(self.policy.features_extractor.sensors, self.augment)
        if self._augmentation and self.replay is None:
            raise InputError(
                "augment changes past rows, on which the teacher is copied, and none are kept; give replay_rows=... "
                "and a teacher. The rows of PPO's own loss must stay as they acted"
            )
        if self.remask and self.policy.features_extractor.masked_as == "zeros":
            raise InputError('remask needs mask tokens, which masked_as="zeros" does without; leave remask=0')
        if self.remask and not isinstance(self.action_space, spaces.Box):
            raise InputError(
                f"remask compares actions in a Box, got {self.action_space}; for others there is "
                "robofuse.policies.RemaskCallback with SB3's PPO"
            )
        if self.policy.memory:
            if self.replay is not None:
                raise InputError("a policy that remembers learns from whole rollouts; leave replay_rows=0")
            self.rollout_buffer.add_column(MEMORY, self.policy.memory)
        self.set_teacher(self.teacher)

    def set_teacher(self, teacher: Advice | None) -> None:
        """Gives the student a teacher, or none, from the next rollout on.

        Raises:
            InputError: it does not fit the environment.
        """
        self.teacher = teacher
        if teacher is None:
            self.rollout_buffer.stored.pop(TEACHER_ACTION, None)
            return
        size = self.policy.truth_dim
        if isinstance(teacher, Teacher):
            teacher.to(self.device)
            size = teacher.size
        if size != self.policy.truth_dim or not isinstance(self.action_space, spaces.Box):
            raise InputError(
                f"the teacher reads {size} numbers of `privileged` and gives actions in a Box; this "
                f"environment has {self.policy.truth_dim} and {self.action_space}"
            )
        self.rollout_buffer.add_column(TEACHER_ACTION, int(np.prod(self.action_space.shape)))

    @staticmethod
    def _wrap_env(env: GymEnv, verbose: int = 0, monitor_wrapper: bool = True) -> VecEnv:
        """A VecEnv is taken as it is: the encoders read (H, W, C), so nothing is transposed."""
        if isinstance(env, VecEnv):
            return env
        wrapped = PPO._wrap_env(env, verbose, monitor_wrapper)
        return getattr(wrapped, "venv", wrapped) if type(wrapped).__name__ == "VecTransposeImage" else wrapped

    def collect_rollouts(
        self, env: VecEnv, callback: BaseCallback, rollout_buffer: RolloutBuffer, n_rollout_steps: int
    ) -> bool:
        """As SB3's; values of the episodes that ran out of time are looked up in one batch at the end.

        How episodes ended is known when it is over, on a GPU after the next `train`, which has to wait for it anyway.
        """
        assert self._last_obs is not None
        # what SB3 does only after the rollout: at the start of a further `learn` it would be that of the last one's end
        self._update_current_progress_remaining(min(self.num_timesteps, self._total_timesteps), self._total_timesteps)
        self.policy.set_training_mode(False)
        rollout_buffer.reset()
        callback.on_rollout_start()
        stepper = Stepper(env, n_rollout_steps)
        finite = torch.ones((), dtype=torch.bool, device=self.device)
        for _ in range(n_rollout_steps):
            began = time.perf_counter()
            observed = self._with_memory(_tensors(self._last_obs, self.device))
            observed |= self._advice(observed)
            actions, executed, values, log_probs = self._act(observed)
            finite &= executed.isfinite().all()
            acted = time.perf_counter()
            new_obs, rewards, dones, infos = stepper.step(executed, self._memory)
            stepped = time.perf_counter()
            self.num_timesteps += env.num_envs * self.ranks.count
            callback.update_locals(locals())
            if not callback.on_step():
                return False
            rollout_buffer.add(observed, actions, rewards, self._last_episode_starts, values, log_probs)  # pyright: ignore
            self._last_obs, self._last_episode_starts = new_obs, dones
            self.seconds["simulate"] += stepped - acted
            self.seconds["act"] += acted - began + time.perf_counter() - stepped
        self._unread = stepper, finite
        if on_cpu(finite):
            self._read([])
        began = time.perf_counter()
        last_values = self._last_values(stepper)
        self.seconds["act"] += time.perf_counter() - began
        rollout_buffer.compute_returns_and_advantage(last_values, self._last_episode_starts)  # pyright: ignore
        callback.update_locals(locals())
        callback.on_rollout_end()
        return True

    def _read(self, numbers: list[Tensor]) -> list[float]:
        """Numbers of the device, and in the same wait for it how episodes of the rollout ended.

        Raises:
            StateError: an action of the rollout was not finite.
        """
        if self._unread is None:
            return torch.stack(numbers).tolist()
        (stepper, finite), self._unread = self._unread, None
        log = stepper.log()
        parts = [x.to(finite.device, torch.float64).flatten() for x in (finite, *numbers, log)]
        read, ends = torch.cat(parts).cpu().split([1 + len(numbers), log.numel()])
        finished = stepper.finished(ends.view(log.shape))
        self._update_info_buffer(finished, np.ones(len(finished), bool))
        if not read[0]:
            rows = {key: store.flatten(0, 1) for key, store in self.rollout_buffer.stored.items()}
            raise StateError(self._not_finite(rows, {"the actions": self.rollout_buffer.action_store.sum()}))
        return read[1:].tolist()

    def _with_memory(self, observed: dict[str, Tensor]) -> dict[str, Tensor]:
        """An observation of all environments with the recurrent state, which is zero where an episode begins."""
        if not self.policy.memory:
            return observed
        begins = torch.as_tensor(self._last_episode_starts, device=self.device, dtype=torch.bool)
        return observed | {MEMORY: self._memory.masked_fill(begins[:, None], 0.0)}

    def _advice(self, observed: dict[str, Tensor]) -> dict[str, Tensor]:
        """The teacher's action in this step, in [−1, 1], as an entry of the observation; zeros when it is not asked."""
        if self.teacher is None:
            return {}
        if not self.teacher_weight():
            store = self.rollout_buffer.stored[TEACHER_ACTION][0]
            return {TEACHER_ACTION: torch.zeros_like(store)}
        action = torch.as_tensor(self.teacher(observed), dtype=torch.float32, device=self.device)
        shape = (self.n_envs, *(self.action_space.shape or ()))
        if action.shape != shape or (on_cpu(action) and not bool(action.isfinite().all())):
            what = f"shape {tuple(action.shape)}" if action.shape != shape else "NaN or Inf"
            raise StateError(f"the teacher must give finite actions {shape}, one per environment; it gave {what}")
        return {TEACHER_ACTION: self.policy.squashed(action).clamp(-1.0, 1.0)}

    @torch.no_grad()
    def _act(self, observed: dict[str, Tensor]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Actions as stored and as executed, values, log probabilities; on a CPU, StateError before NaN moves any."""
        try:
            fused = self.policy.fuse(observed)
            actions, values, log_probs = self.policy.choose(fused, observed)
        except ValueError:  # torch refuses a distribution of NaN
            features = self.policy.fuse(observed).features
            if bool(features.isfinite().all()):
                raise
            raise StateError(self._not_finite(observed, {"the features": features.sum()})) from None
        executed = self.policy.execute(actions)
        if on_cpu(executed) and not bool(executed.isfinite().all()):
            raise StateError(self._not_finite(observed, {"the actions": actions.float().sum()}))
        if fused.memory is not None:
            self._memory = fused.memory
        return actions, executed, values, log_probs

    @torch.no_grad()
    def _last_values(self, stepper: Stepper) -> Tensor:
        """Values (N,) of the present observations; those of truncated episodes are added to their last rewards."""
        now = self._with_memory(_tensors(self._last_obs, self.device))
        rewards = self.rollout_buffer.reward
        return stepper.timeouts.add_values(
            rewards, now, lambda rows: self.policy.predict_values(rows).flatten(), self.gamma
        )

    def train(self) -> None:
        """One update: `n_epochs` passes over the rollout, then `replay_passes` over past rows.

        Raises:
            StateError: a loss or gradient that is not finite, before it reaches the weights.
            InputError: the extractor has `token_dropout`, and `policy_coef` is not 0.
        """
        if self.policy_coef:
            self.policy.refuse_noise()
        began = time.perf_counter()
        self.policy.set_training_mode(True)
        self._update_learning_rate(self.policy.optimizer)
        truth = self.rollout_buffer.stored.get(PRIVILEGED)
        for name, x in (("the rewards or values", self.rollout_buffer.target), (f"{PRIVILEGED!r}", truth)):
            if x is not None and on_cpu(x) and not bool(x.isfinite().all()):
                raise StateError(f"{name} of the rollout hold NaN or Inf; look at the environment (weights unchanged)")
        clip = self.clip_range(self._current_progress_remaining)
        means, epochs = self.update(clip)
        self._n_updates += self.n_epochs
        self._log_update(means, clip, epochs)
        self.seconds["learn"] += time.perf_counter() - began

    def update(self, clip: float) -> tuple["Means", int]:
        """The passes of `train`; a GPU is not waited for, unless there is a `target_kl`.

        Args:
            clip: PPO's clip range.

        Returns:
            What the steps report, and the number of passes over the rollout.

        Raises:
            StateError: as `train`, but on a GPU only `train` notices.
        """
        buffer, means, epoch = self.rollout_buffer, Means(), 0
        truth = buffer.stored.get(PRIVILEGED)
        gather = self.ranks.gather
        truth = None if truth is None else gather(truth.flatten(0, 1).flatten(1))
        self.policy.update_norms(gather(buffer.target.flatten()), truth)
        for epoch in range(self.n_epochs):  # noqa: B007
            for batch in buffer.minibatches(self.batch_size):
                loss, ratio, parts = self.loss(batch, clip)
                if means.first_ratio is None:
                    means.first_ratio = ratio
                if self.target_kl is not None and self.ranks.mean(parts["approx_kl"]) > 1.5 * self.target_kl:
                    break
                means.add(self._descend(loss, parts, batch.observations))
            else:
                continue
            break
        self._learn_from_replay(means)  # last: PPO's first ratio is 1 only for the policy that acted
        return means, epoch + 1

    def _learn_from_replay(self, means: "Means") -> None:
        """The teacher's and the auxiliary losses on rows of past rollouts, while the teacher has weight."""
        if self.replay is None or not self.teacher_weight():
            return
        self.replay.add(self.rollout_buffer)
        rows = self.rollout_buffer.buffer_size * self.n_envs
        for obs in self.replay.minibatches(int(rows * self.replay_passes), self.batch_size, self.balance):
            if self._augmentation is not None:
                obs = self._augmentation(obs)
            loss, parts = self.lessons(self._fused(obs), obs)
            means.add(self._descend(loss, parts, obs))

    def _descend(self, loss: Tensor, parts: dict[str, Tensor], obs: dict[str, Tensor]) -> dict[str, Tensor]:
        """One step of the optimizer; returns `parts` with the norm of the gradient.

        A GPU is not waited for: there a step whose loss or gradient is not finite changes no weight, and the error
        comes when the update is over.
        """
        optimizer = self.policy.optimizer
        optimizer.zero_grad()
        loss.backward()
        self.ranks.average_gradients(self.policy.parameters())
        parts = parts | self._look_at_encoders(parts)
        norm = nn.utils.clip_grad_norm_(self.policy.parameters(), self.max_grad_norm)
        finite = torch.isfinite(loss) & torch.isfinite(norm)
        if on_cpu(loss) or not optimizer.defaults.get("fused"):
            if not bool(finite):
                raise StateError(self._not_finite(obs, parts))
        else:
            setattr(optimizer, "found_inf", (~finite).float())  # noqa: B010 - read by the fused kernel
        optimizer.step()
        return parts | {"grad_norm": norm, "not_finite": (~finite).float()}

    def _look_at_encoders(self, parts: dict[str, Tensor]) -> dict[str, Tensor]:
        """The gradients' norm of every encoder, after modulation if there is one, and its factors."""
        extractor, found = self.policy.features_extractor, dict[str, Tensor]()
        if self.modulation:
            losses = {sensor.key: parts[f"aux/{sensor.key}"] for sensor in extractor.sensors}
            factors = modulate(extractor, losses, self.modulation, self.modulation_noise)
            found = {f"modulation/{key}": factor for key, factor in factors.items()}
        return found | {f"grad_norm/{key}": norm for key, norm in gradient_norms(extractor).items()}

    def _fused(self, obs: dict[str, Tensor], starts: Tensor | None = None) -> Fused:
        fused = self.policy.fuse(obs, starts)
        if on_cpu(fused.features) and not bool(fused.features.isfinite().all()):
            raise StateError(self._not_finite(obs, {"features": fused.features.sum()}))
        return fused

    def loss(self, batch: Batch, clip: float) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """The loss on a minibatch: PPO's and `lessons`.

        Args:
            batch: B rows.
            clip: PPO's clip range.

        Returns:
            The loss, the ratios (B,) detached, and the parts by name, detached.

        Raises:
            StateError: an observation, and so the features, hold NaN or Inf.
        """
        policy, obs = self.policy, batch.observations
        advantages = batch.advantages
        if self.normalize_advantage:
            advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-8)
        fused = self._fused(obs, batch.starts)
        distribution = policy.distribution(fused)
        actions = batch.actions
        if isinstance(self.action_space, spaces.Discrete):
            actions = actions.long().flatten()
        log_ratio = distribution.log_prob(actions) - batch.old_log_prob
        ratio = log_ratio.exp()
        surrogate = -torch.min(advantages * ratio, advantages * ratio.clamp(1.0 - clip, 1.0 + clip)).mean()
        entropy = policy.entropy(distribution).mean()
        target = ((batch.returns - policy.return_norm.mean) / policy.return_norm.std)[:, None]
        value = (policy.normalised_values(fused, obs) - target).square().mean()
        lessons, parts = self.lessons(fused, obs, batch.starts)
        loss = self.policy_coef * surrogate - self.entropy_weight() * entropy + self.vf_coef * value + lessons
        parts |= {"policy_loss": surrogate, "value_loss": value, "entropy": entropy}
        with torch.no_grad():
            parts["approx_kl"] = (ratio - 1.0 - log_ratio).mean()
            parts["clip_fraction"] = ((ratio - 1.0).abs() > clip).float().mean()
        return loss, ratio.detach(), {name: part.detach() for name, part in parts.items()}

    def lessons(
        self, fused: Fused, obs: dict[str, Tensor], starts: Tensor | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The losses that need no rollout of the present policy.

        They are the distance to the teacher's actions, the same under further masks, the auxiliary losses, and the
        policy's regularisers.

        Args:
            fused: of the B rows `obs`.
            obs: the rows, with the teacher's actions if there is a teacher.
            starts: of the rows, see `FusionActorCriticPolicy.fuse`.

        Returns:
            The weighted sum, and the parts by name, detached.
        """
        policy = self.policy
        loss, parts = self._distillation(fused, obs, starts)
        if self.aux_coef and policy.truth_dim:
            errors = policy.truth_heads(fused, policy.visible_truth(obs[PRIVILEGED]))
            loss = loss + self.aux_coef * (errors * self._aux_weights.on(errors.device)).sum()
            names = [*(sensor.key for sensor in policy.features_extractor.sensors), "fused"]
            parts |= {f"aux/{name}": error for name, error in zip(names, errors, strict=True)}
        if policy.regularisers.weights:
            further, found = policy.regularisers(policy.features_extractor, fused, obs)
            loss, parts = loss + further, parts | found
        return loss, {name: part.detach() for name, part in parts.items()}

    def _distillation(
        self, fused: Fused, obs: dict[str, Tensor], starts: Tensor | None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Weighted squared differences to the teacher's action and to the own, under the given and further masks."""
        policy, masks, weight = self.policy, self.remask, self.teacher_weight()
        parts: dict[str, Tensor] = {}
        loss = fused.features.new_zeros(())
        if not (weight or masks):
            return loss, parts
        own = policy.mean_action(fused)
        if weight:
            parts["teacher"] = _squared_difference(own, obs[TEACHER_ACTION])
            loss = loss + weight * parts["teacher"]
        if not masks:
            return loss, parts
        available = submasks(fused.available.repeat(masks, 1), self.remask_keep)
        again = policy.mean_action(policy.fuse_again(fused, available, obs, starts))
        share = weight / self.teacher_coef if weight else 0.0  # of the teacher in what is copied
        if weight:
            parts["remask/teacher"] = _squared_difference(again, obs[TEACHER_ACTION].repeat(masks, 1))
            loss = loss + share * self.remask_coef * parts["remask/teacher"]
        if share < 1.0 and self.remask_self:
            parts["remask/self"] = _squared_difference(again, own.detach().repeat(masks, 1))
            loss = loss + (1.0 - share) * self.remask_self * parts["remask/self"]
        return loss, parts

    def entropy_weight(self) -> float:
        """Weight of the entropy at this point of the training."""
        given = cast(float | Schedule, self.ent_coef)
        return given(self._current_progress_remaining) if callable(given) else given

    def teacher_weight(self) -> float:
        """Weight of the difference to the teacher's actions at this point of the training."""
        if self.teacher is None or self.teacher_until <= 0.0:
            return 0.0
        progress = 1.0 - self._current_progress_remaining
        fallen = min(1.0, progress / self.teacher_until)
        return self.teacher_coef * (1.0 + fallen * (self.teacher_final - 1.0))

    def _not_finite(self, obs: dict[str, Tensor], parts: dict[str, Tensor]) -> str:
        """The message about a loss, gradient or action that is NaN or Inf: which reading or part it comes from."""
        extractor = self.policy.features_extractor
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

    def _log_update(self, means: "Means", clip: float, epochs: int) -> None:
        values, returns = self.rollout_buffer.value, self.rollout_buffer.target
        found = means.tensors() | {"explained_variance": 1.0 - (returns - values).var() / returns.var()}
        if means.first_ratio is not None:  # 0 but for rounding: the update sees the sensors that the action saw
            found["first_ratio_error"] = (means.first_ratio - 1.0).abs().max()
        if hasattr(self.policy, "log_std"):
            found["std"] = self.policy.log_std.detach().exp().mean()
        numbers = dict(zip(found, self._read([*found.values()]), strict=True))  # the one wait of rollout and update
        if numbers.pop("not_finite", 0.0):
            rows = {key: store.flatten(0, 1) for key, store in self.rollout_buffer.stored.items()}
            raise StateError(self._not_finite(rows, {name: found[name] for name in means.tensors()}))
        for name, number in numbers.items():
            if name != "explained_variance" or math.isfinite(number):  # it is undefined where all returns are equal
                self.logger.record(f"train/{name}", number)
        self.logger.record("train/epochs", epochs)
        self.logger.record("train/clip_range", clip)
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "teacher", "replay", "ranks", "_memory", "_unread", "_aux_weights",
                "_augmentation"]  # fmt: skip

    @classmethod
    def load(cls, path: Any, *args: Any, trust: bool = False, **kwargs: Any) -> "FusionPPO":  # noqa: ANN401
        """SB3's `load`, for files you made yourself. A teacher is not in them: to go on with it, pass `teacher=...`.

        Args:
            path: a file written by `save`.
            *args: as SB3's.
            trust: SB3's format contains pickles, which run code when they are loaded. True says that you know where
                the file comes from.
            **kwargs: as SB3's.

        Raises:
            InputError: `trust` was not given.
        """
        if not trust:
            raise InputError(
                f"{path} is in SB3's format, and loading it can run code hidden in it; pass trust=True if you made it "
                "yourself. Policy files (.safetensors) hold no code: robofuse.policies.load"
            )
        with warnings.catch_warnings():  # SB3 builds the object with default sizes before it reads the file's
            warnings.filterwarnings("ignore", "You have specified a mini-batch size")
            return super().load(path, *args, **kwargs)


class Means:
    """Means of what the steps of an update report, as tensors of the device.

    Attributes:
        first_ratio: PPO's ratios (B,) in the first step, None before it.
    """

    def __init__(self) -> None:
        """Nothing is reported yet."""
        self.first_ratio: Tensor | None = None
        self._parts: dict[str, list[Tensor]] = {}

    def add(self, parts: dict[str, Tensor]) -> None:
        """Adds the numbers of a step, by name."""
        for name, value in parts.items():
            self._parts.setdefault(name, []).append(value)

    def tensors(self) -> dict[str, Tensor]:
        """The means, by name."""
        return {name: torch.stack(values).mean() for name, values in self._parts.items()}


def _squared_difference(actions: Tensor, target: Tensor) -> Tensor:
    return (actions - target).square().sum(1).mean()


def _tensors(observation: Any, device: torch.device) -> dict[str, Tensor]:  # noqa: ANN401
    return obs_as_tensor(observation, device)  # pyright: ignore[reportReturnType]
