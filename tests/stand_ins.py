"""Physics that stand in for a GPU's where there is none, and a guard against what would make a GPU wait."""

from contextlib import contextmanager

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from robofuse.envs.physics.backend import CpuBackend
from robofuse.tensors import numbers_of, write


class TorchBackend(CpuBackend):
    """MuJoCo, whose arrays are tensors as those of a GPU would be."""

    def array(self, name):
        return self.field(name)


class MaskedBackend(TorchBackend):
    """MuJoCo, whose worlds begin by mask: all are written to, and those put back that go on."""

    def __init__(self, *args):
        super().__init__(*args)
        self.by_mask = True
        self._written = {name: self.field(name) for name in ("qpos", "qvel", "ctrl", "mocap_pos", "mocap_quat")}

    def parameter(self, name):
        self._written[name] = super().parameter(name)
        return self._written[name]

    @contextmanager
    def begin(self, worlds):
        assert worlds.dtype == torch.bool and worlds.shape == (self.num_envs,)
        before = {name: x.clone() for name, x in self._written.items()}
        with super().begin(numbers_of(worlds)):
            yield torch.arange(self.num_envs)
            for name, values in before.items():
                write(self._written[name], ~worlds, values)


class MetaBackend:
    """Arrays of a device that has no numbers: whoever looks at one gets an error. It draws, too."""

    by_mask = True

    def __init__(self, model, num_envs, substeps, *_):
        self._real = CpuBackend(model, num_envs, substeps, 1)
        self.model, self.num_envs = model, num_envs
        self.device, self.dtype = torch.device("meta"), torch.float32
        self.readings = torch.empty(num_envs, substeps, model.nsensordata, device="meta")
        self.failure = torch.empty(num_envs, dtype=torch.int64, device="meta")

    def field(self, name):
        return self._like(self._real.field(name))

    array = field

    def parameter(self, name):
        return self._like(self._real.parameter(name))

    def _like(self, real):
        return torch.empty(real.shape, device="meta", dtype=self.dtype if real.is_floating_point() else real.dtype)

    @contextmanager
    def begin(self, worlds):
        assert worlds.dtype == torch.bool and worlds.shape == (self.num_envs,)
        yield torch.arange(self.num_envs, device="meta")

    def step(self):
        pass

    def look_through(self, views):
        self._views = views

    def draw(self):
        def empty(*shape, dtype=torch.float32):
            return torch.empty(self.num_envs, *shape, dtype=dtype, device="meta")

        return [
            (empty(view.height, view.width, 3, dtype=torch.uint8), empty(view.height, view.width))
            for view in self._views
        ]


class NothingIsSent(TorchDispatchMode):
    """Fails where numbers of the CPU go to the meta device: a GPU would be waited for, every time."""

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        leaves = tree_leaves((args, kwargs or {}))
        devices = {x.device.type for x in leaves if isinstance(x, torch.Tensor)}
        targets = {x.type for x in leaves if isinstance(x, torch.device)}
        assert "cpu" not in devices or "meta" not in devices | targets, f"{operation} is given numbers of the CPU"
        return operation(*args, **(kwargs or {}))
