"""Writes demonstrations: whatever plays an episode, a script, a policy or a person, hands it over here."""

import json
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from torch import Tensor

from robofuse.checks import whole
from robofuse.demos.arrow import need_arrow
from robofuse.demos.episode import Episode
from robofuse.demos.features import catalogue, check_rgb, describe
from robofuse.demos.folder import ABOUT, DATA_PATH, FORMAT, INFO, STATS, VERSION, VIDEO_PATH, files_of, find
from robofuse.demos.part import Part, stats_of
from robofuse.demos.running import Running
from robofuse.demos.stats import together
from robofuse.files import lock, write_atomic
from robofuse.sensors import Sensor, order


class Recorder:
    """A data set under construction, in LeRobot's layout v3.0; `with` makes sure that what is finished is kept.

    Episodes come whole, with `append`, or step by step, with `add`, from any loop that drives a robot:

        with Recorder("demos", world.sensors, actions=("x", "y", "z", "yaw", "gripper")) as recorder:
            ...
            recorder.add(observation, action, reward, done, success)

    They are written in files of some `frames` control steps. Files appear whole, and the folder can be read at any
    time; what a killed process had not written yet is lost, nothing else. A folder that holds demonstrations of the
    same sensors is gone on with.

    Attributes:
        folder: where.
        sensors: what is recorded, in the order of `available`.
        episodes: how many there are, also those that are not written yet.
        scenes: of these, the numbers of the episodes in their World.
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
        """Opens a folder, and keeps other recorders out of it.

        Args:
            folder: new, empty, or of an earlier recording.
            sensors: to record.
            actions: names of the elements of an action.
            privileged: names of the elements of the simulator's truth, if that is to be recorded, too.
            state_names: of the elements of `proprio`.
            executed: record also what was done, where it differs from what was chosen.
            rgb: colour pictures as `lossless` video (every bit is kept, browsers do not play it), as `lossy` video
                (much smaller), or as `png` in the tables.
            fps: control steps per second.
            robot: LeRobot's `robot_type`.
            task: what is to be done, in words.
            frames: about as many control steps share a file, and may be lost when the process is killed.
            about: plain JSON that later recordings into the folder must share.

        Raises:
            ValueError: another recording is at work there, something else is in the folder, or colours cannot be so.
            RuntimeError: pyarrow is missing.
        """
        need_arrow()
        self.folder, self.sensors = Path(folder), order(sensors)
        check_rgb(self.sensors, rgb)
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
        self._running = Running(self.sensors, len(actions), len(privileged))
        self._waiting: list[Episode] = []
        with ExitStack() as stack:
            stack.enter_context(lock(self.folder, "recording"))
            self._rows = find(self.folder, self._info, self._about)
            self._held = stack.pop_all()
        self.scenes = [int(row["robofuse/scene"]) for row in self._rows]
        self._stats = [stats_of(row, self.features) for row in self._rows]
        self._files = files_of(self._rows)

    @property
    def episodes(self) -> int:
        """How many there are, also those that are not written yet."""
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
        """One control step.

        Args:
            observation: what the action was chosen by, key → array of the sensor's shape, or with 1 in front;
                `available` may be missing, and then all sensors delivered.
            action: (A,).
            reward: of the action.
            done: it was the last one of the episode, which is kept from now on.
            success: the task is done after it.

        Raises:
            ValueError: a sensor is missing, or something has another shape or type.
        """
        self._running.add(observation, action, reward, success)
        if done:
            self.append(self._running.finish(max(self.scenes, default=-1) + 1))

    def discard(self) -> int:
        """Forget the control steps since the last episode was finished; how many there were."""
        return self._running.discard()

    def append(self, episode: Episode) -> None:
        """One whole episode; ValueError if it is empty, or of other sensors, shapes or types."""
        self._running.check(episode, self._executed)
        self._waiting.append(episode)
        self.scenes.append(episode.scene)
        if sum(len(one) for one in self._waiting) >= self._frames:
            self.save()

    def save(self) -> None:
        """Write the finished episodes that are not written yet."""
        if not self._waiting:
            return
        part = Part(self.folder, self._files, self.features, self._info["fps"], self._task)
        rows, stats = part.write(self._waiting, self._rows, self._rgb == "lossless")
        if not self._files:
            write_atomic(self.folder / ABOUT, json.dumps(self._about, indent=1) + "\n")
        part.publish()
        all_stats = [*self._stats, *stats]
        told = {key: {name: x.tolist() for name, x in one.items()} for key, one in together(all_stats).items()}
        write_atomic(self.folder / STATS, json.dumps(told) + "\n")
        self._rows += rows
        self._info |= {"total_episodes": len(self._rows), "total_frames": self._rows[-1]["dataset_to_index"]}
        self._info["splits"] = {"train": f"0:{len(self._rows)}"}
        # last: until now the folder holds what it held before
        write_atomic(self.folder / INFO, json.dumps(self._info, indent=1) + "\n")
        self._files, self._stats, self._waiting = self._files + 1, all_stats, []

    def close(self) -> None:
        """Write what is finished and let others in; may be called twice."""
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
