"""Every fault by name and kind of sensor."""

from typing import TypeVar

from robofuse.errors import InputError
from robofuse.faults import camera, common, depth, force, proprio
from robofuse.faults.base import EVERY_KIND, Fault
from robofuse.sensors import Kind

F = TypeVar("F", bound=type[Fault])
_CATALOGUE: dict[tuple[str, Kind], type[Fault]] = {}


def register(fault: F) -> F:
    """Makes a fault known to plans by its name; also a decorator. InputError if another fault has the name."""
    if not fault.name.isidentifier():
        raise InputError(f"{fault.__name__} needs a name of letters and digits, got {fault.name!r}")
    for kind in fault.kinds:
        known = _CATALOGUE.get((fault.name, kind), fault)
        if kind not in EVERY_KIND or (known.__module__, known.__qualname__) != (fault.__module__, fault.__qualname__):
            raise InputError(
                f"{fault.name!r} for {kind} is already {known.__name__}, or there is no such kind of sensor"
            )
    _CATALOGUE.update({(fault.name, kind): fault for kind in fault.kinds})
    return fault


def everything() -> list[type[Fault]]:
    """All faults, each once, in the order in which they were registered."""
    return list(dict.fromkeys(_CATALOGUE.values()))


def faults_for(kind: Kind) -> dict[str, type[Fault]]:
    """The faults that a kind of sensor can have, by name."""
    return {name: fault for (name, other), fault in _CATALOGUE.items() if other == kind}


def find_fault(name: str, kind: Kind) -> type[Fault]:
    """The class of a fault, by its name in plans and the kind of sensor. InputError lists the faults that there are."""
    known = faults_for(kind)
    if name not in known:
        raise InputError(f"unknown fault {name!r} for a sensor of kind {kind}; faults: {', '.join(sorted(known))}")
    return known[name]


for _fault in (
    *(common.Blackout, common.Intermittent, common.Freeze, common.Latency, common.Jitter, common.Slow),
    *(common.NotANumber, common.Infinite, common.Stale),
    camera.Knocked,
    *(camera.Gaussian, camera.Shot, camera.MotionBlur, camera.Defocus, camera.Exposure, camera.Underexposure),
    *(camera.Glare, camera.Occlusion, camera.MovingOcclusion, camera.DeadPixels, camera.DeadLines),
    *(camera.ColourCast, camera.Compression),
    *(depth.Holes, depth.RangeNoise, depth.Coarse, depth.CutOff, depth.FlyingPixels, depth.ScaleError),
    *(proprio.Offset, proprio.EncoderDrift, proprio.Stuck, proprio.EncoderNoise, proprio.Coarse),
    *(force.Bias, force.ForceDrift, force.Saturation, force.Gain, force.CrossTalk, force.Spikes, force.DeadAxis),
):
    register(_fault)
