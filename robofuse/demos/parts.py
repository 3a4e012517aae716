"""Some episodes as one file of each kind: tables in parquet, films in MP4, statistics.

The files are written as hidden drafts, then moved to their places within a moment.
"""

import json
import os
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import imageio_ffmpeg
import numpy as np

from robofuse.demos.layout import (
    COUNTERS,
    DATA_PATH,
    EPISODES_PATH,
    REMEDY,
    TASKS,
    VIDEO_PATH,
    Episode,
    Feature,
    digest_of,
    place,
)
from robofuse.errors import InputError
from robofuse.files import draft_of
from robofuse.replay.video import Mp4

if TYPE_CHECKING:
    import pyarrow as pa

QUANTILES = {"q01": 0.01, "q10": 0.1, "q50": 0.5, "q90": 0.9, "q99": 0.99}
Stats = dict[str, dict[str, np.ndarray]]  # feature → statistic → array


class Part:
    """The files of one number, and the rows that tell of them."""

    def __init__(self, folder: Path, number: int, features: Sequence[Feature], fps: int, task: str) -> None:
        """Writes nothing yet.

        Args:
            folder: of the data set.
            number: of the files.
            features: what is recorded.
            fps: control steps per second.
            task: in words.
        """
        self._folder, self._number, self._features, self._fps, self._task = folder, number, features, fps, task
        self._drafts: dict[Path, Path] = {}

    def write(
        self, episodes: Sequence[Episode], before: Sequence[Mapping[str, Any]], lossless: bool
    ) -> tuple[list[dict[str, Any]], list[Stats]]:
        """Draft all files.

        Args:
            episodes: to write.
            before: rows of those that are there.
            lossless: videos.

        Returns:
            For each episode its row in the table of episodes, and its statistics.

        Raises:
            ValueError: the disk is full, or the folder cannot be written to; nothing is left of the drafts.
        """
        try:
            return self._write(episodes, before, lossless)
        except BaseException:
            self.discard()
            raise

    def _write(
        self, episodes: Sequence[Episode], before: Sequence[Mapping[str, Any]], lossless: bool
    ) -> tuple[list[dict[str, Any]], list[Stats]]:
        rows, stats, groups = list[dict[str, Any]](), list[Stats](), list[dict[str, Any]]()
        start = before[-1]["dataset_to_index"] if before else 0
        begun = index = start
        for number, episode in enumerate(episodes, len(before)):
            groups.append(self._columns(episode, number, index))
            rows.append(self._row(episode, number, index, index - begun))
            stats.append({feature.name: stats_of_feature(feature, feature.of(episode)) for feature in self._features})
            index += len(episode)
        self._draft(DATA_PATH, lambda path: write_parquet(path, groups))
        for feature in self._features:
            if feature.stored == "video":
                pictures = np.concatenate([feature.of(episode) for episode in episodes])
                where = VIDEO_PATH.replace("{video_key}", feature.name)
                self._draft(where, lambda path, x=pictures: write_mp4(path, x, self._fps, lossless))
        told = [
            row | {f"stats/{key}/{name}": x.tolist() for key, one in part.items() for name, x in one.items()}
            for row, part in zip(rows, stats, strict=True)
        ]
        self._draft(EPISODES_PATH, lambda path: write_parquet(path, [{k: [row[k] for row in told] for k in told[0]}]))
        self._draft(TASKS, lambda path: write_parquet(path, *_tasks(self._task)))
        return rows, stats

    def publish(self) -> dict[str, str]:
        """Move the drafts to their places; file → SHA-256 of what `read` will read."""
        digests: dict[str, str] = {}
        for hidden, final in self._drafts.items():
            name = final.relative_to(self._folder).as_posix()
            digests |= {} if name == TASKS else {name: digest_of(hidden)}
            try:
                os.replace(hidden, final)
            except OSError as error:
                raise InputError(f"cannot write {final}: {error.strerror or error}") from None
        return digests

    def discard(self) -> None:
        """Delete the drafts."""
        for hidden in self._drafts:
            hidden.unlink(missing_ok=True)

    def _draft(self, path: str, write: Callable[[Path], None]) -> None:
        final = self._folder / path.format(**place(self._number))
        hidden = draft_of(final)
        self._drafts[hidden] = final
        try:
            final.parent.mkdir(parents=True, exist_ok=True)
            write(hidden)
        except OSError as error:  # Arrow raises such, too
            raise InputError(f"cannot write {final}: {error.strerror or error}") from None

    def _columns(self, episode: Episode, number: int, index: int) -> dict[str, Any]:
        """One row group of the data file."""
        steps = np.arange(len(episode))
        counters = (steps / self._fps, steps, np.full_like(steps, number), index + steps, np.zeros_like(steps))
        found: dict[str, Any] = {}
        for feature in self._features:
            values = feature.of(episode)
            if feature.stored == "values":
                found[feature.name] = column(values)
            elif feature.stored == "png":
                found[feature.name] = png_column([to_png(one) for one in values])
        found["next.done"] = column(steps == len(steps) - 1)
        typed = zip(COUNTERS.items(), counters, strict=True)
        return found | {name: column(x.astype(dtype)) for (name, dtype), x in typed}

    def _row(self, episode: Episode, number: int, index: int, into: int) -> dict[str, Any]:
        """The row of the table of episodes; `into`: control steps before it in these files."""
        at = place(self._number)
        row: dict[str, Any] = {"episode_index": number, "tasks": [self._task], "length": len(episode)}
        row |= {f"data/{name}": value for name, value in at.items()}
        row |= {"dataset_from_index": index, "dataset_to_index": index + len(episode)}
        for feature in self._features:
            if feature.stored == "video":
                row |= {f"videos/{feature.name}/{name}": value for name, value in at.items()}
                row[f"videos/{feature.name}/from_timestamp"] = into / self._fps
                row[f"videos/{feature.name}/to_timestamp"] = (into + len(episode)) / self._fps
        row |= {f"meta/episodes/{name}": value for name, value in at.items()}
        return row | {"robofuse/scene": episode.scene, "robofuse/success": episode.succeeded}


def stats_of_row(row: Mapping[str, Any], features: Sequence[Feature]) -> Stats:
    """The statistics that a row of the table of episodes tells."""
    found: Stats = {feature.name: {} for feature in features}
    for key, value in row.items():
        if key.startswith("stats/"):
            name, _, statistic = key.removeprefix("stats/").rpartition("/")
            found[name][statistic] = np.array(value)
    return found


def _tasks(task: str) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """The table of tasks, and the note by which pandas, with which LeRobot reads it, finds the index."""
    kinds = {"task_index": ("int64", "int64"), "task": ("unicode", "object")}
    told = [
        {"name": name, "field_name": name, "pandas_type": kind, "numpy_type": numpy, "metadata": None}
        for name, (kind, numpy) in kinds.items()
    ]
    note = {"index_columns": ["task"], "column_indexes": [], "columns": told, "pandas_version": "2.0.0"}
    return [{"task_index": [0], "task": [task]}], {"pandas": note}


def stats_of_feature(feature: Feature, values: np.ndarray) -> dict[str, np.ndarray]:
    """Of (T, …): by element, and of pictures by channel, (C, 1, 1), of colours as shares of 255.

    NaN and Inf, which faulty sensors give, do not count.
    """
    picture = feature.stored != "values"
    flat = values.reshape(-1, values.shape[-1]) if picture else values.reshape(len(values), -1)
    x = flat.astype(np.float64) / (255.0 if picture and feature.shape[-1] == 3 else 1.0)
    x[~np.isfinite(x)] = np.nan
    x[:, np.isnan(x).all(0)] = 0.0  # nothing can be said of it
    found = {"min": np.nanmin(x, 0), "max": np.nanmax(x, 0), "mean": np.nanmean(x, 0), "std": np.nanstd(x, 0)}
    # not interpolated: only so are the quantiles of parts bounds of those of the whole
    quantiles = np.nanquantile(x, list(QUANTILES.values()), axis=0, method="inverted_cdf")
    found |= dict(zip(QUANTILES, quantiles, strict=True))
    shape = (feature.shape[-1], 1, 1) if picture else feature.shape or (1,)
    return {name: value.reshape(shape) for name, value in found.items()} | {"count": np.array([len(values)])}


def merge_stats(parts: Sequence[Mapping[str, Mapping[str, np.ndarray]]]) -> Stats:
    """Of all episodes from those of each.

    Least, greatest, mean, deviation and count are exact. Quantiles of parts do not tell those of the whole: the outer
    ones are bounds (the least or greatest of the parts), as LeRobot has it, and the median a weighted mean.
    """
    whole: Stats = {}
    for name in parts[0]:
        each = {key: np.stack([part[name][key] for part in parts]) for key in parts[0][name]}
        count = each["count"].sum(0)
        weight = (each["count"] / count).reshape(-1, *[1] * (each["mean"].ndim - 1))
        mean = (weight * each["mean"]).sum(0)
        spread = (weight * (each["std"] ** 2 + (each["mean"] - mean) ** 2)).sum(0)
        found = {"min": each["min"].min(0), "max": each["max"].max(0), "mean": mean, "std": np.sqrt(spread)}
        for key, share in QUANTILES.items():
            middle = (weight * each[key]).sum(0)
            found[key] = middle if share == 0.5 else each[key].min(0) if share < 0.5 else each[key].max(0)
        whole[name] = found | {"count": count}
    return whole


def column(values: np.ndarray) -> "pa.Array":
    """An Arrow array of (n,), (n, k) or (n, k, l) in the types that LeRobot gives such features."""
    import pyarrow as pa

    if values.ndim == 1:
        return pa.array(values)
    flat = pa.array(np.ascontiguousarray(values).reshape(-1))
    if values.ndim == 2:
        return pa.FixedSizeListArray.from_arrays(flat, values.shape[1])
    for width in values.shape[:0:-1]:  # nested lists from the inside out
        flat = pa.ListArray.from_arrays(pa.array(np.arange(0, len(flat) + 1, width, dtype=np.int32)), flat)
    return flat


def png_column(pictures: Sequence[bytes]) -> "pa.Array":
    """PNG files as Hugging Face's `datasets` embeds them."""
    import pyarrow as pa

    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    return pa.array([{"bytes": one, "path": None} for one in pictures], kind)


def write_parquet(path: Path, groups: Sequence[Mapping[str, Any]], metadata: Mapping[str, Any] | None = None) -> None:
    """Write a file; the caller moves it to its place.

    Args:
        path: where to.
        groups: one per row group, column → Arrow array, or a list that Arrow can make one of.
        metadata: of the schema, name → plain JSON.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    tables = [pa.table(dict(group)) for group in groups]
    schema = tables[0].schema.with_metadata({name: json.dumps(value) for name, value in (metadata or {}).items()})
    path.parent.mkdir(parents=True, exist_ok=True)
    with pq.ParquetWriter(path, schema, compression="snappy", write_page_checksum=True) as writer:
        for table in tables:
            writer.write_table(table.cast(schema))


def values(table: "pa.Table", name: str, dtype: str, shape: tuple[int, ...], path: Path) -> np.ndarray:
    """A column as dtype (n, *shape); of pictures, decoded.

    Args:
        table: of `read_parquet`.
        name: of the column.
        dtype: NumPy's name.
        shape: of one row; () for numbers.
        path: of the file, for the message.

    Raises:
        ValueError: no such column, or of other shape or type.
    """
    import pyarrow as pa

    if name not in table.column_names:
        raise InputError(f"{path} has no column {name!r}; {REMEDY}")
    array = table.column(name).combine_chunks()
    if pa.types.is_struct(array.type):
        pictures = [from_png(one["bytes"], shape, dtype, f"{name} in {path}") for one in array.to_pylist()]
        return np.stack(pictures) if pictures else np.zeros((0, *shape), dtype)
    for _ in shape:
        array = array.flatten() if hasattr(array, "flatten") else array
    found = array.to_numpy(zero_copy_only=False)
    if found.dtype != np.dtype(dtype) or found.size != len(table) * int(np.prod(shape)):
        raise InputError(f"column {name!r} in {path} is not {dtype} {shape}; {REMEDY}")
    return found.reshape(len(table), *shape)


def to_png(picture: np.ndarray) -> bytes:
    """A PNG file of uint8 (H, W, 3), or of uint8 or uint16 (H, W, 1)."""
    good, data = cv2.imencode(".png", picture[..., ::-1], [cv2.IMWRITE_PNG_COMPRESSION, 3])
    assert good
    return data.tobytes()


def from_png(data: bytes | None, shape: tuple[int, ...], dtype: str, what: str) -> np.ndarray:
    """The picture (H, W, C) that `to_png` was given; ValueError if it is another, `what` says of what."""
    raw = np.frombuffer(data or b"", np.uint8)
    picture = cv2.imdecode(raw, cv2.IMREAD_UNCHANGED) if len(raw) else None
    if picture is None or picture.dtype != np.dtype(dtype) or picture.size != int(np.prod(shape)):
        raise InputError(f"a picture of {what} is damaged, or not {dtype} {shape}; record again into another folder")
    return np.ascontiguousarray(picture.reshape(shape)[..., ::-1])


def write_mp4(path: Path, pictures: np.ndarray, fps: float, lossless: bool) -> None:
    """An MP4 file of uint8 (n, H, W, 3); what `lossless` means is told in `Mp4`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with Mp4(path, (pictures.shape[2], pictures.shape[1]), fps, lossless) as video:
        for picture in pictures:
            video.write(picture)


def read_mp4(path: Path, count: int, shape: tuple[int, ...]) -> np.ndarray:
    """The pictures of an MP4 file.

    Args:
        path: of the file.
        count: how many there must be, n.
        shape: (H, W, 3).

    Returns:
        uint8 (n, H, W, 3).

    Raises:
        ValueError: no such file, or not so many whole pictures of this size.
    """
    # imageio_ffmpeg.read_frames leaves its pipes open, which Python warns of
    command = (imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-i", str(path), "-f", "rawvideo", "-pix_fmt", "rgb24")
    done = subprocess.run((*command, "-fps_mode", "passthrough", "-"), capture_output=True, check=False)
    if done.returncode or len(done.stdout) != count * int(np.prod(shape)):
        said = done.stderr.decode(errors="replace").strip().splitlines()
        cause = said[-1] if said else f"not {count} pictures of {shape[1]} × {shape[0]}"
        raise InputError(f"{path} is cut off or damaged ({cause}); {REMEDY}")
    return np.frombuffer(done.stdout, np.uint8).reshape(count, *shape).copy()
