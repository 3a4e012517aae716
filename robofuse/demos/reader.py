"""Reads demonstrations back, as they were recorded, or says in a sentence what is wrong with them."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from robofuse.demos.arrow import REMEDY, need_arrow, read_parquet, values
from robofuse.demos.episode import Episode
from robofuse.demos.features import COUNTERS, Feature, describe
from robofuse.demos.folder import ABOUT, DATA_PATH, INFO, VIDEO_PATH, place, read_episodes, read_info, sensors_of
from robofuse.demos.pictures import read_mp4
from robofuse.errors import InputError
from robofuse.sensors import AVAILABLE, PRIVILEGED, Sensor


@dataclass(frozen=True)
class Demonstrations:
    """What `read` returns.

    Attributes:
        folder: where they came from.
        sensors: what was sensed, in the order of `available`.
        episodes: in the order in which they were recorded.
        about: who recorded them and where, as plain JSON (`meta/robofuse.json`).
        actions: names of the elements of an action.
    """

    folder: Path
    sensors: tuple[Sensor, ...]
    episodes: tuple[Episode, ...]
    about: dict[str, Any]
    actions: tuple[str, ...]

    @property
    def frames(self) -> int:
        """Control steps of all episodes."""
        return sum(map(len, self.episodes))


def read(folder: str | Path) -> Demonstrations:
    """Read a folder that a `Recorder` wrote.

    Every array comes back as it was recorded, to the bit, except colours of `lossy` video.

    Args:
        folder: of the data set.

    Returns:
        The episodes as tensors, and what was told about them.

    Raises:
        ValueError: not such a folder, of another version, damaged or incomplete; names the file and the remedy.
        RuntimeError: pyarrow is missing.
    """
    need_arrow()
    folder = Path(folder)
    info, about = read_info(folder)
    features = _features(folder, info, about)
    rows = read_episodes(folder, info["total_episodes"])
    files: dict[int, list[Mapping[str, Any]]] = defaultdict(list)
    for row in rows:
        files[row["data/chunk_index"] * 1000 + row["data/file_index"]].append(row)
    found: list[Episode] = []
    for number, told in files.items():
        found += _part(folder, number, told, features)
    if sum(map(len, found)) != info["total_frames"]:
        raise InputError(f"{folder / INFO} tells of {info['total_frames']} control steps, there are "
                         f"{sum(map(len, found))}; {REMEDY}")  # fmt: skip
    names = next(feature.names for feature in features if feature.name == "action")
    return Demonstrations(folder, sensors_of(about, folder), tuple(found), about, tuple(names or ()))


def _features(folder: Path, info: Mapping[str, Any], about: Mapping[str, Any]) -> list[Feature]:
    """What the files hold, and whether `info.json` says the same."""
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


def _part(folder: Path, number: int, rows: Sequence[Mapping[str, Any]], features: Sequence[Feature]) -> list[Episode]:
    """The episodes of one data file."""
    path = folder / DATA_PATH.format(**place(number))
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
            video = folder / VIDEO_PATH.format(video_key=feature.name, **place(number))
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
