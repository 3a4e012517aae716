"""Writes demonstrations: whatever plays an episode, a script, a policy or a person, hands it over here."""

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
    check_rgb,
    describe,
    files_of,
    need_arrow,
    resume,
)
from robofuse.demos.parts import Part, merge_stats, stats_of_row
from robofuse.errors import InputError
from robofuse.files import lock, write_atomic
from robofuse.sensors import AVAILABLE, PRIVILEGED, Sensor, order


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
        self._unfinished = Unfinished(self.sensors, len(actions), len(privileged))
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
        self._unfinished.add(observation, action, reward, success)
        if done:
            self.append(self._unfinished.finish(max(self.scenes, default=-1) + 1))

    def discard(self) -> int:
        """Forget the control steps since the last episode was finished; how many there were."""
        return self._unfinished.discard()

    def append(self, episode: Episode) -> None:
        """One whole episode; ValueError if it is empty, or of other sensors, shapes or types."""
        self._unfinished.check(episode, self._executed)
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
        if not self._files:  # from now on the folder is one of ours
            self._write_about()
        self._digests |= part.publish()
        all_stats = [*self._stats, *stats]
        told = {key: {name: x.tolist() for name, x in one.items()} for key, one in merge_stats(all_stats).items()}
        write_atomic(self.folder / STATS, json.dumps(told) + "\n")
        self._rows += rows
        self._info |= {"total_episodes": len(self._rows), "total_frames": self._rows[-1]["dataset_to_index"]}
        self._info["splits"] = {"train": f"0:{len(self._rows)}"}
        self._write_about()
        # last: until now the folder holds what it held before
        write_atomic(self.folder / INFO, json.dumps(self._info, indent=1) + "\n")
        self._files, self._stats, self._waiting = self._files + 1, all_stats, []

    def _write_about(self) -> None:
        write_atomic(self.folder / ABOUT, json.dumps(self._about | {DIGESTS: self._digests}, indent=1) + "\n")

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


class Unfinished:
    """An episode that is still going on: its control steps so far, and checks of what it is made of."""

    def __init__(self, sensors: Sequence[Sensor], actions: int, privileged: int) -> None:
        """Empty.

        Args:
            sensors: in the order of `available`.
            actions: length of an action.
            privileged: length of the simulator's truth, 0 if it is not recorded.
        """
        self._expected: dict[str, tuple[tuple[int, ...], str]] = {s.key: (s.shape, s.dtype) for s in sensors}
        self._expected[AVAILABLE] = ((len(sensors),), "int8")
        if privileged:
            self._expected[PRIVILEGED] = ((privileged,), "float32")
        self._actions, self._steps = actions, list[tuple[dict[str, Tensor], Tensor, float, bool]]()

    def add(
        self,
        observation: Mapping[str, Tensor | np.ndarray],
        action: Tensor | np.ndarray | Sequence[float],
        reward: float,
        success: bool,
    ) -> None:
        """One control step; see `Recorder.add`."""
        found: dict[str, Tensor] = {}
        for key, (shape, dtype) in self._expected.items():
            if key not in observation:
                if key != AVAILABLE:
                    raise InputError(f"the observation has no {key!r}; it has {', '.join(observation)}")
                found[key] = torch.ones(shape, dtype=torch.int8)
                continue
            given = torch.as_tensor(observation[key]).detach().cpu()
            given = given.to(torch.int8) if key == AVAILABLE else given
            given = given[0] if given.shape == (1, *shape) else given
            if given.shape != shape or str(given.dtype) != f"torch.{dtype}":
                raise InputError(f"{key!r} must be {dtype} {shape}, got {given.dtype} {tuple(given.shape)}")
            found[key] = given.clone()  # whoever drives the robot may write into it
        chosen = torch.as_tensor(action).detach().cpu().float().flatten().clone()
        if chosen.shape != (self._actions,) or not bool(chosen.isfinite().all()):
            raise InputError(f"an action is {self._actions} finite numbers, got {chosen.tolist()}")
        self._steps.append((found, chosen, float(reward), bool(success)))

    def finish(self, scene: int) -> Episode:
        """The episode, and nothing is left for the next one."""
        observations, actions, rewards, successes = zip(*self._steps, strict=True)
        self._steps = []
        return Episode(
            {key: torch.stack([one[key] for one in observations]) for key in self._expected},
            torch.stack(actions),
            torch.tensor(rewards),
            torch.tensor(successes),
            scene,
        )

    def discard(self) -> int:
        """Forget it; how many control steps it had."""
        count, self._steps = len(self._steps), []
        return count

    def check(self, episode: Episode, executed: bool) -> None:
        """ValueError if an episode has no control steps, or other ones than these.

        Args:
            episode: which.
            executed: whether what was done is recorded beside what was chosen.
        """
        rows = {"action": (episode.action, (self._actions,), "float32"), "reward": (episode.reward, (), "float32")}
        rows["success"] = (episode.success, (), "bool")
        if executed or episode.executed is not None:
            if not executed or episode.executed is None:
                raise InputError("an episode has `executed` if and only if the Recorder was made with executed=True")
            rows["executed"] = (episode.executed, (self._actions,), "float32")
        for key, (shape, dtype) in self._expected.items():
            if key not in episode.observation:
                raise InputError(f"the episode has no {key!r}; it has {', '.join(episode.observation)}")
            rows[key] = (episode.observation[key], shape, dtype)
        for name, (x, shape, dtype) in rows.items():
            if not len(episode) or x.shape != (len(episode), *shape) or str(x.dtype) != f"torch.{dtype}":
                expected = f"{dtype} {(len(episode) or 'T', *shape)}"
                raise InputError(f"{name!r} of the episode must be {expected}, got {x.dtype} {tuple(x.shape)}")
