"""`robofuse demo`: a policy that comes along loses its sensors before your eyes."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from robofuse.replay.run import Replay, Scene, film, open_scene

_ACTS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("all sensors deliver", {}),
    ("the colour camera dies after half a second", {"disable": "rgb@10"}),
    ("no depth and no force, from the start", {"disable": "depth,force"}),
    ("no camera at all: nothing says where the block is", {"disable": "rgb,depth"}),
    ("the force sensor sends NaN, and nobody says so", {"faults": "force:nan@5"}),
    ("the same, and a health monitor looks on", {"faults": "force:nan@5", "monitor": "auto"}),
)


@dataclass(frozen=True)
class Demo:
    """What to see: the same scene over and over, as sensors fail.

    Attributes:
        policy: One that comes along, or a file, with its monitor beside it.
        episode: Number of the scene.
        out: The video.
        show: Open a window where there is a display.
    """

    policy: str = "grasp"
    episode: int = 0
    out: Path = Path("robofuse-demo.mp4")
    show: bool = True


def run_demo(config: Demo) -> int:
    """Play the acts, film them, and print a table of what came out; raises as `run_replay`."""
    told = list[str]()

    def scenes() -> Iterator[Scene]:
        for title, options in _ACTS:
            told.append(title)
            with open_scene(Replay(config.policy, episode=config.episode, episodes=1, **options)) as scene:
                yield scene._replace(about=f"{len(told)} of {len(_ACTS)}: {title}")

    ends = film(scenes(), len(_ACTS), config.out, show=config.show)
    table = Table("what fails", "what comes of it", "seconds")
    for title, end in zip(told, ends, strict=False):
        outcome = "grasped" if end.success else end.outcome
        table.add_row(title, outcome, f"{end.time:.2f}", style=None if end.success else "red")
    console = Console(highlight=False)
    console.print(table)
    console.print("One scene says little: [bold]robofuse evaluate grasp[/bold] plays hundreds, under every failure.")
    return 0
