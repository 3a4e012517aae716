"""Shows pictures: in an MP4 file that browsers play, and in a window."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import cv2
import imageio_ffmpeg
import numpy as np

from robofuse.errors import InputError, StateError
from robofuse.files import draft_of, remove_stale_drafts

# BT.709, the colours that players assume of high definition
_COLOURS = ["-vf", "scale=out_color_matrix=bt709:out_range=tv,format=yuv420p"]
_TAGS = ["-colorspace", "bt709", "-color_primaries", "bt709", "-color_trc", "bt709", "-color_range", "tv"]
_PLAYED = {"codec": "libx264", "pix_fmt_out": "yuv420p", "output_params": [*_COLOURS, *_TAGS, "-crf", "18"]}
# a key frame every other picture: to read a single picture of a recording, two are decoded
_EXACT = {"codec": "libx264rgb", "pix_fmt_out": "rgb24", "output_params": ["-crf", "0", "-g", "2"]}
_FAST = ["-preset", "veryfast", "-movflags", "+faststart"]

_TITLE = "robofuse replay"
_TRY = "import cv2; cv2.namedWindow('robofuse'); cv2.waitKey(1); cv2.destroyAllWindows()"
_QUIT = (ord("q"), 27)  # 27 is Escape


class Kept:
    """What is written while something plays: with `with`, an error deletes it, and Ctrl-C keeps what there is."""

    def close(self, keep: bool = True) -> None:
        """Finish the file, or delete it."""
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close(keep=kind is None or issubclass(kind, KeyboardInterrupt))


class Mp4(Kept):
    """A film that is being written; `with` makes sure that it is finished.

    Pictures go to a hidden file beside `path`, which takes its place when the film is closed. After an error nothing is
    left; after Ctrl-C the film ends there.

    Attributes:
        path: of the film.
        frames: number of pictures so far.
    """

    def __init__(self, path: Path, size: tuple[int, int], fps: float, lossless: bool = False) -> None:
        """Look for an encoder, which the first picture starts.

        Args:
            path: of the film; an existing one is replaced in the end.
            size: width and height [pixels], even numbers unless `lossless`.
            fps: pictures per second.
            lossless: keep every bit, in H.264's High 4:4:4 profile, which browsers do not play.

        Raises:
            InputError: not an .mp4, a folder that cannot be written to, or an odd size.
            StateError: no encoder on this machine.
        """
        check_path(path)
        if not lossless and (size[0] % 2 or size[1] % 2):
            raise InputError(f"the width and height of a film must be even numbers, got {size[0]} × {size[1]}")
        try:
            imageio_ffmpeg.get_ffmpeg_exe()
        except RuntimeError as error:
            raise StateError(f"no ffmpeg to write {path} with ({error}); pip install imageio-ffmpeg") from None
        remove_stale_drafts(path)
        self.path, self.frames, self._size, self._draft = path, 0, size, draft_of(path)
        options: dict[str, Any] = {"fps": fps, "quality": None, "macro_block_size": 1, "ffmpeg_log_level": "error"}
        options |= _EXACT if lossless else _PLAYED
        options["output_params"] = [*options["output_params"], *_FAST]
        self._encoder = imageio_ffmpeg.write_frames(self._draft, size, **options)

    def write(self, image: np.ndarray) -> None:
        """Append a picture, RGB uint8 (height, width, 3).

        Raises:
            InputError: another shape or type.
            StateError: the encoder has died.
        """
        width, height = self._size
        if image.shape != (height, width, 3) or image.dtype != np.uint8:
            raise InputError(f"a picture must be uint8 {(height, width, 3)}, got {image.dtype} {image.shape}")
        if not self.frames:
            self._encoder.send(None)
        try:
            self._encoder.send(np.ascontiguousarray(image))
        except OSError:
            self.close(keep=False)
            raise StateError(f"ffmpeg ended before {self.path} was complete; it says why above") from None
        self.frames += 1

    def close(self, keep: bool = True) -> None:
        """Finish the film, or delete it; without pictures there is none. May be called twice.

        Raises:
            StateError: the encoder did not finish the file.
        """
        self._encoder.close()
        if not self._draft.exists():
            return
        try:
            if keep and self._is_whole():
                os.replace(self._draft, self.path)
                keep = False
        except OSError as error:
            raise InputError(f"cannot write {self.path}: {error.strerror or error}") from None
        finally:
            self._draft.unlink(missing_ok=True)
        if keep:
            raise StateError(f"ffmpeg could not finish {self.path}; it says why above")

    def _is_whole(self) -> bool:
        """Whether all pictures can be read back; the encoder does not report a full disk."""
        try:
            return imageio_ffmpeg.count_frames_and_secs(self._draft)[0] == self.frames
        except (OSError, RuntimeError):
            return False


def check_path(path: Path) -> None:
    """Raise InputError if no film can be written to this path."""
    if path.suffix.lower() != ".mp4":
        raise InputError(f"the video must be an .mp4 file, got {str(path)!r}")
    if path.is_dir():
        raise InputError(f"{str(path)!r} is a folder; give the name of an .mp4 file")
    if not path.parent.is_dir():
        raise InputError(f"there is no folder {str(path.parent)!r} for the video; make it first")
    if not os.access(path.parent, os.W_OK):
        raise InputError(f"no permission to write a video into the folder {str(path.parent)!r}")


def window_problem() -> str:
    """Why no window can be opened here, or an empty string."""
    gui = re.search(r"^\s*GUI:\s*(\S+)", cv2.getBuildInformation(), re.MULTILINE)
    if gui is None or gui[1] == "NONE":
        return (
            "this OpenCV was built without windows (opencv-python-headless): "
            "pip uninstall opencv-python-headless, then pip install --force-reinstall opencv-python"
        )
    if sys.platform.startswith("linux") and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        return "there is no display: neither DISPLAY nor WAYLAND_DISPLAY is set"
    try:  # in a process of its own: where the display does not answer, Qt ends the process
        tried = subprocess.run([sys.executable, "-c", _TRY], capture_output=True, text=True, timeout=30, check=False)
    except subprocess.TimeoutExpired:
        return "the display does not answer"
    return "" if tried.returncode == 0 else f"no window opens ({(tried.stderr.strip().splitlines() or ['?'])[-1]})"


class Window:
    """A window of OpenCV.

    Attributes:
        quit: whether Q or Escape was pressed.
    """

    def __init__(self, fps: float) -> None:
        """A window that opens with the first picture; `show` waits so that there are `fps` pictures per second."""
        self.quit, self._closed, self._shown = False, False, False
        self._period, self._due = 1.0 / fps, 0.0

    def show(self, image: np.ndarray) -> None:
        """Show a picture, RGB uint8 (H, W, 3), when it is due; does nothing after the user has closed the window."""
        if self._closed:
            return
        if self._shown and cv2.getWindowProperty(_TITLE, cv2.WND_PROP_VISIBLE) < 1:
            self._closed = True
            return
        if not self._shown:
            cv2.namedWindow(_TITLE, cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO)
            cv2.resizeWindow(_TITLE, image.shape[1], image.shape[0])
            self._shown = True
        cv2.imshow(_TITLE, np.ascontiguousarray(image[..., ::-1]))
        wait = max(0.0, self._due - time.monotonic())
        self.quit = (cv2.waitKey(max(1, round(1000 * wait))) & 0xFF) in _QUIT
        self._due = max(time.monotonic(), self._due) + self._period

    def close(self) -> None:
        """Close it; may be called twice."""
        if self._shown and not self._closed:
            cv2.destroyWindow(_TITLE)
        self._closed = True
