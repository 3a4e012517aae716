"""A trained policy, and worlds like those it was trained in."""

import hashlib
import inspect
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from robofuse.envs import Noise, Timing, World
from robofuse.errors import InputError
from robofuse.registration import RENDERERS
from robofuse.sensors import Sensor

# what a training chooses for itself, and says nothing about what the policy sees
_OWN = ("num_envs", "seed", "auto_reset", "privileged", "dropout", "faults", "num_threads")


class Policy(Protocol):
    """What `robofuse.policies.load` returns.

    Attributes:
        keys: the sensors it reads, in the order of `available`.
        sensors: the same, with all that is known about them.
        world: options of the `World` it was trained in, as plain JSON.
        card: what is known about it, as plain JSON.
    """

    @property
    def keys(self) -> tuple[str, ...]: ...  # noqa: D102

    @property
    def sensors(self) -> Sequence[Sensor]: ...  # noqa: D102

    @property
    def world(self) -> dict[str, Any]: ...  # noqa: D102

    @property
    def card(self) -> dict[str, Any]: ...  # noqa: D102

    def act(self, observation: dict[str, Tensor], /) -> Tensor:
        """Deterministic actions (N, A) in [−1, 1]."""
        ...

    def check(self, sensors: Sequence[Sensor], renderer: str | None = None, /) -> None:
        """ValueError if a world's sensors, or what draws its pictures, are not those it was trained with."""
        ...


class Trained(NamedTuple):
    """A policy and how to build its worlds.

    Attributes:
        policy: the policy.
        options: of `World`, without those that a training chooses for itself; plain JSON.
        note: what people should know, such as a renderer that it was not trained on; or empty.
    """

    policy: Policy
    options: dict[str, Any]
    note: str = ""


def load_trained(
    name: str, *, device: str = "auto", renderer: str | None = None, allow_mismatch: bool = False
) -> Trained:
    """Load a policy.

    Args:
        name: of a policy in the package, or a path; also of a file of `robofuse export`, which onnxruntime plays.
        device: of the network: auto, cpu or cuda.
        renderer: instead of the one that it was trained on; by default that one, or warp where it does not work.
        allow_mismatch: let the renderer differ.

    Raises:
        ValueError: no such policy or renderer, or another renderer without `allow_mismatch`.
        RuntimeError: an exported policy, and onnxruntime is not installed or too old.
    """
    from robofuse.export.command import SUFFIX
    from robofuse.export.played import Played
    from robofuse.policies import load

    policy = Played(name, device) if Path(name).suffix == SUFFIX else load(name, device=device)
    options = {key: value for key, value in policy.world.items() if key not in _OWN}
    trained = options.setdefault("renderer", next(iter(RENDERERS)))
    if renderer is None and trained == "gl" and (problem := gl_problem(policy)):
        # to a millimetre and a shade of colour they draw the same
        note = f"pictures of warp, as gl, on which the policy was trained, does not work here ({problem})"
        return Trained(policy, {**options, "renderer": "warp"}, note)
    if renderer is None or renderer == trained:
        return Trained(policy, options)
    if renderer not in RENDERERS:
        raise InputError(f"unknown renderer {renderer!r}; renderers: {', '.join(RENDERERS)}")
    note = ""
    try:
        policy.check(policy.sensors, renderer)
    except ValueError:
        if not allow_mismatch:
            raise
        note = f"pictures of {renderer}, trained on {trained}"
    return Trained(policy, {**options, "renderer": renderer}, note)


def gl_problem(policy: Policy) -> str:
    """Why the gl renderer cannot draw what a policy sees on this machine, or an empty string."""
    return gl_trouble() if any(sensor.kind in ("rgb", "depth") for sensor in policy.sensors) else ""


def gl_trouble() -> str:
    """Why the gl renderer does not work on this machine, or an empty string."""
    try:
        World("Reach", 1, renderer="gl", image_size=32).close()
    except RuntimeError as error:
        return str(error)
    return ""


def make_world(
    trained: Trained, num_envs: int, seed: int, *, auto_reset: bool = False, privileged: bool = False
) -> World:
    """Worlds such as the policy was trained in.

    Args:
        trained: from `load_trained`.
        num_envs: N.
        seed: of the scenes.
        auto_reset: as in `World`.
        privileged: as in `World`.

    Raises:
        ValueError: options that World does not know, or other sensors than the policy's.
        RuntimeError: the renderer does not work on this machine; says what would.
    """
    options = _revive(trained)
    try:
        world = World(num_envs=num_envs, seed=seed, auto_reset=auto_reset, privileged=privileged, **options)
    except TypeError as error:
        raise InputError(f"{_whose(trained)} is described by something that is no world: {error}") from error
    try:
        trained.policy.check(world.sensors)
    except ValueError:
        world.close()
        raise
    return world


def _revive(trained: Trained) -> dict[str, Any]:
    """The options of `World` that a policy file tells in plain JSON."""
    options, whose = dict(trained.options), _whose(trained)
    known = [name for name in inspect.signature(World).parameters if name not in _OWN]
    unknown = [name for name in options if name not in known]
    if unknown:
        raise InputError(
            f"{whose} has the option {unknown[0]!r}, which this robofuse does not know; it knows {', '.join(known)}"
        )
    if isinstance(options.get("noise"), Mapping):
        options["noise"] = _part(Noise, options["noise"], f"noise of {whose}")
    timing = options.get("timing") or {}
    if not isinstance(timing, Mapping):
        raise InputError(f"timing of {whose} must be given by sensor, got {timing!r}")
    options["timing"] = {key: _part(Timing, when, f"timing of {key} of {whose}") for key, when in timing.items()}
    return options


def _part(what: type, given: Any, whose: str) -> Any:  # noqa: ANN401
    """A dataclass from its plain form; anything else as it is."""
    if not isinstance(given, Mapping):
        return given
    try:
        return what(**{name: tuple(x) if isinstance(x, list) else x for name, x in given.items()})
    except TypeError:
        known = ", ".join(field.name for field in fields(what))
        raise InputError(f"{whose} is {dict(given)}; what robofuse knows there: {known}") from None


def _whose(trained: Trained) -> str:
    return f"the world of policy {getattr(trained.policy, 'name', '')!r}"


def fingerprint(policy: object) -> str | None:
    """SHA-256 of the weights by which a policy's `network` acts, or of an exported file; None if it has neither.

    The critic does not count: files may come without it, and what is loaded then has a random one.
    """
    from robofuse.policies.packing import CRITIC

    if isinstance(exported := getattr(policy, "digest", None), str):
        return exported
    network = getattr(policy, "network", None)
    if not isinstance(network, nn.Module):
        return None
    digest = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        if name.startswith(CRITIC):
            continue
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
