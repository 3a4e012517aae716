"""Encoders and fusions by name, and the check of those that users bring.

A policy file holds no code. It holds the names of the encoders and the fusion that the policy was trained with; whoever
loads it must have registered these names, and nothing in the file says what they stand for.
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

E = TypeVar("E", bound=Encoder)
F = TypeVar("F", bound=Fusion)

_ROWS = 3
_REPEATS = 8  # passes in train mode: a Dropout of 5 % in 8 numbers shows


class Unregistered(InputError):
    """A name that no encoder or no fusion is registered under."""


def register_encoder(name: str) -> Callable[[E], E]:
    """A decorator that registers an encoder under a name: (sensor, D) → module, readings (n, …) to tokens (n, D).

    An encoder is given only rows where its sensor is live, and the same tensors under every algorithm. Images are
    (n, H, W, C) in the dtype and range of the camera: uint8 to 255, uint16 millimetres, or float32. All else is
    float32, of the sensor's shape; Discrete entries come one-hot. `sensor.shape` and `sensor.dtype` say the same. The
    encoder divides by `sensor.scale` itself.

    Use it by `FusionExtractor(encoders={key or kind: name})`, or `robofuse train --encoders rgb=NAME`.

    Raises:
        InputError: not a name, or another encoder has it.
    """

    def register(make: E) -> E:
        check_name(name, make, ENCODERS, "encoder")
        ENCODERS[name] = make
        return make

    return register


def register_fusion(name: str) -> Callable[[F], F]:
    """A decorator that registers a fusion: (M, D) → module with `features`, the length F of its result.

    The module takes tokens (B, M, D) and available, bool (B, M), and gives (B, F). In the tokens, hidden sensors have
    been replaced by their mask tokens.

    Raises:
        InputError: not a name, or another fusion has it.
    """

    def register(make: F) -> F:
        check_name(name, make, FUSIONS, "fusion")
        FUSIONS[name] = make
        return make

    return register


def find_encoder(encoder: str | Encoder) -> Encoder:
    """An encoder by name, or the given one; `Unregistered` lists what there is."""
    return cast(Encoder, _find(encoder, ENCODERS, "encoder"))


def find_fusion(fusion: str | Fusion) -> Fusion:
    """A fusion by name, or the given one; `Unregistered` lists what there is."""
    return cast(Fusion, _find(fusion, FUSIONS, "fusion"))


def registered_names(encoders: Mapping[str, str | Encoder], fusion: str | Fusion) -> tuple[dict[str, str], str]:
    """Encoders and fusion by name, for a policy file.

    Raises:
        InputError: one of them has no name; says how to register it.
    """
    return {key: _name(make, ENCODERS, "encoder") for key, make in encoders.items()}, _name(fusion, FUSIONS, "fusion")


def check_encoders(encoders: Mapping[str, Any], sensors: Sequence[Sensor]) -> None:
    """InputError for an entry that is neither for one of the sensors nor for a kind of sensor."""
    keys = [sensor.key for sensor in sensors]
    for name in encoders:
        if name not in (*keys, *get_args(Kind)):
            raise InputError(
                f"encoders has {name!r}, which is neither a sensor ({', '.join(keys)}) nor a kind of sensor "
                f"({', '.join(get_args(Kind))})"
            )


def make_encoder(encoders: Mapping[str, str | Encoder], sensor: Sensor, token_dim: int) -> nn.Module:
    """The encoder of a sensor: that of its key, else that of its kind, else the standard one.

    Args:
        encoders: key or kind → encoder.
        sensor: as the encoder reads it, see `register_encoder`.
        token_dim: D.

    Raises:
        InputError: unknown, or it does not do what an encoder must.
    """
    try:
        make = find_encoder(encoders.get(sensor.key) or encoders.get(sensor.kind) or sensor.kind)
    except Unregistered as error:
        raise Unregistered(f"{sensor.key!r}, of kind {sensor.kind!r}: {error}") from None
    encoder, whose = make(sensor, token_dim), f"the encoder {_called(make)} of {sensor.key!r}"
    if not _is_ours(encoder, whose):
        dtype = getattr(torch, sensor.dtype)
        x = (torch.arange(_ROWS * max(torch.Size(sensor.shape).numel(), 1)) % 251).reshape(_ROWS, *sensor.shape)
        x[1] //= 4  # rows that differ much, so that their mixing shows
        x = (x / 251.0 if dtype.is_floating_point else x).to(dtype)
        about = f"a batch of {_ROWS} readings, {sensor.dtype} {(_ROWS, *sensor.shape)}"
        validate_module(encoder, whose, (x,), about, token_dim, "one token per reading")
    return encoder


def make_fusion(fusion: str | Fusion, sensors: int, token_dim: int) -> nn.Module:
    """The fusion of M sensors.

    Raises:
        InputError: unknown, or it does not do what a fusion must.
    """
    make = find_fusion(fusion)
    module, whose = make(sensors, token_dim), f"the fusion {_called(make)}"
    if _is_ours(module, whose):
        return module
    features = getattr(module, "features", None)
    if isinstance(features, bool) or not isinstance(features, int) or features < 1:
        raise InputError(f"{whose} must have `features`, the length of its result, a whole number; got {features!r}")
    tokens = torch.linspace(-1.0, 1.0, _ROWS * sensors * token_dim).reshape(_ROWS, sensors, token_dim)
    available = torch.ones(_ROWS, sensors, dtype=torch.bool)
    available[1, 1:], available[2] = False, False
    about = f"tokens {tuple(tokens.shape)} and available {tuple(available.shape)}"
    result = validate_module(module, whose, (tokens, available), about, features, "`features` numbers per row")
    if not bool(torch.isfinite(result).all()):
        raise InputError(f"{whose} gives NaN or Inf where all sensors, or all but one, are hidden")
    return module


@torch.no_grad()
def validate_module(
    module: nn.Module, whose: str, inputs: tuple[Tensor, ...], about: str, width: int, meaning: str
) -> Tensor:
    """Tries an encoder or a fusion of the user's on a few made-up rows, so that mistakes show before it learns.

    Args:
        module: in train mode; weights and buffers stay as they are.
        whose: its name, for messages.
        inputs: what it reads, each (3, …).
        about: the same in words.
        width: of its result.
        meaning: the same in words.

    Returns:
        Its result, (3, width).

    Raises:
        InputError: it cannot read them; its result has another shape or type; it writes into its inputs, mixes rows, or
            is another function in train mode than in eval mode.
    """
    training, copies = module.training, [x.clone() for x in inputs]
    try:
        module.eval()
        result, alone = module(*inputs), module(*(x[:1] for x in inputs))
        buffers = [buffer.clone() for buffer in module.buffers()]
        module.train()
        with torch.random.fork_rng(devices=[]):
            trained = [module(*(x.clone() for x in copies)) for _ in range(_REPEATS)]
        for buffer, before in zip(module.buffers(), buffers, strict=True):
            buffer.copy_(before)
    except (RuntimeError, TypeError, NotImplementedError, ValueError) as error:
        raise InputError(f"{whose} cannot read {about}: {error}") from error
    finally:
        module.train(training)
    for x, rows in ((result, _ROWS), (alone, 1)):
        if not isinstance(x, Tensor) or tuple(x.shape) != (rows, width) or x.dtype != torch.get_default_dtype():
            got = f"{str(x.dtype)[6:]} {tuple(x.shape)}" if isinstance(x, Tensor) else type(x).__name__
            raise InputError(f"{whose} must give {meaning}, float32 {(rows, width)}, it gave {got}")
    if any(not torch.equal(x, y) for x, y in zip(inputs, copies, strict=True)):
        raise InputError(f"{whose} writes into what it reads; copy first")
    if not _close(result[:1], alone):
        raise InputError(f"{whose} mixes the rows of a batch: row 0 alone gives something else")
    if not all(_close(result, x) for x in trained):
        raise InputError(
            f"{whose} gives something else in train mode than in eval mode, as Dropout and BatchNorm do: PPO acts in "
            "one and learns in the other, so its first ratio would not be 1. LayerNorm does the same in both"
        )
    return result


def _close(a: Tensor, b: Tensor) -> bool:
    return torch.allclose(a, b, rtol=1e-3, atol=1e-4, equal_nan=True)


def _is_ours(module: object, whose: str) -> bool:
    if not isinstance(module, nn.Module):
        raise InputError(f"{whose} must make a torch.nn.Module, it made a {type(module).__name__}")
    return type(module).__module__.startswith("robofuse.")


def _find(what: str | Callable, known: Mapping[str, Callable], kind: str) -> Callable:
    if callable(what):
        return what
    if not isinstance(what, str) or what not in known:
        raise Unregistered(
            f"unknown {kind} {what!r}; {kind}s: {', '.join(known)}; register yours first, by "
            f'@robofuse.policies.register_{kind}("{what}") and, on the command line, --import FILE.py'
        )
    return known[what]


def _name(make: str | Callable, known: Mapping[str, Callable], kind: str) -> str:
    names = [name for name, one in known.items() if name == make or one is make]
    if not names:
        raise InputError(
            f"a policy file holds no code, so it can only name the {kind} {_called(make)}, and that has no name; give "
            f'it one: @robofuse.policies.register_{kind}("…")'
        )
    return names[0]


def _called(make: object) -> str:
    """What messages call an encoder or a fusion."""
    return getattr(make, "__qualname__", None) or repr(make)
