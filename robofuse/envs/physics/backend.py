"""The physics: N simulations of one model, behind a protocol that a GPU can implement too."""

import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from typing import Any, Protocol, cast, runtime_checkable

import mujoco
import numpy as np
import torch
from torch import Tensor

from robofuse.checks import usable_cores
from robofuse.envs.rendering.base import View
from robofuse.errors import StateError

try:
    from mujoco import batch
except ImportError:  # an older MuJoCo: all that needs no World works beside it
    batch = cast(Any, None)

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


def check_mujoco() -> None:
    """StateError if the installed MuJoCo is too old for worlds."""
    if batch is None:
        raise StateError(
            f"robofuse's own worlds need MuJoCo 4, and {mujoco.__version__} is installed, as robosuite and mjlab ask. "
            "Extractor, dropout, faults, evaluate --env and deploy work with it. For worlds, in an environment of its "
            "own: pip install 'mujoco>=4' 'mujoco-warp>=4'"
        )


class Backend(Protocol):
    """N simulations of one model, as torch tensors with N in front.

    Attributes:
        model: the compiled model all worlds share but for `parameter` fields.
        num_envs: N.
        device: where the tensors live.
        dtype: of states, and of what tasks write: float64 or float32.
        by_mask: whether worlds that begin are told by a mask, bool (N,), in place of numbers, so that nobody looks how
            many there are.
        readings: live (N, substeps, nsensordata), the model's sensors during each substep of the last `step`; as always
            in MuJoCo they describe the state that the substep began with.
        failure: live int64 (N,): 0, or why the world was refused by its last `commit` or has diverged since; `cause`
            puts it in words.
    """

    model: mujoco.MjModel
    num_envs: int
    device: torch.device
    dtype: torch.dtype
    by_mask: bool
    readings: Tensor
    failure: Tensor

    def field(self, name: str) -> Tensor:
        """Live (N, …) view of an `MjData` field; write only to state (`qpos`, `qvel`, `ctrl`, …)."""
        ...

    def array(self, name: str) -> Any:  # noqa: ANN401
        """What `field` gives, to read only, as what computes fastest here: NumPy on a CPU, torch elsewhere."""
        ...

    def parameter(self, name: str) -> Tensor:
        """Live (N, …) view of an `MjModel` field, one value per world; call `commit` after a write."""
        ...

    def begin(self, worlds: Tensor) -> AbstractContextManager[Tensor]:
        """Puts worlds into the model's default state; then yields those whose states and parameters to write.

        Args:
            worlds: those that begin, int64 (n,) ascending, or bool (N,).

        Yields:
            Worlds, int64; if they are told by mask, all of them, and what is written to the others does not stay.
            Afterwards all is as after `commit`.
        """
        ...

    def commit(self, worlds: Tensor) -> None:
        """Make constants, derived fields, readings and `failure` of worlds, as in `begin`, follow what was written."""
        ...

    def step(self) -> None:
        """Advance every world by one control step."""
        ...

    def cause(self, failure: int) -> str:
        """What a number other than 0 in `failure` means."""
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
        self.device, self.dtype, self.by_mask = torch.device("cpu"), torch.float64, False
        self.failure = torch.zeros(num_envs, dtype=torch.int64)
        self._reasons: list[str] = []  # failure k is the k-th, from 1 on
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

    @contextmanager
    def begin(self, worlds: Tensor) -> Iterator[Tensor]:
        """See `Backend.begin`."""
        self._batch.reset(worlds.numpy(), stage=int(mujoco.mjtStage.mjSTAGE_NONE))
        yield worlds
        self.commit(worlds)

    def commit(self, worlds: Tensor) -> None:
        """See `Backend.commit`."""
        rows = worlds.numpy()
        self._counts[rows] = self._batch.warning[rows][:, self._causes, 1]
        self.failure[worlds] = 0
        self._watched(lambda: self._batch.set_const(rows), lambda: self._batch.forward(rows))
        self.readings[worlds] = self.field("sensordata")[worlds][:, None]

    def step(self) -> None:
        """See `Backend.step`."""
        self._watched(
            lambda: self._batch.rollout(self._substeps, record=("sensordata",), out=self._recorded),
            # positions of the new state; forces keep describing the last substep
            lambda: self._batch.forward(stage=int(mujoco.mjtStage.mjSTAGE_POS)),
        )

    def cause(self, failure: int) -> str:
        """See `Backend.cause`."""
        return self._reasons[failure - 1]

    def _watched(self, *calls: Callable[[], object]) -> None:
        """Make calls, and note in `failure` what they did to worlds that were well; one cause for each."""
        for call in calls:
            try:
                call()
            except batch.SimulationError as error:
                for world in error.ids:
                    self._fail(int(world), self._batch.error(int(world)))
        counts = self._batch.warning[:, self._causes, 1]
        grown = counts > self._counts
        if grown.any():
            for world in np.flatnonzero(grown.any(axis=1)):
                cause = list(_DIVERGED)[int(grown[world].argmax())]
                self._fail(int(world), f"{cause.name}: {_DIVERGED[cause]}")
        self._counts = counts.copy()
        finite = np.isfinite(self._batch.state).all(axis=1)
        if not finite.all():
            for world in np.flatnonzero(~finite):
                self._fail(int(world), "NaN or Inf in the state")

    def _fail(self, world: int, cause: str) -> None:
        if not self.failure[world]:
            if cause not in self._reasons:
                self._reasons.append(cause)
            self.failure[world] = self._reasons.index(cause) + 1

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
