"""`robofuse record`: record the scripted solution or a policy until there are enough episodes."""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
import tyro
from rich.console import Console
from torch import Tensor

from robofuse import __version__
from robofuse.checks import whole
from robofuse.demos.layout import Episode, need_arrow
from robofuse.demos.recorder import Recorder
from robofuse.envs import World
from robofuse.envs.control import ACTION
from robofuse.envs.world import CONTROL_RATE
from robofuse.errors import INTERRUPTED, InputError
from robofuse.evaluate.run import TRAINING_SEEDS
from robofuse.evaluate.screen import episode_bar
from robofuse.interrupts import Interrupt
from robofuse.machine import gl_problem, package_versions
from robofuse.memory.stateful import stateful
from robofuse.play import Actor, Setup, fingerprint, open_setup, play
from robofuse.rng import Stream, normal

EXPERT = "expert"
_PATIENCE, _TRIES = 100, 10  # give up after so many episodes, and so many for each that is wanted
_SALT = 0x5A  # the noise of actions within the stream of noise; sensors have 0 and 1


@dataclass(frozen=True)
class Record:
    """What to record, and how.

    Attributes:
        policy: expert, the task's scripted solution, which sees the simulator's truth; or the name of a policy that
            comes with robofuse, or the path of one.
        task: For the expert: task, as in `robofuse list`.
        robot: For the expert: robot, as in `robofuse list`.
        episodes: Number of episodes to keep, with those that are in the folder already.
        out: Folder for them, by default demos/TASK-ROBOT-POLICY. If it holds a part of the same recording, only the
            rest is recorded.
        keep: Episodes that succeeded, or all.
        noise: Standard deviation of normal noise that is added to the actions, as a share of the largest action, so
            that the demonstrations show how to recover; `action` is recorded without it.
        rgb: Colours as lossless video (every bit is kept, browsers do not play it), as lossy video (a twentieth of the
            size), or as png in the tables.
        instruction: The task in words, for LeRobot; by default its name.
        seed: Of the scenes, below 1000, as in trainings; higher ones are for validation and evaluation.
        num_envs: Episodes simulated at a time.
        sensors: For the expert: out of rgb, depth, proprio and force.
        cameras: For the expert: cameras, as in `robofuse list`.
        image_size: For the expert: pixels a side.
        render_size: For the expert: pixels a side at which cameras draw, by default --image-size.
        renderer: For the expert: auto takes gl if it works here, else warp.
        device: Of a policy's network: auto, cpu or cuda.
    """

    policy: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="POLICY")] = EXPERT
    task: str | None = None
    robot: str | None = None
    episodes: int = 50
    out: Path | None = None
    keep: Literal["success", "all"] = "success"
    noise: float = 0.0
    rgb: Literal["lossless", "lossy", "png"] = "lossless"
    instruction: str = ""
    seed: int = 0
    num_envs: int = 32
    sensors: tuple[str, ...] = ()
    cameras: tuple[str, ...] = ()
    image_size: int | None = None
    render_size: int | None = None
    renderer: Literal["auto", "gl", "warp"] | None = None
    device: str = "auto"


def run_record(config: Record) -> int:
    """Record, and print the result.

    Returns:
        Exit status: 0; 1 if it gave up, as too few episodes succeeded; 130 after Ctrl-C. Finished episodes are in the
        folder, and the same command goes on from there.

    Raises:
        InputError, StateError: options that do not fit together, or not this machine.
    """
    need_arrow()
    whole(config.episodes, "--episodes", 1)
    whole(config.num_envs, "--num-envs", 1)
    whole(config.seed, "--seed", 0, TRAINING_SEEDS - 1)
    if not 0.0 <= config.noise <= 1.0:
        raise InputError(f"--noise must lie in [0, 1], got {config.noise}")
    console = Console(highlight=False, soft_wrap=True)
    setup, about = _open(config)
    try:
        return _record(config, setup, about, console)
    finally:
        setup.world.close()


def _record(config: Record, setup: Setup, about: dict[str, Any], console: Console) -> int:
    world = setup.world
    task, robot = world.task.name, world.robot.model.name
    folder = config.out or Path("demos", f"{task}-{robot}-{setup.name}".lower())
    with Recorder(
        folder,
        world.sensors,
        ACTION,
        privileged=world.privileged_names,
        state_names=world.robot.proprio_names,
        executed=config.noise > 0.0,
        rgb=config.rgb,
        fps=CONTROL_RATE,
        robot=robot,
        task=config.instruction or task,
        about={**about, "seed": config.seed, "noise": config.noise, "keep": config.keep, "rgb": config.rgb},
    ) as recorder:
        there, first = recorder.episodes, max(recorder.scenes, default=-1) + 1
        console.print(f"{setup.name} shows {task} with the {robot}, seed {config.seed}", markup=False)
        for note in filter(None, (setup.note, f"{there} episodes are already in {folder}" if there else "")):
            console.print(f"note: {note}", style="yellow", markup=False)
        if there >= config.episodes:
            return 0
        enough = first + max(_PATIENCE, _TRIES * (config.episodes - there))
        with Interrupt() as stop, episode_bar(there, config.episodes - there) as advance:
            played = first
            for episode in demonstrate(setup.policy, world, config.noise, first):
                if stop.asked or played >= enough:
                    break
                played = episode.scene + 1
                finite = bool(episode.action.isfinite().all())
                if episode.succeeded or (config.keep == "all" and finite):
                    recorder.append(episode)
                    advance()
                if recorder.episodes == config.episodes:
                    break
        recorder.save()
        return _report(config, recorder, played, stop.asked, console)


def _report(config: Record, recorder: Recorder, played: int, stopped: bool, console: Console) -> int:
    kept = recorder.episodes
    lost = f" ({played - kept} failed)" if config.keep == "success" else ""
    size = sum(path.stat().st_size for path in recorder.folder.rglob("*") if path.is_file()) / 1e6
    frames = f"{recorder.frames:,} control steps, {size:.1f} MB"
    console.print(f"{kept} of {played} episodes{lost}, {frames} in {recorder.folder}", markup=False)
    if kept >= config.episodes:
        return 0
    if stopped:
        console.print("interrupted: the same command goes on from there", style="yellow")
        return INTERRUPTED
    advice = "less --noise, another demonstrator, or --keep all"
    console.print(f"gave up: too few episodes succeed; {advice}", style="red", markup=False)
    return 1


def _open(config: Record) -> tuple[Setup, dict[str, Any]]:
    """The demonstrator, and as plain JSON who it is and in which world."""
    names = ("task", "robot", "sensors", "cameras", "image_size", "render_size", "renderer")
    options, note = {name: getattr(config, name) for name in names}, ""
    if config.policy == EXPERT and options["renderer"] in (None, "auto"):
        problem = gl_problem()
        options["renderer"] = "warp" if problem else "gl"
        note = f"the gl renderer does not work here ({problem}), so warp draws" if problem else ""
    num_envs = min(config.num_envs, config.episodes)
    setup = open_setup(
        config.policy, num_envs, config.seed, options, scripts=(EXPERT,), privileged=True, device=config.device
    )
    world, trained = setup.world, setup.trained
    plain = {"task": world.task.name, "robot": world.robot.model.name, "renderer": options["renderer"]}
    if config.render_size is not None:
        plain["render_size"] = config.render_size
    cameras = [asdict(camera) for camera in world.cameras]
    seen = {"sensors": [sensor.key for sensor in world.sensors], "cameras": cameras}
    about = {
        "by": {"name": setup.name, "weights": fingerprint(trained.policy) if trained else None},
        "world": (trained.options if trained else plain) | json.loads(json.dumps(seen)),
        "versions": {"robofuse": __version__, **package_versions()},
    }
    return setup._replace(note=setup.note or note), about


def demonstrate(policy: Actor, world: World, noise: float = 0.0, first: int = 0) -> Iterator[Episode]:
    """Play episodes `first`, `first` + 1, … without end, and yield them in this order.

    An episode depends on (the world's seed, its number) alone, as far as the demonstrator's arithmetic does not depend
    on the number of worlds.

    Args:
        policy: the demonstrator.
        world: made with `auto_reset=False`; reset by this call.
        noise: standard deviation of the noise on the actions, which are clipped to their bounds.
        first: number of the first episode.
    """
    actor, ready = _Noisy(policy, world, noise), dict[int, Episode]()
    histories: dict[int, list[tuple[dict[str, Tensor], Tensor, Tensor, Tensor, Tensor]]] = {}
    for now in play(actor, world, ((number, None) for number in count(first))):
        histories |= {env_id: [] for env_id in now.began}
        for env_id in now.jobs:
            sensed = {key: value[env_id] for key, value in now.observation.items()}
            done = now.step.reward[env_id], now.step.success[env_id]
            histories[env_id].append((sensed, actor.chosen[env_id], now.action[env_id], *done))
        for end in now.ended:
            number = int(now.episode[end.env_id])
            sensed, *rest = zip(*histories[end.env_id], strict=True)
            chosen, executed, reward, success = (torch.stack(one) for one in rest)
            observation = {key: torch.stack([one[key] for one in sensed]) for key in sensed[0]}
            ready[number] = Episode(observation, chosen, reward, success, number, executed if noise else None)
        while first in ready:
            yield ready.pop(first)
            first += 1


class _Noisy:
    """A policy with noise on its actions; `chosen`, (N, A), has its last actions without it."""

    def __init__(self, policy: Actor, world: World, noise: float) -> None:
        self._actor, self._world, self._noise = stateful(policy, world.num_envs), world, noise
        self.chosen = torch.zeros(world.num_envs, 0)

    def start(self, env_ids: Tensor, /) -> None:
        self._actor.start(env_ids)

    def act(self, observation: dict[str, Tensor], /) -> Tensor:
        self.chosen = self._actor.act(observation).float().cpu().clamp(-1.0, 1.0)
        if not self._noise:
            return self.chosen
        world = self._world
        z = normal(world.seed, Stream.NOISE, world.episode, world.elapsed, self.chosen.shape[1], _SALT)
        return (self.chosen + self._noise * z.float()).clamp(-1.0, 1.0)
