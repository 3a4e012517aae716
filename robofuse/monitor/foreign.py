"""Calibration for agents of others in environments of others, whose episodes are played one by one."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor

from robofuse.checks import whole
from robofuse.errors import InputError
from robofuse.evaluate.foreign import Foreign, break_sensors, episode_steps, make_foreign
from robofuse.faults import Plan
from robofuse.monitor.calibrate import FOLDS, SEED, Recording, check, draw_masks, fit
from robofuse.monitor.features import Measured, features, filled_after, measure
from robofuse.monitor.monitor import Monitor
from robofuse.rng import check_seed
from robofuse.sensors import AVAILABLE, Kind, Sensor, channels_last
from robofuse.tensors import one_torch_thread

_EPISODES, _FEWEST_EPISODES = 768, 64  # that are played unless a number is asked for
_STEPS = 20_000  # about as many control steps as 768 episodes of a World make
_FIRST = 4  # episodes that are looked at before the others: how long they are, how large readings are
_FEWEST = 500  # control steps with one before them, to know what happens in one of a hundred
_MOST = 2048  # features of a sensor: their second moments are inverted
_BLOCK = 64  # control steps that are measured together


def calibrate_env(
    agent: Any,  # noqa: ANN401
    make_env: Callable[[], gym.Env],
    episodes: int | None = None,
    false_alarms: float = 1e-3,
    seed: int = SEED,
    *,
    kinds: Mapping[str, Kind] | None = None,
    normalise: Any = None,  # noqa: ANN401
    progress: Callable[[int, int], object] | None = None,
) -> Monitor:
    """Does what `calibrate` does, for any agent in any Gymnasium environment with a Dict observation.

    The sensors are those that faults can break: images, and vectors and windows of floats. What the agent has to do
    without reads zeros, and is 0 under `available`, as under announced faults. `robofuse.evaluate_agent` takes the
    monitor.

    Args:
        agent: as of `robofuse.evaluate_agent`.
        make_env: makes the environment, without faults and dropout. Episode i begins with `reset(seed=seed + i)`.
        episodes: to play; by default as many as make 20,000 control steps, but from 64 to 768.
        false_alarms: healthy sensors switched off per control step, at most.
        seed: of the scenes; keep apart from those of evaluations.
        kinds: key → kind of sensor, where the space does not tell.
        normalise: the `VecNormalize` that the agent was trained with. The monitor judges readings before it.
        progress: called with (episodes done, episodes to do).

    Returns:
        The monitor; its card says how often it was wrong in a quarter of the episodes, which it did not learn from.

    Raises:
        InputError: too many sensors or too large ones, healthy readings that are not finite or missing, too few control
            steps, or numbers out of range; the message says what would do.
    """
    # whether an episode is a success does not matter here, so nobody need say
    foreign = make_foreign(agent, make_env, success_return=0.0, kinds=kinds, normalise=normalise, seed=check_seed(seed))
    return calibrate_foreign(foreign, episodes, false_alarms, seed, progress)


@one_torch_thread()
def calibrate_foreign(
    foreign: Foreign,
    episodes: int | None = None,
    false_alarms: float = 1e-3,
    seed: int = SEED,
    progress: Callable[[int, int], object] | None = None,
) -> Monitor:
    """Does what `calibrate_env` does, for an agent and an environment that were looked at already."""
    sensors = foreign.policy.sensors
    check(sensors, false_alarms)
    for sensor in sensors:
        _check_sensor(sensor)
    if episodes is not None:
        whole(episodes, "episodes", FOLDS)
    env = foreign.make_env()
    try:
        healthy = break_sensors(foreign, env, Plan())
        length, largest = 0, {sensor.key: np.zeros(sensor.shape[-1]) for sensor in sensors}
        for episode in range(_FIRST):
            for taken in episode_steps(foreign, healthy, seed + episode):
                length += 1
                for key, most in largest.items():
                    most[:] = np.maximum(most, _largest(taken.observation[key], len(most)))
        mean = length / _FIRST
        if episodes is None:
            episodes = min(_EPISODES, max(_FEWEST_EPISODES, math.ceil(_STEPS / mean)))
        sensors = tuple(_scaled(sensor, largest[sensor.key]) for sensor in sensors)
        recorder = _Recorder(sensors, draw_masks(episodes, len(sensors), seed, max(2, round(mean))))
        for episode in range(episodes):
            for _ in episode_steps(foreign, healthy, seed + episode, watch=recorder):
                pass
            if progress is not None:
                progress(episode + 1, episodes)
    finally:
        env.close()
    recording = recorder.recording()
    many = int((recording.step > 0).sum())
    if many < _FEWEST:
        raise InputError(
            f"{episodes} episodes gave {many} control steps after the first ones, and to know what is usual takes "
            f"{_FEWEST}: more episodes, or longer ones"
        )
    monitor = fit(recording, sensors, false_alarms)
    known = {"policy": "", "weights": foreign.policy.digest, "seed": seed, "episodes": episodes}
    return replace(monitor, card={**known, "world": foreign.options, **monitor.card})


class _Recorder:
    """Stands where a watch would: measures what it is shown, and masks what the agent has to do without."""

    def __init__(self, sensors: Sequence[Sensor], masked_from: Tensor) -> None:
        """`masked_from` int64 (E, M): from which step of each episode on each sensor is masked."""
        self._sensors, self._masked_from = sensors, masked_from
        self._filled = [filled_after(sensor) for sensor in sensors]
        self._episode, self._step = -1, 0
        self._before = list[Tensor]()
        self._waiting: list[list[Tensor]] = [[] for _ in sensors]
        self._measured: list[list[Measured]] = [[] for _ in sensors]
        self._steps = list[int]()  # of each episode

    def start(self, env_ids: Tensor, /) -> None:
        """The next episode begins."""
        self._measure()
        if self._episode >= 0:
            self._steps.append(self._step)
        self._episode, self._step = self._episode + 1, 0
        self._before = [torch.full((1, *sensor.shape), torch.nan) for sensor in self._sensors]

    def step(self, observation: Mapping[str, Tensor], env_ids: Tensor, /) -> Tensor:
        """int8 (1, M), 1 for what the agent is given of a healthy observation, key → (1, …)."""
        for m, sensor in enumerate(self._sensors):
            reading = observation[sensor.key]
            if not bool(observation[AVAILABLE][0, m]):
                raise InputError(
                    f"the environment says itself that {sensor.key!r} is missing, in step {self._step} of episode "
                    f"{self._episode}; calibrate in one without dropout and faults"
                )
            if reading.is_floating_point() and not bool(reading.isfinite().all()):
                raise InputError(
                    f"{sensor.key!r} is not finite in a healthy episode, in step {self._step} of episode "
                    f"{self._episode}, and a monitor takes NaN and Inf for faults; give a number that means the same "
                    "(gymnasium.wrappers.TransformObservation)"
                )
            self._waiting[m].append(reading)
        live = self._masked_from[self._episode] > self._step
        self._step += 1
        if self._step % _BLOCK == 0:
            self._measure()
        return live[None].to(torch.int8)

    def recording(self) -> Recording:
        """All that was measured; no further step can be taken."""
        self._measure()
        lengths = torch.tensor([*self._steps, self._step])
        episode = torch.arange(len(lengths)).repeat_interleave(lengths)
        step = torch.cat([torch.arange(n) for n in lengths.tolist()])
        measured = [Measured(*map(torch.cat, zip(*parts, strict=True))) for parts in self._measured]
        return Recording(measured, step[:, None] < self._masked_from[episode], episode, step)

    def _measure(self) -> None:
        """Measures the steps that wait, which follow each other."""
        count = len(self._waiting[0])
        if not count:
            return
        elapsed = torch.arange(self._step - count, self._step)
        for m, sensor in enumerate(self._sensors):
            readings = torch.cat(self._waiting[m])
            self._waiting[m] = []
            # what each reading is measured against is the one before it
            _, now = measure(readings, torch.full(readings.shape, torch.nan), sensor, torch.zeros(count) > 0)
            found, _ = measure(readings, torch.cat([self._before[m], now[:-1]]), sensor, elapsed < self._filled[m])
            self._before[m] = now[-1:]
            self._measured[m].append(found)


def _largest(reading: Any, channels: int) -> np.ndarray:  # noqa: ANN401
    """The largest magnitude of each element of the last axis, float64 (C,); what is not finite does not count."""
    size = np.abs(np.asarray(reading, np.float64)).reshape(-1, channels)
    return np.where(np.isfinite(size), size, 0.0).max(axis=0)


def _scaled(sensor: Sensor, largest: np.ndarray) -> Sensor:
    """With its typical magnitude, if it is a sensor of floats of which nothing is known."""
    known = sensor.unit or sensor.rate or sensor.scale != 1.0 or sensor.kind == "rgb"
    if known or np.dtype(sensor.dtype).kind != "f":
        return sensor
    found = np.where(largest > 1e-12, largest, 1.0)
    return replace(sensor, scale=float(found.max()) if len(sensor.shape) == 3 else tuple(found.tolist()))


def _check_sensor(sensor: Sensor) -> None:
    """InputError for a sensor that cannot be measured."""
    shape, image = sensor.shape, sensor.kind in ("rgb", "depth")
    if image:
        sides = () if len(shape) != 3 else shape[:2] if channels_last(shape) else shape[1:]
        fits = len(sides) == 2 and min(sides) >= 2
    else:
        fits = len(shape) == 2 if sensor.kind == "window" else len(shape) in (1, 2)
    if not fits:
        wanted = "(H, W, C) or (C, H, W), from 2×2 pixels on" if image else "(W, C) or (P,)"
        raise InputError(
            f"a monitor cannot measure {sensor.key!r}, a {sensor.kind} of shape {shape}; it must be {wanted}"
        )
    blank = torch.zeros(1, *shape)
    count = features(blank, blank, sensor).shape[1]
    if count > _MOST:
        raise InputError(
            f"a monitor takes up to {_MOST} figures of a sensor, and of {sensor.key!r} {shape} there are {count}; give "
            "it fewer elements or channels (gymnasium.wrappers.TransformObservation)"
        )
