"""Where the cameras of N worlds are: where the model has them, unless something has knocked them out of place."""

from collections.abc import Sequence

import mujoco
import numpy as np
import torch
from torch import Tensor

from robofuse.envs.backend import Backend

_POSE = ("cam_xpos", "cam_xmat")


class Mount:
    """Poses of all cameras, as renderers read them."""

    def __init__(self, backend: Backend, cameras: Sequence[str]) -> None:
        """`cameras` are names in the model, in the order of `knock`."""
        self._backend = backend
        self._ids = [mujoco.mj_name2id(backend.model, mujoco.mjtObj.mjOBJ_CAMERA, name) for name in cameras]
        self._live = {name: backend.field(name) for name in _POSE}
        self._placed = {name: field.clone() for name, field in self._live.items()}
        self._camera_offsets: list[tuple[int, Tensor, Tensor, Tensor]] = []

    def field(self, name: str) -> np.ndarray:
        """A live array of the backend; of cameras, the one that `place` fills."""
        return (self._placed[name] if name in _POSE else self._backend.field(name)).numpy()

    def offset_camera(self, camera: int, env_ids: Tensor, shift: Tensor, turn: Tensor) -> None:
        """As `Rig.knock`, of the camera with this number; several of one camera add up."""
        self._camera_offsets.append((self._ids[camera], env_ids, shift.double(), turn.double()))

    def place(self, env_ids: Tensor | None) -> None:
        """Put the cameras of worlds int64 (n,), or of all, where they are now; knocks are forgotten with that."""
        rows = slice(None) if env_ids is None else env_ids
        for name, field in self._live.items():
            self._placed[name][rows] = field[rows]
        for camera, env_ids, shift, turn in self._camera_offsets:
            position, axes = self._placed["cam_xpos"], self._placed["cam_xmat"]
            frame = axes[env_ids, camera].reshape(-1, 3, 3)
            position[env_ids, camera] += (frame @ shift[..., None])[..., 0]
            x, y, z = turn.unbind(1)
            nothing = torch.zeros_like(x)
            skew = torch.stack([nothing, -z, y, z, nothing, -x, -y, x, nothing], dim=1).reshape(-1, 3, 3)
            axes[env_ids, camera] = (frame @ torch.linalg.matrix_exp(skew)).reshape(-1, 9)
        self._camera_offsets = []
