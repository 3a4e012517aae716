"""`robofuse pretrain`: one transformer per sensor, pretrained on simulator data by self-supervision."""

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import torch
import tyro
from rich.console import Console
from rich.progress import Progress
from torch import Tensor

from robofuse import __version__
from robofuse.checks import check_types, whole
from robofuse.envs import World
from robofuse.envs.tasks import Task
from robofuse.errors import INTERRUPTED, InputError
from robofuse.files import lock, read_tensors, write_atomic
from robofuse.interrupts import Interrupt
from robofuse.machine import describe_machine, gl_problem, package_versions
from robofuse.policies.u2a.autoencoder import HIDDEN, MaskedAutoencoder, Target
from robofuse.policies.u2a.transformer import Body
from robofuse.policies.u2a.weights import comparable, save_body
from robofuse.sensors import MODALITIES, Sensor
from robofuse.tensors import find_device, take

CARDS = "pretrained.json"  # the cards of all encoders of a folder
_HELD_OUT_SEED = 3_000_000  # neither of trainings, nor of validations or evaluations
_HELD, _NOISE = 5, 0.4  # control steps that a random action lasts; deviation of what is added to the expert's
_WARMUP, _CURVE = 0.05, 50  # share of the steps in which the rate rises; points of the curve that is kept


@dataclass(frozen=True)
class Pretrain:
    """What to pretrain on, and how.

    Attributes:
        task: Task, as in `robofuse list`.
        robots: Robots, as in `robofuse list`; a sensor that is the same in all of them gets one encoder.
        sensors: Out of rgb, depth, proprio and force.
        image_sizes: Pixels a side of the pictures; an encoder of pictures learns from all sizes.
        renderer: Of the pictures: auto takes gl if it works here, else warp.
        rows: Observations to learn from, of each robot and image size.
        held_out: Observations, of other scenes, on which the error is measured.
        steps: Steps of the optimizer, for each sensor.
        batch_size: Rows of a batch.
        lr: Highest learning rate of AdamW; it rises over the first twentieth and falls as a cosine.
        num_envs: Simulations side by side.
        seed: Of scenes, actions and weights; below 1000.
        out: Folder, by default pretrained/TASK. Encoders that are there already, of the same options, are kept.
        device: Of the network: auto, cpu or cuda.
    """

    task: Annotated[str, tyro.conf.Positional] = "Grasp"
    robots: tuple[str, ...] = ("arm", "gripper")
    sensors: tuple[str, ...] = MODALITIES
    image_sizes: tuple[int, ...] = (48,)
    renderer: Literal["auto", "gl", "warp"] = "auto"
    rows: int = 12_000
    held_out: int = 1_000
    steps: int = 3_000
    batch_size: int = 128
    lr: float = 1.5e-3
    num_envs: int = 64
    seed: int = 0
    out: Path | None = None
    device: str = "auto"


class Rows(NamedTuple):
    """Observations of one sensor in one kind of world.

    Attributes:
        sensor: as that world has it.
        train: (n, …) in the sensor's dtype.
        held_out: (k, …), of other scenes.
    """

    sensor: Sensor
    train: Tensor
    held_out: Tensor


def run_pretrain(config: Pretrain) -> int:
    """Pretrain, and print the errors on held-out scenes.

    Returns:
        Exit status: 0; 130 after Ctrl-C: finished encoders stay, and the same command makes the rest.

    Raises:
        InputError: options that cannot be, or a folder that holds encoders of other options.
    """
    _check(config)
    console = Console(highlight=False, soft_wrap=True)
    renderer = config.renderer
    if renderer == "auto":
        renderer = "warp" if gl_problem() else "gl"
    folder, device = config.out or Path("pretrained", config.task.lower()), find_device(config.device)
    options = asdict(config) | {"renderer": renderer, "out": None, "device": None}
    options = json.loads(json.dumps(options))
    with lock(folder, "pretraining"), Interrupt() as stop:
        cards = _finished(folder, options)
        data: dict[str, list[Rows]] = {}
        for robot in config.robots:
            for size in config.image_sizes:
                console.print(f"looking around: {config.task} with the {robot} at {size}²", markup=False)
                for rows in collect(config, robot, size, renderer):
                    data.setdefault(_name(data, rows.sensor, robot), []).append(rows)
        for name, group in data.items():
            if name in cards:
                console.print(f"{name} is there already", markup=False)
                continue
            with _bar(name, config.steps) as advance:
                body, found = pretrain(group, config, device, lambda: advance() or stop.asked)
            if stop.asked:
                console.print("interrupted: the same command goes on from there", style="yellow")
                return INTERRUPTED
            cards[name] = {
                "options": options,
                "date": datetime.now(UTC).isoformat(timespec="seconds"),
                "machine": describe_machine(),
                "versions": {"robofuse": __version__, **package_versions()},
                "stored": "float16",
                **found,
            }
            save_body(folder / f"{name}.safetensors", body, largest(group), cards[name])
            write_atomic(folder / CARDS, json.dumps(cards, indent=1) + "\n")
            told = f"error on held-out scenes {found['error']:.3f} of that of the mean, {found['seconds']:.0f} s"
            console.print(f"{name}: {told}", markup=False)
    console.print(f"in {folder}; robofuse train --encoders rgb=transformer … --pretrained {folder}", markup=False)
    return 0


def _check(config: Pretrain) -> None:
    check_types(config)
    whole(config.seed, "--seed", 0, 999)
    for name in ("rows", "held_out", "steps", "num_envs"):
        whole(getattr(config, name), f"--{name.replace('_', '-')}", 1)
    whole(config.batch_size, "--batch-size", 2)
    if not 0.0 < config.lr <= 1.0:
        raise InputError(f"--lr must lie in (0, 1], got {config.lr}")
    for option, given in (
        ("--robots", config.robots),
        ("--sensors", config.sensors),
        ("--image-sizes", config.image_sizes),
    ):
        if not given:
            raise InputError(f"{option} needs one at least")


def _finished(folder: Path, options: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Name → card of the encoders that are there; InputError if they are of other options."""
    cards = {}
    for path in sorted(folder.glob("*.safetensors")):
        cards[path.stem] = card = read_tensors(path)[1].get("card") or {}
        before = card.get("options") or {}
        other = [name for name in options if before.get(name) != options[name]]
        if other:
            raise InputError(
                f"{path} was pretrained with other options (--{other[0].replace('_', '-')} {before.get(other[0])}); "
                "give another --out"
            )
    return cards


def collect(config: Pretrain, robot: str, image_size: int, renderer: str) -> Iterator[Rows]:
    """Look around: half of the worlds follow the expert with noise, half act at random; the same for the same seed."""
    world_of = {}
    for seed, count in ((config.seed, config.rows), (_HELD_OUT_SEED + config.seed, config.held_out)):
        num_envs = min(config.num_envs, count)
        options = {"robot": robot, "sensors": config.sensors, "image_size": image_size, "renderer": renderer}
        world = World(config.task, num_envs, seed=seed, **options)
        try:
            world_of[seed] = _look(world, count), world.sensors
        finally:
            world.close()
    (train, sensors), (held_out, _) = world_of.values()
    for sensor in sensors:
        yield Rows(sensor, train[sensor.key], held_out[sensor.key])


def _look(world: World, count: int) -> dict[str, Tensor]:
    """Key → (count, …), one of two control steps, shuffled by nothing."""
    generator = torch.Generator().manual_seed(world.seed)
    observation, num_envs = world.reset(), world.num_envs
    known = type(world.task).expert is not Task.expert
    seen: dict[str, list[Tensor]] = {sensor.key: [] for sensor in world.sensors}
    random = torch.zeros(num_envs, 5)
    for step in range(2 * math.ceil(count / num_envs)):
        if step % 2:
            for key, rows in seen.items():
                rows.append(observation[key].clone())
        if step % _HELD == 0:
            random = torch.rand(num_envs, 5, generator=generator) * 2.0 - 1.0
        action = random
        if known:
            noisy = world.expert() + _NOISE * torch.randn(num_envs, 5, generator=generator)
            follows = torch.arange(num_envs) % 2 == 0
            action = torch.where(follows[:, None], noisy, random)
        observation = world.step(action.clamp(-1.0, 1.0)).observation
    return {key: torch.cat(rows)[:count] for key, rows in seen.items()}


def _name(data: Mapping[str, list[Rows]], sensor: Sensor, robot: str) -> str:
    """What the encoder of a sensor is called: its key, and the robot if another one's sensor is different."""
    for name, group in data.items():
        first = group[0].sensor
        if first.key == sensor.key and comparable(first) == comparable(sensor) and first.scale == sensor.scale:
            return name
    return f"{sensor.key}-{robot}" if sensor.key in data else sensor.key


def largest(group: list[Rows]) -> Sensor:
    """The sensor with the most pixels, for which the positions are learned."""
    return max((rows.sensor for rows in group), key=lambda sensor: math.prod(sensor.shape))


def pretrain(
    group: list[Rows], config: Pretrain, device: torch.device, stop: Callable[[], bool]
) -> tuple[Body, dict[str, Any]]:
    """Pretrains one encoder.

    Args:
        group: what to learn from; in every step a batch of one of them.
        config: options.
        device: of the network.
        stop: asked after every step.

    Returns:
        The body, on the CPU, and for its card: data, loss curve, the error on held-out scenes relative to that of
        predicting the mean of every piece, and seconds.
    """
    began, sensor = time.perf_counter(), largest(group)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        body = Body(sensor).to(device)
        model = MaskedAutoencoder(body).to(device)
    generator = torch.Generator().manual_seed(config.seed)
    parts = [_Part(rows, device) for rows in group]
    optimizer = torch.optim.AdamW(model.parameters(), lr=config.lr, betas=(0.9, 0.95), weight_decay=0.05, fused=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step / config.steps))
    curve, losses, every = [], [], max(1, config.steps // _CURVE)
    for step in range(config.steps):
        part = parts[step % len(parts)]
        rows = torch.randint(len(part.rows.train), (config.batch_size,), generator=generator)
        loss, _ = part.errors(model, take(part.rows.train, rows), generator)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        losses.append(loss.detach())
        if (step + 1) % every == 0:
            curve.append([step + 1, round(float(torch.stack(losses).mean()), 4)])
            losses = []
        if stop():
            break
    with torch.no_grad():
        wrong, trivial = torch.tensor([part.held_out(model, config.batch_size) for part in parts]).sum(0).tolist()
    return body.cpu(), {
        "data": [
            {"sensor": asdict(rows.sensor), "rows": len(rows.train), "held_out": len(rows.held_out)} for rows in group
        ],
        "hidden": HIDDEN[sensor.kind],
        "weights": sum(x.numel() for x in body.parameters()),
        "loss": curve,
        "error": round(wrong / trivial, 4),
        "seconds": round(time.perf_counter() - began, 1),
        "threads": torch.get_num_threads(),
    }


class _Part:
    """The data of one kind of world, with the statistics of its pieces."""

    def __init__(self, rows: Rows, device: torch.device) -> None:
        self.rows, self.device = rows, device
        self.body = Body(rows.sensor)  # makes pieces of images of this size
        some = torch.arange(0, len(rows.train), max(1, len(rows.train) // 2000))
        self.target = Target(self.body, self.body.pieces(take(rows.train, some)))

    def errors(self, model: MaskedAutoencoder, x: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        pieces = self.body.pieces(x)
        noise = torch.rand(pieces.shape[:2], generator=generator)
        return model(
            *(part.to(self.device) for part in (pieces, self.target(pieces))), self.body.grid, noise.to(self.device)
        )

    def held_out(self, model: MaskedAutoencoder, batch_size: int) -> list[float]:
        generator = torch.Generator().manual_seed(0)
        found = [self.errors(model, x, generator) for x in _chunks(self.rows.held_out, batch_size)]
        return [sum(float(part) for part in parts) for parts in zip(*found, strict=True)]


def _chunks(x: Tensor, count: int) -> Iterator[Tensor]:
    for rows in torch.arange(len(x)).split(count):
        yield take(x, rows)


def _rate(progress: float) -> float:
    if progress < _WARMUP:
        return progress / _WARMUP + 1e-3
    return 0.5 * (1.0 + math.cos(math.pi * (progress - _WARMUP) / (1.0 - _WARMUP)))


@contextmanager
def _bar(name: str, steps: int) -> Iterator[Callable[[], None]]:
    with Progress(console=Console(stderr=True), transient=True) as progress:
        shown = progress.add_task(name, total=steps)
        yield lambda: progress.advance(shown)
