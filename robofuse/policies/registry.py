"""Encoders and fusions of the user's own, known by name.

A policy file holds no code. It tells the names of the encoders and the fusion it was trained with; who loads it must
have made those names known, and nothing in the file says what they stand for.
"""

from collections.abc import Callable, Mapping
from typing import TypeVar, cast

from robofuse.checks import check_name
from robofuse.errors import InputError
from robofuse.policies.encoders import ENCODERS, Encoder
from robofuse.policies.fusion import FUSIONS, Fusion

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
