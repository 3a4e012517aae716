"""What a hidden sensor looks like in an observation: `available` 0, and zeros for a reading."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from robofuse.errors import InputError
from robofuse.sensors import AVAILABLE


def mask_sensors(observation: Mapping[str, Tensor], available: Tensor, keys: Sequence[str]) -> dict[str, Tensor]:
    """An observation without what is hidden.

    Args:
        observation: key → (N, …); not changed.
        available: int8 (N, M), 1 = keep.
        keys: the M sensors, in the order of the columns.

    Returns:
        The same tensors, but fresh ones with zero-filled rows for sensors that are hidden somewhere, and a fresh
        int8 `available`: the given one, and the observation's own if it has one.

    Raises:
        ValueError: `available` does not fit the sensors, or the observation's own.
    """
    hidden, shown = dict(observation), available.to(torch.int8)
    if available.shape[1:] != (len(keys),):
        raise InputError(f"available must have shape (N, {len(keys)}), got {tuple(available.shape)}")
    if AVAILABLE in observation:
        own = observation[AVAILABLE]
        if own.shape != shown.shape:
            raise InputError(f"the observation's available is {tuple(own.shape)}, the mask {tuple(shown.shape)}")
        shown = shown & own.to(torch.int8)
    hidden[AVAILABLE] = shown.clone() if shown is available else shown
    gone = available == 0
    for key, column, some in zip(keys, gone.unbind(1), gone.any(0).tolist(), strict=True):
        if some:
            hidden[key] = _zeroed(observation[key], column)
    return hidden


def hide_arrays(
    observation: Mapping[str, np.ndarray], available: np.ndarray, keys: Sequence[str], fill: bool = True
) -> dict[str, np.ndarray]:
    """`hide` for NumPy arrays.

    Args:
        observation: key → (N, …); not changed.
        available: int8 (N, M), 1 = keep.
        keys: the M sensors, in the order of the columns.
        fill: without it, readings stay as they are and only `available` tells.

    Returns:
        As of `hide`.
    """
    hidden, shown = dict(observation), available.astype(np.int8)
    if AVAILABLE in observation:
        shown &= observation[AVAILABLE].astype(np.int8)
    hidden[AVAILABLE] = shown
    gone = available == 0
    if fill and gone.any():
        for key, column in zip(keys, gone.T, strict=True):
            if column.any():
                hidden[key] = np.array(observation[key])
                hidden[key][column] = 0
    return hidden


def hide_row(
    observation: Mapping[str, Any], available: np.ndarray, keys: Sequence[str], fill: bool = True
) -> dict[str, Any]:
    """`hide_arrays` for the observation of one environment; `available` is int8 (M,)."""
    hidden, shown = dict(observation), available.astype(np.int8)
    for key, column in zip(keys, available, strict=True):
        if fill and not column:
            hidden[key] = np.zeros_like(observation[key])[()]  # of a number, a number
    hidden[AVAILABLE] = shown & np.asarray(observation[AVAILABLE], np.int8) if AVAILABLE in observation else shown
    return hidden


def _zeroed(values: Tensor, rows: Tensor) -> Tensor:
    """A copy with zeros in rows bool (N,)."""
    fresh = values.detach().clone()
    if fresh.device.type == "cpu":  # NumPy sets whole rows of bytes at once, eighty times as fast as torch
        fresh.numpy()[rows.cpu().numpy()] = 0
    else:  # torch cannot fill uint16, but the same bits as int16
        bits = fresh.view(torch.int16) if fresh.dtype == torch.uint16 else fresh
        bits.masked_fill_(rows.to(fresh.device).view(-1, *[1] * (fresh.ndim - 1)), 0)
    return fresh
