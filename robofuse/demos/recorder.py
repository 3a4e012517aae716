"""Writes demonstrations of a script, a policy or a person."""

import json
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from robofuse.checks import whole
from robofuse.demos.layout import (
    ABOUT,
    DATA_PATH,
    DIGESTS,
    FORMAT,
    INFO,
    STATS,
    VERSION,
    VIDEO_PATH,
    Episode,
    catalogue,
    describe,
    files_of,
    need_arrow,
    resume,
)
from robofuse.demos.parts import merge_stats, stats_of_row, write_files
from robofuse.errors import InputError
from robofuse.files import lock, write_atomic
from robofuse.sensors import AVAILABLE, Sensor, order


class Recorder:
    """A data set under construction, in LeRobot's layout v3.0; `with` makes sure that what is finished is kept.

    Episodes come whole, with `append`, or step by step, with `add`, from any loop that drives a robot:

        with Recorder("demos", world.sensors, actions=("x", "y", "z", "yaw", "gripper")) as recorder:
            ...
            recorder.add(observation, action, reward, done, success)

    They are written in files of about `frames` control steps. The folder can be read at any time; if the process is
    killed, only the episodes that were not written yet are lost. A folder with demonstrations of the same sensors is
    continued.

    Attributes:
        folder: of the data set.
        sensors: what is recorded, in the order of `available`.
        features: the columns and films of the data set.
        episodes: number of episodes, with those that are not written yet.
        scenes: the number of each of these episodes in its World.
    """

    def __init__(
        self,
        folder: str | Path,
        sensors: Sequence[Sensor],
        actions: Sequence[str],
        *,
        privileged: Sequence[str] = (),
        state_names: Sequence[str] = (),
        executed: bool = False,
        rgb: str = "lossless",
        fps: int = 20,
        robot: str = "robot",
        task: str = "task",
        frames: int = 2000,
        about: Mapping[str, Any] | None = None,
    ) -> None:
        """Open a folder, and keep other recorders out of it.

        Args:
            folder: new, empty, or of an earlier recording.
            sensors: to record.
            actions: names of the elements of an action.
            privileged: names of the elements of the privileged vector, if it is recorded.
            state_names: names of the elements of `proprio`.
            executed: record also the executed actions, where they differ from the chosen ones.
            rgb: colour pictures as `lossless` video (every bit is kept, browsers do not play it), as `lossy` video
                (much smaller), or as `png` in the tables.
            fps: control steps per second.
            robot: LeRobot's `robot_type`.
            task: what is to be done, in words.
            frames: control steps per file, about; as many may be lost when the process is killed.
            about: plain JSON that later recordings into the folder must share.

        Raises:
            InputError: another recording is at work there, something else is in the folder, or colours cannot be
                stored in this way.
            StateError: pyarrow is missing.
        """
        need_arrow()
        self.folder, self.sensors = Path(folder), order(sensors)
        self._frames, self._rgb, self._task = whole(frames, "frames", 1), rgb, task
        self.features = describe(self.sensors, actions, privileged, rgb, executed, state_names)
        plain = json.loads(json.dumps([asdict(sensor) for sensor in self.sensors]))
        self._about = {"format": FORMAT, "sensors": plain, "task": task, **json.loads(json.dumps(dict(about or {})))}
        self._info: dict[str, Any] = {
            "codebase_version": VERSION,
            "robot_type": robot,
            "total_episodes": 0,
            "total_frames": 0,
            "total_tasks": 1,
            "chunks_size": 1000,
            "data_files_size_in_mb": 100,
            "video_files_size_in_mb": 200,
            "fps": whole(fps, "fps", 1),
            "splits": {},
            "data_path": DATA_PATH,
            "video_path": VIDEO_PATH if any(feature.stored == "video" for feature in self.features) else None,
            "features": catalogue(self.features),
        }
        self._executed = executed
        self._actions = len(actions)
        self._steps = list[tuple[dict[str, Tensor], Tensor, float, bool]]()  # of the episode that is going on
        self._waiting: list[Episode] = []
        with ExitStack() as stack:
            stack.enter_context(lock(self.folder, "recording"))
            self._rows, self._digests = resume(self.folder, self._info, self._about)
            self._held = stack.pop_all()
        self.scenes = [int(row["robofuse/scene"]) for row in self._rows]
        self._stats = [stats_of_row(row, self.features) for row in self._rows]
        self._files = files_of(self._rows)

    @property
    def episodes(self) -> int:
        """Number of episodes, with those that are not written yet."""
        return len(self.scenes)

    @property
    def frames(self) -> int:
        """Control steps of the episodes that are written."""
        return self._info["total_frames"]

    def add(
        self,
        observation: Mapping[str, Tensor | np.ndarray],
        action: Tensor | np.ndarray | Sequence[float],
        reward: float,
        done: bool,
        success: bool,
    ) -> None:
        """Add one control step.

        Args:
            observation: the readings before the action, key → array of the sensor's shape, or with a batch of 1 in
                front; without `available` all sensors delivered.
            action: (A,).
            reward: of the action.
            done: whether this was the last step of the episode.
            success: whether the task is done after it.

        Raises:
            InputError: a sensor is missing, or something has another shape or type.
        """
        readings: dict[str, Tensor] = {}
        for feature in self.features:
            key, shape = feature.key, feature.shape
            if not key:
                continue
            if key not in observation and key != AVAILABLE:
                raise InputError(f"the observation has no {key!r}; it has {', '.join(observation)}")
            given = torch.as_tensor(observation[key] if key in observation else np.ones(shape)).detach().cpu()
            given = given.to(torch.int8) if key == AVAILABLE else given
            given = given[0] if given.shape == (1, *shape) else given
            if given.shape != shape or str(given.dtype) != f"torch.{feature.dtype}":
                raise InputError(f"{key!r} must be {feature.dtype} {shape}, got {given.dtype} {tuple(given.shape)}")
            readings[key] = given.clone()  # the caller may write into it
        chosen = torch.as_tensor(action).detach().cpu().float().flatten().clone()
        if chosen.shape != (self._actions,) or not bool(chosen.isfinite().all()):
            raise InputError(f"an action is {self._actions} finite numbers, got {chosen.tolist()}")
        self._steps.append((readings, chosen, float(reward), bool(success)))
        if done:
            observations, actions, rewards, successes = zip(*self._steps, strict=True)
            self._steps = []
            sensed = {key: torch.stack([one[key] for one in observations]) for key in readings}
            scene = max(self.scenes, default=-1) + 1
            episode = Episode(sensed, torch.stack(actions), torch.tensor(rewards), torch.tensor(successes), scene)
            self.append(episode)

    def discard(self) -> int:
        """Forget the control steps since the last episode was finished; returns how many there were."""
        count, self._steps = len(self._steps), []
        return count

    def append(self, episode: Episode) -> None:
        """Add a whole episode; InputError if it is empty, or of other sensors, shapes or types."""
        if self._executed != (episode.executed is not None):
            raise InputError("an episode has `executed` if and only if the Recorder was made with executed=True")
        for feature in self.features:
            if feature.key and feature.key not in episode.observation:
                raise InputError(f"the episode has no {feature.key!r}; it has {', '.join(episode.observation)}")
            x, shape = feature.of(episode), (len(episode), *feature.shape)
            if not len(episode) or x.shape != shape or str(x.dtype) != f"torch.{feature.dtype}":
                expected = f"{feature.dtype} {(len(episode) or 'T', *feature.shape)}"
                raise InputError(f"{feature.part!r} of the episode must be {expected}, got {x.dtype} {tuple(x.shape)}")
        self._waiting.append(episode)
        self.scenes.append(episode.scene)
        if sum(len(one) for one in self._waiting) >= self._frames:
            self.save()

    def save(self) -> None:
        """Write the finished episodes that are not written yet."""
        if not self._waiting:
            return
        if not self._files:  # from now on the folder is one of ours
            self._write_about()
        rows, stats, digests = write_files(
            self.folder,
            self._files,
            self.features,
            self._waiting,
            self._rows,
            fps=self._info["fps"],
            task=self._task,
            lossless=self._rgb == "lossless",
        )
        self._digests |= digests
        all_stats = [*self._stats, *stats]
        plain = {key: {name: x.tolist() for name, x in one.items()} for key, one in merge_stats(all_stats).items()}
        write_atomic(self.folder / STATS, json.dumps(plain) + "\n")
        self._rows += rows
        self._info |= {"total_episodes": len(self._rows), "total_frames": self._rows[-1]["dataset_to_index"]}
        self._info["splits"] = {"train": f"0:{len(self._rows)}"}
        self._write_about()
        # last: until now a reader finds what the folder held before
        write_atomic(self.folder / INFO, json.dumps(self._info, indent=1) + "\n")
        self._files, self._stats, self._waiting = self._files + 1, all_stats, []

    def _write_about(self) -> None:
        write_atomic(self.folder / ABOUT, json.dumps(self._about | {DIGESTS: self._digests}, indent=1) + "\n")

    def close(self) -> None:
        """Write the finished episodes, and let other recorders in; may be called twice."""
        try:
            self.save()
        finally:
            self._held.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
