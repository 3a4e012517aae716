"""What is there: this machine's hardware, packages and renderers (`doctor`), and the names to ask for (`list`)."""

import json
import os
import platform
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields
from importlib import metadata
from pathlib import Path
from typing import NamedTuple, TypedDict

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


class Machine(TypedDict):
    """One computer."""

    system: str
    cpu: str
    cores: int
    memory_gib: float


def describe_machine() -> Machine:
    """System, processor, cores this process may use and memory of this computer."""
    return Machine(
        system=platform.platform(),
        cpu=_cpu(),
        cores=usable_cores(),
        memory_gib=round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
    )


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
    """Tries one renderer in a process of its own, because a driver may abort or hang the process that loads it.

    Args:
        probe: What to try.

    Returns:
        What came of it; never raises for a renderer that fails.
    """
    command = [sys.executable, *PROBE, probe.renderer]
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


class Examination(Machine):
    """Everything the doctor finds; what `--json` prints."""

    robofuse: str
    python: str
    cuda: list[str]
    display: bool
    packages: dict[str, str | None]
    unmet: list[str]
    renderers: list[Outcome]


def examine() -> Examination:
    """Looks at this machine; takes some seconds a renderer."""
    return Examination(
        robofuse=__version__,
        python=platform.python_version(),
        **describe_machine(),
        cuda=cuda_devices(),
        display=bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")),
        packages=package_versions(),
        unmet=unmet_requirements(),
        renderers=[run_probe(probe) for probe in probes()],
    )


def run_doctor(as_json: bool = False) -> int:
    """Examines this machine and prints what was found.

    Args:
        as_json: Print one JSON object instead of tables.

    Returns:
        Exit status: 0 if at least one renderer works and all packages are as required, else 1.
    """
    found = examine()
    if as_json:
        print(json.dumps(found, indent=2))
    else:
        _print_examination(found, Console(markup=False, highlight=False))
    return 0 if any(outcome["works"] for outcome in found["renderers"]) and not found["unmet"] else 1


def print_listing(console: Console | None = None) -> None:
    """Prints tasks, robots, sensors, cameras, renderers and faults.

    Args:
        console: Where to print; by default standard output.
    """
    console = console or Console(markup=False)
    tables = (
        _glossary("Tasks", registration.TASKS),
        _glossary("Robots", registration.ROBOTS),
        _table("Sensors", ("key", "kind", "shape", "dtype", "unit"), sensors.describe()),
        _glossary("Cameras", registration.CAMERAS),
        _glossary("Renderers", registration.RENDERERS),
        _table("Faults", ("name", "of", "what happens", "numbers"), _faults()),
    )
    for table in tables:
        console.print(table)
        console.print()


def _print_examination(found: Examination, console: Console) -> None:
    machine = Table(show_header=False, box=None, pad_edge=False)
    for label in ("robofuse", "python", "system", "cpu", "cores"):
        machine.add_row(label, str(found[label]))
    machine.add_row("memory", f"{found['memory_gib']} GiB")
    machine.add_row("cuda", ", ".join(found["cuda"]) or "none")
    machine.add_row("display", "yes" if found["display"] else "none")
    for package, version in found["packages"].items():
        machine.add_row(package, version or "missing")
    renderers = Table(
        "renderer", "variant", "works", "ms a frame", "if not", title="Renderers", title_justify="left", box=None,
        pad_edge=False,
    )  # fmt: skip
    for outcome in found["renderers"]:
        speed = outcome["ms_per_frame"]
        trouble = "" if outcome["works"] else f"{outcome['reason'].rstrip('.')}. Try: {outcome['advice']}"
        shown = "" if speed is None else f"{speed:.2f}"
        works = "yes" if outcome["works"] else "no"
        renderers.add_row(outcome["renderer"], outcome["variant"], works, shown, trouble)
    console.print(machine, "", renderers, "", "A frame is 64×64 pixels of colour and depth, on one thread.", sep="\n")
    for problem in found["unmet"]:
        console.print(f"\n{problem}", soft_wrap=True)


def _table(title: str, columns: Iterable[str], rows: Iterable[Iterable[object]]) -> Table:
    table = Table(*columns, title=title, title_justify="left", box=None, pad_edge=False)
    # A name is there to be copied: let the other columns wrap.
    table.columns[0].no_wrap = True
    table.columns[0].style = "bold"
    for row in rows:
        table.add_row(*(str(cell) for cell in row))
    return table


def _glossary(title: str, entries: Mapping[str, str]) -> Table:
    return _table(title, ("name", "what it is"), entries.items())


def _faults() -> list[tuple[str, ...]]:
    """Rows (name, kinds of sensors, the first sentence about it, its own numbers with their ranges)."""
    from robofuse.faults.base import EVERY_KIND
    from robofuse.faults.catalogue import everything  # brings torch

    rows = []
    for fault in everything():
        kinds = "any" if fault.kinds == EVERY_KIND else ", ".join(fault.kinds)
        ranges = {one.name: one.metadata.get("range") for one in fields(fault)[1:]}
        own = [f"{name} {ends[0]:g} to {ends[1]:g}" if ends else name for name, ends in ranges.items()]
        rows.append((fault.name, kinds, " ".join((fault.__doc__ or "").partition("\n\n")[0].split()), ", ".join(own)))
    return rows


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
