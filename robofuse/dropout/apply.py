"""What a masked sensor looks like in an observation: 0 under `available`, and a reading of zeros."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from robofuse.checks import zeros_and_ones
from robofuse.errors import InputError
from robofuse.sensors import AVAILABLE
from robofuse.tensors import on_cpu


def mask_sensors(observation: Mapping[str, Tensor], available: Tensor, keys: Sequence[str]) -> dict[str, Tensor]:
    """Masks sensors of N observations, key → (N, …), which are not changed.

    Args:
        observation: key → (N, …).
        available: int8 (N, M), 1 = keep, 0 = mask.
        keys: the M sensors, in the order of the columns.

    Returns:
        The same tensors, but fresh ones with zero-filled rows for sensors that are masked somewhere, and a fresh int8
        `available`: 1 where both the given one and the observation's own, if it has one, are 1.

    Raises:
        InputError: `available` does not fit the sensors or the observation's own, or, on the CPU, one of them holds
            anything but 0 and 1.
    """
    if available.shape[1:] != (len(keys),):
        raise InputError(f"available must have shape (N, {len(keys)}), got {tuple(available.shape)}")
    looking = on_cpu(available)  # elsewhere it would wait for the device
    if looking:
        zeros_and_ones(available, "available")
    shown = available.to(torch.int8)
    if AVAILABLE in observation:
        own = observation[AVAILABLE]
        if own.shape != shown.shape:
            raise InputError(f"the observation's available is {tuple(own.shape)}, the mask {tuple(shown.shape)}")
        if looking:
            zeros_and_ones(own, "the observation's available")
        shown = shown & own.to(torch.int8)
    found = {**observation, AVAILABLE: shown.clone() if shown is available else shown}
    hidden = (available == 0).any(0).tolist() if looking else [True] * len(keys)
    found |= {key: found[key].detach().clone() for key, some in zip(keys, hidden, strict=True) if some}
    zero_masked(found, available, keys)
    return found


def zero_masked(observation: Mapping[str, Tensor], available: Tensor, keys: Sequence[str]) -> None:
    """Does what `mask_sensors` does to the readings, in place and unchecked."""
    masked, looking = available == 0, on_cpu(available)
    if looking and not masked.any():
        return
    found = masked.any(0).tolist() if looking else [True] * len(keys)
    for key, rows, some in zip(keys, masked.unbind(1), found, strict=True):
        values = observation[key]
        if not some:
            continue
        if values.device.type == "cpu":  # NumPy sets whole rows of bytes at once, eighty times as fast as torch
            values.numpy()[rows.cpu().numpy()] = 0
        else:  # torch cannot fill uint16, but the same bits as int16
            bits = values.view(torch.int16) if values.dtype == torch.uint16 else values
            bits.masked_fill_(rows.to(values.device).view(-1, *[1] * (values.ndim - 1)), 0)


def mask_arrays(
    observation: Mapping[str, np.ndarray], available: np.ndarray, keys: Sequence[str], fill: bool = True
) -> dict[str, np.ndarray]:
    """Does what `mask_sensors` does (`observation`, `available`, `keys`), for NumPy arrays.

    Without `fill`, readings stay as they are and only `available` tells. Arrays of which nothing was masked are the
    given ones. InputError if the observation's own `available` holds anything but 0 and 1.
    """
    shown = available.astype(np.int8)
    if AVAILABLE in observation:
        zeros_and_ones(observation[AVAILABLE], "the observation's available")
        shown &= observation[AVAILABLE].astype(np.int8)
    found = {**observation, AVAILABLE: shown}
    masked = available == 0
    if fill and masked.any():
        for key, rows in zip(keys, masked.T, strict=True):
            if rows.any():
                found[key] = np.array(observation[key])
                found[key][rows] = 0
    return found


def submasks(available: Tensor, keep: float) -> Tensor:
    """Draws masks with fewer live sensors, for each row by itself, as `Independent` does.

    Args:
        available: bool (B, M), which sensors are live.
        keep: probability that a live sensor stays so.

    Returns:
        bool (B, M), drawn from torch's random numbers. Where a sensor is live, one stays so at least, and if none
        would, it is one uniformly at random.
    """
    chances = torch.rand(available.shape, device=available.device)
    kept = available & (chances < keep)
    likeliest = chances.masked_fill(~available, 2.0).argmin(dim=1, keepdim=True)
    one = torch.zeros_like(available).scatter_(1, likeliest, True) & available
    return torch.where(kept.any(dim=1, keepdim=True), kept, one)
