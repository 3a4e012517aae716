"""`robofuse export`: writes a policy as an ONNX file that describes itself, and checks that both act alike."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import tyro
from rich.console import Console
from rich.table import Table
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import VecNormalize

from robofuse import registration
from robofuse.deploy import Policy as Deployed
from robofuse.deploy.model import DIGEST, ENTRIES, MEMORY, NO_DIGEST, PRODUCER, PROPERTIES, RATE, seal
from robofuse.errors import InputError, StateError
from robofuse.export.agents import NOTHING, Hints, describe_agent, with_hints
from robofuse.export.compare import TOLERANCE, agent_difference, worst_difference
from robofuse.export.played import SUFFIX
from robofuse.files import write_atomic
from robofuse.memory.stack import single_sensors
from robofuse.policies import FusionActorCriticPolicy, Policy, load
from robofuse.policies.agent_files import load_agent, load_statistics
from robofuse.policies.agents import of_agent, of_policy
from robofuse.policies.saving import pack, unpack
from robofuse.sensors import FRESHNESS, Entry, Sensor
from robofuse.tensors import one_torch_thread


@dataclass(frozen=True)
class Export:
    """Which policy to export.

    Attributes:
        policy: A policy that comes with robofuse, a policy file, or a training's folder; or an agent of
            Stable-Baselines3 with FusionExtractor, a file .zip.
        out: File to write, by default NAME.onnx.
        rate: Actions per second, where nothing else says it, and readings per second of sensors of unknown rate.
        entries: JSON file that says what the numbers of sensors, and of action, are: {"action": ["left", "right"]}, or
            with units {"action": [{"name": "x", "unit": "m", "size": 0.02, "about": "a step"}, …]}.
        algo: Of an agent: ppo, sac, td3, dqn, a2c, tqc, …
        trust: Load an agent, although such files can run code hidden in them.
        normalize: A file that VecNormalize.save wrote, if the agent was trained with one.
    """

    policy: Annotated[str, tyro.conf.Positional]
    out: Path | None = None
    rate: float = 0.0
    entries: Path | None = None
    algo: str = "ppo"
    trust: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    normalize: Path | None = None


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


def export(
    policy: str | Path | Policy | BaseAlgorithm,
    out: str | Path | None = None,
    *,
    normalise: VecNormalize | None = None,
    rate: float = 0.0,
    entries: Mapping[str, Sequence[str | Entry | Mapping[str, Any]]] | None = None,
) -> Path:
    """Write a policy as ONNX, for `robofuse.deploy` or any other runtime; `robofuse.export.graph` describes the graph.

    The file's properties (`metadata_props`) are JSON: `robofuse.sensors` (shapes, dtypes, units, scales, rates),
    `robofuse.action`, `robofuse.rate` (actions per second), `robofuse.entries` (what each number of a reading and of
    the action is, its unit, and how much of it a 1 is), `robofuse.world` (cameras, renderer), `robofuse.card` (how it
    was trained). If the policy has a memory, `robofuse.memory` has `frames` and `size`: its inputs are stacks and
    `freshness` (`robofuse.memory.Stack`), or it also reads `robofuse:memory`; `robofuse.deploy` makes these of single
    readings.
    Actions are the deterministic ones, within their bounds, in float32 whatever precision the policy was trained in.

    Args:
        policy: as for `robofuse.policies.load`, or what that returned; or an agent of Stable-Baselines3 or sb3-contrib
            with `FusionExtractor` (PPO, A2C, SAC, TD3, DDPG, TQC, DQN, QR-DQN). Its pictures are read with the channels
            last, whatever order SB3 has trained with.
        out: file to write, something.onnx; by default the policy's name, in the present folder.
        normalise: what normalised an agent's observations in training; it becomes a part of the graph.
        rate: actions per second, where nothing else says it; and deliveries per second of the sensors of which no rate
            is known.
        entries: sensor, or `action`, → a name, or an `Entry`, for each number of the last axis. Of a world of robofuse
            they are known.

    Returns:
        The path.

    Raises:
        InputError: no such policy; encoders or fusions of your own; another suffix than .onnx; entries that do not fit;
            an agent of another kind.
        StateError: onnx or onnxruntime is not installed, or ONNX's actions differ from torch's by more than 1e-4.
    """
    return _export(policy, out, Hints(normalise, rate, entries or {}))[0]


def run_export(config: Export) -> int:
    """Export, and print the inputs and the output of the graph; returns the exit status 0."""
    if not config.policy.endswith(".zip"):
        if config.normalize is not None:
            raise InputError("--normalize is for agents of Stable-Baselines3, files .zip")
        path, made = _export(config.policy, config.out, Hints(None, config.rate, _read_entries(config.entries)))
    else:
        agent = load_agent(config.policy, config.algo, config.trust)
        statistics = None if config.normalize is None else load_statistics(config.normalize)
        hints = Hints(statistics, config.rate, _read_entries(config.entries), Path(config.policy).stem)
        path, made = _export(agent, config.out, hints)
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
    console.print(_about_action(deployed))
    if deployed.remembers:
        console.print("it remembers: robofuse.deploy makes the inputs of the graph of these readings")
    console.print(f"{path}, {len(made.data) / 1e6:.2f} MB: its actions differ from torch's by {made.difference:.1e}")
    return 0


def _about_action(deployed: Deployed) -> str:
    """What the numbers of the action are, a line each where that is known."""
    how_often = f", {deployed.rate:g} times a second" if deployed.rate else ""
    if "n" in deployed.action:
        names = ", ".join(entry.name for entry in deployed.entries.get("action", ()))
        return f"action: one of {deployed.action['n']} choices{f' ({names})' if names else ''}{how_often}"
    shape, entries = np.shape(deployed.action["low"]), deployed.entries.get("action", ())
    lines = [f"action: float32 {shape}{how_often}"]
    for entry in entries:
        means = f", 1 = {entry.size:g} {entry.unit}".rstrip()
        lines.append(f"  {entry.name}{means}{f': {entry.about}' if entry.about else ''}")
    return "\n".join(lines if entries else [f"{lines[0]}; what its numbers are, nobody has said (entries)"])


def _read_entries(path: Path | None) -> dict[str, Any]:
    if path is None:
        return {}
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise InputError(f"--entries {path} cannot be read as JSON: {error}") from None
    if not isinstance(found, dict):
        raise InputError(f"--entries {path} must be a mapping from sensors, and action, to lists of names")
    return found


def _export(policy: str | Path | Policy | BaseAlgorithm, out: str | Path | None, hints: Hints) -> tuple[Path, Exported]:
    if isinstance(policy, str | Path):
        policy = load(policy, device="cpu")
    if not isinstance(policy, Policy | BaseAlgorithm):
        raise InputError(
            "export takes the name or file of a policy, an agent of Stable-Baselines3, or "
            f"robofuse.policies.Policy(agent.policy, 'name'), got a {type(policy).__name__}"
        )
    name = policy.name if isinstance(policy, Policy) else hints.name or type(policy).__name__.lower()
    path = Path(out if out is not None else f"{name}{SUFFIX}").expanduser()
    if path.suffix != SUFFIX or path.is_dir():  # so the policy's own file is never replaced
        raise InputError(f"what is exported goes into a file {SUFFIX}, not into {str(path)!r}")
    made = exported(policy, hints)
    return write_atomic(path, made.data), made


def exported(policy: Policy | BaseAlgorithm, hints: Hints = NOTHING) -> Exported:
    """A policy as ONNX, in memory; errors as of `robofuse.export.export`."""
    try:
        from robofuse.export.graph import build
    except ImportError as error:
        raise StateError(
            f"export needs onnx, which cannot be imported here ({error}): pip install 'robofuse[export]'"
        ) from None
    if isinstance(policy, BaseAlgorithm) and isinstance(policy.policy, FusionActorCriticPolicy) and not hints.normalise:
        policy = Policy(policy.policy, hints.name or type(policy).__name__.lower())
    if isinstance(policy, BaseAlgorithm):
        meta, network = describe_agent(policy, hints), of_agent(policy, hints.normalise)
        reads, always = [Sensor.from_dict(one) for one in meta["sensors"]], []
    else:
        if policy.network.features_extractor.ignore:  # without the keys that are never read, as from a file
            policy = Policy(unpack(policy.name, *pack(policy.network)), policy.name, policy.world, policy.card)
        meta, network = describe(policy, hints), of_policy(policy.network)
        reads, always = read_sensors(policy), [FRESHNESS] if policy.frames else []
    with one_torch_thread():
        model = build(network, reads, [*meta["required"], *always])
    model.producer_name = PRODUCER
    for name in (*PROPERTIES, *(name for name in (MEMORY, RATE, ENTRIES) if meta.get(name))):
        model.metadata_props.add(key=f"{PRODUCER}.{name}", value=json.dumps(meta[name], allow_nan=False))
    model.metadata_props.add(key=DIGEST, value=NO_DIGEST)  # last, so that a file that was cut off lacks it
    data = seal(model.SerializeToString())
    deployed = Deployed(data)
    if isinstance(policy, BaseAlgorithm):
        difference = agent_difference(policy, deployed, network, hints.normalise)
    else:
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


def describe(policy: Policy, hints: Hints = NOTHING) -> dict[str, Any]:
    """The properties of a file, name → plain JSON; InputError if a part of the network is your own."""
    meta = pack(policy.network, strip_critic=True)[1]
    sensors = [Sensor(**one) for one in meta["sensors"]]
    sensors = single_sensors(sensors, policy.frames) if policy.frames else sensors
    keys = [sensor.key for sensor in sensors]
    # a policy that was trained without `available` has not learned its mask tokens
    maskable = (meta["extractor"].get("maskable") or keys) if meta["available"] else []
    remembers = {MEMORY: {"frames": policy.frames, "size": policy.network.memory}} if policy.remembers else {}
    rate, entries = _of_robot(policy.world.get("robot"), sensors)
    hints = hints._replace(rate=hints.rate or rate, entries={**entries, **hints.entries})
    return remembers | {
        "format": 2 if remembers else 1,
        "name": policy.name,
        "required": [key for key in keys if key not in maskable],
        "action": meta["action"],
        "world": policy.world,
        "card": policy.card,
        **with_hints(sensors, meta["action"], hints),
    }


def _of_robot(name: Any, sensors: Sequence[Sensor]) -> tuple[float, dict[str, tuple[Entry, ...]]]:  # noqa: ANN401
    """Actions per second, and what its numbers are, of a robot of robofuse; nothing of one that is not known here."""
    if name not in registration.ROBOTS:
        return 0.0, {}
    from robofuse.envs.robot import ROBOTS  # it needs MuJoCo, which exporting an agent of others does not
    from robofuse.envs.world import CONTROL_RATE

    counts = {sensor.key: sensor.shape[-1] for sensor in sensors}
    entries = ROBOTS[name].entries()
    return CONTROL_RATE, {k: ones for k, ones in entries.items() if k == "action" or counts.get(k) == len(ones)}
