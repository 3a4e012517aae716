"""What several test files need."""

import torch

from robofuse.envs.world import World

BLIND = ("proprio", "force")


def rest(world: World, gripper: float = 1.0) -> torch.Tensor:
    """Actions that leave the hand where it is."""
    action = torch.zeros(world.num_envs, 5)
    action[:, 4] = gripper
    return action


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    """Whether two observations are equal to the bit."""
    return a.keys() == b.keys() and all(torch.equal(a[key], b[key]) for key in a)
