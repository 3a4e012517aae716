"""Who acts, and where: a policy and the World it was trained for."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from robofuse.envs import World
from robofuse.envs.registration import RENDERERS
from robofuse.replay.moments import Actor

SCRIPTS = {
    "expert": "the task's scripted solution, which sees the simulator's truth and no sensor",
    "zero": "all actions 0",
    "random": "uniform actions",
}
_NOT_OURS = ("num_worlds", "seed", "auto_reset", "privileged", "num_threads")  # options that training chose for itself


class Stage(NamedTuple):
    """What a replay needs.

    Attributes:
        world: a World of one, without automatic reset.
        actor: who acts in it.
        note: what people should know of it, such as a renderer that the policy was not trained on; or empty.
    """

    world: World
    actor: Actor
    note: str = ""


@dataclass(frozen=True)
class Script:
    """An actor that is no network.

    Attributes:
        name: a key of `SCRIPTS`.
        choose: gives actions (1, A).
    """

    name: str
    choose: Callable[[], Tensor]

    def act(self, observation: dict[str, Tensor]) -> Tensor:
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
    return Script(name, choices[name])


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
    world = World(seed=seed, auto_reset=False, **{key: value for key, value in chosen.items() if value is not None})
    return Stage(world, scripted(name, world, seed))


def open_policy(
    name: str, seed: int, *, renderer: str | None = None, allow_mismatch: bool = False, device: str = "auto"
) -> Stage:
    """A trained policy and a World of one as it was trained in.

    Args:
        name: of a policy in the package, or a path.
        seed: of the scenes.
        renderer: instead of the one that it was trained on.
        allow_mismatch: let the renderer differ.
        device: of the network.

    Raises:
        ValueError: another renderer without `allow_mismatch`, or sensors that the policy does not know.
        RuntimeError: the renderer does not work on this machine; says what would.
    """
    from robofuse.policies import load

    policy = load(name, device=device)
    options: dict[str, Any] = {key: value for key, value in policy.world.items() if key not in _NOT_OURS}
    note, trained = "", options.get("renderer", next(iter(RENDERERS)))
    if renderer is not None and renderer != trained:
        if renderer not in RENDERERS:
            raise ValueError(f"unknown renderer {renderer!r}; renderers: {', '.join(RENDERERS)}")
        if not allow_mismatch:
            raise ValueError(
                f"policy {policy.name!r} was trained on pictures of the {trained} renderer, not {renderer}; "
                "to replay it all the same, add --allow-mismatch"
            )
        options["renderer"], note = renderer, f"pictures of {renderer}, trained on {trained}"
    try:
        world = World(num_worlds=1, seed=seed, auto_reset=False, **options)
    except RuntimeError as error:
        if options.get("renderer") != "gl":
            raise
        raise RuntimeError(
            f"policy {policy.name!r} was trained on pictures of the gl renderer, which does not work on this machine "
            f"({error}). Make it work (robofuse doctor says how), or take pictures that look almost the same: "
            "--renderer warp --allow-mismatch"
        ) from None
    keys = tuple(sensor.key for sensor in world.sensors)
    if set(policy.keys) != set(keys):
        world.close()
        raise ValueError(
            f"policy {policy.name!r} wants the sensors {', '.join(policy.keys)}, but the world that its file "
            f"describes has {', '.join(keys)}"
        )
    return Stage(world, policy, note)
