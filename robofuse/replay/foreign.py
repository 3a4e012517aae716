"""Agents of others as frames to look at, in environments of others that draw themselves."""

from collections.abc import Generator, Iterable

import numpy as np

from robofuse.evaluate.foreign import Foreign, Taken, break_sensors, episode_steps
from robofuse.faults import Plan
from robofuse.play import Monitor, Watch
from robofuse.replay.canvas import SERIES
from robofuse.replay.dashboard import Curves, Stage
from robofuse.replay.frames import Frame
from robofuse.sensors import AVAILABLE, Sensor, channels_last
from robofuse.wrappers import SensorFaults

_REWARD = "reward"
_PLOTS = 5  # more would be too low to read


def foreign_stage(foreign: Foreign, seed: int) -> Stage:
    """What is shown of an environment of others: its images, and plots of the first elements of its vectors."""
    sensors = tuple(_as_shown(sensor) for sensor in foreign.policy.sensors)
    vectors = [sensor for sensor in sensors if sensor.kind in ("vector", "window")]
    return Stage(
        sensors=sensors,
        curves=tuple(_curves(sensor) for sensor in vectors[:_PLOTS]),
        weights={_REWARD: 1.0},
        max_steps=foreign.max_steps,
        seed=seed,
    )


def foreign_frames(
    foreign: Foreign, plan: Plan, seed: int, episodes: Iterable[int], monitor: Monitor | None = None
) -> Generator[Frame]:
    """Play episodes one after the other; number i begins with `reset(seed=seed + i)`, as in evaluations.

    What `monitor` does not trust is off.

    Yields:
        The frame before each step, and one more at the end with the last observation and picture, and the outcome.

    Raises:
        InputError: as of `episode_steps`.
    """
    env = foreign.make_env()
    try:
        broken = break_sensors(foreign, env, plan)
        watch = None if monitor is None else monitor.stateful(1)
        sensors = [(sensor, _as_shown(sensor)) for sensor in foreign.policy.sensors]
        for episode in episodes:
            yield from _episode(foreign, broken, sensors, episode, seed, watch)
    finally:
        env.close()


def _episode(
    foreign: Foreign,
    env: SensorFaults,
    sensors: list[tuple[Sensor, Sensor]],
    episode: int,
    seed: int,
    watch: Watch | None,
) -> Generator[Frame]:
    since, total, reward = dict[str, int](), 0.0, 0.0
    for taken in episode_steps(foreign, env, seed + episode, pictures=True, watch=watch):
        on = _delivering(taken, env.keys, sensors)
        since = {key: since.get(key, taken.step) for key, works in on.items() if not works}
        seen = {shown.key: _readable(taken.observation[sensor.key], sensor) for sensor, shown in sensors}
        assert taken.picture is not None
        frame = Frame(episode, taken.step, seen, on, since, {_REWARD: reward}, total, taken.picture, dt=env.dt)
        yield frame
        reward, total = taken.reward, total + taken.reward
        if taken.ended:
            yield Frame(
                episode, taken.step + 1, seen, on, since, {_REWARD: reward}, total, taken.picture, taken.ended, env.dt
            )


def _delivering(taken: Taken, keys: tuple[str, ...], sensors: list[tuple[Sensor, Sensor]]) -> dict[str, bool]:
    told = dict(zip(keys, np.asarray(taken.observation[AVAILABLE]).tolist(), strict=True))
    return {sensor.key: bool(told[sensor.key]) for sensor, _ in sensors}


def _as_shown(sensor: Sensor) -> Sensor:
    """Images are shown as (H, W, 3) of bytes, or as (H, W, 1) of millimetres."""
    if sensor.kind not in ("rgb", "depth"):
        return sensor
    height, width = sensor.shape[:2] if channels_last(sensor.shape) else sensor.shape[1:]
    channels, dtype = (3, "uint8") if sensor.kind == "rgb" else (1, "uint16")
    return Sensor(sensor.key, sensor.kind, (height, width, channels), dtype, sensor.unit, sensor.scale, sensor.rate)


def _readable(value: np.ndarray, sensor: Sensor) -> np.ndarray:
    if sensor.kind not in ("rgb", "depth"):
        return np.asarray(value)
    image = value if channels_last(sensor.shape) else np.moveaxis(value, 0, -1)
    if sensor.kind == "depth":
        millimetres = image[..., -1:] * (1000.0 if image.dtype.kind == "f" else 1.0)  # floats are metres by custom
        return np.nan_to_num(millimetres, posinf=0.0).clip(0, 65535).astype(np.uint16)
    if image.dtype.kind == "f":
        image = (np.nan_to_num(image) * (255.0 / np.max(sensor.scale))).clip(0, 255).astype(np.uint8)
    if image.shape[-1] == 1:
        return np.repeat(image, 3, axis=-1)
    return image[..., -3:] if image.shape[-1] % 3 == 0 else image[..., :3]  # of stacked frames the last; no alpha


def _curves(sensor: Sensor) -> Curves:
    count = min(sensor.shape[-1], len(SERIES))
    title = f"{count} of {sensor.shape[-1]} values" if count < sensor.shape[-1] else ""
    return Curves(sensor, title, tuple(map(str, range(count))), tuple((index,) for index in range(count)), 0.1)
