"""The `warp` renderer: mujoco_warp's ray tracer, for worlds on a CPU in threads, for others on their device."""

import copy
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import mujoco
import numpy as np
import torch
from torch import Tensor

from robofuse.envs.physics.warp import Recorded, compiling, import_warp
from robofuse.envs.physics.warp import on_device as guard
from robofuse.envs.rendering.base import Pictures, Poses, Take, View
from robofuse.errors import InputError

# Worlds a context holds. More are drawn in turns, so memory does not grow with N.
SLOTS = 32
__all__ = ["SLOTS", "RayPainter", "RayTracer", "guard", "painter_factory"]


def painter_factory(
    model: mujoco.MjModel, views: tuple[View, ...], poses: Poses, num_threads: int
) -> Callable[[], "RayPainter"]:
    """What makes a painter in the thread it is called in. See `make_renderer` for the arguments and errors."""
    import_warp('renderer="warp"')
    share = -(-len(poses.geom_xpos) // num_threads)
    return partial(RayPainter, model, views, poses, min(SLOTS, share))


def put_drawn(model: mujoco.MjModel, sizes: Mapping[str, int]) -> Any:  # noqa: ANN401
    """The model in mujoco_warp to draw, and never to step: a solver that it has not does not matter.

    Args:
        model: compiled model.
        sizes: fields that differ between worlds, and the number of worlds.

    Raises:
        InputError: the model has something else that mujoco_warp has not, which the message names.
    """
    import mujoco_warp

    still = copy.copy(model)
    still.opt.solver, still.opt.integrator = mujoco.mjtSolver.mjSOL_NEWTON, mujoco.mjtIntegrator.mjINT_EULER
    still.opt.jacobian, still.opt.noslip_iterations = mujoco.mjtJacobian.mjJAC_AUTO, 0
    still.opt.disableflags = still.opt.enableflags = 0
    try:
        return mujoco_warp.put_model(still, dict(sizes))
    except (NotImplementedError, ValueError) as error:
        raise InputError(f'mujoco_warp cannot draw this model: {error}; use device="cpu" and renderer="gl"') from None


def make_context(model: mujoco.MjModel, views: Sequence[View], num_envs: int) -> Any:  # noqa: ANN401
    """What mujoco_warp draws these views of N worlds into: `rgb_data`, packed, and `depth_data`, in metres."""
    import mujoco_warp

    return mujoco_warp.create_render_context(
        model,
        nworld=num_envs,
        cam_active=[view.camera for view in views],
        cam_res=[(view.width, view.height) for view in views],
        render_rgb=[True] * len(views),
        render_depth=[True] * len(views),
        render_seg=[False] * len(views),
        use_textures=False,
        use_shadows=False,
        enabled_geom_groups=[0, 1, 2],
        enable_specular=False,
        enable_emission=False,
        enable_per_light_ambient=bool(np.any(model.light_ambient)),
    )


class RayTracer:
    """Draws N worlds whose poses are Warp's arrays already, on their device, without copies."""

    def __init__(
        self, device: str, model: mujoco.MjModel, arrays: tuple[Any, Any], views: Sequence[View], num_envs: int
    ) -> None:
        """Makes room for the pictures; `arrays` are mujoco_warp's model and data of the worlds."""
        warp, mujoco_warp = import_warp("this renderer")
        self._draw = Recorded(device, "the ray tracer", self._launch)
        self._mjwarp, self._arrays = mujoco_warp, arrays
        with guard(device), compiling("the ray tracer"):
            self._context = make_context(model, views, num_envs)
        packed = warp.to_torch(self._context.rgb_data).view(torch.uint8).view(num_envs, -1, 4)
        metres = warp.to_torch(self._context.depth_data)
        self._pictures, start = [], 0
        for view in views:
            stop, shape = start + view.height * view.width, (num_envs, view.height, view.width)
            # the bytes of a pixel are B, G, R, A in memory
            self._pictures.append((packed[:, start:stop].view(*shape, 4), metres[:, start:stop].view(shape)))
            start = stop

    def draw(self) -> list[tuple[Tensor, Tensor]]:
        """See `Draws.draw`."""
        self._draw()
        return [(pixels[..., :3].flip(-1), metres) for pixels, metres in self._pictures]

    def forget(self) -> None:
        """To be called after an array of the model has been replaced."""
        self._draw.forget()

    def _launch(self) -> None:
        self._mjwarp.refit_bvh(*self._arrays, self._context)
        self._mjwarp.render(*self._arrays, self._context)


class RayPainter:
    """One render context and the slots its worlds are copied into.

    The whole path is numpy views of Warp's CPU arrays.
    """

    def __init__(self, model: mujoco.MjModel, views: tuple[View, ...], poses: Poses, slots: int) -> None:
        """Builds the context and draws once, which compiles the kernels if this machine never has; within `guard`.

        Args:
            model: compiled model.
            views: what to draw.
            poses: live arrays to read from.
            slots: worlds drawn at a time.
        """
        _, mujoco_warp = import_warp('renderer="warp"')
        self._poses = poses
        self._slots = slots
        self._draw = mujoco_warp.render
        self._refit = mujoco_warp.refit_bvh
        with compiling("the ray tracer"):
            self._model: Any = put_drawn(model, {"geom_size": slots, "geom_rgba": slots})
            # never stepped, so room for one contact does
            self._data: Any = mujoco_warp.make_data(model, nworld=slots, nconmax=1, njmax=1)
            self._context: Any = make_context(model, views, slots)
            self._inputs, self._outputs = self._views(views)
            self._fill(np.zeros(slots, np.int64))
            self._run(slots)

    def paint(self, env_ids: np.ndarray, take: Take) -> None:
        """See `Painter.paint`."""
        for start in range(0, len(env_ids), self._slots):
            rows = env_ids[start : start + self._slots]
            self._fill(rows)
            self._run(len(rows))
            drawn = []
            for packed, metres in self._outputs:
                rgb = np.empty((len(rows), *packed.shape[1:3], 3), np.uint8)
                for channel in range(3):  # one by one is five times as fast as a reversed slice
                    rgb[..., channel] = packed[: len(rows), ..., 2 - channel]
                drawn.append((rgb, metres[: len(rows)]))
            take(start, start + len(rows), drawn)

    def close(self) -> None:
        """See `Painter.close`."""
        self._inputs, self._outputs = [], []
        self._context = self._data = self._model = None

    def _views(self, views: tuple[View, ...]) -> tuple[list[tuple[np.ndarray, np.ndarray]], Pictures]:
        """(slot array, live array) for every input, and (bytes, metres) for every view."""
        stores = {"geom_size": self._model, "geom_rgba": self._model}
        inputs = []
        for name, live in zip(Poses._fields, self._poses, strict=True):
            slot = getattr(stores.get(name, self._data), name).numpy()
            inputs.append((slot.reshape(self._slots, *live.shape[1:]), live))
        packed, metres = self._context.rgb_data.numpy(), self._context.depth_data.numpy()
        outputs, start = [], 0
        for view in views:
            shape, stop = (self._slots, view.height, view.width), start + view.height * view.width
            # the bytes of a pixel are B, G, R, A in memory; splitting an axis makes views, not copies
            pixels = packed.view(np.uint8).reshape(self._slots, -1, 4)[:, start:stop].reshape(*shape, 4)
            outputs.append((pixels, metres[:, start:stop].reshape(shape)))
            start = stop
        return inputs, outputs

    def _fill(self, rows: np.ndarray) -> None:
        for slot, live in self._inputs:
            slot[: len(rows)] = live[rows]

    def _run(self, count: int) -> None:
        # the number of worlds is the size of the launch: slots beyond it are not drawn
        self._data.nworld = count
        self._refit(self._model, self._data, self._context)
        self._draw(self._model, self._data, self._context)
