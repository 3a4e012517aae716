"""What `robofuse doctor` reports: versions, hardware, and which renderers work here."""

import json
import os
import platform

from rich.console import Console
from rich.table import Table

from robofuse import __version__
from robofuse.machine import Machine, describe_machine, package_versions
from robofuse.probes import Outcome, cuda_devices, probes, run_probe


class Report(Machine):
    """Everything the doctor knows; what `--json` prints."""

    robofuse: str
    python: str
    cuda: list[str]
    display: bool
    packages: dict[str, str | None]
    renderers: list[Outcome]


def examine() -> Report:
    """Looks at this machine; takes some seconds a renderer.

    Returns:
        The report.
    """
    return Report(
        robofuse=__version__,
        python=platform.python_version(),
        **describe_machine(),
        cuda=cuda_devices(),
        display=bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")),
        packages=package_versions(),
        renderers=[run_probe(probe) for probe in probes()],
    )


def _print(report: Report, console: Console) -> None:
    machine = Table(show_header=False, box=None, pad_edge=False)
    for label in ("robofuse", "python", "system", "cpu", "cores"):
        machine.add_row(label, str(report[label]))
    machine.add_row("memory", f"{report['memory_gib']} GiB")
    machine.add_row("cuda", ", ".join(report["cuda"]) or "none")
    machine.add_row("display", "yes" if report["display"] else "none")
    for package, version in report["packages"].items():
        machine.add_row(package, version or "missing")
    renderers = Table(
        "renderer", "variant", "works", "ms a frame", "if not", title="Renderers", title_justify="left", box=None,
        pad_edge=False,
    )  # fmt: skip
    for outcome in report["renderers"]:
        speed = outcome["ms_per_frame"]
        trouble = "" if outcome["works"] else f"{outcome['reason'].rstrip('.')}. Try: {outcome['advice']}"
        shown = "" if speed is None else f"{speed:.2f}"
        works = "yes" if outcome["works"] else "no"
        renderers.add_row(outcome["renderer"], outcome["variant"], works, shown, trouble)
    console.print(machine, "", renderers, "", "A frame is 64×64 pixels of colour and depth, on one thread.", sep="\n")


def run_doctor(as_json: bool = False) -> int:
    """Examines this machine and prints what was found.

    Args:
        as_json: Print one JSON object instead of tables.

    Returns:
        Exit status: 0 if at least one renderer works, else 1.
    """
    report = examine()
    if as_json:
        print(json.dumps(report, indent=2))
    else:
        _print(report, Console(markup=False, highlight=False))
    return 0 if any(outcome["works"] for outcome in report["renderers"]) else 1
