"""Which of MuJoCo's OpenGL back ends works on this machine."""

import ctypes
import functools
import glob
import importlib
import os
import warnings
from collections.abc import Callable
from typing import Any

from robofuse.errors import StateError

_LIBRARIES = {
    "egl": ("libEGL.so.1", "libEGL.so"),
    "osmesa": ("libOSMesa.so.8", "libOSMesa.so.6", "libOSMesa.so"),
    "glfw": (),
}
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


def candidates() -> list[str]:
    """Back ends to try, best first; the user's `MUJOCO_GL` alone if it is set.

    Raises:
        RuntimeError: `MUJOCO_GL` names none that draws off screen.
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


@functools.cache
def choose_context() -> Callable[[int, int], Any]:
    """MuJoCo's `GLContext` class (width, height) of the first back end that works; the same for the whole process.

    Raises:
        RuntimeError: none works; says what was tried, why each failed, and what to install.
    """
    # Mesa's threads only get in the way of ours. Read when the library makes its first context.
    os.environ.setdefault("LP_NUM_THREADS", "0")
    failures = []
    platform = os.environ.get("PYOPENGL_PLATFORM")
    for backend in candidates():
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


def _try(backend: str) -> Callable[[int, int], Any]:
    module = importlib.import_module(f"mujoco.{backend}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # GLFW's; said below
        context = module.GLContext(16, 16)
        try:
            context.make_current()
            # without a screen GLFW only warns, and MuJoCo then hangs on a context that is not there
            if backend == "glfw" and not module.glfw.get_current_context():
                raise StateError("it makes no window; DISPLAY names no screen that works")
        finally:
            context.free()
    return module.GLContext
