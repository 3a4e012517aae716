"""Tries each renderer in a process of its own, because a driver may abort or hang the process that loads it."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import NamedTuple, TypedDict

PROGRAM = ("-m", "robofuse.envs.probe")


class Probe(NamedTuple):
    """One way to draw, tried in a process of its own."""

    renderer: str
    variant: str
    env: dict[str, str]
    advice: str
    timeout_s: float = 60.0


class Outcome(TypedDict):
    """What a probe found. `ms_per_frame` is for one 64×64 frame of colour and depth on one thread."""

    renderer: str
    variant: str
    works: bool
    ms_per_frame: float | None
    reason: str
    advice: str


def probes() -> Iterator[Probe]:
    """Yields what is worth trying on this machine."""
    # The first run compiles the ray tracer, which may take minutes on a slow machine.
    yield Probe("warp", "cpu", {"CUDA_VISIBLE_DEVICES": ""}, "pip install mujoco-warp", timeout_s=300.0)
    yield Probe(
        "gl",
        "osmesa",
        {"MUJOCO_GL": "osmesa"},
        "apt-get install libosmesa6 (where there is none any more: use egl)",
    )
    yield Probe("gl", "egl", {"MUJOCO_GL": "egl"}, "apt-get install libegl1 libegl-mesa0 libgl1")
    if os.environ.get("DISPLAY"):
        yield Probe("gl", "glfw", {"MUJOCO_GL": "glfw"}, "apt-get install libgl1; needs an X display")


def run_probe(probe: Probe) -> Outcome:
    """Tries one renderer, whatever it may do to its process.

    Args:
        probe: What to try.

    Returns:
        What came of it; never raises for a renderer that fails.
    """
    command = [sys.executable, *PROGRAM, probe.renderer]
    # MuJoCo and PyOpenGL each read a variable of their own; a stray one would decide for the probe.
    env = {k: v for k, v in os.environ.items() if k not in ("MUJOCO_GL", "PYOPENGL_PLATFORM")} | probe.env
    ms_per_frame, reason = None, ""
    try:
        done = subprocess.run(
            command, env=env, capture_output=True, text=True, errors="replace", timeout=probe.timeout_s, check=False
        )
    except subprocess.TimeoutExpired:
        reason = f"no answer within {probe.timeout_s:g} s"
    else:
        try:
            ms_per_frame = float(json.loads(done.stdout.splitlines()[-1])["ms_per_frame"])
        except (IndexError, KeyError, ValueError):
            reason = _reason(done.returncode, done.stderr)
    return Outcome(
        renderer=probe.renderer,
        variant=probe.variant,
        works=ms_per_frame is not None,
        ms_per_frame=ms_per_frame,
        reason=reason,
        advice=probe.advice if ms_per_frame is None else "",
    )


def _reason(returncode: int, stderr: str) -> str:
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    parts = lines[-1:] or ["it said nothing"]
    if returncode < 0:
        known = -returncode in signal.valid_signals()
        parts.insert(0, f"killed by {signal.Signals(-returncode).name if known else f'signal {-returncode}'}")
    return ": ".join(parts)


def cuda_devices() -> list[str]:
    """Names of the CUDA devices that torch sees, or one entry that says why asking failed; in a subprocess as well."""
    program = "import torch; [print(torch.cuda.get_device_name(i)) for i in range(torch.cuda.device_count())]"
    command = [sys.executable, "-c", program]
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=120.0, check=False)
    except subprocess.TimeoutExpired:
        return ["no answer within 120 s"]
    return done.stdout.split("\n")[:-1] if done.returncode == 0 else [_reason(done.returncode, done.stderr)]
