"""The physics by mujoco_warp: N simulations as arrays of Warp, in 32 bits.

So far on Warp's CPU device, whose kernels are one thread: it proves that a GPU would compute the same, and is slow.
"""

import copy
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

import mujoco
import numpy as np
import torch
from torch import Tensor

from robofuse.envs.physics.warp import compiling, import_warp, on_device
from robofuse.envs.rendering.base import View
from robofuse.envs.rendering.ray import make_context
from robofuse.errors import InputError

# room per world; Grasp with either robot needs 16 contacts and 64 constraints at most
_CONTACTS, _CONSTRAINTS = 48, 160
# what `set_const` makes of the parameters that a task may write, and so differs between worlds too
_DERIVED = (
    *("body_subtreemass", "body_invweight0", "dof_invweight0", "tendon_invweight0", "tendon_length0"),
    *("geom_aabb", "geom_rbound", "actuator_acc0", "eq_data"),
    *("cam_pos0", "cam_poscom0", "cam_mat0", "light_pos0", "light_poscom0", "light_dir0"),
)
# all that the rest of a world's data follows from
_INPUTS = ("qpos", "qvel", "act", "ctrl", "mocap_pos", "mocap_quat", "qacc_warmstart")
_HUGE = 1e10  # MuJoCo's mjMAXVAL: beyond it a state counts as diverged
_STATE = {
    "qpos": "BADQPOS: NaN, Inf or huge position",
    "qvel": "BADQVEL: NaN, Inf or huge velocity",
    "ctrl": "BADCTRL: NaN, Inf or huge control",  # mujoco_warp goes on with another one
}


class WarpBackend:
    """`Backend` by mujoco_warp. Fields and parameters are float32."""

    def __init__(self, model: mujoco.MjModel, num_envs: int, substeps: int) -> None:
        """Allocates N simulations; all start in the model's default state.

        Args:
            model: compiled model.
            num_envs: N.
            substeps: physics steps per control step.

        Raises:
            InputError: the model has something that mujoco_warp cannot simulate, which the message names.
            StateError: mujoco_warp is missing.
        """
        self._warp, self._mjwarp = import_warp("this physics")
        self.model, self.num_envs = model, num_envs
        self.device, self.dtype = torch.device("cpu"), torch.float32
        self._substeps = substeps
        self._fields: dict[str, Tensor] = {}
        self._parameters: list[str] = []
        with on_device():
            try:
                self._model: Any = self._mjwarp.put_model(model, dict.fromkeys(_DERIVED, num_envs))
            except NotImplementedError as error:
                raise InputError(f"mujoco_warp cannot simulate this model: {error}") from None
            self._data: Any = self._mjwarp.make_data(model, num_envs, nconmax=_CONTACTS, njmax=_CONSTRAINTS)
        kinds = self._mjwarp.OverflowType
        self._model.opt.warn_overflow = kinds.NONE  # reported by world instead of printed
        # a solver that stops at its number of iterations is nothing lost
        self._overflows = {int(kind): kind.name for kind in kinds if kind.name not in ("ITERATIONS", "LS_ITERATIONS")}
        self._resetting = torch.zeros(num_envs, dtype=torch.bool)
        self.readings = torch.zeros(num_envs, substeps, model.nsensordata)

    def field(self, name: str) -> Tensor:
        """See `Backend.field`; float32 (integers for counts)."""
        return self._tensor(self._data, name)

    def array(self, name: str) -> Tensor:
        """See `Backend.array`."""
        return self.field(name)

    def parameter(self, name: str) -> Tensor:
        """See `Backend.parameter`; float32."""
        if name not in self._fields:
            batched = {f.name for f in fields(self._model) if getattr(f.type, "shape", ("",))[:1] == ("*",)}
            if name not in batched:
                raise InputError(f"in mujoco_warp {name!r} cannot differ between worlds")
            shared = getattr(self._model, name)
            if shared.shape[0] != self.num_envs:
                many = np.repeat(shared.numpy(), self.num_envs, axis=0)
                with on_device():
                    each = self._warp.array(many, dtype=shared.dtype, shape=(self.num_envs, *shared.shape[1:]))
                each._is_batched = True  # as `put_model` marks those that it is told of
                setattr(self._model, name, each)
            self._parameters.append(name)
        return self._tensor(self._model, name)

    def reset(self, env_ids: Tensor) -> None:
        """See `Backend.reset`."""
        self._resetting.zero_()
        self._resetting[env_ids] = True
        with on_device(), compiling("the physics"):
            self._mjwarp.reset_data(self._model, self._data, self._warp.from_torch(self._resetting))
        self.readings[env_ids] = 0.0

    def commit(self, env_ids: Tensor) -> dict[int, str]:
        """See `Backend.commit`."""
        with on_device(), compiling("the physics"):
            # of all worlds, but those that were not written to keep their state, and `readings` what they had read
            self._mjwarp.set_const(self._model, self._data)
            self._mjwarp.forward(self._model, self._data)
        self.readings[env_ids] = self.field("sensordata")[env_ids][:, None]
        refused = self._errors()
        masses, here = self.parameter("body_mass")[:, 1:], set(env_ids.tolist())
        for world in (~(masses.isfinite() & (masses >= 0)).all(1)).nonzero()[:, 0].tolist():
            refused.setdefault(world, "a body's mass is negative, NaN or Inf")
        return {world: cause for world, cause in refused.items() if world in here}

    def step(self) -> dict[int, str]:
        """See `Backend.step`."""
        mjwarp, model, data = self._mjwarp, self._model, self._data
        sensors = self.field("sensordata")
        with on_device(), compiling("the physics"):
            for substep in range(self._substeps):
                mjwarp.step(model, data)
                self.readings[:, substep] = sensors
            # positions of the new state; forces keep describing the last substep
            mjwarp.kinematics(model, data)
            mjwarp.com_pos(model, data)
            mjwarp.camlight(model, data)
        return self._errors()

    def look_through(self, views: Sequence[View]) -> None:
        """See `Draws.look_through`."""
        with on_device(), compiling("the ray tracer"):
            self._context: Any = make_context(self.model, views, self.num_envs)
        packed = self._warp.to_torch(self._context.rgb_data).view(torch.uint8).view(self.num_envs, -1, 4)
        metres = self._warp.to_torch(self._context.depth_data)
        self._pictures, start = [], 0
        for view in views:
            stop = start + view.height * view.width
            shape = (self.num_envs, view.height, view.width)
            # the bytes of a pixel are B, G, R, A in memory
            self._pictures.append((packed[:, start:stop].view(*shape, 4), metres[:, start:stop].view(shape)))
            start = stop

    def draw(self) -> list[tuple[Tensor, Tensor]]:
        """See `Draws.draw`: by mujoco_warp's ray tracer."""
        with on_device(), compiling("the ray tracer"):
            self._mjwarp.refit_bvh(self._model, self._data, self._context)
            self._mjwarp.render(self._model, self._data, self._context)
        return [(pixels[..., [2, 1, 0]], metres) for pixels, metres in self._pictures]

    def snapshot(self, world: int, data: mujoco.MjData | None = None) -> tuple[mujoco.MjModel, mujoco.MjData]:
        """See `Backend.snapshot`."""
        model = copy.copy(self.model)
        for name in self._parameters:
            values = getattr(model, name)
            values[:] = self._fields[name][world].numpy().reshape(values.shape)
        data = mujoco.MjData(model) if data is None else data
        mujoco.mj_setConst(model, data)
        for name in _INPUTS:
            values = getattr(data, name)
            values[:] = self.field(name)[world].numpy().reshape(values.shape)
        mujoco.mj_forward(model, data)
        return model, data

    def _errors(self) -> dict[int, str]:
        """What went wrong in which world since it was last asked."""
        errors: dict[int, str] = {}
        for name, cause in _STATE.items():
            values = self.field(name)
            wrong = ~(values.abs() < _HUGE).all(1)  # NaN is not smaller either
            for world in wrong.nonzero()[:, 0].tolist():
                errors.setdefault(world, cause)
        overflow = self.field("overflow")
        for world in overflow.nonzero()[:, 0].tolist():
            found = [name for bit, name in self._overflows.items() if int(overflow[world]) & bit]
            if found:
                errors.setdefault(world, f"no room in mujoco_warp for more: {', '.join(found)}")
        overflow.zero_()
        return errors

    def _tensor(self, source: Any, name: str) -> Tensor:  # noqa: ANN401
        if name not in self._fields:
            view = self._warp.to_torch(getattr(source, name))
            # matrices in rows, as MuJoCo has them
            self._fields[name] = view.flatten(2) if view.dim() > 3 else view
        return self._fields[name]
