"""Policy files: a network, the sensors it reads and how it was trained, without any code.

A file is one `.safetensors`: weights, and beside them JSON. Nothing in it is ever unpickled or imported, so a file
from a stranger can at worst act badly.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from robofuse.errors import InputError
from robofuse.files import read_tensors, write_tensors
from robofuse.policies.actor_critic import FusionActorCriticPolicy
from robofuse.policies.packing import pack, unpack
from robofuse.policies.policy import Policy

__all__ = ["Policy", "load", "locate", "pack", "save", "unpack", "zoo"]

ZOO = Path(__file__).parent / "zoo"


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

    Raises:
        ValueError: weights that are not finite, or a network with parts that a file without code cannot describe.
    """
    tensors, meta = pack(policy, strip_critic)
    return write_tensors(path, tensors, {**meta, "world": dict(world or {}), "card": dict(card or {})})


def load(name: str | Path, device: str | torch.device = "auto") -> Policy:
    """Load a policy.

    Args:
        name: of a policy that comes with robofuse, see `zoo`; or the path of a policy file, of a training's
            checkpoint, or of its folder, which stands for the best policy in it.
        device: of the network: auto (CUDA if there is any), cpu, cuda, …

    Returns:
        The policy, ready to act, with the world it was trained in and its card.

    Raises:
        ValueError: no such policy, or not a policy file; the message says what there is.
    """
    path = locate(str(name))
    tensors, meta = read_tensors(path)
    for what in ("world", "card"):
        if not isinstance(meta.get(what) or {}, Mapping):
            raise InputError(f"{path} does not describe a policy: its {what} is {meta[what]!r}")
    network = unpack(path, tensors, meta)
    return Policy(
        network.to(_device(device)), str(name) if path.parent == ZOO else path.stem, meta.get("world"), meta.get("card")
    )


def zoo() -> list[str]:
    """Names of the policies that come with robofuse."""
    return sorted(path.stem for path in ZOO.glob("*.safetensors"))


def locate(name: str) -> Path:
    """The file that `load` reads; ValueError if there is none."""
    if name in zoo():
        return ZOO / f"{name}.safetensors"
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
        "of a training's folder"
    )


def _device(device: str | torch.device) -> torch.device:
    if str(device) == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return check_device(device)


def check_device(device: str | torch.device) -> torch.device:
    """A device that torch can use here; ValueError says what there is."""
    try:
        chosen = torch.device(device)
    except RuntimeError:
        raise InputError(f"unknown device {str(device)!r}; devices: auto, cpu, cuda, cuda:0, …") from None
    if chosen.type == "cuda" and not torch.cuda.is_available():
        raise InputError("torch sees no CUDA device here; use device cpu or auto")
    if chosen.type == "cuda" and (chosen.index or 0) >= torch.cuda.device_count():
        raise InputError(f"there is no device {chosen}; torch sees cuda:0 to cuda:{torch.cuda.device_count() - 1}")
    if chosen.type not in ("cpu", "cuda"):
        raise InputError(f"unknown device {str(device)!r}; devices: auto, cpu, cuda, cuda:0, …")
    return chosen
