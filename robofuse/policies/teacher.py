"""Teachers: what to do according to the simulator's truth, for another policy to learn from."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from robofuse.errors import InputError
from robofuse.policies.policy import Policy
from robofuse.policies.saving import load
from robofuse.sensors import AVAILABLE, PRIVILEGED, TRUTH

Advice = Callable[[Mapping[str, Tensor]], Tensor]
"""A teacher: the present observation of all environments, key → (N, …), to actions within the bounds, (N, A).

It is asked at every step, before the environments move. `Teacher` reads the observation; the scripted expert of the
worlds, `World.expert`, looks at the worlds themselves.
"""


class Teacher(nn.Module):
    """Says what to do from the privileged vector alone; its weights never change."""

    def __init__(self, policy: Policy) -> None:
        """Takes a policy over the sensor `truth`.

        Raises:
            InputError: it reads other sensors, or remembers.
        """
        if tuple(policy.keys) != (TRUTH,):
            raise InputError(
                f"a teacher reads the sensor {TRUTH!r} alone, but {policy.name} reads {', '.join(policy.keys)}; train "
                "one with: robofuse train TASK --preset teacher"
            )
        if policy.remembers:
            raise InputError(
                f"the teacher {policy.name} remembers, and is asked row by row; train one with --memory none"
            )
        super().__init__()
        self.network, self.card = policy.network.requires_grad_(False), policy.card
        self.size = policy.sensors[0].shape[0]

    @torch.no_grad()
    def forward(self, observation: Mapping[str, Tensor]) -> Tensor:
        """Observations with `privileged` (B, K) to actions within the bounds, (B, A)."""
        privileged = observation[PRIVILEGED].float()
        live = torch.ones(len(privileged), 1, device=privileged.device)
        return self.network.act({TRUTH: privileged, AVAILABLE: live})


def load_teacher(path: str, truth: int, device: str | torch.device, **world: str) -> Teacher:
    """A teacher from a policy file or run folder.

    Args:
        path: of the file, or of the folder of its training.
        truth: length of the privileged vector it will be given.
        device: where it runs.
        **world: `task` and `robot` of the world that it is to teach in.

    Raises:
        InputError: not a teacher, or one for another task or robot.
    """
    policy = load(path, device)
    teacher = Teacher(policy)
    for what, name in world.items():
        if policy.world.get(what, name) != name:
            raise InputError(f"the teacher {path} learned with the {what} {policy.world[what]}; this one is {name}")
    if teacher.size != truth:
        raise InputError(
            f"the teacher {path} reads {teacher.size} numbers of truth, but this task and robot have {truth}; it must "
            "have learned the same task with the same robot"
        )
    return teacher
