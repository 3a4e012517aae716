"""The trial `sequence`: what the last steps of each sensor tell of the expert's action, supporting sensors dropped.

It repeats the protocol of aggressive dropout. One sensor is the target and never dropped; the others support it and are
dropped, each by itself for a whole sequence, with some probability. Afterwards the network is tested with the target
alone. What it gains over a specialist, trained with the target alone, is the co-learning gain: below 0, the further
sensors hurt.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from robofuse.demos.layout import Episode
from robofuse.demos.reader import Demonstrations, read
from robofuse.errors import InputError
from robofuse.files import read_tensors, write_tensors
from robofuse.policies.encoders import millimetres
from robofuse.sensors import Sensor
from robofuse.study.registry import Kind, Options
from robofuse.study.trials import cloning
from robofuse.study.trials.networks import NETWORKS

STEPS, EVERY = 8, 5  # of a sequence; one begins at every fifth step
DEFAULTS = {
    "network": "early-fusion",
    "target": "rgb",
    "supporting": 0.0,
    "passes": 12,
    "lr": 2e-3,
    "specialist": False,
}
_BATCH, _SIDE = 256, 8


def prepare(options: Options, folder: Path) -> None:
    """Records demonstrations as `clone` does, and cuts sequences out of them, once for all jobs."""
    data = {name: value for name, value in options.items() if name not in DEFAULTS}
    cloning.prepare(data, folder)
    for name in ("copied", "held-out"):
        file = _file(folder, name)
        if not file.exists():
            demos = read(cloning.demonstrations(data, folder, name))
            write_tensors(file, sequences(demos), {"sensors": [sensor.key for sensor in demos.sensors]})


def run(options: Options, seed: int, folder: Path, report: Callable[[float], None]) -> dict[str, float]:
    """Trains and tests one network.

    Args:
        options: `prepared`, the folder with the sequences; `network` (see `networks.py`); `target`; `supporting`, the
            probability of dropping each other sensor, 1 for never seeing them; `specialist`, for a network that has no
            other sensors at all; `passes`, `lr`.
        seed: of network, order and dropping.
        folder: of the job.
        report: told the share that is done.

    Returns:
        `explained/…`, the share of the variance of the expert's action that is told, on held-out demonstrations: `all`
        with all sensors, `target` with the target alone, and `only-…` of each sensor; `parameters`, `seconds`.
    """
    began, wanted = time.perf_counter(), DEFAULTS | {name: options[name] for name in DEFAULTS if name in options}
    if wanted["network"] not in NETWORKS:
        raise InputError(f"unknown network {wanted['network']!r}; networks: {', '.join(NETWORKS)}")
    learned, tested = (read_tensors(_file(Path(options["prepared"]), name))[0] for name in ("copied", "held-out"))
    keys, target = [key for key in learned if key != "action"], wanted["target"]
    if target not in keys:
        raise InputError(f"unknown target {target!r}; sensors: {', '.join(keys)}")
    keys = [target] if wanted["specialist"] else keys
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    sizes = {key: learned[key].shape[2] for key in keys}
    network = NETWORKS[wanted["network"]](sizes, learned["action"].shape[1])
    optimizer = torch.optim.Adam(network.parameters(), lr=wanted["lr"])
    count = len(learned["action"])
    decay = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.05, wanted["passes"] * -(-count // _BATCH))
    for done in range(wanted["passes"]):
        for rows in torch.randperm(count, generator=generator).split(_BATCH):
            kept = torch.rand(len(rows), len(keys), generator=generator) >= wanted["supporting"]
            kept[:, keys.index(target)] = True
            off = _predict(network, learned, rows, keys, kept) - learned["action"][rows]
            optimizer.zero_grad()
            off.square().sum(1).mean().backward()
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            decay.step()
        report((done + 1) / wanted["passes"])
    found = {f"explained/{name}": _explained(network, tested, keys, live) for name, live in _tests(keys, target)}
    weights = sum(weight.numel() for weight in network.parameters())
    return found | {"parameters": float(weights), "seconds": time.perf_counter() - began}


def sequences(demos: Demonstrations) -> dict[str, Tensor]:
    """Sequences of all sensors and the expert's last action: sensor → float32 (n, T, …), `action` → (n, A).

    Pictures are averaged to 8 × 8 pixels, and readings divided by their scale.
    """
    found: dict[str, list[Tensor]] = {}
    for episode in demos.episodes:
        vectors = _vectors(episode, demos.sensors) | {"action": episode.action.float()}
        for first in range(0, len(episode) - STEPS + 1, EVERY):
            for key, x in vectors.items():
                found.setdefault(key, []).append(x[first + STEPS - 1] if key == "action" else x[first : first + STEPS])
    return {key: torch.stack(parts) for key, parts in found.items()}


def _vectors(episode: Episode, sensors: Sequence[Sensor]) -> dict[str, Tensor]:
    found = {}
    for sensor in sensors:
        x = episode.observation[sensor.key]
        if sensor.kind in ("rgb", "depth"):
            x = millimetres(x) if sensor.kind == "depth" else x.float()
            x = nn.functional.adaptive_avg_pool2d(x.permute(0, 3, 1, 2), (_SIDE, _SIDE))
        scale = torch.as_tensor(np.asarray(sensor.scale, np.float32))
        scaled = (x / scale).flatten(1) if x.ndim != 4 or not scale.ndim else x.flatten(1)
        found[sensor.key] = 3.0 * torch.asinh(scaled.float() / 3.0)
    return found


def _predict(network: nn.Module, data: Mapping[str, Tensor], rows: Tensor, keys: Sequence[str], kept: Tensor) -> Tensor:
    return network({key: data[key][rows] for key in keys}, kept)


@torch.no_grad()
def _explained(network: nn.Module, data: Mapping[str, Tensor], keys: Sequence[str], live: Sequence[str]) -> float:
    wanted = data["action"]
    kept = torch.tensor([[key in live for key in keys]]).expand(len(wanted), -1)
    off = _predict(network, data, torch.arange(len(wanted)), keys, kept) - wanted
    return 1.0 - float(off.square().sum() / (wanted - wanted.mean(0)).square().sum())


def _tests(keys: Sequence[str], target: str) -> list[tuple[str, Sequence[str]]]:
    return [("all", keys), ("target", [target]), *((f"only-{key}", [key]) for key in keys)]


def _file(folder: Path, name: str) -> Path:
    return folder / f"{name}.safetensors"


KIND = Kind(run, prepare)
