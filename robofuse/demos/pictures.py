"""Pictures in files: PNG for each (exact, 8 and 16 bits), or MP4 for many."""

import subprocess
from pathlib import Path

import cv2
import imageio_ffmpeg
import numpy as np

from robofuse.errors import InputError
from robofuse.replay.video import Mp4


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
    if not path.is_file():
        raise InputError(f"there is no file {path}; take the folder from where it is whole")
    command = (imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-i", str(path), "-f", "rawvideo", "-pix_fmt", "rgb24")
    done = subprocess.run((*command, "-fps_mode", "passthrough", "-"), capture_output=True, check=False)
    if done.returncode or len(done.stdout) != count * int(np.prod(shape)):
        said = done.stderr.decode(errors="replace").strip().splitlines()
        cause = said[-1] if said else f"not {count} pictures of {shape[1]} × {shape[0]}"
        raise InputError(f"{path} is cut off or damaged ({cause}); take the folder from where it is whole")
    return np.frombuffer(done.stdout, np.uint8).reshape(count, *shape).copy()
