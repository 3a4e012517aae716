"""Who acts, and where."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from robofuse.envs import World
from robofuse.errors import InputError
from robofuse.evaluate.run import find_monitor
from robofuse.play import Monitor, load_trained, make_world
from robofuse.replay.moments import Actor

SCRIPTS = {
    "expert": "the task's scripted solution, which sees the simulator's truth and no sensor",
    "zero": "all actions 0",
    "random": "uniform actions",
}


class Stage(NamedTuple):
    """What a replay needs.

    Attributes:
        world: a World of one, without automatic reset.
        actor: who acts in it.
        name: the actor's, for people and file names.
        note: what people should know of it, such as a renderer that the policy was not trained on; or empty.
        monitor: looks after the sensors.
    """

    world: World
    actor: Actor
    name: str
    note: str = ""
    monitor: Monitor | None = None


@dataclass(frozen=True)
class Script:
    """An actor that is no network.

    Attributes:
        choose: gives actions (1, A).
    """

    choose: Callable[[], Tensor]

    def act(self, observation: dict[str, Tensor], /) -> Tensor:
        """Actions (1, A); the observation is not looked at."""
        return self.choose()


def scripted(name: str, world: World, seed: int) -> Script:
    """One of `SCRIPTS` for a World of one."""
    generator = torch.Generator().manual_seed(seed)
    actions = world.action_space.shape or ()
    choices: dict[str, Callable[[], Tensor]] = {
        "expert": world.expert,
        "zero": lambda: torch.zeros(1, *actions),
        "random": lambda: 2.0 * torch.rand(1, *actions, generator=generator) - 1.0,
    }
    return Script(choices[name])


def open_script(
    name: str,
    seed: int,
    *,
    task: str | None = None,
    robot: str | None = None,
    cameras: Sequence[str] = (),
    image_size: int | None = None,
    renderer: str | None = None,
) -> Stage:
    """A World of one with one of `SCRIPTS` in it; options as in `World`, those left out take its defaults."""
    chosen = {"task": task, "robot": robot, "cameras": cameras or None, "image_size": image_size, "renderer": renderer}
    given = {key: value for key, value in chosen.items() if value is not None}
    world = World(seed=seed, auto_reset=False, **given)
    return Stage(world, scripted(name, world, seed), name)


def open_policy(
    name: str,
    seed: int,
    *,
    renderer: str | None = None,
    allow_mismatch: bool = False,
    device: str = "auto",
    monitor: str = "none",
) -> Stage:
    """A trained policy and a World of one such as it was trained in.

    Args:
        name: of a policy in the package, or a path.
        seed: of the scenes.
        renderer: instead of the one that it was trained on.
        allow_mismatch: let the renderer differ.
        device: of the network.
        monitor: none, auto or a path, see `find_monitor`.

    Raises:
        ValueError, RuntimeError: see `load_trained`, `make_world` and `find_monitor`; or no monitor was calibrated.
    """
    trained = load_trained(name, device=device, renderer=renderer, allow_mismatch=allow_mismatch)
    found = find_monitor(monitor, name, trained)
    if found is None and monitor == "auto":
        raise InputError(f"no monitor was calibrated for {name}: robofuse evaluate {name} --monitor auto leaves one")
    return Stage(make_world(trained, 1, seed), trained.policy, title(name), trained.note, found)


def title(name: str) -> str:
    """What to call a policy: its file or folder, and for the `best` and `latest` of a training its folder, too."""
    path = Path(name)
    stem = path.stem if path.suffix in (".safetensors", ".onnx") else path.name
    return f"{path.absolute().parent.name}-{stem}" if stem in ("best", "latest") else stem
