"""Rollouts: act, step, store, and hand on what the policy remembers."""

import time
from typing import Any

import numpy as np
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.utils import obs_as_tensor
from stable_baselines3.common.vec_env import VecEnv
from torch import Tensor

from robofuse.errors import StateError
from robofuse.policies.actor_critic import FusionActorCriticPolicy
from robofuse.policies.losses import not_finite
from robofuse.policies.recurrent import MEMORY
from robofuse.policies.rollouts import TensorRolloutBuffer


class Collecting(PPO):
    """The part of `FusionPPO` that collects rollouts."""

    policy: FusionActorCriticPolicy  # pyright: ignore[reportIncompatibleVariableOverride]
    rollout_buffer: TensorRolloutBuffer  # pyright: ignore[reportIncompatibleVariableOverride]
    seconds: dict[str, float]
    _memory: Tensor  # (N, H), what the policy remembers before the next step; H is 0 if it has no memory

    def collect_rollouts(
        self, env: VecEnv, callback: BaseCallback, rollout_buffer: RolloutBuffer, n_rollout_steps: int
    ) -> bool:
        """As SB3's; values of the episodes that ran out of time are looked up in one batch at the end."""
        assert self._last_obs is not None
        self.policy.set_training_mode(False)
        rollout_buffer.reset()
        callback.on_rollout_start()
        late: list[tuple[int, int, dict[str, np.ndarray], Tensor]] = []  # step, environment, last observation, memory
        for number in range(n_rollout_steps):
            began = time.perf_counter()
            observed = self._remembering(_tensors(self._last_obs, self.device))
            actions, executed, values, log_probs = self._choose(observed)
            acted = time.perf_counter()
            new_obs, rewards, dones, infos = env.step(executed)
            stepped = time.perf_counter()
            self.num_timesteps += env.num_envs
            callback.update_locals(locals())
            if not callback.on_step():
                return False
            self._update_info_buffer(infos, dones)
            late += [
                (number, i, infos[i]["terminal_observation"], self._memory[i])
                for i in np.flatnonzero(dones).tolist()
                if infos[i].get("TimeLimit.truncated", False)
            ]
            rollout_buffer.add(observed, actions, rewards, self._last_episode_starts, values, log_probs)  # pyright: ignore
            self._last_obs, self._last_episode_starts = new_obs, dones  # pyright: ignore
            self.seconds["simulate"] += stepped - acted
            self.seconds["act"] += acted - began + time.perf_counter() - stepped
        began = time.perf_counter()
        last = self._values_beyond(rollout_buffer, late)  # pyright: ignore
        self.seconds["act"] += time.perf_counter() - began
        rollout_buffer.compute_returns_and_advantage(last, self._last_episode_starts)  # pyright: ignore
        callback.update_locals(locals())
        callback.on_rollout_end()
        return True

    def _remembering(self, observed: dict[str, Tensor]) -> dict[str, Tensor]:
        """An observation of all environments, with what the policy remembers; of episodes that begin, nothing."""
        if not self.policy.memory:
            return observed
        begins = torch.as_tensor(self._last_episode_starts, device=self.device, dtype=torch.bool)
        return observed | {MEMORY: self._memory.masked_fill(begins[:, None], 0.0)}

    @torch.no_grad()
    def _values_beyond(
        self, buffer: TensorRolloutBuffer, late: list[tuple[int, int, dict[str, np.ndarray], Tensor]]
    ) -> Tensor:
        """Values of the present observations; those of episodes that ran out of time go into their last rewards."""
        assert isinstance(self._last_obs, dict)
        ends = {key: np.stack([last[key] for _, _, last, _ in late]) for key in self._last_obs} if late else {}
        batch = {key: np.concatenate([x, ends[key]]) if late else x for key, x in self._last_obs.items()}
        observed = _tensors(batch, self.device)
        if self.policy.memory:
            now = self._remembering({})[MEMORY]
            observed[MEMORY] = torch.cat([now, *(memory[None] for _, _, _, memory in late)])
        values = self.policy.predict_values(observed).flatten()
        count = len(values) - len(late)
        if late:
            steps, rows = (torch.tensor(x, device=self.device) for x in list(zip(*late, strict=True))[:2])
            buffer.reward[steps, rows] += self.gamma * values[count:]
        return values[:count]

    @torch.no_grad()
    def _choose(self, observed: dict[str, Tensor]) -> tuple[Tensor, np.ndarray, Tensor, Tensor]:
        """Actions as stored and as executed, values, log probabilities; RuntimeError before NaN moves anything."""
        try:
            fused = self.policy.fuse(observed)
            actions, values, log_probs = self.policy.choose(fused, observed)
        except ValueError:  # torch refuses a distribution of NaN
            features = self.policy.fuse(observed).features
            if bool(features.isfinite().all()):
                raise
            raise StateError(not_finite(self.policy, observed, {"the features": features.sum()})) from None
        executed = self.policy.execute(actions).cpu().numpy()
        if not np.isfinite(executed).all():
            raise StateError(not_finite(self.policy, observed, {"the actions": actions.float().sum()}))
        if fused.memory is not None:
            self._memory = fused.memory
        return actions, executed, values, log_probs


def _tensors(observation: Any, device: torch.device) -> dict[str, Tensor]:  # noqa: ANN401
    return obs_as_tensor(observation, device)  # pyright: ignore[reportReturnType]
