"""Reach: bring the point between the fingertips to a ball in the air and keep it there."""

import mujoco
import numpy as np
import torch
from torch import Tensor

from robofuse.envs.control import Robot
from robofuse.envs.physics.backend import Backend
from robofuse.envs.robot import Hand
from robofuse.envs.tasks.task import Task, between, lasting


class Reach(Task):
    """A green ball hangs at a random place in a 20 × 20 × 20 cm volume; stay within 2 cm of it for a quarter second.

    Reward terms: `reach` 1 − tanh(5 d), d the distance [m]; `success` 1 when done; `effort` minus the squared action.
    """

    name = "Reach"
    horizon = 3.0
    weights = {"reach": 0.05, "success": 5.0, "effort": 0.002}
    draws = 3
    privileged_names = ("ball_dx", "ball_dy", "ball_dz", "stayed")
    privileged_scale = (0.1, 0.1, 0.1, 1.0)
    _TOLERANCE, _STAY = 0.02, 5

    def add_objects(self, spec: mujoco.MjSpec, workspace: np.ndarray, hand: Hand) -> None:
        ball = spec.worldbody.add_body(name="ball", mocap=True, pos=workspace + [0.0, 0.0, 0.15])
        ball.add_geom(
            name="ball",
            type=mujoco.mjtGeom.mjGEOM_SPHERE,
            size=[0.02, 0.0, 0.0],
            rgba=[0.1, 0.8, 0.2, 1.0],
            contype=0,
            conaffinity=0,
        )

    def bind(self, backend: Backend, robot: Robot) -> None:
        super().bind(backend, robot)
        self._stayed = torch.zeros(backend.num_envs, dtype=torch.int64, device=backend.device)

    def place(self, env_ids: Tensor, u: Tensor) -> None:
        sideways, height = between(u[:, :2], -0.1, 0.1), between(u[:, 2:], 0.05, 0.25)
        offset = torch.cat([sideways, height], dim=1)
        self.backend.field("mocap_pos")[env_ids, 0] = self.robot.workspace + offset

    def begin(self, worlds: Tensor) -> None:
        self._stayed[worlds] = 0

    def update(self) -> None:
        self._stayed = lasting(self._stayed, self._offset().norm(dim=1) < self._TOLERANCE)

    def terms(self, action: Tensor) -> dict[str, Tensor]:
        return {
            "reach": 1.0 - torch.tanh(5.0 * self._offset().norm(dim=1)),
            "success": self.success().double(),
            "effort": -action.square().sum(dim=1),
        }

    def success(self) -> Tensor:
        return self._stayed >= self._STAY

    def privileged(self) -> Tensor:
        return torch.cat([self._offset(), self._stayed[:, None] / self._STAY], dim=1)

    def expert(self) -> Tensor:
        """Straight to the ball."""
        move = (0.6 * self._offset() / self.robot.model.step).clamp(-1.0, 1.0)
        return torch.cat([move, torch.zeros_like(move[:, :1]), torch.ones_like(move[:, :1])], dim=1)

    def _offset(self) -> Tensor:
        return self.backend.field("mocap_pos")[:, 0] - self.robot.position
