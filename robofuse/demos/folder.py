"""The folder of a LeRobot data set (v3.0): its files, and what they must say to be one of ours."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from robofuse.demos.arrow import REMEDY, read_parquet
from robofuse.errors import InputError
from robofuse.files import LOCK
from robofuse.sensors import Sensor

VERSION, FORMAT = "v3.0", 1
CHUNK = 1000  # files per folder, as everywhere in LeRobot
INFO, STATS, TASKS, ABOUT = "meta/info.json", "meta/stats.json", "meta/tasks.parquet", "meta/robofuse.json"
DATA_PATH = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
VIDEO_PATH = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
EPISODES_PATH = "meta/episodes/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"


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


def read_episodes(folder: Path, total: int) -> list[dict[str, Any]]:
    """The first `total` rows of the tables of episodes, column → value; ValueError if there are fewer."""
    rows: list[dict[str, Any]] = []
    number = 0
    while len(rows) < total:
        path = folder / EPISODES_PATH.format(**place(number))
        rows += read_parquet(path).to_pylist()
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
    """Delete what a recording that was killed had begun to write: hidden files, and those from number `files` on."""
    for path in [*folder.rglob("*.parquet*"), *folder.rglob("*.mp4*"), *(folder / "meta").glob(".*.json.*")]:
        chunk = path.parent.name.removeprefix("chunk-")
        stem = path.stem.removeprefix("file-")
        late = chunk.isdigit() and stem.isdigit() and int(chunk) * CHUNK + int(stem) >= files
        if late or path.name.startswith("."):
            path.unlink()


def files_of(rows: Sequence[Mapping[str, Any]]) -> int:
    """How many data files these episodes are in."""
    return max((row["data/chunk_index"] * CHUNK + row["data/file_index"] + 1 for row in rows), default=0)


def find(folder: Path, info: dict[str, Any], about: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The episodes that are in a folder to be gone on with; nothing stays of what a killed recording had begun.

    Args:
        folder: exists.
        info: what a new recording would say; takes over the totals.
        about: what it would say beside that.

    Raises:
        ValueError: demonstrations of another kind, or something else, is in the folder.
    """
    if not (folder / INFO).exists():
        if (folder / ABOUT).exists():
            sweep(folder, 0)
        elif any(path.name != LOCK for path in folder.iterdir()):
            raise InputError(f"{folder} holds something, but no demonstrations; give another --out")
        return []
    old, told = read_info(folder)
    differing = [name for name in {**told, **about} if told.get(name) != about.get(name)]
    differing += [name for name in ("features", "fps", "robot_type") if old.get(name) != info[name]]
    if differing:
        raise InputError(
            f"{folder} holds demonstrations that differ in {', '.join(differing)}; give another --out, or the options "
            "that these were recorded with"
        )
    rows = read_episodes(folder, old["total_episodes"])
    sweep(folder, files_of(rows))
    info |= {name: old[name] for name in ("total_episodes", "total_frames", "splits")}
    return rows
