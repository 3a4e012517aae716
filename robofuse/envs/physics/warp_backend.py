"""The physics by mujoco_warp: N simulations as arrays of Warp, in 32 bits, on a GPU or on one thread of the CPU."""

import copy
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import fields
from typing import Any

import mujoco
import numpy as np
import torch
from torch import Tensor

from robofuse.envs.physics.warp import Recorded, check_device, import_warp, on_device
from robofuse.envs.rendering.base import View
from robofuse.envs.rendering.ray import RayTracer
from robofuse.errors import InputError
from robofuse.tensors import write

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
_MASS = "a body's mass is negative, NaN or Inf"
_STATE = {
    "qpos": "BADQPOS: NaN, Inf or huge position",
    "qvel": "BADQVEL: NaN, Inf or huge velocity",
    "ctrl": "BADCTRL: NaN, Inf or huge control",  # mujoco_warp goes on with another one
}


class WarpBackend:
    """`Backend` by mujoco_warp. Fields and parameters are float32."""

    def __init__(self, model: mujoco.MjModel, num_envs: int, substeps: int, device: torch.device | str = "cpu") -> None:
        """Allocates N simulations; all start in the model's default state.

        Args:
            model: compiled model.
            num_envs: N.
            substeps: physics steps per control step.
            device: a CPU, or a GPU with its number.

        Raises:
            InputError: the model has something that mujoco_warp cannot simulate, which the message names.
            StateError: mujoco_warp is missing, or cannot use the GPU.
        """
        self._warp, self._mjwarp = import_warp("this physics")
        self.model, self.num_envs = model, num_envs
        self.device, self.dtype, self.by_mask = torch.device(device), torch.float32, True
        self._on = str(self.device)
        check_device(self.device)
        self._substeps = substeps
        self._fields: dict[str, Tensor] = {}
        self._parameters: list[str] = []
        with on_device(self._on):
            try:
                self._model: Any = self._mjwarp.put_model(model, dict.fromkeys(_DERIVED, num_envs))
            except (NotImplementedError, ValueError) as error:
                raise InputError(f"mujoco_warp cannot simulate this model: {error}") from None
            self._data: Any = self._mjwarp.make_data(model, num_envs, nconmax=_CONTACTS, njmax=_CONSTRAINTS)
            self._beginning = self._warp.zeros(num_envs, dtype=bool)
            self._read = self._warp.zeros((substeps, num_envs, model.nsensordata), dtype=float)
        if self.device.type == "cuda":
            self._model.opt.graph_conditional = self._warp.is_conditional_graph_supported()
            self._model.opt.deterministic = torch.are_deterministic_algorithms_enabled()
        kinds = self._mjwarp.OverflowType
        self._model.opt.warn_overflow = kinds.NONE  # reported by world instead of printed
        # a solver that stops at its number of iterations is nothing lost
        overflows = {int(kind): kind.name for kind in kinds if kind.name not in ("ITERATIONS", "LS_ITERATIONS")}
        # failure is a sum of bits: the states, the masses, and what mujoco_warp has no room for
        room = {bit: f"no room in mujoco_warp for more: {name}" for bit, name in overflows.items()}
        self._overflows, first = sum(overflows), max(overflows).bit_length()
        self._bits = {1 << first + k: cause for k, cause in enumerate((*_STATE.values(), _MASS))} | room
        self.failure = torch.zeros(num_envs, dtype=torch.int64, device=self.device)
        self._all = torch.arange(num_envs, device=self.device)
        self._before: dict[str, Tensor] | None = None  # what to put back of the worlds that do not begin
        self.readings = self._warp.to_torch(self._read).transpose(0, 1)
        self._mask = self._warp.to_torch(self._beginning)
        self._tracer: RayTracer | None = None
        self._reset, self._derive, self._advance = self._graphs = [
            Recorded(self._on, "the physics", launch)
            for launch in (self._launch_reset, self._launch_derive, self._launch_step)
        ]

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
                with on_device(self._on):
                    each = self._warp.array(many, dtype=shared.dtype, shape=(self.num_envs, *shared.shape[1:]))
                each._is_batched = True  # as `put_model` marks those that it is told of
                setattr(self._model, name, each)
                for graph in (*self._graphs, *([self._tracer] if self._tracer else [])):
                    graph.forget()
            self._parameters.append(name)
            if self._before is not None:
                self._before[name] = self._tensor(self._model, name).clone()
        return self._tensor(self._model, name)

    @contextmanager
    def begin(self, worlds: Tensor) -> Iterator[Tensor]:
        """See `Backend.begin`."""
        worlds = self._masked(worlds)
        self._mask.copy_(worlds)
        self._reset()
        self._before = {name: self.field(name).clone() for name in _INPUTS}
        self._before |= {name: self._fields[name].clone() for name in self._parameters}
        yield self._all
        for name, before in self._before.items():
            write(self._fields[name], ~worlds, before)
        self._before = None
        self.commit(worlds)

    def commit(self, worlds: Tensor) -> None:
        """See `Backend.commit`."""
        worlds = self._masked(worlds)
        # of all worlds, but those that were not written to keep their state, and `readings` what they had read
        self._derive()
        write(self.readings, worlds, self.field("sensordata")[:, None])
        write(self.failure, worlds, 0)
        self._watch()

    def step(self) -> None:
        """See `Backend.step`."""
        self._advance()
        self._watch()

    def _launch_reset(self) -> None:
        self._mjwarp.reset_data(self._model, self._data, self._beginning)

    def _launch_derive(self) -> None:
        self._mjwarp.set_const(self._model, self._data)
        self._mjwarp.forward(self._model, self._data)

    def _launch_step(self) -> None:
        mjwarp, model, data = self._mjwarp, self._model, self._data
        for substep in range(self._substeps):
            mjwarp.step(model, data)
            self._warp.copy(self._read[substep], data.sensordata)
        # positions of the new state; forces keep describing the last substep
        mjwarp.kinematics(model, data)
        mjwarp.com_pos(model, data)
        mjwarp.camlight(model, data)

    def cause(self, failure: int) -> str:
        """See `Backend.cause`."""
        return next(cause for bit, cause in self._bits.items() if failure & bit)

    def look_through(self, views: Sequence[View]) -> None:
        """See `Draws.look_through`."""
        self._tracer = RayTracer(self._on, self.model, (self._model, self._data), views, self.num_envs)

    def draw(self) -> list[tuple[Tensor, Tensor]]:
        """See `Draws.draw`."""
        assert self._tracer is not None
        return self._tracer.draw()

    def snapshot(self, world: int, data: mujoco.MjData | None = None) -> tuple[mujoco.MjModel, mujoco.MjData]:
        """See `Backend.snapshot`."""
        model = copy.copy(self.model)
        for name in self._parameters:
            values = getattr(model, name)
            values[:] = self._fields[name][world].cpu().numpy().reshape(values.shape)
        data = mujoco.MjData(model) if data is None else data
        mujoco.mj_setConst(model, data)
        for name in _INPUTS:
            values = getattr(data, name)
            values[:] = self.field(name)[world].cpu().numpy().reshape(values.shape)
        mujoco.mj_forward(model, data)
        return model, data

    def _masked(self, worlds: Tensor) -> Tensor:
        if worlds.dtype == torch.bool:
            return worlds
        return torch.zeros(self.num_envs, dtype=torch.bool, device=self.device).index_fill_(0, worlds, True)

    def _watch(self) -> None:
        """Notes in `failure` what went wrong since it was last called, without a look at it."""
        masses, overflow = self.parameter("body_mass")[:, 1:], self.field("overflow")
        wrong = [~(self.field(name).abs() < _HUGE).all(1) for name in _STATE]  # NaN is not smaller either
        wrong.append(~(masses.isfinite() & (masses >= 0)).all(1))
        found = overflow.long() & self._overflows
        for bit, worlds in zip(self._bits, wrong, strict=False):
            found = found | worlds.long() * bit
        self.failure |= found
        overflow.zero_()

    def _tensor(self, source: Any, name: str) -> Tensor:  # noqa: ANN401
        if name not in self._fields:
            view = self._warp.to_torch(getattr(source, name))
            # matrices in rows, as MuJoCo has them
            self._fields[name] = view.flatten(2) if view.dim() > 3 else view
        return self._fields[name]
