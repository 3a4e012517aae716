"""H.264 in an MP4 file that browsers play."""

import os
import subprocess
from pathlib import Path
from types import TracebackType
from typing import Self

import imageio_ffmpeg
import numpy as np

from robofuse.errors import InputError, StateError

# colours as high-definition players take them, and no half-size colour grid that could not be decoded
_COLOURS = ("-vf", "scale=out_color_matrix=bt709:out_range=tv,format=yuv420p")
_TAGS = ("-colorspace", "bt709", "-color_primaries", "bt709", "-color_trc", "bt709", "-color_range", "tv")
_PLAYED = (*_COLOURS, *_TAGS, "-c:v", "libx264", "-crf", "18")
# a key frame every other picture: who reads single moments of a recording decodes two pictures
_EXACT = ("-c:v", "libx264rgb", "-crf", "0", "-g", "2")


class Mp4:
    """A video under construction; `with` makes sure that it is finished.

    Frames go to a hidden file beside the one that is asked for, which appears, complete, when the video is closed. An
    error leaves nothing behind; an interrupt (Ctrl-C) what was written until then.

    Attributes:
        path: where it will be.
        frames: how many it has.
    """

    def __init__(self, path: Path, size: tuple[int, int], fps: float, lossless: bool = False) -> None:
        """Starts the encoder.

        Args:
            path: of the file; an existing one is replaced in the end.
            size: width and height [pixels], even numbers unless `lossless`.
            fps: frames per second.
            lossless: keep every bit, in H.264's High 4:4:4 profile, which browsers do not play.

        Raises:
            ValueError: not an .mp4, or a place where no file can be written.
            RuntimeError: no encoder on this machine.
        """
        check_path(path)
        self.path, self.frames, self._size, self._closed = path, 0, size, False
        self._draft = path.with_name(f".{path.name}.{os.getpid()}.part")
        try:
            encoder = imageio_ffmpeg.get_ffmpeg_exe()
        except RuntimeError as error:
            raise StateError(f"no ffmpeg to write {path} with ({error}); pip install imageio-ffmpeg") from None
        width, height = size
        source = ("-f", "rawvideo", "-pix_fmt", "rgb24", "-s", f"{width}x{height}", "-r", f"{fps:g}", "-i", "-")
        coding = (*(_EXACT if lossless else _PLAYED), "-preset", "veryfast", "-movflags", "+faststart", "-f", "mp4")
        command = (encoder, "-y", "-v", "error", *source, "-an", *coding, str(self._draft))
        # a group of its own: Ctrl-C in the terminal must not reach the encoder
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, process_group=0)

    def write(self, image: np.ndarray) -> None:
        """Append a frame.

        Args:
            image: RGB, uint8 (height, width, 3).

        Raises:
            ValueError: another shape or type.
            RuntimeError: the encoder has died; says what it said.
        """
        width, height = self._size
        if image.shape != (height, width, 3) or image.dtype != np.uint8:
            raise InputError(f"a frame must be uint8 {(height, width, 3)}, got {image.dtype} {image.shape}")
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(image.tobytes())
        except OSError:
            self.close()  # says why
            raise StateError(f"ffmpeg ended before {self.path} was complete") from None
        self.frames += 1

    def close(self, keep: bool = True) -> None:
        """Finish the file, or throw it away; without frames there is none. May be called twice.

        Raises:
            RuntimeError: the encoder could not finish; says what it said.
        """
        if self._closed:
            return
        self._closed = True
        assert self._process.stdin is not None and self._process.stderr is not None
        try:
            self._process.stdin.close()
        except OSError:  # the encoder has died before; its status tells
            pass
        said = self._process.stderr.read().decode(errors="replace").strip()
        self._process.stderr.close()
        status = self._process.wait()
        if keep and self.frames and status == 0:
            os.replace(self._draft, self.path)
        self._draft.unlink(missing_ok=True)
        if keep and status:
            raise StateError(f"ffmpeg could not write {self.path}: {said or f'status {status}'}")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close(keep=kind is None or issubclass(kind, KeyboardInterrupt))


def check_path(path: Path) -> None:
    """Refuse a place where no video can be written, with ValueError."""
    if path.suffix.lower() != ".mp4":
        raise InputError(f"the video must be an .mp4 file, got {str(path)!r}")
    if path.is_dir():
        raise InputError(f"{str(path)!r} is a folder; give the name of an .mp4 file")
    if not path.parent.is_dir():
        raise InputError(f"there is no folder {str(path.parent)!r} for the video; make it first")
    if not os.access(path.parent, os.W_OK):
        raise InputError(f"no permission to write a video into the folder {str(path.parent)!r}")
