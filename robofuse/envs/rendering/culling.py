"""Which geoms a camera can see at all: OpenGL in software pays for every corner of those it cannot."""

import mujoco
import numpy as np

from robofuse.envs.rendering import Poses, View


class Frustum:
    """The pyramid that one view looks into."""

    def __init__(self, model: mujoco.MjModel, view: View) -> None:
        """Reads the camera's opening and the geoms' bounding spheres.

        Args:
            model: compiled model; per-world sizes must not exceed what its `geom_rbound` bounds.
            view: the camera and its picture's shape.
        """
        self._camera = model.camera(view.camera).id
        # MuJoCo gives 0 to what has no bound, such as a plane
        self._radius = np.where(model.geom_rbound > 0.0, model.geom_rbound, np.inf)
        half = np.radians(model.cam_fovy[self._camera]) / 2.0
        wide = np.arctan(np.tan(half) * view.width / view.height)
        self._sine, self._cosine = np.sin([wide, half]), np.cos([wide, half])
        plain = model.cam_sensorsize[self._camera, 1] == 0.0 and (
            model.cam_projection[self._camera] == mujoco.mjtProjection.mjPROJ_PERSPECTIVE
        )
        if not plain:  # orthographic, or an off-centre lens: draw everything
            self._radius[:] = np.inf

    def sees(self, poses: Poses, rows: np.ndarray) -> np.ndarray:
        """Bool (n, ngeom): may some of the geom be in the picture? `rows` int (n,) are the worlds."""
        axes = poses.cam_xmat[rows, self._camera].reshape(-1, 3, 3)
        seen_from = (poses.geom_xpos[rows] - poses.cam_xpos[rows, self._camera][:, None]) @ axes
        ahead = -seen_from[..., 2:]
        # signed distance to the nearer of each pair of opposite sides, positive outside
        outside = np.abs(seen_from[..., :2]) * self._cosine - ahead * self._sine
        return (outside <= self._radius[:, None]).all(axis=-1) & (ahead[..., 0] >= -self._radius)
