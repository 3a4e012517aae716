"""What is in a data set: LeRobot's name, type and shape of everything that is recorded at each control step."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from robofuse.demos.episode import Episode
from robofuse.errors import InputError
from robofuse.sensors import AVAILABLE, PRIVILEGED, Sensor

OBSERVATION = "observation"
RGB = ("lossless", "lossy", "png")
# what LeRobot counts by itself, in the order in which it writes it
COUNTERS = {"timestamp": "float32", "frame_index": "int64", "episode_index": "int64", "index": "int64",
            "task_index": "int64"}  # fmt: skip
_NAMES = {"proprio": "state", PRIVILEGED: "environment_state"}
_AXES = ["height", "width", "channels"]


class Feature(NamedTuple):
    """One column of a data set, or one video.

    Attributes:
        name: LeRobot's.
        key: of the observation; empty for what is not observed.
        dtype: NumPy's name of the element type.
        shape: of one control step, () for a number.
        stored: as values, png or video.
        names: of the elements of the last axis, if they have any.
    """

    name: str
    key: str
    dtype: str
    shape: tuple[int, ...]
    stored: str = "values"
    names: Sequence[str] | None = None

    def to_dict(self) -> dict[str, Any]:
        """As LeRobot's `info.json` describes it."""
        if self.stored == "values":
            names = list(self.names) if self.names else None
            return {"dtype": self.dtype, "shape": list(self.shape or (1,)), "names": names}
        kind = "video" if self.stored == "video" else "image"
        depth = self.shape[-1] == 1
        info = {"is_depth_map": depth} | ({"depth_unit": "mm"} if depth else {})
        return {"dtype": kind, "shape": list(self.shape), "names": _AXES, "info": info}

    def of(self, episode: Episode) -> np.ndarray:
        """What an episode has of it, (T, …)."""
        if self.key:
            return episode.observation[self.key].cpu().numpy()
        found = getattr(episode, self.name.removeprefix("next."))
        return found.cpu().numpy()


def describe(
    sensors: Iterable[Sensor],
    actions: Sequence[str],
    privileged: Sequence[str] = (),
    rgb: str = "lossless",
    executed: bool = False,
    state_names: Sequence[str] = (),
) -> list[Feature]:
    """Everything that is recorded of a control step.

    Args:
        sensors: in the order of `available`.
        actions: names of the elements of an action.
        privileged: names of the elements of the simulator's truth; none, and it is not recorded.
        rgb: how colour pictures are stored: lossless or lossy, as video, or png.
        executed: whether what was done is recorded beside what was chosen.
        state_names: of the elements of `proprio`.

    Raises:
        ValueError: two sensors that would get one name.
    """
    sensors = tuple(sensors)
    found = [_sensed(sensor, rgb, state_names) for sensor in sensors]
    flags = f"{OBSERVATION}.{AVAILABLE}"
    found.append(Feature(flags, AVAILABLE, "int8", (len(sensors),), names=[sensor.key for sensor in sensors]))
    if privileged:
        name = f"{OBSERVATION}.{_NAMES[PRIVILEGED]}"
        found.append(Feature(name, PRIVILEGED, "float32", (len(privileged),), names=privileged))
    found.append(Feature("action", "", "float32", (len(actions),), names=actions))
    if executed:
        found.append(Feature("executed", "", "float32", (len(actions),), names=actions))
    found += [Feature("next.reward", "", "float32", ()), Feature("next.success", "", "bool", ())]
    names = [feature.name for feature in found]
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise InputError(f"two sensors would both be called {twice[0]}; rename one")
    return found


def check_rgb(sensors: Iterable[Sensor], rgb: str) -> None:
    """ValueError if colours cannot be stored in this way."""
    if rgb not in RGB:
        raise InputError(f"unknown way to store colours {rgb!r}; there are {', '.join(RGB)}")
    odd = [sensor.key for sensor in sensors if sensor.kind == "rgb" and any(size % 2 for size in sensor.shape[:2])]
    if rgb == "lossy" and odd:
        raise InputError(f"lossy video needs even heights and widths; {odd[0]!r} has others, so take lossless or png")


def _sensed(sensor: Sensor, rgb: str, state_names: Sequence[str]) -> Feature:
    if sensor.kind == "rgb":
        name, stored = _camera(sensor.key, "rgb"), "png" if rgb == "png" else "video"
        return Feature(f"{OBSERVATION}.images.{name}", sensor.key, sensor.dtype, sensor.shape, stored)
    if sensor.kind == "depth":
        name = f"{OBSERVATION}.images.{_camera(sensor.key, 'depth')}_depth"
        exact = sensor.dtype in ("uint8", "uint16")  # a PNG holds no floats
        return Feature(name, sensor.key, sensor.dtype, sensor.shape, "png" if exact else "values")
    names = state_names if sensor.key == "proprio" else None
    return Feature(f"{OBSERVATION}.{_NAMES.get(sensor.key, sensor.key)}", sensor.key, sensor.dtype, sensor.shape,
                   names=names or None)  # fmt: skip


def _camera(key: str, kind: str) -> str:
    """The name of a camera: `rgb_wrist` is seen by `wrist`, and plain `rgb` by `scene`, as World has it."""
    return key.removeprefix(kind).strip("_.") or "scene"


def catalogue(features: Sequence[Feature]) -> dict[str, Any]:
    """The `features` of `info.json`."""
    done = {"next.done": {"dtype": "bool", "shape": [1], "names": None}}
    counters = {name: {"dtype": dtype, "shape": [1], "names": None} for name, dtype in COUNTERS.items()}
    return {feature.name: feature.to_dict() for feature in features} | done | counters
