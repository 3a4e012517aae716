"""The sensors of N worlds: cameras, proprioception and force, read together once per control step."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import mujoco
import numpy as np
import torch
from torch import Tensor

from robofuse.arrays import Array, concatenate, float32, like, rows_of, where, write_rows, zeros
from robofuse.checks import whole
from robofuse.envs.cameras import Camera
from robofuse.envs.control import Robot
from robofuse.envs.noise import Noise, NoiseSource
from robofuse.envs.physics.backend import Backend, Draws
from robofuse.envs.rendering import FIXED, MOVING, Pictures, Poses, View, make_renderer
from robofuse.envs.scene import TIMESTEP
from robofuse.errors import InputError
from robofuse.sensors import MODALITIES, TRUTH, Sensor, order
from robofuse.tensors import Worlds, by_number, chosen, on_cpu, write

Readings = dict[str, Tensor]
_POSE = ("cam_xpos", "cam_xmat")


@dataclass(frozen=True)
class Timing:
    """When a sensor delivers.

    Attributes:
        update_interval: control steps between deliveries; the last one is held in between.
        delay: age of a reading when it is delivered, in control steps.
    """

    update_interval: int = 1
    delay: int = 0

    def __post_init__(self) -> None:
        whole(self.update_interval, "update_interval", 1)
        whole(self.delay, "delay", 0)


class Rig:
    """Reads every sensor of N worlds.

    Attributes:
        sensors: in the order of `available`.
    """

    def __init__(
        self,
        backend: Backend,
        robot: Robot,
        cameras: Sequence[Camera],
        modalities: Sequence[str],
        renderer: str,
        noise: Noise,
        timing: Mapping[str, Timing],
        force_window: int,
        control_dt: float,
        num_threads: int | None,
    ) -> None:
        """Makes the renderer and declares the sensors; arguments are those of `World`."""
        unknown = [modality for modality in modalities if modality not in MODALITIES]
        if unknown or len(set(modalities)) < len(modalities):
            names = ", ".join((*MODALITIES, TRUTH))
            raise InputError(f"sensors must be different names out of {names}; got {list(modalities)}")
        if {"rgb", "depth"} & set(modalities) and not cameras:
            raise InputError("rgb and depth need a camera; give cameras, or sensors without rgb and depth")
        if not isinstance(timing, Mapping):
            raise InputError(f"timing must be {{sensor key: robofuse.envs.Timing}}, got {timing!r}")
        for key, when in timing.items():
            if not isinstance(when, Timing):
                raise InputError(f"timing[{key!r}] must be a robofuse.envs.Timing, got {when!r}")
        whole(force_window, "force_window", 1, 1000)
        self._backend, self._robot, self._control_dt = backend, robot, control_dt
        kind = backend.array("qpos")  # the rig's memory is of arrays like this one
        self._source = NoiseSource(noise, kind)
        self._cameras = tuple(cameras) if {"rgb", "depth"} & set(modalities) else ()
        age = TIMESTEP * np.arange(backend.readings.shape[1] - 1, -1, -1, dtype=np.float32)
        self._age = age if isinstance(kind, np.ndarray) else like(age, kind)
        self._window = zeros((backend.num_envs, force_window, 8), kind)
        self._swing = zeros((backend.num_envs, 2, 6), kind)
        self.sensors = order(self._declare(modalities, timing))
        self._keys = [sensor.key for sensor in self.sensors]
        stray = [key for key in timing if key not in self._keys]
        if stray:
            raise InputError(f"timing for unknown sensor {stray[0]!r}; sensors: {', '.join(self._keys)}")
        self._lines = {key: DelayLine(when, backend.num_envs) for key, when in timing.items() if when != Timing()}
        self._renderer, self._draws = None, None
        self._mount = Mount(backend, [camera.name for camera in self._cameras])
        views = [View(camera.name, *(camera.size or (0, 0))) for camera in self._cameras]
        if views and renderer == "warp" and isinstance(backend, Draws):
            backend.look_through(views)
            self._draws = backend
        elif views:
            self._renderer = make_renderer(
                renderer,
                backend.model,
                views,
                Poses(
                    *(self._mount.field(name) for name in MOVING),
                    *(backend.parameter(name).numpy() for name in FIXED),
                ),
                num_threads,
            )

    def offset_camera(self, key: str, worlds: Worlds, shift: Tensor, turn: Tensor) -> None:
        """Move a camera for the next `expose` of these worlds only.

        Args:
            key: of one of the camera's sensors.
            worlds: which n.
            shift: (n, 3) [m], in the camera's own frame.
            turn: (n, 3) [rad], about an axis in the camera's own frame.
        """
        (index,) = (i for i, camera in enumerate(self._cameras) if key in (camera.key("rgb"), camera.key("depth")))
        self._mount.offset_camera(index, worlds, shift, turn)

    def expose(self, seed: int, episode: Tensor, step: Tensor, worlds: Worlds = None) -> Callable[[], Readings]:
        """Begin to read all sensors. The cameras draw while the caller goes on; the physics must not move meanwhile.

        Args:
            seed: the world's seed.
            episode: int64 (N,), the episode each world is in.
            step: int64 (N,), control steps since its start; 0 fills histories with the first reading.
            worlds: which to read, ascending; all by default.

        Returns:
            Call it for fresh tensors (n, …), one per sensor.
        """
        episode, step = chosen(episode, worlds), chosen(step, worlds)
        offsets = self._source.offsets(seed, episode, step, self._keys) if self._keys else {}
        readings, wait = self._draw(worlds, offsets)
        if "proprio" in offsets:
            drawn = self._source.encoders(self._robot.num_encoders, offsets["proprio"])
            readings["proprio"] = self._robot.proprio(worlds, drawn)
        if "force" in offsets:
            readings["force"] = self._force(seed, episode, step, worlds, offsets["force"])

        def finish() -> Readings:
            wait()
            for key, line in self._lines.items():
                readings[key] = line.pass_on(readings[key], step, worlds)
            return readings

        return finish

    def _draw(self, worlds: Worlds, offsets: dict[str, Array]) -> tuple[Readings, Callable[[], None]]:
        """Begin to draw: fresh tensors that the drawing threads fill, noise included; call the function to wait."""
        if self._draws is not None:
            return self._draw_there(self._draws, worlds, offsets), lambda: None
        if self._renderer is None:
            return {}, lambda: None
        numbers = by_number(worlds)
        count, readings = len(self._window) if numbers is None else len(numbers), {}
        for camera in self._cameras:
            for modality, channels, dtype in (("rgb", 3, torch.uint8), ("depth", 1, torch.uint16)):
                if camera.key(modality) in offsets:
                    readings[camera.key(modality)] = torch.empty(count, *(camera.size or ()), channels, dtype=dtype)
        arrays = {key: reading.numpy() for key, reading in readings.items()}
        offsets = {key: offset if isinstance(offset, np.ndarray) else offset.numpy() for key, offset in offsets.items()}

        def take(start: int, stop: int, pictures: Pictures) -> None:
            for camera, (rgb, depth) in zip(self._cameras, pictures, strict=True):
                colour, distance = camera.key("rgb"), camera.key("depth")
                if colour in arrays:
                    self._source.rgb(rgb, offsets[colour][start:stop], arrays[colour][start:stop])
                if distance in arrays:
                    self._source.millimetres(depth, offsets[distance][start:stop], arrays[distance][start:stop])

        self._mount.place(worlds)
        return readings, self._renderer.start(take, None if numbers is None else numbers.numpy())

    def _draw_there(self, backend: Draws, worlds: Worlds, offsets: dict[str, Array]) -> Readings:
        """Draw where the physics is; fresh tensors, noise included."""
        readings: Readings = {}
        with self._mount.moved():
            pictures = backend.draw()
        for camera, (rgb, depth) in zip(self._cameras, pictures, strict=True):
            colour, distance = camera.key("rgb"), camera.key("depth")
            if colour in offsets:
                readings[colour] = self._source.pictures(rows_of(rgb, worlds), offsets[colour])
            if distance in offsets:
                noisy = self._source.distances(rows_of(depth, worlds), offsets[distance])
                readings[distance] = noisy[..., None]
        return readings

    def close(self) -> None:
        """Free the renderer; may be called twice."""
        if self._renderer is not None:
            self._renderer.close()

    def _declare(self, modalities: Sequence[str], timing: Mapping[str, Timing]) -> list[Sensor]:
        declared = []
        for camera in self._cameras:
            height, width = camera.size or (0, 0)
            if "rgb" in modalities:
                declared.append((camera.key("rgb"), "rgb", (height, width, 3), "uint8", "sRGB", 255.0))
            if "depth" in modalities:
                declared.append((camera.key("depth"), "depth", (height, width, 1), "uint16", "mm", 1000.0))
        if "proprio" in modalities:
            scale = self._robot.proprio_scale
            declared.append(("proprio", "vector", (len(scale),), "float32", "rad, rad/s, m, m/s", scale))
        if "force" in modalities:
            scale = (10.0, 10.0, 10.0, 1.0, 1.0, 1.0, 20.0, 20.0)
            declared.append(("force", "window", tuple(self._window.shape[1:]), "float32", "N, N·m", scale))
        sensors = []
        for key, kind, shape, dtype, unit, scale in declared:
            when = timing.get(key, Timing())
            rate = 1.0 / (self._control_dt * when.update_interval)
            sample_rate = 1.0 / TIMESTEP if kind == "window" else rate
            latency = when.delay * self._control_dt
            sensors.append(Sensor(key, kind, shape, dtype, unit, scale, rate, latency, sample_rate))
        return sensors

    def _force(self, seed: int, episode: Tensor, step: Tensor, worlds: Worlds, offset: Array) -> Tensor:
        fresh = rows_of(self._robot.wrench(), worlds)
        window, swing = rows_of(self._window, worlds), rows_of(self._swing, worlds)
        on_numpy, count, length = isinstance(fresh, np.ndarray), fresh.shape[1], window.shape[1]
        starting = step.numpy() == 0 if on_numpy else step == 0
        begins = starting.any() if on_numpy else True  # on another device looking would cost more than drawing
        if begins:
            swing = where(starting[:, None, None], self._source.swing(seed, episode), swing)
            write_rows(self._swing, worlds, swing)
        elapsed = step.numpy().astype(np.float32) if on_numpy else step.float()
        fresh = self._source.wrench(fresh, offset, swing, (elapsed * self._control_dt)[:, None] - self._age)
        window = fresh[:, -length:] if length <= count else concatenate([window[:, count:], fresh], 1)
        if begins:  # before the first step the sensor has only ever read one value
            window = where(starting[:, None, None], window[:, -1:], window)
        write_rows(self._window, worlds, window)
        return float32(window)


class DelayLine:
    """Delays the readings of one sensor in N worlds, and holds each between deliveries."""

    def __init__(self, timing: Timing, num_envs: int) -> None:
        """Starts empty; the first reading of an episode fills it."""
        self._timing, self._num_envs = timing, num_envs
        self._sent: Tensor | None = None  # (N, delay, …), newest first
        self._held: Tensor | None = None  # (N, …)

    def pass_on(self, reading: Tensor, step: Tensor, worlds: Worlds) -> Tensor:
        """Take the present readings and return what is delivered now.

        Args:
            reading: (n, …) what the sensor reads now in these worlds.
            step: int64 (n,), control steps since the episode's start.
            worlds: which.

        Returns:
            (n, …) what arrives now, a fresh tensor.
        """
        if reading.dtype == torch.uint16:  # torch cannot index into it, but into the same bits as int16
            return self.pass_on(reading.view(torch.int16), step, worlds).view(torch.uint16)
        if self._sent is None or self._held is None:
            self._held = reading.new_zeros((self._num_envs, *reading.shape[1:]))
            self._sent = reading.new_zeros((self._num_envs, self._timing.delay, *reading.shape[1:]))
        each = (-1, *[1] * (reading.dim() - 1))
        if self._timing.delay:
            starts = (step == 0).view(-1, 1, *each[1:])
            sent = torch.where(starts, reading[:, None], chosen(self._sent, worlds))
            write(self._sent, worlds, torch.cat([reading[:, None], sent[:, :-1]], 1))
            reading = sent[:, -1]
        if self._timing.update_interval > 1:
            due = (step % self._timing.update_interval == 0).view(each)
            reading = torch.where(due, reading, chosen(self._held, worlds))
            write(self._held, worlds, reading)
        return reading


class Mount:
    """Poses of the cameras of N worlds, as renderers read them: those of the model, moved by faults."""

    def __init__(self, backend: Backend, cameras: Sequence[str]) -> None:
        """`cameras` are names in the model; `offset_camera` counts them in this order."""
        self._backend = backend
        self._ids = [mujoco.mj_name2id(backend.model, mujoco.mjtObj.mjOBJ_CAMERA, name) for name in cameras]
        self._live = {name: backend.field(name) for name in _POSE}
        self._placed = {name: field.clone() for name, field in self._live.items()}
        self._camera_offsets: list[tuple[int, Worlds, Tensor, Tensor]] = []

    def field(self, name: str) -> np.ndarray:
        """A live array of the backend; of cameras, the one that `place` fills."""
        return (self._placed[name] if name in _POSE else self._backend.field(name)).numpy()

    def offset_camera(self, camera: int, worlds: Worlds, shift: Tensor, turn: Tensor) -> None:
        """Move a camera, by number, until the next `place`, as `Rig.offset_camera` says; several moves add up."""
        dtype = self._placed["cam_xpos"].dtype
        self._camera_offsets.append((self._ids[camera], worlds, shift.to(dtype), turn.to(dtype)))

    def place(self, worlds: Worlds) -> None:
        """Update the poses of the cameras of worlds, and apply the offsets once."""
        for name, field in self._live.items():
            write(self._placed[name], worlds, chosen(field, worlds))
        self._move(self._placed)

    @contextmanager
    def moved(self) -> Iterator[None]:
        """The model's own cameras are moved within, by the offsets, once."""
        if not self._camera_offsets:
            yield
            return
        before = {name: field.clone() for name, field in self._live.items()}
        self._move(self._live)
        yield
        for name, field in self._live.items():
            field.copy_(before[name])

    def _move(self, poses: dict[str, Tensor]) -> None:
        for camera, worlds, shift, turn in self._camera_offsets:
            position, axes = (poses[name][:, camera] for name in _POSE)
            frame = chosen(axes, worlds).reshape(-1, 3, 3)
            write(position, worlds, chosen(position, worlds) + (frame @ shift[..., None])[..., 0])
            write(axes, worlds, (frame @ _rotation(turn, on_cpu(turn))).reshape(-1, 9))
        self._camera_offsets = []


def _rotation(turn: Tensor, may_look: bool) -> Tensor:
    """Rotation matrices (n, 3, 3) of rotation vectors (n, 3) [rad]."""
    x, y, z = turn.unbind(1)
    nothing = torch.zeros_like(x)
    skew = torch.stack([nothing, -z, y, z, nothing, -x, -y, x, nothing], dim=1).reshape(-1, 3, 3)
    if may_look:  # at how large they are
        return torch.linalg.matrix_exp(skew)
    # Rodrigues' formula: 1 + sin(a) / a · skew + (1 − cos(a)) / a² · skew²
    angle = torch.linalg.vector_norm(turn, dim=1)[:, None, None]
    linear, square = torch.sinc(angle / math.pi), 0.5 * torch.sinc(angle / (2.0 * math.pi)) ** 2
    return torch.eye(3, dtype=turn.dtype, device=turn.device) + linear * skew + square * (skew @ skew)
