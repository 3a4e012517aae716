"""The bytes of an exported policy: a graph, all that is known about it, and a checksum; compared with the policy."""

import json
from dataclasses import asdict
from typing import Any, NamedTuple

from robofuse.deploy import Policy as Deployed
from robofuse.deploy.model import DIGEST, MEMORY, NO_DIGEST, PRODUCER, PROPERTIES, seal
from robofuse.errors import StateError
from robofuse.memory.stack import single_sensors
from robofuse.policies import Policy
from robofuse.policies.saving import pack
from robofuse.sensors import FRESHNESS, Sensor
from robofuse.tensors import one_torch_thread

TOLERANCE = 1e-4


class Exported(NamedTuple):
    """A policy as ONNX.

    Attributes:
        data: what a file holds.
        deployed: the same, running.
        difference: the largest that was found between its actions and torch's; see `worst_difference`.
    """

    data: bytes
    deployed: Deployed
    difference: float


def exported(policy: Policy) -> Exported:
    """A policy as ONNX, in memory; arguments and errors as of `robofuse.export.export`."""
    try:
        from robofuse.export.graph import build
    except ImportError as error:
        raise StateError(
            f"export needs onnx, which cannot be imported here ({error}): pip install 'robofuse[export]'"
        ) from None
    from robofuse.export.agreement import worst_difference

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
    """What the network reads, with the shapes of its spaces: of a policy with frames, stacks and `freshness`."""
    return [Sensor(**one) for one in pack(policy.network, strip_critic=True)[1]["sensors"]]


def describe(policy: Policy) -> dict[str, Any]:
    """What a file says about itself, plain JSON by `PROPERTIES`.

    Raises:
        ValueError: parts of a network that a file without code cannot describe.
    """
    meta = pack(policy.network, strip_critic=True)[1]
    sensors = [Sensor(**one) for one in meta["sensors"]]
    sensors = single_sensors(sensors, policy.frames) if policy.frames else sensors
    keys = [sensor.key for sensor in sensors]
    # a policy that never met `available` has not learned its mask tokens
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
