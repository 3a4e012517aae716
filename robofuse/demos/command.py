"""`robofuse record`: a script or a policy demonstrates, until there are enough episodes."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console
from torch import Tensor

from robofuse import __version__
from robofuse.checks import whole
from robofuse.demos.arrow import need_arrow
from robofuse.demos.config import EXPERT, Record
from robofuse.demos.playing import Act, play
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
from robofuse.play import fingerprint, load_trained, make_world, policy_title

_PATIENCE, _TRIES = 100, 10  # give up when this many episodes, and this many for each that is wanted, were not enough


class _Stage(NamedTuple):
    """Who demonstrates, and where."""

    world: World
    act: Act
    name: str
    about: dict[str, Any]
    note: str = ""


def run_record(config: Record) -> int:
    """Record, and print what came of it.

    Args:
        config: what to do.

    Returns:
        Exit status: 0; 1 if the demonstrator failed so often that it gave up; 130 after Ctrl-C. What was finished is
        in the folder, and the same command goes on from there.

    Raises:
        ValueError, RuntimeError: options that do not fit; the message says what would.
    """
    need_arrow()
    whole(config.episodes, "--episodes", 1)
    whole(config.num_envs, "--num-envs", 1)
    whole(config.seed, "--seed", 0, TRAINING_SEEDS - 1)
    if not 0.0 <= config.noise <= 1.0:
        raise InputError(f"--noise must lie in [0, 1], got {config.noise}")
    console = Console(highlight=False, soft_wrap=True)
    stage = _open(config)
    try:
        return _record(config, stage, console)
    finally:
        stage.world.close()


def _record(config: Record, stage: _Stage, console: Console) -> int:
    world = stage.world
    task, robot = world.task.name, world.robot.model.name
    folder = config.out or Path("demos", f"{task}-{robot}-{stage.name}".lower())
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
        about={**stage.about, "seed": config.seed, "noise": config.noise, "keep": config.keep, "rgb": config.rgb},
    ) as recorder:
        there, first = recorder.episodes, max(recorder.scenes, default=-1) + 1
        console.print(f"{stage.name} shows {task} with the {robot}, seed {config.seed}", markup=False)
        for note in filter(None, (stage.note, f"{there} episodes are already in {folder}" if there else "")):
            console.print(f"note: {note}", style="yellow", markup=False)
        if there >= config.episodes:
            return 0
        enough = first + max(_PATIENCE, _TRIES * (config.episodes - there))
        with Interrupt() as stop, episode_bar(there, config.episodes - there) as advance:
            played = first
            for episode in play(world, stage.act, config.noise, first):
                if stop.asked or played >= enough:
                    break
                played = episode.scene + 1
                if episode.succeeded or config.keep == "all":
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


def _open(config: Record) -> _Stage:
    """ValueError if options are given that are not for this demonstrator."""
    given = {name: getattr(config, name) for name in ("task", "robot", "sensors", "cameras", "image_size", "renderer")}
    given = {name: value for name, value in given.items() if value}
    worlds = min(config.num_envs, config.episodes)
    versions = {"robofuse": __version__, **package_versions()}
    if config.policy != EXPERT:
        if given:
            option = "--" + next(iter(given)).replace("_", "-")
            raise InputError(f"{option} is for the {EXPERT}; policy {config.policy!r} brings its own world")
        trained = load_trained(config.policy, device=config.device)
        world = make_world(trained, worlds, config.seed, auto_reset=True, privileged=True)
        by = {"name": policy_title(config.policy), "weights": fingerprint(trained.policy)}
        about = {"by": by, "world": trained.options | _seen(world), "versions": versions}
        env_ids = stateful(trained.policy, worlds)

        def act(observation: dict[str, Tensor]) -> Tensor:
            env_ids.start((world.elapsed == 0).nonzero()[:, 0])
            return env_ids.act(observation)

        return _Stage(world, act, by["name"] or "", about, trained.note)
    note = ""
    if given.get("renderer", "auto") == "auto":
        problem = gl_problem()
        given["renderer"] = "warp" if problem else "gl"
        note = f"the gl renderer does not work here ({problem}), so warp draws" if problem else ""
    world = World(num_envs=worlds, seed=config.seed, auto_reset=True, privileged=True, **given)
    plain = {"task": world.task.name, "robot": world.robot.model.name, "renderer": given["renderer"]} | _seen(world)
    about = {"by": {"name": EXPERT, "weights": None}, "world": plain, "versions": versions}
    return _Stage(world, lambda _: world.expert(), EXPERT, about, note)


def _seen(world: World) -> dict[str, Any]:
    """What a world's cameras and sensors are, in plain JSON."""
    cameras = [asdict(camera) for camera in world.cameras]
    return json.loads(json.dumps({"sensors": [sensor.key for sensor in world.sensors], "cameras": cameras}))
