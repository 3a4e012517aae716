"""Reads MJCF files of users, checks that the names needed are there, and adds them to a scene."""

from collections.abc import Sequence
from pathlib import Path

import mujoco
import numpy as np

from robofuse.errors import InputError

# kind, as users write it → where MjSpec lists them
_LISTS = {
    "body": "bodies",
    "joint": "joints",
    "geom": "geoms",
    "site": "sites",
    "sensor": "sensors",
    "actuator": "actuators",
}


def read_mjcf(mjcf: str | Path, whose: str) -> mujoco.MjSpec:
    """A fresh spec, without keyframes: poses of a model that it is only a part of.

    Args:
        mjcf: path of a file, or the MJCF itself (a string that starts with `<`).
        whose: what the message calls it.

    Raises:
        InputError: no such file, or MuJoCo cannot read it; the message gives MuJoCo's reason.
    """
    text = str(mjcf)
    inline = text.lstrip().startswith("<")
    if not inline and not Path(text).expanduser().is_file():
        raise InputError(f"{whose}: there is no MJCF file {text}; give a path, or the MJCF itself, from <mujoco> on")
    try:
        spec = mujoco.MjSpec.from_string(text) if inline else mujoco.MjSpec.from_file(str(Path(text).expanduser()))
    except ValueError as error:
        raise InputError(f"{whose}: MuJoCo cannot read its MJCF: {error}") from None
    for key in list(spec.keys):
        spec.delete(key)
    return spec


def require(spec: mujoco.MjSpec, whose: str, **names: Sequence[str]) -> None:
    """Checks that a spec has the parts that are needed.

    Args:
        spec: as read.
        whose: what the message calls it.
        **names: by kind (body, joint, geom, site, sensor, actuator).

    Raises:
        InputError: one is missing; lists what there is of its kind.
    """
    for kind, wanted in names.items():
        if kind not in _LISTS:
            raise InputError(f"unknown kind {kind!r} of a part of an MJCF; kinds: {', '.join(_LISTS)}")
        present = [part.name for part in getattr(spec, _LISTS[kind]) if part.name]
        for name in (wanted,) if isinstance(wanted, str) else wanted:
            if name not in present:
                there = ", ".join(present) or "none has a name"
                raise InputError(f"{whose}: its MJCF has no {kind} {name!r}; {_LISTS[kind]}: {there}")


def compiled(spec: mujoco.MjSpec, whose: str) -> mujoco.MjModel:
    """Compile a spec; InputError with MuJoCo's reason if that fails."""
    try:
        return spec.compile()
    except ValueError as error:
        raise InputError(f"{whose}: MuJoCo cannot compile it: {error}") from None


def attach(
    spec: mujoco.MjSpec,
    mjcf: str | Path,
    at: np.ndarray | Sequence[float] = (0.0, 0.0, 0.0),
    prefix: str = "scene/",
    **needs: Sequence[str],
) -> None:
    """Adds an MJCF to a scene, for `Task.add_objects`; its `<option>` and `<visual>` do not come along.

    Args:
        spec: the scene with table and robot.
        mjcf: path of a file, or the MJCF itself.
        at: (3,) where its origin goes, in the world frame [m]: the middle of the workspace, say.
        prefix: of all its names, so that they do not clash with the robot's or another scene's.
        **needs: by kind (body, joint, geom, site, sensor, actuator), names, as in the file, that the task looks up.

    Raises:
        InputError: it cannot be read, or one of the names is missing; lists what there is.
    """
    whose = f"scene {prefix.rstrip('/')!r}"
    own = read_mjcf(mjcf, whose)
    require(own, whose, **needs)
    spec.attach(own, prefix=prefix, frame=spec.worldbody.add_frame(pos=np.asarray(at, dtype=float)))
