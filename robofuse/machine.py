"""What a result was obtained on: hardware and versions."""

import os
import platform
from importlib import metadata
from pathlib import Path
from typing import TypedDict

from robofuse.envs.cores import usable_cores

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


class Machine(TypedDict):
    """One computer."""

    system: str
    cpu: str
    cores: int
    memory_gib: float


def describe_machine() -> Machine:
    """Of this computer: system, processor, cores this process may use, memory."""
    return Machine(
        system=platform.platform(),
        cpu=_cpu(),
        cores=usable_cores(),
        memory_gib=round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
    )


def package_versions() -> dict[str, str | None]:
    """Package → version, None where it is not installed."""
    return {package: _version(package) for package in PACKAGES}


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
