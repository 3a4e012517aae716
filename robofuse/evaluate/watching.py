"""The health monitor of a policy: found where it should be, or calibrated."""

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import Progress

from robofuse.errors import InputError
from robofuse.evaluate.config import Evaluate
from robofuse.trained import Trained, fingerprint, make_world

if TYPE_CHECKING:
    from robofuse.monitor import Monitor

MONITOR = "monitor.safetensors"
BESIDE = ".monitor"  # the end of its name, beside the file of its policy
_SEED = 3_000_000  # of the scenes that monitors are calibrated on, apart from those of trainings and evaluations
_EPISODES = 768


def find_monitor(asked: str, policy: str, trained: Trained, folders: Iterable[Path] = ()) -> "Monitor | None":
    """What `--monitor` asks for, if it is there.

    Args:
        asked: none; the path of a monitor; or auto, for one that was calibrated for exactly these weights, in one of
            the folders or beside the policy's file.
        policy: name or path of the policy.
        trained: the policy.
        folders: of evaluations.

    Raises:
        ValueError: a file that is no monitor, or one of another policy.
    """
    if asked == "none":
        return None
    from robofuse.monitor import Monitor
    from robofuse.policies.files import locate

    weights = fingerprint(trained.policy)
    if asked != "auto":
        monitor = Monitor.load(Path(asked))
        if monitor.card.get("weights") != weights:
            raise InputError(f"{asked} was calibrated for another policy; --monitor auto finds or makes one for this")
        return monitor
    for path in (*(folder / MONITOR for folder in folders), locate(policy).with_suffix(BESIDE)):
        if path.exists() and (monitor := Monitor.load(path)).card.get("weights") == weights:
            return monitor
    return None


def open_monitor(config: Evaluate, trained: Trained, console: Console) -> "Monitor | None":
    """As `find_monitor`; without one, `auto` calibrates one, in a minute or two, and leaves it in the folder."""
    found = find_monitor(config.monitor, config.policy, trained, (config.folder,))
    if found is not None or config.monitor != "auto":
        return found
    from robofuse.monitor import calibrate

    world = make_world(trained, config.num_envs, _SEED, auto_reset=True)
    try:
        with Progress(console=Console(stderr=True), transient=True) as progress:
            task = progress.add_task("calibrating the health monitor", total=_EPISODES)
            told = lambda done, total: progress.update(task, completed=done, total=total)  # noqa: E731
            monitor = calibrate(trained.policy, world, _EPISODES, seed=_SEED, progress=told)
    finally:
        world.close()
    monitor.save(config.folder / MONITOR)
    console.print(f"calibrated a health monitor on {_EPISODES} episodes: {config.folder / MONITOR}", markup=False)
    return monitor
