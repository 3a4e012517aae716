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
from robofuse.faults import Injector, Plan
from robofuse.faults.mix import FaultsLike, as_faults
from robofuse.sensors import AVAILABLE, PRIVILEGED, TRUTH, Sensor, order


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

    def read(self, env_ids: Tensor | None) -> Tensor:
        """float32 (n, K) of the given worlds, or of all."""
        truth = self.task.privileged()
        expect(self.task, "privileged()", truth, (self._num_envs, len(self.task.privileged_names)))
        rows = slice(None) if env_ids is None else env_ids
        return torch.cat([truth[rows].float(), self._robot.proprio(env_ids, None)], dim=1)


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
        faults: FaultsLike,
        control_dt: float,
        seed: int,
    ) -> None:
        """For `cameras` at the sizes that are read; the rig may draw them larger, by whole factors.

        `sensed` makes truth a sensor, `privileged` adds it beside the sensors; the rest is as for `World`.
        """
        self._rig, self._truth, self._sensed, self._privileged = rig, truth, sensed, privileged
        drawn = order([*rig.sensors, truth.sensor]) if sensed else rig.sensors
        sizes = {camera.key(kind): camera.size or () for camera in cameras for kind in ("rgb", "depth")}
        self.sensors = tuple(replace(one, shape=(*sizes.get(one.key, one.shape[:2]), *one.shape[2:])) for one in drawn)
        factors = {one.key: one.shape[0] // read.shape[0] for one, read in zip(drawn, self.sensors, strict=True)}
        self._factors = {key: factor for key, factor in factors.items() if factor > 1}
        plan, phases = as_faults(faults, drawn), truth.task.phases
        self.injector = Injector(plan, drawn, num_envs, seed, control_dt, phases, cameras_move=True)
        self.masker = Masker(dropout, [sensor.key for sensor in self.sensors], num_envs, seed)

    def start(self, seed: int, env_ids: Tensor, episode: Tensor, plans: Sequence[Plan] | None = None) -> None:
        """Worlds int64 (n,) begin episodes int64 (n,), under plans of their own or what `faults` says."""
        self.masker.seed = self.injector.seed = seed
        self.masker.start(env_ids, episode)
        self.injector.start(env_ids, episode, plans)

    def step(self) -> None:
        """Every world has advanced by a control step."""
        self.masker.step()
        self.injector.step()

    def expose(
        self, seed: int, episode: Tensor, step: Tensor, env_ids: Tensor | None = None
    ) -> Callable[[], dict[str, Tensor]]:
        """Begin to read all sensors, as `Rig.expose`; call what is returned for the observation."""
        for offset_camera in self.injector.camera_offsets(env_ids, self._phase(env_ids)):
            self._rig.offset_camera(*offset_camera)
        read = self._rig.expose(seed, episode, step, env_ids)

        def observe() -> dict[str, Tensor]:
            available, readings = self.masker.available, read()
            available = available if env_ids is None else available[env_ids]
            truth = self._truth.read(env_ids) if self._sensed or self._privileged else None
            if self._sensed and truth is not None:
                readings[TRUTH] = truth.clone()
            if not self.injector.idle:
                readings, delivering = self.injector.apply(readings, env_ids, available > 0, self._phase(env_ids))
                available = available & delivering
            for key, factor in self._factors.items():
                readings[key] = torch.from_numpy(area_average(readings[key].numpy(), factor))
            zero_masked(readings, available, self.masker.keys)
            readings[AVAILABLE] = available.clone()
            if self._privileged and truth is not None:
                readings[PRIVILEGED] = truth
            return readings

        return observe

    def _phase(self, env_ids: Tensor | None) -> Tensor | None:
        if not self._truth.task.phases or self.injector.idle:
            return None
        phase = self._truth.task.phase()
        return phase if env_ids is None else phase[env_ids]
