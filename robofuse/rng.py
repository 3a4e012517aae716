"""Random numbers as a pure function of (seed, stream, episode, step, index).

There are four independent streams: scene, sensor noise, faults and dropout. Nothing is stored, so the order of the
calls, the number of worlds, the policy and the faults cannot change them, and there is no generator state to save.

The hash is SplitMix64's finaliser (Steele, Lea and Flood 2014, "Fast splittable pseudorandom number generators"),
chained over the coordinates.
"""

import enum
import functools
import math

import numpy as np
import torch
from torch import Tensor

from robofuse.errors import InputError


class Stream(enum.IntEnum):
    """The four streams; two of them never share a number."""

    SCENE = 1
    NOISE = 2
    FAULTS = 3
    DROPOUT = 4


_WORD = (1 << 64) - 1
_GAMMA, _MIX_1, _MIX_2 = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB


@functools.lru_cache(maxsize=256)
def _key(seed: int, stream: int, salt: int) -> int:
    """The hash of one Python integer."""
    x = (seed * _GAMMA + (stream << 32) + salt) & _WORD
    x = ((x ^ (x >> 30)) * _MIX_1) & _WORD
    x = ((x ^ (x >> 27)) * _MIX_2) & _WORD
    return x ^ (x >> 31)


# arrays, as NumPy takes twice as long to find the type of a Python integer as to multiply by it
_CONSTANTS = [np.array(x, np.uint64) for x in (30, _MIX_1, 27, _MIX_2, 31)]
_SPREAD = np.array(_GAMMA, np.uint64)


def _mix(x: np.ndarray) -> np.ndarray:
    """The same of 64-bit words, uint64 (n, …)."""
    first, mix_1, second, mix_2, last = _CONSTANTS
    x = (x ^ (x >> first)) * mix_1
    x = (x ^ (x >> second)) * mix_2
    return x ^ (x >> last)


def check_seed(seed: int, what: str = "seed") -> int:
    """The seed (or episode number) itself, if it is one: a non-negative integer below 2**63.

    Raises:
        InputError: not an integer, negative or too large.
    """
    if isinstance(seed, bool) or not hasattr(seed, "__index__"):
        raise InputError(f"{what} must be a non-negative integer, got {seed!r} of type {type(seed).__name__}")
    seed = seed.__index__()
    if not 0 <= seed < 1 << 63:
        raise InputError(f"{what} must lie in [0, 2**63), got {seed}")
    return seed


def bits(seed: int, stream: Stream, episode: Tensor, step: Tensor | int, count: int | Tensor, salt: int = 0) -> Tensor:
    """Random 64-bit words.

    Args:
        seed: the run's seed.
        stream: which of the four streams.
        episode: int64 (n,), episode numbers.
        step: int64 (n,) or one number, the control step within the episode.
        count: words per row, or which words, int64 (m,) from 1 on: word k is the same whatever else is asked for.
        salt: separates users of one stream, such as two sensors.

    Returns:
        int64 (n, count), uniform over all 64-bit words.
    """
    return torch.from_numpy(_words(seed, stream, episode, step, count, salt).view(np.int64)).to(episode.device)


def offsets(
    seed: int, stream: Stream, episode: Tensor, step: Tensor | int, count: int | Tensor, salt: int = 0
) -> Tensor:
    """Random integers from 0 to 2**62 − 1, int64 (n, count), such as places in a table; arguments as in `bits`."""
    words = _words(seed, stream, episode, step, count, salt) >> 2
    return torch.from_numpy(words.view(np.int64)).to(episode.device)


def uniform(seed: int, stream: Stream, episode: Tensor, step: Tensor | int, count: int, salt: int = 0) -> Tensor:
    """Uniform float64 numbers in (0, 1), shape (n, count); arguments as in `bits`."""
    words = _words(seed, stream, episode, step, count, salt)
    return torch.from_numpy(((words >> 11).astype(np.float64) + 0.5) * 2.0**-53).to(episode.device)


def _words(
    seed: int, stream: Stream, episode: Tensor, step: Tensor | int, count: int | Tensor, salt: int
) -> np.ndarray:
    """The words of `bits` as uint64; in NumPy, whose calls cost a fifth of torch's, and these are many and small."""
    numbers = np.arange(1, count + 1) if isinstance(count, int) else count.cpu().numpy()
    steps = step.cpu().numpy() if isinstance(step, Tensor) else np.array([step])
    coordinates = (episode.cpu().numpy(), steps, numbers)
    by_episode, by_step, by_number = (x.astype(np.uint64) * _SPREAD for x in coordinates)
    word = _mix(_mix(by_episode + _key(seed, int(stream), salt)) + by_step)
    return _mix(word[:, None] + by_number)


def normal(seed: int, stream: Stream, episode: Tensor, step: Tensor | int, count: int, salt: int = 0) -> Tensor:
    """Standard normal float64 numbers, shape (n, count), by Box and Muller's method; arguments as in `bits`."""
    u = uniform(seed, stream, episode, step, 2 * ((count + 1) // 2), salt)
    u1, u2 = u.chunk(2, dim=1)
    radius, angle = torch.sqrt(-2.0 * torch.log(u1)), 2.0 * math.pi * u2
    return torch.cat([radius * torch.cos(angle), radius * torch.sin(angle)], dim=1)[:, :count]
