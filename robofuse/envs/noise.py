"""Nominal noise of healthy sensors; faults are in `robofuse.faults`.

Sizes are typical of the class of device: a depth camera's error grows with distance squared (stereo; Khoshelham and
Elberink 2012), a strain-gauge wrist sensor has white noise and a bias that wanders over minutes.
"""

import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cache

import cv2
import numpy as np
import torch
from torch import Tensor

from robofuse.arrays import Array, arange, cos_sin, like, maximum
from robofuse.checks import at_least_zero
from robofuse.errors import InputError
from robofuse.rng import Stream, normal, offsets
from robofuse.sensors import DEPTH_LIMIT_MM

_BANK = 1 << 20
_STRIDE = 610_839_793  # odd and far from any fraction of the bank: keeps the lines of one image apart


@dataclass(frozen=True)
class Noise:
    """How noisy the healthy sensors are; all zero with `Noise.off()`.

    Attributes:
        rgb: standard deviation of a colour value [of 255].
        depth: standard deviation of depth at 1 m [m]; grows with distance squared.
        encoder: multiple of the robot's encoder noise (5e-4 rad, 5e-3 rad/s; 1e-4 m, 1e-3 m/s).
        force: standard deviation of a force reading [N].
        torque: of a torque reading [N·m].
        bias: typical slow bias of a force reading [N]; of a torque, a fiftieth of it [N·m].
        bias_period: time in which the bias swings once [s].
    """

    rgb: float = 2.0
    depth: float = 0.0015
    encoder: float = 1.0
    force: float = 0.05
    torque: float = 0.002
    bias: float = 0.10
    bias_period: float = 60.0

    def __post_init__(self) -> None:
        for field in fields(self):
            at_least_zero(getattr(self, field.name), f"Noise.{field.name}")
        if not self.bias_period:
            raise InputError("Noise.bias_period must be longer than 0 s")

    @classmethod
    def off(cls) -> "Noise":
        """No noise at all: readings are exact."""
        return cls(0.0, 0.0, 0.0, 0.0, 0.0, 0.0)


class NoiseSource:
    """Draws the noise of N worlds; every value depends on (seed, episode, step, sensor) alone.

    Hashing every pixel would cost more than rendering it. A bank of a million normal numbers stands ready instead, and
    each reading takes the stretch of it that starts at a hashed offset: white within a reading, and different from
    reading to reading.
    """

    def __init__(self, noise: Noise, kind: Array) -> None:
        """Prepares the bank, the same on every machine; `kind` is an array such as those of the exact readings."""
        self.noise = noise
        self._bank = torch.randn(_BANK, generator=torch.Generator().manual_seed(0x0F05E)).numpy()
        self._numbers = self._bank if isinstance(kind, np.ndarray) else torch.from_numpy(self._bank).to(kind.device)
        self._bell = np.float32(1000.0 * noise.depth) * self._bank
        # brighter and darker apart: saturating sums of bytes are much faster than sums of wider numbers
        whole = np.rint(noise.rgb * self._bank)
        self._grain = [np.clip(part, 0, 255).astype(np.uint8) for part in (whole, -whole)]
        self._views: dict[tuple[int, int], np.ndarray] = {}
        white = [noise.force] * 3 + [noise.torque] * 3 + [noise.force] * 2
        self._white, self._bias = like(white, kind), like(noise.bias * np.array([1.0] * 3 + [0.02] * 3), kind)

    def offsets(self, seed: int, episode: Tensor, step: Tensor, keys: Sequence[str]) -> dict[str, Array]:
        """Hashed offsets in the bank, sensor key → int64 (n,), for one moment of episodes int64 (n,).

        They depend on the sensor's name, so other sensors do not change them.
        """
        words = offsets(seed, Stream.NOISE, episode, step, _words(tuple(keys), episode.device))
        return dict(zip(keys, words.numpy().T if isinstance(self._white, np.ndarray) else words.T, strict=True))

    def pictures(self, images: Tensor, offset: Tensor) -> Tensor:
        """Images uint8 (n, H, W, 3) with noise, saturating, on any device; `offset` int64 (n,)."""
        if not self.noise.rgb:
            return images
        flat, rows = _rows(images, offset)
        grain = (self.noise.rgb * self._windows(self._numbers, rows, flat.shape[1])).round()
        return (flat + grain).clamp(0.0, 255.0).to(torch.uint8).view(images.shape)

    def distances(self, metres: Tensor, offset: Tensor) -> Tensor:
        """Depth float32 (n, H, W) [m] with noise, uint16 [mm], on any device; a miss, or beyond 65.5 m, is 0."""
        flat, rows = _rows(metres, offset)
        bell = 1000.0 * self.noise.depth * self._windows(self._numbers, rows, flat.shape[1])
        rounded = ((bell * flat + 1000.0) * flat).round()
        rounded = rounded.clamp(min=0.0).masked_fill(rounded > DEPTH_LIMIT_MM, 0.0)
        return rounded.to(torch.int32).to(torch.uint16).view(metres.shape)

    def rgb(self, images: np.ndarray, offset: np.ndarray, out: np.ndarray) -> None:
        """Write images uint8 (n, H, W, 3) with noise, saturating, into `out`; `offset` int64 (n,)."""
        if not self.noise.rgb:
            out[:] = images
            return
        (flat, rows), noisy = _rows(images, offset), out.reshape(-1, _length(images))
        brighter, darker = (self._windows(bank, rows, flat.shape[1]) for bank in self._grain)
        cv2.add(flat, brighter, dst=noisy)
        cv2.subtract(noisy, darker, dst=noisy)

    def millimetres(self, metres: np.ndarray, offset: np.ndarray, out: np.ndarray) -> None:
        """Write depth float32 (n, H, W) [m] with noise into `out`, uint16 [mm]; a miss, or beyond 65.5 m, is 0."""
        (flat, rows), rounded = _rows(metres, offset), out.reshape(-1, _length(metres))
        # the error grows with distance squared: 1000 (d + σ n d²) = (1000 + 1000 σ n d) d
        scaled = self._windows(self._bell, rows, flat.shape[1])
        scaled *= flat
        scaled += 1000.0
        cv2.multiply(scaled, flat, dst=rounded, dtype=cv2.CV_16U)  # rounds to even, and saturates
        if rounded.max() == DEPTH_LIMIT_MM:
            rounded[np.rint(scaled * flat) > DEPTH_LIMIT_MM] = 0

    def encoders(self, count: int, offset: Array) -> Array:
        """Normal numbers (n, count) times `Noise.encoder`."""
        return self.noise.encoder * like(self._windows(self._numbers, offset, count), self._white)

    def swing(self, seed: int, episode: Tensor) -> Array:
        """Two normal numbers per axis, (n, 2, 6), that fix the slow bias of a whole episode."""
        drawn = normal(seed, Stream.NOISE, episode, 0, 12, salt=1).reshape(-1, 2, 6)
        return like(drawn.numpy() if isinstance(self._white, np.ndarray) else drawn, self._white)

    def wrench(self, window: Array, offset: Array, swing: Array, time: Array) -> Array:
        """Add white noise and slow bias to fresh readings (n, W, 8).

        Fingertip forces get the white noise of a force, no bias, and stay non-negative.

        Args:
            window: exact readings.
            offset: int64 (n,), of the same kind of array.
            swing: (n, 2, 6) of the episodes.
            time: (n, W) of the readings in the episode [s].
        """
        if not (self.noise.force or self.noise.torque or self.noise.bias):
            return window
        white = self._windows(self._numbers, offset, window.shape[1] * window.shape[2]).reshape(window.shape)
        noisy = window + white * self._white
        cosine, sine = cos_sin((2.0 * math.pi / self.noise.bias_period) * time[..., None])
        noisy[..., :6] += self._bias * (swing[:, :1] * cosine + swing[:, 1:] * sine)
        noisy[..., 6:] = maximum(noisy[..., 6:], 0.0)
        return noisy

    def _windows(self, bank: Array, offset: Array, length: int) -> Array:
        """Fresh values of a bank, one stretch per row, (n, length)."""
        if isinstance(bank, Tensor):
            return bank.unfold(0, length, 1)[offset % (_BANK - length)]
        key = (id(bank), length)
        if key not in self._views:  # making the view takes longer than copying from it
            self._views[key] = np.lib.stride_tricks.sliding_window_view(bank, length)
        return self._views[key][offset % (_BANK - length)]


@cache
def _words(keys: tuple[str, ...], device: torch.device) -> Tensor:
    """Which random words are the sensors', int64 (m,); sent to the device once."""
    return torch.tensor([zlib.crc32(key.encode()) + 1 for key in keys], device=device)


def _length(images: Array) -> int:
    """Pixels in a row of `_rows`: short enough for the bank."""
    size = math.prod(images.shape[1:])
    return size if size <= _BANK // 8 else size // images.shape[1]


def _rows(images: Array, offset: Array) -> tuple[Array, Array]:
    """Images (n, …) as rows, and an offset for each: whole images, or lines of large ones."""
    rows, lines = images.reshape(-1, _length(images)), images.shape[1]
    if len(rows) == len(images):
        return rows, offset
    spread = offset[:, None] + arange(lines, offset) * _STRIDE
    return rows, spread.reshape(-1) & (2**62 - 1)
