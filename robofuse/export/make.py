"""`robofuse export`: writes a policy as an ONNX file that describes itself, and checks that both act alike."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Annotated, Any, NamedTuple, cast

import gymnasium as gym
import numpy as np
import torch
import tyro
from rich.console import Console
from rich.table import Table
from torch import nn

from robofuse.deploy import Policy as Deployed
from robofuse.deploy.model import DIGEST, MEMORY, NO_DIGEST, PRODUCER, PROPERTIES, seal
from robofuse.errors import InputError, StateError
from robofuse.export.played import SUFFIX
from robofuse.files import write_atomic
from robofuse.memory.stack import single_sensors
from robofuse.policies import FusionActorCriticPolicy, Policy, load
from robofuse.policies.extractor import Fused
from robofuse.policies.saving import pack, unpack
from robofuse.sensors import AVAILABLE, FRESHNESS, Sensor
from robofuse.tensors import one_torch_thread

TOLERANCE = 1e-4
_MOST = 64  # masks to compare under


@dataclass(frozen=True)
class Export:
    """Which policy to export.

    Attributes:
        policy: A policy that comes with robofuse, a policy file, or a training's folder.
        out: File to write, by default NAME.onnx.
    """

    policy: Annotated[str, tyro.conf.Positional]
    out: Path | None = None


class Exported(NamedTuple):
    """A policy as ONNX.

    Attributes:
        data: contents of the file.
        deployed: the policy in onnxruntime.
        difference: the largest between its actions and torch's; see `worst_difference`.
    """

    data: bytes
    deployed: Deployed
    difference: float


def export(policy: str | Path | Policy, out: str | Path | None = None) -> Path:
    """Write a policy as ONNX, for `robofuse.deploy` or any other runtime; `robofuse.export.graph` describes the graph.

    The file's properties (`metadata_props`) are JSON: `robofuse.sensors` (shapes, dtypes, units, scales, rates),
    `robofuse.action`, `robofuse.world` (cameras, renderer), `robofuse.card` (how it was trained). If the policy has a
    memory, `robofuse.memory` has `frames` and `size`: its inputs are stacks and `freshness` (`robofuse.memory.Stack`),
    or it also reads `robofuse:memory`; `robofuse.deploy` makes these of single readings. Actions are the deterministic
    ones, within their bounds, in float32 whatever precision the policy was trained in.

    Args:
        policy: as for `robofuse.policies.load`, or what that returned.
        out: file to write, something.onnx; by default the policy's name, in the present folder.

    Returns:
        The path.

    Raises:
        InputError: no such policy; encoders or fusions of your own; another suffix than .onnx.
        StateError: onnx or onnxruntime is not installed, or ONNX's actions differ from torch's by more than 1e-4.
    """
    return _export(policy, out)[0]


def run_export(config: Export) -> int:
    """Export, and print the inputs of the graph; returns the exit status 0."""
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
    if isinstance(policy, str | Path):
        policy = load(policy, device="cpu")
    if not isinstance(policy, Policy):
        raise InputError(
            f"export takes the name or file of a policy, or robofuse.policies.Policy(agent.policy, 'name'), got a "
            f"{type(policy).__name__}"
        )
    path = Path(out if out is not None else f"{policy.name}{SUFFIX}").expanduser()
    if path.suffix != SUFFIX or path.is_dir():  # so the policy's own file is never replaced
        raise InputError(f"what is exported goes into a file {SUFFIX}, not into {str(path)!r}")
    made = exported(policy)
    return write_atomic(path, made.data), made


def exported(policy: Policy) -> Exported:
    """A policy as ONNX, in memory; errors as of `robofuse.export.export`."""
    try:
        from robofuse.export.graph import build
    except ImportError as error:
        raise StateError(
            f"export needs onnx, which cannot be imported here ({error}): pip install 'robofuse[export]'"
        ) from None
    if policy.network.features_extractor.ignore:  # without the keys that are never read, as from a file
        policy = Policy(unpack(policy.name, *pack(policy.network)), policy.name, policy.world, policy.card)
    meta = describe(policy)
    with one_torch_thread():
        always = [*meta["required"], *([FRESHNESS] if policy.frames else [])]
        model = build(policy.network, read_sensors(policy), always)
    model.producer_name = PRODUCER
    for name in (*PROPERTIES, *((MEMORY,) if MEMORY in meta else ())):
        model.metadata_props.add(key=f"{PRODUCER}.{name}", value=json.dumps(meta[name], allow_nan=False))
    model.metadata_props.add(key=DIGEST, value=NO_DIGEST)  # last, so that a file that was cut off lacks it
    data = seal(model.SerializeToString())
    deployed = Deployed(data)
    difference = worst_difference(policy, deployed)
    if not difference <= TOLERANCE:  # NaN is no agreement
        raise StateError(
            f"ONNX's actions differ from torch's by {difference:.1e}, more than {TOLERANCE:g}: this policy cannot be "
            "exported; please report it with its file"
        )
    return Exported(data, deployed, difference)


def read_sensors(policy: Policy) -> list[Sensor]:
    """The network's own sensors; if it stacks frames, these are stacks and `freshness`."""
    return [Sensor(**one) for one in pack(policy.network, strip_critic=True)[1]["sensors"]]


def describe(policy: Policy) -> dict[str, Any]:
    """The properties of a file, name → plain JSON; InputError if a part of the network is your own."""
    meta = pack(policy.network, strip_critic=True)[1]
    sensors = [Sensor(**one) for one in meta["sensors"]]
    sensors = single_sensors(sensors, policy.frames) if policy.frames else sensors
    keys = [sensor.key for sensor in sensors]
    # a policy that was trained without `available` has not learned its mask tokens
    maskable = (meta["extractor"].get("maskable") or keys) if meta["available"] else []
    remembers = {MEMORY: {"frames": policy.frames, "size": policy.network.memory}} if policy.remembers else {}
    return remembers | {
        "format": 2 if remembers else 1,
        "name": policy.name,
        "sensors": [asdict(sensor) for sensor in sensors],
        "required": [key for key in keys if key not in maskable],
        "action": meta["action"],
        "world": policy.world,
        "card": policy.card,
    }


def worst_difference(policy: Policy, deployed: Deployed, rounds: int = 3, seed: int = 0) -> float:
    """The largest difference between torch's and ONNX's actions, in units of max(1, half the action's range).

    Of a Discrete it is how much less than the best the chosen logit is.

    Args:
        policy: the policy in torch.
        deployed: the policy in onnxruntime.
        rounds: observations per mask; for a policy that remembers, all of them are one episode.
        seed: of the observations.
    """
    generator, differences = np.random.default_rng(seed), []
    network, env_ids = policy.network, policy.stateful(1)
    precise = network.features_extractor.mixed_precision
    deployed.reset()
    network.features_extractor.mixed_precision = False  # exported policies are in float32
    try:
        with one_torch_thread():
            for mask in (mask for mask in masks(deployed, generator) for _ in range(rounds)):
                readings = random_observation(deployed.sensors, generator)
                action = deployed(readings | {AVAILABLE: mask})
                # torch's `available` has only the sensors that may be hidden; where none may be, there is none
                told = [flag for flag, key in zip(mask, deployed.keys, strict=True) if key not in deployed.required]
                observation = {**readings, AVAILABLE: np.array(told, np.int8)} if told else readings
                fused = env_ids.fuse({key: x[None] for key, x in observation.items()})
                differences.append(_difference(network, fused, action))
    finally:
        network.features_extractor.mixed_precision = precise
        deployed.reset()
    return float(np.max(differences))  # NaN, if there is one


def random_observation(sensors: Sequence[Sensor], generator: np.random.Generator) -> dict[str, np.ndarray]:
    """Readings without `available`: noise of the sensor's dtype and scale, with gaps in depth."""
    found = {}
    for sensor in sensors:
        dtype = np.dtype(sensor.dtype)
        if dtype.kind in "ui":
            most = int(generator.choice([40, 2000, np.iinfo(dtype).max]))
            x = generator.integers(0, min(most, np.iinfo(dtype).max), sensor.shape, dtype, endpoint=True)
            gaps = generator.random(sensor.shape) < 0.1
            found[sensor.key] = np.where(gaps & (sensor.kind == "depth"), 0, x).astype(dtype)
        else:
            spread = float(generator.choice([0.1, 1.0, 10.0]))
            x = generator.normal(0.0, spread, sensor.shape) * np.asarray(sensor.scale)
            found[sensor.key] = x.astype(dtype)
    return found


def masks(deployed: Deployed, generator: np.random.Generator) -> Iterator[np.ndarray]:
    """Masks that the policy can act under, int8 (M,): all of them, or 64 random ones where there are more."""
    fixed = np.array([key in deployed.required for key in deployed.keys])
    free = int((~fixed).sum())
    every = product((1, 0), repeat=free) if 2**free <= _MOST else generator.integers(0, 2, (_MOST, free))
    for flags in every:
        mask = np.ones(len(fixed), np.int8)
        mask[~fixed] = flags
        yield mask


def _difference(network: FusionActorCriticPolicy, fused: Fused, action: np.ndarray) -> float:
    space = network.action_space
    with torch.no_grad():
        if isinstance(space, gym.spaces.Box):
            half = np.maximum(1.0, (space.high - space.low) / 2.0)
            return float(np.max(np.abs(network.act_fused(fused)[0].cpu().numpy() - action) / half))
        logits = cast(nn.Module, network.action_net)(network.actor(fused.features))[0]
        return float(logits.max() - logits[int(action)])
