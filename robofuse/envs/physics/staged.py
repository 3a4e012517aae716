"""MuJoCo on CPU threads for worlds that live on another device, where they are drawn and learned from.

For robots that mujoco_warp cannot simulate, or that need 64 bits. The device waits for the physics at every step.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import mujoco
import torch
from torch import Tensor

from robofuse.envs.physics.backend import CpuBackend
from robofuse.envs.physics.warp import check_device, import_warp, on_device
from robofuse.envs.rendering.base import FIXED, MOVING, View
from robofuse.envs.rendering.ray import RayTracer, put_drawn

_INPUTS = ("qpos", "qvel", "act", "ctrl", "mocap_pos", "mocap_quat")


class StagedBackend:
    """`Backend` by MuJoCo with its fields on another device, as float32 copies that follow every step."""

    def __init__(
        self,
        model: mujoco.MjModel,
        num_envs: int,
        substeps: int,
        device: torch.device | str,
        num_threads: int | None = None,
    ) -> None:
        """Allocates N simulations, as `CpuBackend`; `device` is where their tensors are."""
        self._cpu = CpuBackend(model, num_envs, substeps, num_threads)
        self.model, self.num_envs = model, num_envs
        self.device, self.dtype, self.by_mask = torch.device(device), torch.float32, False
        self._staged: dict[str, Tensor] = {}  # copies here, whose memory the device can read by itself
        self._there: dict[str, Tensor] = {}
        self._parameters: list[str] = []
        self._tracer: RayTracer | None = None
        self.readings = self._mirror("readings", self._cpu.readings)
        self.failure = self._mirror("failure", self._cpu.failure)
        for name in _INPUTS:
            self.field(name)

    def field(self, name: str) -> Tensor:
        """See `Backend.field`; float32 (integers for counts)."""
        return self._there[name] if name in self._there else self._mirror(name, self._cpu.field(name))

    def array(self, name: str) -> Tensor:
        """See `Backend.array`."""
        return self.field(name)

    def parameter(self, name: str) -> Tensor:
        """See `Backend.parameter`; float32."""
        if name not in self._there:
            self._mirror(name, self._cpu.parameter(name))
            self._parameters.append(name)
        return self._there[name]

    @contextmanager
    def begin(self, worlds: Tensor) -> Iterator[Tensor]:
        """See `Backend.begin`."""
        with self._cpu.begin(worlds.cpu()):
            self._send()
            yield worlds
            self._fetch()
        self._send()

    def commit(self, worlds: Tensor) -> None:
        """See `Backend.commit`."""
        self._fetch()
        self._cpu.commit(worlds.cpu())
        self._send()

    def step(self) -> None:
        """See `Backend.step`."""
        self._fetch()
        self._cpu.step()
        self._send()

    def cause(self, failure: int) -> str:
        """See `Backend.cause`."""
        return self._cpu.cause(failure)

    def snapshot(self, world: int, data: mujoco.MjData | None = None) -> tuple[mujoco.MjModel, mujoco.MjData]:
        """See `Backend.snapshot`."""
        self._fetch()
        return self._cpu.snapshot(world, data)

    def look_through(self, views: Sequence[View]) -> None:
        """See `Draws.look_through`. InputError if mujoco_warp, which draws, cannot read the model."""
        warp, mujoco_warp = import_warp("drawing there")
        check_device(self.device)
        with on_device(str(self.device)):
            model = put_drawn(self.model, dict.fromkeys(FIXED, self.num_envs))
            data = mujoco_warp.make_data(self.model, self.num_envs, nconmax=1, njmax=1)  # never stepped
        self._tracer = RayTracer(str(self.device), self.model, (model, data), views, self.num_envs)
        poses = [(self.field(name), getattr(data, name)) for name in MOVING]
        poses += [(self.parameter(name), getattr(model, name)) for name in FIXED]
        self._poses = [(ours, warp.to_torch(its).view(ours.shape)) for ours, its in poses]

    def draw(self) -> list[tuple[Tensor, Tensor]]:
        """See `Draws.draw`."""
        assert self._tracer is not None
        for ours, its in self._poses:
            its.copy_(ours)
        return self._tracer.draw()

    def _real(self, name: str) -> Tensor:
        if name in ("readings", "failure"):
            return getattr(self._cpu, name)
        return self._cpu.parameter(name) if name in self._parameters else self._cpu.field(name)

    def _mirror(self, name: str, real: Tensor) -> Tensor:
        dtype = torch.float32 if real.is_floating_point() else real.dtype
        staged = torch.empty(real.shape, dtype=dtype, pin_memory=self.device.type == "cuda").copy_(real)
        self._staged[name], self._there[name] = staged, torch.empty_like(staged, device=self.device).copy_(staged)
        return self._there[name]

    def _send(self) -> None:
        """From MuJoCo's arrays to the device; everything that was asked for before has arrived by then."""
        for name, staged in self._staged.items():
            self._there[name].copy_(staged.copy_(self._real(name)), non_blocking=True)

    def _fetch(self) -> None:
        """What was written on the device since `_send`, and nothing else, so that the rest keeps its 64 bits."""
        for name in (*_INPUTS, *self._parameters):
            found, real, staged = self._there[name].cpu(), self._real(name), self._staged[name]
            real.copy_(torch.where(found == staged, real, found.to(real.dtype)))
