"""Nominal sensor noise: what a healthy sensor's readings look like. Faults are another matter.

Sizes are typical of the class of device: a depth camera's error grows with distance squared (stereo; Khoshelham and
Elberink 2012), a strain-gauge wrist sensor has white noise and a bias that wanders over minutes.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from robofuse.streams import Stream, bits, normal

_BANK = 1 << 20


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

    @classmethod
    def off(cls) -> "Noise":
        """No noise at all: readings are exact."""
        return cls(0.0, 0.0, 0.0, 0.0, 0.0, 0.0)


class NoiseSource:
    """Draws the noise of one seed; every value depends on (seed, episode, step) alone."""

    def __init__(self, noise: Noise, device: torch.device) -> None:
        """Prepares a bank of a million normal numbers for images.

        Hashing every pixel would cost more than rendering it, so each image takes a stretch of the bank that starts at
        a hashed place: white within the image, and different from image to image.
        """
        self.noise, self.device = noise, device
        generator = torch.Generator().manual_seed(0x0F05E)
        self._bank = torch.randn(_BANK, generator=generator).to(device)
        self._whole = (self._bank * noise.rgb).round().clamp(-127, 127).to(torch.int16)

    def rgb(self, image: Tensor, seed: int, episode: Tensor, step: Tensor, salt: int) -> Tensor:
        """Add noise to images uint8 (n, H, W, 3), saturating; episode and step are int64 (n,)."""
        if not self.noise.rgb:
            return image
        added = self._stretch(self._whole, image, seed, episode, step, salt)
        return added.add_(image).clamp_(0, 255).to(torch.uint8)

    def depth(self, image: Tensor, seed: int, episode: Tensor, step: Tensor, salt: int) -> Tensor:
        """Add noise to depth float32 (n, H, W) [m]; a miss (0) stays 0."""
        if not self.noise.depth:
            return image
        error = self._stretch(self._bank, image, seed, episode, step, salt)
        return error.mul_(image).mul_(self.noise.depth).add_(1.0).mul_(image)

    def encoders(self, count: int, seed: int, episode: Tensor, step: Tensor) -> Tensor | None:
        """Standard normal (n, count) times `Noise.encoder`, or None without noise."""
        if not self.noise.encoder:
            return None
        return self.noise.encoder * normal(seed, Stream.NOISE, episode, step, count, salt=1)

    def wrench(self, window: Tensor, seed: int, episode: Tensor, time: Tensor, step: Tensor) -> Tensor:
        """Add white noise and slow bias to fresh readings float64 (n, W, 8); `time` (n, W) [s] in the episode.

        Fingertip forces get the white noise of a force, no bias, and stay non-negative.
        """
        if not (self.noise.force or self.noise.torque or self.noise.bias):
            return window
        rows, length = window.shape[:2]
        white = normal(seed, Stream.NOISE, episode, step, length * 8, salt=2).reshape(rows, length, 8)
        sigma = [self.noise.force] * 3 + [self.noise.torque] * 3 + [self.noise.force] * 2
        noisy = window + white * torch.tensor(sigma, dtype=window.dtype, device=self.device)
        # a slow swing with random amplitude and phase: two normal numbers per axis, nothing to remember
        swing = normal(seed, Stream.NOISE, episode, 0, 12, salt=3).reshape(rows, 1, 2, 6)
        angle = (2.0 * math.pi / self.noise.bias_period) * time[..., None]
        size = torch.tensor([1.0] * 3 + [0.02] * 3, dtype=window.dtype, device=self.device) * self.noise.bias
        noisy[..., :6] += size * (swing[:, :, 0] * torch.cos(angle) + swing[:, :, 1] * torch.sin(angle))
        noisy[..., 6:].clamp_(min=0.0)
        return noisy

    def _stretch(self, bank: Tensor, image: Tensor, seed: int, episode: Tensor, step: Tensor, salt: int) -> Tensor:
        length = image[0].numel()
        start = bits(seed, Stream.NOISE, episode, step, 1, salt)[:, 0] % (_BANK - length)
        windows = bank.as_strided((_BANK - length, length), (1, 1))
        return windows[start].reshape(image.shape)
