"""The files of a data set: tables in parquet, films in MP4, and statistics."""

import json
import subprocess
from collections.abc import Mapping, Sequence
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
from robofuse.files import replacing
from robofuse.replay.video import Mp4

if TYPE_CHECKING:
    import pyarrow as pa

QUANTILES = {"q01": 0.01, "q10": 0.1, "q50": 0.5, "q90": 0.9, "q99": 0.99}
Row = dict[str, Any]  # of the table of episodes
Stats = dict[str, dict[str, np.ndarray]]  # feature → statistic → array


def write_files(
    folder: Path,
    number: int,
    features: Sequence[Feature],
    episodes: Sequence[Episode],
    before: Sequence[Row],
    *,
    fps: int,
    task: str,
    lossless: bool,
) -> tuple[list[Row], list[Stats], dict[str, str]]:
    """Write some episodes: a table, a film of each camera, a table of episodes and the table of tasks.

    Args:
        folder: of the data set.
        number: of the files.
        features: what is recorded.
        episodes: to write.
        before: rows of the episodes in the files before.
        fps: control steps per second.
        task: in words.
        lossless: keep every bit of the films.

    Returns:
        The row of each episode in the table of episodes, its statistics, and file → SHA-256 of what `read` will read.

    Raises:
        InputError: the disk is full, or the folder cannot be written to.
    """
    rows, stats, groups = list[Row](), list[Stats](), list[dict[str, Any]]()
    begun = index = before[-1]["dataset_to_index"] if before else 0
    for episode in episodes:
        at = len(before) + len(rows)
        groups.append(_columns(features, episode, at, index, fps))
        row = {"episode_index": at, "tasks": [task], "length": len(episode)}
        row |= _where("data", number) | {"dataset_from_index": index, "dataset_to_index": index + len(episode)}
        for feature in features:
            if feature.stored == "video":
                row |= _where(f"videos/{feature.name}", number)
                row[f"videos/{feature.name}/from_timestamp"] = (index - begun) / fps
                row[f"videos/{feature.name}/to_timestamp"] = (index - begun + len(episode)) / fps
        row |= _where("meta/episodes", number)
        rows.append(row | {"robofuse/scene": episode.scene, "robofuse/success": episode.succeeded})
        stats.append({feature.name: stats_of_feature(feature, feature.array(episode)) for feature in features})
        index += len(episode)

    films = {
        VIDEO_PATH.format(video_key=feature.name, **place(number)): feature
        for feature in features
        if feature.stored == "video"
    }
    for name, feature in films.items():
        pictures = np.concatenate([feature.array(episode) for episode in episodes])
        write_mp4(folder / name, pictures, fps, lossless)
    with_stats = [
        row | {f"stats/{key}/{name}": x.tolist() for key, one in part.items() for name, x in one.items()}
        for row, part in zip(rows, stats, strict=True)
    ]
    data, table = (path.format(**place(number)) for path in (DATA_PATH, EPISODES_PATH))
    write_parquet(folder / data, groups)
    write_parquet(folder / table, [{name: [row[name] for row in with_stats] for name in with_stats[0]}])
    write_parquet(folder / TASKS, [{"task_index": [0], "task": [task]}], {"pandas": _index_note()})
    return rows, stats, {name: digest_of(folder / name) for name in (data, *films, table)}


def _where(what: str, number: int) -> Row:
    return {f"{what}/{name}": value for name, value in place(number).items()}


def _columns(features: Sequence[Feature], episode: Episode, number: int, index: int, fps: int) -> dict[str, Any]:
    """One row group of the data file: column → Arrow array."""
    steps = np.arange(len(episode))
    counters = (steps / fps, steps, np.full_like(steps, number), index + steps, np.zeros_like(steps))
    found: dict[str, Any] = {}
    for feature in features:
        if feature.stored == "values":
            found[feature.name] = column(feature.array(episode))
        elif feature.stored == "png":
            found[feature.name] = png_column([to_png(one) for one in feature.array(episode)])
    found["next.done"] = column(steps == len(steps) - 1)
    typed = zip(COUNTERS.items(), counters, strict=True)
    return found | {name: column(x.astype(dtype)) for (name, dtype), x in typed}


def _index_note() -> dict[str, Any]:
    """The metadata by which pandas, with which LeRobot reads the table of tasks, finds its index."""
    kinds = {"task_index": ("int64", "int64"), "task": ("unicode", "object")}
    columns = [
        {"name": name, "field_name": name, "pandas_type": kind, "numpy_type": numpy, "metadata": None}
        for name, (kind, numpy) in kinds.items()
    ]
    return {"index_columns": ["task"], "column_indexes": [], "columns": columns, "pandas_version": "2.0.0"}


def stats_of_row(row: Mapping[str, Any], features: Sequence[Feature]) -> Stats:
    """The statistics of an episode from its row in the table of episodes."""
    found: Stats = {feature.name: {} for feature in features}
    for key, value in row.items():
        if key.startswith("stats/"):
            name, _, statistic = key.removeprefix("stats/").rpartition("/")
            found[name][statistic] = np.array(value)
    return found


def stats_of_feature(feature: Feature, values: np.ndarray) -> dict[str, np.ndarray]:
    """Statistics of (T, …) by element; of pictures by channel, (C, 1, 1), and as shares of 255 unless they are depth.

    NaN and Inf, which faulty sensors give, do not count.
    """
    picture = feature.stored != "values"
    flat = values.reshape(-1, values.shape[-1]) if picture else values.reshape(len(values), -1)
    x = flat.astype(np.float64) / (255.0 if picture and feature.depth is None else 1.0)
    x[~np.isfinite(x)] = np.nan
    x[:, np.isnan(x).all(0)] = 0.0  # there is nothing to count
    found = {"min": np.nanmin(x, 0), "max": np.nanmax(x, 0), "mean": np.nanmean(x, 0), "std": np.nanstd(x, 0)}
    # not interpolated: so the quantiles of parts are bounds of those of the whole
    quantiles = np.nanquantile(x, list(QUANTILES.values()), axis=0, method="inverted_cdf")
    found |= dict(zip(QUANTILES, quantiles, strict=True))
    shape = (feature.shape[-1], 1, 1) if picture else feature.shape or (1,)
    return {name: value.reshape(shape) for name, value in found.items()} | {"count": np.array([len(values)])}


def merge_stats(parts: Sequence[Mapping[str, Mapping[str, np.ndarray]]]) -> Stats:
    """Statistics of all episodes from those of each.

    Minimum, maximum, mean, deviation and count are exact. Quantiles of the whole cannot be told from those of parts:
    the outer ones are bounds (the least or greatest of the parts), as in LeRobot, and the median is a weighted mean.
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
    """Write a parquet file.

    Args:
        path: of the file.
        groups: one per row group, column → Arrow array or list.
        metadata: of the schema, name → plain JSON.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    tables = [pa.table(dict(group)) for group in groups]
    schema = tables[0].schema.with_metadata({name: json.dumps(value) for name, value in (metadata or {}).items()})
    with (
        replacing(path) as draft,
        pq.ParquetWriter(draft, schema, compression="snappy", write_page_checksum=True) as writer,
    ):
        for table in tables:
            writer.write_table(table.cast(schema))


def values(table: "pa.Table", name: str, dtype: str, shape: tuple[int, ...], path: Path) -> np.ndarray:
    """A column as dtype (n, *shape), pictures decoded; InputError naming `path` if there is no such column."""
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
    """The picture (H, W, C) that `to_png` was given; InputError, naming `what`, if it is another."""
    raw = np.frombuffer(data or b"", np.uint8)
    picture = cv2.imdecode(raw, cv2.IMREAD_UNCHANGED) if len(raw) else None
    if picture is None or picture.dtype != np.dtype(dtype) or picture.size != int(np.prod(shape)):
        raise InputError(f"a picture of {what} is damaged, or not {dtype} {shape}; record again into another folder")
    return np.ascontiguousarray(picture.reshape(shape)[..., ::-1])


def write_mp4(path: Path, pictures: np.ndarray, fps: float, lossless: bool) -> None:
    """Write uint8 (n, H, W, 3) as an MP4 file, see `Mp4`."""
    with replacing(path) as draft, Mp4(draft, (pictures.shape[2], pictures.shape[1]), fps, lossless) as video:
        for picture in pictures:
            video.write(picture)


def read_mp4(path: Path, count: int, shape: tuple[int, ...]) -> np.ndarray:
    """The pictures of an MP4 file, uint8 (count, *shape); InputError unless it has `count` pictures of that shape."""
    # imageio_ffmpeg.read_frames leaves its pipes open, which Python warns of
    command = (imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-i", str(path), "-f", "rawvideo", "-pix_fmt", "rgb24")
    done = subprocess.run((*command, "-fps_mode", "passthrough", "-"), capture_output=True, check=False)
    if done.returncode or len(done.stdout) != count * int(np.prod(shape)):
        said = done.stderr.decode(errors="replace").strip().splitlines()
        cause = said[-1] if said else f"not {count} pictures of {shape[1]} × {shape[0]}"
        raise InputError(f"{path} is cut off or damaged ({cause}); {REMEDY}")
    return np.frombuffer(done.stdout, np.uint8).reshape(count, *shape).copy()
