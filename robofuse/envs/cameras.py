"""Cameras by name, size and place."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import cv2
import mujoco
import numpy as np
import torch
from torch import Tensor

from robofuse.errors import InputError
from robofuse.tensors import on_cpu

Vector = tuple[float, float, float]


@dataclass(frozen=True)
class Camera:
    """A pinhole camera that gives RGB and depth.

    Attributes:
        name: its sensors are `rgb_<name>` and `depth_<name>`; the camera named `scene` has plain `rgb` and `depth`.
        position: [m], relative to the middle of the workspace on the table (x away from the robot, z up), or in the
            frame of the robot's grip site when `mount` is "hand" (z out of the fingers, y the closing direction).
        target: the point looked at, in the same frame.
        fovy: vertical field of view [deg].
        size: (height, width) of what is read, in pixels; None takes the world's `image_size`.
        mount: "world" (fixed) or "hand" (moves with the grip site).
    """

    name: str
    position: Vector
    target: Vector = (0.0, 0.0, 0.05)
    fovy: float = 40.0
    size: tuple[int, int] | None = None
    mount: str = "world"

    def key(self, modality: str) -> str:
        """The observation key of this camera's `rgb` or `depth`."""
        return modality if self.name == "scene" else f"{modality}_{self.name}"

    def quaternion(self) -> np.ndarray:
        """Orientation (w, x, y, z) in the mount's frame; MuJoCo cameras look along −z with y up."""
        forward = np.subtract(self.target, self.position)
        length = np.linalg.norm(forward)
        if not np.isfinite(length) or length < 1e-9:
            raise InputError(f"camera {self.name!r}: position {self.position} and target {self.target} must differ")
        forward = forward / length
        # z is up in the world, x on the hand; along that axis the other one serves
        up, other = np.array([0.0, 0.0, 1.0]), np.array([1.0, 0.0, 0.0])
        if self.mount == "hand":
            up, other = other, up
        right = np.cross(forward, up if abs(forward @ up) < 0.999 else other)
        right /= np.linalg.norm(right)
        quaternion = np.zeros(4)
        axes = np.stack([right, np.cross(right, forward), -forward], axis=1)
        mujoco.mju_mat2Quat(quaternion, axes.ravel())
        return quaternion


# for people: `render()` looks through it, no sensor does
OVERVIEW = Camera("overview", (0.97, 0.87, 0.64), (-0.16, 0.02, 0.26), 42.0, size=(480, 640))
CAMERAS = {
    "scene": Camera("scene", (0.50, 0.28, 0.42), (0.0, 0.0, 0.08), 31.0),
    "front": Camera("front", (0.75, 0.0, 0.35), (0.0, 0.0, 0.08), 38.0),
    "side": Camera("side", (0.0, 0.75, 0.30), (0.0, 0.0, 0.08), 38.0),
    "top": Camera("top", (0.0, 0.0, 0.90), (0.0, 0.0, 0.0), 35.0),
    "wrist": Camera("wrist", (-0.08, 0.0, -0.05), (0.0, 0.0, 0.03), 75.0, mount="hand"),
}
"""Cameras by name."""


def resolve(
    cameras: Sequence[str | Camera | Mapping[str, Any]], image_size: int | tuple[int, int]
) -> tuple[Camera, ...]:
    """Cameras with their sizes filled in.

    Args:
        cameras: names from `CAMERAS`, or `Camera` objects, also as the dictionaries that policy files store.
        image_size: pixels, one number for square images or (height, width), for cameras without a size of their own.

    Raises:
        InputError: an unknown name, a name given twice, a bad size or mount; the message lists what exists.
    """
    if isinstance(cameras, str | Camera | Mapping):
        cameras = (cameras,)
    if not isinstance(cameras, Sequence):
        raise InputError(f"cameras must be names or robofuse.envs.Camera objects, got {cameras!r}")
    default = _size(image_size, "image_size")
    resolved = []
    for camera in cameras:
        if isinstance(camera, str):
            if camera not in CAMERAS:
                raise InputError(
                    f"unknown camera {camera!r}; cameras: {', '.join(CAMERAS)}; or give a robofuse.envs.Camera"
                )
            camera = CAMERAS[camera]
        if isinstance(camera, Mapping):
            camera = _revived(camera)
        if not isinstance(camera, Camera):
            raise InputError(f"a camera is a name or a robofuse.envs.Camera, got {camera!r}")
        if camera.name == OVERVIEW.name:
            raise InputError(f"the camera name {OVERVIEW.name!r} is taken by the one that render() looks through")
        if camera.mount not in ("world", "hand"):
            raise InputError(f"camera {camera.name!r}: unknown mount {camera.mount!r}; mounts: world, hand")
        if not 0.0 < camera.fovy < 180.0:
            raise InputError(f"camera {camera.name!r}: fovy must lie in (0, 180) degrees, got {camera.fovy}")
        size = default if camera.size is None else _size(camera.size, f"size of camera {camera.name!r}")
        resolved.append(replace(camera, size=size))
    names = [camera.name for camera in resolved]
    if len(set(names)) < len(names):
        raise InputError(f"every camera needs a name of its own, got {', '.join(names)}")
    return tuple(resolved)


def drawn(cameras: Sequence[Camera], render_size: int | tuple[int, int] | None) -> tuple[Camera, ...]:
    """The cameras at the size at which they draw; what is read has their own size.

    Args:
        cameras: with their sizes.
        render_size: pixels, as `image_size`; None draws at the size that is read.

    Raises:
        InputError: not a multiple of a camera's size, by the same factor in rows and columns.
    """
    if render_size is None:
        return tuple(cameras)
    size = _size(render_size, "render_size")
    for camera in cameras:
        factors, left = np.divmod(size, camera.size or size)
        if left.any() or factors[0] != factors[1]:
            raise InputError(
                f"render_size must be a whole multiple of image_size, the same in rows and columns; got {size} for the "
                f"camera {camera.name!r}, of which {camera.size} pixels are read"
            )
    return tuple(replace(camera, size=size) for camera in cameras)


def area_average(pictures: Tensor, factor: int) -> Tensor:
    """Pictures with fewer pixels, each the average of `factor` × `factor`, as by OpenCV's INTER_AREA.

    Args:
        pictures: (n, H, W, C), uint8 colours or uint16 depth, on any device.
        factor: how many times fewer rows and columns.

    Returns:
        (n, H / factor, W / factor, C). Depth is the average of the returns alone; 0 where less than half return.
    """
    if on_cpu(pictures):
        return torch.from_numpy(_opencv_average(pictures.numpy(), factor))
    n, height, width, channels = pictures.shape
    area, blocks = factor * factor, (n, height // factor, factor, width // factor, factor, channels)
    if pictures.dtype == torch.uint8:
        total = pictures.view(blocks).sum((2, 4), dtype=torch.int32)
        # OpenCV rounds halves up for 2 × 2, which has a way of its own, and to even for the others
        return ((total + 2) >> 2 if factor == 2 else (total.float() * (1.0 / area)).round()).to(torch.uint8)
    millimetres = pictures.to(torch.int32).view(blocks)
    total, returns = millimetres.sum((2, 4)), (millimetres > 0).sum((2, 4))
    distance = torch.where(2 * returns >= area, (total.double() / returns).round(), 0.0)
    return distance.to(torch.int32).to(torch.uint16)


def _opencv_average(pictures: np.ndarray, factor: int) -> np.ndarray:
    n, height, width, channels = pictures.shape
    area, shape = factor * factor, (n, height // factor, width // factor, channels)
    below = pictures.reshape(n * height, width, channels)  # one below the other, so that one call does them all

    def average(values: np.ndarray) -> np.ndarray:
        return cv2.resize(values, (shape[2], n * shape[1]), interpolation=cv2.INTER_AREA).reshape(shape)

    if pictures.dtype == np.uint8:
        return average(below)
    total, returns = (np.rint(area * average(x.astype(np.float32)).astype(float)) for x in (below, below > 0))
    distance = np.divide(total, returns, out=np.zeros(shape), where=2 * returns >= area)
    return np.rint(distance).astype(np.uint16)


def _revived(plain: Mapping[str, Any]) -> Camera:
    given: dict[str, Any] = {name: tuple(x) if isinstance(x, list) else x for name, x in plain.items()}
    try:
        return Camera(**given)
    except TypeError:
        known = ", ".join(field.name for field in fields(Camera))
        raise InputError(f"a camera is described by {known}; got {dict(plain)}") from None


def _size(size: int | tuple[int, int], what: str) -> tuple[int, int]:
    pair = tuple(size) if isinstance(size, Sequence) else (size, size)
    if len(pair) != 2 or not all(isinstance(n, int | np.integer) and 8 <= n <= 2048 for n in pair):
        raise InputError(f"{what} must be one integer or (height, width), each from 8 to 2048 pixels, got {size!r}")
    return int(pair[0]), int(pair[1])
