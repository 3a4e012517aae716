"""Some episodes as one file of each kind: drafted in hidden files, then moved to their places within a moment."""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from robofuse.demos.arrow import column, png_column, write_parquet
from robofuse.demos.episode import Episode
from robofuse.demos.features import COUNTERS, Feature
from robofuse.demos.folder import DATA_PATH, EPISODES_PATH, TASKS, VIDEO_PATH, place
from robofuse.demos.pictures import to_png, write_mp4
from robofuse.demos.stats import of_feature

_Stats = dict[str, dict[str, np.ndarray]]


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
    ) -> tuple[list[dict[str, Any]], list[_Stats]]:
        """Draft all files.

        Args:
            episodes: to write.
            before: rows of those that are there.
            lossless: videos.

        Returns:
            For each episode its row in the table of episodes, and its statistics.
        """
        rows, stats, groups = list[dict[str, Any]](), list[_Stats](), list[dict[str, Any]]()
        start = before[-1]["dataset_to_index"] if before else 0
        begun = index = start
        for number, episode in enumerate(episodes, len(before)):
            groups.append(self._columns(episode, number, index))
            rows.append(self._row(episode, number, index, index - begun))
            stats.append({feature.name: of_feature(feature, feature.of(episode)) for feature in self._features})
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

    def publish(self) -> None:
        """Move the drafts to their places."""
        for hidden, final in self._drafts.items():
            os.replace(hidden, final)

    def _draft(self, path: str, write: Callable[[Path], None]) -> None:
        final = self._folder / path.format(**place(self._number))
        hidden = final.with_name(f".{final.name}.{os.getpid()}{final.suffix}")
        final.parent.mkdir(parents=True, exist_ok=True)
        self._drafts[hidden] = final
        write(hidden)

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


def stats_of(row: Mapping[str, Any], features: Sequence[Feature]) -> _Stats:
    """The statistics that a row of the table of episodes tells."""
    found: _Stats = {feature.name: {} for feature in features}
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
