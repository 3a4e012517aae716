"""What a task is, and checks that one keeps its promises."""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import mujoco
import numpy as np
import torch
from torch import Tensor

from robofuse.checks import whole
from robofuse.envs.control import Robot
from robofuse.envs.physics.backend import Backend
from robofuse.envs.robot import Hand
from robofuse.errors import InputError, StateError

_ATTRIBUTES = {
    "name": "what it is called",
    "horizon": "length of an episode [s]",
    "weights": "reward term → weight",
    "draws": "uniform numbers that place needs",
    "privileged_names": "what each entry of privileged is",
    "privileged_scale": "typical magnitude of each",
}


class Task(ABC):
    """One task in N worlds. A new task is one file with one subclass, under `robofuse.envs.register_task`.

    The world calls, in this order: `add_objects` once per model; `bind` once; `place` and then `begin` for every world
    that starts an episode; after every control step `update`, and then the queries. Every tensor has N in front;
    positions are in the world frame [m], with the table's top at z = 0.

    Attributes:
        name: `robofuse/<name>-v0` is its Gymnasium id.
        horizon: length of an episode [s].
        weights: reward term → weight; the reward is the weighted sum of `terms`, per control step.
        draws: uniform numbers that `place` needs per episode.
        privileged_names: what each entry of `privileged` is.
        privileged_scale: typical magnitude of each.
        phases: parts of the task in their order, for faults that wait for one; see `phase`.
        visible_names: those of them that sensors can tell, which auxiliary losses ask for; none means all.
    """

    name: ClassVar[str]
    horizon: ClassVar[float]
    weights: ClassVar[dict[str, float]]
    draws: ClassVar[int]
    privileged_names: ClassVar[tuple[str, ...]]
    privileged_scale: ClassVar[tuple[float, ...]]
    visible_names: ClassVar[tuple[str, ...]] = ()
    phases: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def add_objects(self, spec: mujoco.MjSpec, workspace: np.ndarray, hand: Hand) -> None:
        """Add the task's bodies and sensors to the scene.

        Cameras see the geoms of groups 0 to 2. One of group 1 with a name of the task's own (without `/`, which what
        comes from a file has) hides things from cameras alone: pictures for people show it translucent, or, where there
        is no OpenGL, leave it out.

        Args:
            spec: the scene with table and robot.
            workspace: (3,) middle of the workspace on the table [m].
            hand: names of the sites of its hand; what is added to their bodies moves with it.
        """

    def bind(self, backend: Backend, robot: Robot) -> None:
        """Remember where the physics and the robot are; look up ids, bind fields, allocate counters."""
        self.backend, self.robot = backend, robot

    @abstractmethod
    def place(self, env_ids: Tensor, u: Tensor) -> None:
        """Write the scene of a new episode.

        Args:
            env_ids: int64 (n,), worlds. On a GPU they are all: what is written to those that go on is put back.
            u: float64 (n, draws), uniform in (0, 1); nothing else may be random.
        """

    def begin(self, worlds: Tensor) -> None:
        """Reset what the task remembers of worlds that begin, once their scene stands: `remembered[worlds] = 0`.

        They are int64 (n,), or bool (N,) on a GPU, where nobody looks how many there are: assign single numbers.
        """
        return

    def update(self) -> None:
        """Follow one control step: counters that span several steps."""
        return

    @abstractmethod
    def terms(self, action: Tensor) -> dict[str, Tensor]:
        """Unweighted reward terms, float64 (N,) each, in the order of `weights`; `action` (N, A) as applied."""

    @abstractmethod
    def success(self) -> Tensor:
        """Bool (N,): the task is done, and the episode ends."""

    def phase(self) -> Tensor:
        """int64 (N,): which of `phases` each world is in."""
        raise NotImplementedError

    @abstractmethod
    def privileged(self) -> Tensor:
        """Simulator truth (N, K), entries `privileged_names`."""

    def visible(self) -> list[int]:
        """Positions of `visible_names` in the privileged vector."""
        return [self.privileged_names.index(name) for name in self.visible_names or self.privileged_names]

    def expert(self) -> Tensor:
        """A scripted solution from simulator truth: actions (N, 5) in [−1, 1]; a task may do without."""
        raise StateError(f"task {self.name!r} has no scripted expert; one would be its method `expert`")


def between(u: Tensor, low: float, high: float) -> Tensor:
    """Uniform numbers in (0, 1) to (low, high)."""
    return low + (high - low) * u


def lasting(counter: Tensor, condition: Tensor) -> Tensor:
    """How many control steps in a row a condition has held, given the count (N,) up to the step before."""
    return (counter + 1) * condition


def check_task(task: Task | type[Task]) -> None:
    """Checks that a task, or a class of tasks, has all that a task needs.

    Raises:
        InputError: methods or attributes are missing, or have values that cannot be right; names them.
    """
    kind = task if isinstance(task, type) else type(task)
    whose = f"task {getattr(task, 'name', kind.__name__)!r}"
    methods = sorted(getattr(kind, "__abstractmethods__", ()))
    if methods:
        plural = "s" if len(methods) > 1 else ""
        raise InputError(f"{whose} lacks the method{plural} {', '.join(methods)}; robofuse.envs.Task says what they do")
    missing = [f"{name} ({what})" for name, what in _ATTRIBUTES.items() if not hasattr(task, name)]
    if missing:
        plural = "s" if len(missing) > 1 else ""
        raise InputError(f"{whose} lacks the attribute{plural} {', '.join(missing)}")
    if not _number(task.horizon) or not task.horizon > 0.0:
        raise InputError(f"{whose}: horizon must be a positive number of seconds, got {task.horizon!r}")
    whole(task.draws, f"{whose}: draws", 0)
    if not isinstance(task.weights, Mapping) or not task.weights or not all(map(_number, task.weights.values())):
        raise InputError(f"{whose}: weights must be {{reward term: finite number}}, got {task.weights!r}")
    for name in ("privileged_names", "privileged_scale", "visible_names", "phases"):
        if isinstance(getattr(task, name), str):
            raise InputError(f"{whose}: {name} must be a tuple, got the text {getattr(task, name)!r}")
    names, scale = task.privileged_names, task.privileged_scale
    if len(names) != len(scale) or not all(_number(x) and x > 0.0 for x in scale):
        raise InputError(
            f"{whose}: privileged_scale must have a positive number for each of the {len(names)} privileged_names, "
            f"got {scale!r}"
        )
    stray = [name for name in task.visible_names if name not in names]
    if stray:
        raise InputError(f"{whose}: visible_names has {stray[0]!r}, which is not one of {', '.join(names)}")
    if task.phases and kind.phase is Task.phase:
        raise InputError(f"{whose} has phases, so it needs the method phase")


def outcome(task: Task, action: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Success, bool (N,), and the unweighted reward terms, each (N,), of a control step.

    Raises:
        InputError: one of them has another shape or type, or the terms are not those of `weights`.
    """
    success, shape = task.success(), (action.shape[0],)
    expect(task, "success()", success, shape, torch.bool)
    terms = task.terms(action)
    if not isinstance(terms, Mapping) or terms.keys() != task.weights.keys():
        given = ", ".join(terms) if isinstance(terms, Mapping) else type(terms).__name__
        raise InputError(
            f"task {task.name!r}: terms() must give exactly the terms of weights, {', '.join(task.weights)}; it gave "
            f"{given or 'none'}"
        )
    for name, term in terms.items():
        expect(task, f"the reward term {name!r}", term, shape)
    return success.clone(), dict(terms)


def expect(task: Task, what: str, value: Any, shape: tuple[int, ...], dtype: torch.dtype | None = None) -> None:  # noqa: ANN401
    """InputError, with the task's name, unless a tensor has this shape, and this type or else one of floats."""
    if isinstance(value, Tensor) and value.shape == shape:
        if value.is_floating_point() if dtype is None else value.dtype == dtype:
            return
    wanted = f"a tensor {'of floats' if dtype is None else str(dtype).removeprefix('torch.')} {shape}"
    if not isinstance(value, Tensor):
        raise InputError(f"task {task.name!r}: {what} must be {wanted}, got {type(value).__name__}")
    raise InputError(
        f"task {task.name!r}: {what} must be {wanted} (one row per world), got "
        f"{str(value.dtype).removeprefix('torch.')} {tuple(value.shape)}"
    )


def _number(value: Any) -> bool:  # noqa: ANN401
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
