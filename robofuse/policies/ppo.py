"""PPO whose rollouts stay tensors on the training device, with auxiliary losses on the tokens."""

import time
import warnings
from typing import Any, cast

import torch
from gymnasium import spaces
from stable_baselines3 import PPO
from stable_baselines3.common.type_aliases import GymEnv, Schedule
from stable_baselines3.common.utils import FloatSchedule
from stable_baselines3.common.vec_env import VecEnv
from torch import Tensor, nn

from robofuse.errors import InputError, StateError
from robofuse.policies.actor_critic import FusionActorCriticPolicy
from robofuse.policies.collecting import Collecting
from robofuse.policies.losses import losses, not_finite
from robofuse.policies.rollouts import TensorRolloutBuffer
from robofuse.policies.teacher import Teacher
from robofuse.sensors import PRIVILEGED


class FusionPPO(Collecting):
    """Stable-Baselines3's PPO for observations of images and vectors: its arguments, callbacks, logger and file format.

    What differs: rollouts are tensors in native dtypes (`TensorRolloutBuffer`); images are not transposed and not
    converted before the encoders; values are learned in units of the returns; and if observations have `privileged`,
    every token and the fused features learn to predict it (`aux_coef`; 0 turns that off).

    Attributes:
        policy: a `FusionActorCriticPolicy`.
        seconds: where the time went since `learn` began: act, simulate (the environment's step), learn.
    """

    policy_aliases = {"FusionPolicy": FusionActorCriticPolicy}

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
        aux_coef: float = 2.0,
        teacher: Teacher | None = None,
        teacher_coef: float = 3.0,
        teacher_until: float = 0.6,
        **kwargs: Any,  # noqa: ANN401
    ) -> None:
        """As SB3's PPO, with defaults for dozens of worlds and short episodes.

        Args:
            policy: the policy class.
            env: anything SB3 takes, with Dict observations.
            learning_rate: number, or function of the remaining progress (1 to 0).
            n_steps: steps per environment and rollout.
            batch_size: rows per minibatch.
            n_epochs: passes over a rollout.
            gamma: discount.
            gae_lambda: λ of generalised advantage estimation.
            clip_range: number, or function of the remaining progress.
            ent_coef: weight of the entropy of the executed action; number, or function of the remaining progress.
            aux_coef: weight of each auxiliary loss (one per token, one on the features). At 2, image tokens know after
                20,000 steps where the block is (Huber loss 0.16 of 0.37 for knowing nothing); at 0.2 they do not after
                140,000 (0.28): the noise of PPO's gradient drowns it.
            teacher: a policy that knows the truth. Its action is a target for the mean of ours in every state that
                ours comes to, beside PPO's loss, which goes on where the truth cannot be seen (kickstarting, Schmitt et
                al. 2018; the states are the student's own, as in DAgger, Ross et al. 2011).
            teacher_coef: weight of the squared difference of the actions, at the start.
            teacher_until: share of the training after which that weight, falling linearly, is 0.
            **kwargs: see SB3's PPO (target_kl, vf_coef, max_grad_norm, tensorboard_log, seed, device, …).
        """
        if kwargs.get("clip_range_vf") is not None:
            raise InputError("FusionPPO does not clip values (clip_range_vf): they are learned in units of the returns")
        self.aux_coef = aux_coef
        self.teacher, self.teacher_coef, self.teacher_until = teacher, teacher_coef, teacher_until
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

    def train(self) -> None:
        """One update: `n_epochs` passes over the rollout.

        Raises:
            RuntimeError: a loss or gradient that is not finite, before it reaches the weights.
        """
        began = time.perf_counter()
        self.policy.set_training_mode(True)
        self._update_learning_rate(self.policy.optimizer)
        buffer = self.rollout_buffer
        truth = buffer.stored.get(PRIVILEGED)
        for name, x in (("the rewards or values", buffer.target), (f"{PRIVILEGED!r}", truth)):
            if x is not None and not bool(x.isfinite().all()):
                raise StateError(f"{name} of the rollout hold NaN or Inf; look at the environment (weights unchanged)")
        self.policy.update_norms(buffer.target, None if truth is None else truth.flatten(0, 1).flatten(1))
        clip = self.clip_range(self._current_progress_remaining)
        sums: dict[str, Tensor] = {}
        count, first_ratio, stopped, epoch = 0, None, False, 0
        for epoch in range(self.n_epochs):  # noqa: B007
            for batch in buffer.minibatches(self.batch_size):
                loss, ratio, parts = losses(self, batch, clip)
                first_ratio = ratio if first_ratio is None else first_ratio
                if self.target_kl is not None and parts["approx_kl"] > 1.5 * self.target_kl:
                    stopped = True
                    break
                self.policy.optimizer.zero_grad()
                loss.backward()
                norm = nn.utils.clip_grad_norm_(self.policy.parameters(), self.max_grad_norm)
                if not bool(torch.isfinite(loss) & torch.isfinite(norm)):
                    raise StateError(not_finite(self.policy, batch.observations, parts))
                self.policy.optimizer.step()
                parts["grad_norm"] = norm
                count += 1
                for name, value in parts.items():
                    sums[name] = sums.get(name, torch.zeros_like(value)) + value
            if stopped:
                break
        self._n_updates += self.n_epochs
        self._record(sums, count, clip, first_ratio, epoch + 1)
        self.seconds["learn"] += time.perf_counter() - began

    def entropy_weight(self) -> float:
        """Weight of the entropy at this point of the training."""
        given = cast(float | Schedule, self.ent_coef)
        return given(self._current_progress_remaining) if callable(given) else given

    def teacher_weight(self) -> float:
        """Weight of the teacher's advice at this point of the training."""
        if self.teacher is None or self.teacher_until <= 0.0:
            return 0.0
        progress = 1.0 - self._current_progress_remaining
        return self.teacher_coef * max(0.0, 1.0 - progress / self.teacher_until)

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "teacher", "_memory"]

    def _record(
        self, sums: dict[str, Tensor], count: int, clip: float, first_ratio: Tensor | None, epochs: int
    ) -> None:
        for name, value in sums.items():
            self.logger.record(f"train/{name}", float(value) / max(count, 1))
        if first_ratio is not None:  # must be 0: the update sees the sensors that the action saw
            self.logger.record("train/first_ratio_error", float((first_ratio - 1.0).abs().max()))
        values, returns = self.rollout_buffer.value, self.rollout_buffer.target
        spread = returns.var()
        if spread > 0:
            self.logger.record("train/explained_variance", float(1.0 - (returns - values).var() / spread))
        self.logger.record("train/epochs", epochs)
        self.logger.record("train/clip_range", clip)
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")
        if hasattr(self.policy, "log_std"):
            self.logger.record("train/std", float(self.policy.log_std.detach().exp().mean()))

    def _setup_model(self) -> None:
        super()._setup_model()
        if not callable(self.clip_range):
            self.clip_range = FloatSchedule(self.clip_range)
        self._memory = torch.zeros(self.n_envs, self.policy.memory, device=self.device)  # before the next step
        if self.policy.memory:
            self.rollout_buffer.remember(self.policy.memory)
        if self.teacher is not None:
            self.teacher.to(self.device)
        if self.teacher is not None and (
            self.teacher.size != self.policy.truth_dim or not isinstance(self.action_space, spaces.Box)
        ):
            raise InputError(
                f"the teacher reads {self.teacher.size} numbers of `privileged` and gives actions in a Box; this "
                f"environment has {self.policy.truth_dim} and {self.action_space}"
            )

    @staticmethod
    def _wrap_env(env: GymEnv, verbose: int = 0, monitor_wrapper: bool = True) -> VecEnv:
        """A VecEnv is taken as it is: the encoders read (H, W, C), so nothing is transposed."""
        if isinstance(env, VecEnv):
            return env
        wrapped = PPO._wrap_env(env, verbose, monitor_wrapper)
        return getattr(wrapped, "venv", wrapped) if type(wrapped).__name__ == "VecTransposeImage" else wrapped

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
            ValueError: `trust` was not given.
        """
        if not trust:
            raise InputError(
                f"{path} is in SB3's format, and loading it can run code hidden in it; pass trust=True if you made it "
                "yourself. Policy files (.safetensors) hold no code: robofuse.policies.load"
            )
        with warnings.catch_warnings():  # SB3 builds the object with default sizes before it reads the file's
            warnings.filterwarnings("ignore", "You have specified a mini-batch size")
            return super().load(path, *args, **kwargs)
