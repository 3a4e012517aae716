"""Bytes that a stored step takes in the rollouts of FusionPPO and of SB3's PPO."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from stable_baselines3 import PPO
from stable_baselines3.common.buffers import DictRolloutBuffer
from stable_baselines3.common.callbacks import BaseCallback

from robofuse.policies import FusionPPO


class Held(BaseCallback):
    """Looks at the arrays of SB3's rollout buffer when a rollout is complete."""

    arrays: dict[str, np.ndarray]

    def _on_step(self) -> bool:
        return True

    def _on_rollout_end(self) -> None:
        self.arrays = stored_arrays(self.model.rollout_buffer)  # pyright: ignore[reportAttributeAccessIssue]


def stored_arrays(buffer: DictRolloutBuffer) -> dict[str, np.ndarray]:
    """Everything that SB3's buffer keeps, by name."""
    others = {name: x for name, x in vars(buffer).items() if isinstance(x, np.ndarray)}
    return {**buffer.observations, **others}


def held_by_sb3(model: PPO, before: dict[str, np.ndarray]) -> dict[str, Any]:
    """Bytes per step: held after a rollout, copied before the first epoch, and of that held beside at one time.

    Args:
        model: after an update.
        before: its arrays before it.
    """
    buffer = model.rollout_buffer
    assert isinstance(buffer, DictRolloutBuffer)
    after, steps = stored_arrays(buffer), buffer.buffer_size * buffer.n_envs
    return _bytes(before, [x for name, x in after.items() if not np.shares_memory(x, before[name])], steps)


def held_by_fusion(model: FusionPPO) -> dict[str, Any]:
    """The same for FusionPPO, at any time."""
    buffer = model.rollout_buffer
    tensors = {**buffer.stored, "actions": buffer.action_store, "scalars": buffer.scalars}
    copied = [x for x in buffer.stored.values() if x.flatten(0, 1).data_ptr() != x.data_ptr()]
    return _bytes(tensors, copied, buffer.buffer_size * buffer.n_envs)


def _bytes(held: Mapping[str, Any], copied: Sequence[Any], steps: int) -> dict[str, Any]:
    """Per step: all that is held, what is copied, and the largest copy; by name."""
    by_key = {name: x.nbytes / steps for name, x in held.items()}
    sizes = [x.nbytes / steps for x in copied]
    return {"held": sum(by_key.values()), "copied": sum(sizes), "beside": max(sizes, default=0.0), "by_key": by_key}
