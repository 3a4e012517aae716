"""Whether demonstrations are of the worlds that somebody wants to use them in."""

from collections.abc import Mapping
from typing import Any

from robofuse.demos.reader import Demonstrations
from robofuse.envs import World
from robofuse.errors import InputError
from robofuse.sensors import PRIVILEGED, TRUTH


def check_fits(demos: Demonstrations, world: World, options: Mapping[str, Any]) -> None:
    """Whether demonstrations have what these worlds observe and do.

    They may have more sensors. `truth` is found in `privileged`, if that was recorded. The renderer may differ.

    Args:
        demos: of `read`.
        world: the worlds.
        options: what a policy file would say of them.

    Raises:
        ValueError: another task or robot, a sensor that is missing or another, another camera, other actions.
    """
    told, where = demos.about.get("world") or {}, f"the demonstrations in {demos.folder}"
    for what in ("task", "robot"):
        if told.get(what, options[what]) != options[what]:
            raise InputError(f"{where} are of the {what} {told[what]}; this training is of {options[what]}")
    theirs = {sensor.key: sensor for sensor in demos.sensors}
    for ours in world.sensors:
        if ours.key == TRUTH and all(PRIVILEGED in episode.observation for episode in demos.episodes):
            theirs.setdefault(TRUTH, ours)
        if ours.key not in theirs:
            raise InputError(f"{where} have no sensor {ours.key!r}; they have {', '.join(theirs)}")
        other = theirs[ours.key]
        for what in ("kind", "shape", "dtype", "scale", "rate", "latency", "sample_rate"):
            if getattr(other, what) != getattr(ours, what):
                raise InputError(
                    f"{where} have a sensor {ours.key!r} of {what} {getattr(other, what)}; in this training it is "
                    f"{getattr(ours, what)}"
                )
    pictures = any(sensor.kind in ("rgb", "depth") for sensor in world.sensors)
    cameras = {camera["name"]: camera for camera in told.get("cameras") or () if isinstance(camera, Mapping)}
    for camera in options["cameras"] if pictures else ():
        if cameras.get(camera["name"], camera) != camera:
            raise InputError(f"{where} see through {cameras[camera['name']]}; this training sees through {camera}")
    for episode in demos.episodes[:1]:
        known = len(episode.observation[PRIVILEGED][0]) if PRIVILEGED in episode.observation else None
        if known not in (None, len(world.privileged_names)):
            raise InputError(f"{where} have {known} numbers of truth, these worlds {len(world.privileged_names)}")
    if len(demos.actions) != (world.action_space.shape or (0,))[0]:
        raise InputError(
            f"{where} have actions {', '.join(demos.actions)}; these worlds take {world.action_space.shape}"
        )
