"""`robofuse doctor`: this machine's hardware, packages and renderers; and `robofuse list`: the names of everything."""

import os
import platform
import signal
import subprocess
import sys
from collections.abc import Iterable, Mapping
from dataclasses import fields
from importlib import metadata
from json import dumps, loads
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import tyro
from packaging.requirements import Requirement
from rich.console import Console
from rich.table import Table

from robofuse import __version__, registration, sensors
from robofuse.checks import usable_cores

PACKAGES = (
    "torch",
    "mujoco",
    "mujoco-warp",
    "warp-lang",
    "gymnasium",
    "stable-baselines3",
    "numpy",
    "opencv-python",
    "PyOpenGL",
)
PROBE = ("-m", "robofuse.envs.rendering.probe")  # the program that tries a renderer


def describe_machine() -> dict[str, Any]:
    """System, processor, cores this process may use and memory of this computer."""
    return {
        "system": platform.platform(),
        "cpu": _cpu(),
        "cores": usable_cores(),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
    }


def package_versions() -> dict[str, str | None]:
    """Package → version, None where it is not installed."""
    return {package: _version(package) for package in PACKAGES}


def unmet_requirements() -> list[str]:
    """Required packages that are missing, and installed ones that are too old or too new; a sentence for each."""
    try:
        lines = metadata.requires("robofuse") or []
    except metadata.PackageNotFoundError:  # run from a checkout that was never installed
        return []
    unmet = []
    for requirement in map(Requirement, lines):
        installed = _version(requirement.name)
        optional = requirement.marker is not None and not requirement.marker.evaluate({"extra": ""})
        if installed is None and optional or installed and requirement.specifier.contains(installed, prereleases=True):
            continue
        found = f"{requirement.name} {installed} is installed" if installed else f"{requirement.name} is missing"
        wanted = f"{requirement.name}{requirement.specifier}"
        unmet.append(f"{found}, but robofuse needs {wanted}; pip install '{wanted}'")
    return list(dict.fromkeys(unmet))


def gl_problem() -> str:
    """Why the gl renderer does not work on this machine; empty if it does."""
    from robofuse.envs import World

    try:
        World("Reach", 1, renderer="gl", image_size=32).close()
    except RuntimeError as error:
        return str(error)
    return ""


class Probe(NamedTuple):
    """One way to draw.

    Attributes:
        renderer: name of the renderer.
        variant: of the renderer.
        env: environment variables that choose the variant.
        advice: what to try if it does not work.
        timeout_s: seconds until it counts as hanging.
    """

    renderer: str
    variant: str
    env: dict[str, str]
    advice: str
    timeout_s: float = 60.0


def probes() -> list[Probe]:
    """All ways to draw that are worth trying on this machine."""
    mesa = "apt-get install libosmesa6 (where there is none any more: use egl)"
    found = [
        # the first run compiles the ray tracer, which may take minutes on a slow machine
        Probe("warp", "cpu", {"CUDA_VISIBLE_DEVICES": ""}, "pip install mujoco-warp", timeout_s=300.0),
        Probe("gl", "osmesa", {"MUJOCO_GL": "osmesa"}, mesa),
        Probe("gl", "egl", {"MUJOCO_GL": "egl"}, "apt-get install libegl1 libegl-mesa0 libgl1"),
    ]
    if os.environ.get("DISPLAY"):
        found.append(Probe("gl", "glfw", {"MUJOCO_GL": "glfw"}, "apt-get install libgl1; needs an X display"))
    return found


def run_probe(probe: Probe) -> dict[str, Any]:
    """Try one way to draw in a process of its own, as a driver may abort or hang the process that loads it.

    Returns:
        What `doctor --json` prints of it; `ms_per_frame` is for one 64×64 frame of colour and depth on one thread.
    """
    # MuJoCo and PyOpenGL each read a variable of their own; one of the user's would decide for the probe
    env = {k: v for k, v in os.environ.items() if k not in ("MUJOCO_GL", "PYOPENGL_PLATFORM")} | probe.env
    output, reason = _ask([*PROBE, probe.renderer], probe.timeout_s, env)
    try:  # some drivers die after they have drawn
        speed, reason = float(loads(output.splitlines()[-1])["ms_per_frame"]), ""
    except (IndexError, KeyError, ValueError):
        speed, reason = None, reason or "it said nothing"
    return {
        "renderer": probe.renderer,
        "variant": probe.variant,
        "works": speed is not None,
        "ms_per_frame": speed,
        "reason": reason,
        "advice": probe.advice if speed is None else "",
    }


def _ask(arguments: list[str], timeout_s: float, env: Mapping[str, str] | None = None) -> tuple[str, str]:
    """Run Python; what it printed, and why it failed or an empty string."""
    command = [sys.executable, *arguments]
    try:
        done = subprocess.run(
            command, env=env, capture_output=True, text=True, errors="replace", timeout=timeout_s, check=False
        )
    except subprocess.TimeoutExpired:
        return "", f"no answer within {timeout_s:g} s"
    if done.returncode == 0:
        return done.stdout, ""
    lines = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    reason = lines[-1] if lines else "it said nothing"
    if done.returncode < 0:
        known = -done.returncode in signal.valid_signals()
        name = signal.Signals(-done.returncode).name if known else f"signal {-done.returncode}"
        reason = f"killed by {name}: {reason}"
    return done.stdout, reason


_ASK_CUDA = """
import json, torch, warp
warp.config.log_level = warp.LOG_ERROR
warp.init()
version = lambda pair: pair and f"{pair[0]}.{pair[1]}"
print(json.dumps({
    "devices": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
    "torch": torch.version.cuda,
    "driver": version(warp.get_cuda_driver_version()),
    "warp": version(warp.get_cuda_toolkit_version()),
}))
"""


def examine_cuda() -> dict[str, Any]:
    """What torch and Warp can do with GPUs here; asked in a process of its own, as a driver may abort it.

    Returns:
        `devices` (names that torch sees), CUDA versions `torch` (that it is built for), `driver` (the newest that it
        runs) and `warp`, each None if there is none, and `advice`, empty if there is nothing to do.
    """
    output, reason = _ask(["-c", _ASK_CUDA], 120.0)
    if reason:
        return {"devices": [], "torch": None, "driver": None, "warp": None, "advice": reason}
    found = loads(output.splitlines()[-1])
    return found | {"advice": cuda_advice(found)}


def cuda_advice(found: Mapping[str, Any]) -> str:
    """What to do for a GPU to be of use, given what `examine_cuda` found; empty if it is."""
    built, driver = found["torch"], found["driver"]
    if driver is None:
        missing = "no NVIDIA driver was found (nvidia-smi shows it)"
        return missing if built else f"{missing}, and this torch is built without CUDA"
    if built is None:
        return f"this torch is built without CUDA; install one for CUDA up to {driver} (pytorch.org/get-started)"
    if _numbers(driver)[0] < _numbers(built)[0]:
        return f"the driver runs CUDA up to {driver}, torch needs {built}: update the driver, or install an older torch"
    if not found["devices"]:
        return "torch sees no device (CUDA_VISIBLE_DEVICES?)"
    if _numbers(driver) < (12, 4):
        return f"the driver runs CUDA up to {driver}; mujoco_warp's graphs need 12.4: update it"
    return ""


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split("."))


def run_doctor(json: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False) -> int:
    """Examine this machine, which takes some seconds per renderer, and print what was found.

    Args:
        json: Print one JSON object instead of tables.

    Returns:
        Exit status: 0 if at least one renderer works and all packages are as required, else 1.
    """
    found = {
        "robofuse": __version__,
        "python": platform.python_version(),
        **describe_machine(),
        "cuda": examine_cuda(),
        "display": bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")),
        "packages": package_versions(),
        "unmet": unmet_requirements(),
        "renderers": [run_probe(probe) for probe in probes()],
    }
    if json:
        print(dumps(found, indent=2))
    else:
        _print_examination(found)
    return 0 if any(outcome["works"] for outcome in found["renderers"]) and not found["unmet"] else 1


def _print_examination(found: Mapping[str, Any]) -> None:
    machine = Table(show_header=False, box=None, pad_edge=False)
    for label in ("robofuse", "python", "system", "cpu", "cores"):
        machine.add_row(label, str(found[label]))
    machine.add_row("memory", f"{found['memory_gib']} GiB")
    cuda = found["cuda"]
    versions = ", ".join(f"{name} {cuda[name]}" for name in ("torch", "driver", "warp") if cuda[name])
    devices = f"{', '.join(cuda['devices'])} (CUDA of {versions})" if cuda["devices"] else "none"
    machine.add_row("cuda", f"{devices}: {cuda['advice']}" if cuda["advice"] else devices)
    machine.add_row("display", "yes" if found["display"] else "none")
    for package, version in found["packages"].items():
        machine.add_row(package, version or "missing")
    rows = []
    for outcome in found["renderers"]:
        speed = "" if outcome["ms_per_frame"] is None else f"{outcome['ms_per_frame']:.2f}"
        trouble = "" if outcome["works"] else f"{outcome['reason'].rstrip('.')}. Try: {outcome['advice']}"
        rows.append((outcome["renderer"], outcome["variant"], "yes" if outcome["works"] else "no", speed, trouble))
    renderers = _table("Renderers", ("renderer", "variant", "works", "ms a frame", "if not"), rows)
    console = Console(markup=False, highlight=False)
    console.print(machine, "", renderers, "", "A frame is 64×64 pixels of colour and depth, on one thread.", sep="\n")
    for problem in found["unmet"]:
        console.print(f"\n{problem}", soft_wrap=True)


def print_listing() -> None:
    """Print tasks, robots, sensors, cameras, renderers, faults, encoders, fusions and regularisers."""
    from robofuse.faults.base import EVERY_KIND
    from robofuse.faults.catalogue import everything  # brings torch
    from robofuse.policies import ENCODERS, FUSIONS
    from robofuse.policies.regularisers import REGULARISERS

    names = ("name", "what it is")
    faults = []
    for fault in everything():
        kinds = "any" if fault.kinds == EVERY_KIND else ", ".join(fault.kinds)
        does = _does(fault)
        ranges = {one.name: one.metadata.get("range") for one in fields(fault)[1:]}
        numbers = [f"{name} {ends[0]:g} to {ends[1]:g}" if ends else name for name, ends in ranges.items()]
        faults.append((fault.name, kinds, does, ", ".join(numbers)))
    tables = (
        _table("Tasks", names, registration.TASKS.items()),
        _table("Robots", names, registration.ROBOTS.items()),
        _table("Sensors", ("key", "kind", "shape", "dtype", "unit"), sensors.describe()),
        _table("Cameras", names, registration.CAMERAS.items()),
        _table("Renderers", names, registration.RENDERERS.items()),
        _table("Faults", ("name", "of", "what happens", "numbers"), faults),
        *(
            _table(title, ("name", "what it does"), ((name, _does(make)) for name, make in found.items()))
            for title, found in (("Encoders", ENCODERS), ("Fusions", FUSIONS), ("Regularisers", REGULARISERS))
        ),
    )
    console = Console(markup=False)
    for table in tables:
        console.print(table)
        console.print()


def _does(what: object) -> str:
    """The first paragraph of a docstring."""
    return " ".join((what.__doc__ or "").partition("\n\n")[0].split())


def _table(title: str, columns: Iterable[str], rows: Iterable[Iterable[object]]) -> Table:
    table = Table(*columns, title=title, title_justify="left", box=None, pad_edge=False)
    # names are there to be copied: let the other columns wrap
    table.columns[0].no_wrap = True
    table.columns[0].style = "bold"
    for row in rows:
        table.add_row(*(str(cell) for cell in row))
    return table


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
