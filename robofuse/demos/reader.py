"""Reads demonstrations."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from robofuse.demos.layout import (
    ABOUT,
    COUNTERS,
    DATA_PATH,
    DIGESTS,
    INFO,
    REMEDY,
    VIDEO_PATH,
    Episode,
    Feature,
    describe,
    need_arrow,
    number_of,
    place,
    read_episodes,
    read_info,
    read_parquet,
    sensors_of,
    whole_file,
)
from robofuse.demos.parts import read_mp4, values
from robofuse.envs import World
from robofuse.errors import InputError
from robofuse.sensors import AVAILABLE, PRIVILEGED, TRUTH, Sensor


@dataclass(frozen=True)
class Demonstrations:
    """What `read` returns.

    Attributes:
        folder: of the data set.
        sensors: what was recorded, in the order of `available`.
        episodes: in the order in which they were recorded.
        about: who recorded them and in which world, plain JSON (`meta/robofuse.json`).
        actions: names of the elements of an action.
    """

    folder: Path
    sensors: tuple[Sensor, ...]
    episodes: tuple[Episode, ...]
    about: dict[str, Any]
    actions: tuple[str, ...]

    @property
    def frames(self) -> int:
        """Number of control steps of all episodes."""
        return sum(map(len, self.episodes))


def read(folder: str | Path) -> Demonstrations:
    """Read a folder that a `Recorder` wrote; every array is as it was recorded, except colours of `lossy` video.

    Raises:
        InputError: no such folder, of another version, damaged or incomplete; names the file and the remedy.
        StateError: pyarrow is missing.
    """
    need_arrow()
    folder = Path(folder)
    info, about = read_info(folder)
    features = _features(folder, info, about)
    rows = read_episodes(folder, info["total_episodes"], about)
    files: dict[int, list[Mapping[str, Any]]] = defaultdict(list)
    for row in rows:
        files[number_of(row)].append(row)
    found: list[Episode] = []
    for number, told in files.items():
        found += _read_file(folder, number, told, features, about)
    if sum(map(len, found)) != info["total_frames"]:
        raise InputError(f"{folder / INFO} tells of {info['total_frames']} control steps, there are "
                         f"{sum(map(len, found))}; {REMEDY}")  # fmt: skip
    names = next(feature.names for feature in features if feature.name == "action")
    told = {name: value for name, value in about.items() if name != DIGESTS}
    return Demonstrations(folder, sensors_of(about, folder), tuple(found), told, tuple(names or ()))


def _features(folder: Path, info: Mapping[str, Any], about: Mapping[str, Any]) -> list[Feature]:
    """The features of the files; InputError if `info.json` describes others."""
    told = info.get("features")
    told = told if isinstance(told, Mapping) else {}
    names = {key: one.get("names") or () for key, one in told.items() if isinstance(one, Mapping)}
    rgb = "lossless" if any(one.get("dtype") == "video" for one in told.values()) else "png"
    features = describe(
        sensors_of(about, folder),
        names.get("action", ()),
        names.get("observation.environment_state", ()),
        rgb,
        "executed" in told,
        names.get("observation.state", ()),
    )
    for feature in features:
        if told.get(feature.name) != feature.to_dict():
            raise InputError(
                f"{folder / INFO} describes {feature.name!r} otherwise than {ABOUT} and this robofuse do; {REMEDY}"
            )
    return features


def _read_file(
    folder: Path,
    number: int,
    rows: Sequence[Mapping[str, Any]],
    features: Sequence[Feature],
    about: Mapping[str, Any],
) -> list[Episode]:
    """The episodes of the files of one number."""
    path = whole_file(folder, DATA_PATH.format(**place(number)), about)
    table = read_parquet(path)
    count = sum(row["length"] for row in rows)
    index = values(table, "index", COUNTERS["index"], (), path)
    if not np.array_equal(index, np.arange(rows[0]["dataset_from_index"], rows[-1]["dataset_to_index"])) or (
        len(index) != count
    ):
        raise InputError(f"{path} does not hold the control steps that the table of episodes tells of; {REMEDY}")
    arrays: dict[str, np.ndarray] = {}
    for feature in features:
        if feature.stored == "video":
            video = whole_file(folder, VIDEO_PATH.format(video_key=feature.name, **place(number)), about)
            arrays[feature.name] = read_mp4(video, count, feature.shape)
        else:
            arrays[feature.name] = values(table, feature.name, feature.dtype, feature.shape, path)
    found, start = [], 0
    for row in rows:
        steps = slice(start, start + row["length"])
        start = steps.stop
        at = {name: torch.from_numpy(x[steps].copy()) for name, x in arrays.items()}
        found.append(_episode(at, features, row["robofuse/scene"]))
    return found


def _episode(at: Mapping[str, Tensor], features: Sequence[Feature], scene: int) -> Episode:
    observation = {feature.key: at[feature.name] for feature in features if feature.key}
    last = {key: observation.pop(key) for key in (AVAILABLE, PRIVILEGED) if key in observation}
    plain = at["action"], at["next.reward"], at["next.success"]
    return Episode(observation | last, *plain, scene=scene, executed=at.get("executed"))


def check_fits(demos: Demonstrations, world: World, options: Mapping[str, Any]) -> None:
    """Check that demonstrations have the sensors and actions of these worlds.

    They may have more sensors. `truth` is taken from `privileged`, if that was recorded. The renderer may differ.

    Args:
        demos: the demonstrations.
        world: the worlds.
        options: the worlds' options as a policy file describes them.

    Raises:
        InputError: another task, robot, sensor, camera or action, or a sensor is missing.
    """
    told, where = demos.about.get("world") or {}, f"the demonstrations in {demos.folder}"
    for what in ("task", "robot"):
        if told.get(what, options[what]) != options[what]:
            raise InputError(f"{where} are of the {what} {told[what]}; this training is of {options[what]}")
    theirs = {sensor.key: sensor for sensor in demos.sensors}
    for ours in world.sensors:
        if ours.key == TRUTH and all(PRIVILEGED in episode.observation for episode in demos.episodes):
            theirs.setdefault(TRUTH, ours)
        if ours.key not in theirs:
            raise InputError(f"{where} have no sensor {ours.key!r}; they have {', '.join(theirs)}")
        other = theirs[ours.key]
        for what in ("kind", "shape", "dtype", "scale", "rate", "latency", "sample_rate"):
            if getattr(other, what) != getattr(ours, what):
                raise InputError(
                    f"{where} have a sensor {ours.key!r} of {what} {getattr(other, what)}; in this training it is "
                    f"{getattr(ours, what)}"
                )
    pictures = any(sensor.kind in ("rgb", "depth") for sensor in world.sensors)
    cameras = {camera["name"]: camera for camera in told.get("cameras") or () if isinstance(camera, Mapping)}
    for camera in options["cameras"] if pictures else ():
        if cameras.get(camera["name"], camera) != camera:
            raise InputError(f"{where} see through {cameras[camera['name']]}; this training sees through {camera}")
        sizes = [about.get("render_size") or camera["size"][0] for about in (told, options)]
        if sizes[0] != sizes[1]:
            raise InputError(f"{where} have cameras that draw at {sizes[0]} pixels; this training's at {sizes[1]}")
    for episode in demos.episodes[:1]:
        known = len(episode.observation[PRIVILEGED][0]) if PRIVILEGED in episode.observation else None
        if known not in (None, len(world.privileged_names)):
            raise InputError(f"{where} have {known} numbers of truth, these worlds {len(world.privileged_names)}")
    if len(demos.actions) != (world.action_space.shape or (0,))[0]:
        raise InputError(
            f"{where} have actions {', '.join(demos.actions)}; these worlds take {world.action_space.shape}"
        )
