"""The physics: N simulations of one model, behind a protocol that a GPU can implement too."""

import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Protocol, runtime_checkable

import mujoco
import numpy as np
import torch
from mujoco import batch
from torch import Tensor

from robofuse.checks import usable_cores
from robofuse.envs.rendering.base import View

# what a warning counter of MuJoCo means; from then on the numbers cannot be trusted
_DIVERGED = {
    mujoco.mjtWarning.mjWARN_INERTIA: "singular inertia matrix",
    mujoco.mjtWarning.mjWARN_CONTACTFULL: "contact buffer full",
    mujoco.mjtWarning.mjWARN_CNSTRFULL: "constraint buffer full",
    mujoco.mjtWarning.mjWARN_BADQPOS: "NaN, Inf or huge position",
    mujoco.mjtWarning.mjWARN_BADQVEL: "NaN, Inf or huge velocity",
    mujoco.mjtWarning.mjWARN_BADQACC: "NaN, Inf or huge acceleration",
    mujoco.mjtWarning.mjWARN_BADCTRL: "NaN or Inf control",
}


class Backend(Protocol):
    """N simulations of one model, as torch tensors with N in front.

    Attributes:
        model: the compiled model all worlds share but for `parameter` fields.
        num_envs: N.
        device: where the tensors live.
        dtype: of states, and of what tasks write: float64 or float32.
        readings: live (N, substeps, nsensordata), the model's sensors during each substep of the last `step`; as always
            in MuJoCo they describe the state that the substep began with.
    """

    model: mujoco.MjModel
    num_envs: int
    device: torch.device
    dtype: torch.dtype
    readings: Tensor

    def field(self, name: str) -> Tensor:
        """Live (N, …) view of an `MjData` field; write only to state (`qpos`, `qvel`, `ctrl`, …)."""
        ...

    def array(self, name: str) -> Any:  # noqa: ANN401
        """What `field` gives, to read only, as what computes fastest here: NumPy on a CPU, torch elsewhere."""
        ...

    def parameter(self, name: str) -> Tensor:
        """Live (N, …) view of an `MjModel` field, one value per world; call `commit` after a write."""
        ...

    def reset(self, env_ids: Tensor) -> None:
        """Put worlds `env_ids`, int64 (n,) ascending, into the model's default state; computes nothing yet."""
        ...

    def commit(self, env_ids: Tensor) -> dict[int, str]:
        """Make constants, derived fields and readings of worlds `env_ids` follow what was written.

        Returns {world: cause} for those whose state or parameters MuJoCo refuses.
        """
        ...

    def step(self) -> dict[int, str]:
        """Advance every world by one control step; returns {world: cause} for those that diverged."""
        ...

    def snapshot(self, world: int, data: mujoco.MjData | None = None) -> tuple[mujoco.MjModel, mujoco.MjData]:
        """One world as MuJoCo's own objects with everything computed, to look at; writes into `data` if given."""
        ...


@runtime_checkable
class Draws(Protocol):
    """A backend that draws its worlds itself, where their poses are."""

    def look_through(self, views: Sequence[View]) -> None:
        """Says what `draw` draws; to be called once, before the first `draw`."""
        ...

    def draw(self) -> list[tuple[Tensor, Tensor]]:
        """Draws all worlds as their poses are now.

        Returns:
            For each view, rgb uint8 (N, H, W, 3), fresh, and depth float32 (N, H, W) in metres along the optical axis,
            0 = no return, which the next call overwrites. Top row first.
        """
        ...


class CpuBackend:
    """`mujoco.batch.Batch` on native threads: bit-identical to a loop over one `MjData` per world."""

    def __init__(self, model: mujoco.MjModel, num_envs: int, substeps: int, num_threads: int | None = None) -> None:
        """Allocates N simulations; all start in the model's default state.

        Args:
            model: compiled model; copied by MuJoCo.
            num_envs: N.
            substeps: physics steps per control step.
            num_threads: native threads, default one per core this process may use.
        """
        self.model = model
        self.num_envs = num_envs
        self.device, self.dtype = torch.device("cpu"), torch.float64
        threads = usable_cores() if num_threads is None else num_threads
        self._batch = batch.Batch(model, num_envs, min(threads, num_envs))
        self._readings = np.zeros((num_envs, substeps, model.nsensordata))
        self._recorded = {"sensordata": self._readings}
        self.readings = torch.from_numpy(self._readings)
        self._substeps = substeps
        self._fields: dict[str, Tensor] = {}
        self._arrays: dict[str, np.ndarray] = {}
        self.field("sensordata")
        self._causes = np.array([int(w) for w in _DIVERGED])
        self._counts = self._batch.warning[:, self._causes, 1].copy()

    def field(self, name: str) -> Tensor:
        """See `Backend.field`; float64 (integers for counts). Forces are zero until the first step after binding."""
        new = name not in self._fields
        tensor = self._tensor(name, self._batch.bind)
        if new:  # MuJoCo fills a field at the calls after it was bound
            with suppress(batch.SimulationError):  # reported when the scene is set up
                self._batch.forward(stage=int(mujoco.mjtStage.mjSTAGE_POS))
        return tensor

    def array(self, name: str) -> np.ndarray:
        """See `Backend.array`."""
        if name not in self._arrays:
            self._arrays[name] = self.field(name).numpy()
        return self._arrays[name]

    def parameter(self, name: str) -> Tensor:
        """See `Backend.parameter`; MuJoCo's own type (float64; float32 for colours)."""
        return self._tensor(name, self._batch.expand)

    def reset(self, env_ids: Tensor) -> None:
        """See `Backend.reset`."""
        self._batch.reset(env_ids.numpy(), stage=int(mujoco.mjtStage.mjSTAGE_NONE))
        self.readings[env_ids] = 0.0

    def commit(self, env_ids: Tensor) -> dict[int, str]:
        """See `Backend.commit`."""
        rows = env_ids.numpy()
        self._counts[rows] = self._batch.warning[rows][:, self._causes, 1]
        errors = self._errors(lambda: self._batch.set_const(rows), lambda: self._batch.forward(rows))
        self.readings[env_ids] = self.field("sensordata")[env_ids][:, None]
        return errors

    def step(self) -> dict[int, str]:
        """See `Backend.step`."""
        return self._errors(
            lambda: self._batch.rollout(self._substeps, record=("sensordata",), out=self._recorded),
            # positions of the new state; forces keep describing the last substep
            lambda: self._batch.forward(stage=int(mujoco.mjtStage.mjSTAGE_POS)),
        )

    def _errors(self, *calls: Callable[[], object]) -> dict[int, str]:
        """Make calls; returns {world: cause} of all errors in them, one cause for each world."""
        errors: dict[int, str] = {}
        for call in calls:
            try:
                call()
            except batch.SimulationError as error:
                errors |= {int(i): self._batch.error(int(i)) for i in error.ids}
        counts = self._batch.warning[:, self._causes, 1]
        grown = counts > self._counts
        if grown.any():
            for world in np.flatnonzero(grown.any(axis=1)):
                cause = list(_DIVERGED)[int(grown[world].argmax())]
                errors.setdefault(int(world), f"{cause.name}: {_DIVERGED[cause]}")
        self._counts = counts.copy()
        finite = np.isfinite(self._batch.state).all(axis=1)
        if not finite.all():
            for world in np.flatnonzero(~finite):
                errors.setdefault(int(world), "NaN or Inf in the state")
        return errors

    def snapshot(self, world: int, data: mujoco.MjData | None = None) -> tuple[mujoco.MjModel, mujoco.MjData]:
        """See `Backend.snapshot`."""
        model, data = self._batch.get_model(world), self._batch.get_data(world, data)
        mujoco.mj_forward(model, data)
        return model, data

    def _tensor(self, name: str, source: Callable[[str], np.ndarray]) -> Tensor:
        if name not in self._fields:  # no MjData field shares its name with an MjModel field
            with warnings.catch_warnings():
                # derived fields are read-only for NumPy; torch has no such flag, and the protocol forbids the write
                warnings.filterwarnings("ignore", message="The given NumPy array is not writable")
                self._fields[name] = torch.from_numpy(source(name))
        return self._fields[name]
