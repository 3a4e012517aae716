"""Files of a run: checkpoints, which hold all that a training needs to go on, and its best policy."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from robofuse.errors import InputError
from robofuse.files import UnreadableHere, read_tensors, write_atomic, write_tensors
from robofuse.policies import FusionPPO
from robofuse.policies.saving import check_weights, pack
from robofuse.train.config import Train
from robofuse.train.resume import NOT_LEARNED, describe_changes, fixed_options

BEST, LATEST, FINAL = "best.safetensors", "latest.safetensors", "final.safetensors"
_KEPT = 2  # checkpoints, so that one is whole, whatever happens to the other
_BEFORE = ".best-before.safetensors"  # the best as of the last checkpoint, while a better one is newer than that


class TrainState(NamedTuple):
    """How far a training has come.

    Attributes:
        step: control steps done.
        updates: updates done.
        episode: the number of the episode that world 0 starts next; the others follow.
        seconds: time spent on training, without validation.
        validation_seconds: time spent on validation.
    """

    step: int = 0
    updates: int = 0
    episode: int = 0
    seconds: float = 0.0
    validation_seconds: float = 0.0


def write_checkpoint(folder: Path, model: FusionPPO, state: TrainState, about: dict[str, Any]) -> Path:
    """Write a checkpoint and delete old ones.

    Args:
        folder: of the run.
        model: between two updates.
        state: how far it has come.
        about: `world` and `card`, so that a checkpoint is a policy file too.

    Raises:
        InputError: it cannot be written, as on a full disk.
    """
    policy, meta = pack(model.policy)
    tensors: dict[str, Tensor] = {f"policy/{name}": x for name, x in policy.items()}
    for name, parameter in model.policy.named_parameters():
        for key, x in model.policy.optimizer.state.get(parameter, {}).items():
            tensors[f"optimizer/{name}/{key}"] = torch.as_tensor(x)
    tensors["random/cpu"] = torch.get_rng_state()
    if model.device.type == "cuda":
        tensors["random/cuda"] = torch.cuda.get_rng_state(model.device)
    recent = {
        "episodes": [[float(one["r"]), int(one["l"])] for one in model.ep_info_buffer or ()],
        "successes": [bool(success) for success in model.ep_success_buffer or ()],
    }
    training = {**state._asdict(), "sb3_updates": model._n_updates, "recent": recent}
    path = folder / f"checkpoint-{state.step:010d}.safetensors"
    write_tensors(path, tensors, {**meta, **about, "kind": "checkpoint", "training": training})
    for old in _checkpoints(folder)[_KEPT:]:
        old.unlink()
    return path


def find_checkpoint(folder: Path) -> tuple[dict[str, Tensor], dict[str, Any], list[str]] | None:
    """The tensors and meta data of the newest checkpoint that can be read, and what is wrong with newer ones.

    None if there is no checkpoint at all. Newer ones that are damaged are renamed, to `.broken` at the end.

    Raises:
        InputError: there are some, but none can be read; or the newest is of a newer robofuse, or the machine fails.
    """
    broken: list[str] = []
    for path in _checkpoints(folder):
        try:
            tensors, meta = read_tensors(path)
            TrainState(**{name: meta["training"][name] for name in TrainState._fields})
        except UnreadableHere:
            raise  # it may be whole: going on from an older one would be a step back
        except ValueError as error:
            broken.append(str(error))
        except (KeyError, TypeError):
            broken.append(f"{path} is no checkpoint of a training")
        else:
            for newer in _checkpoints(folder)[: len(broken)]:
                set_aside(newer)  # else it would count as one of those kept
            return tensors, meta, broken
    if broken:
        raise InputError(f"no checkpoint in {folder} can be read: {'; '.join(broken)}")
    return None


def check_origin(meta: Mapping[str, Any], now: Train, world: Mapping[str, Any]) -> None:
    """Checks that a checkpoint is of a training with these options, and of these cameras.

    Args:
        meta: of the checkpoint.
        now: the options.
        world: options of the world as they would be saved with a policy now.

    Raises:
        InputError: names what is different.
    """
    plain = (meta.get("card") or {}).get("options") or {}
    old = {name: x for part in plain.values() if isinstance(part, Mapping) for name, x in part.items()}
    old |= {name: x for name, x in plain.items() if not isinstance(x, Mapping)}
    new = {name: list(x) if isinstance(x, tuple) else x for name, x in now.items()}
    fixed = fixed_options([name for name in new if name in old and old[name] != new[name] and name not in NOT_LEARNED])
    if fixed:
        raise InputError(
            f"the checkpoint there is of a training with other options: {describe_changes(fixed, old, new)}"
        )
    before = (meta.get("world") or {}).get("cameras") or ()
    for camera, today in zip(before, world["cameras"], strict=False):
        if isinstance(camera, Mapping) and camera != today:
            raise InputError(
                f"the training saw through a camera {dict(camera)}, which is now {today}; go on with the robofuse "
                "that began it, or start a new training"
            )


def set_aside(path: Path) -> None:
    """Rename a file that cannot be read, for people to look at."""
    os.replace(path, path.with_name(f"{path.name}.broken"))


def leftover(folder: Path) -> str:
    """The name of a file in a folder that only a training can have written; empty if there is none."""
    names = ("checkpoint-*.safetensors*", BEST, LATEST, FINAL, "progress.csv", "validation.csv", "teacher/config.json")
    return next((str(path.relative_to(folder)) for name in names for path in folder.glob(name)), "")


def restore(model: FusionPPO, tensors: dict[str, Tensor], meta: dict[str, Any]) -> TrainState:
    """Puts a checkpoint into a model that was made with the same options, and torch's random numbers where they were.

    Nothing may draw random numbers between this and the first rollout.

    Raises:
        InputError: the checkpoint is of another network.
    """
    policy = {name.removeprefix("policy/"): x for name, x in tensors.items() if name.startswith("policy/")}
    expected, _ = pack(model.policy)
    try:
        check_weights(policy, expected)
    except InputError as error:
        raise InputError(
            f"the checkpoint is of another network than the options of the run describe: {error}"
        ) from None
    model.policy.load_state_dict(policy, strict=False)
    for name, parameter in model.policy.named_parameters():
        prefix = f"optimizer/{name}/"
        held = {key.removeprefix(prefix): x for key, x in tensors.items() if key.startswith(prefix)}
        if held:
            fused = bool(model.policy.optimizer.defaults.get("fused"))
            model.policy.optimizer.state[parameter] = {key: _like(x, parameter, fused) for key, x in held.items()}
    training = meta["training"]
    model.num_timesteps, model._n_updates = training["step"], training["sb3_updates"]
    assert model.ep_info_buffer is not None and model.ep_success_buffer is not None
    model.ep_info_buffer.extend({"r": r, "l": n, "t": 0.0} for r, n in training["recent"]["episodes"])
    model.ep_success_buffer.extend(training["recent"]["successes"])
    torch.set_rng_state(tensors["random/cpu"])
    if "random/cuda" in tensors and model.device.type == "cuda":
        torch.cuda.set_rng_state(tensors["random/cuda"], model.device)
    return TrainState(**{name: training[name] for name in TrainState._fields})


def recover_best(folder: Path, until: int) -> int | None:
    """Makes the file of the best policy agree with a run that goes on from a checkpoint: it is never ahead of it.

    Args:
        folder: of the run.
        until: step of the checkpoint; policies of later steps are deleted, as they may not come again.

    Returns:
        The step that the best policy is of, None if there is none.
    """
    best, before = folder / BEST, folder / _BEFORE
    step = _step_of(best)
    if step is None or step > until:
        best.unlink(missing_ok=True)
        step = _step_of(before)
        if step is None or step > until:
            step = None
        else:
            write_atomic(best, before.read_bytes())
    drop_previous_best(folder)
    return step


def keep_previous_best(folder: Path) -> None:
    """Keep a copy of the best policy until the next checkpoint; a better one is about to replace it."""
    write_atomic(folder / _BEFORE, (folder / BEST).read_bytes())


def drop_previous_best(folder: Path) -> None:
    """Delete that copy, now that there is a checkpoint of the step that the best policy is of, or of a later one."""
    (folder / _BEFORE).unlink(missing_ok=True)


def _step_of(path: Path) -> int | None:
    if not path.exists():
        return None
    try:
        return int(read_tensors(path)[1]["card"]["steps"])
    except UnreadableHere:
        raise
    except (ValueError, KeyError, TypeError):
        set_aside(path)
        return None


def _like(x: Tensor, parameter: torch.nn.Parameter, fused: bool) -> Tensor:
    """In the parameter's order of memory, as the optimiser keeps it; the number of steps is there if it is fused."""
    if x.shape != parameter.shape:
        return x.to(parameter.device) if fused else x
    return torch.empty_like(parameter, requires_grad=False).copy_(x)


def _checkpoints(folder: Path) -> list[Path]:
    """Newest first."""
    return sorted(folder.glob("checkpoint-*.safetensors"), reverse=True)
