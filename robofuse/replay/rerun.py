"""Recordings of replays for the viewer of rerun (rerun.io), to be gone through frame by frame."""

import os
from collections.abc import Generator
from pathlib import Path
from typing import Any

import cv2

from robofuse.errors import InputError, StateError
from robofuse.files import draft_of, remove_stale_drafts
from robofuse.replay.frames import Frame
from robofuse.replay.video import Kept
from robofuse.sensors import Sensor

_QUALITY = 90  # of the scene's pictures, which are JPEG; the sensors' are kept to the bit


class Recording(Kept):
    """A recording that is being written; `with` makes sure that it is finished. After an error nothing is left.

    Entities are `scene`, each sensor by its key as the policy reads it (of a force window the newest sample),
    `available/KEY`, `reward/TERM`, `return` and `outcome`; timelines are `frame`, over all episodes, and `time`.
    """

    def __init__(self, path: Path, sensors: tuple[Sensor, ...]) -> None:
        """Begin a file; an existing one is replaced in the end.

        Raises:
            InputError: not an .rrd, or a folder that cannot be written to.
            StateError: rerun-sdk is not installed.
        """
        check_path(path)
        self._rerun = _import_rerun()
        self._path, self._draft, self._sensors, self._count, self._seconds = path, draft_of(path), sensors, 0, 0.0
        remove_stale_drafts(path)
        self._stream: Any = self._rerun.RecordingStream("robofuse replay")
        self._stream.save(self._draft)

    def through(self, frames: Generator[Frame]) -> Generator[Frame]:
        """The same frames, written on their way."""
        for shown in frames:
            self.write(shown)
            yield shown

    def write(self, shown: Frame) -> None:
        """Append a frame."""
        rerun, log = self._rerun, self._stream.log
        self._stream.set_time("frame", sequence=self._count)
        self._stream.set_time("time", duration=self._seconds)
        self._count, self._seconds = self._count + 1, self._seconds + shown.dt
        _, packed = cv2.imencode(".jpg", shown.scene[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
        log("scene", rerun.EncodedImage(contents=packed.tobytes(), media_type="image/jpeg"))
        for sensor in self._sensors:
            value = shown.observation[sensor.key]
            if sensor.kind == "rgb":
                log(sensor.key, rerun.Image(value))
            elif sensor.kind == "depth":
                log(sensor.key, rerun.DepthImage(value[..., 0], meter=1000.0))
            else:
                log(sensor.key, rerun.Scalars(value[-1] if sensor.kind == "window" else value.ravel()))
            log(f"available/{sensor.key}", rerun.Scalars(float(shown.on[sensor.key])))
        for name, term in shown.terms.items():
            log(f"reward/{name}", rerun.Scalars(term))
        log("return", rerun.Scalars(shown.total))
        if shown.step == 0:
            log("outcome", rerun.TextLog(f"episode {shown.episode} begins"))
        if shown.outcome:
            level = "INFO" if shown.success else "WARN"
            log("outcome", rerun.TextLog(f"episode {shown.episode}: {shown.outcome}", level=level))

    def close(self, keep: bool = True) -> None:
        """Finish the file, or delete it."""
        self._stream.disconnect()
        if not keep:
            self._draft.unlink(missing_ok=True)
            return
        try:
            os.replace(self._draft, self._path)
        except OSError as error:
            raise InputError(f"cannot write {self._path}: {error.strerror or error}") from None


def check_path(path: Path) -> None:
    """Raise InputError if no recording can be written to this path."""
    if path.suffix.lower() != ".rrd":
        raise InputError(f"--rerun writes an .rrd file, got {str(path)!r}")
    if path.is_dir() or not path.parent.is_dir() or not os.access(path.parent, os.W_OK):
        raise InputError(f"--rerun cannot write {str(path)!r}: a file in a folder that exists and may be written to")


def _import_rerun() -> Any:  # noqa: ANN401
    try:
        import rerun
    except ImportError:
        raise StateError("--rerun needs rerun-sdk: pip install 'robofuse[rerun]'") from None
    return rerun
