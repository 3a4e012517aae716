"""Policy files: a network, the sensors it reads and how it was trained, without any code.

A file is one `.safetensors`: weights, and beside them JSON. Nothing in it is ever unpickled or imported, so a file
from a stranger can at worst act badly.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from torch import Tensor, nn

from robofuse.errors import InputError
from robofuse.files import read_tensors, write_tensors
from robofuse.policies.actor_critic import FusionActorCriticPolicy
from robofuse.policies.hub import HUB, download
from robofuse.policies.policy import Policy, check_network
from robofuse.policies.registry import Unregistered, registered_names
from robofuse.sensors import AVAILABLE, PRIVILEGED, Sensor
from robofuse.tensors import find_device

ZOO = Path(__file__).parent / "zoo"
_ALIASES = ("pi_features_extractor.", "vf_features_extractor.")  # SB3's further names of the one extractor
CRITIC = ("critic.", "value_net.", "return_norm.", "truth_norm.", "truth_heads.", "regularisers.")  # not needed to act
_ACTIVATIONS = {part.__name__: part for part in (nn.ELU, nn.ReLU, nn.Tanh, nn.SiLU, nn.GELU)}


def save(
    policy: FusionActorCriticPolicy,
    path: str | Path,
    world: Mapping[str, Any] | None = None,
    card: Mapping[str, Any] | None = None,
    strip_critic: bool = False,
) -> Path:
    """Write a policy file.

    Args:
        policy: the network.
        path: where, `something.safetensors`.
        world: options of the `World` it was trained in, as plain JSON, so that others can make the same one.
        card: what people should know of it, as plain JSON: how it was trained, how well it does.
        strip_critic: leave out what acting does not need: the critic and the auxiliary heads.

    Returns:
        The path.

    Raises:
        InputError: weights that are not finite, or a network with parts that a file without code cannot describe.
    """
    tensors, meta = pack(policy, strip_critic)
    return write_tensors(path, tensors, {**meta, "world": dict(world or {}), "card": dict(card or {})})


def load(name: str | Path, device: str | torch.device = "auto") -> Policy:
    """Load a policy.

    Args:
        name: of a policy that comes with robofuse, see `zoo`; or the path of a policy file, of a training's
            checkpoint, or of its folder, which stands for the best policy in it; or `hf://USER/NAME` of a hub.
        device: of the network: auto (CUDA if there is any), cpu, cuda, …

    Returns:
        The policy, ready to act, with the world it was trained in and its card.

    Raises:
        InputError: no such policy, or not a policy file; the message says what there is.
    """
    path = locate(str(name))
    tensors, meta = read_tensors(path)
    for what in ("world", "card"):
        if not isinstance(meta.get(what) or {}, Mapping):
            raise InputError(f"{path} does not describe a policy: its {what} is {meta[what]!r}")
    network = unpack(path, tensors, meta)
    return Policy(
        network.to(find_device(device)),
        str(name) if path.parent == ZOO else path.stem,
        meta.get("world"),
        meta.get("card"),
    )


def zoo() -> list[str]:
    """Names of the policies that come with robofuse."""
    return sorted(path.stem for path in ZOO.glob("*.safetensors"))


def locate(name: str) -> Path:
    """The file that `load` reads, fetched if it is on a hub; InputError if there is none."""
    if name in zoo():
        return ZOO / f"{name}.safetensors"
    if name.startswith(HUB):
        return download(name)
    path = Path(name).expanduser()
    if path.is_dir():
        for file in ("best.safetensors", "latest.safetensors"):
            if (path / file).is_file():
                return path / file
        raise InputError(f"folder {path} holds neither best.safetensors nor latest.safetensors")
    if path.is_file():
        return path
    known = ", ".join(zoo()) or "none yet"
    raise InputError(
        f"no policy {name!r}; policies that come with robofuse: {known}; else give the path of a .safetensors file or "
        "of a training's folder, or hf://USER/NAME"
    )


def pack(policy: FusionActorCriticPolicy, strip_critic: bool = False) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The weights, and in plain JSON all that `unpack` needs to build the network again; see `save`."""
    check_network(policy)
    tensors = {name: x for name, x in policy.state_dict().items() if not name.startswith(_ALIASES)}
    check_weights(tensors, tensors)
    if strip_critic:
        tensors = {name: x for name, x in tensors.items() if not name.startswith(CRITIC)}
    assert isinstance(policy.observation_space, gym.spaces.Dict)
    spaces, extractor, options = policy.observation_space.spaces, policy.features_extractor, _extractor_options(policy)
    sensors = [replace(sensor, shape=tuple(spaces[sensor.key].shape or ())) for sensor in extractor.sensors]
    for sensor in sensors:
        if not isinstance(spaces[sensor.key], gym.spaces.Box):
            raise InputError(f"{sensor.key!r} is a {type(spaces[sensor.key]).__name__}; policy files know only Box")
    if policy.activation_fn.__name__ not in _ACTIVATIONS:
        raise InputError(f"a policy file cannot describe {policy.activation_fn}; use one of {', '.join(_ACTIVATIONS)}")
    return tensors, {
        "kind": "policy",
        "sensors": [asdict(sensor) for sensor in sensors],
        "available": AVAILABLE in spaces,
        "privileged": 0 if strip_critic else policy.truth_dim,
        "critic": not strip_critic,
        "action": plain_action(policy.action_space),
        "extractor": options,
        "net_arch": list(policy.net_arch),  # pyright: ignore[reportArgumentType]
        "activation": policy.activation_fn.__name__,
        "memory": policy.memory,
        "frames": policy.frames,
        "regularisers": {} if strip_critic else policy.regularisers.weights,
        "visible": None if strip_critic or not policy.truth_dim else list(policy.visible),
    }


def unpack(path: str | Path, tensors: Mapping[str, Tensor], meta: Mapping[str, Any]) -> FusionActorCriticPolicy:
    """The network of a policy file or checkpoint, on the CPU, ready to act.

    A critic that was left out gives 0. torch's global random numbers are neither used nor moved.

    Raises:
        InputError: not a policy, or one with an encoder or fusion that is not registered; `path` is named.
    """
    if meta.get("kind") not in ("policy", "checkpoint"):
        raise InputError(f"{path} is not a policy but {meta.get('kind')!r}")
    try:
        _check_size(tensors, meta)
        with torch.random.fork_rng(devices=[]):
            network = _build(meta)
        expected = {name: x for name, x in network.state_dict().items() if not name.startswith(_ALIASES)}
        if not meta["critic"]:
            expected = {name: x for name, x in expected.items() if not name.startswith(CRITIC)}
            nn.init.zeros_(network.value_net.weight)
            nn.init.zeros_(network.value_net.bias)
        prefix = "policy/" if meta["kind"] == "checkpoint" else ""
        found = {name.removeprefix(prefix): x for name, x in tensors.items() if name.startswith(prefix)}
        check_weights(found, expected)
        network.load_state_dict(found, strict=False)
    except Unregistered as error:
        raise InputError(f"{path} holds no code, and needs some that is not registered here: {error}") from None
    except (KeyError, TypeError, ValueError, RuntimeError, AttributeError, IndexError) as error:
        first = " ".join(str(error).split())
        raise InputError(f"{path} does not describe a policy that this robofuse can build ({first})") from None
    network.set_training_mode(False)
    return network


def check_weights(tensors: Mapping[str, Tensor], like: Mapping[str, Tensor]) -> None:
    """InputError unless weights have the names, shapes and types of others, and are finite."""
    if tensors.keys() != like.keys():
        raise InputError(f"weights {min(tensors.keys() ^ like.keys())!r} are missing or too many")
    for name, x in tensors.items():
        other = like[name]
        if (x.shape, x.dtype) != (other.shape, other.dtype):
            raise InputError(f"weights {name!r} are {_plain(x)}, and should be {_plain(other)}")
        if not bool(torch.isfinite(x).all()):
            raise InputError(f"weights {name!r} hold NaN or Inf; such a policy is neither written nor read")


def _plain(x: Tensor) -> str:
    return f"{str(x.dtype).removeprefix('torch.')} {tuple(x.shape)}"


def _check_size(tensors: Mapping[str, Tensor], meta: Mapping[str, Any]) -> None:
    """InputError for sizes that the weights in the file do not have, before memory is taken for them."""
    weights = sum(x.numel() for x in tensors.values())
    widths = [int(width) for width in meta["net_arch"]]
    sizes = [int(meta["extractor"]["token_dim"]), int(meta["privileged"]), len(meta["sensors"]), *widths]
    sizes += [int(meta["memory"]) ** 2]
    sizes += [a * b for a, b in zip(widths, widths[1:], strict=False)]
    # a pixel has less than a weight: convolutions share theirs, and 64 pixels end as 8 of the last layer's inputs
    sizes += [math.prod(int(n) for n in sensor["shape"]) // 100 for sensor in meta["sensors"]]
    if any(not 0 <= size <= weights for size in sizes):
        raise InputError(f"it speaks of a network larger than its {weights:,} weights")


def _build(meta: Mapping[str, Any]) -> FusionActorCriticPolicy:
    sensors = [
        Sensor(**{**one, "shape": tuple(one["shape"]), "scale": _tuples(one["scale"])}) for one in meta["sensors"]
    ]
    options, size = dict(meta["extractor"]), int(meta["privileged"])
    spaces: dict[str, gym.Space] = {sensor.key: sensor.space() for sensor in sensors}
    if meta["available"]:
        maskable = options.get("maskable")
        spaces[AVAILABLE] = gym.spaces.MultiBinary(len(sensors if maskable is None else maskable))
    if size:
        spaces[PRIVILEGED] = gym.spaces.Box(-np.inf, np.inf, (size,), np.float32)
    if "n" in meta["action"]:
        action = gym.spaces.Discrete(int(meta["action"]["n"]))
    else:
        low, high = (np.array(meta["action"][end], np.float32) for end in ("low", "high"))
        action = gym.spaces.Box(low, high, dtype=np.float32)
    return FusionActorCriticPolicy(
        gym.spaces.Dict(spaces),
        action,
        lambda _: 0.0,
        net_arch=[int(width) for width in meta["net_arch"]],
        activation_fn=_ACTIVATIONS[meta["activation"]],
        features_extractor_kwargs={"sensors": sensors, **options},
        visible=meta["visible"],
        memory=meta["memory"],
        frames=meta["frames"],
        regularisers=meta.get("regularisers") if meta["critic"] else None,
        ortho_init=False,
    )


def _extractor_options(policy: FusionActorCriticPolicy) -> dict[str, Any]:
    given, extractor = policy.features_extractor_kwargs, policy.features_extractor
    encoders, fusion = registered_names(given.get("encoders") or {}, given.get("fusion", "concat"))
    options: dict[str, Any] = {"token_dim": extractor.mask_tokens.shape[1], "fusion": fusion}
    if encoders:
        options["encoders"] = encoders
    if extractor.masked_as != "token":
        options["masked_as"] = extractor.masked_as
    if extractor.masked_as == "estimate":
        options["estimate"] = extractor.estimate
    if extractor.adapt != "full":
        options["adapt"] = extractor.adapt
    if given.get("maskable") is not None:  # a file knows nothing of keys that are never read
        options["maskable"] = [key for key in given["maskable"] if key not in extractor.ignore]
    for name in ("mixed_precision", "live_rows_only", "encode_masked"):
        if given.get(name) is not None:
            options[name] = bool(given[name])
    return options


def plain_action(space: gym.Space) -> dict[str, Any]:
    """Plain JSON of an action space; InputError if it is neither a Box nor Discrete."""
    if isinstance(space, gym.spaces.Discrete):
        return {"n": int(space.n)}
    if isinstance(space, gym.spaces.Box):
        return {"low": space.low.tolist(), "high": space.high.tolist()}
    raise InputError(f"a policy file cannot describe actions of {type(space).__name__}; use Box or Discrete")


def _tuples(scale: Any) -> float | tuple[float, ...]:  # noqa: ANN401
    return tuple(float(x) for x in scale) if isinstance(scale, Sequence) else float(scale)
