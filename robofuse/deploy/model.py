"""Reads the file of an exported policy: an ONNX model that describes itself, checked before it is used."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, get_args

import numpy as np

from robofuse.deploy.inputs import NEXT, graph_inputs
from robofuse.errors import InputError, StateError
from robofuse.sensors import Entry, Kind, Sensor

FORMAT = 2  # the newest that can be read; 2 are policies that remember, all others are written as 1
PRODUCER = "robofuse"
PROPERTIES = ("format", "name", "sensors", "required", "action", "world", "card")
MEMORY = "memory"  # a property of those that remember
RATE, ENTRIES = "rate", "entries"  # properties of those of which they are known
DIGEST = f"{PRODUCER}.sha256"
NO_DIGEST = "0" * 64
_MARK = DIGEST.encode() + b"\x12\x40"  # as protobuf writes the key, and that 64 bytes of value follow
_HEAD = b"\x12" + bytes([len(PRODUCER)]) + PRODUCER.encode()  # the producer, near the beginning
_AGAIN = "write it with `robofuse export POLICY`"
_DTYPES = {"tensor(float)": "float32", "tensor(double)": "float64"}  # where onnxruntime's name is not NumPy's


@dataclass(frozen=True)
class Model:
    """An exported policy.

    Attributes:
        name: of the policy.
        sensors: its inputs, in the order of `available`.
        required: keys of the sensors that it cannot do without.
        action: `low` and `high` of a Box, or `n` of a Discrete.
        world: options of the `World` it was trained in, with its cameras.
        card: how it was trained and how well it does.
        frames: readings of each sensor that it reads at once, 0 for the present one alone.
        memory: length of its recurrent state, 0 for none.
        rate: actions per second in training, 0 if it is not known.
        entries: sensor, or `action`, → what each of its numbers is, where that is known.
        digest: SHA-256 that stands in the file.
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
    rate: float
    entries: Mapping[str, tuple[Entry, ...]]
    digest: str
    session: Any


def seal(data: bytes) -> bytes:
    """A serialised model with its checksum in place of `NO_DIGEST`, the value of its last property."""
    start = data.rindex(_MARK) + len(_MARK)
    digest = hashlib.sha256(data).hexdigest()
    return data[:start] + digest.encode() + data[start + len(NO_DIGEST) :]


def read(source: str | Path | bytes, threads: int = 1) -> Model:
    """Read a file, or its bytes; `threads` is for onnxruntime.

    Raises:
        InputError: no such file, or it is cut off, damaged, or not of `robofuse export`.
        StateError: onnxruntime is not installed, or too old for the file.
    """
    whose = "this model" if isinstance(source, bytes) else str(source)
    if isinstance(source, bytes):
        data = source
    elif not Path(source).is_file():
        raise InputError(f"there is no file {source}; {_AGAIN}")
    else:
        try:
            data = Path(source).read_bytes()
        except OSError as error:
            raise InputError(f"{source} cannot be read: {error.strerror or error}") from None
    _check_digest(data, whose)
    session = _session(data, threads, whose)
    return describe(session.get_modelmeta().custom_metadata_map, session, whose)


def describe(properties: Mapping[str, str], session: Any, whose: str) -> Model:  # noqa: ANN401
    """Check the properties of a file, which anybody may have written, against its graph.

    Args:
        properties: of the file, name → JSON.
        session: onnxruntime's, with the graph.
        whose: the name of the file, for messages.

    Raises:
        InputError: a property is missing, makes no sense, or does not fit the graph.
        StateError: a newer robofuse wrote it.
    """
    try:
        plain = {name: json.loads(properties[f"{PRODUCER}.{name}"]) for name in PROPERTIES}
        memory, rate, entries = (
            json.loads(properties.get(f"{PRODUCER}.{name}", other))
            for name, other in ((MEMORY, "{}"), (RATE, "0"), (ENTRIES, "{}"))
        )
    except KeyError as error:
        raise _odd(whose, f"it has no property {error.args[0]}") from None
    except (RecursionError, ValueError) as error:
        raise _odd(whose, str(error)) from None
    number = plain["format"]
    if not _is_count(number) or number < 1:
        raise _odd(whose, f"format is {number!r}")
    if number > FORMAT:
        raise StateError(f"{whose} has format {number}, this robofuse reads up to {FORMAT}; update robofuse")
    for name, kind, words in (("name", str, "text"), ("world", dict, "a mapping"), ("card", dict, "a mapping")):
        if not isinstance(plain[name], kind):
            raise _odd(whose, f"{name} is {_short(plain[name])}, not {words}")
    sensors = _sensors(plain["sensors"], whose)
    keys, required = [sensor.key for sensor in sensors], plain["required"]
    if not isinstance(required, list) or any(key not in keys for key in required):
        raise _odd(whose, f"required is {_short(required)}, not keys out of {', '.join(keys)}")
    if not isinstance(memory, dict) or not all(_is_count(memory.get(name, 0)) for name in ("frames", "size")):
        raise _odd(whose, f"{MEMORY} is {_short(memory)}, not counts of frames and size")
    frames, size = int(memory.get("frames", 0)), int(memory.get("size", 0))
    _check_same("reads", graph_inputs(sensors, frames, size), session.get_inputs(), whose)
    action = plain["action"]
    outputs = {"action": _action(action, whose)} | ({NEXT: ((1, size), "float32")} if size else {})
    _check_same("gives", outputs, session.get_outputs(), whose)
    if not _is_number(rate) or rate < 0:
        raise _odd(whose, f"{RATE} is {_short(rate)}, not a number of actions per second")
    try:
        meant = read_entries(entries, sensors, action)
    except InputError as error:
        raise _odd(whose, str(error)) from None
    known = plain["name"], sensors, tuple(required), action, plain["world"], plain["card"]
    return Model(*known, frames, size, float(rate), meant, properties.get(DIGEST, ""), session)


def read_entries(plain: Any, sensors: Sequence[Sensor], action: Mapping[str, Any]) -> dict[str, tuple[Entry, ...]]:  # noqa: ANN401
    """What numbers of readings and actions are.

    Args:
        plain: sensor, or `action`, → a list with an `Entry` as a mapping, or the name alone, for each number of the
            last axis.
        sensors: of the policy.
        action: `low` and `high` of a Box, or `n` of a Discrete, which has a name for each choice.

    Raises:
        InputError: an unknown sensor, another count, or something that is no entry.
    """
    if not isinstance(plain, Mapping):
        raise InputError(f"{ENTRIES} is {_short(plain)}, not a mapping from sensors to lists of names")
    counts = {sensor.key: sensor.shape[-1] for sensor in sensors}
    counts["action"] = action["n"] if "n" in action else int(np.size(action["low"]))
    found = {}
    for key, ones in plain.items():
        if key not in counts:
            raise InputError(f"{ENTRIES} tells of {_short(key)}; there are {', '.join(counts)}")
        if not isinstance(ones, list | tuple) or len(ones) != counts[key]:
            raise InputError(f"{ENTRIES} of {key!r} is {_short(ones)}, not a list of {counts[key]}")
        found[key] = tuple(_entry(key, one) for one in ones)
    return found


def _entry(key: str, plain: Any) -> Entry:  # noqa: ANN401
    if isinstance(plain, Entry):
        return plain
    one: Any = {"name": plain} if isinstance(plain, str) else plain
    kinds = {"name": str, "unit": str, "size": (int, float), "about": str}
    good = (
        isinstance(one, dict) and "name" in one and all(isinstance(x, kinds.get(name, ())) for name, x in one.items())
    )
    if not good or not _is_number(one.get("size", 1.0)):
        raise InputError(f"an entry of {key!r} is {_short(plain)}, not a name, or a mapping of {', '.join(kinds)}")
    return Entry(**one)


def _odd(whose: str, why: str) -> InputError:
    return InputError(f"{whose} does not describe a policy ({why}); {_AGAIN}")


def _short(value: Any) -> str:  # noqa: ANN401
    try:
        text = repr(value)
    except RecursionError:
        text = "nested too deeply"
    return text if len(text) <= 80 else f"{text[:77]}…"


def _is_count(value: Any) -> bool:  # noqa: ANN401
    return type(value) is int and 0 <= value < 2**31


def _is_number(value: Any) -> bool:  # noqa: ANN401
    return type(value) in (int, float) and abs(value) < 1e30  # NaN and Inf are not


def _sensors(plain: Any, whose: str) -> tuple[Sensor, ...]:  # noqa: ANN401
    if not isinstance(plain, list) or not plain:
        raise _odd(whose, f"sensors is {_short(plain)}, not a list of them")
    found = []
    for one in plain:
        names = [field.name for field in fields(Sensor)]
        if not isinstance(one, dict) or not set(one) <= set(names) or not set(names[:7]) <= set(one):
            raise _odd(whose, f"a sensor is {_short(one)}, not a mapping of {', '.join(names)}")
        wrong = [name for name, value in one.items() if not _fits(name, value)]
        if wrong:
            raise _odd(whose, f"a sensor has the {wrong[0]} {_short(one[wrong[0]])}")
        if not one["shape"] or np.size(one["scale"]) not in (1, one["shape"][-1]):
            raise _odd(whose, f"a sensor of the shape {_short(one['shape'])} has the scale {_short(one['scale'])}")
        found.append(Sensor.from_dict(one))
    keys = [sensor.key for sensor in found]
    if len(set(keys)) < len(keys):
        raise _odd(whose, f"sensors share a key: {', '.join(keys)}")
    return tuple(found)


def _fits(name: str, value: Any) -> bool:  # noqa: ANN401
    """Whether a field of a sensor can have this value."""
    if name == "shape":
        return isinstance(value, list) and all(_is_count(size) and size for size in value)
    if name == "scale":
        scales = value if isinstance(value, list) else [value]
        return bool(scales) and all(_is_number(scale) and scale > 0 for scale in scales)
    if name in ("rate", "latency", "sample_rate"):
        return _is_number(value) and value >= 0
    return isinstance(value, str) and (name != "kind" or value in get_args(Kind))


def _action(plain: Any, whose: str) -> tuple[tuple[int, ...], str]:  # noqa: ANN401
    """Shape and dtype of the output `action`."""
    if isinstance(plain, dict) and set(plain) == {"n"} and _is_count(plain["n"]) and plain["n"]:
        return (1,), "int64"
    try:
        low, high = (np.array(plain[end], dtype=np.float64) for end in ("low", "high"))
        if set(plain) == {"low", "high"} and low.shape == high.shape and bool((low <= high).all()):
            return (1, *low.shape), "float32"
    except (IndexError, KeyError, OverflowError, TypeError, ValueError):
        pass
    raise _odd(whose, f"action is {_short(plain)}, neither low and high nor n")


def _check_same(does: str, said: Mapping[str, tuple[tuple[int, ...], str]], graph: Sequence[Any], whose: str) -> None:
    """Raise InputError unless the graph reads or gives what the file says."""
    there = {one.name: (tuple(one.shape), _DTYPES.get(one.type, one.type[7:-1])) for one in graph}
    for name in {**said, **there}:
        if said.get(name) != there.get(name):
            graphs, its = (
                "nothing" if found is None else f"{found[1]} {found[0]}" for found in (there.get(name), said.get(name))
            )
            raise _odd(whose, f"its graph {does} {graphs} as {name}, its properties say {its}")


def _check_digest(data: bytes, whose: str) -> None:
    """Raise InputError unless these are the bytes that `seal` gave; before anything is parsed."""
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
