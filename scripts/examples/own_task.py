"""A task of your own in a scene of your own: push a puck into a circle. One class.

python scripts/examples/own_task.py
robofuse train Push --robot gripper --import scripts/examples/own_task.py
"""

import mujoco
import numpy as np
import torch
from torch import Tensor

from robofuse.envs import Hand, Task, World, attach, register_task

SCENE = """
<mujoco>
  <worldbody>
    <geom type="cylinder" size="0.04 0.0005" rgba="1 1 1 1" contype="0" conaffinity="0"/>
    <body name="puck" pos="0 0 0.021">
      <freejoint name="puck"/><geom type="cylinder" size="0.03 0.02" mass="0.1" rgba="0.1 0.3 0.9 1"/>
    </body>
  </worldbody>
</mujoco>"""


@register_task
class Push(Task):
    """Push a puck from up to 8 cm away into the middle of a circle."""

    name, horizon, draws = "Push", 4.0, 2  # seconds; random numbers that `place` needs
    weights = {"near": 0.1, "goal": 0.1, "success": 5.0}  # of the reward terms
    privileged_names, privileged_scale = ("dx", "dy", "dz", "goal_x", "goal_y"), (0.1,) * 5

    def add_objects(self, spec: mujoco.MjSpec, workspace: np.ndarray, hand: Hand) -> None:
        attach(spec, SCENE, at=workspace, body=["puck"], joint=["puck"])  # from here on its names begin with scene/

    def place(self, env_ids: Tensor, u: Tensor) -> None:
        start = int(self.backend.model.joint("scene/puck").qposadr[0])
        spot = torch.polar(0.05 + 0.03 * u[:, 0], 2.0 * torch.pi * u[:, 1])
        self.backend.field("qpos")[env_ids, start : start + 2] = self.robot.workspace[:2] + torch.view_as_real(spot)

    def terms(self, action: Tensor) -> dict[str, Tensor]:
        truth = self.privileged()
        near, goal = truth[:, :3].norm(dim=1), truth[:, 3:].norm(dim=1)
        return {"near": -near, "goal": 1.0 - torch.tanh(20.0 * goal), "success": self.success().double()}

    def success(self) -> Tensor:
        return self.privileged()[:, 3:].norm(dim=1) < 0.02

    def privileged(self) -> Tensor:
        puck = self.backend.field("xpos")[:, self.backend.model.body("scene/puck").id]
        return torch.cat([puck - self.robot.position, (self.robot.workspace - puck)[:, :2]], dim=1)


if __name__ == "__main__":
    world = World("Push", 2, robot="gripper", sensors=("proprio", "force"), privileged=True)
    print("two scenes, as the critic sees them:", world.reset()["privileged"][:, :5], sep="\n")
    step = world.step(torch.zeros(2, 5))
    print("a step's reward:", {name: round(float(term.mean()), 4) for name, term in step.terms.items()})
