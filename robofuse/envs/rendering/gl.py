"""The `gl` renderer: MuJoCo's classic renderer, one OpenGL context a painter.

A GPU draws on threads. OpenGL in software draws in processes of its own; started as a program, this module is one.
"""

import copy
import ctypes
import functools
import glob
import importlib
import os
import warnings
from collections.abc import Callable
from contextlib import nullcontext as guard
from functools import partial
from typing import Any, NamedTuple

import mujoco
import numpy as np

from robofuse.envs.rendering.base import Painter, Poses, Take, View
from robofuse.envs.rendering.threads import ProcessPainter, serve
from robofuse.errors import StateError

__all__ = ["GlPainter", "OpenGL", "choose_opengl", "guard", "painter_factory"]

# Worlds that a process of its own draws at a time.
SLOTS = 64
# Worlds converted at a time, so that the float64 depths stay in the cache.
CHUNK = 16
# Facets of round things: they are most of the cost of a small picture. MuJoCo's own 28 and 16 cost a third more.
_SLICES, _STACKS = 24, 12


def painter_factory(
    model: mujoco.MjModel, views: tuple[View, ...], poses: Poses, num_threads: int
) -> Callable[[], Painter]:
    """What makes a painter in the thread it is called in. See `make_renderer` for the arguments and errors."""
    opengl, num_envs = choose_opengl(), len(poses.geom_xpos)
    shares = min(num_threads, num_envs)
    if shares > 1 and opengl.software:
        slots = min(SLOTS, -(-num_envs // shares))
        return partial(ProcessPainter, __name__, {"MUJOCO_GL": opengl.backend}, model, views, poses, slots)
    return partial(GlPainter, model, views, poses, opengl.context)


def _simplified(model: mujoco.MjModel, views: tuple[View, ...]) -> mujoco.MjModel:
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


def _growth(model: mujoco.MjModel) -> np.ndarray:
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
        self._model = self._prepared(model, views)
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
        self._buffers = [
            (np.empty((CHUNK, *size, 3), np.uint8), np.empty((CHUNK, *size), np.float32))
            for size in ((view.height, view.width) for view in views)
        ]
        self._poses, self._frustums = poses, [Frustum(model, view) for view in views]
        self._growth = _growth(self._model)
        self._infinite = bool((model.geom_type == mujoco.mjtGeom.mjGEOM_PLANE).any())
        near, far = (np.float32(x * model.stat.extent) for x in (model.vis.map.znear, model.vis.map.zfar))
        # in float32, as OpenGL builds its projection matrix, so that its rounding is undone as well
        self._offset = np.float32(0.5) * ((far + near) / (far - near)) - np.float32(0.5)
        self._scale = np.float32(0.5) * (np.float32(2) * far * near) / (far - near)

    def _prepared(self, model: mujoco.MjModel, views: tuple[View, ...]) -> mujoco.MjModel:
        return _simplified(model, views)

    def paint(self, env_ids: np.ndarray, take: Take) -> None:
        """See `Painter.paint`."""
        model, data, scene, context = self._model, self._data, self._scene, self._context
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
                for (camera, rect), (rgb, depth), colour in zip(self._views, self._buffers, colours, strict=True):
                    model.geom_rgba[:] = colour[slot]
                    if self._infinite:  # an infinite plane is laid out around where the scene's camera is
                        mujoco.mjv_updateCamera(model, data, camera, scene)
                    mujoco.mjv_updateScene(model, data, self._option, None, camera, self._categories, scene)
                    mujoco.mjr_render(rect, scene, context)
                    mujoco.mjr_readPixels(rgb[slot], depth[slot], rect, context)
            n = len(rows)
            # OpenGL's rows start at the bottom
            take(first, first + n, [(rgb[:n, ::-1], self._metres(z[:n, ::-1])) for rgb, z in self._buffers])

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
            if len(rows) == 1 or (values == values[0]).all():
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
        return np.where(z > 0.0, np.float64(self._scale) / (z + np.float64(self._offset)), 0.0).astype(np.float32)


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


_LIBRARIES = {
    "egl": ("libEGL.so.1", "libEGL.so"),
    "osmesa": ("libOSMesa.so.8", "libOSMesa.so.6", "libOSMesa.so"),
    "glfw": (),
}
_SOFTWARE = ("llvmpipe", "softpipe", "swrast", "mesa offscreen")  # Mesa's rasterisers, one a process, behind a lock
_GPU_NODES = ("/dev/nvidia0", "/dev/dri/renderD*")


def _library_loads(backend: str) -> str:
    """Why the back end's library does not load; empty if it does."""
    why = ""
    for name in _LIBRARIES[backend]:
        try:
            ctypes.CDLL(name)
            return ""
        except OSError as error:
            why = why or str(error)
    return why


def _candidates() -> list[str]:
    """Back ends to try, best first; the user's `MUJOCO_GL` alone if it is set.

    Raises:
        StateError: `MUJOCO_GL` names none that draws off screen.
    """
    asked = os.environ.get("MUJOCO_GL", "").lower().strip()
    if asked:
        if asked not in _LIBRARIES:
            raise StateError(
                f'renderer="gl" cannot use MUJOCO_GL={asked}; set it to egl, osmesa or glfw, or unset it; '
                'or use renderer="warp", which needs none of them'
            )
        return [asked]
    if any(glob.glob(node) for node in _GPU_NODES):
        return ["egl", "osmesa"]
    return ["osmesa", "egl"]


class OpenGL(NamedTuple):
    """An OpenGL that works here.

    Attributes:
        backend: egl, osmesa or glfw.
        context: MuJoCo's `GLContext` class for it (width, height).
        rasteriser: what draws, as the driver calls it: a GPU, or `llvmpipe`, which is Mesa on the CPU.
    """

    backend: str
    context: Callable[[int, int], Any]
    rasteriser: str

    @property
    def software(self) -> bool:
        """Whether the CPU draws; EGL without a GPU gives Mesa's rasterisers as OSMesa does."""
        return any(name in self.rasteriser.lower() for name in _SOFTWARE)


@functools.cache
def choose_opengl() -> OpenGL:
    """The first back end that works; the same for the whole process.

    Raises:
        StateError: none works; says what was tried, why each failed, and what to install.
    """
    # Mesa's threads only get in the way of ours. Read when the library makes its first context.
    os.environ.setdefault("LP_NUM_THREADS", "0")
    failures = []
    platform = os.environ.get("PYOPENGL_PLATFORM")
    for backend in _candidates():
        # PyOpenGL keeps the first platform it is imported with, so look before importing
        if why := _library_loads(backend):
            failures.append(f"{backend}: {why}")
            continue
        try:
            return _try(backend)
        except Exception as error:  # PyOpenGL raises nearly anything where a driver is odd
            failures.append(f"{backend}: {type(error).__name__}: {error}")
            if platform is None:
                os.environ.pop("PYOPENGL_PLATFORM", None)
    raise StateError(
        'renderer="gl" found no OpenGL that works without a screen. Tried ' + "; ".join(failures) + ". "
        "Install one: apt-get install libosmesa6 (software) or libegl1 (a GPU's own driver); "
        'or use renderer="warp", which needs neither'
    )


def _try(backend: str) -> OpenGL:
    module = importlib.import_module(f"mujoco.{backend}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # GLFW's; said below
        context = module.GLContext(16, 16)
        try:
            context.make_current()
            # without a screen GLFW only warns, and MuJoCo then hangs on a context that is not there
            if backend == "glfw" and not module.glfw.get_current_context():
                raise StateError("it makes no window; DISPLAY names no screen that works")
            from OpenGL.raw.GL.VERSION.GL_1_0 import GL_RENDERER, glGetString  # for the library that is loaded now

            name: Any = glGetString(GL_RENDERER)
            rasteriser = ctypes.cast(name, ctypes.c_char_p).value or b""
        finally:
            context.free()
    return OpenGL(backend, module.GLContext, rasteriser.decode(errors="replace"))


if __name__ == "__main__":
    serve(lambda model, views, poses: GlPainter(model, views, poses, choose_opengl().context))
