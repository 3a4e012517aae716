"""What a task is: what stands on the table, what is rewarded, when it is done."""

from abc import ABC, abstractmethod
from typing import ClassVar

import mujoco
import numpy as np
import torch
from torch import Tensor

from robofuse.envs.backend import Backend
from robofuse.envs.control import Robot
from robofuse.errors import StateError


class Task(ABC):
    """One task in N worlds. A new task is one file with one subclass, under `robofuse.envs.register_task`.

    The world calls, in this order: `add_objects` once per model; `bind` once; `place` and then `begin` for every world
    that starts an episode; after every control step `update`, and then the queries. Every tensor has N in front;
    positions are in the world frame [m], with the table's top at z = 0.

    Attributes:
        name: `robofuse/<name>-v0` is its Gymnasium id.
        horizon: length of an episode [s].
        weights: reward term → weight; the reward is the weighted sum of `terms`, per control step.
        draws: uniform numbers that `place` needs per episode.
        privileged_names: what each entry of `privileged` is.
        privileged_scale: typical magnitude of each.
        phases: parts of the task in their order, for faults that wait for one; see `phase`.
        visible_names: those of them that sensors can tell, which auxiliary losses ask for; none means all.
    """

    name: ClassVar[str]
    horizon: ClassVar[float]
    weights: ClassVar[dict[str, float]]
    draws: ClassVar[int]
    privileged_names: ClassVar[tuple[str, ...]]
    privileged_scale: ClassVar[tuple[float, ...]]
    visible_names: ClassVar[tuple[str, ...]] = ()
    phases: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def add_objects(self, spec: mujoco.MjSpec, workspace: np.ndarray, tips: tuple[str, str]) -> None:
        """Add the task's bodies and sensors to the scene.

        Args:
            spec: the scene with table and robot.
            workspace: (3,) middle of the workspace on the table [m].
            tips: names of the two fingertip sites.
        """

    def bind(self, backend: Backend, robot: Robot) -> None:
        """Remember where the physics and the robot are; look up ids, bind fields, allocate counters."""
        self.backend, self.robot = backend, robot

    @abstractmethod
    def place(self, env_ids: Tensor, u: Tensor) -> None:
        """Write the scene of a new episode.

        Args:
            env_ids: int64 (n,), worlds.
            u: float64 (n, draws), uniform in (0, 1); nothing else may be random.
        """

    def begin(self, env_ids: Tensor) -> None:
        """Reset what the task remembers of worlds `env_ids`, int64 (n,), once their scene stands."""
        return

    def update(self) -> None:
        """Follow one control step: counters that span several steps."""
        return

    @abstractmethod
    def terms(self, action: Tensor) -> dict[str, Tensor]:
        """Unweighted reward terms, float64 (N,) each, in the order of `weights`; `action` (N, A) as applied."""

    @abstractmethod
    def success(self) -> Tensor:
        """Bool (N,): the task is done, and the episode ends."""

    def phase(self) -> Tensor:
        """int64 (N,): which of `phases` each world is in."""
        raise NotImplementedError

    @abstractmethod
    def privileged(self) -> Tensor:
        """Simulator truth (N, K), entries `privileged_names`."""

    def visible(self) -> list[int]:
        """Positions of `visible_names` in the privileged vector."""
        return [self.privileged_names.index(name) for name in self.visible_names or self.privileged_names]

    def expert(self) -> Tensor:
        """A scripted solution from simulator truth: actions (N, 5) in [−1, 1]; a task may do without."""
        raise StateError(f"task {self.name!r} has no scripted expert; one would be its method `expert`")


def between(u: Tensor, low: float, high: float) -> Tensor:
    """Uniform numbers in (0, 1) to (low, high)."""
    return low + (high - low) * u


def lasting(counter: Tensor, condition: Tensor) -> Tensor:
    """How many control steps in a row a condition has held, given the count (N,) up to the step before."""
    return torch.where(condition, counter + 1, torch.zeros_like(counter))
