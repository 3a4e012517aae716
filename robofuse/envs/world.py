"""N simulations of one task, stepped together: the only step loop there is."""

import functools
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal, NamedTuple, TypeVar, cast

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor

from robofuse.checks import whole
from robofuse.dropout import Dropout, Law
from robofuse.envs.cameras import Camera, drawn, resolve
from robofuse.envs.control import Robot, checked
from robofuse.envs.noise import Noise
from robofuse.envs.observer import FaultsLike, Observer, Truth
from robofuse.envs.physics import check_mujoco, make_backend
from robofuse.envs.rendering.picture import Picture
from robofuse.envs.rig import Rig, Timing
from robofuse.envs.robot import RobotModel, resolve_robot
from robofuse.envs.scene import TIMESTEP, compose
from robofuse.envs.shapes import Looks, Shape
from robofuse.envs.tasks import Task, resolve_task
from robofuse.envs.tasks.task import outcome
from robofuse.errors import InputError, StateError
from robofuse.faults import Mix, Plan
from robofuse.registration import RENDERERS
from robofuse.rng import Stream, check_seed, uniform
from robofuse.room import Room
from robofuse.sensors import MODALITIES, TRUTH, Sensor, observation_space
from robofuse.tensors import Worlds, chosen, find_device, integers, one_torch_thread, replaced, take, write

CONTROL_RATE = 20  # Hz
SUBSTEPS = round(1.0 / (CONTROL_RATE * TIMESTEP))
_EPISODES = 1 << 62  # more than can be played, so that numbers of episodes never overflow
Method = TypeVar("Method", bound=Callable[..., Any])


class Step(NamedTuple):
    """What one control step of N worlds gave.

    Attributes:
        observation: key → (N, …); of worlds that ended, the first observation of their next episode.
        reward: float32 (N,), sum of `terms`.
        terminated: bool (N,), success.
        truncated: bool (N,), out of time, or diverged.
        success: bool (N,).
        terms: name → float32 (N,), weighted reward terms.
        ended: bool (N,), the episode ended: `terminated | truncated`.
        final_observation: key → (N, …), the last observation of the episode that this step belonged to: of worlds that
            did not end, what `observation` says. A simulation that diverged ends with its last healthy observation,
            from the very tensors of the step before: what a caller has written into those shows here.
        episode: int64 (N,), numbers of the episodes that this step belonged to.
        failure: int64 (N,), 0, or why the simulation diverged: `World.cause` puts it in words.
        peak_force: float32 (N,), the largest force on the wrist within this control step [N], exact; 0 where the
            simulation diverged.
    """

    observation: dict[str, Tensor]
    reward: Tensor
    terminated: Tensor
    truncated: Tensor
    success: Tensor
    terms: dict[str, Tensor]
    ended: Tensor
    final_observation: dict[str, Tensor]
    episode: Tensor
    failure: Tensor
    peak_force: Tensor


def _alone(method: Method) -> Method:
    """Refuses a second caller while a first is within, and uses one torch thread."""

    @functools.wraps(method)
    def call(world: "World", /, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        if not world._turn.acquire(blocking=False):
            raise StateError("this World is at work in another thread; a thread needs a World of its own")
        try:
            device = world.backend.device
            if device.type == "cuda" and torch.cuda.current_stream(device) != torch.cuda.default_stream(device):
                raise StateError(
                    "a World computes on CUDA's default stream, whose order others do not keep; leave "
                    "torch.cuda.stream(…) first"
                )
            with one_torch_thread(), world._room.told():
                return method(world, *args, **kwargs)
        finally:
            world._turn.release()

    return cast(Method, call)


class World:
    """N independent copies of one task, as torch tensors with N in front.

    The scene of an episode depends on (seed, episode number) alone. World i of N plays the episodes i, i + N, i + 2N, …
    of its seed, whatever the policy does.

    Attributes:
        num_envs: N.
        sensors: the sensors, in the order of `available`.
        cameras: the cameras that they look through.
        privileged_names: what each entry of `privileged` is: the task's truth, then the robot's proprioception, exact.
        observation_space: Dict space of one world.
        action_space: Box (5,) in [−1, 1]: x, y, z, yaw, gripper (see `Robot`).
        task: the task.
        robot: the robot.
        backend: the physics.
        episode: int64 (N,), number of the episode each world is in.
        elapsed: int64 (N,), control steps since its start.
    """

    def __init__(
        self,
        task: str | Task | type[Task] = "Grasp",
        num_envs: int = 1,
        *,
        robot: str | RobotModel = "arm",
        sensors: Sequence[str] = MODALITIES,
        cameras: Sequence[str | Camera | Mapping[str, Any]] = ("scene",),
        image_size: int | tuple[int, int] = 64,
        render_size: int | tuple[int, int] | None = None,
        renderer: str = "warp",
        physics: str = "auto",
        noise: bool | Noise = True,
        timing: Mapping[str, Timing] | None = None,
        force_window: int = 10,
        privileged: bool = False,
        dropout: Dropout | Law | float | None = None,
        fill: Literal["zeros", "keep"] = "zeros",
        faults: FaultsLike = None,
        auto_reset: bool = True,
        seed: int = 0,
        num_threads: int | None = None,
        device: str | torch.device = "cpu",
    ) -> None:
        """Builds the model and N simulations; call `reset` before `step`.

        Args:
            task: a name of `robofuse.envs.TASKS`, or a `Task`.
            num_envs: N.
            robot: a name of `robofuse.envs.ROBOTS`, or a `RobotModel`.
            sensors: which of rgb, depth, proprio and force to deliver; and `truth`, the privileged vector, which no
                robot has, for teachers and upper bounds.
            cameras: names of `robofuse.envs.CAMERAS`, or `Camera` objects, or dictionaries as policy files store them;
                each gives its own rgb and depth.
            image_size: pixels of a picture as it is read, one number or (height, width).
            render_size: pixels at which cameras draw, a multiple of `image_size`; noise and faults act on what is
                drawn, then it is area-averaged. None draws at `image_size`.
            renderer: `warp` (needs nothing but pip) or `gl` (the fastest on a CPU).
            physics: `mujoco` (on CPU threads), `warp` (mujoco_warp on the device, in 32 bits; on a CPU it is slower,
                and shows what a GPU would compute), or `auto`: warp on a GPU, else mujoco.
            noise: nominal sensor noise: the default `Noise()`, none (False), or your own.
            timing: sensor key → `Timing`, for sensors that deliver seldom or late.
            force_window: readings of the force sensor (200 Hz) in one observation.
            privileged: add simulator truth under `privileged`.
            dropout: sensors to mask while training: a `robofuse.dropout.Dropout`, or a probability, which masks each
                sensor for a whole episode. `available` is 0 for masked sensors, and they read zero.
            fill: what sensors read that dropout masks: `zeros`; or `keep`, as is, for encoders that are to see it
                (`FusionExtractor(encode_masked=True)`). After an announced fault it is zeros in any case.
            faults: what breaks in every episode: a `robofuse.faults.Plan`, or a line such as `rgb:freeze@20`; a
                `robofuse.faults.Mix`, which draws a plan per episode; or a function of the sensors that returns a Plan
                or a Mix. Announced faults set `available` to 0.
            auto_reset: start the next episode of a world as soon as one has ended; without it, ignore what a
                world returns after its episode has ended, until `reset` or `restart`.
            seed: of all random streams.
            num_threads: threads for physics and rendering on a CPU, default one per core.
            device: where observations are made and actions taken: `cpu`, `cuda`, `cuda:1`, …, or `auto`: a GPU if there
                is one. On a GPU nothing of a step waits for it, unless there are faults or physics is `mujoco`; `warp`
                draws.

        Raises:
            InputError: an unknown name or a size out of range; the message lists what exists.
            StateError: there is no room for so many worlds; the message says for how many. Or MuJoCo is too old.
        """
        check_mujoco()
        self.num_envs = whole(num_envs, "num_envs", 1)
        if num_threads is not None:
            whole(num_threads, "num_threads", 1)
        if renderer not in RENDERERS:
            raise InputError(f"unknown renderer {renderer!r}; renderers: {', '.join(RENDERERS)}")
        place = find_device(device)
        if place.type != "cpu" and renderer != "warp":
            raise InputError(f'on {place} worlds are drawn by mujoco_warp: renderer="warp", not {renderer!r}')
        self.task, model = resolve_task(task), resolve_robot(robot)
        if isinstance(noise, bool):
            noise = Noise() if noise else Noise.off()
        if not isinstance(noise, Noise):
            raise InputError(f"noise must be True, False or a robofuse.envs.Noise, got {noise!r}")
        if isinstance(sensors, str):
            sensors = (sensors,)
        if not isinstance(sensors, Sequence) or not sensors:
            names = ", ".join((*MODALITIES, TRUTH))
            raise InputError(f"sensors must be different names out of {names}; got {sensors or 'none'}")
        shots = self.cameras = resolve(cameras, image_size)
        self.auto_reset, self._seed, self._closed = auto_reset, check_seed(seed), False
        self._process = os.getpid()
        scene, self._spec = compose(model, self.task.add_objects, shots)
        self._turn, self._room = threading.RLock(), Room(self.num_envs, place)
        with self._room.told():
            self.backend = make_backend(physics, place, scene, self.num_envs, SUBSTEPS, num_threads)
            self.robot = Robot(model, self.backend)
            self.task.bind(self.backend, self.robot)
            self._rig = Rig(
                self.backend,
                self.robot,
                drawn(shots, render_size),
                [name for name in sensors if name != TRUTH],
                renderer,
                noise,
                {} if timing is None else timing,
                force_window,
                1.0 / CONTROL_RATE,
                num_threads,
            )
            self._renderer, self._picture, self._looks = renderer, None, None
            truth = Truth(self.task, self.robot, 1.0 / CONTROL_RATE)
            self._observer = Observer(
                self.num_envs,
                self._rig,
                shots,
                truth,
                TRUTH in sensors,
                privileged,
                dropout,
                fill,
                faults,
                1.0 / CONTROL_RATE,
                seed,
                self.backend.device,
            )
        self.sensors: tuple[Sensor, ...] = self._observer.sensors
        self.privileged_names = truth.names
        self.observation_space = observation_space(self.sensors, len(truth.names) if privileged else 0)
        self.action_space = gym.spaces.Box(-1.0, 1.0, (5,), np.float32)
        self.max_steps = round(self.task.horizon * CONTROL_RATE)
        self.episode = self._arange() - self.num_envs  # the first reset makes it 0 … N − 1
        self.elapsed = torch.zeros_like(self.episode)
        self._observation: dict[str, Tensor] = {}

    @_alone
    def reset(self, seed: int | None = None, episode: int | None = None) -> dict[str, Tensor]:
        """Start an episode in every world.

        Args:
            seed: a new seed, which starts again at episode 0; by default the next episodes of the present one.
            episode: number of the episode of world 0; world i plays `episode` + i.

        Returns:
            Observation, key → (N, …).

        Raises:
            InputError: not a seed, or not the number of an episode.
        """
        self._check_open()
        if seed is not None:
            self._seed = check_seed(seed)
            self.episode = self._arange() - self.num_envs
        if episode is not None:
            first = whole(episode, "episode", 0, _EPISODES - 1)
            self.episode = self._arange() + first - self.num_envs
        self._start(self._named(torch.ones_like(self.episode, dtype=torch.bool)))
        self._observation = self._read()()
        return dict(self._observation)

    @_alone
    def restart(
        self,
        env_ids: Tensor | Sequence[int],
        episodes: Tensor | Sequence[int],
        faults: Sequence[Plan] | None = None,
    ) -> dict[str, Tensor]:
        """Start the given episodes in the given worlds; the other worlds go on undisturbed.

        Args:
            env_ids: int (n,), different ones of 0 … N − 1, in any order.
            episodes: int (n,), the number of the episode that each of them starts; with `auto_reset` the episodes
                after it are + N, + 2N, … from there.
            faults: n, what breaks in each of these episodes; by default what the World was made with.

        Returns:
            Their first observations, key → (n, …), rows as in `env_ids`.

        Raises:
            InputError: not such numbers.
            StateError: closed, or never reset.
        """
        self._check_open()
        if not self._observation:
            raise StateError("call reset() before restart()")
        env_ids = integers(env_ids, "env_ids", self.num_envs)
        episodes = integers(episodes, "episodes", _EPISODES)
        if len(env_ids) != len(episodes) or len(env_ids.unique()) < len(env_ids):
            raise InputError(f"as many episodes as different worlds, got {env_ids.tolist()} and {episodes.tolist()}")
        if faults is not None:
            if not isinstance(faults, Sequence) or not all(isinstance(plan, Plan) for plan in faults):
                raise InputError(f"faults must be a list of robofuse.faults.Plan, one for each world, got {faults!r}")
            if len(faults) != len(env_ids):
                raise InputError(f"as many plans of faults as worlds, got {len(faults)} and {len(env_ids)}")
            self._observer.injector.check(faults)
        if not len(env_ids):
            return {key: value[:0] for key, value in self._observation.items()}
        env_ids, order = env_ids.sort()
        self.episode = self.episode.index_copy(0, env_ids, episodes[order] - self.num_envs)
        worlds = self._named(torch.zeros_like(self.episode, dtype=torch.bool).index_fill(0, env_ids, True))
        self._start(worlds, None if faults is None else [faults[i] for i in order.tolist()])
        first = self._read(worlds)()
        self._observation = {key: replaced(x, worlds, first[key]) for key, x in self._observation.items()}
        return {key: take(value, env_ids[order.argsort()]) for key, value in self._observation.items()}

    @_alone
    def break_sensors(self, plan: Plan, env_ids: Tensor | Sequence[int] | None = None) -> None:
        """Change what breaks in the episodes that worlds are in, from their next observation on: a switch to play with.

        The plan takes the place of the one before until the episode ends. Its control steps count from the episode's
        start, as ever: what is to begin now, as drift does, begins at step `elapsed` + 1. Events that were there before
        go on, also at another severity; new ones have seen no reading of before, so that one which delays begins by
        repeating its first. All is a function of the seed, the episode, and the steps and plans of the changes.

        Args:
            plan: what breaks; an empty one mends all.
            env_ids: int (n,), in which worlds; by default in all of them.

        Raises:
            InputError: the plan does not fit the sensors and the task, or there is no such world.
            StateError: closed, or not reset yet.
        """
        self._check_open()
        if not self._observation:
            raise StateError("call reset() before break_sensors()")
        if not isinstance(plan, Plan):
            raise InputError(f"break_sensors() takes a robofuse.faults.Plan, got {plan!r}; Plan.parse reads text")
        self._observer.injector.check([plan])
        which = self._arange() if env_ids is None else integers(env_ids, "env_ids", self.num_envs).unique()
        self._observer.injector.change(which.to(self.backend.device), [plan] * len(which))

    @_alone
    def step(self, action: Tensor | np.ndarray) -> Step:
        """Advance every world by one control step (50 ms).

        Args:
            action: (N, 5); values beyond [−1, 1] are clipped.

        Raises:
            InputError: wrong shape, or NaN or Inf anywhere; or the task breaks its contract.
            StateError: closed, or not reset yet.
        """
        self._check_open()
        if not self._observation:
            raise StateError("call reset() before step()")
        action = checked(action, self.num_envs, self.backend.device)
        self.robot.apply(action)
        self.backend.step()
        self.robot.update()
        self.elapsed = self.elapsed + 1
        self._observer.step()
        observe = self._read()  # the cameras draw while the rest is computed
        self.task.update()

        success, terms = outcome(self.task, action)
        weighted = torch.stack([weight * terms[name] for name, weight in self.task.weights.items()]).float()
        failure = self.backend.failure.clone()  # scenes that could not be set up are told at their first step
        failed = failure > 0
        peak_force = torch.where(failed, 0.0, self.robot.peak_force().float())
        success = success & ~failed
        weighted = torch.where(failed, 0.0, weighted)
        truncated = (failed | (self.elapsed >= self.max_steps)) & ~success
        ended, episode = success | truncated, self.episode
        final = self._observation = self._but(failed, observe(), self._observation)
        if self.auto_reset and self._any(ended):
            worlds = self._named(ended)
            self._start(worlds)
            self._observation = {
                key: replaced(final[key], worlds, first) for key, first in self._read(worlds)().items()
            }
        rows = weighted.unbind()
        return Step(
            dict(self._observation),
            # term by term: the order of torch's own sum depends on the number of worlds
            functools.reduce(torch.add, rows),
            success.clone(),
            truncated,
            success,
            dict(zip(self.task.weights, rows, strict=True)),
            ended,
            dict(final),
            episode,
            failure,
            peak_force,
        )

    def cause(self, failure: int) -> str:
        """Why a simulation diverged, in words; `failure` is a number other than 0 of `Step.failure`."""
        return self.backend.cause(failure)

    @property
    def affected(self) -> Tensor:
        """Which sensors faults have broken in the last observation, bool (N, M)."""
        return self._observer.injector.affected.clone()

    @property
    def faults(self) -> Plan | Mix:
        """What breaks in every episode, unless `restart` is given other plans."""
        return self._observer.injector.faults

    @property
    def seed(self) -> int:
        """Of all random streams."""
        return self._seed

    @property
    def dropout_progress(self) -> float:
        """Training progress in [0, 1], for the schedule of `dropout`; what is set takes effect at the next draw."""
        return self._observer.masker.progress

    @dropout_progress.setter
    def dropout_progress(self, progress: float) -> None:
        self._observer.masker.progress = progress

    @_alone
    def expert(self) -> Tensor:
        """Actions (N, 5) of the task's scripted expert, which knows the truth.

        Raises:
            StateError: the task has no expert; or closed, or not reset yet.
        """
        self._check_open()
        if not self._observation:
            raise StateError("call reset() before expert()")
        return self.task.expert()

    def picture(self, index: int = 0) -> np.ndarray:
        """Picture of one world for people: uint8 (480, 640, 3)."""
        self._check_open()
        whole(index, "index", 0, self.num_envs - 1)
        if self._picture is None:
            self._picture = Picture(self.backend, self._spec)
        return self._picture.take(index)

    def shapes(self, index: int = 0) -> list[Shape]:
        """What one world consists of in this episode, for viewers that draw by themselves; see `poses`."""
        return self._looks_of(index).shapes(index)

    def poses(self, index: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """Where the `shapes` of one world are: positions (S, 3) [m] and unit quaternions (S, 4), w first."""
        return self._looks_of(index).poses(index)

    def close(self) -> None:
        """Free the renderers; may be called twice."""
        self._closed = True
        self._rig.close()
        if self._picture is not None:
            self._picture.close()

    def _looks_of(self, index: int) -> Looks:
        self._check_open()
        whole(index, "index", 0, self.num_envs - 1)
        if self._looks is None:
            self._looks = Looks(self.backend)
        return self._looks

    def _start(self, worlds: Tensor, faults: Sequence[Plan] | None = None) -> None:
        """Worlds start their next episodes; `worlds` are as in `Backend.begin`, `faults` those of a list of numbers."""
        self.episode, self.elapsed = self.episode.clone(), self.elapsed.clone()  # callers have the old ones
        write(self.episode, worlds, chosen(self.episode, worlds) + self.num_envs)
        write(self.elapsed, worlds, 0)
        episode = chosen(self.episode, worlds)
        self._observer.start(self._seed, worlds, episode, faults)
        u = uniform(self._seed, Stream.SCENE, episode, 0, self.task.draws)
        with self.backend.begin(worlds) as env_ids:
            self.robot.reset(env_ids)
            self.task.place(env_ids, u.to(self.backend.dtype))
        self.robot.settle(worlds)
        self.task.begin(worlds)

    def _named(self, worlds: Tensor) -> Tensor:
        """Worlds, bool (N,), as the backend wants them."""
        return worlds if self.backend.by_mask else worlds.nonzero()[:, 0]

    def _any(self, worlds: Tensor) -> bool:
        """Whether there may be any, without a look where that would wait."""
        return self.backend.by_mask or bool(worlds.any())

    def _but(self, worlds: Tensor, new: dict[str, Tensor], old: dict[str, Tensor]) -> dict[str, Tensor]:
        """The new observation, but of some worlds, bool (N,), the old one."""
        if not self._any(worlds):
            return new
        worlds = self._named(worlds)
        return {key: replaced(x, worlds, chosen(old[key], worlds)) for key, x in new.items()}

    def _read(self, worlds: Worlds = None) -> Callable[[], dict[str, Tensor]]:
        return self._observer.expose(self._seed, self.episode, self.elapsed, worlds)

    def _check_open(self) -> None:
        if self._closed:
            raise StateError("this World is closed; make a new one")
        if self._process != os.getpid():
            raise StateError("this World was made in another process: threads do not survive a fork, make one here")

    def _arange(self) -> Tensor:
        return torch.arange(self.num_envs, device=self.backend.device)
