"""Small operations on NumPy arrays or torch tensors alike: the arithmetic of N worlds, written once.

On a CPU it is NumPy's, whose small operations cost a fifth of torch's. On another device it is torch's, and looks at no
number, so that nothing waits for the device. What differs in the last bit between machines is torch's in both cases.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from robofuse.tensors import by_number, span, write

Array = Any  # a NumPy array, or a torch tensor; all arguments of a call are of one kind


def like(values: Any, example: Array) -> Array:  # noqa: ANN401
    """Numbers as the kind of array that `example` is, of its type, on its device."""
    if isinstance(example, np.ndarray):
        return np.asarray(values, example.dtype)
    return torch.as_tensor(values, dtype=example.dtype, device=example.device)


def zeros(shape: Sequence[int], example: Array) -> Array:
    """Zeros of the kind, type and device of `example`, which are made there."""
    return np.zeros(shape, example.dtype) if isinstance(example, np.ndarray) else example.new_zeros(tuple(shape))


def arange(stop: int, example: Array) -> Array:
    """0, 1, … up to `stop` as int64 of the kind and device of `example`, which are made there."""
    return np.arange(stop) if isinstance(example, np.ndarray) else torch.arange(stop, device=example.device)


def columns(ids: list[int], example: Array) -> slice | list[int] | Tensor:
    """What picks the columns `ids` of an array like `example`: a slice if it can be, which is a view."""
    found = span(ids)  # a list would be sent to the device, and waited for, at every use
    if isinstance(found, slice) or isinstance(example, np.ndarray):
        return found
    return torch.tensor(ids, device=example.device)


def as_tensor(x: Array) -> Tensor:
    """The same numbers as a tensor, in the same memory."""
    return torch.from_numpy(x) if isinstance(x, np.ndarray) else x


def float32(x: Array) -> Tensor:
    """The numbers as a float32 tensor."""
    return torch.from_numpy(x.astype(np.float32)) if isinstance(x, np.ndarray) else x.float()


def rows_of(x: Array, worlds: Tensor | None) -> Array:
    """`x[worlds]` by number; `x` itself for None or a mask, see `robofuse.tensors.Worlds`."""
    numbers = by_number(worlds)
    if numbers is None:
        return x
    return x[numbers.numpy()] if isinstance(x, np.ndarray) else x.index_select(0, numbers)


def write_rows(x: Array, worlds: Tensor | None, values: Array) -> None:
    """`x[worlds] = values` in place; `values` has the rows that `rows_of` gives."""
    if isinstance(x, np.ndarray):
        x[slice(None) if worlds is None else worlds.numpy()] = values
    else:
        write(x, worlds, values)


def concatenate(parts: Sequence[Array], axis: int) -> Array:
    """The parts one after the other."""
    return np.concatenate(parts, axis=axis) if isinstance(parts[0], np.ndarray) else torch.cat([*parts], dim=axis)


def where(condition: Array, a: Array | float, b: Array | float) -> Array:
    """`a` where the condition holds, else `b`."""
    return np.where(condition, a, b) if isinstance(condition, np.ndarray) else torch.where(condition, a, b)


def clip(x: Array, low: Array | float, high: Array | float) -> Array:
    """`x` within `low` and `high`."""
    return np.minimum(np.maximum(x, low), high) if isinstance(x, np.ndarray) else torch.clamp(x, low, high)


def maximum(x: Array, low: Array | float) -> Array:
    """`x` where it is larger than `low`, else `low`."""
    return np.maximum(x, low) if isinstance(x, np.ndarray) else torch.clamp(x, min=low)


def cos_sin(angle: Array) -> tuple[Array, Array]:
    """Cosine and sine by torch: NumPy's last bits depend on the processor."""
    angles = as_tensor(angle)
    return _as(angle, torch.cos(angles)), _as(angle, torch.sin(angles))


def atan2(y: Array, x: Array) -> Array:
    """The angle of (x, y), by torch."""
    return _as(y, torch.atan2(as_tensor(y), as_tensor(x)))


def product(a: Array, b: Array) -> Array:
    """Matrix products (N, …) by torch, which adds small ones up in order: NumPy's last bits depend on its BLAS."""
    return _as(a, torch.bmm(as_tensor(a), as_tensor(b)))


def cross(a: Array, b: Array, axis: int = -1) -> Array:
    """Cross product by torch; NumPy's takes ten times as long."""
    return _as(a, torch.linalg.cross(as_tensor(a), as_tensor(b), dim=axis))


def solve(matrix: Array, right: Array) -> Array:
    """Solutions x of matrix · x = right, (N, k, k) and (N, k, m), for matrices that have an inverse."""
    found, _ = torch.linalg.solve_ex(as_tensor(matrix), as_tensor(right))  # which checks nothing, so it need not look
    return _as(matrix, found)


def _as(kind: Array, x: Tensor) -> Array:
    return x.numpy() if isinstance(kind, np.ndarray) else x
