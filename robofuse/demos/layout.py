"""What a data set is made of, and where it lies: LeRobot's layout v3.0, with a file of ours beside it.

`Episode` is what is recorded, `Feature` how LeRobot names and types each part of it. `meta/robofuse.json` says which
sensors the columns are of, and has the checksum of every file.
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
from robofuse.sensors import AVAILABLE, PRIVILEGED, Sensor

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
RGB = ("lossless", "lossy", "png")
# what LeRobot counts by itself, in the order in which it writes it
COUNTERS = {"timestamp": "float32", "frame_index": "int64", "episode_index": "int64", "index": "int64",
            "task_index": "int64"}  # fmt: skip
_NAMES = {"proprio": "state", PRIVILEGED: "environment_state"}
_AXES = ["height", "width", "channels"]


@dataclass(frozen=True)
class Episode:
    """T control steps: what was sensed, what was done about it, and what came of it.

    Attributes:
        observation: key → (T, …), what each action was chosen by, in the sensors' own types; with `available`, int8
            (T, M), and `privileged`, float32 (T, K), if it was recorded.
        action: float32 (T, A), what the demonstrator chose.
        reward: float32 (T,), of each action.
        success: bool (T,), whether the task was done after it.
        scene: number of the episode in its World, which with the seed tells the scene.
        executed: float32 (T, A), what was done where that was not what was chosen: with noise; None elsewhere.
    """

    observation: dict[str, Tensor]
    action: Tensor
    reward: Tensor
    success: Tensor
    scene: int = 0
    executed: Tensor | None = None

    def __len__(self) -> int:
        """T."""
        return len(self.action)

    @property
    def succeeded(self) -> bool:
        """Whether it ended well."""
        return bool(self.success[-1])


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


def need_arrow() -> None:
    """RuntimeError if pyarrow, which writes and reads parquet, is not installed."""
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError:
        raise StateError(
            "demonstrations need pyarrow, which is not installed; pip install 'robofuse[lerobot]'"
        ) from None


def place(number: int) -> dict[str, int]:
    """Where the file of this number is: `chunk_index` and `file_index`."""
    return {"chunk_index": number // CHUNK, "file_index": number % CHUNK}


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object; ValueError in a sentence if it is none."""
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read ({error}); {REMEDY}") from None
    if not isinstance(found, dict):
        raise InputError(f"{path} is not a JSON object; {REMEDY}")
    return found


def read_info(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """`info.json`, and what robofuse says beside it.

    Raises:
        ValueError: no data set, one of another version or of another program, or one that is damaged.
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
    for name in ("total_episodes", "total_frames", "fps"):
        if not isinstance(info.get(name), int):
            raise InputError(f"{folder / INFO} has {name} {info.get(name)!r}, not a number; {REMEDY}")
    return info, about


def whole_file(folder: Path, name: str, about: Mapping[str, Any]) -> Path:
    """The path of a file of a data set; ValueError unless it is there and matches the checksum in `about`."""
    path, digests = folder / name, about.get(DIGESTS)
    if not path.is_file():
        raise InputError(f"there is no file {path}; {REMEDY}")
    if not isinstance(digests, Mapping) or digests.get(name) != digest_of(path):
        raise InputError(f"{path} is cut off or damaged: it does not match its checksum in {ABOUT}; {REMEDY}")
    return path


def digest_of(path: Path) -> str:
    """SHA-256 of a file; ValueError if it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from None


def read_parquet(path: Path) -> "pa.Table":
    """A table of a file; ValueError in a sentence if it is missing, cut off or damaged."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.ParquetFile(path, page_checksum_verification=True).read()
    except (pa.ArrowException, OSError) as error:
        raise InputError(f"{path} is cut off or damaged ({str(error).splitlines()[0]}); {REMEDY}") from None


def read_episodes(folder: Path, total: int, about: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The first `total` rows of the tables of episodes, column → value.

    Args:
        folder: of the data set.
        total: as `info.json` has it.
        about: with the checksums.

    Raises:
        ValueError: there are fewer, or a table is damaged.
    """
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
        told: list[dict[str, Any]] = about["sensors"]
        return tuple(Sensor(**{key: _tupled(x) for key, x in one.items()}) for one in told)
    except (KeyError, TypeError, AttributeError):
        raise InputError(f"{folder / ABOUT} does not describe sensors; {REMEDY}") from None


def _tupled(x: Any) -> Any:  # noqa: ANN401
    return tuple(x) if isinstance(x, list) else x


def sweep(folder: Path, files: int) -> None:
    """Delete what a recording that was killed had begun: drafts, and the files from number `files` on."""
    for path in folder.rglob("*"):
        chunk = path.parent.name.removeprefix("chunk-")
        stem = path.stem.removeprefix("file-")
        numbered = path.suffix in (".parquet", ".mp4") and chunk.isdigit() and stem.isdigit()
        if path.is_file() and (is_draft(path) or (numbered and int(chunk) * CHUNK + int(stem) >= files)):
            path.unlink()


def files_of(rows: Sequence[Mapping[str, Any]]) -> int:
    """How many data files these episodes are in."""
    return max((row["data/chunk_index"] * CHUNK + row["data/file_index"] + 1 for row in rows), default=0)


def resume(folder: Path, info: dict[str, Any], about: Mapping[str, Any]) -> tuple[list[dict[str, Any]], dict[str, str]]:
    """The episodes that are in a folder, to record more of; what a killed recording had begun is deleted.

    Args:
        folder: exists.
        info: what a new recording would say; takes over the totals.
        about: what it would say beside that.

    Returns:
        The rows of the tables of episodes, and the checksums of the files.

    Raises:
        ValueError: demonstrations of another kind, or something else, is in the folder.
    """
    if not (folder / INFO).exists():
        others = [path for path in folder.rglob("*") if path.is_file() and not is_draft(path) and path.name != LOCK]
        if others and not (folder / ABOUT).exists():
            raise InputError(f"{folder} holds something, but no demonstrations; give another --out")
        sweep(folder, 0)
        return [], {}
    old, told = read_info(folder)
    digests = told.get(DIGESTS)
    differing = [name for name in {**told, **about} if name != DIGESTS and told.get(name) != about.get(name)]
    differing += [name for name in ("features", "fps", "robot_type") if old.get(name) != info[name]]
    if differing:
        raise InputError(
            f"{folder} holds demonstrations that differ in {', '.join(differing)}; give another --out, or the options "
            "that these were recorded with"
        )
    rows = read_episodes(folder, old["total_episodes"], told)
    sweep(folder, files_of(rows))
    info |= {name: old[name] for name in ("total_episodes", "total_frames", "splits")}
    return rows, dict(digests) if isinstance(digests, Mapping) else {}
