"""Encoders and fusions are made, and tried out on a few made-up readings, so that mistakes show before they learn."""

from collections.abc import Mapping, Sequence
from typing import Any, get_args

import torch
from torch import Tensor, nn

from robofuse.errors import InputError
from robofuse.policies.encoders import Encoder
from robofuse.policies.fusion import Fusion
from robofuse.policies.registry import Unregistered, called, find_encoder, find_fusion
from robofuse.sensors import Kind, Sensor

_ROWS = 3


def check_encoders(encoders: Mapping[str, Any], sensors: Sequence[Sensor]) -> None:
    """ValueError for an entry that is neither for one of the sensors nor for a kind of sensor."""
    keys = [sensor.key for sensor in sensors]
    for name in encoders:
        if name not in (*keys, *get_args(Kind)):
            raise InputError(
                f"encoders has {name!r}, which is neither a sensor ({', '.join(keys)}) nor a kind of sensor "
                f"({', '.join(get_args(Kind))})"
            )


def make_encoder(encoders: Mapping[str, str | Encoder], sensor: Sensor, token_dim: int) -> nn.Module:
    """The encoder of a sensor: that of its key, else that of its kind, else the standard one.

    Raises:
        ValueError: unknown, or it does not do what an encoder promises.
    """
    try:
        make = find_encoder(encoders.get(sensor.key) or encoders.get(sensor.kind) or sensor.kind)
    except Unregistered as error:
        raise Unregistered(f"{sensor.key!r}, of kind {sensor.kind!r}: {error}") from None
    encoder, whose = make(sensor, token_dim), f"the encoder {called(make)} of {sensor.key!r}"
    if _ours(encoder, whose):
        return encoder
    # SB3's own policies give bytes as floats in [0, 1], so an encoder may be written for those alone
    first: Exception | None = None
    for dtype in (getattr(torch, sensor.dtype), torch.float32):
        x = torch.arange(_ROWS * max(torch.Size(sensor.shape).numel(), 1)) % 251
        x = (x / 251.0 if dtype == torch.float32 else x).to(dtype).reshape(_ROWS, *sensor.shape)
        try:
            _try(encoder, whose, (x,), token_dim, "one token per reading")
        except (RuntimeError, TypeError, NotImplementedError) as error:
            first = first or error
        else:
            return encoder
    about = f"{sensor.dtype} {(_ROWS, *sensor.shape)}"
    raise InputError(f"{whose} cannot read a batch of {_ROWS} readings, {about}: {first}") from first


def make_fusion(fusion: str | Fusion, sensors: int, token_dim: int) -> nn.Module:
    """The fusion of M sensors.

    Raises:
        ValueError: unknown, or it does not do what a fusion promises.
    """
    make = find_fusion(fusion)
    fuse, whose = make(sensors, token_dim), f"the fusion {called(make)}"
    if _ours(fuse, whose):
        return fuse
    features = getattr(fuse, "features", None)
    if isinstance(features, bool) or not isinstance(features, int) or features < 1:
        raise InputError(f"{whose} must have `features`, the length of its result, a whole number; got {features!r}")
    tokens = torch.linspace(-1.0, 1.0, _ROWS * sensors * token_dim).reshape(_ROWS, sensors, token_dim)
    available = torch.ones(_ROWS, sensors, dtype=torch.bool)
    available[1, 1:], available[2] = False, False
    try:
        _try(fuse, whose, (tokens, available), features, "`features` numbers per row")
        if not bool(torch.isfinite(fuse(tokens, available)).all()):
            raise InputError(f"{whose} gives NaN or Inf where all sensors, or all but one, are hidden")
    except (RuntimeError, TypeError, NotImplementedError) as error:
        shapes = f"tokens {tuple(tokens.shape)} and available {tuple(available.shape)}"
        raise InputError(f"{whose} cannot read {shapes}: {error}") from error
    return fuse


def _ours(module: object, whose: str) -> bool:
    if not isinstance(module, nn.Module):
        raise InputError(f"{whose} must make a torch.nn.Module, it made a {type(module).__name__}")
    return type(module).__module__.startswith("robofuse.")


@torch.no_grad()
def _try(module: nn.Module, whose: str, inputs: tuple[Tensor, ...], width: int, meaning: str) -> None:
    training, before = module.training, [x.clone() for x in inputs]
    module.eval()
    try:
        whole, one = module(*inputs), module(*(x[:1] for x in inputs))
    finally:
        module.train(training)
    for x, rows in ((whole, _ROWS), (one, 1)):
        if not isinstance(x, Tensor) or tuple(x.shape) != (rows, width) or x.dtype != torch.get_default_dtype():
            got = f"{str(x.dtype)[6:]} {tuple(x.shape)}" if isinstance(x, Tensor) else type(x).__name__
            raise InputError(f"{whose} must give {meaning}, float32 {(rows, width)}, it gave {got}")
    if any(not torch.equal(x, y) for x, y in zip(inputs, before, strict=True)):
        raise InputError(f"{whose} writes into what it reads; copy first")
    if not torch.allclose(whole[:1], one, rtol=1e-3, atol=1e-4, equal_nan=True):
        raise InputError(f"{whose} mixes the rows of a batch: row 0 alone gives something else")
