"""Files of pretrained encoders: safetensors with a card; head and mask tokens, which a policy learns, are left out."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from robofuse.errors import InputError
from robofuse.files import read_tensors, write_tensors
from robofuse.policies.extractor import FusionExtractor
from robofuse.policies.u2a.transformer import Body, TransformerEncoder, resized
from robofuse.sensors import Sensor

SHIPPED = Path(__file__).parent.parent / "zoo" / "encoders"
KIND = "encoder"


def save_body(path: Path, body: Body, sensor: Sensor, card: Mapping[str, Any]) -> Path:
    """Writes the weights of a body in half precision, with the sensor that it read and a card in plain JSON."""
    tensors = {name: x.half() for name, x in body.state_dict().items()}
    return write_tensors(path, tensors, {"kind": KIND, "sensor": asdict(sensor), "card": dict(card)})


def load_pretrained(extractor: FusionExtractor, name: str | Path) -> dict[str, Path]:
    """Gives pretrained weights to every transformer of an extractor; images may have another size.

    Args:
        extractor: changed in place; its heads, mask tokens and adapters are not.
        name: a folder that `robofuse pretrain` wrote, or `shipped` for those that come with robofuse.

    Returns:
        Sensor → the file that its weights are from.

    Raises:
        InputError: no transformer, no such folder, or none of its encoders is for one of the sensors.
    """
    folder = SHIPPED if str(name) == "shipped" else Path(name)
    encoders = {key: one for key, one in extractor.encoders.items() if isinstance(one, TransformerEncoder)}
    if not encoders:
        raise InputError("pretrained weights are for the encoder `transformer`, and no sensor has it")
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise InputError(f"there is no pretrained encoder in {folder}; robofuse pretrain makes some, or say shipped")
    found = {path: read_tensors(path) for path in files}
    used = {}
    for key, encoder in encoders.items():
        fitting = [path for path, (_, meta) in found.items() if _fits(meta, encoder.sensor)]
        if not fitting:
            raise InputError(
                f"none of the encoders in {folder} is for {key!r}, {encoder.sensor.kind} {encoder.sensor.shape}: "
                f"{', '.join(_described(path, meta) for path, (_, meta) in found.items())}"
            )
        used[key] = min(fitting, key=lambda path: found[path][1]["sensor"]["key"] != key)
        tensors, meta = found[used[key]]
        _put(encoder.body, tensors, Body(Sensor(**meta["sensor"])).grid, used[key])
    return used


def _put(body: Body, tensors: dict[str, Tensor], grid: tuple[int, ...], path: Path) -> None:
    tensors = {name: x.float() for name, x in tensors.items()}
    own = {name: x for name, x in body.state_dict().items() if name in tensors}
    try:
        tensors["positions"] = resized(tensors["positions"], grid, body.grid)
        unfit = [name for name in tensors if name not in own or own[name].shape != tensors[name].shape]
        if unfit or not all(bool(x.isfinite().all()) for x in tensors.values()):
            raise InputError(f"{path} is no encoder that this robofuse can load: {unfit or 'NaN or Inf'}")
    except (KeyError, RuntimeError) as error:
        raise InputError(f"{path} is no encoder that this robofuse can load: {error}") from None
    with torch.no_grad():
        for name, x in own.items():
            x.copy_(tensors[name])


def _fits(meta: Mapping[str, Any], sensor: Sensor) -> bool:
    if meta.get("kind") != KIND:
        return False
    return comparable(Sensor(**meta["sensor"])) == comparable(sensor)


def comparable(sensor: Sensor) -> tuple[str, tuple[int, ...]]:
    """What two sensors must share for one encoder: the kind, and the shape but for the size of images."""
    image = sensor.kind in ("rgb", "depth")
    return sensor.kind, tuple(sensor.shape[2:] if image else sensor.shape)


def _described(path: Path, meta: Mapping[str, Any]) -> str:
    sensor = meta.get("sensor") or {}
    return f"{path.name} ({sensor.get('kind')} {tuple(sensor.get('shape') or ())})"
