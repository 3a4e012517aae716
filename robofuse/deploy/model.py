"""The file of an exported policy: one ONNX model that says all about itself, checked before anything is made of it."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from robofuse.deploy.recall import STATE
from robofuse.errors import InputError, StateError
from robofuse.sensors import FRESHNESS, Sensor

FORMAT = 2  # the newest that can be read; 2 are policies that remember, all others are written as 1
PRODUCER = "robofuse"
PROPERTIES = ("format", "name", "sensors", "required", "action", "world", "card")
MEMORY = "memory"  # a property of those that remember
DIGEST = f"{PRODUCER}.sha256"
NO_DIGEST = "0" * 64
_MARK = DIGEST.encode() + b"\x12\x40"  # as protobuf writes the key, and that 64 bytes of value follow
_HEAD = b"\x12" + bytes([len(PRODUCER)]) + PRODUCER.encode()  # the producer, near the beginning
_AGAIN = "write it with `robofuse export POLICY`"


@dataclass(frozen=True)
class Model:
    """What a file holds.

    Attributes:
        name: of the policy.
        sensors: its inputs, in the order of `available`.
        required: keys of those that it cannot do without.
        action: `low` and `high` of a Box, or `n` of a Discrete.
        world: options of the `World` it was trained in, with its cameras.
        card: how it was trained and how well it does.
        frames: readings of each sensor that it reads at once, 0 for the present one alone.
        memory: numbers that it remembers by itself, 0 for none.
        session: onnxruntime's.
    """

    name: str
    sensors: tuple[Sensor, ...]
    required: tuple[str, ...]
    action: Mapping[str, Any]
    world: Mapping[str, Any]
    card: Mapping[str, Any]
    frames: int
    memory: int
    session: Any


def seal(data: bytes) -> bytes:
    """A serialised model with its checksum in place of `NO_DIGEST`, the value of its last property."""
    start = data.rindex(_MARK) + len(_MARK)
    digest = hashlib.sha256(data).hexdigest()
    return data[:start] + digest.encode() + data[start + len(NO_DIGEST) :]


def read(source: str | Path | bytes, threads: int = 1) -> Model:
    """A model, ready to run.

    Args:
        source: path of a file, or what is in it.
        threads: of onnxruntime.

    Raises:
        ValueError: no such file, or it is cut off, damaged, or not of `robofuse export`; in one sentence.
        RuntimeError: onnxruntime is not installed, or too old for the file.
    """
    data, whose = (source, "this model") if isinstance(source, bytes) else (_bytes(Path(source)), str(source))
    _check(data, whose)
    session = _session(data, threads, whose)
    found = session.get_modelmeta().custom_metadata_map
    try:
        plain = {name: json.loads(found[f"{PRODUCER}.{name}"]) for name in PROPERTIES}
        if int(plain["format"]) > FORMAT:
            raise StateError(
                f"{whose} has format {plain['format']}, this robofuse reads up to {FORMAT}; update robofuse"
            )
        sensors = tuple(_sensor(one) for one in plain["sensors"])
        remembers = json.loads(found.get(f"{PRODUCER}.{MEMORY}", "{}"))
        frames, memory = int(remembers.get("frames", 0)), int(remembers.get("size", 0))
        _check_memory({one.name: one.shape for one in session.get_inputs()}, sensors, frames, memory)
    except (AttributeError, KeyError, OverflowError, TypeError, ValueError) as error:
        raise InputError(f"{whose} does not describe a policy ({error}); {_AGAIN}") from None
    return Model(
        plain["name"],
        sensors,
        tuple(plain["required"]),
        plain["action"],
        plain["world"],
        plain["card"],
        frames,
        memory,
        session,
    )


def _check_memory(inputs: Mapping[str, Any], sensors: Sequence[Sensor], frames: int, memory: int) -> None:
    """ValueError unless what a file says of its memory is what its graph reads."""
    state, fresh = (inputs[key][1] if key in inputs else 0 for key in (STATE, FRESHNESS))
    held = 0 if not frames and FRESHNESS in [sensor.key for sensor in sensors] else fresh  # a stack of the user's own
    if state != memory or held != frames * len(sensors) or frames < 0:
        raise InputError(f"it says frames {frames} and memory {memory}, which are not those of its graph")


def _sensor(plain: Mapping[str, Any]) -> Sensor:
    fields: dict[str, Any] = {name: tuple(x) if isinstance(x, list) else x for name, x in plain.items()}
    return Sensor(**fields)


def _bytes(path: Path) -> bytes:
    if not path.is_file():
        raise InputError(f"there is no file {path}; {_AGAIN}")
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from None


def _check(data: bytes, whose: str) -> None:
    """ValueError unless these are the bytes that `seal` gave; before anything is parsed."""
    start = data.rfind(_MARK) + len(_MARK)
    digest = data[start : start + len(NO_DIGEST)]
    whole = start >= len(_MARK) and len(digest) == len(NO_DIGEST)
    if not whole and _HEAD not in data[:16]:
        raise InputError(f"{whose} is no exported policy; {_AGAIN} (.onnx)")
    if not whole:
        raise InputError(f"{whose} is cut off: its end is missing; fetch it again")
    blank = data[:start] + NO_DIGEST.encode() + data[start + len(NO_DIGEST) :]
    if hashlib.sha256(blank).hexdigest().encode() != digest:
        raise InputError(f"{whose} is damaged or was changed: it does not match its checksum; fetch it again")


def _session(data: bytes, threads: int, whose: str) -> Any:  # noqa: ANN401
    try:
        import onnxruntime
    except ImportError as error:
        raise StateError(
            f"policies run on onnxruntime, which cannot be imported here ({error}): pip install 'robofuse[deploy]', or "
            "where torch is not wanted pip install onnxruntime"
        ) from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.log_severity_level = 3  # errors
    try:
        return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # noqa: BLE001  onnxruntime's errors have no other base
        first = " ".join(str(error).split())[:200]
        raise StateError(f"onnxruntime {onnxruntime.__version__} cannot run {whose}: {first}; update it") from None
