"""The layout of a data set: LeRobot's v3.0, and beside it `meta/robofuse.json` with the sensors and checksums.

`Episode` is what is recorded, `Feature` how LeRobot names and types each part of it.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from torch import Tensor

from robofuse.errors import InputError, StateError
from robofuse.files import LOCK, is_draft
from robofuse.sensors import AVAILABLE, PRIVILEGED, Sensor, lerobot_name

if TYPE_CHECKING:
    import pyarrow as pa

VERSION, FORMAT = "v3.0", 1
CHUNK = 1000  # files per folder, as everywhere in LeRobot
INFO, STATS, TASKS, ABOUT = "meta/info.json", "meta/stats.json", "meta/tasks.parquet", "meta/robofuse.json"
DATA_PATH = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
VIDEO_PATH = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
EPISODES_PATH = "meta/episodes/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
DIGESTS = "files"  # in meta/robofuse.json: file → SHA-256
REMEDY = "take the folder from where it is whole, or record again into another one"

OBSERVATION = "observation"
DEPTH_UNITS = ("m", "mm")  # that LeRobot converts into each other
RGB = ("lossless", "lossy", "png")
# what LeRobot counts by itself, in the order in which it writes it
COUNTERS = {"timestamp": "float32", "frame_index": "int64", "episode_index": "int64", "index": "int64",
            "task_index": "int64"}  # fmt: skip
_AXES = ["height", "width", "channels"]


@dataclass(frozen=True)
class Episode:
    """T control steps.

    Attributes:
        observation: key → (T, …), the readings before each action, in the sensors' own types; with `available`, int8
            (T, M), and, if it was recorded, `privileged`, float32 (T, K).
        action: float32 (T, A), what the demonstrator chose.
        reward: float32 (T,), of each action.
        success: bool (T,), whether the task was done after it.
        scene: number of the episode in its World; with the seed it gives the scene.
        executed: float32 (T, A), the actions with the noise that was added to them; None if there was none.
    """

    observation: dict[str, Tensor]
    action: Tensor
    reward: Tensor
    success: Tensor
    scene: int = 0
    executed: Tensor | None = None

    def __len__(self) -> int:
        """Number of control steps, T."""
        return len(self.action)

    @property
    def succeeded(self) -> bool:
        """Whether the task was done at its end."""
        return bool(self.success[-1])


class Feature(NamedTuple):
    """One column of a data set, or one video.

    Attributes:
        name: LeRobot's name of it.
        key: key of the observation; empty for actions, rewards and successes.
        dtype: NumPy's name of the element type.
        shape: of one control step, () for a number.
        stored: `values`, `png` or `video`.
        names: names of the elements of the last axis, if they have any.
        depth: what is depth to LeRobot: its unit, empty if LeRobot has no name for it; None for all else.
    """

    name: str
    key: str
    dtype: str
    shape: tuple[int, ...]
    stored: str = "values"
    names: Sequence[str] | None = None
    depth: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Its entry in LeRobot's `info.json`."""
        if self.stored == "values":
            names = list(self.names) if self.names else None
            return {"dtype": self.dtype, "shape": list(self.shape or (1,)), "names": names}
        kind = "video" if self.stored == "video" else "image"
        info = {"is_depth_map": self.depth is not None} | ({"depth_unit": self.depth} if self.depth else {})
        return {"dtype": kind, "shape": list(self.shape), "names": _AXES, "info": info}

    @property
    def part(self) -> str:
        """Its name in an `Episode`: a key of the observation, or an attribute."""
        return self.key or self.name.removeprefix("next.")

    def of(self, episode: Episode) -> Tensor:
        """This part of an episode, (T, …)."""
        return episode.observation[self.key] if self.key else getattr(episode, self.part)

    def array(self, episode: Episode) -> np.ndarray:
        """This part of an episode as a NumPy array, (T, …)."""
        return self.of(episode).cpu().numpy()


def describe(
    sensors: Iterable[Sensor],
    actions: Sequence[str],
    privileged: Sequence[str] = (),
    rgb: str = "lossless",
    executed: bool = False,
    state_names: Sequence[str] = (),
) -> list[Feature]:
    """The features of a data set.

    Args:
        sensors: in the order of `available`.
        actions: names of the elements of an action.
        privileged: names of the elements of the privileged vector; without them it is not recorded.
        rgb: how colour pictures are stored: lossless or lossy (both as video), or png.
        executed: whether the executed actions are recorded beside the chosen ones.
        state_names: names of the elements of `proprio`.

    Raises:
        InputError: two sensors would get the same name, or colours cannot be stored in this way.
    """
    sensors = tuple(sensors)
    _check_rgb(sensors, rgb)
    found = [_sensed(sensor, rgb, state_names) for sensor in sensors]
    flags = f"{OBSERVATION}.{AVAILABLE}"
    found.append(Feature(flags, AVAILABLE, "int8", (len(sensors),), names=[sensor.key for sensor in sensors]))
    if privileged:
        name = f"{OBSERVATION}.{lerobot_name(PRIVILEGED)}"
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


def _check_rgb(sensors: Iterable[Sensor], rgb: str) -> None:
    if rgb not in RGB:
        raise InputError(f"unknown way to store colours {rgb!r}; there are {', '.join(RGB)}")
    odd = [sensor.key for sensor in sensors if sensor.kind == "rgb" and any(size % 2 for size in sensor.shape[:2])]
    if rgb == "lossy" and odd:
        raise InputError(f"lossy video needs even heights and widths; {odd[0]!r} has others, so take lossless or png")


def _sensed(sensor: Sensor, rgb: str, state_names: Sequence[str]) -> Feature:
    stored, names, depth = "values", None, None
    if sensor.kind == "rgb":
        stored = "png" if rgb == "png" else "video"
    elif sensor.kind == "depth":
        stored = "png" if sensor.dtype in ("uint8", "uint16") else "values"  # a PNG holds no floats
        if sensor.dtype == "uint16":  # bytes LeRobot would divide by 255, and floats it would not convert
            unit = sensor.unit or "mm"  # as LeRobot takes integers without a unit
            depth = unit if unit in DEPTH_UNITS else ""
    elif sensor.key == "proprio":
        names = state_names or None
    name = f"{OBSERVATION}.{lerobot_name(sensor.key, sensor.kind)}"
    return Feature(name, sensor.key, sensor.dtype, sensor.shape, stored, names, depth)


def catalogue(features: Sequence[Feature]) -> dict[str, Any]:
    """The `features` of `info.json`."""
    done = {"next.done": {"dtype": "bool", "shape": [1], "names": None}}
    counters = {name: {"dtype": dtype, "shape": [1], "names": None} for name, dtype in COUNTERS.items()}
    return {feature.name: feature.to_dict() for feature in features} | done | counters


def need_arrow() -> None:
    """Raise StateError if pyarrow, which writes and reads parquet, is not installed."""
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError:
        raise StateError(
            "demonstrations need pyarrow, which is not installed; pip install 'robofuse[lerobot]'"
        ) from None


def place(number: int) -> dict[str, int]:
    """Where the file of this number is: `chunk_index` and `file_index`."""
    return {"chunk_index": number // CHUNK, "file_index": number % CHUNK}


def number_of(row: Mapping[str, Any]) -> int:
    """The number of the data file that an episode is in, from its row in the table of episodes."""
    return row["data/chunk_index"] * CHUNK + row["data/file_index"]


def read_json(path: Path) -> dict[str, Any]:
    """Read a JSON object; InputError if it is none."""
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read ({error}); {REMEDY}") from None
    if not isinstance(found, dict):
        raise InputError(f"{path} is not a JSON object; {REMEDY}")
    return found


def read_info(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Read `meta/info.json` and `meta/robofuse.json`.

    Raises:
        InputError: no data set, one of another version or of another program, or one that is damaged.
    """
    if not (folder / INFO).is_file():
        what = "there is no folder" if not folder.is_dir() else f"no {INFO} in"
        raise InputError(f"{what} {folder}: it holds no demonstrations; robofuse record makes some")
    info = read_json(folder / INFO)
    version = info.get("codebase_version")
    if version != VERSION:
        raise InputError(
            f"{folder / INFO} is of LeRobot's layout {version}, robofuse reads {VERSION}; LeRobot has scripts that "
            "convert older data sets"
        )
    if not (folder / ABOUT).is_file():
        raise InputError(
            f"{folder} is a LeRobot data set that robofuse did not record: without {ABOUT} nothing says which sensors "
            "its columns are of; feed its episodes to a robofuse.demos.Recorder"
        )
    about = read_json(folder / ABOUT)
    number = about.get("format")
    if not isinstance(number, int) or number > FORMAT:
        raise InputError(f"{folder / ABOUT} has format {number}, this robofuse reads up to {FORMAT}; update robofuse")
    if not isinstance(about.get(DIGESTS), dict):
        raise InputError(f"{folder / ABOUT} has no checksums; {REMEDY}")
    for name in ("total_episodes", "total_frames", "fps"):
        if not isinstance(info.get(name), int):
            raise InputError(f"{folder / INFO} has {name} {info.get(name)!r}, not a number; {REMEDY}")
    return info, about


def whole_file(folder: Path, name: str, about: Mapping[str, Any]) -> Path:
    """The path of a file of a data set; InputError unless it exists and has the checksum that `about` says."""
    path = folder / name
    if not path.is_file():
        raise InputError(f"there is no file {path}; {REMEDY}")
    if about[DIGESTS].get(name) != digest_of(path):
        raise InputError(f"{path} is cut off or damaged: it does not match its checksum in {ABOUT}; {REMEDY}")
    return path


def digest_of(path: Path) -> str:
    """SHA-256 of a file; InputError if it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from None


def read_parquet(path: Path) -> "pa.Table":
    """Read a parquet file; InputError if it is missing, cut off or damaged."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.ParquetFile(path, page_checksum_verification=True).read()
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path} is cut off or damaged ({str(error).splitlines()[0]}); {REMEDY}") from None


def read_episodes(folder: Path, total: int, about: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The first `total` rows of the tables of episodes; InputError if there are fewer, or a table is damaged."""
    rows: list[dict[str, Any]] = []
    number = 0
    while len(rows) < total:
        rows += read_parquet(whole_file(folder, EPISODES_PATH.format(**place(number)), about)).to_pylist()
        number += 1
    numbers = [row.get("episode_index") for row in rows]
    if len(rows) > total or numbers != list(range(total)):
        raise InputError(f"{folder / INFO} tells of {total} episodes, the tables beside it of {len(rows)}; {REMEDY}")
    return rows


def sensors_of(about: Mapping[str, Any], folder: Path) -> tuple[Sensor, ...]:
    """The sensors that were recorded."""
    try:
        plain: list[dict[str, Any]] = about["sensors"]
        return tuple(map(Sensor.from_dict, plain))
    except (KeyError, TypeError, AttributeError):
        raise InputError(f"{folder / ABOUT} does not describe sensors; {REMEDY}") from None


def _sweep(folder: Path, files: int) -> None:
    """Delete what a killed recording left: drafts, and the files from number `files` on."""
    for path in folder.rglob("*"):
        chunk = path.parent.name.removeprefix("chunk-")
        stem = path.stem.removeprefix("file-")
        numbered = path.suffix in (".parquet", ".mp4") and chunk.isdigit() and stem.isdigit()
        if path.is_file() and (is_draft(path) or (numbered and int(chunk) * CHUNK + int(stem) >= files)):
            path.unlink()


def files_of(rows: Sequence[Mapping[str, Any]]) -> int:
    """How many data files these episodes are in."""
    return max((number_of(row) + 1 for row in rows), default=0)


def resume(folder: Path, info: dict[str, Any], about: Mapping[str, Any]) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """Open a folder to record more episodes into it; what a killed recording left there is deleted.

    Args:
        folder: exists.
        info: `info.json` of the new recording; gets the totals of the old one.
        about: `robofuse.json` of the new recording, without checksums.

    Returns:
        The rows of the tables of episodes, and the checksums of the files.

    Raises:
        InputError: the folder holds demonstrations of another kind, or something else.
    """
    if not (folder / INFO).exists():
        others = [path for path in folder.rglob("*") if path.is_file() and not is_draft(path) and path.name != LOCK]
        if others and not (folder / ABOUT).exists():
            raise InputError(f"{folder} holds something, but no demonstrations; give another --out")
        _sweep(folder, 0)
        return [], {}
    old, told = read_info(folder)
    differing = [name for name in {**told, **about} if name != DIGESTS and told.get(name) != about.get(name)]
    differing += [name for name in ("features", "fps", "robot_type") if old.get(name) != info[name]]
    if differing:
        raise InputError(
            f"{folder} holds demonstrations that differ in {', '.join(differing)}; give another --out, or the options "
            "that these were recorded with"
        )
    rows = read_episodes(folder, old["total_episodes"], told)
    _sweep(folder, files_of(rows))
    info |= {name: old[name] for name in ("total_episodes", "total_frames", "splits")}
    return rows, told[DIGESTS]
