"""`robofuse replay`: watch a policy work, with sensors disabled."""

import re
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, NamedTuple

import tyro
from rich.console import Console
from rich.progress import Progress

from robofuse.checks import check_types, whole
from robofuse.envs.world import CONTROL_RATE
from robofuse.errors import InputError, StateError
from robofuse.evaluate.agents import AgentOptions, load_foreign
from robofuse.evaluate.foreign import Foreign
from robofuse.evaluate.run import Evaluate, find_monitor
from robofuse.faults import Plan, parse_disable
from robofuse.interrupts import Interrupt
from robofuse.play import SCRIPTS, Setup, Trained, open_setup
from robofuse.replay.dashboard import HEIGHT, WIDTH, Dashboard, Stage
from robofuse.replay.foreign import foreign_frames, foreign_stage
from robofuse.replay.frames import Frame, frames
from robofuse.replay.video import Mp4, Window, check_path, window_problem
from robofuse.rng import check_seed
from robofuse.sensors import Sensor

if TYPE_CHECKING:
    from robofuse import monitor as monitors

_HOLD = 1.0  # seconds that the outcome stays
_WORLD = ("task", "robot", "cameras", "image_size", "render_size")  # options of World, for scripts


@dataclass(frozen=True)
class Replay:
    """What to watch.

    Attributes:
        policy: A policy of the package, the path of one, or expert, zero or random, which need no training; with --env
            the file of an agent of Stable-Baselines3.
        disable: Sensors to switch off, such as `rgb,depth@20`: no rgb, and no depth from control step 20 on.
        faults: What else breaks, such as `depth:noise(0.5)@10+force:drift`, or a YAML file; `robofuse list` shows the
            faults.
        monitor: The monitor that masks sensors which look broken: none; auto for the policy's own, beside its file or
            where `robofuse evaluate` leaves it; or the path of one. With --env, too.
        episodes: Number of episodes; with --live there is no end to them.
        episode: Number of the first one; with the seed it gives the scene.
        seed: Of the scenes; the default is kept for evaluation and never trained on.
        out: The video; by default its name has the policy and what is disabled.
        rerun: Also write the frames to this .rrd file, for the viewer of rerun.
        show: A window: auto opens one where there is a display. Q or Escape ends the replay.
        renderer: Instead of the one that the policy was trained on; needs --allow-mismatch.
        allow_mismatch: Let the renderer differ from that of the training.
        fps: Pictures per second of the video; by default real time, which is 20 in robofuse's worlds.
        device: Where the network runs: auto, cpu or cuda.
        task: For expert, zero and random: task, as in `robofuse list`.
        robot: For expert, zero and random: robot, as in `robofuse list`.
        cameras: For expert, zero and random: cameras, as in `robofuse list`.
        image_size: For expert, zero and random: pixels a side.
        render_size: For expert, zero and random: pixels a side at which cameras draw, by default --image-size.
        live: A page in the browser, in place of a film: the scene in 3D, and switches that break sensors while the
            policy works, until Ctrl-C. From another machine: ssh -L 8080:localhost:8080 MACHINE.
        port: Where the page is; 0 for any port that is free.
        host: Address that the page listens at; 0.0.0.0 lets others in, who may then throw the switches.
        agent: An agent of Stable-Baselines3 in an environment of others, which draws itself.
    """

    policy: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="POLICY")] = "grasp"
    disable: str = ""
    faults: str = ""
    monitor: str = "none"
    episodes: int = 3
    episode: int = 0
    seed: int = 1_000_000
    out: Path | None = None
    rerun: Path | None = None
    show: Literal["auto", "yes", "no"] = "auto"
    renderer: str | None = None
    allow_mismatch: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    fps: float | None = None
    device: str = "auto"
    task: str | None = None
    robot: str | None = None
    cameras: tuple[str, ...] = ()
    image_size: int | None = None
    render_size: int | None = None
    live: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    port: int = 8080
    host: str = "127.0.0.1"
    agent: AgentOptions = AgentOptions()


class Scene(NamedTuple):
    """What is filmed.

    Attributes:
        stage: where it plays.
        frames: of all its episodes.
        name: of the policy.
        about: for the first line.
        disabled: for the second one.
        rate: control steps per second.
    """

    stage: Stage
    frames: Generator[Frame]
    name: str
    about: str
    disabled: Plan
    rate: float


def run_replay(config: Replay) -> list[Frame]:
    """Play, draw and film; print a line per episode. With `live`, show a page until Ctrl-C.

    Returns:
        The last frame of every episode that was played to its end; of a live replay none.

    Raises:
        InputError: a mistake in the options.
        StateError: no window, no encoder, or no such renderer on this machine.
    """
    if config.live:
        _run_live(config)
        return []
    with open_scene(config) as scene, ExitStack() as stack:
        if config.rerun is not None:
            from robofuse.replay.rerun import Recording

            recording = stack.enter_context(Recording(config.rerun, scene.stage.sensors))
            scene = scene._replace(frames=recording.through(scene.frames))
        out = config.out or default_name(scene.name, scene.disabled, config.faults)
        ends = film([scene], config.episodes, out, fps=config.fps, show=config.show != "no")
    mean = f", mean return {sum(frame.total for frame in ends) / len(ends):.2f}" if ends else ""
    print(f"{sum(frame.success for frame in ends)} of {len(ends)} episodes succeeded{mean}")
    return ends


@contextmanager
def open_scene(config: Replay) -> Iterator[Scene]:
    """What a replay shows; its worlds are closed in the end. Raises as `run_replay`."""
    _check(config)
    with ExitStack() as stack:
        scene = _foreign(config) if config.agent.env else _own(config, stack)
        stack.callback(scene.frames.close)
        yield scene


def film(scenes: Iterable[Scene], episodes: int, out: Path, *, fps: float | None = None, show: bool) -> list[Frame]:
    """Film scenes one after the other, and show them in a window if there can be one; print a line per episode.

    Args:
        scenes: what is filmed.
        episodes: of all of them.
        out: of the film.
        fps: pictures per second, by default those of the first scene's control steps.
        show: whether a window is wanted.

    Returns:
        The last frame of every episode that was played to its end.
    """
    console = Console(markup=False, highlight=False, soft_wrap=True)
    ends, video, window, rate = list[Frame](), None, None, fps or CONTROL_RATE
    with ExitStack() as stack:
        stop = stack.enter_context(Interrupt())
        progress = stack.enter_context(Progress(console=console, transient=True))
        playing = progress.add_task("playing", total=episodes)
        for scene in scenes:
            if video is None:
                rate = fps or scene.rate
                video = stack.enter_context(Mp4(out, (WIDTH, HEIGHT), rate))
                if show and not window_problem():
                    window = Window(rate)
                    stack.callback(window.close)
            speed = "" if rate == scene.rate else f"{rate / scene.rate:g} x real time"
            about = ", ".join(filter(None, (scene.about, speed)))
            dashboard, most = Dashboard(scene.stage, scene.name, about, scene.disabled), scene.stage.max_steps
            for frame in scene.frames:
                image = dashboard.draw(frame)
                for _ in range(1 + round(_HOLD * rate) if frame.outcome else 1):
                    video.write(image)
                    if window is not None:
                        window.show(image)
                if frame.outcome:
                    ends.append(frame)
                    outcome, colour = ("success", "green") if frame.success else (f"failed ({frame.outcome})", "red")
                    said = f"episode {frame.episode}: {outcome} after {frame.step} steps, return {frame.total:.2f}"
                    progress.console.print(said, style=colour)
                progress.update(playing, completed=len(ends) + (frame.step / most if most and not frame.outcome else 0))
                if stop.asked or (window is not None and window.quit):
                    progress.console.print("stopped")
                    break
            else:
                continue
            break
    if video is not None and video.frames:
        console.print(f"wrote {out}: {video.frames} pictures, {video.frames / rate:.1f} s")
    return ends


def _run_live(config: Replay) -> None:
    """Show a page until Ctrl-C, then say what was seen."""
    from robofuse.replay.live import Live
    from robofuse.replay.page import Page

    _check(config)
    console = Console(markup=False, highlight=False, soft_wrap=True)
    with ExitStack() as stack:
        setup, monitor, _, plan = _open(config, stack)
        world = setup.world
        title = f"{setup.name}: {world.task.name} with the {world.robot.model.name}"
        page = stack.enter_context(Page(config.host, config.port, title))
        live = Live(setup.policy, world, page.show, planned=plan, monitor=monitor, first=config.episode)
        page.open(live)
        stop = stack.enter_context(Interrupt())
        console.print(f"{page.url} shows {', '.join(filter(None, (title, setup.note)))}; Ctrl-C ends it")
        live.run(lambda: stop.asked)
    console.print(f"{live.succeeded} of {live.finished} episodes succeeded, {live.steps} control steps were played")


def _own(config: Replay, stack: ExitStack) -> Scene:
    """A policy of robofuse or a script, in a World that `stack` closes."""
    setup, monitor, disabled, plan = _open(config, stack)
    world = setup.world
    jobs: list[tuple[int, Plan | None]] = [(config.episode + number, plan) for number in range(config.episodes)]
    what = f"robofuse replay: {world.task.name} with the {world.robot.model.name}"
    about = ", ".join(filter(None, (what, config.faults, setup.note)))
    shown = frames(setup.policy, world, jobs, monitor)
    return Scene(Stage.of(world), shown, setup.name, about, disabled, CONTROL_RATE)


def _open(config: Replay, stack: ExitStack) -> tuple[Setup, "monitors.Monitor | None", Plan, Plan]:
    """A policy of robofuse or a script in a World that `stack` closes, its monitor, and `_plans`."""
    setup = open_setup(
        config.policy,
        1,
        config.seed,
        {name: getattr(config, name) for name in _WORLD},
        device=config.device,
        renderer=config.renderer,
        allow_mismatch=config.allow_mismatch,
    )
    world = setup.world
    stack.callback(world.close)
    monitor = _monitor(config, setup.trained) if setup.trained else None
    disabled, plan = _plans(config, world.sensors)
    for event in plan:
        if event.phase is None and event.step >= world.max_steps:
            raise InputError(
                f"{event} never happens: episodes of {world.task.name} end at control step "
                f"{world.max_steps}; give an earlier step than {event.step}"
            )
    return setup, monitor, disabled, plan


def _foreign(config: Replay) -> Scene:
    """An agent of others, in an environment of others."""
    foreign = load_foreign(config.policy, config.agent, device=config.device, seed=config.seed, pictures=True)
    disabled, plan = _plans(config, foreign.policy.sensors)
    plan.check(foreign.policy.sensors)
    numbers = range(config.episode, config.episode + config.episodes)
    about = ", ".join(filter(None, (f"robofuse replay: {foreign.options['task']}", config.faults)))
    shown = foreign_frames(foreign, plan, config.seed, numbers, _monitor(config, foreign))
    name = Path(config.policy).stem
    return Scene(foreign_stage(foreign, config.seed), shown, name, about, disabled, foreign.rate)


def _monitor(config: Replay, trained: Trained | Foreign) -> "monitors.Monitor | None":
    """What `--monitor` asks for; `auto` also looks where an evaluation of the policy leaves its own."""
    asked = Evaluate(config.policy, monitor="auto", agent=config.agent)
    monitor = find_monitor(config.monitor, config.policy, trained, (asked.folder,))
    if monitor is None and config.monitor == "auto":
        raise InputError(f"no monitor was calibrated for {config.policy}: {asked.command} leaves one")
    return monitor


def _plans(config: Replay, sensors: Sequence[Sensor]) -> tuple[Plan, Plan]:
    """The disabled sensors; and all that breaks."""
    disabled = parse_disable(config.disable, [sensor.key for sensor in sensors])
    return disabled, Plan((*disabled, *Plan.read(config.faults, sensors)))


def default_name(policy: str, disabled: Plan, faults: str = "") -> Path:
    """A file name with the policy and what is broken, such as `replay-grasp-without-rgb-depth@20.mp4`."""
    parts = [event.sensor + (f"@{event.step}" if event.step else "") for event in disabled]
    words = ["replay", policy, *(["without", *parts] if parts else []), *(["with", faults] if faults else [])]
    return Path("-".join(re.sub(r"[^\w.@-]", "-", word).strip("-") for word in words) + ".mp4")


def _for_films(config: Replay) -> str:
    """An option that was given and has no meaning for a page, or an empty string."""
    given = {
        "--env": config.agent.env,
        "--out": config.out,
        "--rerun": config.rerun,
        "--show yes": config.show == "yes",
    }
    return next((option for option, value in given.items() if value), "")


def _check(config: Replay) -> None:
    check_types(config)
    whole(config.episodes, "episodes", 1)
    check_seed(config.episode, "episode")
    check_seed(config.seed)
    whole(config.port, "port", 0, 65535)
    if config.fps is not None and not 1.0 <= config.fps <= 240.0:
        raise InputError(f"fps must lie in [1, 240], got {config.fps}")
    if config.out is not None:
        check_path(config.out)
    if config.rerun is not None:
        from robofuse.replay.rerun import check_path as check_recording

        check_recording(config.rerun)
    if config.live and (option := _for_films(config)):
        raise InputError(f"--live is a page of worlds of robofuse; {option} is for films: leave one of them out")
    if config.show == "yes" and (problem := window_problem()):
        raise StateError(f"cannot show a window: {problem}; without --show the replay goes to a video")
    if config.agent.env:
        for option in (*_WORLD, "renderer"):
            if getattr(config, option) not in (None, ()):
                raise InputError(f"--{option.replace('_', '-')} is for worlds of robofuse; leave it out with --env")
    if config.policy in SCRIPTS and config.monitor != "none":
        raise InputError(f"--monitor is for trained policies; {config.policy} looks at no sensor")
