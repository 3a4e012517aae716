"""The calibration of a real camera: how its lens maps rays to pixels, from numbers or from a file."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from robofuse.checks import whole
from robofuse.errors import InputError, StateError

MODELS = {"plumb_bob": (0, 4, 5), "rational_polynomial": (8, 12, 14), "equidistant": (4,)}
"""Names of ROS for models of distortion, and how many coefficients each can have, in OpenCV's order."""
_MOST = 32766  # pixels a side that OpenCV's remap can address
_STEPS = 1000  # rays at which a lens is looked at, from the middle outwards
_HOW = "ROS's camera_calibration writes such files, and JSON with the same names will do"


@dataclass(frozen=True)
class Calibration:
    """A lens and a chip, as OpenCV describes them: the middle of the top left pixel is (0, 0).

    Attributes:
        fx: focal length, in widths of a pixel.
        fy: focal length, in heights of a pixel.
        cx: column of the principal point [pixels].
        cy: row of the principal point [pixels].
        width: columns of the picture.
        height: rows of the picture.
        distortion: coefficients, in OpenCV's order.
        model: one of `MODELS`.
    """

    fx: float
    fy: float
    cx: float
    cy: float
    width: int
    height: int
    distortion: tuple[float, ...] = ()
    model: str = "plumb_bob"

    def __post_init__(self) -> None:
        """Raise InputError for numbers that no camera has."""
        for name in ("width", "height"):
            whole(getattr(self, name), name, 1, _MOST)
        for name in ("fx", "fy", "cx", "cy"):
            value = getattr(self, name)
            positive = name in ("fx", "fy")
            if not _is_number(value) or (positive and value <= 0):
                raise InputError(
                    f"{name} must be a number of pixels{' above 0' if positive else ''}, got {value!r}; a camera that "
                    "was never calibrated tells zeros"
                )
        if self.model not in MODELS:
            raise InputError(f"unknown model of distortion {_short(self.model)}; models: {', '.join(MODELS)}")
        counts, given = MODELS[self.model], self.distortion
        if not isinstance(given, tuple) or not all(_is_number(x) for x in given) or len(given) not in counts:
            raise InputError(
                f"distortion of {self.model} is {' or '.join(map(str, counts))} numbers, got {_short(given)}; in "
                "OpenCV's order: k1, k2, p1, p2, k3, … (equidistant: k1, k2, k3, k4)"
            )

    @classmethod
    def read(cls, path: str | Path) -> "Calibration":
        """Read a file of ROS's `camera_calibration`, .yaml, or the same as .json.

        Raises:
            InputError: no such file, not YAML or JSON, or a field is missing or wrong; names file, field and remedy.
            StateError: PyYAML is not installed, and the file is .yaml.
        """
        path = Path(path)
        plain = _parsed(path)
        matrix = [_entry(path, plain, "camera_matrix.data", i) for i in range(9)]
        if len(_field(path, plain, "camera_matrix.data")) != 9:
            raise _wrong(path, "camera_matrix.data", "more than 9 numbers")
        if matrix[1] or matrix[3:4] != [0.0] or matrix[6:] != [0.0, 0.0, 1.0]:
            raise _wrong(path, "camera_matrix.data", f"{matrix}, not fx, 0, cx, 0, fy, cy, 0, 0, 1")
        count = len(_field(path, plain, "distortion_coefficients.data"))
        sizes = [_entry(path, plain, name) for name in ("image_width", "image_height")]
        width, height = (int(size) if size % 1 == 0 and abs(size) < 1e9 else size for size in sizes)
        coefficients = tuple(_entry(path, plain, "distortion_coefficients.data", i) for i in range(count))
        (fx, _, cx, _, fy, cy), model = matrix[:6], str(_field(path, plain, "distortion_model"))
        try:
            return cls(fx, fy, cx, cy, width, height, coefficients, model)  # pyright: ignore[reportArgumentType]
        except InputError as error:
            raise InputError(f"{path}: {error}") from None

    def project(self, rays: np.ndarray) -> np.ndarray:
        """Pixels (n, 2), column and row, that see rays (n, 2): x / z to the right and y / z down.

        Raises:
            StateError: OpenCV is not installed.
        """
        cv2 = opencv()
        points, still = np.column_stack([rays, np.ones(len(rays))])[:, None], np.zeros(3)
        matrix = np.array([[self.fx, 0.0, self.cx], [0.0, self.fy, self.cy], [0.0, 0.0, 1.0]])
        project = cv2.fisheye.projectPoints if self.model == "equidistant" else cv2.projectPoints
        coefficients = np.array(self.distortion or (0.0,) * 4)
        return project(points, still, still, matrix, coefficients)[0][:, 0]

    def sees(self, rays: np.ndarray, pixels: np.ndarray, reach: float) -> np.ndarray:
        """Which rays (n, 2) fall onto the chip, at these `pixels` (n, 2), bool (n,); `reach` is that of the lens.

        Up to a pixel beside the chip counts, as calibrations are no better, and conventions differ by half a pixel.
        """
        x, y = pixels.T
        on_chip = (x >= -1.5) & (x <= self.width + 0.5) & (y >= -1.5) & (y <= self.height + 0.5)  # NaN is not
        return on_chip & (np.hypot(*rays.T) <= reach)

    def reach(self, radius: float) -> float:
        """Up to which radius of rays, at most `radius`, pixels lie further out the further out a ray is.

        The polynomials of a lens are fitted to what it sees. Further out they may turn back, and put what lies behind
        the edge of the picture into it.
        """
        steps, turns = np.linspace(0.0, radius, _STEPS), np.linspace(0.0, 2.0 * np.pi, 8, endpoint=False)
        rays = steps[:, None, None] * np.stack([np.cos(turns), np.sin(turns)], -1)
        pixels = self.project(rays.reshape(-1, 2)).reshape(rays.shape)
        x, y = ((pixels - (self.cx, self.cy)) / (self.fx, self.fy)).transpose(2, 0, 1)
        back = ~(np.diff(np.hypot(x, y), axis=0) > 0.0).all(axis=1)  # NaN is no way out either
        return float(steps[back.argmax()]) if back.any() else radius


def opencv() -> Any:  # noqa: ANN401
    """The module cv2; StateError if it is not installed."""
    try:
        import cv2
    except ImportError as error:
        raise StateError(
            f"a Camera needs OpenCV, which cannot be imported here ({error}): pip install opencv-python, or without a "
            "screen opencv-python-headless"
        ) from None
    return cv2


def _parsed(path: Path) -> Any:  # noqa: ANN401
    kind = path.suffix.lower()
    if kind not in (".yaml", ".yml", ".json"):
        raise InputError(f"a calibration is a file .yaml or .json, not {path}; {_HOW}")
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise InputError(f"there is no file {path}; {_HOW}") from None
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if kind == ".json":
        try:
            return json.loads(text)
        except (ValueError, RecursionError) as error:
            raise InputError(f"{path} is not JSON: {error}") from None
    try:
        import yaml
    except ImportError:
        raise StateError(f"{path} needs PyYAML: pip install pyyaml; or write the same as .json") from None
    try:
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        first = " ".join(str(error).split())[:200]
        raise InputError(f"{path} is not YAML as ROS writes it: {first}; OpenCV's own files are not, {_HOW}") from None


def _wrong(path: Path, field: str, what: str) -> InputError:
    return InputError(f"{path}: {field} is {what}; {_HOW}")


def _field(path: Path, plain: Any, field: str) -> Any:  # noqa: ANN401
    """A field by its name, such as camera_matrix.data; of one that ends in .data, the list."""
    for name in field.split("."):
        if not isinstance(plain, Mapping) or name not in plain:
            raise _wrong(path, field, "missing")
        plain = plain[name]
    if field.endswith(".data") and (isinstance(plain, str) or not isinstance(plain, Sequence)):
        raise _wrong(path, field, f"{_short(plain)}, not a list of numbers")
    return plain


def _entry(path: Path, plain: Any, field: str, index: int | None = None) -> float:  # noqa: ANN401
    """A number of a field."""
    value = _field(path, plain, field)
    if index is not None:
        if index >= len(value):
            raise _wrong(path, field, f"{len(value)} numbers, too few")
        value = value[index]
    try:
        number = float("no" if isinstance(value, bool) else value)  # of 1e-05, without a point, YAML makes text
    except (TypeError, ValueError, OverflowError):
        raise _wrong(path, field, f"{_short(value)}, not a number") from None
    if not np.isfinite(number):
        raise _wrong(path, field, f"{number}, not finite")
    return number


def _short(value: Any) -> str:  # noqa: ANN401
    try:
        text = repr(value)
    except RecursionError:
        return "nested too deeply"
    return text if len(text) <= 60 else f"{text[:57]}…"


def _is_number(value: Any) -> bool:  # noqa: ANN401
    real = isinstance(value, int | float | np.number) and not isinstance(value, bool)
    return real and bool(abs(value) < 1e9)  # NaN and Inf are not
