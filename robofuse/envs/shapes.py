"""What a world looks like, as plain arrays, for viewers that draw by themselves: triangles, colours and poses."""

from typing import Any, NamedTuple

import mujoco
import numpy as np

from robofuse.envs.physics import Backend
from robofuse.envs.rendering.studio import SEEN_THROUGH, screens

_DRAWN = 3  # groups of geoms below it are drawn, as by the renderers
_ROUND = 24  # corners of a circle
_PLANE = 5.0  # half a side of a plane without end [m]
_FLAT = [int(kind) for kind in (mujoco.mjtGeom.mjGEOM_PLANE, mujoco.mjtGeom.mjGEOM_BOX, mujoco.mjtGeom.mjGEOM_CYLINDER)]
_GREY = np.array([0.5, 0.5, 0.5, 1.0], np.float32)  # MuJoCo's own colour, which a material's takes the place of
# each side of a box by its corners, counter-clockwise from outside; corner 4 i + 2 j + k has signs i, j, k
_SIDES = np.array([[0, 1, 3, 2], [4, 6, 7, 5], [0, 4, 5, 1], [2, 3, 7, 6], [0, 2, 6, 4], [1, 5, 7, 3]])


class Shape(NamedTuple):
    """A solid thing in a world, in its own frame.

    Attributes:
        name: as in the model; may be empty.
        vertices: float32 (V, 3) [m].
        faces: uint32 (F, 3), vertices of each triangle, counter-clockwise from outside.
        rgba: float32 (4,), colour and opacity from 0 to 1; what hides things from cameras alone is translucent.
        flat: whether to shade each face by itself, as it is no facet of something round.
    """

    name: str
    vertices: np.ndarray
    faces: np.ndarray
    rgba: np.ndarray
    flat: bool


class Looks:
    """The shapes of the worlds of a backend, and where they are."""

    def __init__(self, backend: Backend) -> None:
        """Chooses what the renderers draw, too."""
        self._backend, model = backend, backend.model
        self._screens = screens(model)
        drawn = (model.geom_group < _DRAWN) & (model.geom_type <= int(mujoco.mjtGeom.mjGEOM_MESH))
        self._drawn = np.flatnonzero(drawn & (model.geom_type != int(mujoco.mjtGeom.mjGEOM_HFIELD)))

    def shapes(self, world: int) -> list[Shape]:
        """The shapes of a world; sizes and colours may be others in its next episode."""
        model, _ = self._backend.snapshot(world)
        found = []
        for geom in self._drawn.tolist():
            rgba, material = model.geom_rgba[geom], model.geom_matid[geom]
            if material >= 0 and np.array_equal(rgba, _GREY):
                rgba = model.mat_rgba[material]
            rgba = np.array(rgba, np.float32)
            if self._screens[geom]:
                rgba[3] *= SEEN_THROUGH
            name = mujoco.mj_id2name(model, mujoco.mjtObj.mjOBJ_GEOM, geom) or ""
            flat = bool(model.geom_type[geom] in _FLAT)
            found.append(Shape(name, *_triangles(model, geom), rgba, flat))
        return found

    def poses(self, world: int) -> tuple[np.ndarray, np.ndarray]:
        """Where the shapes are, in their order: float64 positions (S, 3) [m], unit quaternions (S, 4), w first."""
        positions, rotations = (
            self._backend.field(name)[world].cpu().double().numpy()[self._drawn] for name in ("geom_xpos", "geom_xmat")
        )
        quaternions = np.zeros((len(self._drawn), 4))
        for quaternion, rotation in zip(quaternions, rotations.reshape(-1, 9), strict=True):
            mujoco.mju_mat2Quat(quaternion, rotation)
        return positions, quaternions


def _triangles(model: Any, geom: int) -> tuple[np.ndarray, np.ndarray]:  # noqa: ANN401
    """Vertices float32 (V, 3) and faces uint32 (F, 3) of a geom in its own frame."""
    kind, size = mujoco.mjtGeom(model.geom_type[geom]), model.geom_size[geom]
    if kind == mujoco.mjtGeom.mjGEOM_MESH:
        mesh = model.geom_dataid[geom]
        vertex, face = model.mesh_vertadr[mesh], model.mesh_faceadr[mesh]
        vertices = model.mesh_vert[vertex : vertex + model.mesh_vertnum[mesh]]
        faces = model.mesh_face[face : face + model.mesh_facenum[mesh]]
        return vertices.astype(np.float32), faces.astype(np.uint32)
    if kind == mujoco.mjtGeom.mjGEOM_PLANE:
        half = [side if side > 0 else _PLANE for side in size[:2]]
        corners = np.array([[-1, -1, 0], [1, -1, 0], [1, 1, 0], [-1, 1, 0]]) * [*half, 0]
        return corners.astype(np.float32), np.array([[0, 1, 2], [0, 2, 3]], np.uint32)
    if kind == mujoco.mjtGeom.mjGEOM_BOX:
        corners = np.stack(np.meshgrid([-1, 1], [-1, 1], [-1, 1], indexing="ij"), axis=-1).reshape(-1, 3)
        return (corners * size).astype(np.float32), _SIDES[:, [[0, 1, 2], [0, 2, 3]]].reshape(-1, 3).astype(np.uint32)
    angle = np.linspace(-np.pi / 2, np.pi / 2, _ROUND // 2 + 1)
    ball = np.stack([np.cos(angle), np.sin(angle)], axis=1)  # distance from the axis, height
    if kind == mujoco.mjtGeom.mjGEOM_CYLINDER:
        vertices, faces = _turned(np.array([[0, -1], [1, -1], [1, 1], [0, 1]]) * size[:2])
    elif kind == mujoco.mjtGeom.mjGEOM_CAPSULE:
        lower, upper = ball[angle <= 0.0] * size[0], ball[angle >= 0.0] * size[0]
        vertices, faces = _turned(np.concatenate([lower - [0.0, size[1]], upper + [0.0, size[1]]]))
    elif kind == mujoco.mjtGeom.mjGEOM_ELLIPSOID:
        vertices, faces = _turned(ball)
        vertices = vertices * size
    else:
        vertices, faces = _turned(ball * size[0])
    return vertices.astype(np.float32), faces


def _turned(profile: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What a line (K, 2) of distances from the z axis and heights, upwards, draws when it turns around that axis."""
    angle = np.linspace(0.0, 2.0 * np.pi, _ROUND, endpoint=False)
    radius, height = profile[:, :1], np.broadcast_to(profile[:, 1:], (len(profile), _ROUND))
    vertices = np.stack([radius * np.cos(angle), radius * np.sin(angle), height], axis=-1).reshape(-1, 3)
    row, column = np.meshgrid(np.arange(len(profile) - 1), np.arange(_ROUND), indexing="ij")
    a, b = row * _ROUND + column, row * _ROUND + (column + 1) % _ROUND
    faces = np.stack([a, b, b + _ROUND, a, b + _ROUND, a + _ROUND], axis=-1).reshape(-1, 3)
    return vertices, faces.astype(np.uint32)
