"""The `gl` renderer: MuJoCo's classic renderer, one OpenGL context a thread."""

import copy
from collections.abc import Callable
from contextlib import nullcontext as guard
from functools import partial
from typing import Any

import mujoco
import numpy as np

from robofuse.envs.rendering import Pictures, Poses, View
from robofuse.envs.rendering.culling import Frustum
from robofuse.envs.rendering.gl_context import choose_context
from robofuse.envs.rendering.remote import RemotePainter

__all__ = ["GlPainter", "guard", "painter_factory", "plain"]

# Worlds that a process of its own draws at a time.
SLOTS = 64
# Worlds converted at a time, so that the float64 depths stay in the cache.
CHUNK = 16
# Facets of round things: they are most of the cost of a small picture. MuJoCo's own 28 and 16 cost a third more.
_SLICES, _STACKS = 24, 12


def painter_factory(
    model: mujoco.MjModel, views: tuple[View, ...], poses: Poses, num_threads: int
) -> Callable[[], "GlPainter | RemotePainter"]:
    """What makes a painter in the thread it is called in. See `make_renderer` for the arguments and errors."""
    context, shares = choose_context(), min(num_threads, len(poses.geom_xpos))
    if shares > 1 and context.__module__ == "mujoco.osmesa":
        return partial(RemotePainter, model, views, poses, min(SLOTS, -(-len(poses.geom_xpos) // shares)))
    return partial(GlPainter, model, views, poses, context)


def plain(model: mujoco.MjModel, views: tuple[View, ...]) -> mujoco.MjModel:
    """A copy of the model without all that costs time or that the ray tracer does not draw."""
    model = copy.copy(model)
    model.vis.quality.shadowsize = 0
    model.vis.quality.offsamples = 0
    model.vis.quality.numslices = _SLICES
    model.vis.quality.numstacks = _STACKS
    if (model.light_type == mujoco.mjtLightType.mjLIGHT_DIRECTIONAL).all():
        model.vis.quality.numquads = 1  # a flat face under parallel light has one colour, so one piece does
    # the whole buffer is cleared for every picture, so it is no larger than it must be
    model.vis.global_.offwidth = max(view.width for view in views)
    model.vis.global_.offheight = max(view.height for view in views)
    model.vis.headlight.specular[:] = 0.0
    model.light_specular[:] = 0.0
    model.light_castshadow[:] = False
    model.mat_specular[:] = 0.0
    model.mat_emission[:] = 0.0
    model.mat_reflectance[:] = 0.0
    model.mat_texid[:] = -1
    return model


def growth(model: mujoco.MjModel) -> np.ndarray:
    """Factors (ngeom, 3) on sizes that make round things as large as they should be.

    MuJoCo puts the corners of the facets on the surface, so all else lies inside it, by up to 2 % of the radius. Grown
    by half of that, a depth is half as wrong, and to both sides.
    """
    around, along = np.cos(np.pi / _SLICES), np.cos(np.pi / (2 * _STACKS))
    tube, ball = 2.0 / (1.0 + around), 2.0 / (1.0 + around * along)
    kinds = {
        mujoco.mjtGeom.mjGEOM_SPHERE: (ball, ball, ball),
        mujoco.mjtGeom.mjGEOM_ELLIPSOID: (ball, ball, ball),
        mujoco.mjtGeom.mjGEOM_CAPSULE: (tube, 1.0, 1.0),
        mujoco.mjtGeom.mjGEOM_CYLINDER: (tube, 1.0, 1.0),
    }
    factors = np.ones((model.ngeom, 3))
    for kind, factor in kinds.items():
        factors[model.geom_type == kind] = factor
    return factors


def _geoms_only() -> mujoco.MjvOption:
    """Draws geoms of groups 0 to 2, and none of what the ray tracer does not know; sites are drawn by default."""
    option = mujoco.MjvOption()
    for group in (option.sitegroup, option.tendongroup, option.skingroup, option.flexgroup):
        group[:] = 0
    option.geomgroup[:] = (1, 1, 1, 0, 0, 0)
    option.flags[:] = 0
    option.flags[mujoco.mjtVisFlag.mjVIS_STATIC] = 1
    return option


class GlPainter:
    """A context, a copy of the model and an `MjData`, both overwritten with one world after another."""

    def __init__(
        self, model: mujoco.MjModel, views: tuple[View, ...], poses: Poses, context: Callable[[int, int], Any]
    ) -> None:
        """Makes the context; call it and everything else on one thread.

        Args:
            model: compiled model.
            views: what to draw.
            poses: live arrays to read from.
            context: one of MuJoCo's `GLContext` classes.
        """
        self._model = plain(model, views)
        self._data = mujoco.MjData(self._model)
        mujoco.mj_forward(self._model, self._data)
        # MuJoCo draws into a buffer of its own, so the window may be tiny
        self._window = context(16, 16)
        self._window.make_current()
        self._context = mujoco.MjrContext(self._model, mujoco.mjtFontScale.mjFONTSCALE_50.value)
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN.value, self._context)
        self._context.readDepthMap = mujoco.mjtDepthMap.mjDEPTH_ZEROFAR
        self._scene = mujoco.MjvScene(self._model, maxgeom=self._model.ngeom + 16)
        self._scene.flags[:] = 0
        self._scene.flags[mujoco.mjtRndFlag.mjRND_CULL_FACE] = 1
        self._option = _geoms_only()
        self._categories = mujoco.mjtCatBit.mjCAT_STATIC.value | mujoco.mjtCatBit.mjCAT_DYNAMIC.value
        self._views = [(self._camera(view), mujoco.MjrRect(0, 0, view.width, view.height)) for view in views]
        self._poses, self._frustums = poses, [Frustum(model, view) for view in views]
        self._growth = growth(self._model)
        self._infinite = bool((model.geom_type == mujoco.mjtGeom.mjGEOM_PLANE).any())
        near, far = (np.float32(x * model.stat.extent) for x in (model.vis.map.znear, model.vis.map.zfar))
        # in float32, as OpenGL builds its projection matrix, so that its rounding is undone as well
        self._offset = np.float32(0.5) * ((far + near) / (far - near)) - np.float32(0.5)
        self._scale = np.float32(0.5) * (np.float32(2) * far * near) / (far - near)

    def paint(self, env_ids: np.ndarray, out: Pictures) -> None:
        """See `Painter.paint`."""
        model, data, scene, context = self._model, self._data, self._scene, self._context
        buffers = [
            (np.empty((CHUNK, *rgb.shape[1:]), np.uint8), np.empty((CHUNK, *depth.shape[1:]), np.float32))
            for rgb, depth in out
        ]
        for first in range(0, len(env_ids), CHUNK):
            rows = env_ids[first : first + CHUNK]
            each = self._copies(rows)
            # what a view cannot see gets no colour, and MuJoCo leaves it out
            colours = [self._poses.geom_rgba[rows] for _ in self._views]
            for colour, frustum in zip(colours, self._frustums, strict=True):
                colour[..., 3] *= frustum.sees(self._poses, rows)
            for slot in range(len(rows)):
                for store, values in each:
                    store[:] = values[slot]
                for (camera, rect), (rgb, depth), colour in zip(self._views, buffers, colours, strict=True):
                    model.geom_rgba[:] = colour[slot]
                    if self._infinite:  # an infinite plane is laid out around where the scene's camera is
                        mujoco.mjv_updateCamera(model, data, camera, scene)
                    mujoco.mjv_updateScene(model, data, self._option, None, camera, self._categories, scene)
                    mujoco.mjr_render(rect, scene, context)
                    mujoco.mjr_readPixels(rgb[slot], depth[slot], rect, context)
            n, stop = len(rows), first + len(rows)
            for (rgb, depth), (pixels, z) in zip(out, buffers, strict=True):
                # OpenGL's rows start at the bottom
                rgb[first:stop] = pixels[:n, ::-1]
                depth[first:stop] = self._metres(z[:n, ::-1])

    def close(self) -> None:
        """See `Painter.close`."""
        self._window.make_current()
        self._context.free()
        self._window.free()

    def _copies(self, rows: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
        """(MuJoCo's array, values (n, …)) of what differs between these worlds; what they share is copied at once.

        The threads take turns at Python: the fewer steps a world needs, the less they wait for each other.
        """
        differing = []
        for name, live in self._poses._asdict().items():
            if name == "geom_rgba":  # differs from view to view as well
                continue
            store, values = getattr(self._model if name == "geom_size" else self._data, name), live[rows]
            if name == "geom_size":
                values = values * self._growth
            if (values == values[0]).all():
                store[:] = values[0]
            else:
                differing.append((store, values))
        return differing

    def _camera(self, view: View) -> mujoco.MjvCamera:
        camera = mujoco.MjvCamera()
        camera.type = mujoco.mjtCamera.mjCAMERA_FIXED
        camera.fixedcamid = self._model.camera(view.camera).id
        return camera

    def _metres(self, z: np.ndarray) -> np.ndarray:
        """Depth buffer values, 0 at the far plane and 1 at the near one, to metres; float64 on the way."""
        return np.where(z > 0.0, np.float64(self._scale) / (z + np.float64(self._offset)), 0.0)
