"""Encoders and fusions of the user's own, known by name.

A policy file holds no code. It tells the names of the encoders and the fusion it was trained with; who loads it must
have made those names known, and nothing in the file says what they stand for.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar, cast, get_args

import torch
from torch import Tensor, nn

from robofuse.checks import check_name
from robofuse.errors import InputError
from robofuse.policies.encoders import ENCODERS, Encoder
from robofuse.policies.fusion import FUSIONS, Fusion
from robofuse.sensors import Kind, Sensor

_ROWS = 3
E = TypeVar("E", bound=Encoder)
F = TypeVar("F", bound=Fusion)


class Unregistered(InputError):
    """A name that stands for no encoder or no fusion here."""


def register_encoder(name: str) -> Callable[[E], E]:
    """Makes an encoder known by a name, as a decorator: (sensor, D) → module, readings (n, …) to tokens (n, D).

    Readings come in the sensor's own dtype, and only rows where the sensor is live. Name it in
    `FusionExtractor(encoders={key or kind: name})`, or `robofuse train --encoders rgb=NAME`.

    Raises:
        ValueError: not a name, or another encoder has it.
    """

    def known(make: E) -> E:
        check_name(name, make, ENCODERS, "encoder")
        ENCODERS[name] = make
        return make

    return known


def register_fusion(name: str) -> Callable[[F], F]:
    """Makes a fusion known by a name, as a decorator: (M, D) → module with `features`, the length F of its result.

    The module takes tokens (B, M, D) and available, bool (B, M), and gives (B, F). In the tokens, hidden sensors have
    been replaced by their mask tokens.

    Raises:
        ValueError: not a name, or another fusion has it.
    """

    def known(make: F) -> F:
        check_name(name, make, FUSIONS, "fusion")
        FUSIONS[name] = make
        return make

    return known


def find_encoder(encoder: str | Encoder) -> Encoder:
    """An encoder by name, or the given one; `Unregistered` lists what there is."""
    return cast(Encoder, _find(encoder, ENCODERS, "encoder"))


def find_fusion(fusion: str | Fusion) -> Fusion:
    """A fusion by name, or the given one; `Unregistered` lists what there is."""
    return cast(Fusion, _find(fusion, FUSIONS, "fusion"))


def told_names(encoders: Mapping[str, str | Encoder], fusion: str | Fusion) -> tuple[dict[str, str], str]:
    """Encoders and fusion by name, for a policy file.

    Raises:
        ValueError: one of them has no name; says how to give it one.
    """
    return {key: _name(make, ENCODERS, "encoder") for key, make in encoders.items()}, _name(fusion, FUSIONS, "fusion")


def _find(what: str | Callable, known: Mapping[str, Callable], kind: str) -> Callable:
    if callable(what):
        return what
    if not isinstance(what, str) or what not in known:
        raise Unregistered(
            f"unknown {kind} {what!r}; {kind}s: {', '.join(known)}; make yours known first, by "
            f'@robofuse.policies.register_{kind}("{what}") and, on the command line, --import FILE.py'
        )
    return known[what]


def _name(make: str | Callable, known: Mapping[str, Callable], kind: str) -> str:
    names = [name for name, one in known.items() if name == make or one is make]
    if not names:
        raise InputError(
            f"a policy file holds no code, so it can only name the {kind} {called(make)}, and that has no name; give "
            f'it one: @robofuse.policies.register_{kind}("…")'
        )
    return names[0]


def called(make: object) -> str:
    """What messages call an encoder or a fusion."""
    return getattr(make, "__qualname__", None) or repr(make)


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
