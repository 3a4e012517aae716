"""The health monitor of an evaluation: read, or calibrated first."""

from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from robofuse.evaluate.config import Evaluate
from robofuse.evaluate.rollout import Monitor
from robofuse.trained import Trained, fingerprint, make_world

MONITOR = "monitor.safetensors"
_SEED = 3_000_000  # of the scenes that monitors are calibrated on, apart from those of trainings and evaluations
_EPISODES = 256


def open_monitor(config: Evaluate, trained: Trained, console: Console) -> Monitor | None:
    """What `--monitor` asks for.

    With `auto`, the one in the folder of the evaluation or beside the policy's file that was calibrated for exactly
    these weights; without one, a new one is calibrated, which takes a minute or two, and is left in the folder.

    Raises:
        ValueError: a file that is no monitor, or one of another policy.
    """
    if config.monitor == "none":
        return None
    from robofuse.monitor import Monitor as Calibrated
    from robofuse.monitor import calibrate, monitor_of

    weights = fingerprint(trained.policy)
    if config.monitor != "auto":
        monitor = Calibrated.load(Path(config.monitor))
        if monitor.card.get("weights") != weights:
            raise ValueError(f"{config.monitor} was calibrated for another policy; --monitor auto makes one for this")
        return monitor
    for path in (config.folder / MONITOR, monitor_of(config.policy)):
        if path is not None and path.exists():
            monitor = Calibrated.load(path)
            if monitor.card.get("weights") == weights:
                return monitor
    world = make_world(trained, config.worlds, _SEED)
    try:
        with Progress(console=Console(stderr=True), transient=True) as progress:
            task = progress.add_task("calibrating the health monitor", total=1.0)
            monitor = calibrate(
                trained.policy, world, _EPISODES, progress=lambda share: progress.update(task, completed=share)
            )
    finally:
        world.close()
    monitor.save(config.folder / MONITOR)
    console.print(f"calibrated a health monitor on {_EPISODES} episodes: {config.folder / MONITOR}", markup=False)
    return monitor
