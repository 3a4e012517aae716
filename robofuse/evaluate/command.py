"""`robofuse evaluate`: a policy under every failure, on the same scenes."""

import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape

from robofuse import __version__
from robofuse.checks import whole
from robofuse.envs import World
from robofuse.errors import InputError
from robofuse.evaluate.compare import COMPARISON, compare, read_successes
from robofuse.evaluate.conditions import Condition, parse, parse_faults
from robofuse.evaluate.config import TRAINING_SEEDS, Evaluate
from robofuse.evaluate.folder import CONDITIONS, EPISODES, HEATMAP, RECORD, read_finished, write_all
from robofuse.evaluate.heatmap import draw_heatmap
from robofuse.evaluate.rollout import Monitor, rollout, schedule
from robofuse.evaluate.screen import condition_table, episode_bar, fault_table
from robofuse.evaluate.summary import finished_scenes, summarise
from robofuse.evaluate.traces import Job, Result
from robofuse.evaluate.watching import open_monitor
from robofuse.files import write_atomic
from robofuse.machine import describe_machine, package_versions
from robofuse.rng import check_seed
from robofuse.trained import Trained, fingerprint, load_trained, make_world

INTERRUPTED = 130  # exit status, as of a program that Ctrl-C ended
_SAVE_EVERY = 10.0  # seconds


@dataclass
class _Run:
    """One evaluation as far as it has come."""

    folder: Path
    record: dict[str, Any]
    conditions: list[Condition]
    results: list[Result]
    before: float  # seconds of earlier calls
    start: float = field(default_factory=time.monotonic)
    saved: float = field(default_factory=time.monotonic)

    def add(self, result: Result) -> None:
        self.results.append(result)
        if time.monotonic() - self.saved > _SAVE_EVERY:
            self.save()

    def save(self) -> None:
        scenes = finished_scenes(self.conditions, self.results)
        record = {
            **self.record,
            "complete": scenes >= self.record["episodes"],
            "scenes": scenes,
            "seconds": round(self.before + time.monotonic() - self.start, 1),
            "written": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        write_all(self.folder, record, summarise(self.conditions, self.results), self.results)
        self.saved = time.monotonic()


def run_evaluate(config: Evaluate) -> int:
    """Evaluate, write the folder, print a table; with `compare`, for several policies, and how they differ.

    Args:
        config: what to do.

    Returns:
        Exit status: 0, or 130 if Ctrl-C ended it early; all that was finished is then in the folder.

    Raises:
        ValueError, RuntimeError: options that do not fit; the message says what would.
    """
    for name in ("episodes", "num_envs", "die_at"):
        whole(getattr(config, name), name, 0 if name == "die_at" else 1)
    check_seed(config.seed)
    if not config.compare:
        trained = _load(config)
        return _evaluate(config, trained, _conditions(config, trained))
    each = config.each()
    several = {one.name: _load(one) for one in each}
    conditions = _conditions(each[0], several[each[0].name])
    for one in each:
        strange = sorted(set(several[one.name].policy.keys) - set(conditions[0].keys))
        if strange:
            raise InputError(
                f"{one.policy} reads {', '.join(strange)}, which {config.policy} does not; name first the policy with "
                "the most sensors"
            )
    for one in each:
        trained = several[one.name]
        if status := _evaluate(one, trained, [condition.among(trained.policy.keys) for condition in conditions]):
            return status
    groups = {condition.name: condition.group for condition in conditions}
    table, text = compare({one.name: read_successes(one.folder) for one in each}, groups)
    write_atomic(config.folder / COMPARISON, text)
    console = Console(highlight=False)
    console.width = max(console.width, 40 * len(each) + 30)
    console.print(table)
    console.print(f"wrote {config.folder / COMPARISON}", markup=False)
    return 0


def _load(config: Evaluate) -> Trained:
    return load_trained(
        config.policy, device=config.device, renderer=config.renderer, allow_mismatch=config.allow_mismatch
    )


def _conditions(config: Evaluate, trained: Trained) -> list[Condition]:
    found = parse(config.conditions, tuple(trained.policy.keys), config.die_at)
    found += parse_faults(config.faults, trained.policy.sensors, config.die_at) if config.faults else []
    return list({condition.name: condition for condition in found}.values())


def _evaluate(config: Evaluate, trained: Trained, conditions: list[Condition]) -> int:
    """One policy."""
    jobs = schedule(conditions, range(config.episodes))
    console = Console(highlight=False, soft_wrap=True)
    count = f"{len(conditions)} conditions × {config.episodes} episodes of {_place(trained)}"
    console.print(f"[bold]{escape(config.name)}[/]: {count}, seed {config.seed}")
    if trained.note:
        console.print(f"note: {trained.note}", style="yellow")
    if config.seed < TRAINING_SEEDS:
        console.print(
            f"note: seeds below {TRAINING_SEEDS} are for training; the policy may know these scenes", style="yellow"
        )
    monitor = open_monitor(config, trained, console)
    record = _record(config, trained, monitor)
    results, seconds = read_finished(config.folder, record, jobs)
    run, done = _Run(config.folder, record, conditions, results, seconds), len(results)
    played = {(result.condition, result.episode) for result in results}
    left = [job for job in jobs if (job.condition.name, job.episode) not in played]
    if done:
        console.print(f"{done:,} episodes are already in {config.folder}", markup=False)
    complete = _play(run, trained, config, left, monitor)
    _report(console, run, trained, config)
    if complete:
        return 0
    kept = f"{len(run.results):,} of {len(jobs):,} episodes are kept in {config.folder}"
    console.print(f"interrupted: {kept}; the same command goes on from there", style="yellow")
    return INTERRUPTED


def _play(run: _Run, trained: Trained, config: Evaluate, jobs: list[Job], monitor: Monitor | None) -> bool:
    """Play what is left; whether that came to its end. Whatever happens, what was finished is on disk."""
    if not jobs:
        run.save()
        return True
    world = make_world(trained, min(config.num_envs, len(jobs)), config.seed)
    try:
        _check_steps(run.conditions, world)
        try:
            run.save()
        except OSError as error:  # better to learn it now than when there is something to lose
            raise InputError(f"cannot write to {run.folder}: {error.strerror}; give another --out") from None
        try:
            with episode_bar(len(run.results), len(jobs)) as advance:
                progress = lambda result: (run.add(result), advance())  # noqa: E731
                rollout(trained.policy, world, jobs, progress, monitor, config.die_at)
        finally:
            run.save()
    except KeyboardInterrupt:
        return False
    finally:
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


def _record(config: Evaluate, trained: Trained, monitor: Monitor | None) -> dict[str, Any]:
    """What `evaluation.json` says of the call itself."""
    policy = {"name": config.name, "weights": fingerprint(trained.policy)}
    card = trained.policy.card
    return {
        "format": 2,
        "command": config.command,
        "policy": {**policy, "keys": list(trained.policy.keys), "card": card},
        "trained_on": card.get("seen_faults"),
        "world": trained.options,
        "note": trained.note,
        "seed": config.seed,
        "episodes": config.episodes,
        "reference": config.die_at,
        "monitor": None if monitor is None else monitor.card,
        "device": config.device,
        "num_envs": config.num_envs,
        "machine": describe_machine(),
        "versions": {"robofuse": __version__, **package_versions()},
    }


def _place(trained: Trained) -> str:
    return f"{trained.options.get('task', 'Grasp')} with the {trained.options.get('robot', 'arm')}"


def _report(console: Console, run: _Run, trained: Trained, config: Evaluate) -> None:
    """Draw the heat map and print the table, of the scenes that every condition has finished."""
    rows = summarise(run.conditions, run.results)
    subtitle = f"{_place(trained)}, the same {rows[0].n} scenes in every cell, the other sensors dead from the start"
    picture = draw_heatmap(rows, f"{config.name}: success by live sensors", subtitle)
    if picture is not None:
        write_atomic(run.folder / HEATMAP, picture)
    if rows[0].n:
        console.width = max(console.width, 100)  # a narrow table would hide its figures
        plain = [row for row in rows if row.condition.group != "fault"]
        console.print("", condition_table(plain), "", sep="\n")
        if len(plain) < len(rows):
            console.print(fault_table(rows), "", sep="\n")
    files = [RECORD, EPISODES, CONDITIONS] + ([HEATMAP] if picture is not None else [])
    console.print(f"wrote {run.folder}/: {', '.join(files)}", markup=False)
    errors = [result for result in run.results if result.error]
    if errors:
        first = f"episode {errors[0].episode} under {errors[0].condition}: {errors[0].error}"
        console.print(f"{len(errors)} episodes broke off and count as failures, such as {first}", style="yellow")
