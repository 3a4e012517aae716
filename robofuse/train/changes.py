"""What may differ between the options of a run and those it is resumed with."""

from collections.abc import Mapping
from typing import Any

from robofuse.errors import InputError
from robofuse.train.options import Train

# What may be changed when a run goes on: how it learns, and what does not matter to what it learns.
_LEARNING = "lr lr_schedule lr_final clip clip_final epochs ent_coef ent_final aux_coef vf_coef max_grad_norm target_kl"
TUNABLE = tuple(_LEARNING.split())
FREE = ("device", "threads", "validate_every")
_PLACES = ("out", "resume", "preset")


def changes(before: Train, now: Train) -> list[str]:
    """What people are told of options that were changed on resuming; ValueError for those that may not be."""
    old, new = dict(before.items()), dict(now.items())
    changed = [name for name in new if old[name] != new[name] and name not in _PLACES]
    if "steps" in changed:
        raise InputError(
            f"--steps may not change on resuming ({old['steps']:,} to {new['steps']:,}): learning rate and dropout "
            "follow it from the first step on; start a new training"
        )
    fixed = _fixed(changed)
    if fixed:
        raise InputError(
            f"a training cannot go on with these options changed: {_told(fixed, old, new)}. Those that can: "
            f"{', '.join('--' + name.replace('_', '-') for name in (*TUNABLE, *FREE))}"
        )
    return [f"--{name.replace('_', '-')} changed from {old[name]} to {new[name]}" for name in changed]


def check_origin(meta: Mapping[str, Any], now: Train, world: Mapping[str, Any]) -> None:
    """Whether a checkpoint is of a training with these options, and of these cameras; ValueError if not.

    Args:
        meta: of the checkpoint; what older ones do not tell is taken to be right.
        now: the options, settled.
        world: what a checkpoint of theirs would say of it.
    """
    plain = (meta.get("card") or {}).get("options") or {}
    old = {name: x for part in plain.values() if isinstance(part, Mapping) for name, x in part.items()}
    old |= {name: x for name, x in plain.items() if not isinstance(x, Mapping)}
    new = {name: list(x) if isinstance(x, tuple) else x for name, x in now.items()}
    fixed = _fixed([name for name in new if name in old and old[name] != new[name] and name not in _PLACES])
    if fixed:
        raise InputError(f"the checkpoint there is of a training with other options: {_told(fixed, old, new)}")
    before = (meta.get("world") or {}).get("cameras") or ()
    for camera, today in zip(before, world["cameras"], strict=False):
        if isinstance(camera, Mapping) and camera != today:
            raise InputError(
                f"the training saw through a camera {dict(camera)}, which is now {today}; go on with the robofuse "
                "that began it, or start a new training"
            )


def _fixed(changed: list[str]) -> list[str]:
    return [name for name in changed if name not in (*TUNABLE, *FREE)]


def _told(names: list[str], old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    return "; ".join(f"--{name.replace('_', '-')} was {old[name]}, now {new[name]}" for name in names)
