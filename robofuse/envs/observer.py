"""The observations of N worlds: the sensors' readings after faults and masks, and the simulator's truth."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from robofuse.dropout import Dropout, Law, Masker
from robofuse.dropout.apply import zero_masked
from robofuse.envs.cameras import Camera, area_average
from robofuse.envs.control import Robot
from robofuse.envs.rig import Rig
from robofuse.envs.tasks import Task
from robofuse.envs.tasks.task import expect
from robofuse.errors import InputError
from robofuse.faults import Injector, Plan
from robofuse.faults.mix import FaultsLike, as_faults
from robofuse.sensors import AVAILABLE, PRIVILEGED, TRUTH, Sensor, order
from robofuse.tensors import Worlds, chosen


class Truth:
    """The privileged vector: the task's truth, then the robot's proprioception, exact.

    Attributes:
        task: the task.
        names: of its entries.
        sensor: as a sensor, for teachers and upper bounds.
    """

    def __init__(self, task: Task, robot: Robot, control_dt: float) -> None:
        """For a task that is bound to the robot; `control_dt` in seconds."""
        self.task, self._robot, self._num_envs = task, robot, robot.backend.num_envs
        self.names = (*task.privileged_names, *robot.proprio_names)
        scale = (*task.privileged_scale, *robot.proprio_scale)
        self.sensor = Sensor(TRUTH, "vector", (len(scale),), "float32", "SI units", scale, 1.0 / control_dt)

    def read(self, worlds: Worlds) -> Tensor:
        """float32 (n, K) of the given worlds."""
        truth = self.task.privileged()
        expect(self.task, "privileged()", truth, (self._num_envs, len(self.task.privileged_names)))
        return torch.cat([chosen(truth, worlds).float(), self._robot.proprio(worlds, None)], dim=1)


class Observer:
    """Observations of N worlds.

    Attributes:
        sensors: in the order of `available`.
        masker: draws which of them are masked.
        injector: applies faults to the others.
    """

    def __init__(
        self,
        num_envs: int,
        rig: Rig,
        cameras: Sequence[Camera],
        truth: Truth,
        sensed: bool,
        privileged: bool,
        dropout: Dropout | Law | float | None,
        fill: str,
        faults: FaultsLike,
        control_dt: float,
        seed: int,
        device: torch.device,
    ) -> None:
        """For `cameras` at the sizes that are read; the rig may draw them larger, by whole factors.

        `sensed` makes truth a sensor, `privileged` adds it beside the sensors; the rest is as for `World`.
        """
        self._rig, self._truth, self._sensed, self._privileged = rig, truth, sensed, privileged
        drawn = order([*rig.sensors, truth.sensor]) if sensed else rig.sensors
        sizes = {camera.key(kind): camera.size or () for camera in cameras for kind in ("rgb", "depth")}
        self.sensors = tuple(replace(one, shape=(*sizes.get(one.key, one.shape[:2]), *one.shape[2:])) for one in drawn)
        factors = {one.key: one.shape[0] // read.shape[0] for one, read in zip(drawn, self.sensors, strict=True)}
        if fill not in ("zeros", "keep"):
            raise InputError(f"fill must be zeros or keep, got {fill!r}")
        self._keep = fill == "keep"
        self._factors = {key: factor for key, factor in factors.items() if factor > 1}
        plan, phases = as_faults(faults, drawn), truth.task.phases
        self.injector = Injector(plan, drawn, num_envs, seed, control_dt, phases, True, device)
        self.masker = Masker(dropout, [sensor.key for sensor in self.sensors], num_envs, seed, device)

    def start(self, seed: int, worlds: Tensor, episode: Tensor, plans: Sequence[Plan] | None = None) -> None:
        """Worlds begin episodes int64 (n,), under plans of their own or what `faults` says."""
        self.masker.seed = self.injector.seed = seed
        self.masker.start(worlds, episode)
        self.injector.start(worlds, episode, plans)

    def step(self) -> None:
        """Every world has advanced by a control step."""
        self.masker.step()
        self.injector.step()

    def expose(
        self, seed: int, episode: Tensor, step: Tensor, worlds: Worlds = None
    ) -> Callable[[], dict[str, Tensor]]:
        """Begin to read all sensors, as `Rig.expose`; call what is returned for the observation."""
        for offset_camera in self.injector.camera_offsets(worlds, self._phase(worlds)):
            self._rig.offset_camera(*offset_camera)
        read = self._rig.expose(seed, episode, step, worlds)

        def observe() -> dict[str, Tensor]:
            available, readings = chosen(self.masker.available, worlds), read()
            shown = torch.ones_like(available) if self._keep else available
            truth = self._truth.read(worlds) if self._sensed or self._privileged else None
            if self._sensed and truth is not None:
                readings[TRUTH] = truth.clone()
            if not self.injector.idle:
                readings, delivering = self.injector.apply(readings, worlds, available > 0, self._phase(worlds))
                available, shown = available & delivering, shown & delivering
            for key, factor in self._factors.items():
                readings[key] = area_average(readings[key], factor)
            zero_masked(readings, shown, self.masker.keys)
            readings[AVAILABLE] = available.clone()
            if self._privileged and truth is not None:
                readings[PRIVILEGED] = truth
            return readings

        return observe

    def _phase(self, worlds: Worlds) -> Tensor | None:
        if not self._truth.task.phases or self.injector.idle:
            return None
        return chosen(self._truth.task.phase(), worlds)
