"""What `robofuse export` does."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console
from rich.table import Table

from robofuse.errors import InputError
from robofuse.export.make import Exported, exported
from robofuse.files import write_atomic
from robofuse.policies import Policy, load

SUFFIX = ".onnx"


@dataclass(frozen=True)
class Export:
    """Which policy to export.

    Attributes:
        policy: A policy that comes along, a policy file, or a training's folder.
        out: File to write, by default NAME.onnx.
    """

    policy: Annotated[str, tyro.conf.Positional]
    out: Path | None = None


def export(policy: str | Path | Policy, out: str | Path | None = None) -> Path:
    """Write a policy as ONNX, for `robofuse.deploy`, or any other runtime: see `robofuse.export.graph`.

    The file's properties (`metadata_props`) are JSON: `robofuse.sensors` (shapes, dtypes, units, scales, rates),
    `robofuse.action`, `robofuse.world` (cameras, renderer), `robofuse.card` (how it was trained). If the policy has a
    memory, `robofuse.memory` has `frames` and `size`: its inputs are stacks and `freshness` (`robofuse.memory.Stack`),
    or it also reads `robofuse:memory`; `robofuse.deploy` takes single readings and sees to that. Actions are the
    deterministic ones, within their bounds, in float32 whatever precision the policy was trained in.

    Args:
        policy: as for `robofuse.policies.load`, or what that returned.
        out: file to write, something.onnx; by default the policy's name, in the present folder.

    Returns:
        The path. Whatever happens, it holds the old file or the new one.

    Raises:
        ValueError: no such policy; encoders or fusions of your own; another suffix than .onnx.
        RuntimeError: onnx or onnxruntime is not installed, or ONNX's actions are not torch's to 1e-4.
    """
    return _export(policy, out)[0]


def run_export(config: Export) -> int:
    """Exports, prints what the file takes; the command line's exit status."""
    path, made = _export(config.policy, config.out)
    deployed = made.deployed
    table = Table("input", "dtype", "shape", "unit", "hidden when older than", box=None, pad_edge=False)
    for sensor in deployed.sensors:
        timeout = deployed.timeouts[sensor.key]
        stale = "you must say (timeouts)" if timeout is None else f"{timeout:.3g} s"
        if sensor.key in deployed.required:
            stale += ", then it refuses to act"
        table.add_row(sensor.key, sensor.dtype, str((1, *sensor.shape)), sensor.unit, stale)
    table.add_row("available", "int8", str((1, len(deployed.sensors))), "1 = delivering", "")
    console = Console(markup=False, highlight=False, soft_wrap=True)
    console.print(table)
    if deployed.remembers:
        console.print("it remembers: robofuse.deploy makes the inputs of the graph of these readings")
    console.print(f"{path}, {len(made.data) / 1e6:.2f} MB: its actions differ from torch's by {made.difference:.1e}")
    return 0


def _export(policy: str | Path | Policy, out: str | Path | None) -> tuple[Path, Exported]:
    if not isinstance(policy, Policy):
        policy = load(policy, device="cpu")
    path = Path(out if out is not None else f"{policy.name}{SUFFIX}").expanduser()
    if path.suffix != SUFFIX or path.is_dir():  # the policy's own file is none, and is not written over
        raise InputError(f"what is exported goes into a file {SUFFIX}, not into {str(path)!r}")
    made = exported(policy)
    return write_atomic(path, made.data), made
