"""Pictures of a real camera, as a policy saw them in training."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from robofuse.checks import whole
from robofuse.deploy.calibration import Calibration, opencv
from robofuse.deploy.inputs import known
from robofuse.deploy.policy import Policy
from robofuse.errors import InputError
from robofuse.sensors import DEPTH_LIMIT_MM, channels_last

_MOST_SAMPLES = 1 << 24  # of one picture; a table of them takes 14 bytes each


class Camera:
    """Turns the pictures of a real RGB-D camera into those of the simulated camera that a policy was trained with.

    The simulated camera is a pinhole: no distortion, its axis through the middle of the picture, square pixels, and a
    vertical field of view that the policy's file tells. A table, made once, says where on the real picture each point
    of the simulated one lies. It is sampled at least as densely as the real picture, then averaged down.

    Where the camera hangs, its exposure and its noise are not changed: see "On a robot" in the documentation.

    All methods may be called from any thread. If depth is not aligned to colour, it is a picture of another lens: make
    a second Camera of its calibration.

    Attributes:
        key: of the policy's sensor.
        shape: (height, width) of what it gives [pixels].
        fovy: vertical field of view of what it gives [deg].
        calibration: of the real camera.
    """

    def __init__(
        self,
        policy: Policy,
        key: str,
        *,
        fx: float,
        fy: float,
        cx: float,
        cy: float,
        width: int,
        height: int,
        distortion: Sequence[float] | np.ndarray = (),
        model: str = "plumb_bob",
        fovy: float | None = None,
        borders: bool = False,
    ) -> None:
        """From a calibration in numbers, of the raw picture: not of one that a driver has rectified.

        Args:
            policy: the exported policy.
            key: of its sensor that the camera stands for, such as `rgb` or `depth_wrist`. It gives the size and the
                field of view; robofuse's rgb and depth of one camera share them, so one of them is enough.
            fx: focal length of the real camera, in widths of a pixel.
            fy: the same in heights of a pixel.
            cx: column of its principal point [pixels]; the middle of the first pixel is 0.
            cy: row of its principal point [pixels].
            width: columns of its picture.
            height: rows of its picture.
            distortion: coefficients of its lens in OpenCV's order; none for a picture without distortion.
            model: of the distortion, as ROS names it: `plumb_bob` (4 or 5 coefficients), `rational_polynomial` (8, or
                OpenCV's 12 or 14) or `equidistant` (4, OpenCV's fisheye).
            fovy: vertical field of view of the simulated camera [deg]; by default that of the camera in
                `policy.world`, which policies of other environments than robofuse's lack.
            borders: allow a camera that sees less than the simulated one. What it does not see is black, and no return.

        Raises:
            InputError: no such sensor, or not one of pictures; no field of view is known; numbers that no camera has;
                or the camera sees less than the simulated one, with the degrees that are missing on each side.
            StateError: OpenCV is not installed.
        """
        sensors, world = getattr(policy, "sensors", ()), getattr(policy, "world", None)
        if not isinstance(world, Mapping):
            raise InputError(f"policy must be a robofuse.deploy.Policy, got a {type(policy).__name__}")
        known(key, [sensor.key for sensor in sensors])
        (sensor,) = (sensor for sensor in sensors if sensor.key == key)
        if sensor.kind not in ("rgb", "depth") or len(sensor.shape) != 3:
            pictures = ", ".join(one.key for one in sensors if one.kind in ("rgb", "depth")) or "none"
            raise InputError(f"{key!r} is a {sensor.kind} of shape {sensor.shape}, not a picture; pictures: {pictures}")
        coefficients: Any = distortion.ravel() if isinstance(distortion, np.ndarray) else distortion  # OpenCV's: (1, n)
        if isinstance(coefficients, np.ndarray | Sequence):
            coefficients = tuple(coefficients)
        self.key = key
        self.calibration = Calibration(fx, fy, cx, cy, width, height, coefficients, model)
        self._last = channels_last(sensor.shape)
        self.shape = sensor.shape[:2] if self._last else sensor.shape[1:]
        self.fovy = _field_of_view(world, key, fovy)
        self._mixes = _averages_depth(world, self.shape)
        self._look(bool(borders))

    @classmethod
    def read(
        cls, path: str | Path, policy: Policy, key: str, *, fovy: float | None = None, borders: bool = False
    ) -> "Camera":
        """From the file of a calibration: .yaml as ROS's `camera_calibration` writes it, or .json with the same names.

        Args:
            path: of the file; its `image_width`, `image_height`, `camera_matrix.data`, `distortion_model` and
                `distortion_coefficients.data` are read. YAML needs PyYAML, JSON nothing.
            policy: as for the constructor.
            key: as for the constructor.
            fovy: as for the constructor.
            borders: as for the constructor.

        Raises:
            InputError: no such file, or one of its fields is missing or wrong; and as of the constructor.
            StateError: PyYAML is not installed; and as of the constructor.
        """
        return cls(policy, key, **vars(Calibration.read(path)), fovy=fovy, borders=borders)

    def rgb(self, picture: np.ndarray, *, bgr: bool = False) -> np.ndarray:
        """The policy's colours.

        Args:
            picture: uint8 (height, width, 3) of the real camera, RGB.
            bgr: whether its channels are blue, green, red, as OpenCV's `VideoCapture` gives them.

        Returns:
            uint8 (H, W, 3), RGB; or (3, H, W), if the policy's sensor has its channels in front. A pixel is the average
            of its area, as by OpenCV's INTER_AREA.

        Raises:
            InputError: another shape or type; says what would be right.
        """
        cv2, (height, width) = opencv(), self.shape
        self._check(picture, "a picture", ((3,),), lambda dtype: dtype == np.uint8, "uint8 (height, width, 3)")
        drawn = cv2.remap(np.ascontiguousarray(picture), *self._maps, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
        small = cv2.resize(drawn, (width, height), interpolation=cv2.INTER_AREA)
        small[~self._seen] = 0
        return self._laid_out(small[..., ::-1] if bgr else small)

    def depth(self, picture: np.ndarray, *, farthest: float = DEPTH_LIMIT_MM / 1000.0, fill: int = 0) -> np.ndarray:
        """The policy's depth: millimetres along the optical axis (not along the ray), 0 where nothing returns.

        Depth cameras tell the distance along the optical axis, as simulated ones do. Pixels are sampled as they are,
        without interpolation, and a pixel of the policy is 0 where less than half of its area returns. Else it is what
        training had. Simulated cameras that draw at the size that is read see one surface in a pixel, so it is the
        median of the returns: that of the surface that fills most of the pixel, never a point in the air between two.
        If they drew larger (`render_size`), they averaged the returns, across edges too, and so it is here.

        Args:
            picture: (height, width) or (height, width, 1) of the real camera: uint16 millimetres, or floating-point
                metres. 0, below 0, NaN and Inf are no return. Of a camera with another unit, give metres:
                `(unit * raw).astype(numpy.float32)`.
            farthest: what is further away [m] is no return.
            fill: holes of which no pixel is further than this from a return, in pixels of the real picture, get the
                depth of the nearest return; 0 fills none. In simulation every surface returns, so there are no holes
                but those of a fault; real cameras lose shiny, dark and hidden spots. Larger holes stay as they are.

        Returns:
            uint16 (H, W, 1); or (1, H, W), if the policy's sensor has its channels in front.

        Raises:
            InputError: another shape or type, or options out of range; says what would be right.
        """
        self._check(
            picture,
            "a depth",
            ((), (1,)),
            lambda dtype: dtype == np.uint16 or dtype in (np.float32, np.float64),
            "uint16 millimetres or float32 metres, (height, width)",
        )
        if isinstance(farthest, bool) or not isinstance(farthest, int | float | np.number) or not farthest > 0:
            raise InputError(f"farthest must be more than 0 metres, got {farthest!r}")
        millimetres = _in_millimetres(picture.reshape(picture.shape[:2]), float(farthest))
        if whole(fill, "fill", 0):
            millimetres = _filled(millimetres, fill)
        samples = np.take(millimetres, self._places)  # (H, W, samples of a pixel)
        if self._unseen is not None:
            samples[self._unseen] = 0
        count = samples.shape[-1]
        returns = np.count_nonzero(samples, axis=-1)
        if self._mixes:
            found = np.rint(samples.sum(-1, dtype=np.int64) / np.maximum(returns, 1))
        else:
            samples.sort(-1)  # zeros first; of an even number of returns the nearer of the two in the middle
            middle = np.minimum(count - returns + (returns - 1) // 2, count - 1)
            found = np.take_along_axis(samples, middle[..., None], -1)[..., 0]
        return self._laid_out(np.where(2 * returns >= count, found, 0).astype(np.uint16)[..., None])

    def _look(self, borders: bool) -> None:
        """Make the tables; InputError if the camera sees less than it should."""
        height, width = self.shape
        calibration = self.calibration
        # so many samples a side of a pixel that neighbours are at most a pixel of the real picture apart
        corners, size = self._rays(1, edges=True), (height + 1, width + 1)
        pixels = calibration.project(corners)
        reach = calibration.reach(float(np.hypot(*corners[0])))
        seen = calibration.sees(corners, pixels, reach).reshape(size)
        pixels = np.where(seen[..., None], pixels.reshape(*size, 2), np.nan)
        steps = [np.linalg.norm(np.diff(pixels, axis=axis), axis=-1).ravel() for axis in (0, 1)]
        longest = np.nanmax(np.concatenate([*steps, [1.0]]))
        samples = math.ceil(round(float(longest), 3))
        if samples**2 * height * width > _MOST_SAMPLES:
            raise InputError(
                f"a pixel of {self.key!r} spans {samples} pixels of the camera, which takes more than {_MOST_SAMPLES} "
                "samples; let the camera deliver smaller pictures"
            )
        columns, rows, seen = self._sampled(samples, reach)
        if not seen.all() and not borders:
            raise InputError(self._lacking(seen, reach))
        if not seen.any():
            raise InputError(f"the camera sees nothing of what the simulated one sees; {_AXIS}")
        cv2 = opencv()
        self._maps = cv2.convertMaps(columns.astype(np.float32), rows.astype(np.float32), cv2.CV_16SC2)
        self._seen = 2 * np.count_nonzero(self._blocks(seen), axis=-1) >= samples**2
        if not self._mixes:  # of an odd number of returns one is in the middle
            columns, rows, seen = self._sampled(samples | 1, reach)
        nearest = np.rint(rows).astype(np.int32) * calibration.width + np.rint(columns).astype(np.int32)
        self._places, unseen = self._blocks(nearest), self._blocks(~seen)
        self._unseen = unseen if unseen.any() else None

    def _sampled(self, samples: int, reach: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Columns and rows of the real picture at so many samples a side of each pixel, and which of them it sees."""
        rays = self._rays(samples)
        pixels = self.calibration.project(rays)
        shape = tuple(samples * size for size in self.shape)
        limits = (self.calibration.width - 1, self.calibration.height - 1)
        columns, rows = np.clip(np.nan_to_num(pixels), 0, limits).T.reshape(2, *shape)
        return columns, rows, self.calibration.sees(rays, pixels, reach).reshape(shape)

    def _rays(self, samples: int, edges: bool = False) -> np.ndarray:
        """Rays (n, 2), row by row, of the simulated camera: `samples` a side of each pixel, or the pixels' corners."""
        height, width = (samples * size for size in self.shape)
        focal = 0.5 * height / math.tan(math.radians(0.5 * self.fovy))
        shift, more = (0.0, 1) if edges else (0.5, 0)
        x = (np.arange(width + more) + shift - 0.5 * width) / focal
        y = (np.arange(height + more) + shift - 0.5 * height) / focal
        return np.stack(np.meshgrid(x, y), -1).reshape(-1, 2)

    def _blocks(self, fine: np.ndarray) -> np.ndarray:
        """(H, W, samples of a pixel) of an array with several samples a side of each pixel."""
        (height, width), side = self.shape, len(fine) // self.shape[0]
        blocks = fine.reshape(height, side, width, side).swapaxes(1, 2)
        return np.ascontiguousarray(blocks.reshape(height, width, side**2))

    def _lacking(self, seen: np.ndarray, reach: float) -> str:
        """What the camera does not see, in words; `seen` are the samples that it sees."""
        rays = self._rays(len(seen) // self.shape[0]).reshape(*seen.shape, 2)
        (height, width), half = self.shape, math.tan(math.radians(0.5 * self.fovy))
        wide = 2.0 * math.degrees(math.atan(half * width / height))
        view = f"the simulated camera of {self.key!r} sees {wide:.1f}° × {self.fovy:.1f}° (width × height)"
        row, column = (size // 2 for size in seen.shape)
        lines = {"left": (seen[row], rays[row, :, 0]), "top": (seen[:, column], rays[:, column, 1])}
        lines["right"], lines["bottom"] = ((line[::-1], -x[::-1]) for line, x in (lines["left"], lines["top"]))
        if not all(line.any() for line, _ in lines.values()):
            return f"{view}, and this camera not its middle; {_AXIS}"
        gaps = {side: np.degrees(np.arctan(x[line.argmax()]) - np.arctan(x[0])) for side, (line, x) in lines.items()}
        sides = ", ".join(f"{gap:.1f}° at the {side}" for side, gap in gaps.items() if gap > 0.0)
        fits = self._widest(reach)
        smaller = (
            f", a policy that was trained with a simulated camera of fovy={fits:.1f} or less" if fits > 0.1 else ""
        )
        return (
            f"{view}, and this camera does not see {sides or 'its corners'} of it. Take a wider lens{smaller}, or say "
            "borders=True: black, and no return, where it sees nothing"
        )

    def _widest(self, reach: float) -> float:
        """The largest vertical field of view [deg] of the same proportions that the camera sees whole, rounded down."""
        height, width = self.shape
        corners = self._rays(1, edges=True).reshape(height + 1, width + 1, 2)
        rim = np.concatenate([corners[0], corners[-1], corners[:, 0], corners[:, -1]])
        low, high = 0.0, 1.0
        for _ in range(20):
            share = 0.5 * (low + high)
            fits = self.calibration.sees(share * rim, self.calibration.project(share * rim), reach).all()
            low, high = (share, high) if fits else (low, share)
        widest = 2.0 * math.degrees(math.atan(low * math.tan(math.radians(0.5 * self.fovy))))
        return math.floor(10.0 * widest) / 10.0

    def _check(self, picture: Any, what: str, channels: tuple[tuple[int, ...], ...], fits: Any, wanted: str) -> None:  # noqa: ANN401
        """Raise InputError unless a picture is of the real camera's size and of a type that `fits`."""
        size = (self.calibration.height, self.calibration.width)
        if not isinstance(picture, np.ndarray):
            raise InputError(
                f"{what} must be a NumPy array, {wanted}, got a {type(picture).__name__}; numpy.asarray(x)"
            )
        if picture.shape not in [(*size, *last) for last in channels]:
            remedy = "drivers must deliver the size that was calibrated, or calibrate at theirs"
            if picture.shape[:2] == size:
                remedy = "leave other channels out: x[..., :3]" if 3 in channels[0] else "give one channel: x[..., 0]"
            elif picture.shape[:2] == size[::-1]:
                remedy = "rows come first: x.swapaxes(0, 1), if that is what differs"
            elif picture.shape[-2:] == size:
                remedy = "channels come last: numpy.moveaxis(x, 0, -1)"
            raise InputError(f"{what} must have the shape {(*size, *channels[0])}, got {picture.shape}; {remedy}")
        if not fits(picture.dtype):
            floating = picture.dtype.kind == "f"
            remedy = f"x.astype(numpy.{'float32' if floating else wanted.split()[0]}), if the unit is right"
            if floating and wanted.startswith("uint8"):
                remedy = "[0, 1] becomes bytes by (255 * x).round().astype(numpy.uint8)"
            raise InputError(f"{what} must be {wanted}, got {picture.dtype}; {remedy}")

    def _laid_out(self, picture: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(picture if self._last else picture.transpose(2, 0, 1))


_AXIS = "are cx and cy those of its picture?"


def _field_of_view(world: Mapping[str, Any], key: str, given: float | None) -> float:
    """The vertical field of view [deg] of the simulated camera of a sensor; InputError if it is not known."""
    value, cameras = given, world.get("cameras")
    if given is None:
        for camera in cameras if isinstance(cameras, Sequence) else ():
            name = camera.get("name") if isinstance(camera, Mapping) else None
            if key in (("rgb", "depth") if name == "scene" else (f"rgb_{name}", f"depth_{name}")):
                value = camera.get("fovy")
        if value is None:
            raise InputError(
                f"the policy's file does not tell the field of view of {key!r}, as it was trained in an environment of "
                "others; say fovy=…, the vertical one in degrees"
            )
    if isinstance(value, bool) or not isinstance(value, int | float | np.number) or not 0.0 < value < 180.0:
        raise InputError(f"fovy must lie between 0 and 180 degrees, got {value!r}")
    return float(value)


def _averages_depth(world: Mapping[str, Any], shape: tuple[int, ...]) -> bool:
    """Whether the simulated camera drew more pixels than were read, and averaged them."""
    drawn = world.get("render_size")
    rows = drawn[0] if isinstance(drawn, Sequence) and drawn else drawn
    return isinstance(rows, int | float) and rows > shape[0]


def _in_millimetres(picture: np.ndarray, farthest: float) -> np.ndarray:
    """uint16 (H, W), 0 for no return."""
    if picture.dtype != np.uint16:
        good = (picture > 0) & (picture <= DEPTH_LIMIT_MM / 1000.0)  # NaN is not
        picture = np.rint(1000.0 * np.where(good, picture, 0.0)).astype(np.uint16)
    return np.where(picture <= 1000.0 * farthest + 1e-6, picture, np.uint16(0))  # 1000 × 1.001 is less than 1001


def _filled(millimetres: np.ndarray, most: int) -> np.ndarray:
    """Depth uint16 (H, W) without the holes of which no pixel is further than `most` pixels from a return."""
    cv2 = opencv()
    hole = (millimetres == 0).astype(np.uint8)
    if hole.all() or not hole.any():
        return millimetres
    away, nearest = cv2.distanceTransformWithLabels(hole, cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL)
    values = np.zeros(nearest.max() + 1, np.uint16)
    values[nearest[hole == 0]] = millimetres[hole == 0]
    count, of = cv2.connectedComponents(hole, connectivity=4)
    deepest = np.zeros(count, np.float32)
    np.maximum.at(deepest, of[hole > 0], away[hole > 0])
    return np.where((deepest <= most)[of], values[nearest], millimetres)  # of a return the nearest is itself
