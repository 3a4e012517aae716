"""`robofuse evaluate`: a policy under every failure, on the same scenes."""

import shlex
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import MISSING, dataclass, field, fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import gymnasium as gym
import msgspec
import tyro
from rich.console import Console
from rich.progress import Progress

from robofuse import __version__
from robofuse.checks import check_types, whole
from robofuse.envs import World
from robofuse.errors import INTERRUPTED, InputError
from robofuse.evaluate.agents import AgentOptions, load_foreign
from robofuse.evaluate.conditions import Condition, parse, parse_faults
from robofuse.evaluate.folder import (
    CONDITIONS,
    EPISODES,
    HEATMAP,
    RECORD,
    read_evaluation,
    read_finished,
    write_results,
)
from robofuse.evaluate.foreign import Foreign, check_plans, make_foreign, play_foreign
from robofuse.evaluate.results import ConditionResult, Episode, Evaluated, Evaluation, Record, summarise
from robofuse.evaluate.rollout import Job, rollout, schedule
from robofuse.evaluate.screen import COMPARISON, comparison_table, condition_table, episode_bar, fault_table
from robofuse.evaluate.seeds import SEEDS, SEEDS_PICTURE, draw_seeds, seeds_table, trainings_in
from robofuse.files import lock, write_atomic
from robofuse.machine import describe_machine, package_versions
from robofuse.play import Monitor, Trained, fingerprint, load_trained, make_world
from robofuse.rng import check_seed
from robofuse.sensors import Kind

if TYPE_CHECKING:
    from robofuse import monitor as monitors

SEED = 1_000_000
TRAINING_SEEDS = 1000  # seeds below are for training
MONITOR = "monitor.safetensors"
BESIDE = ".monitor"  # the end of a monitor's name, beside the file of its policy
_MONITOR_SEED = 3_000_000  # of the scenes that monitors are calibrated on, apart from trainings and evaluations
_SAVE_EVERY = 10.0  # seconds
_FEWEST = 4  # worlds; matrix products of fewer rows round differently, and so may end a long episode differently


@dataclass(frozen=True)
class Evaluate:
    """What to evaluate, and how.

    Attributes:
        policy: Name of a policy that comes with robofuse, or the path of one; with --env, the file of an agent of
            Stable-Baselines3. Or a folder of trainings, as `robofuse train --seeds` and `sweep` leave: each is
            evaluated, and a table and a picture tell how surely each condition goes well over the seeds.
        episodes: Episodes of each condition; they have the same scenes under every condition.
        conditions: Groups (everything, subsets, singles, midway) or single conditions such as all, no-rgb, only-force,
            no-depth+rgb, no-rgb@20 (from control step 20 on).
        faults: What else breaks: plans such as rgb:freeze@15 or depth:noise(0.5)+force:drift, or YAML files with such,
            each a condition of its own; grid for every fault of every sensor at four severities. `robofuse list`
            shows the faults.
        onset: Control step from which on sensors are missing in the group midway, and faults of grid are there.
        monitor: What masks sensors that look broken: none; auto for the policy's own monitor, which is calibrated
            first if it has none, and left in the folder; or the path of one. With --env, too.
        compare: Other policies, to play the same; the folder then has one for each of them.
        seed: Of the scenes. Trainings use seeds below 1000; keep away from those.
        num_envs: Episodes simulated at a time.
        out: Folder for the results, by default evaluation/POLICY. If it holds a part of the same evaluation, that part
            is kept and the rest is done.
        device: Of the network: auto, cpu or cuda.
        renderer: Other renderer than the one that the policy was trained on; needs --allow-mismatch.
        allow_mismatch: Let the renderer differ.
        agent: An agent of Stable-Baselines3 in an environment of others; its episodes are played one by one.
    """

    policy: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="POLICY")]
    episodes: int = 200
    conditions: tuple[str, ...] = ("everything",)
    faults: tuple[str, ...] = ()
    onset: int = 10
    monitor: str = "none"
    compare: tuple[str, ...] = ()
    seed: int = SEED
    num_envs: int = 64
    out: Path | None = None
    device: str = "auto"
    renderer: str | None = None
    allow_mismatch: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    agent: AgentOptions = AgentOptions()

    @property
    def name(self) -> str:
        """A short name of the policy: its own, or the last two parts of its path."""
        path = Path(self.policy)
        stem = path.stem if path.suffix in (".zip", ".pt", ".safetensors", ".onnx") else path.name
        folder = path.parent.parent if path.parent.name == "run" else path.parent  # of a study's job
        return f"{folder.name}-{stem}" if path.is_file() and folder.name else stem

    @property
    def folder(self) -> Path:
        """Where the results go."""
        names = [self.name, *(replace(self, policy=policy).name for policy in self.compare)]
        return self.out or Path("evaluation", "-".join(names))

    def each(self) -> "list[Evaluate]":
        """One for each policy of `compare`, with folders of their own in `folder`."""
        folder, found = self.folder, list[Evaluate]()
        for policy in (self.policy, *self.compare):
            one = replace(self, policy=policy, compare=())
            taken = sum(other.name == one.name for other in found)
            if taken:
                raise InputError(f"two policies are called {one.name}; give the paths of files, or rename a folder")
            found.append(replace(one, out=folder / one.name))
        return found

    @property
    def command(self) -> str:
        """The command line that asks for this, without what is default."""
        words = ["robofuse", "evaluate", self.policy]
        for whose, option in [(one, option) for one in (self, self.agent) for option in fields(one)]:
            value = getattr(whose, option.name)
            if value is self.agent or option.default is MISSING or value == option.default:
                continue
            words.append("--" + option.name.replace("_", "-"))
            if not isinstance(value, bool):
                words += map(str, value if isinstance(value, tuple) else [value])
        return shlex.join(words)


@dataclass
class _Run:
    """One evaluation as far as it has come."""

    folder: Path
    record: Record
    conditions: list[Condition]
    episodes: list[Episode]
    before: float  # seconds of earlier calls
    start: float = field(default_factory=time.monotonic)
    saved: float = field(default_factory=time.monotonic)

    @property
    def results(self) -> list[ConditionResult]:
        """By condition, over the scenes that every condition has finished."""
        return summarise([ConditionResult.blank(condition) for condition in self.conditions], self.episodes)

    def add(self, episode: Episode) -> None:
        self.episodes.append(episode)
        if time.monotonic() - self.saved > _SAVE_EVERY:
            self.save()

    def save(self) -> None:
        results = self.results
        self.record = msgspec.structs.replace(
            self.record,
            complete=results[0].n >= self.record.episodes,
            scenes=results[0].n,
            seconds=round(self.before + time.monotonic() - self.start, 1),
            written=datetime.now(UTC).isoformat(timespec="seconds"),
        )
        write_results(self.folder, self.record, results, self.episodes)
        self.saved = time.monotonic()


def run_evaluate(config: Evaluate) -> int:
    """Evaluates, writes the folder and prints a table; with `compare`, for several policies, and how they differ.

    Returns:
        Exit status: 0, or 130 if Ctrl-C ended it early; all that was finished is then in the folder.

    Raises:
        InputError, StateError: options that do not fit; the message says what would.
    """
    check_types(config)
    for name in ("episodes", "num_envs", "onset"):
        whole(getattr(config, name), name, 0 if name == "onset" else 1)
    check_seed(config.seed)
    trainings = {} if config.agent.env else trainings_in(config.policy)
    if not config.compare and not trainings:
        trained = _load(config)
        return _evaluate(config, trained, _conditions(config, trained))
    if config.compare and trainings:
        raise InputError(
            f"{config.policy} holds {len(trainings)} trainings, which are compared anyway; leave --compare"
        )
    each = {one.name: one for one in config.each()}
    if trainings:
        each = {name: replace(config, policy=str(path), out=config.folder / name) for name, path in trainings.items()}
    if status := _evaluate_each(each):
        return status
    results = {name: read_evaluation(one.folder).conditions for name, one in each.items()}
    table, text = seeds_table(results) if trainings else comparison_table(results)
    wrote = config.folder / (SEEDS if trainings else COMPARISON)
    write_atomic(wrote, text)
    console = Console(highlight=False, markup=False)
    console.width = max(console.width, 40 * len(table.columns) + 30)
    console.print(table)
    if trainings:
        write_atomic(config.folder / SEEDS_PICTURE, draw_seeds(results))
        wrote = f"{wrote}, {SEEDS_PICTURE}"
    console.print(f"wrote {wrote}")
    return 0


def _evaluate_each(each: "Mapping[str, Evaluate]") -> int:
    """Evaluates several policies under the conditions of the one with the most sensors; returns the exit status."""
    several = {name: _load(one) for name, one in each.items()}
    first = max(several, key=lambda name: len(several[name].policy.keys))
    conditions = _conditions(each[first], several[first])
    for name, trained in several.items():
        strange = sorted(set(trained.policy.keys) - set(conditions[0].keys))
        if strange:
            raise InputError(
                f"{each[name].policy} reads {', '.join(strange)}, which {each[first].policy} does not: one policy must "
                "have all sensors of the others"
            )
    for name, one in each.items():
        trained = several[name]
        if status := _evaluate(one, trained, [condition.among(trained.policy.keys) for condition in conditions]):
            return status
    return 0


def evaluate_agent(
    agent: Any,  # noqa: ANN401
    make_env: Callable[[], gym.Env],
    out: Path | str,
    *,
    name: str = "agent",
    conditions: Sequence[str] = ("everything",),
    faults: Sequence[str] = (),
    episodes: int = 50,
    onset: int = 10,
    seed: int = SEED,
    success_return: float | None = None,
    kinds: Mapping[str, Kind] | None = None,
    normalise: Any = None,  # noqa: ANN401
    monitor: "monitors.Monitor | Path | str" = "none",
) -> Evaluation:
    """Evaluate anything that acts, in any Gymnasium environment with a Dict observation; `robofuse report` reads it.

    Args:
        agent: a function from an observation, key → array, to an action; or an agent of Stable-Baselines3. A function
            is given `available` beside the readings. If it has `start`, that is called when an episode begins.
        make_env: makes the environment. Episode i begins with `reset(seed=seed + i)` in every condition.
        out: folder for the results. If it holds a part of the same evaluation, the rest is done; of a function nobody
            can tell that it is the same, so then the folder must be new.
        name: of the agent.
        conditions: as of `Evaluate`.
        faults: likewise.
        episodes: of each condition.
        onset: as of `Evaluate`.
        seed: of the scenes.
        success_return: the sum of rewards from which on an episode counts as done; by default the last `info` says it
            under `is_success` or `success`.
        kinds: key → kind of sensor, where the space does not tell.
        normalise: the `VecNormalize` that the agent was trained with; only read.
        monitor: what masks sensors that look broken: a monitor of `robofuse.monitor.calibrate_env`, or the path of one;
            `auto` for one that is calibrated first and left in the folder, or found there if it belongs to the agent's
            weights, which a function has none of; or `none`.

    Raises:
        InputError: what does not fit; the message says what would.
    """
    folder = Path(out)
    foreign = make_foreign(
        agent, make_env, success_return=success_return, kinds=kinds, normalise=normalise, seed=check_seed(seed)
    )
    if foreign.policy.digest is None and (folder / RECORD).exists():
        raise InputError(f"{folder} holds an evaluation, and whether it is of the same function cannot be told; give "
                         "another out")  # fmt: skip
    config = Evaluate(
        name, whole(episodes, "episodes", 1), tuple(conditions), tuple(faults), whole(onset, "onset", 0), seed=seed,
        monitor=str(monitor) if isinstance(monitor, str | Path) else "none", out=folder,
    )  # fmt: skip
    given = None
    if not isinstance(monitor, str | Path):
        given = monitor
        _check_monitor(given, "the monitor", foreign)
    if _evaluate(config, foreign, _conditions(config, foreign), given):
        raise KeyboardInterrupt
    return read_evaluation(folder)


def _load(config: Evaluate) -> "Trained | Foreign":
    if config.agent.env:
        return load_foreign(config.policy, config.agent, device=config.device, seed=config.seed)
    return load_trained(
        config.policy, device=config.device, renderer=config.renderer, allow_mismatch=config.allow_mismatch
    )


def _conditions(config: Evaluate, trained: "Trained | Foreign") -> list[Condition]:
    found = parse(config.conditions, tuple(trained.policy.keys), config.onset)
    found += parse_faults(config.faults, trained.policy.sensors, config.onset) if config.faults else []
    return list({condition.name: condition for condition in found}.values())


def _evaluate(
    config: Evaluate,
    trained: "Trained | Foreign",
    conditions: list[Condition],
    monitor: "monitors.Monitor | None" = None,
) -> int:
    console = Console(highlight=False, markup=False, soft_wrap=True)
    count = f"{len(conditions)} conditions × {config.episodes} episodes of {_place(trained)}"
    console.print(f"{config.name}: {count}, seed {config.seed}", style="bold")
    if trained.note:
        console.print(f"note: {trained.note}", style="yellow")
    if config.seed < TRAINING_SEEDS and isinstance(trained, Trained):
        console.print(
            f"note: seeds below {TRAINING_SEEDS} are for training; the policy may know these scenes", style="yellow"
        )
    jobs = schedule(conditions, range(config.episodes))
    with lock(config.folder, "evaluation"):
        monitor = monitor or open_monitor(config, trained, console)
        record = _record(config, trained, monitor)
        asked = [(job.condition.name, job.episode) for job in jobs]
        episodes, seconds = read_finished(config.folder, record, asked)
        if episodes:
            console.print(f"{len(episodes):,} episodes are already in {config.folder}")
        run = _Run(config.folder, record, conditions, episodes, seconds)
        complete = _play(run, trained, config, jobs, monitor)
        _report(console, run, trained, config)
    if complete:
        return 0
    kept = f"{len(run.episodes):,} of {len(jobs):,} episodes are kept in {config.folder}"
    console.print(f"interrupted: {kept}; the same command goes on from there", style="yellow")
    return INTERRUPTED


def _play(run: _Run, trained: "Trained | Foreign", config: Evaluate, jobs: list[Job], monitor: Monitor | None) -> bool:
    """Plays what is left of the jobs; False if Ctrl-C ended it. Whatever happens, what was finished is on disk."""
    played = {(episode.condition, episode.episode) for episode in run.episodes}
    left = [job for job in jobs if (job.condition.name, job.episode) not in played]
    if not left:
        run.save()
        return True
    world = None
    if isinstance(trained, Foreign):
        check_plans(run.conditions, trained)
    else:
        # as many worlds as for all jobs: an episode must not depend on how many are left
        world = make_world(trained, min(config.num_envs, max(len(jobs), _FEWEST)), config.seed)
    try:
        if world is not None:
            _check_steps(run.conditions, world)
        run.save()  # fails before playing if the folder cannot be written
        try:
            with episode_bar(len(played), len(left)) as advance:
                progress = lambda episode: (run.add(episode), advance())  # noqa: E731
                if isinstance(trained, Trained):
                    assert world is not None
                    rollout(trained.policy, world, left, progress, monitor, config.onset)
                else:
                    play_foreign(trained, left, config.seed, progress, config.onset, monitor)
        finally:
            run.save()
    except KeyboardInterrupt:
        return False
    finally:
        if world is not None:
            world.close()
    return True


def _check_steps(conditions: list[Condition], world: World) -> None:
    for condition in conditions:
        condition.plan.check(world.sensors, world.task.phases, cameras_move=True)
        latest = max((event.step for event in condition.plan if event.phase is None), default=0)
        if latest >= world.max_steps:
            raise InputError(
                f"condition {condition.name} never happens: episodes of {world.task.name} end at control step "
                f"{world.max_steps}; give an earlier step"
            )


def _record(config: Evaluate, trained: "Trained | Foreign", monitor: Monitor | None) -> Record:
    """What `evaluation.json` says of the call itself."""
    policy = trained.policy
    return Record(
        command=config.command,
        policy=Evaluated(name=config.name, weights=fingerprint(policy), keys=tuple(policy.keys), card=policy.card),
        world=trained.options,
        note=trained.note,
        seed=config.seed,
        episodes=config.episodes,
        reference=config.onset,
        monitor=None if monitor is None else monitor.card,
        device=config.device,
        num_envs=config.num_envs,
        machine=dict(describe_machine()),
        versions={"robofuse": __version__, **package_versions()},
    )


def _place(trained: "Trained | Foreign") -> str:
    if isinstance(trained, Foreign):
        return str(trained.options["task"])
    return f"{trained.options.get('task', 'Grasp')} with the {trained.options.get('robot', 'arm')}"


def _report(console: Console, run: _Run, trained: "Trained | Foreign", config: Evaluate) -> None:
    """Draws the heat map and prints the tables, of the scenes that every condition has finished."""
    from robofuse.evaluate.figures import draw_heatmap

    rows = run.results
    subtitle = f"{_place(trained)}, the same {rows[0].n} scenes in every cell, the other sensors missing from the start"
    picture = draw_heatmap(rows, run.record.policy.keys, f"{config.name}: success by live sensors", subtitle)
    if picture is not None:
        write_atomic(run.folder / HEATMAP, picture)
    if rows[0].n:
        console.width = max(console.width, 100)  # a narrow table would hide its figures
        plain = [row for row in rows if row.group != "fault"]
        console.print("", condition_table(plain), "", sep="\n")
        if len(plain) < len(rows):
            console.print(fault_table(rows), "", sep="\n")
    files = [RECORD, EPISODES, CONDITIONS] + ([HEATMAP] if picture is not None else [])
    console.print(f"wrote {run.folder}/: {', '.join(files)}")
    errors = [episode for episode in run.episodes if episode.error]
    if errors:
        first = f"episode {errors[0].episode} under {errors[0].condition}: {errors[0].error}"
        console.print(f"{len(errors)} episodes broke off and count as failures, such as {first}", style="yellow")


def find_monitor(
    asked: str, policy: str, trained: "Trained | Foreign", folders: Iterable[Path] = ()
) -> "monitors.Monitor | None":
    """What `--monitor` asks for, or None if it is not there.

    Args:
        asked: none; the path of a monitor; or auto, for one that was calibrated for exactly these weights, in one of
            the folders or beside the policy's file. A function has no weights, so there auto finds none.
        policy: name or path of the policy.
        trained: the policy.
        folders: of evaluations.

    Raises:
        InputError: a file that is no monitor, or one of another policy or other sensors.
    """
    if asked == "none":
        return None
    from robofuse.monitor import Monitor
    from robofuse.policies.saving import locate

    if asked != "auto":
        monitor = Monitor.load(Path(asked))
        _check_monitor(monitor, asked, trained)
        return monitor
    weights = fingerprint(trained.policy)
    if weights is None:
        return None
    found = [folder / MONITOR for folder in folders]
    if isinstance(trained, Trained):
        found.append(locate(policy).with_suffix(BESIDE))
    elif Path(policy).is_file():
        found.append(Path(policy).with_suffix(BESIDE))
    for path in found:
        if path.exists() and (monitor := Monitor.load(path)).card.get("weights") == weights:
            if isinstance(trained, Trained) or monitor.card.get("world") == trained.options:
                _check_monitor(monitor, str(path), trained)
                return monitor
    return None


def _check_monitor(monitor: "monitors.Monitor", name: str, trained: "Trained | Foreign") -> None:
    """InputError if a monitor is of another policy or other sensors; `name` is for the message."""
    if monitor.card.get("weights") != fingerprint(trained.policy):
        raise InputError(f"{name} was calibrated for another policy; --monitor auto finds or makes one for this")
    # their scales are the monitor's own
    watched, there = (
        {sensor.key: (sensor.kind, sensor.shape, sensor.dtype) for sensor in sensors}
        for sensors in (monitor.sensors, trained.policy.sensors)
    )
    if watched != there:
        differs = ", ".join(key for key in watched if key in there and watched[key] != there[key])
        raise InputError(
            f"{name} watches {', '.join(watched)}; the policy has {', '.join(there)}"
            + (f", with another kind, shape or type of {differs}" if differs else "")
        )


def open_monitor(config: Evaluate, trained: "Trained | Foreign", console: Console) -> "monitors.Monitor | None":
    """As `find_monitor`; without one, `auto` calibrates one, in a minute or two, and leaves it in the folder."""
    found = find_monitor(config.monitor, config.policy, trained, (config.folder,))
    if found is not None or config.monitor != "auto":
        return found
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("calibrating the health monitor", total=None)
        told = lambda done, total: progress.update(task, completed=done, total=total)  # noqa: E731
        monitor = _calibrate(config, trained, told)
    path = monitor.save(config.folder / MONITOR)
    console.print(f"calibrated a health monitor on {monitor.card['episodes']} episodes: {path}")
    return monitor


def _calibrate(
    config: Evaluate, trained: "Trained | Foreign", told: Callable[[int, int], object]
) -> "monitors.Monitor":
    from robofuse.monitor import calibrate
    from robofuse.monitor.foreign import calibrate_foreign

    if isinstance(trained, Foreign):
        return calibrate_foreign(trained, seed=_MONITOR_SEED, progress=told)
    world = make_world(trained, config.num_envs, _MONITOR_SEED)
    try:
        return calibrate(trained.policy, world, seed=_MONITOR_SEED, progress=told)
    finally:
        world.close()
