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
from robofuse.tensors import on_cpu


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
    words = _words(seed, stream, episode, step, count, salt)
    return words if isinstance(words, Tensor) else torch.from_numpy(words.view(np.int64))


def offsets(
    seed: int, stream: Stream, episode: Tensor, step: Tensor | int, count: int | Tensor, salt: int = 0
) -> Tensor:
    """Random integers from 0 to 2**62 − 1, int64 (n, count), such as places in a table; arguments as in `bits`."""
    words = _words(seed, stream, episode, step, count, salt)
    return _shift(words, 2) if isinstance(words, Tensor) else torch.from_numpy((words >> 2).view(np.int64))


def uniform(seed: int, stream: Stream, episode: Tensor, step: Tensor | int, count: int, salt: int = 0) -> Tensor:
    """Uniform float64 numbers in (0, 1), shape (n, count); arguments as in `bits`."""
    words = _words(seed, stream, episode, step, count, salt)
    if isinstance(words, Tensor):
        return (_shift(words, 11).double() + 0.5) * 2.0**-53
    return torch.from_numpy(((words >> 11).astype(np.float64) + 0.5) * 2.0**-53)


def _words(
    seed: int, stream: Stream, episode: Tensor, step: Tensor | int, count: int | Tensor, salt: int
) -> np.ndarray | Tensor:
    """The words of `bits`: on a CPU uint64 by NumPy, whose calls cost a fifth of torch's, else int64 of the device."""
    if not on_cpu(episode):
        return _torch_words(seed, stream, episode, step, count, salt)
    numbers = np.arange(1, count + 1) if isinstance(count, int) else count.numpy()
    steps = step.numpy() if isinstance(step, Tensor) else np.array([step])
    by_episode, by_step, by_number = (x.astype(np.uint64) * _SPREAD for x in (episode.numpy(), steps, numbers))
    word = _mix(_mix(by_episode + _key(seed, int(stream), salt)) + by_step)
    return _mix(word[:, None] + by_number)


def _torch_words(
    seed: int, stream: Stream, episode: Tensor, step: Tensor | int, count: int | Tensor, salt: int
) -> Tensor:
    """The same bits as int64, which torch has instead, and which wraps in the same way."""
    device, key = episode.device, _signed(_key(seed, int(stream), salt))
    numbers = torch.arange(1, count + 1, device=device) if isinstance(count, int) else count.to(device)
    steps = step if isinstance(step, Tensor) else torch.full((1,), step, device=device)
    by_episode, by_step, by_number = (x * _signed(_GAMMA) for x in (episode, steps, numbers))
    word = _torch_mix(_torch_mix(by_episode + key) + by_step)
    return _torch_mix(word[:, None] + by_number)


def _torch_mix(x: Tensor) -> Tensor:
    x = (x ^ _shift(x, 30)) * _signed(_MIX_1)
    x = (x ^ _shift(x, 27)) * _signed(_MIX_2)
    return x ^ _shift(x, 31)


def _shift(x: Tensor, by: int) -> Tensor:
    """`x >> by` of words without a sign, which int64 has."""
    return (x >> by) & ((1 << (64 - by)) - 1)


def _signed(word: int) -> int:
    return word - (1 << 64) if word >> 63 else word


def normal(seed: int, stream: Stream, episode: Tensor, step: Tensor | int, count: int, salt: int = 0) -> Tensor:
    """Standard normal float64 numbers, shape (n, count), by Box and Muller's method; arguments as in `bits`."""
    u = uniform(seed, stream, episode, step, 2 * ((count + 1) // 2), salt)
    u1, u2 = u.chunk(2, dim=1)
    radius, angle = torch.sqrt(-2.0 * torch.log(u1)), 2.0 * math.pi * u2
    return torch.cat([radius * torch.cos(angle), radius * torch.sin(angle)], dim=1)[:, :count]
