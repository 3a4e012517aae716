"""The physics of N worlds: one interface, `backend.Backend`, behind which is MuJoCo on a CPU or mujoco_warp."""

import mujoco
import torch

from robofuse.envs.physics.backend import Backend, CpuBackend, check_mujoco
from robofuse.errors import InputError

__all__ = ["PHYSICS", "Backend", "CpuBackend", "check_mujoco", "make_backend"]

PHYSICS = ("auto", "mujoco", "warp")


def make_backend(
    name: str,
    device: torch.device,
    model: mujoco.MjModel,
    num_envs: int,
    substeps: int,
    num_threads: int | None = None,
) -> Backend:
    """N simulations of a model.

    Args:
        name: one of `PHYSICS`; `auto` is mujoco_warp on a GPU, MuJoCo on a CPU.
        device: where the tensors are; MuJoCo computes on the CPU all the same.
        model: compiled model.
        num_envs: N.
        substeps: physics steps per control step.
        num_threads: of MuJoCo, default one per core this process may use.

    Raises:
        InputError: unknown name, or a model that mujoco_warp cannot simulate.
        StateError: mujoco_warp is missing.
    """
    if name not in PHYSICS:
        raise InputError(f"unknown physics {name!r}; physics: {', '.join(PHYSICS)}")
    on_cpu = device.type == "cpu"
    if name == "mujoco" or (name == "auto" and on_cpu):
        if on_cpu:
            return CpuBackend(model, num_envs, substeps, num_threads)
        from robofuse.envs.physics.staged import StagedBackend

        return StagedBackend(model, num_envs, substeps, device, num_threads)
    from robofuse.envs.physics.warp_backend import WarpBackend  # Warp takes a second to import

    return WarpBackend(model, num_envs, substeps, device)
