"""`robofuse replay`: watch a policy work, with sensors disabled."""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import tyro
from rich.console import Console
from rich.progress import Progress

from robofuse.checks import whole
from robofuse.envs import World
from robofuse.envs.world import CONTROL_RATE
from robofuse.errors import InputError, StateError
from robofuse.faults import Plan, parse_disable
from robofuse.play import Monitor
from robofuse.replay.dashboard import HEIGHT, WIDTH, Credits, Dashboard
from robofuse.replay.interrupt import Interrupt
from robofuse.replay.moments import Actor, Moment, play
from robofuse.replay.stage import SCRIPTS, Stage, open_policy, open_script
from robofuse.replay.video import Mp4, check_path
from robofuse.replay.window import Window, window_problem
from robofuse.rng import check_seed

_HOLD = 1.0  # seconds that the outcome stays


@dataclass(frozen=True)
class Replay:
    """What to watch.

    Attributes:
        policy: A policy of the package, the path of one, or expert, zero or random, which need no training.
        disable: Sensors to switch off, such as `rgb,depth@20`: no rgb, and no depth from control step 20 on.
        faults: What else breaks, such as `depth:noise(0.5)@10+force:drift`, or a YAML file; `robofuse list` shows what
            there is.
        monitor: What hides sensors that look broken: none; auto for the policy's own; or the path of one.
        episodes: How many.
        episode: Number of the first; with the seed it tells the scene.
        seed: Of the scenes; the default is kept for evaluation and never trained on.
        out: The video; by default its name tells the policy and what is disabled.
        show: A window: auto opens one where there is a display. Q or Escape ends the replay.
        renderer: Instead of the one that the policy was trained on; needs --allow-mismatch.
        allow_mismatch: Let the renderer differ from that of the training.
        fps: Pictures per second of the video; 20 is real time.
        device: Where the network runs: auto, cpu or cuda.
        task: For expert, zero and random: task, as in `robofuse list`.
        robot: For expert, zero and random: robot, as in `robofuse list`.
        cameras: For expert, zero and random: cameras, as in `robofuse list`.
        image_size: For expert, zero and random: pixels a side.
    """

    policy: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="POLICY")] = "grasp"
    disable: str = ""
    faults: str = ""
    monitor: str = "none"
    episodes: int = 3
    episode: int = 0
    seed: int = 1_000_000
    out: Path | None = None
    show: Literal["auto", "yes", "no"] = "auto"
    renderer: str | None = None
    allow_mismatch: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    fps: float = CONTROL_RATE
    device: str = "auto"
    task: str | None = None
    robot: str | None = None
    cameras: tuple[str, ...] = ()
    image_size: int | None = None


def run_replay(config: Replay) -> list[Moment]:
    """Play, draw and film; print a line per episode.

    Args:
        config: what to watch.

    Returns:
        The last moment of every episode that was played to its end.

    Raises:
        ValueError: a mistake in the options; says what would be right.
        RuntimeError: no window, no encoder, or no such renderer on this machine.
    """
    _check(config)
    console = Console()
    world, actor, name, note, monitor = _open(config)
    with ExitStack() as stack:
        stack.callback(world.close)
        disabled = parse_disable(config.disable, [sensor.key for sensor in world.sensors])
        plan = Plan((*disabled, *Plan.read(config.faults, world.sensors)))
        for event in plan:
            if event.phase is None and event.step >= world.max_steps:
                raise InputError(
                    f"{event} never happens: episodes of {world.task.name} end at control step "
                    f"{world.max_steps}; give an earlier step than {event.step}"
                )
        dashboard = Dashboard(world, Credits(name, _about(config, world, note), config.seed), disabled)
        stop = stack.enter_context(Interrupt())
        out = config.out or default_name(name, disabled, config.faults)
        video = stack.enter_context(Mp4(out, (WIDTH, HEIGHT), config.fps))
        window = Window(config.fps) if config.show != "no" and not window_problem() else None
        if window is not None:
            stack.callback(window.close)
        progress = stack.enter_context(Progress(console=console, transient=True))
        playing = progress.add_task("playing", total=config.episodes)
        ends: list[Moment] = []
        for moment in _episodes(config, world, actor, plan, monitor):
            image = dashboard.draw(moment, world.picture())
            for _ in range(1 + round(_HOLD * config.fps) if moment.outcome else 1):
                video.write(image)
                if window is not None:
                    window.show(image)
            if moment.outcome:
                ends.append(moment)
                progress.console.print(_line(moment))
            progress.update(playing, completed=len(ends) + (0 if moment.outcome else moment.step / world.max_steps))
            if stop.asked or (window is not None and window.quit):
                progress.console.print("stopped")
                break
    _summary(console, config, ends, video)
    return ends


def _episodes(config: Replay, world: World, actor: Actor, plan: Plan, monitor: Monitor | None) -> Iterator[Moment]:
    for number in range(config.episodes):
        yield from play(world, actor, plan, config.episode + number, monitor)


def default_name(policy: str, disabled: Plan, faults: str = "") -> Path:
    """A file name that tells the policy and what is wrong, such as `replay-grasp-without-rgb-depth@20.mp4`."""
    parts = [event.sensor + (f"@{event.step}" if event.step else "") for event in disabled]
    words = ["replay", policy, *(["without", *parts] if parts else []), *(["with", faults] if faults else [])]
    return Path("-".join(_plain(word) for word in words) + ".mp4")


def _plain(word: str) -> str:
    return "".join(letter if letter.isalnum() or letter in "-_.@" else "-" for letter in word).strip("-")


def _check(config: Replay) -> None:
    whole(config.episodes, "episodes", 1)
    check_seed(config.episode, "episode")
    check_seed(config.seed)
    if not 1.0 <= config.fps <= 240.0:
        raise InputError(f"fps must lie in [1, 240], got {config.fps}")
    if config.out is not None:
        check_path(config.out)
    if config.show == "yes" and (problem := window_problem()):
        raise StateError(f"cannot show a window: {problem}; without --show the replay goes to a video")
    if config.policy in SCRIPTS and config.monitor != "none":
        raise InputError(f"--monitor is for trained policies; {config.policy} looks at no sensor")
    if config.policy not in SCRIPTS:
        for name in ("task", "robot", "cameras", "image_size"):
            if getattr(config, name):
                option = "--" + name.replace("_", "-")
                raise InputError(f"{option} is for {', '.join(SCRIPTS)}; policy {config.policy!r} brings its own world")


def _open(config: Replay) -> Stage:
    if config.policy not in SCRIPTS:
        return open_policy(
            config.policy,
            config.seed,
            renderer=config.renderer,
            allow_mismatch=config.allow_mismatch,
            device=config.device,
            monitor=config.monitor,
        )
    return open_script(
        config.policy,
        config.seed,
        task=config.task,
        robot=config.robot,
        cameras=config.cameras,
        image_size=config.image_size,
        renderer=config.renderer,
    )


def _about(config: Replay, world: World, note: str) -> str:
    speed = "" if config.fps == CONTROL_RATE else f"{config.fps / CONTROL_RATE:g} x real time"
    what = f"robofuse replay: {world.task.name} with the {world.robot.model.name}"
    return ", ".join(filter(None, (what, config.faults, note, speed)))


def _line(moment: Moment) -> str:
    outcome = "[green]success[/]" if moment.success else f"[red]failed[/] ({moment.outcome})"
    return f"episode {moment.episode}: {outcome} after {moment.step} steps, return {moment.total:.2f}"


def _summary(console: Console, config: Replay, ends: list[Moment], video: Mp4) -> None:
    good = sum(moment.success for moment in ends)
    mean = f", mean return {np.mean([moment.total for moment in ends]):.2f}" if ends else ""
    console.print(f"{good} of {len(ends)} episodes succeeded{mean}")
    if video.frames:
        seconds = video.frames / config.fps
        wrote = f"wrote {video.path}: {video.frames} pictures, {seconds:.1f} s"
        console.print(wrote, soft_wrap=True, highlight=False, markup=False)
